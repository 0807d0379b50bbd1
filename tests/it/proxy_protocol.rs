//! The PROXY protocol: load balancers in front of the gateway, and strangers who speak it.

use std::net::SocketAddr;
use std::time::Duration;

use gateway_tests::client::Client;
use gateway_tests::gateway::{Gateway, Settings};
use gateway_tests::haproxy::Haproxy;
use gateway_tests::lab::{Family, Lab};
use gateway_tests::message;
use gateway_tests::recorder::{Manners, Recorder};

const GATEWAY: &str = "198.51.100.1:10025";
/// A client that only the header knows.
const BEHIND: &str = "203.0.113.9";

/// A gateway that tells servers who their clients are.
fn settings(origin: &'static str) -> Settings {
    Settings {
        origin,
        source_address: "gateway",
        inspect: vec![("early-talk", "hold")],
        more: "nat-header: { type: ip-only }\n".to_owned(),
        ..Settings::default()
    }
}

/// A gateway that takes destinations from headers of the client's machine.
fn taking_headers() -> Settings {
    settings("proxy\nlisten: ['198.51.100.1:10025']\nproxy-protocol: { trusted: [192.0.2.2], deadline: 2s }")
}

fn gateway() -> anyhow::Result<SocketAddr> {
    Ok(GATEWAY.parse()?)
}

/// The header of version 1 or 2 for a flow from [`BEHIND`] to `destination`.
fn header(version: u8, destination: SocketAddr) -> anyhow::Result<Vec<u8>> {
    if version == 1 {
        let (ip, port) = (destination.ip(), destination.port());
        return Ok(format!("PROXY TCP4 {BEHIND} {ip} 40000 {port}\r\n").into_bytes());
    }
    let SocketAddr::V4(destination) = destination else { anyhow::bail!("IPv4 only") };
    let source: std::net::Ipv4Addr = BEHIND.parse()?;
    Ok([
        b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x11".as_slice(),
        &source.octets(),
        &destination.ip().octets(),
        &40_000_u16.to_be_bytes(),
        &destination.port().to_be_bytes(),
        // A value that is skipped: two octets of a type for private use.
        &[0xe0, 0, 2, 7, 7],
    ]
    .concat())
}

fn deliver(client: &mut Client) -> anyhow::Result<()> {
    client.expect(220)?;
    client.send(b"EHLO client.example\r\n")?;
    client.expect(250)?;
    client.begin_data()?;
    client.send(&message::clean("through a load balancer"))?;
    client.send(message::END)?;
    client.expect(250)?;
    client.send(b"QUIT\r\n")?;
    client.expect(221)?;
    Ok(())
}

fn seen(server: &Recorder) -> Vec<String> {
    server.messages().iter().map(|message| String::from_utf8_lossy(message).into_owned()).collect()
}

#[test]
fn haproxy_tells_who_the_client_is() -> anyhow::Result<()> {
    for options in ["send-proxy", "send-proxy-v2 proxy-v2-options crc32c,unique-id"] {
        let lab = Lab::new()?;
        let server = Recorder::start(lab.server(), Family::V4.smtp(), Manners::default())?;
        let _gateway = Gateway::start(
            &lab,
            &settings(
                "fixed\nfixed-server: 198.51.100.2:25\nlisten: ['198.51.100.1:10025']\n\
                 proxy-protocol: { trusted: [198.51.100.1] }",
            ),
        )?;
        let front = SocketAddr::new("192.0.2.1".parse()?, 25);
        let _haproxy = Haproxy::start(lab.router(), front, gateway()?, options, lab.directory())?;
        deliver(&mut Client::connect(lab.client(), front)?)?;
        let messages = seen(&server);
        assert!(messages[0].starts_with("X-Nat-Received: 192.0.2.2\r\n"), "{options}: {messages:?}");
        // Whoever is not trusted sends no header, and is taken for what its socket says.
        deliver(&mut Client::connect(lab.client(), gateway()?)?)?;
        let messages = seen(&server);
        assert!(messages[1].starts_with("X-Nat-Received: 192.0.2.2\r\n"), "{options}: {messages:?}");
    }
    Ok(())
}

#[test]
fn haproxy_checks_the_gateway_in_its_own_name() -> anyhow::Result<()> {
    let lab = Lab::new()?;
    let server = Recorder::start(lab.server(), Family::V4.smtp(), Manners::default())?;
    let _gateway = Gateway::start(
        &lab,
        &settings(
            "proxy\nfixed-server: 198.51.100.2:25\nlisten: ['198.51.100.1:10025']\n\
             proxy-protocol: { trusted: [198.51.100.1] }",
        ),
    )?;
    let front = SocketAddr::new("192.0.2.1".parse()?, 25);
    let options = "send-proxy-v2 check check-send-proxy inter 200ms";
    let _haproxy = Haproxy::start(lab.router(), front, gateway()?, options, lab.directory())?;
    gateway_tests::wait::until(Duration::from_secs(20), "a check of HAProxy at the server", || {
        let checks =
            server.connections().iter().filter(|seen| seen.commands("EHLO check.example") == 1).count();
        Ok((checks > 0).then_some(()))
    })
}

#[test]
fn a_header_names_client_and_destination_however_it_is_cut() -> anyhow::Result<()> {
    let lab = Lab::new()?;
    let server = Recorder::start(lab.server(), Family::V4.second_smtp(), Manners::default())?;
    let _gateway = Gateway::start(&lab, &taking_headers())?;
    for version in [1, 2] {
        let header = header(version, Family::V4.second_smtp())?;
        let mut client = Client::connect(lab.client(), gateway()?)?;
        client.send_cut(&header, &[1, 5, 13, 17], Duration::from_millis(30))?;
        deliver(&mut client)?;
        // All in one segment, with what the client says too early behind it.
        let mut client = Client::connect(lab.client(), gateway()?)?;
        client.send(&[&header[..], b"EHLO early.example\r\n"].concat())?;
        client.expect(220)?;
        client.expect(250)?;
        client.begin_data()?;
    }
    let messages = seen(&server);
    assert_eq!(messages.len(), 2);
    for message in messages {
        assert!(message.starts_with(&format!("X-Nat-Received: {BEHIND}\r\n")), "{message}");
    }
    Ok(())
}

#[test]
fn strangers_broken_headers_and_silence_are_cut_off() -> anyhow::Result<()> {
    let lab = Lab::new()?;
    let server = Recorder::start(lab.server(), Family::V4.smtp(), Manners::default())?;
    let gateway = Gateway::start(&lab, &taking_headers())?;
    let at = self::gateway()?;
    let good = header(2, Family::V4.smtp())?;
    let mut wrong = good.clone();
    wrong[12] = 0x31;
    for octets in
        [&b"EHLO client.example\r\n"[..], b"PROXY TCP4 192.0.2.9\r\n", &wrong, b"PROXY UNKNOWN\r\n", b"PRO"]
    {
        let mut client = Client::connect(lab.client(), at)?;
        client.send(octets)?;
        assert_eq!(client.rest(Duration::from_secs(20))?, b"", "{octets:?}");
    }
    let mut stranger = Client::connect(lab.server(), at)?;
    // It may be cut off before it has sent anything.
    stranger.send(&good).ok();
    assert_eq!(stranger.rest(Duration::from_secs(20))?, b"");
    gateway.wait_for_log("kind=destination")?;
    // Its own listener, which nobody can have meant.
    let mut client = Client::connect(lab.client(), at)?;
    client.send(&header(1, at)?)?;
    assert_eq!(client.rest(Duration::from_secs(20))?, b"");
    assert_eq!(server.connections().len(), 0);
    Ok(())
}

#[test]
fn a_load_balancer_that_is_its_own_destination_makes_no_loop() -> anyhow::Result<()> {
    let lab = Lab::new()?;
    let gateway = Gateway::start(
        &lab,
        &settings("proxy\nlisten: ['198.51.100.1:10025']\nproxy-protocol: { trusted: [198.51.100.1] }"),
    )?;
    let front = SocketAddr::new("192.0.2.1".parse()?, 25);
    let _haproxy = Haproxy::start(lab.router(), front, self::gateway()?, "send-proxy", lab.directory())?;
    let mut client = Client::connect(lab.client(), front)?;
    client.expect(421)?;
    gateway.wait_for_log("came back to it")?;
    Ok(())
}
