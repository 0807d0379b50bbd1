//! Running flows of a client that is over its limit of octets.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use gateway::config::file::{ClientLimits, Clients, OnExcess};
use gateway_tests::gateway::Gateway;
use gateway_tests::lab::{Family, Lab};
use gateway_tests::wait;
use socket2::{Domain, Protocol, Socket, Type};

use super::{PATIENCE, client, exhaust, settings};
use crate::direct::{echo, greeted, start_tls, started, wait_until_direct_beside};
use crate::handoff::{Direct, Router, on_router};
use crate::packet::{ACK, FIN, Frame, RST, Tcp};
use crate::router::{connect, listen_on_server};

/// Sends packets without text as the client of a flow.
fn send(lab: &Lab, direct: &Direct, flags: &[u8]) -> anyhow::Result<()> {
    let (from, to) = (direct.client.local_addr()?, direct.client.peer_addr()?);
    let (SocketAddr::V4(from), SocketAddr::V4(to)) = (from, to) else { bail!("{from} to {to}") };
    lab.client().enter(|| {
        let socket = Socket::new(Domain::IPV4, Type::RAW, Some(Protocol::from(255)))?;
        for flags in flags {
            let tcp = Tcp { source: from.port(), ..Tcp::to(to.port(), *flags) };
            let frame = Frame::v4(*from.ip(), *to.ip(), tcp);
            socket.send_to(&frame.checked(), &SocketAddr::from((*to.ip(), 0)).into())?;
        }
        anyhow::Ok(())
    })?
}

/// Packets of flows that are handed off which went on.
fn passed(router: &Router<'_>) -> anyhow::Result<u64> {
    Ok(router.count("redirected")? + router.count("translated")?)
}

/// How many there are once no further ones come.
fn settled(router: &Router<'_>) -> anyhow::Result<u64> {
    let mut last = passed(router)?;
    wait::until(PATIENCE, "silence", || {
        std::thread::sleep(Duration::from_millis(500));
        let now = passed(router)?;
        Ok((std::mem::replace(&mut last, now) == now).then_some(now))
    })
}

#[test]
fn of_a_flow_that_is_stopped_nothing_passes_but_a_reset_until_its_client_may_have_more() -> anyhow::Result<()>
{
    on_router(|mut router| {
        let (mut accounts, _reader) = router.kernel.accounts().context("the accounts are taken")?;
        let limit = |octets: &str| {
            let limits = ClientLimits { bytes: octets.parse()?, ..ClientLimits::default() };
            anyhow::Ok(Clients { limits, on_excess: OnExcess::Drop, ..Clients::default() })
        };
        accounts.configure(&limit("100KiB")?)?;
        let server = listen_on_server(router.lab, Family::V4)?;
        let session = router.session(&server, Family::V4, Family::V4.client())?;
        let direct = router.direct(session)?;
        // Below its limit, what has no text passes.
        let before = settled(&router)?;
        send(router.lab, &direct, &[ACK, ACK])?;
        wait::until(PATIENCE, "the packets", || Ok((passed(&router)? >= before + 2).then_some(())))?;

        direct.client.set_nonblocking(true)?;
        let text = vec![7; 300_000];
        let mut written = 0;
        wait::until(PATIENCE, "the limit", || {
            match (&direct.client).write(&text[written..]) {
                Ok(octets) => written += octets,
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                Err(error) => return Err(error.into()),
            }
            Ok((router.count("client_over_limit")? > 0).then_some(()))
        })?;
        let before = settled(&router)?;
        send(router.lab, &direct, &[ACK, FIN | ACK, ACK, RST])?;
        wait::until(PATIENCE, "the reset", || Ok((passed(&router)? > before).then_some(())))?;
        // It has another number than the server waits for.
        let now = settled(&router)?;
        ensure!(now == before + 1, "{} packets passed", now - before);

        accounts.configure(&limit("100MiB")?)?;
        direct.client.set_nonblocking(false)?;
        (&direct.client).write_all(&text[written..])?;
        let mut got = vec![0; text.len()];
        (&direct.served).read_exact(&mut got).context("it does not go on")?;
        ensure!(got == text);
        let before = settled(&router)?;
        send(router.lab, &direct, &[ACK])?;
        wait::until(PATIENCE, "the packet", || Ok((passed(&router)? > before).then_some(())))
    })
}

#[test]
fn a_session_that_passes_unread_only_after_its_client_went_over_its_limit_is_reset_too() -> anyhow::Result<()>
{
    let server = Family::V4.smtp();
    for engine in ["splice", "handoff"] {
        // Accounts outlive a gateway.
        let lab = Lab::new()?;
        echo(&lab, server)?;
        let keys = [("limits", "{bytes: 1MiB}"), ("on-excess", "reset")];
        let gateway = Gateway::start(&lab, &settings(engine, &keys))?;
        let late = connect(lab.client(), SocketAddr::new(Family::V4.client(), 0), server)?;
        greeted(&late)?;
        let early = started(&lab, server)?;
        if engine == "handoff" {
            wait_until_direct_beside(&lab, &early, 2)?;
        }
        exhaust(&early)?;
        ensure!(client(&gateway, "192.0.2.2")?.current.excess.contains(&"bytes".to_owned()));
        // What is read goes on to the end.
        start_tls(&late)?;
        late.set_read_timeout(Some(Duration::from_millis(200)))?;
        wait::until(PATIENCE, "a reset", || {
            let spoken =
                (&late).write_all(b"octets that nobody reads").and_then(|()| (&late).read(&mut [0; 64]));
            match spoken {
                Ok(0) => Ok(Some(())),
                Ok(_) => Ok(None),
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => Ok(None),
                Err(_) => Ok(Some(())),
            }
        })
        .with_context(|| format!("{engine}: {}", gateway.log()))?;
    }
    Ok(())
}
