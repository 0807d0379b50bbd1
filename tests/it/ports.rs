//! Clients that come again with the same port, before anybody has forgotten the connection it had.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use gateway_tests::gateway::{Gateway, Settings};
use gateway_tests::lab::{Family, Lab};
use gateway_tests::{process, wait};

use crate::direct::{echo, greeted, ping, start_tls, wait_until_direct};
use crate::odd_packets::snmp;
use crate::router::connect_again;

const PATIENCE: Duration = Duration::from_secs(60);

fn from(lab: &Lab, family: Family, port: u16) -> anyhow::Result<TcpStream> {
    let stream = connect_again(lab.client(), SocketAddr::new(family.client(), port), family.smtp())?;
    stream.set_read_timeout(Some(PATIENCE))?;
    Ok(stream)
}

/// Waits until the other side has closed, whatever it says before.
fn wait_for_end(mut stream: &TcpStream) -> anyhow::Result<()> {
    Ok(stream.read_to_end(&mut Vec::new()).map(drop)?)
}

/// Connections of this port that the router remembers (TIME-WAIT).
fn remembered(lab: &Lab, port: u16) -> anyhow::Result<usize> {
    let mut ss = lab.router().command("ss");
    ss.args(["-H", "-t", "-n", "state", "time-wait", &format!("( sport = :25 and dport = :{port} )")]);
    Ok(process::done(&mut ss)?.lines().count())
}

/// Has a connection that the gateway remembers; returns its client's port.
fn over(lab: &Lab, family: Family) -> anyhow::Result<u16> {
    let first = from(lab, family, 0)?;
    let port = first.local_addr()?.port();
    greeted(&first)?;
    // The server closes, and so the gateway closes first of the two here.
    (&first).write_all(b"NOOP\r\n")?;
    wait_for_end(&first)?;
    drop(first);
    wait::until(PATIENCE, "TIME-WAIT", || Ok((remembered(lab, port)? == 1).then_some(())))?;
    Ok(port)
}

#[test]
fn a_port_of_a_connection_that_the_gateway_remembers_gets_a_new_session() -> anyhow::Result<()> {
    for source_address in ["preserve", "gateway"] {
        let lab = Lab::new()?;
        let _gateway = Gateway::start(&lab, &Settings { source_address, ..Settings::default() })?;
        for family in [Family::V4, Family::V6] {
            echo(&lab, family.smtp())?;
            let port = over(&lab, family)?;
            let resets = snmp(lab.client(), "Tcp", "OutRsts")?;
            let second = from(&lab, family, port).with_context(|| format!("{source_address} {family:?}"))?;
            greeted(&second)?;
            // A client that hears of the old connection resets that, and tries again after a second.
            ensure!(snmp(lab.client(), "Tcp", "OutRsts")? == resets, "{source_address} {family:?}");
            ensure!(remembered(&lab, port)? == 0, "two connections with the same ends");
        }
    }
    Ok(())
}

#[test]
fn a_connection_that_the_gateway_remembers_takes_nothing_from_a_server_that_has_moved_here()
-> anyhow::Result<()> {
    let lab = Lab::new()?;
    let _gateway = Gateway::start(&lab, &Settings::default())?;
    let server = Family::V4.smtp();
    echo(&lab, server)?;
    let port = over(&lab, Family::V4)?;
    // As an address of VRRP does, which the other router has lost.
    lab.router().ip(&format!("address add {}/32 dev lo", server.ip()))?;
    let here = lab.router().listen(server)?;
    thread::sleep(Duration::from_secs(2));
    let second = from(&lab, Family::V4, port)?;
    here.set_nonblocking(true)?;
    let (accepted, client) = wait::until(PATIENCE, "the client here", || Ok(here.accept().ok()))?;
    ensure!(client == second.local_addr()?, "{client}");
    (&accepted).write_all(b"220 here\r\n")?;
    let mut greeting = [0; 8];
    (&second).read_exact(&mut greeting)?;
    ensure!(&greeting == b"220 here", "{greeting:?}");
    Ok(())
}

#[test]
fn a_port_of_a_flow_that_the_kernel_carried_gets_a_new_session() -> anyhow::Result<()> {
    for source_address in ["preserve", "gateway"] {
        let lab = Lab::new()?;
        // The client itself remembers its connections; after a second it uses their ports again, as
        // one does that has many.
        lab.client().sysctl("ipv4/tcp_tw_reuse", "1")?;
        let _gateway = Gateway::start(&lab, &Settings { source_address, ..Settings::default() })?;
        for family in [Family::V4, Family::V6] {
            echo(&lab, family.smtp())?;
            let mut port = 0;
            for time in 1..=3 {
                let stream = from(&lab, family, port)
                    .and_then(|stream| greeted(&stream).map(|()| stream))
                    .with_context(|| format!("{source_address} {family:?} {time}"))?;
                port = stream.local_addr()?.port();
                start_tls(&stream)?;
                wait_until_direct(&lab, &stream)?;
                ping(&stream, 3)?;
                stream.shutdown(Shutdown::Write)?;
                wait_for_end(&stream)?;
            }
        }
    }
    Ok(())
}
