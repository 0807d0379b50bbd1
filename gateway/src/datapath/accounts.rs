//! The kernel's accounts of clients: how they are kept, what they say.
//!
//! Owns the five maps of `gateway-ebpf`'s `account`. The kernel writes the accounts and this
//! process the rest, so that neither overwrites what the other has counted.

use std::collections::HashMap as StdHashMap;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::os::fd::AsFd as _;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use aya::Ebpf;
use aya::maps::lpm_trie::{Key, LpmTrie};
use aya::maps::{Array, HashMap, Map, MapData, MapError};
use gateway_common::client::{
    Account, BYTES, Book, DESTINATIONS, Limits, OPEN_SESSIONS, OnExcess, Period, Report, SESSIONS,
};
use gateway_common::flow::{FlowNote, SEEN_REFUSED};
use gateway_common::lane::Address;
use gateway_common::name;
use ipnet::IpNet;

use super::maps::{self, absent_is_fine, address, prefixes};
use super::object::Error;
use crate::clock;
use crate::config::file::{ClientLimits, Clients, OnExcess as OnExcessSetting};
use crate::config::first_match::FirstMatch;
use crate::ipc::client::{ClientCount, ClientFacts, ClientList, ClientSort, ClientView, LISTED, PeriodView};

/// The words of `clients.limits`.
const LIMIT_NAMES: [(u32, &str); 4] = [
    (OPEN_SESSIONS, "open-sessions"),
    (SESSIONS, "sessions"),
    (BYTES, "bytes"),
    (DESTINATIONS, "destinations"),
];

const ACTIONS: [OnExcessSetting; 3] =
    [OnExcessSetting::Drop, OnExcessSetting::Reset, OnExcessSetting::Refuse];

type Accountings = HashMap<MapData, Address, Account>;
type Reports = HashMap<MapData, Address, Report>;

/// The accounts of all clients.
pub struct Accounts {
    clients: Accountings,
    reports: Reports,
    classes: LpmTrie<MapData, Address, u32>,
    limits: Array<MapData, Limits>,
    keeping: Array<MapData, Book>,
    book: Book,
    settings: Clients,
    /// What the proxy has told since it last told all.
    counted: StdHashMap<Address, u32>,
}

impl Accounts {
    /// The accounts, and what reads all of them on any thread.
    pub(super) fn take(ebpf: &mut Ebpf) -> Result<(Self, Reader), Error> {
        let (clients, all_clients) = twice(ebpf, name::CLIENTS)?;
        let (reports, all_reports) = twice(ebpf, name::REPORTS)?;
        let reader = Reader { maps: Mutex::new((all_clients, all_reports)) };
        let accounts = Self {
            clients,
            reports,
            classes: maps::take(ebpf, name::CLASSES)?,
            limits: maps::take(ebpf, name::LIMITS)?,
            keeping: maps::take(ebpf, name::BOOK)?,
            book: Book::default().begun(clock::monotonic()),
            settings: Clients::default(),
            counted: StdHashMap::new(),
        };
        Ok((accounts, reader))
    }

    /// Puts limits, prefixes and periods in force. Running flows are judged by them from the next
    /// packet on.
    ///
    /// # Errors
    ///
    /// There are more networks than room.
    pub fn configure(&mut self, settings: &Clients) -> Result<(), Error> {
        let limits = |limits: &ClientLimits| compile(limits, settings.on_excess);
        let all =
            std::iter::once(&settings.limits).chain(settings.networks.iter().map(|entry| &entry.limits));
        for (class, some) in (0..).zip(all) {
            self.limits.set(class, limits(some), 0).map_err(of(name::LIMITS))?;
        }
        replace(&mut self.classes, &classes(settings)).map_err(of(name::CLASSES))?;
        self.settings = settings.clone();
        let period = u64::try_from(settings.period.duration().as_nanos()).unwrap_or(u64::MAX);
        let (v4, v6) = (settings.ipv4_prefix.into(), settings.ipv6_prefix.into());
        self.book = Book::new(v4, v6, period, seed()).following(&self.book);
        self.publish()
    }

    fn publish(&mut self) -> Result<(), Error> {
        self.keeping.set(0, self.book, 0).map_err(of(name::BOOK))
    }

    /// Takes in what the proxy counts. With the `last` part of all, the kernel goes on from these
    /// numbers of open sessions; who is not among them has none.
    ///
    /// A session that comes while the numbers are on their way is missed until the next time.
    ///
    /// # Errors
    ///
    /// The kernel refuses.
    pub fn reconcile(&mut self, counts: &[ClientCount], last: bool) -> Result<(), Error> {
        let number = self.book.number(clock::monotonic()).unwrap_or_default();
        for count in counts {
            let client = self.book.client(&address(count.client));
            let open = self.counted.entry(client).or_default();
            *open = open.saturating_add(count.open);
            if count.failed != 0 {
                let report = self.reports.get(&client, 0).unwrap_or_default();
                let report = report.with_failed(number, count.failed);
                self.reports.insert(client, report, 0).map_err(of(name::REPORTS))?;
            }
        }
        if !last {
            return Ok(());
        }
        self.book = self.book.next_epoch();
        for (client, open) in std::mem::take(&mut self.counted) {
            if open != 0 {
                let report = self.reports.get(&client, 0).unwrap_or_default();
                let report = report.with_open(self.book.epoch(), open);
                self.reports.insert(client, report, 0).map_err(of(name::REPORTS))?;
            }
        }
        self.publish()
    }

    /// What becomes of a client that is over a limit.
    #[must_use]
    pub const fn on_excess(&self) -> OnExcessSetting {
        self.settings.on_excess
    }

    /// The network that is one client with this address.
    #[must_use]
    pub fn network(&self, address: Address) -> IpNet {
        network(&self.settings, self.book.client(&address))
    }

    /// What is known of a flow's client.
    #[must_use]
    pub fn facts(&self, client: SocketAddr, note: &FlowNote) -> Option<ClientFacts> {
        let key = self.book.client(&address(client.ip()));
        let account = self.clients.get(&key, 0).ok()?;
        let report = self.reports.get(&key, 0).ok();
        let number = self.book.number(clock::monotonic())?;
        let view = |number| period(&account.period(number), report.as_ref());
        let (now, before) = (view(number), view(number.saturating_sub(1)));
        Some(ClientFacts {
            open: account.open(report.as_ref(), self.book.epoch()),
            syns: now.syns.max(before.syns),
            sessions: now.sessions.max(before.sessions),
            fan_out: now.destinations.max(before.destinations),
            failed: now.failed.max(before.failed),
            refused: note.seen() & SEEN_REFUSED != 0,
        })
    }

    /// About how many destinations a client has reached in this period.
    #[must_use]
    pub fn destinations(&self, client: Address) -> u32 {
        let account = self.clients.get(&self.book.client(&client), 0);
        let number = self.book.number(clock::monotonic()).unwrap_or_default();
        account.map_or(0, |account| account.period(number).destinations())
    }

    /// By what a [`Reader`] understands accounts.
    #[must_use]
    pub fn terms(&self) -> (Book, Clients) {
        (self.book, self.settings.clone())
    }
}

/// Two handles of one map.
fn twice<M>(ebpf: &mut Ebpf, name: &'static str) -> Result<(M, M), Error>
where
    M: TryFrom<Map, Error = MapError>,
{
    let Some(Map::LruHashMap(map)) = ebpf.take_map(name) else { return Err(Error::Incomplete(name)) };
    let copy = map.fd().as_fd().try_clone_to_owned().map_err(|error| of(name)(MapError::IoError(error)))?;
    let copy = Map::LruHashMap(MapData::from_fd(copy).map_err(of(name))?);
    let map = M::try_from(Map::LruHashMap(map)).map_err(of(name))?;
    Ok((map, M::try_from(copy).map_err(of(name))?))
}

/// Reads all accounts, which may take a while.
#[derive(Debug)]
pub struct Reader {
    maps: Mutex<(Accountings, Reports)>,
}

impl Reader {
    /// How many accounts there are.
    #[must_use]
    pub fn count(&self) -> usize {
        let maps = self.maps.lock().unwrap_or_else(PoisonError::into_inner);
        maps.0.keys().map_while(Result::ok).count()
    }

    /// The first clients in this order.
    #[must_use]
    pub fn list(&self, (book, settings): &(Book, Clients), sort: ClientSort, most: usize) -> ClientList {
        let maps = self.maps.lock().unwrap_or_else(PoisonError::into_inner);
        let (clients, reports) = &*maps;
        let now = clock::monotonic();
        let number = book.number(now).unwrap_or_default();
        let mut views: Vec<ClientView> = clients
            .iter()
            .map_while(Result::ok)
            .map(|(key, account)| {
                let report = reports.get(&key, 0).ok();
                let view = |number| period(&account.period(number), report.as_ref());
                let (up, down) = account.octets();
                ClientView {
                    client: network(settings, key),
                    open: account.open(report.as_ref(), book.epoch()),
                    current: view(number),
                    previous: view(number.saturating_sub(1)),
                    syns: account.syns(),
                    sessions: account.sessions(),
                    octets: up.saturating_add(down),
                    idle: Duration::from_nanos(now.saturating_sub(account.last())),
                }
            })
            .collect();
        drop(maps);
        let known = views.len();
        views.sort_by_key(|view| (std::cmp::Reverse(sort.of(view)), view.client));
        views.truncate(most.min(LISTED));
        ClientList { known, period: settings.period.duration(), clients: views }
    }
}

fn period(period: &Period, report: Option<&Report>) -> PeriodView {
    let excess = LIMIT_NAMES.iter().filter(|(bit, _)| period.excess() & bit != 0);
    PeriodView {
        syns: period.syns(),
        sessions: period.sessions(),
        destinations: period.destinations(),
        failed: report.map_or(0, |report| report.failed(period.number())),
        from_client: period.from_client(),
        from_server: period.from_server(),
        excess: excess.map(|(_, name)| (*name).to_owned()).collect(),
    }
}

/// The names of limits in these bits.
#[must_use]
pub fn limit_names(bits: u32) -> String {
    let names: Vec<_> =
        LIMIT_NAMES.iter().filter(|(bit, _)| bits & bit != 0).map(|(_, name)| *name).collect();
    names.join("+")
}

/// How often clients wanted to go beyond their limits, by limit and by what became of them.
#[derive(Debug, Default)]
pub struct Excesses([[u64; ACTIONS.len()]; LIMIT_NAMES.len()]);

impl Excesses {
    /// Counts a client that is over the limits in these bits.
    pub fn count(&mut self, bits: u32, action: OnExcessSetting) {
        for ((bit, _), row) in LIMIT_NAMES.iter().zip(&mut self.0) {
            if bits & bit != 0 {
                row[action as usize] += 1;
            }
        }
    }

    /// Limit, what became of the clients, and how many there were.
    #[must_use]
    pub fn list(&self) -> Vec<(String, String, u64)> {
        let rows = LIMIT_NAMES.iter().zip(&self.0);
        rows.flat_map(|((_, limit), row)| {
            ACTIONS
                .iter()
                .map(move |action| ((*limit).to_owned(), action.name().to_owned(), row[*action as usize]))
        })
        .collect()
    }
}

fn network(settings: &Clients, client: Address) -> IpNet {
    let address = Ipv6Addr::from(client).to_canonical();
    let length = match address {
        IpAddr::V4(_) => settings.ipv4_prefix,
        IpAddr::V6(_) => settings.ipv6_prefix,
    };
    IpNet::new(address, length).unwrap_or_else(|_| IpNet::from(address))
}

fn compile(limits: &ClientLimits, on_excess: OnExcessSetting) -> Limits {
    let on_excess = match on_excess {
        OnExcessSetting::Drop => OnExcess::Drop,
        OnExcessSetting::Reset => OnExcess::Reset,
        OnExcessSetting::Refuse => OnExcess::Refuse,
    };
    Limits::none(on_excess)
        .with_sessions(limits.open_sessions, limits.sessions)
        .with_bytes(limits.bytes.bytes())
        .with_destinations(limits.destinations)
}

/// Which limits the clients of which networks have.
fn classes(settings: &Clients) -> Vec<(IpNet, u32)> {
    let mut list = FirstMatch::default();
    for (class, entry) in (1..).zip(&settings.networks) {
        for network in &entry.client {
            list.insert(network.0, class);
        }
    }
    list.into_entries()
}

fn replace(trie: &mut LpmTrie<MapData, Address, u32>, wanted: &[(IpNet, u32)]) -> Result<(), MapError> {
    let mut nets: Vec<_> = wanted.iter().collect();
    // Where two have a prefix in common, the smaller network counts.
    nets.sort_by_key(|(net, _)| net.prefix_len());
    let each = nets.into_iter().flat_map(|(net, class)| prefixes(*net).map(|prefix| (prefix, *class)));
    let wanted: StdHashMap<_, _> = each.collect();
    let stale: Vec<_> = trie
        .keys()
        .filter(|key| key.as_ref().map_or(true, |key| !wanted.contains_key(&(key.prefix_len(), key.data()))))
        .collect::<Result<_, _>>()?;
    for key in stale {
        absent_is_fine(trie.remove(&key))?;
    }
    for ((length, address), class) in wanted {
        trie.insert(&Key::new(length, address), class, 0)?;
    }
    Ok(())
}

/// The same for every gateway until the system starts again, so that destinations seen before a
/// restart of the gateway are known after it; and nothing a stranger can know.
fn seed() -> u64 {
    let id = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    let digits: String = id.chars().filter(char::is_ascii_hexdigit).take(16).collect();
    u64::from_str_radix(&digits, 16).unwrap_or_default()
}

const fn of(map: &'static str) -> impl Fn(MapError) -> Error {
    move |source| Error::Map { map, source }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config;

    #[test]
    fn the_first_network_with_a_client_says_which_limits_it_has() {
        let text = "intercept: {interfaces: [eth0]}\nclients:\n  networks:\n\
                    \x20   - {client: [192.0.2.0/25, '2001:db8::/48']}\n\
                    \x20   - {client: [192.0.2.0/26, 192.0.2.0/24], limits: {sessions: 5}}\n";
        let clients = config::parse(text, "test").unwrap().clients;
        let found: Vec<_> =
            classes(&clients).into_iter().map(|(net, class)| (net.to_string(), class)).collect();
        let expected = [("192.0.2.0/25", 1), ("2001:db8::/48", 1), ("192.0.2.0/24", 2)];
        assert_eq!(found, expected.map(|(net, class)| (net.to_owned(), class)));
    }

    #[test]
    fn a_client_that_is_over_two_limits_counts_for_both() {
        let mut excesses = Excesses::default();
        excesses.count(SESSIONS | DESTINATIONS, OnExcessSetting::Reset);
        excesses.count(DESTINATIONS, OnExcessSetting::Reset);
        let counted: Vec<_> = excesses.list().into_iter().filter(|(_, _, count)| *count != 0).collect();
        let expected = [("sessions", "reset", 1), ("destinations", "reset", 2)];
        assert_eq!(
            counted,
            expected.map(|(limit, action, count)| (limit.to_owned(), action.to_owned(), count))
        );
    }

    #[test]
    fn the_seed_is_the_same_until_the_system_starts_again() {
        assert_eq!(seed(), seed());
        assert_ne!(seed(), 0);
    }
}
