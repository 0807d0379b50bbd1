//! The maps through which the program is told what to do and tells what it did.

use std::collections::HashMap as StdHashMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::BorrowedFd;

use aya::Ebpf;
use aya::maps::lpm_trie::{Key, LpmTrie};
use aya::maps::{Array, HashMap, Map, MapData, MapError, PerCpuArray, PerCpuValues, SockMap};
use aya::util::nr_cpus;
use gateway_common::flow::{FlowKey, FlowNote, SEEN_SPLICED, mapped};
use gateway_common::interface::{Interface, LISTENER_V4, LISTENER_V6};
pub use gateway_common::lane::Lane as PrefixLane;
use gateway_common::lane::{Address, Entry, V4_PREFIX};
use gateway_common::reason::Reason;
use gateway_common::settings::Settings;
use gateway_common::{name, port};
use ipnet::IpNet;
use socket2::SockRef;

use super::object::{Error, Kernel};

/// The first of the IPv4-mapped addresses.
const V4_MAPPED: Ipv6Addr = Ipv4Addr::UNSPECIFIED.to_ipv6_mapped();

/// The families of addresses, each with a listener of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

impl Family {
    /// The family of `address`.
    #[must_use]
    pub const fn of(address: IpAddr) -> Self {
        match address {
            IpAddr::V4(_) => Self::V4,
            IpAddr::V6(_) => Self::V6,
        }
    }

    const fn listener(self) -> u32 {
        match self {
            Self::V4 => LISTENER_V4,
            Self::V6 => LISTENER_V6,
        }
    }
}

/// What a prefix of addresses means for a new flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PrefixVerdict {
    /// Place in the ordered list of the rule that says so. Of a flow's client and server, the
    /// one with the earlier rule decides.
    pub rule: u32,
    /// The lane.
    pub lane: PrefixLane,
}

/// The program's maps.
pub(super) struct Maps {
    settings: Array<MapData, Settings>,
    interfaces: HashMap<MapData, u32, Interface>,
    ports: Array<MapData, u64>,
    client_lanes: LpmTrie<MapData, Address, Entry>,
    server_lanes: LpmTrie<MapData, Address, Entry>,
    listeners: SockMap<MapData>,
    flows: HashMap<MapData, FlowKey, FlowNote>,
    counters: PerCpuArray<MapData, u64>,
}

/// Takes the map with this name out of the loaded object.
pub(super) fn take<M>(ebpf: &mut Ebpf, map: &'static str) -> Result<M, Error>
where
    M: TryFrom<Map, Error = MapError>,
{
    let taken = ebpf.take_map(map).ok_or(Error::Incomplete(map))?;
    M::try_from(taken).map_err(|source| Error::Map { map, source })
}

/// Says which map an error is of.
const fn of(map: &'static str) -> impl Fn(MapError) -> Error {
    move |source| Error::Map { map, source }
}

impl Maps {
    pub(super) fn take(ebpf: &mut Ebpf) -> Result<Self, Error> {
        Ok(Self {
            settings: take(ebpf, name::SETTINGS)?,
            interfaces: take(ebpf, name::INTERFACES)?,
            ports: take(ebpf, name::PORTS)?,
            client_lanes: take(ebpf, name::CLIENT_LANES)?,
            server_lanes: take(ebpf, name::SERVER_LANES)?,
            listeners: take(ebpf, name::LISTENERS)?,
            flows: take(ebpf, name::FLOWS)?,
            counters: take(ebpf, name::COUNTERS)?,
        })
    }

    pub(super) fn configure(&mut self, settings: &Settings) -> Result<(), Error> {
        self.settings.set(0, settings, 0).map_err(of(name::SETTINGS))
    }

    pub(super) fn set_interface(&mut self, index: u32, interface: Interface) -> Result<(), Error> {
        self.interfaces.insert(index, interface, 0).map_err(of(name::INTERFACES))
    }

    pub(super) fn remove_interface(&mut self, index: u32) -> Result<(), Error> {
        absent_is_fine(self.interfaces.remove(&index)).map_err(of(name::INTERFACES))
    }

    /// Packets of one reason since load, all processors together.
    pub(super) fn count(&self, reason: Reason) -> Result<u64, Error> {
        let each = self.counters.get(&(reason as u32), 0).map_err(of(name::COUNTERS))?;
        Ok(each.iter().sum())
    }

    pub(super) fn reset_counters(&mut self) -> Result<(), Error> {
        let processors = nr_cpus().map_err(|(_, error)| of(name::COUNTERS)(error.into()))?;
        for reason in Reason::ALL {
            let zeros = PerCpuValues::try_from(vec![0; processors])
                .map_err(|error| of(name::COUNTERS)(error.into()))?;
            self.counters.set(*reason as u32, zeros, 0).map_err(of(name::COUNTERS))?;
        }
        Ok(())
    }

    pub(super) fn set_ports(&mut self, ports: &[u16]) -> Result<(), Error> {
        let mut words = StdHashMap::<u32, u64>::new();
        for port in ports {
            *words.entry(port::word(*port)).or_default() |= port::bit(*port);
        }
        for word in 0..port::WORDS {
            let wanted = words.get(&word).copied().unwrap_or(0);
            if self.ports.get(&word, 0).map_err(of(name::PORTS))? != wanted {
                self.ports.set(word, wanted, 0).map_err(of(name::PORTS))?;
            }
        }
        Ok(())
    }

    pub(super) fn set_client_lanes(&mut self, lanes: &[(IpNet, PrefixVerdict)]) -> Result<(), Error> {
        replace(&mut self.client_lanes, lanes).map_err(of(name::CLIENT_LANES))
    }
}

impl Kernel {
    /// Steers flows to these ports, and to no others. Flows that the kernel carries go on if
    /// their port stays in the set.
    ///
    /// # Errors
    ///
    /// The kernel refuses.
    pub fn set_ports(&mut self, ports: &[u16]) -> Result<(), Error> {
        self.maps.set_ports(ports)
    }

    /// Gives new flows of this family to the listening socket `listener`, which must be
    /// `IP_TRANSPARENT`. It gets the own mark (`SO_MARK`), which its connections inherit and by
    /// which the program knows them.
    ///
    /// # Errors
    ///
    /// The socket is none that listens for TCP, or it may not be marked.
    pub fn set_listener(&mut self, family: Family, listener: BorrowedFd<'_>) -> Result<(), Error> {
        SockRef::from(&listener)
            .set_mark(self.settings.own_mark & self.settings.mask)
            .map_err(Error::Mark)?;
        self.maps.listeners.set(family.listener(), &listener, 0).map_err(of(name::LISTENERS))
    }

    /// Takes both listeners away: new flows pass or drop, as configured, at once. Flows that are
    /// open stay steered to their sockets.
    ///
    /// # Errors
    ///
    /// The kernel refuses.
    pub fn clear_listeners(&mut self) -> Result<(), Error> {
        for family in [Family::V4, Family::V6] {
            match self.maps.listeners.clear_index(&family.listener()) {
                // EINVAL is how a sockmap says that the place was empty.
                Err(MapError::SyscallError(error))
                    if error.io_error.raw_os_error() == Some(nix::libc::EINVAL) => {}
                cleared => absent_is_fine(cleared).map_err(of(name::LISTENERS))?,
            }
        }
        Ok(())
    }

    /// Replaces what client prefixes mean. New flows may meet old and new prefixes mixed for the
    /// moment this takes.
    ///
    /// # Errors
    ///
    /// There are more prefixes than room.
    pub fn set_client_lanes(&mut self, lanes: &[(IpNet, PrefixVerdict)]) -> Result<(), Error> {
        self.maps.set_client_lanes(lanes)
    }

    /// Replaces what server prefixes mean, as [`Self::set_client_lanes`] does for clients.
    ///
    /// # Errors
    ///
    /// There are more prefixes than room.
    pub fn set_server_lanes(&mut self, lanes: &[(IpNet, PrefixVerdict)]) -> Result<(), Error> {
        replace(&mut self.maps.server_lanes, lanes).map_err(of(name::SERVER_LANES))
    }

    /// What the kernel noted of the SYN of this flow, unless newer flows pushed it out.
    #[must_use]
    pub fn facts(&self, client: SocketAddr, server: SocketAddr) -> Option<FlowNote> {
        let end = |socket: SocketAddr| (address(socket.ip()), socket.port().to_be_bytes());
        self.maps.flows.get(&FlowKey::new(end(client), end(server)), 0).ok()
    }

    /// Notes that the octets of this flow pass unread. What is noted of the flow in the same moment
    /// may be lost; nothing is but the end of it.
    ///
    /// # Errors
    ///
    /// The flow is not known any more.
    pub fn mark_unread(&mut self, client: SocketAddr, server: SocketAddr) -> Result<(), Error> {
        /// Only if it is there (linux/bpf.h).
        const PRESENT: u64 = 2;
        let end = |socket: SocketAddr| (address(socket.ip()), socket.port().to_be_bytes());
        let key = FlowKey::new(end(client), end(server));
        let note = self.maps.flows.get(&key, 0).map_err(of(name::FLOWS))?;
        self.maps.flows.insert(key, note.with(SEEN_SPLICED), PRESENT).map_err(of(name::FLOWS))
    }

    /// Packets by reason since load, all processors together, in the order of the reasons.
    ///
    /// # Errors
    ///
    /// The kernel refuses.
    pub fn counters(&self) -> Result<Vec<(&'static str, u64)>, Error> {
        Reason::ALL.iter().map(|reason| Ok((reason.name(), self.maps.count(*reason)?))).collect()
    }
}

pub(super) fn absent_is_fine(removed: Result<(), MapError>) -> Result<(), MapError> {
    was_there(removed).map(drop)
}

/// Whether an element that was to be removed was there.
pub(super) fn was_there(removed: Result<(), MapError>) -> Result<bool, MapError> {
    match removed {
        Err(MapError::KeyNotFound) => Ok(false),
        Err(MapError::SyscallError(error)) if error.io_error.raw_os_error() == Some(nix::libc::ENOENT) => {
            Ok(false)
        }
        other => other.map(|()| true),
    }
}

pub(super) fn address(ip: IpAddr) -> Address {
    match ip {
        IpAddr::V4(v4) => mapped(v4.octets()),
        IpAddr::V6(v6) => v6.octets(),
    }
}

/// The prefixes under which the tries know the addresses of a network, and no others.
///
/// IPv4 addresses lie in the tries as IPv4-mapped ones (RFC 4291 section 2.5.5.2), and so within the shortest
/// prefixes of IPv6, such as `::/0`. Of those all is meant but that: what the next bit, and each behind
/// it, tells from the mapped addresses.
pub(super) fn prefixes(net: IpNet) -> impl Iterator<Item = (u32, Address)> {
    let net = net.trunc();
    let length = u32::from(net.prefix_len());
    let (first, last, holds_v4) = match net {
        IpNet::V4(_) => (V4_PREFIX + length, V4_PREFIX + length, false),
        IpNet::V6(six) if length < V4_PREFIX && six.contains(&V4_MAPPED) => (length + 1, V4_PREFIX, true),
        IpNet::V6(_) => (length, length, false),
    };
    (first..=last).map(move |length| {
        if !holds_v4 {
            return (length, address(net.addr()));
        }
        let mapped = u128::from(V4_MAPPED);
        let (kept, turned) = (u128::MAX << (128 - length), 1 << (128 - length));
        (length, ((mapped ^ turned) & kept).to_be_bytes())
    })
}

fn replace(
    trie: &mut LpmTrie<MapData, Address, Entry>,
    lanes: &[(IpNet, PrefixVerdict)],
) -> Result<(), MapError> {
    let mut wanted = StdHashMap::new();
    for (net, verdict) in lanes {
        // Of two rules for one prefix the earlier one counts.
        let entry = Entry::new(verdict.rule, verdict.lane);
        for prefix in prefixes(*net) {
            let kept = wanted.entry(prefix).or_insert(entry);
            if entry.rule() < kept.rule() {
                *kept = entry;
            }
        }
    }
    let stale: Vec<_> = trie
        .keys()
        .filter(|key| key.as_ref().map_or(true, |key| !wanted.contains_key(&(key.prefix_len(), key.data()))))
        .collect::<Result<_, _>>()?;
    for key in stale {
        absent_is_fine(trie.remove(&key))?;
    }
    for ((length, address), entry) in wanted {
        trie.insert(&Key::new(length, address), entry, 0)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_ipv4_prefix_lies_under_the_mapped_prefix() {
        let net: IpNet = "10.1.2.3/8".parse().expect("a network");
        let prefix = |net| prefixes(net).collect::<Vec<_>>();
        assert_eq!(prefix(net), [(104, mapped([10, 0, 0, 0]))]);
        let all: IpNet = "0.0.0.0/0".parse().expect("a network");
        assert_eq!(prefix(all), [(96, mapped([0; 4]))]);
        let six: IpNet = "2001:db8::/32".parse().expect("a network");
        assert_eq!(prefix(six), [(32, six.addr().to_string().parse::<Ipv6Addr>().unwrap().octets())]);
    }

    /// Whether a trie with the prefixes of a network finds an address.
    fn finds(net: &str, address: &str) -> bool {
        let octets = super::address(address.parse().unwrap());
        let found = |(length, prefix): (u32, Address)| {
            let differs = u128::from_be_bytes(prefix) ^ u128::from_be_bytes(octets);
            differs.leading_zeros() >= length
        };
        prefixes(net.parse().unwrap()).any(found)
    }

    #[test]
    fn all_of_ipv6_is_nothing_of_ipv4() {
        for net in ["::/0", "::/1", "::/80", "::/64"] {
            for v4 in ["0.0.0.0", "10.1.2.3", "255.255.255.255"] {
                assert!(!finds(net, v4), "{net} {v4}");
            }
            assert!(finds(net, "::1") && finds(net, "::fffe:0:0"), "{net}");
            assert_eq!(finds(net, "2001:db8::1"), net.len() == 4, "{net}");
        }
        assert!(finds("::/0", "ffff::") && !finds("::/1", "ffff::"));
        assert_eq!(prefixes("::/0".parse().unwrap()).count(), 96);
    }
}
