//! Real TLS that the kernel carries.

use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt as _;
use std::process::Stdio;
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use gateway_tests::gateway::Gateway;
use gateway_tests::lab::Lab;
use gateway_tests::{message, postfix, process, wait};

use super::{FAMILIES, PATIENCE, settings, sockets};
use crate::survive::{field, records};

#[test]
fn tls_with_a_real_server_is_handed_off_and_a_large_message_arrives() -> anyhow::Result<()> {
    let lab = Lab::new()?;
    let letter = lab.directory().join("letter.eml");
    let lines = [vec![b'x'; 60], b"\r\n".to_vec()].concat().repeat(LINES);
    fs::write(&letter, [message::infected("by the kernel").to_vec(), lines].concat())?;
    let gateway = Gateway::start(&lab, &settings("preserve"))?;
    for (place, family) in FAMILIES.into_iter().enumerate() {
        let folder = lab.directory().join(format!("{family:?}"));
        fs::create_dir(&folder)?;
        fs::set_permissions(&folder, fs::Permissions::from_mode(0o755))?;
        let server = family.second_smtp();
        let postfix = postfix::Postfix::start(lab.server(), server, &folder)?;
        talk_under_tls(&lab, server).with_context(|| format!("openssl, {family:?}"))?;

        let mut swaks = lab.client().command("swaks");
        swaks.args(["--server", &server.ip().to_string(), "--tls", "--helo", "client.example"]);
        swaks.args(["--from", "sender@client.example", "--to", "recipient@server.example"]);
        process::done(swaks.args(["--timeout", "300", "--data"]).arg(format!("@{}", letter.display())))?;
        wait::until(PATIENCE, "arrival of the message", || {
            Ok(postfix.has("by-the-kernel@client.example").then_some(()))
        })?;
        // Of this message nearly all octets were the kernel's.
        wait::until(PATIENCE, "record of the handed-off session", || {
            let large = |record: &String| {
                let octets = field(record, "from_client").ok()?.parse::<usize>().ok()?;
                Some(octets > 62 * LINES)
            };
            let number = records(&gateway).iter().filter(|record| large(record) == Some(true)).count();
            Ok((number == place + 1).then_some(()))
        })
        .with_context(|| gateway.log())?;
    }
    Ok(())
}

/// Lines of 62 octets of a message of 100 MB.
const LINES: usize = 1_700_000;

/// A session of `openssl s_client` that is kept open until it has no socket on the router, and ends with
/// QUIT.
fn talk_under_tls(lab: &Lab, server: SocketAddr) -> anyhow::Result<()> {
    let mut openssl = lab.client().command("openssl");
    openssl.args(["s_client", "-quiet", "-starttls", "smtp", "-connect", &server.to_string()]);
    let mut session = openssl.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn()?;
    let mut input = session.stdin.take().context("no standard input")?;
    let mut output = BufReader::new(session.stdout.take().context("no standard output")?);
    let mut ask = |command: &str| {
        input.write_all(command.as_bytes())?;
        let mut line = String::new();
        output.read_line(&mut line)?;
        anyhow::Ok(line)
    };
    wait::until(PATIENCE, "handoff of TLS", || {
        ask("NOOP\r\n")?;
        thread::sleep(Duration::from_millis(50));
        Ok((sockets(lab)? == 0).then_some(()))
    })?;
    let answer = ask("NOOP\r\n")?;
    ensure!(answer.starts_with("250"), "{answer}");
    let answer = ask("QUIT\r\n")?;
    ensure!(answer.starts_with("221"), "{answer}");
    ensure!(session.wait()?.success());
    Ok(())
}
