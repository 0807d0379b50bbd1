//! The thread that hands sessions off, ends those that must not go on, and sweeps those that are
//! over.
//!
//! A thread, because a handoff waits for the kernel; one, because one wait serves all that are due.
//! It sleeps until there is an order, a packet of a flow that is being ended, or something due.

use std::collections::BTreeSet;
use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::sync::Arc;
use std::sync::mpsc::{self as orders, TryRecvError};
use std::thread;
use std::time::{Duration, Instant};

use ipnet::IpNet;
use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};
use tokio::sync::mpsc;

use super::cuts::Cuts;
use super::events::CaughtPackets;
use super::flow_table::{FlowTable, key};
use super::handoff::{self, Pair, Refusal};
use super::progress::Progress;
use super::reset::{Cut, Resets, Whose};
use super::sweep;
use crate::clock;
use crate::intercept::address::{ClientAddr, OriginalDst};
use crate::ipc::client::ClientList;
use crate::ipc::flow::{CarriedFlow, FlowEnd, FlowReport};

/// Handoffs that share one wait.
const BATCH: usize = 64;
/// Least time between two sweeps: each walks through all of a large table, however few flows there are.
const SWEEP: Duration = Duration::from_secs(1);
/// A sweep takes at most one part in so many of a processor.
const SWEEP_SHARE: u32 = 20;
/// Reports in one message.
pub const REPORTS: usize = 64;
/// Packets of flows that are being ended that are looked at in one go.
const CAUGHT: usize = 1024;
/// Answers and reports that wait for the rest of this process.
const WAITING: usize = 4096;

/// What the thread is to do.
#[derive(Debug)]
pub enum Order {
    /// Hand a session off.
    HandOff {
        /// Comes back in [`Word::Answer`].
        ticket: u64,
        /// The connection with the client.
        client: OwnedFd,
        /// The connection with the server.
        server: OwnedFd,
    },
    /// End flows at once.
    Condemn {
        /// Which.
        whose: Whose,
        /// Whether their ends are told.
        cut: Cut,
        /// What their records say.
        end: FlowEnd,
    },
    /// A new proxy serves: tell it of all flows that are carried, and from now on of those that
    /// change or end.
    Announce,
    /// There is no proxy, or another process serves or is about to: flows that end are for the next one.
    Pause,
    /// The gateway stops: tell the last of all flows, and end them if `end` says how.
    Settle {
        /// What their records say; `None`: they go on.
        end: Option<FlowEnd>,
    },
    /// What is configured.
    Configure {
        /// How long nothing may pass in a flow; zero: for ever.
        idle: Duration,
        /// The mark of the gateway's own packets.
        own_mark: u32,
        /// The servers' ports of flows that may be handed off.
        ports: Vec<u16>,
        /// Comes back in [`Word::Ports`].
        number: u64,
    },
}

/// What the thread has to say.
#[derive(Debug)]
pub enum Word {
    /// What became of a handoff.
    Answer {
        /// The order's ticket.
        ticket: u64,
        /// Why the sockets are as they were.
        refusal: Option<Refusal>,
    },
    /// Flows that are over; at most [`REPORTS`].
    Ended(Vec<FlowReport>),
    /// Flows that are carried, and must be known; at most [`REPORTS`].
    Carried(Vec<CarriedFlow>),
    /// Flows that have changed; at most [`REPORTS`]. Whoever misses it hears the next.
    Changed(Vec<CarriedFlow>),
    /// All is told, and so many flows go on.
    Settled(usize),
    /// The servers' ports of the flows that are carried: told when they have changed, and behind each
    /// [`Order::Configure`].
    Ports {
        /// That of the last order.
        number: u64,
        /// The ports.
        ports: BTreeSet<u16>,
    },
    /// A client is over its limit of octets: its sessions that pass unread are to end.
    Over {
        /// Its addresses.
        client: IpNet,
    },
    /// A client was not let in, for it would have gone beyond its limit of destinations.
    FannedOut {
        /// The client.
        client: ClientAddr,
        /// The destination.
        destination: OriginalDst,
        /// About how many it had reached.
        servers: u32,
    },
    /// A list of clients; made on another thread.
    Clients {
        /// The question's ticket.
        ticket: u64,
        /// The list.
        list: ClientList,
    },
}

/// The way to the thread, which ends when this is dropped.
#[derive(Debug)]
pub struct Carrier {
    orders: orders::Sender<Order>,
    bell: Bell,
    words: mpsc::Receiver<Word>,
}

/// Wakes the thread: an eventfd(2).
#[derive(Clone, Debug)]
struct Bell(Arc<OwnedFd>);

impl Bell {
    fn new() -> io::Result<Self> {
        Ok(Self(Arc::new(eventfd(0, EventfdFlags::NONBLOCK | EventfdFlags::CLOEXEC)?)))
    }

    fn ring(&self) {
        // It fails only where it has been rung four thousand million times, which is loud enough.
        rustix::io::write(&*self.0, &1u64.to_ne_bytes()).ok();
    }

    fn hush(&self) {
        // Nothing to read: somebody was faster.
        rustix::io::read(&*self.0, &mut [0; 8]).ok();
    }
}

impl Drop for Carrier {
    fn drop(&mut self) {
        // The thread looks, and finds that nobody gives orders any more.
        drop(std::mem::replace(&mut self.orders, orders::channel().0));
        self.bell.ring();
    }
}

impl Carrier {
    /// Starts the thread.
    ///
    /// # Errors
    ///
    /// The system has no thread left.
    pub fn start(table: FlowTable, caught: CaughtPackets) -> io::Result<Self> {
        let (sender, receiver) = orders::channel();
        let (words, heard) = mpsc::channel(WAITING);
        let bell = Bell::new()?;
        let worker = Worker {
            table,
            caught,
            resets: Resets::new(),
            orders: receiver,
            bell: bell.clone(),
            words,
            idle: Duration::ZERO,
            ports: Vec::new(),
            number: 0,
            told: None,
            serving: false,
            progress: Progress::new(clock::now()),
        };
        thread::Builder::new().name("carrier".to_owned()).spawn(move || worker.run())?;
        Ok(Self { orders: sender, bell, words: heard })
    }

    /// Tells the thread what to do.
    pub fn order(&self, order: Order) {
        if self.orders.send(order).is_err() {
            tracing::error!("the thread that carries flows has ended");
        }
        self.bell.ring();
    }

    /// What it has to say next. Cancelled, it loses nothing.
    pub async fn word(&mut self) -> Option<Word> {
        self.words.recv().await
    }
}

struct Worker {
    table: FlowTable,
    caught: CaughtPackets,
    resets: Resets,
    orders: orders::Receiver<Order>,
    bell: Bell,
    words: mpsc::Sender<Word>,
    idle: Duration,
    /// The servers' ports of flows that may be handed off.
    ports: Vec<u16>,
    /// That of the configuration.
    number: u64,
    /// The ports that were told last; `None`: none under this configuration.
    told: Option<BTreeSet<u16>>,
    /// Whether there is a proxy to report to.
    serving: bool,
    progress: Progress,
}

/// Nobody listens any more, or nobody gives orders.
struct Deaf;

impl Worker {
    fn run(mut self) {
        self.resets.adopt(&self.table);
        let mut sweep = clock::now() + SWEEP;
        while self.turn(&mut sweep).is_ok() {}
    }

    fn turn(&mut self, sweep: &mut Instant) -> Result<(), Deaf> {
        self.wait(self.resets.due().map_or(*sweep, |due| due.min(*sweep)));
        self.carry_out(sweep)?;
        self.reset()?;
        if *sweep <= clock::now() { self.sweep(sweep) } else { Ok(()) }
    }

    /// Sleeps until `due`, or until something happens.
    fn wait(&self, due: Instant) {
        let left = due.saturating_duration_since(clock::now());
        let timeout = Timespec {
            tv_sec: i64::try_from(left.as_secs()).unwrap_or(i64::MAX),
            tv_nsec: left.subsec_nanos().into(),
        };
        let mut wakers = [
            PollFd::new(&*self.bell.0, PollFlags::IN),
            PollFd::from_borrowed_fd(self.caught.as_fd(), PollFlags::IN),
        ];
        // An interrupted wait is one that ends early.
        poll(&mut wakers, Some(&timeout)).ok();
        self.bell.hush();
    }

    /// Resets the ends of flows that are condemned.
    fn reset(&mut self) -> Result<(), Deaf> {
        let mut reports = Vec::new();
        for caught in std::iter::from_fn(|| self.caught.pop()).take(CAUGHT) {
            reports.extend(self.resets.caught(&mut self.table, &caught));
        }
        reports.extend(self.resets.ask(&mut self.table, clock::now()));
        self.report(reports)
    }

    fn say(&self, word: Word) -> Result<(), Deaf> {
        self.words.blocking_send(word).map_err(|_| Deaf)
    }

    /// Carries out what was ordered. It may be what the next `sweep` is for.
    fn carry_out(&mut self, sweep: &mut Instant) -> Result<(), Deaf> {
        let (mut batch, mut cuts, mut settle) = (Vec::new(), Cuts::default(), None);
        while batch.len() < BATCH {
            let order = match self.orders.try_recv() {
                Ok(order) => order,
                Err(TryRecvError::Empty) => break,
                Err(TryRecvError::Disconnected) => return Err(Deaf),
            };
            match order {
                Order::HandOff { ticket, client, server } => {
                    // Of another port the program would see no packet once nothing holds that any more.
                    let pair = Pair::new(client, server).and_then(|pair| {
                        let is_ours = self.ports.contains(&pair.up().server_port());
                        if is_ours { Ok(pair) } else { Err(Refusal::Unavailable) }
                    });
                    let room =
                        pair.as_ref().ok().and_then(|pair| sweep::make_room(&mut self.table, pair.up()));
                    self.report(room.into_iter().collect())?;
                    batch.push((ticket, pair));
                }
                Order::Condemn { whose: Whose::Flow { client, destination }, cut, end } => {
                    let up = key(client.socket(), destination.socket());
                    let ended = self.resets.condemn(&mut self.table, &up, cut, end);
                    self.report(ended.into_iter().collect())?;
                }
                Order::Condemn { whose: Whose::Clients(net), cut, end } => cuts.add(net, cut, end),
                Order::Announce => {
                    self.serving = true;
                    self.tell(&sweep::all(&self.table), Word::Carried)?;
                }
                Order::Pause => self.serving = false,
                Order::Settle { end } => {
                    settle = Some(end);
                    // What was ordered before is done before.
                    break;
                }
                Order::Configure { idle, own_mark, ports, number } => {
                    self.idle = idle;
                    self.resets.mark(own_mark);
                    (self.ports, self.number, self.told) = (ports, number, None);
                    // Ports that are given up wait to hear that no flow needs them.
                    *sweep = clock::now();
                }
            }
        }
        if batch.len() == BATCH {
            // There may be more.
            self.bell.ring();
        }
        let (tickets, pairs): (Vec<_>, Vec<_>) = batch.into_iter().unzip();
        let answers = handoff::hand_off(pairs, &mut self.table);
        tickets
            .into_iter()
            .zip(answers)
            .try_for_each(|(ticket, answer)| self.say(Word::Answer { ticket, refusal: answer.err() }))?;
        if !cuts.is_empty() {
            // Behind the handoffs: those of such clients end too.
            let ended = self.resets.condemn_all(&mut self.table, &cuts);
            self.report(ended)?;
        }
        settle.map_or(Ok(()), |end| self.settle(end))
    }

    fn settle(&mut self, end: Option<FlowEnd>) -> Result<(), Deaf> {
        self.serving = false;
        let ended = sweep::settle(&mut self.table, end);
        self.report(ended)?;
        let left = sweep::all(&self.table);
        self.tell(&left, Word::Carried)?;
        self.say(Word::Settled(left.len()))
    }

    fn tell(&self, flows: &[CarriedFlow], word: impl Fn(Vec<CarriedFlow>) -> Word) -> Result<(), Deaf> {
        flows.chunks(REPORTS).try_for_each(|some| self.say(word(some.to_vec())))
    }

    fn sweep(&mut self, due: &mut Instant) -> Result<(), Deaf> {
        let began = clock::now();
        if !self.serving {
            *due = began + SWEEP;
            return Ok(());
        }
        let look = self.progress.due(began);
        let swept = sweep::sweep(&mut self.table, self.idle, clock::monotonic(), look.as_ref());
        if look.is_some() {
            self.progress.note(swept.changed);
        }
        let ends = clock::now();
        let took = ends.saturating_duration_since(began);
        *due = ends + SWEEP.max(took.saturating_mul(SWEEP_SHARE));
        self.tell(&swept.told, Word::Changed)?;
        self.report(swept.ended)?;
        if self.told.as_ref() == Some(&swept.ports) {
            return Ok(());
        }
        self.told = Some(swept.ports.clone());
        self.say(Word::Ports { number: self.number, ports: swept.ports })
    }

    fn report(&self, flows: Vec<FlowReport>) -> Result<(), Deaf> {
        flows.chunks(REPORTS).try_for_each(|some| self.say(Word::Ended(some.to_vec())))
    }
}
