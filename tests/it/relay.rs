//! The relay lane with real clients: what reads 250 is in the queue, whatever happens then.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use gateway::config::units::ByteCount;
use gateway::queue::{Envelope, Queue, Target};
use gateway_tests::clamd::Clamd;
use gateway_tests::client::Client;
use gateway_tests::gateway::{Gateway, Settings};
use gateway_tests::lab::{Family, Lab};
use gateway_tests::{message, postfix, process, wait};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sys::signal::{Signal, kill};
use nix::unistd::chown;

mod destinations;
mod notices;
mod wire;

const PATIENCE: Duration = Duration::from_secs(60);

/// Where mail would go from the queue: nobody listens there, so that it stays.
const NOWHERE: &str = "[198.51.100.3]:26";

/// A gateway that relays what the lab's client sends.
fn settings(lab: &Lab, more: &str) -> Settings {
    let queue = queue(lab);
    Settings {
        lanes: vec!["{client: [192.0.2.0/24], lane: relay, target: relay-host}"],
        more: format!(
            "queue:\n  directory: {}\n  min-free: 1MiB\nrelay:\n  relay-host: '{NOWHERE}'\n{more}",
            queue.display()
        ),
        ..Settings::default()
    }
}

fn queue(lab: &Lab) -> PathBuf {
    lab.directory().join("queue")
}

/// `swaks` with these arguments; what it said, and whether the message was accepted.
fn swaks(lab: &Lab, arguments: &[&str]) -> anyhow::Result<(bool, String)> {
    let mut swaks = lab.client().command("timeout");
    swaks.args(["60", "swaks", "--server", &Family::V4.server().to_string(), "--helo", "client.example"]);
    swaks.args(["--from", "sender@client.example", "--to", "recipient@server.example"]).args(arguments);
    let done = swaks.output()?;
    Ok((done.status.success(), String::from_utf8_lossy(&done.stdout).into_owned()))
}

/// What is in the queue that nobody has open.
fn contents(folder: &Path) -> anyhow::Result<Vec<(Envelope, String)>> {
    chown(folder, Some(nix::unistd::getuid()), None)?;
    let queue = Queue::open(folder, ByteCount::new(0))?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let mut found = Vec::new();
        for summary in queue.list(None, 100_000) {
            let stored = queue.read(summary.id).await?;
            let (mut reader, mut text) = (stored.content.reader(), Vec::new());
            while let Some(piece) = reader.next().await? {
                text.extend_from_slice(&piece);
            }
            found.push((stored.envelope, String::from_utf8_lossy(&text).into_owned()));
        }
        Ok(found)
    })
}

#[test]
fn a_message_that_reads_250_outlives_the_proxy() -> anyhow::Result<()> {
    let lab = Lab::new()?;
    let mut gateway = Gateway::start(&lab, &settings(&lab, ""))?;
    let (accepted, said) = swaks(&lab, &["--header", "Subject: first", "--body", "a line\n.a dot\nthe end"])?;
    ensure!(accepted && said.contains("queued as"), "{said}");
    // The text of another is larger than what is written together with others.
    let large = format!("Subject: large\r\n\r\n{}", "0123456789abcdef\r\n".repeat(60_000));
    let script = "import smtplib, sys\n\
                  mail = smtplib.SMTP(sys.argv[1], timeout=60, local_hostname='client.example')\n\
                  text = open(sys.argv[2], 'rb').read()\n\
                  refused = mail.sendmail('s@client.example', ['a@server.example', 'b@server.example'], text,\n\
                      mail_options=['BODY=8BITMIME', 'RET=HDRS', 'ENVID=QQ'], rcpt_options=['NOTIFY=NEVER'])\n\
                  assert not refused, refused\n\
                  mail.quit()\n";
    let file = lab.directory().join("large.eml");
    fs::write(&file, &large)?;
    let mut python = lab.client().command("python3");
    python.args(["-c", script, &Family::V4.server().to_string()]).arg(&file);
    process::done(&mut python)?;

    kill(gateway.proxy()?, Signal::SIGKILL)?;
    gateway.wait_for_log("messages found in the queue")?;
    gateway.stop()?;

    let found = contents(&queue(&lab))?;
    ensure!(found.len() == 2, "{} messages", found.len());
    let (envelope, text) = &found[0];
    assert_eq!(envelope.sender, "sender@client.example");
    assert_eq!(envelope.target, Target::Relay(NOWHERE.to_owned()));
    assert_eq!(envelope.submitter.as_ref().map(|who| who.address.ip()), Some(Family::V4.client()));
    let trace = "Received: from client.example ([192.0.2.2])\r\n\tby gateway.example with ESMTP id ";
    ensure!(text.starts_with(trace), "{text}");
    ensure!(text.contains("\r\n\tfor <recipient@server.example>;\r\n\t"), "{text}");
    ensure!(text.contains("\r\nSubject: first\r\n"), "{text}");
    ensure!(text.contains("\r\na line\r\n.a dot\r\nthe end"), "{text}");
    let (envelope, text) = &found[1];
    assert_eq!(envelope.recipients.len(), 2);
    ensure!(envelope.recipients.iter().all(|recipient| recipient.notify.is_some_and(|n| n.is_never())));
    assert_eq!(envelope.envid.as_deref(), Some("QQ"));
    let (trace, rest) = text.split_at(text.find("Subject:").context("no subject")?);
    assert_eq!(rest, large, "the text is as it was sent");
    ensure!(!trace.contains("\tfor <"), "one recipient must not learn of the other: {trace}");
    Ok(())
}

#[test]
fn a_virus_is_refused_before_the_queue_and_a_scan_is_told_on_top() -> anyhow::Result<()> {
    let lab = Lab::new()?;
    let clamd = Clamd::start(&lab)?;
    let settings = settings(&lab, "  scan-header: X-Gateway-Scan\n");
    let mut gateway = Gateway::start(&lab, &Settings { clamd: Some(clamd.address()), ..settings })?;

    for (text, code) in [(message::infected("a virus"), 550), (message::clean("no virus"), 250)] {
        let mut client = Client::up_to_data(lab.client(), Family::V4.smtp())?;
        client.send(&text)?;
        client.send(message::END)?;
        let reply = client.expect(code)?;
        ensure!(code == 250 || reply.contains(message::EICAR_SIGNATURE), "{reply}");
    }
    gateway.wait_for_log("action=queued")?;
    gateway.stop()?;
    let found = contents(&queue(&lab))?;
    ensure!(found.len() == 1, "{} messages", found.len());
    let (_, text) = &found[0];
    ensure!(text.contains("\r\nX-Gateway-Scan: clamd=clean\r\n") && text.contains("no virus"), "{text}");
    Ok(())
}

#[test]
fn starttls_shows_the_configured_certificate_and_a_new_one_after_a_reload() -> anyhow::Result<()> {
    let lab = Lab::new()?;
    let (chain, key) = (lab.directory().join("chain.pem"), lab.directory().join("key.pem"));
    certify("gateway.example", &chain, &key)?;
    let tls = format!(
        "  tls:\n    required: true\n    certificates:\n      - {{chain: {}, key: {}}}\n",
        chain.display(),
        key.display()
    );
    let settings = settings(&lab, &tls);
    let mut gateway = Gateway::start(&lab, &settings)?;
    let shown = |lab: &Lab| wire::shown(lab, Some("unknown.example"))?.context("no certificate was shown");
    let old = shown(&lab)?;
    assert_eq!(old, postfix::fingerprint(&chain)?);

    let (accepted, said) = swaks(&lab, &[])?;
    ensure!(!accepted && said.contains("530 5.7.0"), "{said}");
    let (accepted, said) = swaks(&lab, &["--tls", "--header", "Subject: under TLS"])?;
    ensure!(accepted, "{said}");

    certify("gateway.example", &chain, &key)?;
    let (reloaded, said) = gateway.control_command("reload")?;
    ensure!(reloaded, "{said}");
    let new = shown(&lab)?;
    assert_eq!(new, postfix::fingerprint(&chain)?);
    ensure!(new != old, "the certificate has not changed");
    // One that cannot be used changes nothing.
    fs::write(&chain, "no certificate\n")?;
    let (reloaded, said) = gateway.control_command("reload")?;
    ensure!(!reloaded && said.contains("holds no certificate in PEM form"), "{said}");
    assert_eq!(shown(&lab)?, new);

    gateway.stop()?;
    let found = contents(&queue(&lab))?;
    ensure!(found.len() == 1, "{} messages", found.len());
    let (_, text) = &found[0];
    ensure!(text.contains(" with ESMTPS id ") && text.contains("\r\n\ttls TLS_"), "{text}");
    Ok(())
}

/// A certificate of its own for a name, whose key the proxy can read.
fn certify(name: &str, chain: &Path, key: &Path) -> anyhow::Result<()> {
    let mut openssl = Command::new("openssl");
    openssl.args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]);
    openssl.args(["-days", "2", "-subj", &format!("/CN={name}")]);
    openssl.args(["-addext", &format!("subjectAltName=DNS:{name}")]);
    process::done(openssl.arg("-keyout").arg(key).arg("-out").arg(chain))?;
    for file in [chain, key] {
        chown(file, Some(nix::unistd::User::from_name("nobody")?.context("no account")?.uid), None)?;
    }
    Ok(())
}

#[test]
fn a_thousand_messages_are_all_there() -> anyhow::Result<()> {
    const MESSAGES: usize = 1_000;
    let lab = Lab::new()?;
    let mut gateway = Gateway::start(&lab, &settings(&lab, ""))?;
    let mut source = lab.client().command("timeout");
    source.args(["120", "smtp-source", "-s", "20", "-l", "2000", "-m", &MESSAGES.to_string()]);
    source.args(["-f", "s@client.example", "-t", "r@server.example", &Family::V4.smtp().to_string()]);
    process::done(&mut source)?;
    gateway.stop()?;
    let found = contents(&queue(&lab))?;
    assert_eq!(found.len(), MESSAGES);
    ensure!(found.iter().all(|(envelope, text)| envelope.recipients.len() == 1 && text.len() > 2_000));
    Ok(())
}

/// A file system of 8 MiB in memory, while it lives.
struct SmallDisk(PathBuf);

impl SmallDisk {
    fn new(place: PathBuf) -> anyhow::Result<Self> {
        fs::create_dir(&place)?;
        let options = "size=8m,mode=0700,uid=65534";
        mount(Some("tmpfs"), &place, Some("tmpfs"), MsFlags::empty(), Some(options)).context("mount(2)")?;
        Ok(Self(place))
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        umount2(&self.0, MntFlags::MNT_DETACH).ok();
    }
}

#[test]
fn a_full_disk_is_answered_with_452_until_there_is_room_again() -> anyhow::Result<()> {
    let lab = Lab::new()?;
    let disk = SmallDisk::new(queue(&lab))?;
    let mut gateway = Gateway::start(&lab, &settings(&lab, ""))?;
    let (accepted, said) = swaks(&lab, &["--header", "Subject: before"])?;
    ensure!(accepted, "{said}");

    let filler = disk.0.join("filler");
    fs::write(&filler, vec![0; 7_500_000])?;
    wait::until(PATIENCE, "452", || {
        let (accepted, said) = swaks(&lab, &[])?;
        Ok((!accepted && said.contains("452 4.3.1")).then_some(()))
    })?;
    fs::remove_file(&filler)?;
    wait::until(PATIENCE, "service", || {
        let (accepted, _) = swaks(&lab, &["--header", "Subject: after"])?;
        Ok(accepted.then_some(()))
    })?;
    // In the middle of what is written, too: larger than the disk, smaller than any limit.
    let large = lab.directory().join("large.eml");
    fs::write(&large, format!("Subject: too large\r\n\r\n{}", "x\r\n".repeat(4_000_000)))?;
    let (accepted, said) = swaks(&lab, &["--data", &format!("@{}", large.display())])?;
    ensure!(!accepted && said.contains("452 4.3.1"), "{}", said.lines().rev().take(5).collect::<String>());
    wait::until(PATIENCE, "service", || {
        let (accepted, _) = swaks(&lab, &["--header", "Subject: after"])?;
        Ok(accepted.then_some(()))
    })?;
    gateway.stop()?;
    let found = contents(&disk.0)?;
    ensure!(found.iter().any(|(_, text)| text.contains("Subject: before")), "what was taken is there");
    ensure!(found.iter().any(|(_, text)| text.contains("Subject: after")));
    ensure!(!found.iter().any(|(_, text)| text.contains("Subject: too large")));
    Ok(())
}
