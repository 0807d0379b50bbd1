//! How handed-off sessions end.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use gateway::datapath::flow_table::key;
use gateway::datapath::sweep;
use gateway::ipc::flow::FlowEnd;
use gateway_tests::{lab, wait};
use socket2::{Domain, Protocol, Socket, Type};

use super::{Direct, PATIENCE, Router, directly, on_router};
use crate::packet::{ACK, FIN, Frame, RST, Tcp};
use crate::router::{FAMILIES, listen_on_server};
/// What a read or a write at the end of a connection fails with, once it does.
fn failure(mut end: &TcpStream) -> anyhow::Result<std::io::ErrorKind> {
    wait::until(PATIENCE, "an error", || {
        Ok(end.write_all(b"x").and_then(|()| end.read(&mut [0])).err().map(|error| error.kind()))
    })
}

#[test]
fn a_reset_reaches_the_other_end() -> anyhow::Result<()> {
    on_router(|mut router| {
        for family in FAMILIES {
            for by_client in [true, false] {
                let Direct { client, served } = directly(&mut router, family)?;
                let (resets, meets) = if by_client { (client, served) } else { (served, client) };
                socket2::SockRef::from(&resets).set_linger(Some(Duration::ZERO))?;
                drop(resets);
                ensure!(failure(&meets)? == std::io::ErrorKind::ConnectionReset);
            }
        }
        Ok(())
    })
}

#[test]
fn both_ends_may_close_in_any_order_or_at_once() -> anyhow::Result<()> {
    on_router(|mut router| {
        for family in FAMILIES {
            for client_first in [true, false] {
                directly(&mut router, family)?.close(client_first)?;
            }
            let Direct { client, served } = directly(&mut router, family)?;
            std::thread::scope(|scope| {
                let ends = [&client, &served].map(|end| {
                    scope.spawn(move || {
                        let mut end = end;
                        end.shutdown(Shutdown::Write)?;
                        end.read(&mut [0])
                    })
                });
                for end in ends {
                    ensure!(end.join().expect("does not panic")? == 0, "no end");
                }
                anyhow::Ok(())
            })?;
        }
        Ok(())
    })
}

/// Long after any reset is believed.
fn later() -> u64 {
    gateway::clock::monotonic() + 600_000_000_000
}

/// What a sweep finds ten minutes from the present.
fn swept(router: &mut Router<'_>) -> Vec<FlowEnd> {
    sweep::sweep(&mut router.table, Duration::ZERO, later(), None)
        .ended
        .into_iter()
        .map(|flow| flow.end)
        .collect()
}

#[test]
fn a_sweep_tells_a_reset_from_an_end_in_good_order_and_who_began() -> anyhow::Result<()> {
    on_router(|mut router| {
        for (by_client, end) in [(true, FlowEnd::ClientReset), (false, FlowEnd::ServerReset)] {
            let Direct { client, served } = directly(&mut router, lab::Family::V4)?;
            ensure!(swept(&mut router).is_empty(), "swept while open");
            let (resets, meets) = if by_client { (client, served) } else { (served, client) };
            socket2::SockRef::from(&resets).set_linger(Some(Duration::ZERO))?;
            drop(resets);
            failure(&meets)?;
            let found = swept(&mut router);
            ensure!(found == [end], "{found:?}");
        }
        directly(&mut router, lab::Family::V6)?.close(true)?;
        let found = swept(&mut router);
        ensure!(found == [FlowEnd::Closed], "{found:?}");
        Ok(())
    })
}

/// Sends single TCP packets with these flags as if from both ends of the flow: a stranger who knows
/// addresses and ports, but no number.
fn forge(router: &Router<'_>, names: &[(SocketAddr, SocketAddr); 2], flags: u8) -> anyhow::Result<()> {
    for (netns, (from, to)) in [router.lab.client(), router.lab.server()].into_iter().zip(names) {
        let (SocketAddr::V4(from), SocketAddr::V4(to)) = (from, to) else { bail!("not IPv4") };
        let tcp = Tcp { source: from.port(), ..Tcp::to(to.port(), flags) };
        let packet = Frame::v4(*from.ip(), *to.ip(), tcp).checked();
        netns.enter(|| {
            let raw = Socket::new(Domain::IPV4, Type::RAW, Some(Protocol::TCP))?;
            raw.set_header_included_v4(true)?;
            raw.send_to(&packet, &SocketAddr::from(*to).into())
        })??;
    }
    Ok(())
}

#[test]
fn strangers_end_no_flow_by_resets_and_ends_however_long_it_is_silent() -> anyhow::Result<()> {
    on_router(|mut router| {
        let family = lab::Family::V4;
        let server = listen_on_server(router.lab, family)?;
        for source in [family.client(), family.router()] {
            let session = router.session(&server, family, source)?;
            let names = [
                (session.client.local_addr()?, session.client.peer_addr()?),
                (session.served.local_addr()?, session.served.peer_addr()?),
            ];
            let up = key(names[0].0, names[0].1);
            let direct = router.direct(session)?;
            for flags in [RST, RST | ACK, FIN | ACK] {
                let before = router.table.find(&up).context("no entry")?.packets();
                forge(&router, &names, flags)?;
                wait::until(PATIENCE, "the forged packet", || {
                    let entry = router.table.find(&up).context("no entry")?;
                    Ok((entry.packets() > before).then_some(()))
                })?;
                let found = swept(&mut router);
                ensure!(found.is_empty(), "flags {flags}: {found:?}");
            }
            direct.stream(100_000, 67)?;
            direct.close(true)?;
            let found = swept(&mut router);
            ensure!(found == [FlowEnd::Closed], "{found:?}");
        }
        Ok(())
    })
}

#[test]
fn a_flow_whose_handoff_was_cut_off_is_frozen_for_a_moment_and_not_for_ever() -> anyhow::Result<()> {
    on_router(|mut router| {
        let family = lab::Family::V4;
        let server = listen_on_server(router.lab, family)?;
        let session = router.session(&server, family, family.client())?;
        let up = key(session.client.local_addr()?, session.client.peer_addr()?);
        let entry = router.table.find(&up).context("no entry")?;
        let down = entry.peer(&up);
        // The process that handed it off died behind the freeze; its sockets are gone.
        for key in [up, down] {
            let entry = router.table.find(&key).context("no entry")?;
            router.table.set(&key, entry.frozen(gateway::clock::monotonic()))?;
        }
        drop(session);
        sweep::sweep(&mut router.table, Duration::ZERO, gateway::clock::monotonic(), None);
        ensure!(router.table.find(&up).is_some(), "another process may be about to hand it off");
        ensure!(swept(&mut router).is_empty(), "a flow that nobody carried has no record");
        ensure!(router.table.find(&up).is_none() && router.table.find(&down).is_none(), "frozen for ever");
        Ok(())
    })
}
