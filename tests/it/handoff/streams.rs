//! Octets both ways through handed-off sessions on a sound network, and what stands beside them.

use std::io::{Read as _, Write as _};
use std::net::IpAddr;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use gateway::config::file::{Attach, Intercept};
use gateway::datapath::object::Settings;
use gateway_tests::lab::{self, LAN, WAN};

use super::{Router, carry, directly, noise, on_router, on_router_with, sockets};
use crate::router::{FAMILIES, listen_on_server};
#[test]
fn gigabytes_pass_both_ways_at_once() -> anyhow::Result<()> {
    on_router(|mut router| {
        for family in FAMILIES {
            let server = listen_on_server(router.lab, family)?;
            for source in [family.client(), family.router()] {
                let session = router.session(&server, family, source)?;
                let direct = router.direct(session)?;
                direct.stream(500_000_000, 61).with_context(|| format!("from {source}"))?;
                direct.close(true)?;
            }
        }
        Ok(())
    })
}

#[test]
fn octets_pass_both_ways_and_no_socket_is_left() -> anyhow::Result<()> {
    on_router(|mut router| {
        for family in FAMILIES {
            let server = listen_on_server(router.lab, family)?;
            for source in [family.client(), family.router()] {
                let session = router.session(&server, family, source)?;
                ensure!(sockets(router.lab)? == 2);
                let direct = router.direct(session)?;
                ensure!(sockets(router.lab)? == 0, "{source}: sockets are left");
                carry(&direct.client, &direct.served, b"a word")?;
                carry(&direct.served, &direct.client, b"and another")?;
                direct.stream(8_000_000, 7).with_context(|| format!("from {source}"))?;
                direct.close(family == lab::Family::V4)?;
            }
        }
        ensure!(router.count("redirected")? > 1000);
        ensure!(router.count("no_socket")? == 0);
        Ok(())
    })
}

#[test]
fn a_receiver_that_does_not_read_stops_the_sender_and_loses_nothing() -> anyhow::Result<()> {
    on_router(|mut router| {
        let bytes = noise(12_000_000, 3);
        for family in FAMILIES {
            let direct = directly(&mut router, family)?;
            for (from, to) in [(&direct.client, &direct.served), (&direct.served, &direct.client)] {
                std::thread::scope(|scope| {
                    let writer = scope.spawn(|| {
                        let mut from = from;
                        from.write_all(&bytes)
                    });
                    // Long enough for the window to close and for a probe of it.
                    std::thread::sleep(Duration::from_millis(700));
                    let mut read = vec![0; bytes.len()];
                    let mut to = to;
                    to.read_exact(&mut read)?;
                    writer.join().expect("does not panic")?;
                    ensure!(read == bytes, "other octets came out");
                    anyhow::Ok(())
                })?;
            }
        }
        Ok(())
    })
}

/// Both ways, from the client's own address and from the router's.
fn streams(router: &mut Router<'_>, client: IpAddr, family: lab::Family) -> anyhow::Result<()> {
    let server = listen_on_server(router.lab, family)?;
    for source in [client, family.router()] {
        let session = router.session(&server, family, source)?;
        let direct = router.direct(session)?;
        direct.stream(3_000_000, 23).with_context(|| format!("from {source}"))?;
        direct.close(true)?;
    }
    Ok(())
}

#[test]
fn filters_in_a_qdisc_do_the_same_as_links() -> anyhow::Result<()> {
    let clsact = Settings { attach: Attach::Clsact, ..Settings::from(&Intercept::default()) };
    on_router_with(&clsact, |mut router| {
        for family in FAMILIES {
            streams(&mut router, family.client(), family)?;
        }
        let lab = router.lab;
        drop(router);
        for interface in [LAN, WAN] {
            let mut tc = lab.router().command("tc");
            let left = gateway_tests::process::done(tc.args(["qdisc", "show", "dev", interface, "clsact"]))?;
            ensure!(left.is_empty(), "{left}");
        }
        Ok(())
    })
}

#[test]
fn a_stateful_firewall_that_takes_nothing_invalid_does_not_get_in_the_way() -> anyhow::Result<()> {
    on_router(|mut router| {
        let rules = router.lab.directory().join("rules.nft");
        std::fs::write(&rules, crate::neighbours::FIREWALL)?;
        gateway_tests::process::done(router.lab.router().command("nft").arg("-f").arg(&rules))?;
        for family in FAMILIES {
            let direct = directly(&mut router, family)?;
            direct.stream(3_000_000, 29)?;
            direct.close(false)?;
        }
        Ok(())
    })
}
