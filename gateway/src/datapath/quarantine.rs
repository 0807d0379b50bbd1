//! The kernel's locks: networks whose new flows are held off.
//!
//! Which, until when and why is decided by the proxy (`policy::lock`); here they are enforced.

use std::collections::HashSet;
use std::time::Duration;

use aya::Ebpf;
use aya::maps::lpm_trie::{Key, LpmTrie};
use aya::maps::{MapData, MapError};
use gateway_common::lane::Address;
use gateway_common::name;
use gateway_common::quarantine::{Action, Lock};
use ipnet::IpNet;

use super::maps::{self, absent_is_fine, prefixes};
use super::object::Error;
use crate::clock;
use crate::config::file::LockAction;
use crate::ipc::lock::{Enforced, Hits};

/// The kernel's locks, and the networks that no lock touches.
#[derive(Debug)]
pub struct Quarantine {
    locks: LpmTrie<MapData, Address, Lock>,
    exempt: LpmTrie<MapData, Address, u32>,
    /// Networks in it that the configuration names.
    configured: Vec<IpNet>,
    /// Networks in it that operators have named.
    named: Vec<IpNet>,
    telling: Telling,
}

/// Whether all locks are being told.
#[derive(Debug)]
enum Telling {
    /// Changes are.
    No,
    /// They are, and there was none before.
    First,
    /// They are, and these were since [`Quarantine::begin`].
    Anew(HashSet<(u32, Address)>),
}

impl Quarantine {
    pub(super) fn take(ebpf: &mut Ebpf) -> Result<Self, Error> {
        Ok(Self {
            locks: maps::take(ebpf, name::LOCKS)?,
            exempt: maps::take(ebpf, name::EXEMPT)?,
            configured: Vec::new(),
            named: Vec::new(),
            telling: Telling::No,
        })
    }

    /// Enforces a lock, in place of one of the same network, whose count goes on.
    ///
    /// # Errors
    ///
    /// There are more than the kernel has room for.
    pub fn set(&mut self, lock: &Enforced) -> Result<(), Error> {
        prefixes(lock.net).try_for_each(|(length, address)| self.set_prefix(lock, length, address))
    }

    fn set_prefix(&mut self, lock: &Enforced, length: u32, address: Address) -> Result<(), Error> {
        let key = Key::new(length, address);
        let expiry = lock.left.map_or(0, |left| clock::monotonic().saturating_add(nanoseconds(left)).max(1));
        let mut entry = Lock::new(length, action(lock.action), expiry);
        if let Telling::Anew(told) = &mut self.telling {
            told.insert((length, address));
        }
        if !matches!(self.telling, Telling::First) {
            // The longest match is another network's where this one has none.
            let old = self.locks.get(&key, 0).ok().filter(|old| old.prefix() == length);
            entry = old.map_or(entry, |old| entry.counting_on(&old));
        }
        self.locks.insert(&key, entry, 0).map_err(of(name::LOCKS))
    }

    /// Removes a lock; nothing happens if there is none.
    ///
    /// # Errors
    ///
    /// The kernel refuses.
    pub fn remove(&mut self, net: IpNet) -> Result<(), Error> {
        prefixes(net).try_for_each(|(length, address)| {
            absent_is_fine(self.locks.remove(&Key::new(length, address))).map_err(of(name::LOCKS))
        })
    }

    /// From here to [`Self::complete`] all locks are set anew.
    pub fn begin(&mut self) {
        let first = self.locks.keys().next().is_none();
        self.telling = if first { Telling::First } else { Telling::Anew(HashSet::new()) };
    }

    /// Removes the locks that were not set since [`Self::begin`].
    ///
    /// # Errors
    ///
    /// The kernel refuses.
    pub fn complete(&mut self) -> Result<(), Error> {
        let Telling::Anew(told) = std::mem::replace(&mut self.telling, Telling::No) else { return Ok(()) };
        let stale: Vec<_> = self
            .locks
            .keys()
            .map_while(Result::ok)
            .filter(|key| !told.contains(&(key.prefix_len(), key.data())))
            .collect();
        stale.iter().try_for_each(|key| absent_is_fine(self.locks.remove(key)).map_err(of(name::LOCKS)))
    }

    /// Lets no lock touch these networks of the configuration, in place of those of before.
    ///
    /// # Errors
    ///
    /// There are more than the kernel has room for.
    pub fn set_exempt(&mut self, nets: Vec<IpNet>) -> Result<(), Error> {
        self.configured = nets;
        self.publish_exempt()
    }

    /// Lets no lock touch these networks either, in place of those of before.
    ///
    /// # Errors
    ///
    /// There are more than the kernel has room for.
    pub fn exempt_too(&mut self, nets: Vec<IpNet>) -> Result<(), Error> {
        self.named = nets;
        self.publish_exempt()
    }

    fn publish_exempt(&mut self) -> Result<(), Error> {
        let nets = self.configured.iter().chain(&self.named);
        let wanted: HashSet<(u32, Address)> = nets.flat_map(|net| prefixes(*net)).collect();
        for (length, address) in &wanted {
            self.exempt.insert(&Key::new(*length, *address), 1, 0).map_err(of(name::EXEMPT))?;
        }
        let stale: Vec<_> = self
            .exempt
            .keys()
            .map_while(Result::ok)
            .filter(|key| !wanted.contains(&(key.prefix_len(), key.data())))
            .collect();
        stale.iter().try_for_each(|key| absent_is_fine(self.exempt.remove(key)).map_err(of(name::EXEMPT)))
    }

    /// What was counted of the lock of this network.
    #[must_use]
    pub fn hits(&self, net: IpNet) -> Hits {
        let now = clock::monotonic();
        prefixes(net).fold(Hits::default(), |hits, (length, address)| {
            let lock = self.locks.get(&Key::new(length, address), 0).ok();
            let Some(lock) = lock.filter(|lock| lock.prefix() == length) else { return hits };
            let ago = (lock.last() != 0).then(|| Duration::from_nanos(now.saturating_sub(lock.last())));
            Hits { count: hits.count.saturating_add(lock.hits()), ago: hits.ago.into_iter().chain(ago).min() }
        })
    }
}

const fn action(action: LockAction) -> Action {
    match action {
        LockAction::Drop => Action::Drop,
        LockAction::Reset => Action::Reset,
        LockAction::Reject => Action::Reject,
    }
}

fn nanoseconds(span: Duration) -> u64 {
    u64::try_from(span.as_nanos()).unwrap_or(u64::MAX)
}

const fn of(map: &'static str) -> impl Fn(MapError) -> Error {
    move |source| Error::Map { map, source }
}
