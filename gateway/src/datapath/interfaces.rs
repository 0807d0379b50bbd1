//! The machine's interfaces: which there are, which are meant, and word of every change.
//!
//! Owns the step from patterns in the configuration to interfaces and what each is for. Works from
//! the whole list each time, so that a lost message of the kernel costs nothing but time.

use std::collections::BTreeMap;
use std::io;
use std::pin::pin;
use std::time::Duration;

use futures_util::{Stream, StreamExt as _, TryStreamExt as _};
use rtnetlink::packet_route::link::{InfoKind, LinkAttribute, LinkFlags, LinkInfo, LinkMessage};
use rtnetlink::{Handle, MulticastGroup};

use super::attach::Role;
use crate::config::file::{Intercept, InterfacePattern};

/// How long word of a change is held back, so that a thousand interfaces that appear at once are
/// looked at once.
const SETTLE: Duration = Duration::from_millis(20);

/// An interface of this machine.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Link {
    /// Its number.
    pub index: u32,
    /// Its name at the moment.
    pub name: String,
    /// Whether it is `lo`, or another like it.
    pub loopback: bool,
    /// Whether it is up.
    pub up: bool,
    /// Whether it is a bridge.
    pub bridge: bool,
    /// The bridge, bond or VRF it is a port of.
    pub controller: Option<u32>,
    /// Its hardware address, if that is an Ethernet one.
    pub mac: Option<[u8; 6]>,
}

impl From<LinkMessage> for Link {
    fn from(message: LinkMessage) -> Self {
        let mut link = Self {
            index: message.header.index,
            loopback: message.header.flags.contains(LinkFlags::Loopback),
            up: message.header.flags.contains(LinkFlags::Up),
            ..Self::default()
        };
        for attribute in message.attributes {
            #[expect(clippy::wildcard_enum_match_arm, reason = "an interface has a hundred attributes")]
            match attribute {
                LinkAttribute::IfName(name) => link.name = name,
                LinkAttribute::Address(address) => link.mac = address.try_into().ok(),
                LinkAttribute::Controller(index) => link.controller = Some(index),
                LinkAttribute::LinkInfo(infos) => {
                    link.bridge = infos.contains(&LinkInfo::Kind(InfoKind::Bridge));
                }
                _ => {}
            }
        }
        link
    }
}

/// All interfaces of this network namespace.
///
/// # Errors
///
/// When the kernel does not say.
pub async fn list(handle: &Handle) -> io::Result<Vec<Link>> {
    let links = handle.link().get().execute().map_ok(Link::from).try_collect();
    links.await.map_err(io::Error::other)
}

/// The interfaces that are meant, by number, and what each is for. Where `answers` says that the
/// server's answers come addressed to clients, the return interfaces are among them.
///
/// With a port of a bridge goes the bridge: one that calls netfilter takes steered packets away
/// from their sockets, and the program gives them again above it.
///
/// A pattern never means a loopback interface; its name does.
#[must_use]
pub fn wanted(links: &[Link], intercept: &Intercept, answers: bool) -> BTreeMap<u32, (String, Role)> {
    let meant = |patterns: &[InterfacePattern], link: &Link| {
        patterns.iter().any(|pattern| (pattern.is_name() || !link.loopback) && pattern.matches(&link.name))
    };
    let bridge_mac = |link: &Link| {
        let controller = link.controller?;
        links.iter().find(|other| other.index == controller && other.bridge)?.mac
    };
    let mut wanted = BTreeMap::new();
    for link in links {
        let client = meant(&intercept.interfaces, link);
        if client || (answers && meant(&intercept.return_interfaces, link)) {
            let role = Role { client, bridge_mac: bridge_mac(link) };
            wanted.insert(link.index, (link.name.clone(), role));
        }
    }
    for bridge in links.iter().filter(|link| link.bridge) {
        let is_port = |link: &&Link| link.controller == Some(bridge.index);
        if links.iter().filter(is_port).any(|port| wanted.contains_key(&port.index)) {
            wanted.entry(bridge.index).or_insert_with(|| (bridge.name.clone(), Role::default()));
        }
    }
    wanted
}

/// The patterns of clients' interfaces that mean nothing at the moment.
#[must_use]
pub fn idle_patterns<'i>(links: &[Link], intercept: &'i Intercept) -> Vec<&'i InterfacePattern> {
    let idle = |pattern: &&InterfacePattern| !links.iter().any(|link| pattern.matches(&link.name));
    intercept.interfaces.iter().filter(idle).collect()
}

/// Word of changes of interfaces.
pub struct Watch {
    messages: std::pin::Pin<Box<dyn Stream<Item = ()>>>,
    changed: bool,
}

impl std::fmt::Debug for Watch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Watch").field("changed", &self.changed).finish_non_exhaustive()
    }
}

impl Watch {
    /// Starts to watch; call it in the runtime that will wait for [`Self::changed`].
    ///
    /// # Errors
    ///
    /// When the kernel gives no such socket.
    pub fn start() -> io::Result<Self> {
        let (connection, _, messages) = rtnetlink::new_multicast_connection(&[MulticastGroup::Link])?;
        tokio::spawn(connection);
        Ok(Self { messages: Box::pin(messages.map(|_| ())), changed: false })
    }

    /// Waits for a change, and until changes pause. Cancelled, it forgets nothing.
    pub async fn changed(&mut self) {
        if !self.changed {
            if self.messages.next().await.is_none() {
                // The kernel's side is gone; whoever waits here looks at the list from time to time too.
                std::future::pending::<()>().await;
            }
            self.changed = true;
        }
        let mut settled = pin!(tokio::time::sleep(SETTLE));
        loop {
            tokio::select! {
                () = &mut settled => break,
                Some(()) = self.messages.next() => {}
            }
        }
        self.changed = false;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn link(index: u32, name: &str) -> Link {
        Link { index, name: name.to_owned(), ..Link::default() }
    }

    fn intercept(clients: &[&str], returns: &[&str]) -> Intercept {
        let patterns = |texts: &[&str]| {
            texts.iter().map(|text| InterfacePattern::try_from((*text).to_owned()).unwrap()).collect()
        };
        Intercept {
            interfaces: patterns(clients),
            return_interfaces: patterns(returns),
            ..Intercept::default()
        }
    }

    fn machine() -> Vec<Link> {
        let mac = Some([2, 0, 0, 0, 0, 9]);
        vec![
            Link { loopback: true, ..link(1, "lo") },
            link(2, "wan0"),
            Link { controller: Some(9), ..link(3, "vnet0") },
            Link { controller: Some(9), ..link(4, "vnet17") },
            Link { bridge: true, mac, ..link(9, "br0") },
        ]
    }

    fn names(links: &[Link], intercept: &Intercept, answers: bool) -> Vec<(String, bool)> {
        wanted(links, intercept, answers).into_values().map(|(name, role)| (name, role.client)).collect()
    }

    #[test]
    fn a_pattern_means_all_interfaces_it_matches_and_those_that_come_later() {
        let mut links = machine();
        let intercept = intercept(&["vnet*"], &["wan0"]);
        let expected = [("wan0", false), ("vnet0", true), ("vnet17", true), ("br0", false)];
        assert_eq!(names(&links, &intercept, true), expected.map(|(name, client)| (name.to_owned(), client)));
        links.push(link(10, "vnet18"));
        assert!(names(&links, &intercept, true).contains(&("vnet18".to_owned(), true)));
    }

    #[test]
    fn return_interfaces_are_left_alone_where_servers_answer_the_gateway_itself() {
        let expected = [("vnet0", true), ("br0", false)].map(|(name, client)| (name.to_owned(), client));
        assert_eq!(names(&machine(), &intercept(&["vnet0"], &["*"]), false), expected);
    }

    #[test]
    fn loopback_is_meant_by_its_name_only() {
        assert!(!names(&machine(), &intercept(&["*"], &["*"]), true).iter().any(|(name, _)| name == "lo"));
        assert!(names(&machine(), &intercept(&["lo"], &[]), true).contains(&("lo".to_owned(), true)));
    }

    #[test]
    fn a_port_of_a_bridge_knows_the_bridges_address() {
        let wanted = wanted(&machine(), &intercept(&["vnet0", "wan0"], &[]), true);
        assert_eq!(wanted.get(&3).unwrap().1.bridge_mac, Some([2, 0, 0, 0, 0, 9]));
        assert_eq!(wanted.get(&2).unwrap().1.bridge_mac, None);
    }

    #[test]
    fn a_pattern_that_means_nothing_is_told() {
        let intercept = intercept(&["vnet*", "eth7"], &[]);
        let idle: Vec<&str> = idle_patterns(&machine(), &intercept).iter().map(|p| p.as_str()).collect();
        assert_eq!(idle, ["eth7"]);
    }
}
