//! How sessions that the kernel carries end, and what their records say.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use gateway_tests::gateway::{Gateway, Settings};
use gateway_tests::lab::{Family, Lab};
use gateway_tests::wait;
use nix::sys::signal::{Signal, kill};

use crate::direct::{echo, settings, sockets, started, takes_tls, wait_until_direct};
use crate::router::{FAMILIES, carry};
use crate::survive::{field, records};

/// Resets of open flows are believed after half a minute.
const PATIENCE: Duration = Duration::from_secs(120);
/// Octets that pass each way through the kernel.
const OCTETS: usize = 300_000;

/// Both ends of a session that the kernel carries.
struct Ends {
    client: TcpStream,
    server: TcpStream,
}

/// Servers whose sessions the test has in its hands once TLS may begin.
fn servers(lab: &Lab) -> anyhow::Result<[(SocketAddr, Receiver<TcpStream>); 2]> {
    let [four, six] = FAMILIES.map(|family| {
        let listener = lab.server().listen(family.smtp())?;
        let (hands, sessions) = channel();
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                if takes_tls(&stream).unwrap_or(false) && hands.send(stream).is_err() {
                    return;
                }
            }
        });
        anyhow::Ok((family.smtp(), sessions))
    });
    Ok([four?, six?])
}

/// A session without a socket on the router, and with octets that passed both ways since.
fn carried(lab: &Lab, (address, sessions): &(SocketAddr, Receiver<TcpStream>)) -> anyhow::Result<Ends> {
    let client = started(lab, *address)?;
    let server = sessions.recv_timeout(PATIENCE)?;
    for end in [&client, &server] {
        end.set_read_timeout(Some(PATIENCE))?;
        end.set_nodelay(true)?;
    }
    wait::until(PATIENCE, "handoff", || {
        carry(&client, &server, b"?")?;
        carry(&server, &client, b"!")?;
        thread::sleep(Duration::from_millis(20));
        Ok((sockets(lab)? == 0).then_some(()))
    })?;
    let octets = vec![7; OCTETS];
    carry(&client, &server, &octets)?;
    carry(&server, &client, &octets)?;
    Ok(Ends { client, server })
}

/// Sends a reset instead of an end.
fn reset(stream: &TcpStream) -> anyhow::Result<()> {
    Ok(socket2::SockRef::from(stream).set_linger(Some(Duration::ZERO))?)
}

/// One way to end a session, and what its record says of session and flow.
type End = (&'static str, fn(Ends) -> anyhow::Result<()>);

const ENDS: [End; 5] = [
    ("client closed", |ends| {
        ends.client.shutdown(Shutdown::Write)?;
        ensure!((&ends.server).read(&mut [0])? == 0);
        ends.server.shutdown(Shutdown::Write)?;
        ensure!((&ends.client).read(&mut [0])? == 0);
        Ok(())
    }),
    ("client closed", |ends| {
        ends.server.shutdown(Shutdown::Write)?;
        ensure!((&ends.client).read(&mut [0])? == 0);
        // Half of it is still open.
        carry(&ends.client, &ends.server, b"a word more")?;
        ends.client.shutdown(Shutdown::Write)?;
        ensure!((&ends.server).read(&mut [0])? == 0);
        Ok(())
    }),
    ("client closed", |ends| {
        // At once: neither waits for the other.
        ends.client.shutdown(Shutdown::Write)?;
        ends.server.shutdown(Shutdown::Write)?;
        ensure!((&ends.server).read(&mut [0])? == 0 && (&ends.client).read(&mut [0])? == 0);
        Ok(())
    }),
    ("client client-reset", |ends| {
        reset(&ends.client)?;
        drop(ends.client);
        is_reset(&ends.server)
    }),
    ("server server-reset", |ends| {
        reset(&ends.server)?;
        drop(ends.server);
        is_reset(&ends.client)
    }),
];

fn is_reset(mut end: &TcpStream) -> anyhow::Result<()> {
    let error = end.read(&mut [0]).err().context("no reset")?;
    ensure!(error.kind() == std::io::ErrorKind::ConnectionReset, "{error}");
    Ok(())
}

#[test]
fn each_way_to_end_leaves_one_record_of_packets_octets_time_and_end() -> anyhow::Result<()> {
    let lab = Lab::new()?;
    let servers = servers(&lab)?;
    let mut gateway = Gateway::start(&lab, &settings("auto"))?;
    let began = wait::now();
    let mut expected = Vec::new();
    for server in &servers {
        for (end, finish) in ENDS {
            finish(carried(&lab, server)?).with_context(|| format!("{end}, {}", server.0))?;
            expected.push(end);
        }
    }
    let done = || Ok((records(&gateway).len() >= expected.len()).then_some(()));
    wait::until(PATIENCE, "all records", done).with_context(|| gateway.log())?;
    let longest = began.elapsed();
    gateway.stop()?;
    let records = records(&gateway);
    let said =
        |record: &String| anyhow::Ok(format!("{} {}", field(record, "end")?, field(record, "flow_end")?));
    let mut ends = records.iter().map(said).collect::<Result<Vec<_>, _>>()?;
    ends.sort_unstable();
    expected.sort_unstable();
    assert_eq!(ends, expected, "{records:?}");
    for record in &records {
        ensure!(field(record, "engine")? == "handoff" && field(record, "lane")? == "splice", "{record}");
        for (octets, packets) in
            [("from_client", "packets_from_client"), ("from_server", "packets_from_server")]
        {
            let (octets, packets) =
                (field(record, octets)?.parse::<usize>()?, field(record, packets)?.parse::<usize>()?);
            // A segment that is sent again counts again.
            ensure!((OCTETS..OCTETS * 2).contains(&octets), "{record}");
            ensure!((5..10_000).contains(&packets), "{record}");
        }
        let time = Duration::from_millis(field(record, "time_ms")?.parse()?);
        ensure!(!time.is_zero() && time <= longest, "{time:?} of {longest:?}: {record}");
    }
    Ok(())
}

#[test]
fn a_session_that_is_silent_for_too_long_is_over_and_another_one_is_not() -> anyhow::Result<()> {
    let lab = Lab::new()?;
    let servers = servers(&lab)?;
    let limit = Settings { timeouts: vec![("idle", "8s")], ..settings("preserve") };
    let gateway = Gateway::start(&lab, &limit)?;
    let [silent, talking] = [carried(&lab, &servers[0])?, carried(&lab, &servers[1])?];
    let over = || {
        carry(&talking.client, &talking.server, b"?")?;
        Ok(records(&gateway).first().cloned())
    };
    let record = wait::until(PATIENCE, "the record", over).with_context(|| gateway.log())?;
    ensure!(record.contains(" end=timeout ") && record.contains(" flow_end=idle "), "{record}");
    let time = Duration::from_millis(field(&record, "time_ms")?.parse()?);
    ensure!(time >= Duration::from_secs(8), "{record}");
    // Nobody renumbers what its ends say, and neither knows what the other means.
    (&silent.client).write_all(b"?")?;
    is_reset(&silent.client)?;
    carry(&talking.server, &talking.client, b"and goes on")?;
    ensure!(records(&gateway).len() == 1, "{:?}", records(&gateway));
    Ok(())
}

#[test]
fn a_session_that_ends_while_the_proxy_hangs_leaves_its_record_all_the_same() -> anyhow::Result<()> {
    let lab = Lab::new()?;
    echo(&lab, Family::V4.smtp())?;
    let gateway = Gateway::start(&lab, &settings("preserve"))?;
    let stream = started(&lab, Family::V4.smtp())?;
    wait_until_direct(&lab, &stream)?;
    let hung = gateway.proxy()?;
    stream.shutdown(Shutdown::Write)?;
    ensure!((&stream).read(&mut [0])? == 0);
    // The flow is swept three seconds after its end, to a proxy that is found dead a second later.
    thread::sleep(Duration::from_millis(2_400));
    kill(hung, Signal::SIGSTOP)?;
    wait::until(PATIENCE, "another proxy", || Ok(gateway.proxy().ok().filter(|pid| *pid != hung).map(drop)))?;
    wait::until(Duration::from_secs(15), "the record", || Ok((records(&gateway).len() == 1).then_some(())))
        .with_context(|| gateway.log())?;
    ensure!(records(&gateway)[0].contains("end=client"), "{:?}", records(&gateway));
    Ok(())
}
