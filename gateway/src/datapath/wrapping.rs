//! Whether the kernel wraps packets on a way: in those of a route with encapsulation (`ip-route(8)`), or in those of
//! IPsec (`ip-xfrm(8)`).
//!
//! The program hands packets to a neighbour, past both. Where `bpf_fib_lookup` names none, the stack forwards instead,
//! which wraps; but it takes no IPv4 packet that claims to be from this machine.

use std::io;
use std::net::{IpAddr, SocketAddr};

use ipnet::IpNet;
use netlink_packet_core::{NLM_F_ACK, NLM_F_DUMP};
use netlink_packet_route::route::{RouteAddress, RouteAttribute, RouteMessage};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use netlink_packet_xfrm::policy::{DelGetMessage, ModifyMessage};
use netlink_packet_xfrm::{Address, XFRM_POLICY_ALLOW, XFRM_POLICY_OUT, XfrmAttrs, XfrmMessage};
use netlink_sys::protocols::{NETLINK_ROUTE, NETLINK_XFRM};
use nix::libc;

use super::netlink::ask;

/// Whether the route of packets from this machine wraps them.
///
/// # Errors
///
/// The kernel does not say; there is no route, for example.
pub(super) fn by_route(from: IpAddr, to: IpAddr) -> io::Result<bool> {
    let (family, length) = if to.is_ipv4() { (AddressFamily::Inet, 32) } else { (AddressFamily::Inet6, 128) };
    let address = |address| match address {
        IpAddr::V4(address) => RouteAddress::Inet(address),
        IpAddr::V6(address) => RouteAddress::Inet6(address),
    };
    let mut message = RouteMessage::default();
    message.header.address_family = family;
    message.header.source_prefix_length = length;
    message.header.destination_prefix_length = length;
    message.attributes.push(RouteAttribute::Source(address(from)));
    message.attributes.push(RouteAttribute::Destination(address(to)));
    let answers = ask(NETLINK_ROUTE, RouteNetlinkMessage::GetRoute(message), NLM_F_ACK)?;
    Ok(answers.iter().any(|answer| {
        matches!(answer, RouteNetlinkMessage::NewRoute(route)
            if route.attributes.iter().any(|one| matches!(one, RouteAttribute::EncapType(_))))
    }))
}

/// The policies of IPsec for packets that go out, those before others first.
#[derive(Debug, Default)]
pub(super) struct Policies(Vec<Policy>);

#[derive(Debug)]
struct Policy {
    priority: u32,
    from: (IpNet, Port),
    to: (IpNet, Port),
    wraps: bool,
}

/// A port, and which bits of it count.
type Port = (u16, u16);

impl Policies {
    /// Those of this network namespace.
    ///
    /// # Errors
    ///
    /// The kernel does not list them.
    pub(super) fn read() -> io::Result<Self> {
        let request = XfrmMessage::GetPolicy(DelGetMessage::default());
        let answers = match ask(NETLINK_XFRM, request, NLM_F_DUMP) {
            // A kernel without IPsec has none.
            Err(error) if error.raw_os_error() == Some(libc::EPROTONOSUPPORT) => return Ok(Self::default()),
            answers => answers?,
        };
        #[expect(clippy::wildcard_enum_match_arm, reason = "nothing else is a policy")]
        let mut policies: Vec<_> = answers
            .iter()
            .filter_map(|answer| match answer {
                XfrmMessage::AddPolicy(policy) => Policy::of(policy),
                _ => None,
            })
            .collect();
        policies.sort_by_key(|policy| policy.priority);
        Ok(Self(policies))
    }

    /// Whether packets are wrapped, or stopped.
    pub(super) fn wrap(&self, from: SocketAddr, to: SocketAddr) -> bool {
        self.0.iter().find(|policy| policy.is_for(from, to)).is_some_and(|policy| policy.wraps)
    }
}

impl Policy {
    /// A policy for packets of TCP that go out, whatever their interface; not one that asks for a mark, or for an
    /// interface of IPsec: a packet of a client has neither.
    fn of(message: &ModifyMessage) -> Option<Self> {
        let (info, selector) = (&message.user_policy_info, &message.user_policy_info.selector);
        let tcp = u8::try_from(libc::IPPROTO_TCP).ok()?;
        let elsewhere = message.nlas.iter().any(|one| {
            matches!(one, XfrmAttrs::IfId(id) if *id != 0)
                || matches!(one, XfrmAttrs::Mark(mark) if mark.value != 0)
        });
        if info.direction != XFRM_POLICY_OUT || ![0, tcp].contains(&selector.proto) || elsewhere {
            return None;
        }
        let net = |address: &Address, length| {
            let address = match i32::from(selector.family) {
                libc::AF_INET => IpAddr::from(*address.addr.first_chunk::<4>()?),
                libc::AF_INET6 => IpAddr::from(address.addr),
                _ => return None,
            };
            IpNet::new(address, length).ok()
        };
        let template = |one: &XfrmAttrs| matches!(one, XfrmAttrs::Template(all) if !all.is_empty());
        Some(Self {
            priority: info.priority,
            from: (net(&selector.saddr, selector.prefixlen_s)?, (selector.sport, selector.sport_mask)),
            to: (net(&selector.daddr, selector.prefixlen_d)?, (selector.dport, selector.dport_mask)),
            wraps: info.action != XFRM_POLICY_ALLOW || message.nlas.iter().any(template),
        })
    }

    fn is_for(&self, from: SocketAddr, to: SocketAddr) -> bool {
        let covers = |(net, (port, mask)): &(IpNet, Port), end: SocketAddr| {
            net.contains(&end.ip()) && (end.port() ^ port) & mask == 0
        };
        covers(&self.from, from) && covers(&self.to, to)
    }
}

#[cfg(test)]
mod tests {
    use netlink_packet_xfrm::{Mark, Selector, UserPolicyInfo, UserTemplate};

    use super::*;

    fn end(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    /// A policy for packets to this network, with this destination port or any.
    fn policy(net: &str, port: u16, priority: u32, nlas: Vec<XfrmAttrs>) -> ModifyMessage {
        let net: IpNet = net.parse().unwrap();
        let mut daddr = Address::default();
        let family = match net.addr() {
            IpAddr::V4(address) => {
                daddr.addr[..4].copy_from_slice(&address.octets());
                libc::AF_INET
            }
            IpAddr::V6(address) => {
                daddr.addr = address.octets();
                libc::AF_INET6
            }
        };
        let selector = Selector {
            daddr,
            family: u16::try_from(family).unwrap(),
            prefixlen_d: net.prefix_len(),
            dport: port,
            dport_mask: if port == 0 { 0 } else { 0xffff },
            ..Selector::default()
        };
        let user_policy_info =
            UserPolicyInfo { selector, priority, direction: XFRM_POLICY_OUT, ..UserPolicyInfo::default() };
        ModifyMessage { user_policy_info, nlas }
    }

    fn template() -> XfrmAttrs {
        XfrmAttrs::Template(vec![UserTemplate::default()])
    }

    fn policies(messages: &[ModifyMessage]) -> Policies {
        let mut policies: Vec<_> = messages.iter().filter_map(Policy::of).collect();
        policies.sort_by_key(|policy| policy.priority);
        Policies(policies)
    }

    #[test]
    fn the_first_policy_for_a_packet_decides() {
        let found = policies(&[
            policy("198.51.100.0/24", 0, 20, vec![template()]),
            policy("198.51.100.9/32", 0, 10, vec![]),
            policy("2001:db8::/32", 25, 20, vec![template()]),
        ]);
        for (from, to, wrapped) in [
            ("192.0.2.1:4000", "198.51.100.1:25", true),
            ("192.0.2.1:4000", "198.51.100.9:25", false),
            ("192.0.2.1:4000", "203.0.113.1:25", false),
            ("[2001:db8::1]:4000", "[2001:db8::2]:25", true),
            ("[2001:db8::1]:4000", "[2001:db8::2]:587", false),
        ] {
            assert_eq!(found.wrap(end(from), end(to)), wrapped, "{from} to {to}");
        }
    }

    #[test]
    fn policies_that_are_not_for_packets_of_clients_do_not_count() {
        let mut inward = policy("0.0.0.0/0", 0, 1, vec![template()]);
        inward.user_policy_info.direction = XFRM_POLICY_OUT + 1;
        let mut udp = policy("0.0.0.0/0", 0, 1, vec![template()]);
        udp.user_policy_info.selector.proto = u8::try_from(libc::IPPROTO_UDP).unwrap();
        let marked = policy("0.0.0.0/0", 0, 1, vec![template(), XfrmAttrs::Mark(Mark { value: 7, mask: 7 })]);
        let interface = policy("0.0.0.0/0", 0, 1, vec![template(), XfrmAttrs::IfId(3)]);
        assert!(policies(&[inward, udp, marked, interface]).0.is_empty());
        let mut stops = policy("0.0.0.0/0", 0, 1, vec![]);
        stops.user_policy_info.action = 1;
        assert!(policies(&[stops]).wrap(end("192.0.2.1:1"), end("192.0.2.2:25")));
    }
}
