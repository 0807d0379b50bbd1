//! A changed configuration takes effect without a session being lost; a bad one does not.

use std::io::Read as _;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context as _, ensure};
use gateway_tests::client::Client;
use gateway_tests::gateway::{Gateway, Settings};
use gateway_tests::lab::{Family, Lab};
use gateway_tests::nsd::{Nsd, Zone};
use gateway_tests::recorder::Manners;
use gateway_tests::sink::Sink;
use gateway_tests::{message, wait};

use nix::sys::signal::{Signal, kill};

use crate::bench::Bench;
use crate::direct::{bulk, echo, greeted, ping, say_hello, settings, start_tls, started, wait_until_direct};
use crate::router::connect_again;
use crate::survive::{field, records, shown};

/// Sends EICAR; the reply's code shows whether anybody scans.
fn eicar_reply(bench: &Bench) -> anyhow::Result<u16> {
    let mut client = bench.up_to_data()?;
    client.send(&message::infected("reload"))?;
    client.send(message::END)?;
    Ok(client.reply()?.code)
}

#[test]
fn a_bad_file_keeps_the_old_configuration_and_says_why() -> anyhow::Result<()> {
    let bench = Bench::new()?;
    bench.gateway.write_config("scan:\n  clamd: nonsense\nno-such-key: 1\n")?;
    let (reloaded, said) = bench.gateway.control_command("reload")?;
    assert!(!reloaded, "{said}");
    assert!(said.contains("no-such-key"), "{said}");
    assert_eq!(eicar_reply(&bench)?, 550);
    bench.gateway.hang_up()?;
    bench.gateway.wait_for_log("no-such-key")?;
    assert_eq!(eicar_reply(&bench)?, 550);
    Ok(())
}

#[test]
fn a_good_file_takes_effect_and_open_sessions_go_on() -> anyhow::Result<()> {
    let bench = Bench::new()?;
    let mut open = bench.up_to_data()?;
    open.send(b"Subject: open\r\n\r\nfirst half\r\n")?;
    bench.gateway.write_settings(&Settings::default())?;
    let (reloaded, said) = bench.gateway.control_command("reload")?;
    assert!(reloaded, "{said}");
    // The new configuration has no scanner.
    assert_eq!(eicar_reply(&bench)?, 250);
    open.send(b"second half\r\n.\r\n")?;
    open.expect(250)?;
    assert_eq!(bench.server.messages().len(), 2);
    Ok(())
}

#[test]
fn no_connection_is_lost_while_the_configuration_is_reloaded_again_and_again() -> anyhow::Result<()> {
    let bench = Bench::new()?;
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| -> anyhow::Result<()> {
        let clients = scope.spawn(|| -> anyhow::Result<usize> {
            let mut greeted = 0;
            while !over.load(Ordering::SeqCst) {
                let mut client = Client::connect(bench.lab.client(), Family::V4.smtp())?;
                client.expect(220)?;
                client.send(b"QUIT\r\n")?;
                client.expect(221)?;
                greeted += 1;
            }
            Ok(greeted)
        });
        let reloads = (0..10).try_for_each(|_| -> anyhow::Result<()> {
            let (reloaded, said) = bench.gateway.control_command("reload")?;
            anyhow::ensure!(reloaded, "{said}");
            Ok(())
        });
        over.store(true, Ordering::SeqCst);
        let greeted = clients.join().expect("does not panic")?;
        reloads?;
        assert!(greeted > 0);
        Ok(())
    })
}

#[test]
fn what_a_reload_changes_counts_for_sessions_that_begin_behind_it() -> anyhow::Result<()> {
    let mut manners = Manners::default();
    manners.keywords.push("STARTTLS".to_owned());
    let bench = Bench::with(|settings| settings, manners)?;
    let mut before = bench.greeted()?;
    let changed = Settings {
        limits: vec![("message-size", "64KiB")],
        inspect: vec![("starttls", "forbid")],
        more: "messages: { virus-found: Infected }\nnat-header: { type: ip-only, name: X-Reloaded }\n\
               filters: { rcpt: { reject: ['^trap@'] } }\n"
            .to_owned(),
        ..Settings::scanning(bench.clamd.address())
    };
    bench.gateway.write_settings(&changed)?;
    let file = bench.lab.directory().join("gateway/gateway.yaml");
    let yaml = std::fs::read_to_string(file)?;
    bench.gateway.write_config(&yaml.replace("name: gateway.example", "name: renamed.example"))?;
    let (reloaded, said) = bench.gateway.control_command("reload")?;
    assert!(reloaded, "{said}");
    let (_, status) = bench.gateway.control_command_with("status", &["--json"])?;
    assert!(status.contains("\"renamed.example\""), "{status}");

    let (mut client, keywords) = Client::greeted(bench.lab.client(), Family::V4.smtp())?;
    assert!(!keywords.contains("STARTTLS"), "{keywords}");
    let ask = |client: &mut Client, command: &str, code| -> anyhow::Result<()> {
        client.send(format!("{command}\r\n").as_bytes())?;
        client.expect(code).map(drop)
    };
    ask(&mut client, "MAIL FROM:<a@client.example> SIZE=90000", 552)?;
    client.begin_data()?;
    client.send(&message::clean("behind it"))?;
    client.send(message::END)?;
    client.expect(250)?;
    client.begin_data()?;
    client.send(&message::infected("behind it"))?;
    client.send(message::END)?;
    let reply = client.expect(550)?;
    assert!(reply.contains("5.7.1 renamed.example Infected ("), "{reply}");

    let (mut client, _) = Client::greeted(bench.lab.client(), Family::V4.smtp())?;
    ask(&mut client, "MAIL FROM:<a@client.example>", 250)?;
    ask(&mut client, "RCPT TO:<trap@server.example>", 550)?;

    // One that was there goes on by the rules that it began with.
    ask(&mut before, "MAIL FROM:<a@client.example> SIZE=90000", 250)?;
    ask(&mut before, "RCPT TO:<trap@server.example>", 250)?;
    let messages = bench.server.messages();
    assert_eq!(messages.len(), 1);
    assert!(messages[0].starts_with(b"X-Reloaded: 192.0.2.2\r\n"), "no header");
    Ok(())
}

/// How long anything may take.
const SOON: Duration = Duration::from_secs(90);

/// The domain to which a relaying gateway sends everything.
const ZONES: [Zone; 1] = [Zone { name: "relay.example", records: Some("@ MX 10 mx\nmx A 198.51.100.2") }];

/// A gateway that relays, asks the DNS at this port of the server's host, and tries again at once.
fn relaying(lab: &Lab, port: u16) -> Settings {
    let more = format!(
        "queue:\n  directory: {}\n  min-free: 1MiB\nrelay: {{relay-host: relay.example}}\n\
         delivery:\n  schedule: {{minimal-backoff-time: 1s, maximal-backoff-time: 1s}}\n\
         dns: {{servers: ['{}'], timeout: 2s, attempts: 2}}\n",
        lab.directory().join("gateway/queue").display(),
        SocketAddr::new(Family::V4.server(), port),
    );
    let lanes = vec!["{client: [192.0.2.0/24], lane: relay, target: relay-host}"];
    Settings { more, lanes, log: vec![("addresses", "full")], ..Settings::default() }
}

#[test]
fn mail_in_the_queue_goes_where_the_name_servers_of_the_new_configuration_say() -> anyhow::Result<()> {
    let lab = Lab::new()?;
    let _nsd =
        Nsd::start(lab.server(), SocketAddr::new(Family::V4.server(), 5_353), lab.directory(), &ZONES)?;
    let sink = Sink::start(&lab, Family::V4)?;
    // Nobody answers there.
    let gateway = Gateway::start(&lab, &relaying(&lab, 5_354))?;
    let mut client = Client::up_to_data(lab.client(), Family::V4.smtp())?;
    client.send(&message::clean("looked up anew"))?;
    client.send(message::END)?;
    client.expect(250)?;
    let deferred = wait::until(SOON, "a delivery that fails", || {
        let log = gateway.log();
        Ok(log.lines().find(|line| line.contains("status=deferred")).map(ToOwned::to_owned))
    })?;
    ensure!(deferred.contains("4.4.3"), "{deferred}");
    assert!(sink.messages()?.is_empty());
    gateway.write_settings(&relaying(&lab, 5_353))?;
    let (reloaded, said) = gateway.control_command("reload")?;
    ensure!(reloaded, "{said}");
    sink.wait_for("looked up anew")?;
    Ok(())
}

#[test]
fn another_spool_folder_takes_nothing_from_the_records_of_sessions_in_the_kernel() -> anyhow::Result<()> {
    let lab = Lab::new()?;
    echo(&lab, Family::V4.smtp())?;
    // In the sandbox no reload could name a new folder.
    let more = "process: { sandbox: off }\n".to_owned();
    let gateway = Gateway::start(&lab, &Settings { more, ..settings("preserve") })?;
    let stream = connect_again(lab.client(), (Family::V4.client(), 0).into(), Family::V4.smtp())?;
    greeted(&stream)?;
    start_tls(&stream)?;
    say_hello(&stream, "kept.example")?;
    wait_until_direct(&lab, &stream)?;
    let (id, _) = shown(&gateway)?;

    let file = lab.directory().join("gateway/gateway.yaml");
    let (old, new) = (gateway.spool(), lab.directory().join("gateway/another-spool"));
    let yaml = std::fs::read_to_string(file)?;
    let changed = yaml.replace(&old.display().to_string(), &new.display().to_string());
    ensure!(changed != yaml, "{yaml}");
    gateway.write_config(&changed)?;
    let (reloaded, said) = gateway.control_command("reload")?;
    ensure!(reloaded, "{said}");
    kill(gateway.proxy()?, Signal::SIGKILL)?;
    gateway.wait_for_log("the proxy process died")?;
    wait::until(SOON, "the session in the list of another process", || {
        Ok(gateway.control_command("sessions")?.1.contains(&id).then_some(()))
    })?;
    ping(&stream, 5)?;
    drop(stream);
    let record = wait::until(SOON, "its record", || Ok(records(&gateway).pop()))?;
    assert_eq!(field(&record, "session")?, id);
    ensure!(
        record.contains("helo=client.example") && record.contains("server_name=kept.example"),
        "{record}"
    );
    Ok(())
}

/// Whether a connection to this server is one of the gateway's sessions.
fn is_intercepted(gateway: &Gateway, lab: &Lab, server: SocketAddr) -> anyhow::Result<bool> {
    let stream = lab.client().enter(|| std::net::TcpStream::connect(server))??;
    let client = stream.local_addr()?.to_string();
    let mut greeting = [0; 3];
    (&stream).read_exact(&mut greeting)?;
    let (_, sessions) = gateway.control_command("sessions")?;
    Ok(sessions.contains(&client))
}

#[test]
fn a_session_in_the_kernel_goes_on_where_its_port_and_interface_are_given_up() -> anyhow::Result<()> {
    let lab = Lab::new()?;
    let server = SocketAddr::new(Family::V4.server(), 587);
    echo(&lab, server)?;
    let before = Settings { intercept: vec![("ports", "[25, 587]")], ..settings("gateway") };
    // The program is not needed on the servers' side any more, nor for this port.
    let behind = Settings { splice: vec![("engine", "splice")], ..settings("gateway") };
    for attach in ["tcx", "clsact"] {
        let with = |settings: &Settings| {
            let intercept = [settings.intercept.clone(), vec![("attach", attach)]].concat();
            Settings { intercept, ..settings.clone() }
        };
        let (before, behind) = (with(&before), with(&behind));
        let mut gateway = Gateway::start(&lab, &before)?;
        let stream = started(&lab, server)?;
        wait::until(Duration::from_secs(60), "handoff", || {
            ping(&stream, 7)?;
            std::thread::sleep(Duration::from_millis(20));
            let (_, status) = gateway.control_command("status")?;
            Ok(status.contains("handoffs   1 done").then_some(()))
        })?;
        gateway.write_settings(&behind)?;
        let (reloaded, said) = gateway.control_command("reload")?;
        ensure!(reloaded, "{said}");
        bulk(&stream, 1_000_000).context("behind a reload")?;
        // By then it was heard what the kernel carries.
        std::thread::sleep(Duration::from_secs(2));
        bulk(&stream, 1_000_000).context("once it is known what is carried")?;
        ensure!(is_intercepted(&gateway, &lab, server)?, "the port is given up too early");
        gateway.wait_for_log("lane=bypass")?;

        gateway.stop()?;
        gateway.daemon().forget_log()?;
        bulk(&stream, 1_000_000).context("without a gateway")?;
        let mut gateway = Gateway::start(&lab, &behind)?;
        bulk(&stream, 1_000_000).context("behind a start")?;
        std::thread::sleep(Duration::from_secs(1));
        bulk(&stream, 1_000_000).context("behind a sweep")?;
        let (id, _) = shown(&gateway)?;
        let (done, said) = gateway.control_command(&format!("sessions kill {id}"))?;
        ensure!(done, "{said}");
        wait::until(Duration::from_secs(60), "a reset", || Ok(ping(&stream, 1).is_err().then_some(())))?;
        gateway.wait_for_log("end=operator")?;
        wait::until(Duration::from_secs(60), "the end of interception", || {
            Ok((!is_intercepted(&gateway, &lab, server)?).then_some(()))
        })?;
        gateway.wait_for_log("msg=detached")?;
        gateway.stop()?;
        gateway.daemon().forget_log()?;
    }
    Ok(())
}
