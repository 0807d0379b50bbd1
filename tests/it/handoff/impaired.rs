//! Handed-off sessions on networks that lose, double, hold and reorder packets, with and without link
//! headers.

use std::net::{IpAddr, SocketAddr, TcpListener};
use std::time::Duration;

use anyhow::{Context as _, ensure};
use gateway::datapath::attach::Role;
use gateway_tests::impaired::Link;
use gateway_tests::lab;
use gateway_tests::netns::Netns;
use gateway_tests::tun::Kind;

use super::{Router, on_router};
use crate::router::{FAMILIES, listen_on_server};

/// Octets each way through a session, unless `GATEWAY_SOAK_OCTETS` says how many.
const OCTETS: usize = 4_000_000;

fn octets() -> anyhow::Result<usize> {
    match std::env::var("GATEWAY_SOAK_OCTETS") {
        Ok(number) => number.parse().with_context(|| format!("GATEWAY_SOAK_OCTETS={number}")),
        Err(_) => Ok(OCTETS),
    }
}

/// From here on the host loses one in so many TCP packets that come to it.
pub(super) fn lose(netns: &Netns) -> anyhow::Result<()> {
    let mut nft = netns.command("nft");
    nft.arg(
        "add table inet loss; add chain inet loss in { type filter hook input priority 0; }; \
         add rule inet loss in meta l4proto tcp numgen inc mod 61 == 7 drop",
    );
    gateway_tests::process::done(&mut nft).map(drop)
}

#[test]
fn lost_segments_that_stand_for_many_are_sent_again_and_fill_the_right_gaps() -> anyhow::Result<()> {
    on_router(|mut router| {
        for netns in [router.lab.client(), router.lab.server()] {
            lose(netns)?;
        }
        for family in FAMILIES {
            for source in [family.client(), family.router()] {
                let server = listen_on_server(router.lab, family)?;
                let session = router.session(&server, family, source)?;
                let direct = router.direct(session)?;
                direct.stream(6_000_000, 11)?;
                direct.close(true)?;
            }
        }
        Ok(())
    })
}

/// A further link between the router and the lab's client or server.
pub(super) struct Detour {
    pub(super) link: Link,
    number: u8,
}

impl Detour {
    pub(super) fn new(router: &mut Router<'_>, kind: Kind, to_client: bool) -> anyhow::Result<Self> {
        let number = if to_client { 3 } else { 4 };
        let lab = router.lab;
        let (host, interface) = if to_client { (lab.client(), "lan1") } else { (lab.server(), "wan1") };
        let ends = [(lab.router(), interface), (host, "far1")];
        let link = Link::new(ends, kind, 0x5eed_0000 + u64::from(number))?;
        for ((netns, interface), place) in ends.into_iter().zip([1, 2]) {
            netns.ip(&format!("link set {interface} up"))?;
            netns.ip(&format!("address add 10.{number}.0.{place}/24 dev {interface}"))?;
            netns.ip(&format!("address add 2001:db8:b:{number}::{place}/64 dev {interface} nodad"))?;
        }
        let other = 7 - number;
        host.ip(&format!("route replace 10.{other}.0.0/24 via 10.{number}.0.1"))?;
        host.ip(&format!("route replace 2001:db8:b:{other}::/64 via 2001:db8:b:{number}::1"))?;
        router.kernel.attach(interface, Role { client: to_client, bridge_mac: None })?;
        Ok(Self { link, number })
    }

    /// The address of one of its ends: the router's, or the host's.
    pub(super) fn address(&self, family: lab::Family, place: u16) -> IpAddr {
        match family {
            lab::Family::V4 => IpAddr::from([10, self.number, 0, place.to_be_bytes()[1]]),
            lab::Family::V6 => IpAddr::from([0x2001, 0xdb8, 0xb, u16::from(self.number), 0, 0, 0, place]),
        }
    }
}

fn listen(netns: &Netns, address: IpAddr) -> anyhow::Result<TcpListener> {
    netns.listen(SocketAddr::new(address, 25))
}

/// Streams through sessions from the client over one link to the server over another, from the
/// client's own address and from the router's.
fn over(kinds: [Kind; 2]) -> anyhow::Result<()> {
    on_router(|mut router| {
        let lab = router.lab;
        let [near, far] = kinds;
        let (near, far) = (Detour::new(&mut router, near, true)?, Detour::new(&mut router, far, false)?);
        for family in FAMILIES {
            let server = listen(lab.server(), far.address(family, 2))?;
            for source in [near.address(family, 2), far.address(family, 1)] {
                let session = router.session_of(lab.client(), &server, source)?;
                let direct = router.direct(session)?;
                direct.stream(100_000, 3).with_context(|| format!("sound, from {source}"))?;
                [&near, &far].iter().for_each(|detour| detour.link.impair(true));
                direct.stream(octets()?, 53).with_context(|| format!("impaired, from {source}"))?;
                [&near, &far].iter().for_each(|detour| detour.link.impair(false));
                direct.close(true)?;
            }
        }
        for detour in [&near, &far] {
            let harm = detour.link.harm();
            ensure!(harm.iter().all(|packets| *packets > 50), "not impaired: {harm:?}");
        }
        ensure!(router.count("redirected")? > 1000, "the stack had to forward");
        Ok(())
    })
}

#[test]
fn packets_lost_doubled_and_out_of_order_change_nothing() -> anyhow::Result<()> {
    over([Kind::Ethernet, Kind::Ethernet])
}

#[test]
fn links_without_a_header_do_the_same_on_both_sides() -> anyhow::Result<()> {
    over([Kind::Ip, Kind::Ip])
}

#[test]
fn a_link_without_a_header_may_be_on_either_side() -> anyhow::Result<()> {
    over([Kind::Ip, Kind::Ethernet])?;
    over([Kind::Ethernet, Kind::Ip])
}

/// Octets each way through each of two sessions.
const HALF_A_GIGABYTE: usize = 500_000_000;
/// After so many blocks a reader stops for so long that its window closes.
const STALL: (usize, Duration) = (400, Duration::from_millis(200));

#[test]
fn gigabytes_pass_bad_links_and_readers_that_stop() -> anyhow::Result<()> {
    on_router(|mut router| {
        let lab = router.lab;
        let near = Detour::new(&mut router, Kind::Ethernet, true)?;
        let far = Detour::new(&mut router, Kind::Ip, false)?;
        for (family, own) in [(lab::Family::V4, true), (lab::Family::V6, false)] {
            let server = listen(lab.server(), far.address(family, 2))?;
            let source = if own { near.address(family, 2) } else { far.address(family, 1) };
            let session = router.session_of(lab.client(), &server, source)?;
            let direct = router.direct(session)?;
            [&near, &far].iter().for_each(|detour| detour.link.impair(true));
            let stall = |block: usize| {
                if block % STALL.0 == STALL.0 - 1 {
                    std::thread::sleep(STALL.1);
                }
            };
            let streamed = direct.stream_read_by(HALF_A_GIGABYTE, 97, stall);
            streamed.with_context(|| format!("from {source}"))?;
            [&near, &far].iter().for_each(|detour| detour.link.impair(false));
            direct.close(own)?;
        }
        for detour in [&near, &far] {
            let harm = detour.link.harm();
            ensure!(harm.iter().all(|packets| *packets > 5_000), "hardly impaired: {harm:?}");
        }
        Ok(())
    })
}
