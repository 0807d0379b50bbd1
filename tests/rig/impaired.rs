//! A link between two namespaces that loses, doubles, holds and reorders packets, as told by a seed.

use std::fs::File;
use std::io::{ErrorKind, Read as _, Write as _};
use std::os::fd::AsFd as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use crate::netns::Netns;
use crate::tun::{self, Kind};
use crate::wait;

/// Of so many packets one is lost, of so many one comes twice, and of so many one is held.
const LOST: u64 = 97;
const DOUBLED: u64 = 61;
const HELD: u64 = 23;
/// How long a packet is held at most: others overtake it.
const LONGEST: u64 = 6_000;

/// A link. It is sound until it is impaired.
#[derive(Debug)]
pub struct Link {
    state: Arc<State>,
    carriers: Vec<JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct State {
    impaired: AtomicBool,
    tagged: AtomicBool,
    over: AtomicBool,
    lost: AtomicU64,
    doubled: AtomicU64,
    overtaken: AtomicU64,
}

impl Link {
    /// Joins two namespaces by interfaces with these names.
    ///
    /// # Errors
    ///
    /// As [`tun::open`].
    pub fn new(ends: [(&Netns, &str); 2], kind: Kind, seed: u64) -> anyhow::Result<Self> {
        let [first, second] = ends.map(|(netns, name)| tun::open(netns, name, kind));
        let (first, second) = (first?, second?);
        let state = Arc::new(State::default());
        let ways = [(first.try_clone()?, second.try_clone()?, seed), (second, first, !seed)];
        let mut carriers = Vec::new();
        for (from, to, seed) in ways {
            fcntl(&from, FcntlArg::F_SETFL(OFlag::O_NONBLOCK))?;
            let carrier = Carrier { from, to, random: seed | 1, held: Vec::new(), state: Arc::clone(&state) };
            carriers.push(thread::spawn(move || carrier.run()));
        }
        Ok(Self { state, carriers })
    }

    /// From here on, packets are lost, doubled and held.
    pub fn impair(&self, impaired: bool) {
        self.state.impaired.store(impaired, Ordering::Relaxed);
    }

    /// From here on, Ethernet frames arrive with a tag of IEEE 802.1Q that names a priority and no VLAN.
    pub fn tag(&self, tagged: bool) {
        self.state.tagged.store(tagged, Ordering::Relaxed);
    }

    /// How many packets were lost, doubled, and overtaken by others.
    #[must_use]
    pub fn harm(&self) -> [u64; 3] {
        let State { lost, doubled, overtaken, .. } = &*self.state;
        [lost, doubled, overtaken].map(|count| count.load(Ordering::Relaxed))
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        self.state.over.store(true, Ordering::Relaxed);
        for carrier in self.carriers.drain(..) {
            carrier.join().ok();
        }
    }
}

/// Carries packets one way.
struct Carrier {
    from: File,
    to: File,
    random: u64,
    held: Vec<(Instant, Vec<u8>)>,
    state: Arc<State>,
}

impl Carrier {
    fn run(mut self) {
        let mut packet = vec![0; 65_536];
        while !self.state.over.load(Ordering::Relaxed) {
            self.release();
            let limit = if self.held.is_empty() { PollTimeout::from(50u8) } else { PollTimeout::from(1u8) };
            poll(&mut [PollFd::new(self.from.as_fd(), PollFlags::POLLIN)], limit).ok();
            // An interface that is down, or gone with its namespace, carries nothing.
            match self.from.read(&mut packet) {
                Ok(length) => self.carry(&packet[..length]),
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                Err(_) => thread::sleep(Duration::from_millis(5)),
            }
        }
    }

    /// The next of a sequence that looks random (xorshift).
    const fn next(&mut self) -> u64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        self.random
    }

    fn carry(&mut self, packet: &[u8]) {
        if !self.state.impaired.load(Ordering::Relaxed) {
            return self.send(packet);
        }
        let [lost, doubled, held] = [LOST, DOUBLED, HELD].map(|one| self.next().is_multiple_of(one));
        if lost {
            self.state.lost.fetch_add(1, Ordering::Relaxed);
            return;
        }
        if held {
            let until = wait::now() + Duration::from_micros(self.next() % LONGEST);
            self.held.push((until, packet.to_vec()));
            return;
        }
        self.send(packet);
        if doubled {
            self.state.doubled.fetch_add(1, Ordering::Relaxed);
            self.send(packet);
        }
        if !self.held.is_empty() {
            self.state.overtaken.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn release(&mut self) {
        let now = wait::now();
        let (due, held) = std::mem::take(&mut self.held).into_iter().partition(|(until, _)| *until <= now);
        self.held = held;
        let due: Vec<(Instant, Vec<u8>)> = due;
        due.iter().for_each(|(_, packet)| self.send(packet));
    }

    fn send(&mut self, packet: &[u8]) {
        let tagged = self.state.tagged.load(Ordering::Relaxed).then(|| with_tag(packet)).flatten();
        // What does not fit is one packet more that is lost.
        self.to.write_all(tagged.as_deref().unwrap_or(packet)).ok();
    }
}

/// The frame with a priority tag behind its addresses.
fn with_tag(frame: &[u8]) -> Option<Vec<u8>> {
    let (addresses, rest) = frame.split_at_checked(12)?;
    Some([addresses, &[0x81, 0, 0xa0, 0], rest].concat())
}
