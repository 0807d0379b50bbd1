//! What the packets of handed-off sessions look like, and which way they take.

use std::net::SocketAddr;

use anyhow::{Context as _, ensure};
use gateway_tests::lab;
use gateway_tests::tun::Kind;

use super::impaired::Detour;
use super::{directly, on_router};
use crate::odd_packets::snmp;
use crate::router::{FAMILIES, listen_on_server};

#[test]
fn the_clients_own_address_and_port_may_both_be_kept() -> anyhow::Result<()> {
    on_router(|mut router| {
        let lab = router.lab;
        let rules = lab.directory().join("rules.nft");
        // Both connections have the same tuple for connection tracking, too.
        std::fs::write(&rules, crate::neighbours::FIREWALL)?;
        for tracked in [false, true] {
            if tracked {
                gateway_tests::process::done(lab.router().command("nft").arg("-f").arg(&rules))?;
            }
            for family in FAMILIES {
                let server = listen_on_server(lab, family)?;
                let session = router.session_from(lab.client(), &server, |client| client)?;
                ensure!(session.served.peer_addr()? == session.client.local_addr()?);
                let direct = router.direct(session)?;
                direct.stream(3_000_000, 71).with_context(|| format!("{family:?}, tracked: {tracked}"))?;
                direct.close(!tracked)?;
            }
        }
        Ok(())
    })
}

/// Streams through sessions one side of which is a link whose interfaces do no work of the stack's, while
/// those of the other side do: packets as large as 64 KiB, whose checksums nobody has reckoned, come in,
/// and whoever gets them at last looks at the checksum of each segment.
fn over_one_detour(to_client: bool, tagged: bool) -> anyhow::Result<()> {
    on_router(|mut router| {
        let lab = router.lab;
        let detour = Detour::new(&mut router, Kind::Ethernet, to_client)?;
        detour.link.tag(tagged);
        for family in FAMILIES {
            // The whole way leads over the detour on its side.
            let (host, elsewhere) =
                if to_client { (lab.client(), family.server()) } else { (lab.server(), family.client()) };
            host.ip(&format!("route add {elsewhere} via {}", detour.address(family, 1)))?;
            let server = if to_client { family.server() } else { detour.address(family, 2) };
            let server = lab.server().listen(SocketAddr::new(server, 25))?;
            let client = if to_client { detour.address(family, 2) } else { family.client() };
            let router_itself = if to_client { family.router() } else { detour.address(family, 1) };
            for source in [client, router_itself] {
                let session = router.session_of(lab.client(), &server, source)?;
                ensure!(session.client.local_addr()?.ip() == client);
                let direct = router.direct(session)?;
                // Which VLAN's interface a packet belongs to, only the stack knows.
                let way = if tagged && source == client { "translated" } else { "redirected" };
                let before = router.count(way)?;
                direct.stream(8_000_000, 73).with_context(|| format!("from {source}"))?;
                ensure!(router.count(way)? > before + 200, "not {way}");
                direct.close(true)?;
            }
        }
        for netns in [lab.client(), lab.server()] {
            assert_eq!(snmp(netns, "Tcp", "InCsumErrors")?, 0, "{}", netns.name());
        }
        Ok(())
    })
}

#[test]
fn checksums_left_to_an_interface_are_right_where_a_real_link_needs_them() -> anyhow::Result<()> {
    over_one_detour(true, false)?;
    over_one_detour(false, false)
}

#[test]
fn frames_with_a_priority_tag_are_renumbered_on_either_side() -> anyhow::Result<()> {
    over_one_detour(true, true)?;
    over_one_detour(false, true)
}

#[test]
fn where_the_kernel_names_no_neighbour_the_stack_forwards() -> anyhow::Result<()> {
    on_router(|mut router| {
        let lab = router.lab;
        // Routes that say how to wrap packets: `bpf_fib_lookup` has no answer for these.
        for (family, hosts) in [(lab::Family::V4, "ip"), (lab::Family::V6, "ip6")] {
            let nowhere = if family == lab::Family::V4 { "203.0.113.1" } else { "2001:db8:9::1" };
            for (address, interface) in [(family.client(), lab::LAN), (family.server(), lab::WAN)] {
                lab.router()
                    .ip(&format!("route add {address} encap {hosts} id 7 dst {nowhere} dev {interface}"))?;
            }
        }
        for family in FAMILIES {
            let before = [router.count("redirected")?, router.count("translated")?];
            let direct = directly(&mut router, family)?;
            direct.stream(3_000_000, 79).with_context(|| format!("{family:?}"))?;
            direct.close(false)?;
            let [redirected, translated] = [router.count("redirected")?, router.count("translated")?];
            ensure!(redirected == before[0], "{} packets", redirected - before[0]);
            ensure!(translated > before[1] + 50, "{} packets", translated - before[1]);
        }
        Ok(())
    })
}
