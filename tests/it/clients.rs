//! What the kernel counts of clients, and what becomes of those that go beyond their limits.

mod fan_out;
mod stopped;

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::time::Duration;

use ::gateway::ipc::client::{ClientList, ClientView};
use anyhow::{Context as _, ensure};
use gateway_tests::gateway::{self, Gateway, Settings};
use gateway_tests::lab::{Family, Lab};
use gateway_tests::{process, wait};

use crate::bench::from;
use crate::direct::{bulk, echo, ping, started, wait_until_direct};

const PATIENCE: Duration = Duration::from_secs(60);

fn settings(engine: &'static str, clients: &[(&'static str, &'static str)]) -> Settings {
    let mut settings = Settings { splice: vec![("engine", engine)], ..Settings::default() };
    settings.clients = clients.to_vec();
    // So long that hardly a test sees the end of one.
    settings.clients.push(("period", "48h"));
    settings
}

fn list(gateway: &Gateway) -> anyhow::Result<ClientList> {
    let mut command = std::process::Command::new(gateway::binary()?);
    command.args(["clients", "--json", "--socket"]).arg(gateway.control());
    Ok(serde_json::from_str(&process::done(&mut command)?)?)
}

fn client(gateway: &Gateway, name: &str) -> anyhow::Result<ClientView> {
    let list = list(gateway)?;
    list.clients.iter().find(|client| client.name() == name).cloned().with_context(|| format!("{list:?}"))
}

fn greeted(mut stream: &TcpStream) -> anyhow::Result<String> {
    let mut buffer = [0; 512];
    let octets = stream.read(&mut buffer)?;
    Ok(String::from_utf8_lossy(&buffer[..octets]).into_owned())
}

#[test]
fn sessions_octets_and_destinations_are_counted_while_they_are_open_and_after() -> anyhow::Result<()> {
    let lab = Lab::new()?;
    for family in [Family::V4, Family::V6] {
        echo(&lab, family.smtp())?;
        echo(&lab, family.second_smtp())?;
    }
    for engine in ["splice", "handoff"] {
        let mut gateway = Gateway::start(&lab, &settings(engine, &[]))?;
        for (family, name) in [(Family::V4, "192.0.2.2"), (Family::V6, "2001:db8:1::/64")] {
            let first = started(&lab, family.smtp())?;
            let second = started(&lab, family.second_smtp())?;
            // A server's reply reaches its client before the kernel knows that nobody reads any more.
            let counted = wait::until(PATIENCE, "two open sessions", || {
                let counted = client(&gateway, name)?;
                Ok((counted.open == 2).then_some(counted))
            })?;
            ensure!(counted.current.sessions == 2, "{engine}: {counted:?}");
            ensure!(counted.current.destinations == 2 && counted.current.syns == 2, "{counted:?}");
            if engine == "handoff" {
                ping(&first, 1)?;
                first.set_nodelay(true)?;
            }
            bulk(&first, 1_000_000)?;
            let counted = client(&gateway, name)?;
            let (up, down) = (counted.current.from_client, counted.current.from_server);
            ensure!((1_000_000..1_500_000).contains(&up), "{engine}: {counted:?}");
            ensure!((1_000_000..1_500_000).contains(&down), "{engine}: {counted:?}");
            drop((first, second));
            wait::until(PATIENCE, "no open session", || {
                Ok((client(&gateway, name)?.open == 0).then_some(()))
            })?;
            let closed = client(&gateway, name)?;
            ensure!(closed.current.sessions == 2 && closed.sessions == 2, "{closed:?}");
        }
        gateway.stop()?;
        gateway.daemon().forget_log()?;
    }
    Ok(())
}

#[test]
fn a_handed_off_session_is_open_and_counted_without_its_sockets() -> anyhow::Result<()> {
    let lab = Lab::new()?;
    echo(&lab, Family::V4.smtp())?;
    let gateway = Gateway::start(&lab, &settings("handoff", &[]))?;
    let stream = started(&lab, Family::V4.smtp())?;
    wait_until_direct(&lab, &stream)?;
    let before = client(&gateway, "192.0.2.2")?.current;
    bulk(&stream, 2_000_000)?;
    // Longer than the proxy takes to tell what is open.
    std::thread::sleep(Duration::from_secs(5));
    let counted = client(&gateway, "192.0.2.2")?;
    ensure!(counted.open == 1, "{counted:?}");
    let up = counted.current.from_client - before.from_client;
    let down = counted.current.from_server - before.from_server;
    ensure!((2_000_000..2_500_000).contains(&up) && (2_000_000..2_500_000).contains(&down), "{counted:?}");
    drop(stream);
    wait::until(PATIENCE, "no open session", || Ok((client(&gateway, "192.0.2.2")?.open == 0).then_some(())))
}

#[test]
fn connections_that_servers_refuse_are_counted_for_the_client() -> anyhow::Result<()> {
    let lab = Lab::new()?;
    let gateway = Gateway::start(&lab, &settings("splice", &[]))?;
    for _ in 0..3 {
        let stream = from(&lab, Family::V4.client(), Family::V4.smtp())?;
        ensure!(greeted(&stream)?.starts_with("421"));
    }
    wait::until(PATIENCE, "three failures", || {
        Ok((client(&gateway, "192.0.2.2")?.current.failed == 3).then_some(()))
    })
}

#[test]
fn more_sessions_or_destinations_than_allowed_are_not_opened_and_others_are() -> anyhow::Result<()> {
    let lab = Lab::new()?;
    lab.client().ip("address add 192.0.2.9/24 dev eth0")?;
    let (mine, other) = (Family::V4.client(), "192.0.2.9".parse()?);
    let server = Family::V4.smtp();
    for address in [server, Family::V4.second_smtp()] {
        echo(&lab, address)?;
    }
    for (limits, allowed) in [("{open-sessions: 2}", 2), ("{sessions: 3}", 3)] {
        let mut gateway = Gateway::start(&lab, &settings("splice", &[("limits", limits)]))?;
        let open: Vec<_> = (0..allowed).map(|_| from(&lab, mine, server)).collect::<Result<_, _>>()?;
        for stream in &open {
            ensure!(greeted(stream)?.starts_with("220"));
        }
        ensure!(from(&lab, mine, server).is_err(), "{limits}: one session too many");
        let stream = from(&lab, other, server).context("another client")?;
        ensure!(greeted(&stream)?.starts_with("220"));
        let word = limits.trim_matches('{').split(':').next().context("a limit")?.to_owned();
        ensure!(client(&gateway, "192.0.2.2")?.current.excess == [word]);
        drop((open, stream));
        if allowed == 2 {
            wait::until(PATIENCE, "room for a session", || Ok(from(&lab, mine, server).ok().map(drop)))?;
        }
        gateway.stop()?;
        gateway.daemon().forget_log()?;
    }
    let gateway = Gateway::start(&lab, &settings("splice", &[("limits", "{destinations: 1}")]))?;
    for _ in 0..3 {
        drop(from(&lab, mine, server)?);
    }
    ensure!(from(&lab, mine, Family::V4.second_smtp()).is_err(), "one destination too many");
    drop(from(&lab, other, Family::V4.second_smtp())?);
    drop(from(&lab, mine, server)?);
    gateway.write_settings(&settings("splice", &[("limits", "{destinations: 2}")]))?;
    gateway.hang_up()?;
    gateway.wait_for_log("configuration is in force")?;
    drop(from(&lab, mine, Family::V4.second_smtp()).context("the limit is another one")?);
    Ok(())
}

#[test]
fn a_network_of_its_own_limits_or_none_and_addresses_of_one_prefix_are_one_client() -> anyhow::Result<()> {
    let lab = Lab::new()?;
    let server = Family::V6.smtp();
    echo(&lab, server)?;
    lab.client().ip("address add 2001:db8:1::9/64 dev eth0 nodad")?;
    let networks = "[{client: ['2001:db8:1::/64'], limits: {sessions: 2}}]";
    let mut gateway = Gateway::start(&lab, &settings("splice", &[("networks", networks)]))?;
    let (one, two) = (Family::V6.client(), "2001:db8:1::9".parse()?);
    drop(from(&lab, one, server)?);
    drop(from(&lab, two, server)?);
    ensure!(from(&lab, one, server).is_err() && from(&lab, two, server).is_err(), "a third session");
    let exempt = [("limits", "{sessions: 1}"), ("networks", "[{client: ['2001:db8:1::/64']}]")];
    gateway.restart(&lab, &settings("splice", &exempt))?;
    for _ in 0..5 {
        drop(from(&lab, one, server)?);
    }
    Ok(())
}

#[test]
fn addresses_of_a_configured_prefix_are_one_client_and_the_next_period_lets_it_in_again() -> anyhow::Result<()>
{
    let lab = Lab::new()?;
    let server = Family::V4.smtp();
    echo(&lab, server)?;
    lab.client().ip("address add 192.0.2.9/24 dev eth0")?;
    let clients =
        vec![("ipv4-prefix", "24"), ("limits", "{sessions: 2}"), ("on-excess", "reset"), ("period", "5s")];
    let splice = vec![("engine", "splice")];
    let gateway = Gateway::start(&lab, &Settings { clients, splice, ..Settings::default() })?;
    let sources = [Family::V4.client(), "192.0.2.9".parse()?];
    for round in 0..2 {
        let mut turns = sources.into_iter().cycle();
        let mut next = || from(&lab, turns.next().context("endless")?, server);
        // It may be the end of a period.
        wait::until(PATIENCE, "a session too many", || Ok(next().err().map(drop)))?;
        wait::until(PATIENCE, "the next period", || Ok(next().ok().map(drop)))
            .with_context(|| format!("round {round}"))?;
    }
    let list = list(&gateway)?;
    let names: Vec<_> = list.clients.iter().map(ClientView::name).collect();
    ensure!(names == ["192.0.2.0/24"], "{names:?}");
    Ok(())
}

#[test]
fn a_rule_takes_what_its_client_has_reached_into_account() -> anyhow::Result<()> {
    let lab = Lab::new()?;
    let (mine, other) = (Family::V4.client(), "192.0.2.9".parse()?);
    lab.client().ip("address add 192.0.2.9/24 dev eth0")?;
    for server in [Family::V4.smtp(), Family::V4.second_smtp()] {
        echo(&lab, server)?;
    }
    let mut settings = settings("splice", &[]);
    settings.lanes = vec!["{client-reached: {destinations: 2, syns: 3}, lane: reject}"];
    let _gateway = Gateway::start(&lab, &settings)?;
    for (client, server, reply) in [
        (mine, Family::V4.smtp(), "220"),
        (mine, Family::V4.second_smtp(), "220"),
        (mine, Family::V4.smtp(), "554"),
        (other, Family::V4.smtp(), "220"),
        (other, Family::V4.smtp(), "220"),
        (other, Family::V4.smtp(), "220"),
    ] {
        let greeting = greeted(&from(&lab, client, server)?)?;
        ensure!(greeting.starts_with(reply), "{client} to {server}: {greeting}");
    }
    Ok(())
}

#[test]
fn a_client_over_its_limit_is_refused_with_a_reply_where_that_is_wanted() -> anyhow::Result<()> {
    let lab = Lab::new()?;
    let server = Family::V4.smtp();
    echo(&lab, server)?;
    let refuse = [("limits", "{sessions: 1}"), ("on-excess", "refuse")];
    let _gateway = Gateway::start(&lab, &settings("splice", &refuse))?;
    let first = from(&lab, Family::V4.client(), server)?;
    ensure!(greeted(&first)?.starts_with("220"));
    let second = from(&lab, Family::V4.client(), server)?;
    let reply = greeted(&second)?;
    ensure!(reply.starts_with("421 4.7.0"), "{reply}");
    Ok(())
}

#[test]
fn a_client_over_its_limit_is_reset_at_once_where_that_is_wanted() -> anyhow::Result<()> {
    let lab = Lab::new()?;
    let reset = [("limits", "{sessions: 1}"), ("on-excess", "reset")];
    let _gateway = Gateway::start(&lab, &settings("splice", &reset))?;
    for family in [Family::V4, Family::V6] {
        echo(&lab, family.smtp())?;
        let first = from(&lab, family.client(), family.smtp())?;
        ensure!(greeted(&first)?.starts_with("220"));
        // A SYN that is dropped is sent again until the client's patience ends.
        let second = from(&lab, family.client(), family.smtp()).map(drop);
        let error = second.err().context("one session too many")?;
        let refused = error.downcast_ref::<std::io::Error>().map(std::io::Error::kind);
        ensure!(refused == Some(std::io::ErrorKind::ConnectionRefused), "{error:#}");
    }
    Ok(())
}

/// Writes until nothing passes any more.
fn exhaust(mut stream: &TcpStream) -> anyhow::Result<()> {
    stream.set_write_timeout(Some(Duration::from_secs(2)))?;
    stream.set_read_timeout(Some(Duration::from_secs(2)))?;
    let text = [1; 16_384];
    let mut answer = [0; 16_384];
    for _ in 0..200 {
        if stream.write_all(&text).is_err() || stream.read_exact(&mut answer).is_err() {
            return Ok(());
        }
    }
    anyhow::bail!("3 MB passed")
}

#[test]
fn a_transfer_beyond_the_limit_of_octets_stops_in_both_directions_and_others_go_on() -> anyhow::Result<()> {
    let server = Family::V4.smtp();
    let second = "[{client: [192.0.2.9]}]";
    let limits = [("limits", "{bytes: 1MiB}"), ("networks", second)];
    for engine in ["splice", "handoff"] {
        for on_excess in ["drop", "reset"] {
            // Accounts outlive a gateway.
            let lab = Lab::new()?;
            echo(&lab, server)?;
            let keys = [&limits[..], &[("on-excess", on_excess)]].concat();
            let gateway = Gateway::start(&lab, &settings(engine, &keys))?;
            let stream = started(&lab, server)?;
            if engine == "handoff" {
                wait_until_direct(&lab, &stream)?;
            }
            exhaust(&stream).with_context(|| format!("{engine} {on_excess}"))?;
            let counted = client(&gateway, "192.0.2.2")?;
            ensure!(counted.current.octets() < 1_400_000, "{engine} {on_excess}: {counted:?}");
            ensure!(counted.current.excess.contains(&"bytes".to_owned()), "{counted:?}");
            let mut octet = [0];
            if on_excess == "reset" {
                // A reset that was met while writing is told once; then reading ends at once.
                wait::until(PATIENCE, "a reset", || {
                    let reset = match (&stream).read(&mut octet) {
                        Ok(octets) => octets == 0,
                        Err(error) => error.kind() == std::io::ErrorKind::ConnectionReset,
                    };
                    Ok(reset.then_some(()))
                })
                .with_context(|| format!("{engine} {on_excess}"))?;
            } else {
                // The limit is another one: what was stopped goes on.
                let more = [("limits", "{bytes: 100MiB}"), ("on-excess", on_excess)];
                gateway.write_settings(&settings(engine, &more))?;
                gateway.hang_up()?;
                gateway.wait_for_log("configuration is in force")?;
                stream.set_read_timeout(Some(PATIENCE))?;
                (&stream).read_exact(&mut octet).with_context(|| format!("{engine} goes on"))?;
            }
        }
    }
    Ok(())
}

#[test]
fn a_message_that_is_inspected_is_not_cut() -> anyhow::Result<()> {
    let lab = Lab::new()?;
    let server = Family::V4.smtp();
    let listener = lab.server().enter(|| TcpListener::bind(server))??;
    let gateway = Gateway::start(&lab, &settings("splice", &[("limits", "{bytes: 100KiB}")]))?;
    let client_side = from(&lab, Family::V4.client(), server)?;
    let (server_side, _) = listener.accept()?;
    let says = |text: &str| (&server_side).write_all(text.as_bytes());
    says("220 server.example ESMTP\r\n")?;
    ensure!(greeted(&client_side)?.starts_with("220"));
    let mut taken = vec![0; 65_536];
    for (command, reply) in [
        ("EHLO client.example\r\n", "250 server.example\r\n"),
        ("MAIL FROM:<a@client.example>\r\n", "250 ok\r\n"),
        ("RCPT TO:<b@server.example>\r\n", "250 ok\r\n"),
        ("DATA\r\n", "354 go on\r\n"),
    ] {
        (&client_side).write_all(command.as_bytes())?;
        ensure!((&server_side).read(&mut taken)? > 0);
        says(reply)?;
        greeted(&client_side)?;
    }
    let text = [b"x".repeat(70), b"\r\n".to_vec()].concat().repeat(6_000);
    std::thread::scope(|scope| {
        let writer = scope.spawn(|| {
            (&client_side).write_all(&text)?;
            (&client_side).write_all(b".\r\n")
        });
        let mut all = Vec::new();
        while !all.ends_with(b"\r\n.\r\n") {
            let octets = (&server_side).read(&mut taken)?;
            ensure!(octets != 0, "cut after {} octets", all.len());
            all.extend_from_slice(&taken[..octets]);
        }
        writer.join().expect("does not panic")?;
        Ok(())
    })?;
    says("250 ok\r\n")?;
    ensure!(greeted(&client_side)?.starts_with("250"));
    ensure!(from(&lab, Family::V4.client(), server).is_err(), "another session");
    ensure!(client(&gateway, "192.0.2.2")?.current.excess.contains(&"bytes".to_owned()));
    Ok(())
}
