//! What an operator sees of a running gateway, and that strangers' octets do not reach his terminal.

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::Context as _;
use gateway_tests::client::Client;
use gateway_tests::gateway::{self, Settings};
use gateway_tests::lab::Family;
use gateway_tests::recorder::Manners;
use gateway_tests::wait;

use crate::bench::Bench;

/// Clears the screen and sets the title of a terminal that is shown it (CVE-2003-0063); the second
/// is one that gets past a check of control characters, because it is a letter of UTF-8 (CSI in C1).
const HOSTILE: [&str; 2] = ["x\x1b[2J\x1b]0;own\x07", "x\u{9b}2Jown"];

/// The gateway's log with addresses as they are.
fn with_addresses(mut settings: Settings) -> Settings {
    settings.log = vec![("addresses", "full")];
    settings
}

/// Runs a client command of the gateway; returns whether it succeeded and all it wrote.
fn ask(bench: &Bench, arguments: &[&str]) -> anyhow::Result<(bool, String)> {
    let mut command = Command::new(gateway::binary()?);
    command.args(arguments).arg("--socket").arg(bench.gateway.control()).stdin(Stdio::null());
    let output = command.output().context("cannot run the gateway's command")?;
    let written = [output.stdout, output.stderr].concat();
    Ok((output.status.success(), String::from_utf8(written)?))
}

/// Opens a session whose client gives both hostile names; the gateway keeps the second.
fn hostile_session(bench: &Bench) -> anyhow::Result<Client> {
    let mut client = Client::connect(bench.lab.client(), Family::V4.smtp())?;
    client.expect(220)?;
    let [refused, taken] = HOSTILE;
    client.send(format!("EHLO {refused}\r\n").as_bytes())?;
    client.expect(501)?;
    client.send(format!("EHLO {taken}\r\n").as_bytes())?;
    client.expect(250)?;
    Ok(client)
}

#[test]
fn an_open_session_is_listed_with_the_kernels_notes_and_ended_by_name() -> anyhow::Result<()> {
    let bench = Bench::with(with_addresses, Manners::default())?;
    let mut client = bench.up_to_data()?;
    client.send(b"Subject: half\r\n")?;
    let session = wait::until(Duration::from_secs(15), "the session in stage data", || {
        let (listed, list) = ask(&bench, &["sessions", "--json"])?;
        anyhow::ensure!(listed, "{list}");
        let list: serde_json::Value = serde_json::from_str(&list)?;
        let session = list["sessions"].get(0).cloned();
        Ok(session.filter(|session| session["stage"] == "data" && !session["facts"].is_null()))
    })?;
    assert_eq!(session["helo"], "client.example");
    assert_eq!(session["messages"], 1);
    assert_eq!(session["facts"]["interface"], gateway_tests::lab::LAN);
    let (_, status) = ask(&bench, &["status"])?;
    assert!(status.contains("1 open (1 data), 1 accepted"), "{status}");

    let id = session["id"].as_str().context("a session without a name")?;
    let (ended, said) = ask(&bench, &["sessions", "kill", id])?;
    assert!(ended, "{said}");
    client.expect(421)?;
    bench.gateway.wait_for_log(&format!("end=operator session={id}"))?;
    assert!(bench.server.messages().is_empty());
    let (again, said) = ask(&bench, &["sessions", "kill", id])?;
    assert!(!again && said.contains(&format!("no session {id} is open")), "{said}");
    Ok(())
}

/// Cases 151 and 152 of the attack cases.
#[test]
fn hostile_names_are_written_as_hex_and_never_used_as_a_format() -> anyhow::Result<()> {
    let bench = Bench::with(with_addresses, Manners::default())?;
    let mut client = hostile_session(&bench)?;
    for (line, code) in [("MAIL FROM:<a%n%s{}@b.test>", 250), ("RCPT TO:<r@c.test>", 250), ("DATA", 354)] {
        client.send(format!("{line}\r\n").as_bytes())?;
        client.expect(code)?;
    }
    client.send(b"Subject: named\r\n\r\ntext\r\n.\r\n")?;
    client.expect(250)?;
    let (_, list) = ask(&bench, &["sessions"])?;
    client.send(b"QUIT\r\n")?;
    client.expect(221)?;
    bench.gateway.wait_for_log("msg=session lane=inspect end=quit")?;
    let log = bench.gateway.log();
    assert!(log.contains(r#"helo="x\xc2\x9b2Jown""#), "{log}");
    assert!(log.contains("sender=a%n%s{}@b.test"), "{log}");
    assert!(list.contains(r"x\xc2\x9b2Jown"), "{list}");
    for text in [&log, &list] {
        assert!(text.bytes().all(|byte| matches!(byte, 0x20..=0x7e | b'\n')), "{text:?}");
    }
    Ok(())
}

/// Case 155 of the attack cases: the file's mode decides who looks, and only root changes things.
#[test]
fn another_user_looks_where_he_may_and_changes_nothing() -> anyhow::Result<()> {
    let bench = Bench::new()?;
    let socket = bench.gateway.control();
    assert_eq!(fs::metadata(&socket)?.permissions().mode() & 0o777, 0o660);
    // The folder the gateway was built in may be closed to others.
    let program = bench.lab.directory().join("gateway-for-others");
    fs::copy(gateway::binary()?, &program)?;
    let other = |words: &[&str]| -> anyhow::Result<(bool, String)> {
        let mut command = Command::new("setpriv");
        command.args(["--reuid=daemon", "--regid=daemon", "--clear-groups"]);
        command.arg(&program).args(words).arg("--socket").arg(&socket);
        let output = command.output()?;
        let said = [output.stdout, output.stderr].concat();
        Ok((output.status.success(), String::from_utf8(said)?))
    };
    let (done, said) = other(&["status"])?;
    assert!(!done && said.contains("no permission"), "{said}");

    fs::set_permissions(&socket, fs::Permissions::from_mode(0o666))?;
    let _session = bench.greeted()?;
    let (done, said) = other(&["status"])?;
    assert!(done && said.contains("1 open"), "{said}");
    let (_, sessions) = other(&["sessions", "--json"])?;
    let sessions: serde_json::Value = serde_json::from_str(&sessions)?;
    let id = sessions["sessions"][0]["id"].as_str().context("no session is listed")?;
    for words in [&["sessions", "kill", id][..], &["reload"]] {
        let (done, said) = other(words)?;
        assert!(!done && said.contains("may look but not change things"), "{words:?}: {said}");
    }
    assert!(other(&["status"])?.1.contains("1 open"), "the session goes on");
    Ok(())
}

/// The console on a real terminal of 120 columns, and every octet it writes there.
#[test]
fn the_console_shows_and_ends_a_session_and_gives_the_terminal_back() -> anyhow::Result<()> {
    let bench = Bench::with(with_addresses, Manners::default())?;
    let mut client = hostile_session(&bench)?;
    let (gateway, socket) = (gateway::binary()?, bench.gateway.control());
    let shown = format!("stty rows 40 cols 120; {} top --socket {}", gateway.display(), socket.display());
    let mut terminal = Command::new("script")
        .args(["--quiet", "--return", "--command", &shown, "/dev/null"])
        .env("TERM", "xterm-256color")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .context("cannot run script(1) of bsdutils")?;
    let mut keys = terminal.stdin.take().context("no way to press keys")?;
    for key in ["2", "K", "y"] {
        std::thread::sleep(Duration::from_millis(2_500));
        keys.write_all(key.as_bytes())?;
    }
    client.expect(421)?;
    bench.gateway.wait_for_log("end=operator")?;
    keys.write_all(b"q")?;
    let output = terminal.wait_with_output()?;
    let written = String::from_utf8(output.stdout)?;
    assert!(output.status.success(), "{written}");
    assert!(written.contains("gateway.example"), "the gateway's name is on the screen");
    assert!(written.contains("clamd"), "the scanner is on the screen");
    assert!(written.contains(r"x\xc2\x9b2Jown"), "the client's name is on the screen");
    assert!(!HOSTILE.iter().any(|hostile| written.contains(hostile)), "{written:?}");
    assert!(!written.contains('\u{9b}') && !written.contains("\x1b]0;"), "{written:?}");
    let (enter, leave) = (written.find("\x1b[?1049h"), written.rfind("\x1b[?1049l"));
    assert!(enter.is_some() && leave > enter, "the screen from before comes back");
    Ok(())
}
