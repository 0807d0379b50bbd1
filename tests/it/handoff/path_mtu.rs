//! Packets that are too large for a link on their way: their senders are told, by the router itself
//! or by others before and behind it, in numbers of their own, and then send smaller ones. Row 165 of the
//! attack cases is here.

use std::net::{IpAddr, SocketAddr, TcpListener};

use anyhow::{Context as _, ensure};
use gateway_tests::lab::{self, LAN, Lab, WAN};
use gateway_tests::netns::Netns;

use super::{Router, Session, carry, on_router};
use crate::router::{FAMILIES, listen_on_server};

const OCTETS: usize = 1_000_000;

/// Makes the links of these interfaces narrower or wide again, each named with its namespace.
fn set_mtu(ends: [(&Netns, &str); 2], mtu: u32) -> anyhow::Result<()> {
    ends.iter()
        .try_for_each(|(netns, interface)| netns.ip(&format!("link set {interface} mtu {mtu}")).map(drop))
}

/// Makes hosts forget what they have learnt of paths.
fn forget(hosts: &[&Netns]) -> anyhow::Result<()> {
    hosts.iter().try_for_each(|netns| {
        netns.ip("route flush cache")?;
        netns.ip("-6 route flush cache").map(drop)
    })
}

#[test]
fn the_router_itself_tells_the_sender_whichever_address_it_knows() -> anyhow::Result<()> {
    on_router(|mut router| {
        let lab = router.lab;
        for family in FAMILIES {
            let server = listen_on_server(lab, family)?;
            for source in [family.client(), family.router()] {
                let session = router.session(&server, family, source)?;
                let direct = router.direct(session)?;
                // Towards the server the client must be told, towards the client the server.
                for (interface, behind) in [(WAN, lab.server()), (LAN, lab.client())] {
                    let ends = [(lab.router(), interface), (behind, "eth0")];
                    forget(&[lab.client(), lab.server()])?;
                    // No link of IPv6 may take less.
                    set_mtu(ends, 1280)?;
                    let streamed = direct.stream(OCTETS, 37);
                    streamed.with_context(|| format!("{source} over a narrow {interface}"))?;
                    set_mtu(ends, 1500)?;
                }
                direct.close(true)?;
            }
        }
        ensure!(router.count("too_large")? > 0);
        Ok(())
    })
}

/// Hosts behind the lab's client and server, which are routers then.
struct Distant {
    client: Netns,
    server: Netns,
}

impl Distant {
    fn new(lab: &Lab) -> anyhow::Result<Self> {
        Ok(Self { client: behind(lab, lab.client(), 1)?, server: behind(lab, lab.server(), 2)? })
    }

    fn address(family: lab::Family, number: u8) -> IpAddr {
        match family {
            lab::Family::V4 => IpAddr::from([10, number, 0, 2]),
            lab::Family::V6 => IpAddr::from([0x2001, 0xdb8, 0xa, u16::from(number), 0, 0, 0, 2]),
        }
    }

    fn listen(&self, family: lab::Family) -> anyhow::Result<TcpListener> {
        let address = SocketAddr::new(Self::address(family, 2), 25);
        self.server.listen(address)
    }

    /// The link to the client, and the one to the server.
    fn links<'a>(&'a self, lab: &'a Lab) -> [[(&'a Netns, &'static str); 2]; 2] {
        [[(lab.client(), "eth1"), (&self.client, "eth0")], [(lab.server(), "eth1"), (&self.server, "eth0")]]
    }
}

/// A host behind `via`, on networks with this number.
fn behind(lab: &Lab, via: &Netns, number: u8) -> anyhow::Result<Netns> {
    let host = Netns::create(&format!("{}-far", via.name()))?;
    via.ip(&format!("link add eth1 type veth peer name eth0 netns {}", host.name()))?;
    for (netns, interface, place) in [(via, "eth1", 1), (&host, "eth0", 2)] {
        netns.ip(&format!("link set {interface} up"))?;
        netns.ip(&format!("address add 10.{number}.0.{place}/24 dev {interface}"))?;
        netns.ip(&format!("address add 2001:db8:a:{number}::{place}/64 dev {interface} nodad"))?;
    }
    via.sysctl("ipv4/conf/all/forwarding", "1")?;
    via.sysctl("ipv6/conf/all/forwarding", "1")?;
    host.ip(&format!("route add default via 10.{number}.0.1"))?;
    host.ip(&format!("route add default via 2001:db8:a:{number}::1"))?;
    let (net4, net6) =
        [("192.0.2.2", "2001:db8:1::2"), ("198.51.100.2", "2001:db8:2::2")][usize::from(number - 1)];
    lab.router().ip(&format!("route add 10.{number}.0.0/24 via {net4}"))?;
    lab.router().ip(&format!("route add 2001:db8:a:{number}::/64 via {net6}"))?;
    Ok(host)
}

/// Runs `work` for sessions between distant hosts, with the client's address and the router's.
fn between_distant_hosts(
    work: impl Fn(&mut Router<'_>, &Distant, Session) -> anyhow::Result<()> + Sync,
) -> anyhow::Result<()> {
    on_router(|mut router| {
        let distant = Distant::new(router.lab)?;
        for family in FAMILIES {
            let server = distant.listen(family)?;
            for source in [Distant::address(family, 1), family.router()] {
                forget(&[&distant.client, &distant.server, router.lab.router()])?;
                let session = router.session_of(&distant.client, &server, source)?;
                work(&mut router, &distant, session).with_context(|| format!("from {source}"))?;
            }
        }
        Ok(())
    })
}

#[test]
fn routers_before_and_behind_tell_the_sender_in_numbers_of_its_own() -> anyhow::Result<()> {
    between_distant_hosts(|router, distant, session| {
        let direct = router.direct(session)?;
        for link in distant.links(router.lab) {
            forget(&[&distant.client, &distant.server])?;
            let told = |router: &Router<'_>| {
                anyhow::Ok(router.count("icmp_redirected")? + router.count("icmp_translated")?)
            };
            let before = told(router)?;
            set_mtu(link, 1400)?;
            direct.stream(OCTETS, 41).with_context(|| format!("behind {}", link[0].0.name()))?;
            set_mtu(link, 1500)?;
            ensure!(told(router)? > before, "nobody was told");
        }
        direct.close(false)
    })
}

#[test]
fn what_routers_tell_of_the_gateways_own_connections_reaches_them() -> anyhow::Result<()> {
    between_distant_hosts(|router, distant, session| {
        let bytes = super::noise(OCTETS, 43);
        let ways = [(&session.accepted, &session.client), (&session.upstream, &session.served)];
        for (link, (from, to)) in distant.links(router.lab).into_iter().zip(ways) {
            forget(&[router.lab.router()])?;
            let before = router.count("icmp_steered")?;
            set_mtu(link, 1400)?;
            carry(from, to, &bytes).with_context(|| format!("towards {}", link[1].0.name()))?;
            set_mtu(link, 1500)?;
            ensure!(router.count("icmp_steered")? > before, "the router was not told");
        }
        Ok(())
    })
}
