//! Sessions that the gateway leaves to the kernel after STARTTLS, seen from outside.

mod tls;

use std::io::{BufRead as _, BufReader, ErrorKind, Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use gateway_tests::gateway::{Gateway, Settings};
use gateway_tests::lab::{Family, Lab};
use gateway_tests::netns::Netns;
use gateway_tests::{process, wait};

use crate::survive::shown;

const FAMILIES: [Family; 2] = [Family::V4, Family::V6];
const PATIENCE: Duration = Duration::from_secs(60);

pub(crate) fn settings(source_address: &'static str) -> Settings {
    Settings { source_address, ..Settings::default() }
}

/// A server that says 220 to STARTTLS, and from then on returns what it gets, turned by one bit.
pub(crate) fn echo(lab: &Lab, address: SocketAddr) -> anyhow::Result<()> {
    let listener = lab.server().listen(address)?;
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            thread::spawn(move || serve(&stream));
        }
    });
    Ok(())
}

fn serve(mut stream: &TcpStream) -> std::io::Result<()> {
    if !takes_tls(stream)? {
        return Ok(());
    }
    let mut buffer = [0; 16 * 1024];
    loop {
        let octets = stream.read(&mut buffer)?;
        if octets == 0 {
            return stream.shutdown(Shutdown::Write);
        }
        buffer[..octets].iter_mut().for_each(|octet| *octet ^= 1);
        stream.write_all(&buffer[..octets])?;
    }
}

/// A server's side of a session until it has said 220 to STARTTLS; whether the client gets so far.
pub(crate) fn takes_tls(mut stream: &TcpStream) -> std::io::Result<bool> {
    stream.write_all(b"220 server.example ESMTP\r\n")?;
    let mut lines = BufReader::new(stream);
    loop {
        let mut line = String::new();
        lines.read_line(&mut line)?;
        let reply: &[u8] = match line.split_whitespace().next() {
            Some("EHLO") => b"250-server.example\r\n250 STARTTLS\r\n",
            Some("STARTTLS") => break,
            _ => return Ok(false),
        };
        stream.write_all(reply)?;
    }
    stream.write_all(b"220 go ahead\r\n")?;
    Ok(true)
}

/// The last line of the reply to a command; an empty one is the connection itself.
fn reply(mut stream: &TcpStream, command: &str) -> anyhow::Result<String> {
    stream.write_all(command.as_bytes())?;
    // Nothing is sent behind a reply that is not asked for.
    let mut lines = BufReader::new(stream);
    loop {
        let mut line = String::new();
        ensure!(lines.read_line(&mut line)? > 0, "no reply to {command:?}");
        if line.as_bytes().get(3) == Some(&b' ') {
            return Ok(line);
        }
    }
}

/// A client that has said hello.
pub(crate) fn greeted(stream: &TcpStream) -> anyhow::Result<()> {
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_nodelay(true)?;
    reply(stream, "")?;
    let answer = reply(stream, "EHLO client.example\r\n")?;
    ensure!(answer.starts_with("250"), "{answer}");
    Ok(())
}

/// The same client gets its 220 to STARTTLS.
pub(crate) fn start_tls(stream: &TcpStream) -> anyhow::Result<()> {
    let answer = reply(stream, "STARTTLS\r\n")?;
    ensure!(answer.starts_with("220"), "{answer}");
    Ok(())
}

/// A client that has its 220 to STARTTLS.
pub(crate) fn started(lab: &Lab, server: SocketAddr) -> anyhow::Result<TcpStream> {
    let stream = lab.client().enter(|| TcpStream::connect_timeout(&server, PATIENCE))??;
    greeted(&stream)?;
    start_tls(&stream)?;
    Ok(stream)
}

/// The client's hello for a server of this name, answered by the octets of [`echo`].
pub(crate) fn say_hello(mut stream: &TcpStream, server_name: &str) -> anyhow::Result<()> {
    let hello = hello(server_name);
    stream.write_all(&hello)?;
    let mut answer = vec![0; hello.len()];
    stream.read_exact(&mut answer)?;
    ensure!(answer.iter().zip(&hello).all(|(answer, byte)| *answer == byte ^ 1), "{answer:?}");
    Ok(())
}

/// A client's hello of TLS 1.3 (RFC 8446 section 4.1.2) in one record.
fn hello(server_name: &str) -> Vec<u8> {
    let long = |octets: Vec<u8>| {
        let length = u16::try_from(octets.len()).expect("short").to_be_bytes();
        [length.to_vec(), octets].concat()
    };
    let host = long([vec![0], long(server_name.as_bytes().to_vec())].concat());
    let extensions = [vec![0, 0], long(host), vec![0, 43], long(vec![2, 3, 4])].concat();
    let body =
        [vec![3, 3], vec![7; 32], vec![0], long(vec![0x13, 0x01]), vec![1, 0], long(extensions)].concat();
    let handshake = [vec![1, 0], long(body)].concat();
    [vec![22, 3, 1], long(handshake)].concat()
}

/// One octet there and back.
pub(crate) fn ping(mut stream: &TcpStream, octet: u8) -> anyhow::Result<()> {
    stream.write_all(&[octet])?;
    let mut answer = [0];
    stream.read_exact(&mut answer)?;
    ensure!(answer == [octet ^ 1], "{answer:?}");
    Ok(())
}

/// Octets there and back, both ways at once.
pub(crate) fn bulk(stream: &TcpStream, octets: usize) -> anyhow::Result<()> {
    let bytes: Vec<u8> = (0..octets).map(|place| ((place * 31) ^ (place >> 9)).to_le_bytes()[0]).collect();
    thread::scope(|scope| {
        let writer = scope.spawn(|| {
            let mut to = stream;
            to.write_all(&bytes)
        });
        let mut answer = vec![0; octets];
        let mut from = stream;
        from.read_exact(&mut answer)?;
        writer.join().expect("does not panic")?;
        ensure!(
            answer.iter().zip(&bytes).all(|(answer, byte)| *answer == byte ^ 1),
            "other octets came back"
        );
        Ok(())
    })
}

/// The router's sockets from or to port 25, listeners aside.
pub(crate) fn sockets(lab: &Lab) -> anyhow::Result<usize> {
    let mut ss = lab.router().command("ss");
    ss.args(["-H", "-t", "-n", "-o", "state", "connected", "( sport = :25 or dport = :25 )"]);
    Ok(process::done(&mut ss)?.lines().count())
}

/// Waits until a session that speaks now and then has no socket left on the router.
pub(crate) fn wait_until_direct(lab: &Lab, stream: &TcpStream) -> anyhow::Result<()> {
    wait_until_direct_beside(lab, stream, 0)
}

/// The same, where other sessions keep so many sockets.
pub(crate) fn wait_until_direct_beside(lab: &Lab, stream: &TcpStream, others: usize) -> anyhow::Result<()> {
    wait::until(PATIENCE, "handoff", || {
        ping(stream, 7)?;
        thread::sleep(Duration::from_millis(20));
        Ok((sockets(lab)? == others).then_some(()))
    })
}

#[test]
fn a_session_loses_its_sockets_passes_megabytes_and_leaves_one_record() -> anyhow::Result<()> {
    let lab = Lab::new()?;
    for family in FAMILIES {
        echo(&lab, family.smtp())?;
    }
    for source in ["preserve", "gateway"] {
        let mut gateway = Gateway::start(&lab, &settings(source))?;
        for family in FAMILIES {
            let stream = started(&lab, family.smtp())?;
            wait_until_direct(&lab, &stream).with_context(|| format!("{source} {family:?}"))?;
            bulk(&stream, 4_000_000)?;
            stream.shutdown(Shutdown::Write)?;
            ensure!((&stream).read(&mut [0])? == 0);
        }
        wait::until(PATIENCE, "two records", || {
            let log = gateway.log();
            let records = log.lines().filter(|line| line.contains("packets_from_client"));
            Ok((records.filter(|line| line.contains(" engine=handoff ")).count() == 2).then_some(()))
        })?;
        gateway.stop()?;
        gateway.daemon().forget_log()?;
    }
    Ok(())
}

#[test]
fn an_operator_ends_a_session_whatever_carries_it() -> anyhow::Result<()> {
    for engine in ["handoff", "splice", "copy"] {
        let lab = Lab::new()?;
        echo(&lab, Family::V4.smtp())?;
        let gateway =
            Gateway::start(&lab, &Settings { splice: vec![("engine", engine)], ..settings("preserve") })?;
        let stream = started(&lab, Family::V4.smtp())?;
        if engine == "handoff" {
            wait_until_direct(&lab, &stream)?;
        } else {
            bulk(&stream, 1_000_000)?;
            ensure!(sockets(&lab)? == 2, "{engine}");
        }
        let (id, _) = shown(&gateway)?;
        let (done, said) = gateway.control_command(&format!("sessions kill {id}"))?;
        ensure!(done, "{engine}: {said}");
        // The client says nothing, and hears of it all the same: from the kernel by a reset.
        match (&stream).read(&mut [0]) {
            Ok(octets) => ensure!(octets == 0 && engine != "handoff", "{engine}: {octets} octets"),
            Err(error) => ensure!(error.kind() == ErrorKind::ConnectionReset, "{engine}: {error}"),
        }
        let record = gateway.wait_for_log("end=operator")?;
        ensure!(record.contains(&id) && record.contains(&format!(" engine={engine} ")), "{engine}: {record}");
        let (_, text) = gateway.control_command("sessions")?;
        ensure!(!text.contains(&id), "{text}");
    }
    Ok(())
}

/// What makes the two connections of a session differ, and what that is called where it is counted.
type Difference = (&'static str, fn(&Netns) -> anyhow::Result<()>);

const DIFFERENT: [Difference; 4] = [
    ("timestamps", |netns| netns.sysctl("ipv4/tcp_timestamps", "0")),
    ("sack", |netns| netns.sysctl("ipv4/tcp_sack", "0")),
    ("segment", |netns| netns.ip("link set eth0 mtu 1400").map(drop)),
    ("ecn", |netns| netns.sysctl("ipv4/tcp_ecn", "1")),
];

#[test]
fn what_the_kernel_refuses_goes_on_with_splice_and_is_counted() -> anyhow::Result<()> {
    for (reason, set_up) in DIFFERENT {
        let lab = Lab::new()?;
        // A server never asks for congestion notification.
        set_up(if reason == "ecn" { lab.client() } else { lab.server() })?;
        echo(&lab, Family::V4.smtp())?;
        let gateway = Gateway::start(&lab, &settings("preserve"))?;
        let stream = started(&lab, Family::V4.smtp())?;
        wait::until(PATIENCE, "the refusal", || {
            ping(&stream, 3)?;
            thread::sleep(Duration::from_millis(50));
            let (_, status) = gateway.control_command("status")?;
            let row = status.lines().find(|line| line.starts_with("handoffs"));
            Ok(row.is_some_and(|row| row.contains(reason)).then_some(()))
        })
        .with_context(|| reason)?;
        bulk(&stream, 1_000_000)?;
        ensure!(sockets(&lab)? == 2, "{reason}");
        drop(stream);
        gateway.wait_for_log(" engine=splice ")?;
    }
    Ok(())
}

#[test]
fn a_session_in_the_kernel_outlives_the_proxy_that_left_it() -> anyhow::Result<()> {
    let lab = Lab::new()?;
    echo(&lab, Family::V4.smtp())?;
    let gateway = Gateway::start(&lab, &settings("preserve"))?;
    let stream = started(&lab, Family::V4.smtp())?;
    wait_until_direct(&lab, &stream)?;
    let proxy = gateway.proxy()?;
    nix::sys::signal::kill(proxy, nix::sys::signal::Signal::SIGKILL)?;
    bulk(&stream, 2_000_000)?;
    wait::until(PATIENCE, "another proxy", || {
        Ok(gateway.proxy().ok().filter(|pid| *pid != proxy).map(drop))
    })?;
    bulk(&stream, 2_000_000)?;
    stream.shutdown(Shutdown::Write)?;
    ensure!((&stream).read(&mut [0])? == 0);
    let record = gateway.wait_for_log("taken_over=true")?;
    ensure!(record.contains("end=client"), "{record}");
    Ok(())
}

#[test]
fn hundreds_of_sessions_at_once_are_handed_off_and_none_is_lost() -> anyhow::Result<()> {
    const WORKERS: usize = 16;
    const SESSIONS: usize = 30;
    let lab = Lab::new()?;
    for family in FAMILIES {
        echo(&lab, family.smtp())?;
    }
    let gateway = Gateway::start(&lab, &settings("auto"))?;
    thread::scope(|scope| {
        let workers: Vec<_> = (0..WORKERS)
            .map(|worker| {
                let lab = &lab;
                scope.spawn(move || {
                    let family = if worker % 2 == 0 { Family::V4 } else { Family::V6 };
                    for number in 0..SESSIONS {
                        let stream = started(lab, family.smtp())?;
                        let me = stream.local_addr()?;
                        for pause in 0..12 {
                            ping(&stream, 5).with_context(|| format!("ping {pause} of {me}"))?;
                            thread::sleep(Duration::from_millis((number * 7 + pause * 5) as u64 % 32));
                        }
                        bulk(&stream, 50_000).with_context(|| format!("bulk of {me}"))?;
                        stream.shutdown(Shutdown::Write)?;
                        ensure!((&stream).read(&mut [0]).with_context(|| format!("end of {me}"))? == 0);
                    }
                    Ok(())
                })
            })
            .collect();
        workers.into_iter().try_for_each(|worker| worker.join().expect("does not panic"))
    })?;
    let (_, status) = gateway.control_command("status")?;
    let row = status.lines().find(|line| line.starts_with("handoffs")).context(status.clone())?;
    let done = row.split_whitespace().nth(1).and_then(|word| word.parse::<usize>().ok()).unwrap_or(0);
    // A session without a quiet instant keeps its sockets.
    ensure!(done > WORKERS * SESSIONS / 2, "{row}");
    Ok(())
}

/// Reads once; a read with a time limit is not taken up again after a signal (signal(7)).
fn end(stream: &mut TcpStream) -> std::io::Result<usize> {
    loop {
        match stream.read(&mut [0]) {
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            read => return read,
        }
    }
}

#[test]
fn a_silent_session_ends_at_the_idle_limit_whoever_carries_it() -> anyhow::Result<()> {
    let lab = Lab::new()?;
    echo(&lab, Family::V4.smtp())?;
    for engine in ["handoff", "splice", "copy"] {
        let timeouts = vec![("idle", "3s")];
        let splice = vec![("engine", engine)];
        let mut gateway = Gateway::start(&lab, &Settings { timeouts, splice, ..settings("preserve") })?;
        let mut stream = started(&lab, Family::V4.smtp())?;
        if engine == "handoff" {
            wait_until_direct(&lab, &stream)?;
        } else {
            ping(&stream, 7)?;
        }
        // By default it would be ten minutes.
        let record = gateway.wait_for_log("lane=splice")?;
        let told = format!(" engine={engine} ");
        ensure!(record.contains(&told) && record.contains(" end=timeout "), "{record}");
        if engine != "handoff" {
            let over = end(&mut stream);
            let reset = |error: &std::io::Error| error.kind() == ErrorKind::ConnectionReset;
            ensure!(over.as_ref().map_or_else(reset, |octets| *octets == 0), "{engine}: {over:?}");
        }
        gateway.stop()?;
        gateway.daemon().forget_log()?;
    }
    Ok(())
}

#[test]
fn one_session_that_is_gone_keeps_no_other_from_being_ended() -> anyhow::Result<()> {
    let lab = Lab::new()?;
    echo(&lab, Family::V4.smtp())?;
    let gateway = Gateway::start(&lab, &settings("preserve"))?;
    let streams = [started(&lab, Family::V4.smtp())?, started(&lab, Family::V4.smtp())?];
    let (_, list) = gateway.control_command("sessions")?;
    let ids: Vec<&str> = list.lines().skip(1).filter_map(|row| row.split_whitespace().next()).collect();
    ensure!(ids.len() == 2, "{list}");
    let named = format!("sessions kill {} 0000000000001 {}", ids[0], ids[1]);
    let (done, said) = gateway.control_command(&named)?;
    ensure!(!done && said.contains("no session 0000000000001 is open"), "{said}");
    wait::until(PATIENCE, "both records", || {
        Ok((gateway.log().matches("end=operator").count() == 2).then_some(()))
    })?;
    drop(streams);
    Ok(())
}
