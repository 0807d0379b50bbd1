//! Sessions that are not handed off, and go on.

use std::io::{Read as _, Write as _};
use std::net::IpAddr;

use anyhow::{bail, ensure};
use gateway::datapath::handoff::Refusal;
use gateway_tests::lab::{self, Lab, WAN};
use gateway_tests::wait;

use super::{PATIENCE, Router, Session, noise, on_router};
use crate::router::{FAMILIES, listen_on_server};
/// A session that is refused for `reason`, and goes on.
fn refused(set_up: impl FnOnce(&Lab) -> anyhow::Result<()> + Send, reason: Refusal) -> anyhow::Result<()> {
    on_router(|mut router| {
        set_up(router.lab)?;
        for family in FAMILIES {
            let server = listen_on_server(router.lab, family)?;
            let session = router.session(&server, family, family.client())?;
            let answer = router.hand_off(&session)?;
            ensure!(answer == Err(reason), "{answer:?}");
            session.pass()?;
            let Session { client, upstream, served, .. } = session;
            drop((client, upstream, served));
        }
        Ok(())
    })
}

#[test]
fn timestamps_on_one_side_only_are_refused() -> anyhow::Result<()> {
    refused(|lab| lab.server().sysctl("ipv4/tcp_timestamps", "0"), Refusal::Timestamps)?;
    refused(|lab| lab.client().sysctl("ipv4/tcp_timestamps", "0"), Refusal::Timestamps)
}

#[test]
fn selective_acknowledgements_on_one_side_only_are_refused() -> anyhow::Result<()> {
    refused(|lab| lab.server().sysctl("ipv4/tcp_sack", "0"), Refusal::Sack)?;
    refused(|lab| lab.client().sysctl("ipv4/tcp_sack", "0"), Refusal::Sack)
}

#[test]
fn a_side_that_takes_only_smaller_segments_is_refused() -> anyhow::Result<()> {
    refused(|lab| lab.server().ip("link set eth0 mtu 1400").map(drop), Refusal::Segment)?;
    refused(|lab| lab.client().ip("link set eth0 mtu 1400").map(drop), Refusal::Segment)
}

#[test]
fn a_session_in_the_middle_of_a_burst_is_refused_and_loses_nothing() -> anyhow::Result<()> {
    on_router(|mut router| {
        let family = lab::Family::V4;
        let server = listen_on_server(router.lab, family)?;
        let session = router.session(&server, family, family.client())?;
        let bytes = noise(3_000_000, 5);
        std::thread::scope(|scope| {
            let burst = scope.spawn(|| {
                let mut client = &session.client;
                client.write_all(&bytes)
            });
            // The first piece may not have come yet.
            session.accepted.peek(&mut [0])?;
            for _ in 0..20 {
                let answer = router.hand_off(&session)?;
                ensure!(answer == Err(Refusal::Busy), "{answer:?}");
            }
            let mut read = vec![0; bytes.len()];
            let mut accepted = &session.accepted;
            accepted.read_exact(&mut read)?;
            burst.join().expect("does not panic")?;
            ensure!(read == bytes, "other octets came out");
            anyhow::Ok(())
        })?;
        session.pass()
    })
}

#[test]
fn a_connection_whose_addresses_are_translated_behind_the_gateway_keeps_its_sockets() -> anyhow::Result<()> {
    on_router(|mut router| {
        let family = lab::Family::V4;
        router.lab.router().ip(&format!("address add 198.51.100.9/24 dev {WAN}"))?;
        let mut nft = router.lab.router().command("nft");
        nft.arg(
            "add table ip nat; add chain ip nat out { type nat hook postrouting priority 100; }; \
             add rule ip nat out oifname wan0 snat to 198.51.100.9",
        );
        gateway_tests::process::done(&mut nft)?;
        let server = listen_on_server(router.lab, family)?;
        let session = router.session(&server, family, family.router())?;
        ensure!(session.served.peer_addr()?.ip() == IpAddr::from([198, 51, 100, 9]));
        wait::until(PATIENCE, "a quiet instant", || match router.hand_off(&session)? {
            Err(Refusal::Busy) => Ok(None),
            Err(Refusal::Unseen) => Ok(Some(())),
            answer => bail!("{answer:?}"),
        })?;
        session.pass()?;
        Ok(())
    })
}

/// Whether a session whose upstream connection comes from `source` is handed off at its first quiet instant.
fn is_handed_off(router: &mut Router<'_>, family: lab::Family, session: &Session) -> anyhow::Result<bool> {
    wait::until(PATIENCE, "a quiet instant", || match router.hand_off(session)? {
        Err(Refusal::Busy) => Ok(None),
        Err(Refusal::Wrapped) => Ok(Some(false)),
        Ok(()) => Ok(Some(true)),
        Err(other) => bail!("{family:?}: {other:?}"),
    })
}

#[test]
fn what_a_policy_of_ipsec_holds_for_keeps_its_sockets() -> anyhow::Result<()> {
    on_router(|mut router| {
        let lab = router.lab;
        for family in FAMILIES {
            let any = if family == lab::Family::V4 { "0.0.0.0/0" } else { "::/0" };
            let server = listen_on_server(lab, family)?;
            for (to, port) in [(family.server(), "dport"), (family.client(), "sport")] {
                let policy = |command: &str, rest: &str| {
                    let of = format!("src {any} dst {to} proto tcp {port} 25 dir out");
                    lab.router().ip(&format!("xfrm policy {command} {of} {rest}")).map(drop)
                };
                let session = router.session(&server, family, family.client())?;
                let tunnel = format!("tmpl src {} dst {to} proto esp mode tunnel", family.router());
                policy("add", &tunnel)?;
                ensure!(!is_handed_off(&mut router, family, &session)?, "to {to}");
                policy("delete", "")?;
                session.pass()?;
                ensure!(is_handed_off(&mut router, family, &session)?, "to {to}");
            }
        }
        Ok(())
    })
}

#[test]
fn a_session_under_the_gateways_own_address_keeps_its_sockets_where_a_route_wraps_packets()
-> anyhow::Result<()> {
    on_router(|mut router| {
        let lab = router.lab;
        for (family, kind, nowhere) in
            [(lab::Family::V4, "ip", "203.0.113.1"), (lab::Family::V6, "ip6", "2001:db8:9::1")]
        {
            let server = listen_on_server(lab, family)?;
            let session = router.session(&server, family, family.router())?;
            let route = format!("{} encap {kind} id 7 dst {nowhere} dev {WAN}", family.server());
            lab.router().ip(&format!("route add {route}"))?;
            ensure!(!is_handed_off(&mut router, family, &session)?);
            session.pass()?;
            lab.router().ip(&format!("route delete {route}"))?;
            ensure!(is_handed_off(&mut router, family, &session)?);
        }
        Ok(())
    })
}
