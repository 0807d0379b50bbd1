//! The kernel program on a router, with real connections and no proxy but the test itself.

use std::io::{self, Read as _};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::Context as _;
use gateway::config::file::WhenDown;
use gateway::datapath::object::Settings;
use gateway_tests::lab;
use gateway_tests::wait;
use socket2::{Domain, Socket, Type};

use crate::router::{
    FAMILIES, OWN_MARK, PATIENCE, carry, client, connect, listen_on_server, on_router, settings, transparent,
};

#[test]
fn a_flow_reaches_the_listener_with_its_original_destination() -> anyhow::Result<()> {
    on_router(&settings(), |router| {
        let bulk: Vec<u8> = (0..4_000_000u32).map(|number| number.to_le_bytes()[0]).collect();
        for family in FAMILIES {
            let server = listen_on_server(router.lab, family)?;
            let client = connect(router.lab.client(), client(family), family.smtp())?;
            let (accepted, peer) = router.accept(family)?;
            assert_eq!(accepted.local_addr()?, family.smtp());
            assert_eq!(peer, client.local_addr()?);
            carry(&client, &accepted, &bulk)?;
            carry(&accepted, &client, &bulk)?;
            client.shutdown(Shutdown::Write)?;
            assert_eq!((&accepted).read(&mut [0; 1])?, 0);
            carry(&accepted, &client, b"still open this way")?;
            let note = router.kernel.facts(peer, family.smtp()).context("no note of the flow")?;
            assert_eq!((note.ttl(), note.vlan(), note.mss() > 1000), (64, [0, 0], true));
            assert!(note.mac().is_some() && note.sack() && note.timestamps());
            server.set_nonblocking(true)?;
            assert!(server.accept().is_err(), "the server saw the flow");
        }
        assert_eq!(router.count("opened")?, 2);
        assert!(router.count("established")? > 100);
        Ok(())
    })
}

#[test]
fn answers_to_a_connection_with_the_clients_address_come_back_to_the_gateway() -> anyhow::Result<()> {
    on_router(&settings(), |router| {
        for family in FAMILIES {
            let server = listen_on_server(router.lab, family)?;
            let client = connect(router.lab.client(), client(family), family.smtp())?;
            let (_accepted, peer) = router.accept(family)?;
            // Once with a port of its own, once with the very port of the client.
            for port in [0, peer.port()] {
                let upstream = transparent(family.client())?;
                upstream.set_mark(OWN_MARK)?;
                upstream.bind(&SocketAddr::new(family.client(), port).into())?;
                upstream.connect_timeout(&family.smtp().into(), PATIENCE)?;
                let (served, seen) = server.accept()?;
                assert_eq!(seen.ip(), family.client());
                assert_eq!(port == 0, seen.port() != client.local_addr()?.port());
                served.set_read_timeout(Some(PATIENCE))?;
                upstream.set_read_timeout(Some(PATIENCE))?;
                let upstream: TcpStream = upstream.into();
                carry(&served, &upstream, &[7; 1_000_000])?;
                carry(&upstream, &served, &[8; 1_000_000])?;
            }
        }
        Ok(())
    })
}

#[test]
fn the_gateways_own_connections_are_not_steered_again() -> anyhow::Result<()> {
    on_router(&settings(), |router| {
        for family in FAMILIES {
            let server = listen_on_server(router.lab, family)?;
            let upstream = Socket::new(Domain::for_address(family.smtp()), Type::STREAM, None)?;
            upstream.set_mark(OWN_MARK)?;
            upstream.connect_timeout(&family.smtp().into(), PATIENCE)?;
            let (served, seen) = server.accept()?;
            assert_eq!(seen.ip(), family.router());
            let upstream: TcpStream = upstream.into();
            carry(&upstream, &served, b"EHLO gateway\r\n")?;
            carry(&served, &upstream, b"250 server\r\n")?;
        }
        assert_eq!(router.count("opened")?, 0);
        Ok(())
    })
}

#[test]
fn without_listeners_new_flows_go_to_the_server_and_open_ones_stay() -> anyhow::Result<()> {
    on_router(&settings(), |mut router| {
        for family in FAMILIES {
            let server = listen_on_server(router.lab, family)?;
            let open = connect(router.lab.client(), client(family), family.smtp())?;
            let (accepted, _) = router.accept(family)?;
            router.kernel.clear_listeners()?;
            router.kernel.clear_listeners()?;
            let direct = connect(router.lab.client(), client(family), family.smtp())?;
            let (served, seen) = server.accept()?;
            assert_eq!(seen, direct.local_addr()?);
            carry(&direct, &served, b"QUIT\r\n")?;
            carry(&open, &accepted, b"NOOP\r\n")?;
            carry(&accepted, &open, b"250 OK\r\n")?;
            router.open()?;
            let again = connect(router.lab.client(), client(family), family.smtp())?;
            let (accepted, peer) = router.accept(family)?;
            assert_eq!((peer, accepted.local_addr()?), (again.local_addr()?, family.smtp()));
            // The flow that went directly still does.
            carry(&served, &direct, b"221 Bye\r\n")?;
        }
        Ok(())
    })
}

#[test]
fn a_listener_that_dies_with_its_process_is_as_good_as_taken_away() -> anyhow::Result<()> {
    let dropping = Settings { when_down: WhenDown::Drop, ..settings() };
    on_router(&dropping, |mut router| {
        let family = lab::Family::V4;
        let _server = listen_on_server(router.lab, family)?;
        let unused = transparent(Ipv4Addr::LOCALHOST.into())?;
        router.listeners[0] = unused;
        // Processes that other tests start hold the closed listener until they have begun.
        let refused = wait::until(10 * PATIENCE, "end of the listener", || {
            Ok(connect(router.lab.client(), client(family), family.smtp()).err())
        })?;
        let kind = refused.downcast_ref::<io::Error>().map(io::Error::kind);
        assert_eq!(kind, Some(io::ErrorKind::TimedOut), "a dropped packet is answered by nothing");
        assert!(router.count("down_dropped")? > 0);
        Ok(())
    })
}

#[test]
fn a_mail_server_on_the_router_keeps_its_flows() -> anyhow::Result<()> {
    on_router(&settings(), |router| {
        for (family, router_address) in FAMILIES.into_iter().zip(["192.0.2.1:25", "[2001:db8:1::1]:25"]) {
            let server = listen_on_server(router.lab, family)?;
            let any = if family == lab::Family::V4 { "0.0.0.0:25" } else { "[::]:25" };
            let local = Socket::new(Domain::for_address(any.parse()?), Type::STREAM, None)?;
            if family == lab::Family::V6 {
                local.set_only_v6(true)?;
            }
            local.bind(&any.parse::<SocketAddr>()?.into())?;
            local.listen(8)?;
            let client_end = connect(router.lab.client(), client(family), router_address.parse()?)?;
            let (local_end, _) = local.accept()?;
            let local_end: TcpStream = local_end.into();
            carry(&client_end, &local_end, b"EHLO client\r\n")?;
            carry(&local_end, &client_end, b"250 router\r\n")?;
            // It listens on all addresses, but not on the server's.
            let through = connect(router.lab.client(), client(family), family.smtp())?;
            let (accepted, _) = router.accept(family)?;
            carry(&through, &accepted, b"EHLO client\r\n")?;
            // And it sends mail itself.
            let outgoing = TcpStream::connect(family.smtp())?;
            let (served, _) = server.accept()?;
            carry(&served, &outgoing, b"220 server\r\n")?;
        }
        assert_eq!(router.count("local_destination")?, 2);
        assert!(router.count("foreign_socket")? > 0);
        assert_eq!(router.count("opened")?, 2);
        Ok(())
    })
}

#[test]
fn a_handshake_by_syn_cookie_reaches_the_listener() -> anyhow::Result<()> {
    on_router(&settings(), |router| {
        router.lab.router().sysctl("ipv4/tcp_syncookies", "2")?;
        for family in FAMILIES {
            let client = connect(router.lab.client(), client(family), family.smtp())?;
            let (accepted, _) = router.accept(family)?;
            assert_eq!(accepted.local_addr()?, family.smtp());
            carry(&client, &accepted, b"EHLO client\r\n")?;
            carry(&accepted, &client, b"250 gateway\r\n")?;
        }
        assert!(router.count("syn_cookie")? >= 2);
        Ok(())
    })
}

#[test]
fn a_client_may_use_its_port_again_while_the_gateway_remembers_the_last_flow() -> anyhow::Result<()> {
    on_router(&settings(), |router| {
        for family in FAMILIES {
            let from = SocketAddr::new(family.client(), 40_001);
            let first = connect(router.lab.client(), from, family.smtp())?;
            let (accepted, _) = router.accept(family)?;
            // Who closes first remembers.
            drop(accepted);
            assert_eq!((&first).read(&mut [0; 1])?, 0);
            drop(first);
            std::thread::sleep(Duration::from_millis(100));
            let start = wait::now();
            let second = connect(router.lab.client(), from, family.smtp())?;
            let (accepted, peer) = router.accept(family)?;
            // A client that is told "wrong number" tries again: Linux at once, others in a second.
            assert!(start.elapsed() < Duration::from_secs(2));
            assert_eq!(peer, from);
            carry(&second, &accepted, b"EHLO client\r\n")?;
        }
        Ok(())
    })
}
