//! What is sent and what should become of it.

use std::collections::HashSet;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use gateway_tests::client::Client;
use gateway_tests::gateway::Settings;
use gateway_tests::lab::Family;
use gateway_tests::sink::Sink;
use gateway_tests::{message, postfix, wait};

use super::sender::{self, swaks};
use super::table::Row;
use crate::interrupt::Interrupt;
use crate::stage::{self, Stage};

/// How many messages the load generator sends.
const LOAD: usize = 500;

type Check = fn(&mut Stage, &Interrupt) -> anyhow::Result<String>;

/// What is sent, what is expected, and how it is found out. The last one changes the
/// configuration, so it stays the last.
const CHECKS: &[(&str, &str, Check)] = &[
    ("a clean message", "250, and smtp-sink has it", clean),
    ("EICAR, base64 inside MIME", "550 5.7.1 with the signature, and smtp-sink has nothing", infected),
    ("a clean message, pipelined", "250, and smtp-sink has it", pipelined),
    ("a clean message over IPv6", "250, and smtp-sink has it", clean_v6),
    ("EICAR over IPv6", "550 5.7.1 with the signature, and smtp-sink has nothing", infected_v6),
    ("STARTTLS, then a message", "250 inside TLS from Postfix", starttls),
    ("STARTTLS, certificate shown", "Postfix's own, not one of the gateway", certificate),
    ("BDAT in two chunks", "250, and Postfix has it", chunked),
    ("EICAR by BDAT", "550 5.7.1 with the signature, and Postfix has nothing", chunked_infected),
    ("500 messages by smtp-source, 20 at once", "all arrive, none twice", load),
    ("source-address: preserve", "smtp-sink sees the client's address", preserved),
    ("a bad file and gateway reload", "refused with the reason, and EICAR is stopped as before", bad_reload),
    ("restart, source-address: gateway", "smtp-sink sees the router's address", not_preserved),
];

/// Runs all checks; `tell` shows progress.
pub(crate) fn all(stage: &mut Stage, interrupt: &Interrupt, tell: &dyn Fn(&str)) -> anyhow::Result<Vec<Row>> {
    let mut rows = Vec::new();
    for &(sent, expected, check) in CHECKS {
        interrupt.check()?;
        tell(&format!("==> {sent}"));
        let happened = check(stage, interrupt).map_err(|error| format!("{error:#}"));
        interrupt.check()?;
        rows.push(Row { sent, expected, happened });
    }
    Ok(rows)
}

fn clean(stage: &mut Stage, interrupt: &Interrupt) -> anyhow::Result<String> {
    arrives(stage, interrupt, Family::V4, "demo clean", "")
}

fn pipelined(stage: &mut Stage, interrupt: &Interrupt) -> anyhow::Result<String> {
    arrives(stage, interrupt, Family::V4, "demo pipelined", "--pipeline")
}

fn clean_v6(stage: &mut Stage, interrupt: &Interrupt) -> anyhow::Result<String> {
    arrives(stage, interrupt, Family::V6, "demo over IPv6", "")
}

fn infected(stage: &mut Stage, interrupt: &Interrupt) -> anyhow::Result<String> {
    refused(stage, interrupt, Family::V4, "demo infected")
}

fn infected_v6(stage: &mut Stage, interrupt: &Interrupt) -> anyhow::Result<String> {
    refused(stage, interrupt, Family::V6, "demo infected over IPv6")
}

const fn sink(stage: &Stage, family: Family) -> &Sink {
    match family {
        Family::V4 => &stage.sink_v4,
        Family::V6 => &stage.sink_v6,
    }
}

fn arrives(
    stage: &Stage,
    interrupt: &Interrupt,
    family: Family,
    subject: &str,
    options: &str,
) -> anyhow::Result<String> {
    let done = swaks(stage, interrupt, family.server(), &message::clean(subject), options)?;
    ensure!(done.success, "swaks failed: {}", last_line(&done.transcript));
    sink(stage, family).wait_for(&format!("Subject: {subject}"))?;
    Ok("250, and smtp-sink has it".to_owned())
}

fn refused(stage: &Stage, interrupt: &Interrupt, family: Family, subject: &str) -> anyhow::Result<String> {
    let done = swaks(stage, interrupt, family.server(), &message::infected(subject), "")?;
    let reply = done.reply("550 5.7.1").with_context(|| format!("swaks: {}", last_line(&done.transcript)))?;
    ensure!(reply.contains(message::EICAR_SIGNATURE), "{reply}");
    let subject = format!("Subject: {subject}");
    let kept = sink(stage, family).messages()?;
    ensure!(!kept.iter().any(|message| message.contains(&subject)), "smtp-sink has it");
    Ok(reply.to_owned())
}

fn starttls(stage: &mut Stage, interrupt: &Interrupt) -> anyhow::Result<String> {
    let server = Family::V4.second_server();
    let done = swaks(stage, interrupt, server, &message::clean("demo inside TLS"), "--tls")?;
    ensure!(done.success, "swaks failed: {}", last_line(&done.transcript));
    // swaks marks what came inside TLS with a tilde.
    let queued = done.transcript.lines().rev().find(|line| line.starts_with("<~  250 2.0.0"));
    Ok(queued.context("no reply inside TLS")?.trim_start_matches("<~").trim().to_owned())
}

fn certificate(stage: &mut Stage, interrupt: &Interrupt) -> anyhow::Result<String> {
    let server = Family::V4.second_smtp();
    let mut command = stage.lab.client().command("openssl");
    command.args(["s_client", "-starttls", "smtp", "-connect", &server.to_string()]);
    let done = sender::run(stage, interrupt, &mut command)?;
    let shown = stage.lab.directory().join("shown.pem");
    std::fs::write(&shown, &done.transcript)?;
    let seen = postfix::fingerprint(&shown).context("openssl was shown no certificate")?;
    let own = postfix::fingerprint(stage.postfix.certificate())?;
    ensure!(seen == own, "another certificate: {seen}");
    let short: String = seen.chars().take(23).collect();
    Ok(format!("Postfix's own, SHA-256 {short}…"))
}

fn chunked(stage: &mut Stage, _: &Interrupt) -> anyhow::Result<String> {
    let reply = send_chunks(stage, &message::clean("demo in chunks"))?;
    ensure!(reply.code == 250, "{reply}");
    postfix_has(stage, "demo-in-chunks")?;
    Ok("250, and Postfix has it".to_owned())
}

fn chunked_infected(stage: &mut Stage, _: &Interrupt) -> anyhow::Result<String> {
    let reply = send_chunks(stage, &message::infected("demo infected in chunks"))?;
    ensure!(
        reply.code == 550 && reply.contains("5.7.1") && reply.contains(message::EICAR_SIGNATURE),
        "{reply}"
    );
    ensure!(!stage.postfix.has("demo-infected-in-chunks@client.example"), "Postfix has it");
    Ok(reply.to_string())
}

/// Sends a message as two chunks (RFC 3030), as no packaged client can; returns the last reply.
fn send_chunks(stage: &Stage, message: &[u8]) -> anyhow::Result<gateway_tests::client::Reply> {
    let (mut client, keywords) = Client::greeted(stage.lab.client(), Family::V4.second_smtp())?;
    ensure!(keywords.lines.iter().any(|line| line == "CHUNKING"), "CHUNKING is not offered: {keywords}");
    client.envelope("")?;
    let (first, second) = message.split_at(message.len() / 2);
    client.chunk(first, false)?;
    client.expect(250)?;
    client.chunk(second, true)?;
    client.reply()
}

fn postfix_has(stage: &Stage, message_id: &str) -> anyhow::Result<()> {
    let wanted = format!("{message_id}@client.example");
    wait::until(Duration::from_secs(10), "arrival at Postfix", || {
        Ok(stage.postfix.has(&wanted).then_some(()))
    })
}

fn load(stage: &mut Stage, interrupt: &Interrupt) -> anyhow::Result<String> {
    let sender = "load@client.example";
    let mut command = stage.lab.client().command("smtp-source");
    // -N: each message has a recipient of its own.
    command.args(["-N", "-s", "20", "-l", "4096", "-m", &LOAD.to_string()]);
    command.args(["-f", sender, "-t", "recipient@server.example"]);
    let done = sender::run(stage, interrupt, command.arg(Family::V4.smtp().to_string()))?;
    ensure!(done.success, "smtp-source failed: {}", last_line(&done.transcript));
    let recipients = || -> anyhow::Result<Vec<String>> {
        let kept = stage.sink_v4.messages()?.into_iter().filter(|message| message.contains(sender));
        Ok(kept
            .filter_map(|message| Some(message.split_once("X-Rcpt-Args: ")?.1.lines().next()?.to_owned()))
            .collect())
    };
    wait::until(Duration::from_secs(20), "arrival of all messages", || {
        interrupt.check()?;
        Ok((recipients()?.len() >= LOAD).then_some(()))
    })?;
    let arrived = recipients()?;
    let different: HashSet<_> = arrived.iter().collect();
    ensure!(arrived.len() == LOAD, "{} arrived", arrived.len());
    ensure!(different.len() == LOAD, "{} of them twice", LOAD - different.len());
    Ok(format!("{LOAD} different ones arrived"))
}

fn preserved(stage: &mut Stage, interrupt: &Interrupt) -> anyhow::Result<String> {
    seen_as(stage, interrupt, "demo preserved", &Family::V4.client().to_string())
}

fn bad_reload(stage: &mut Stage, interrupt: &Interrupt) -> anyhow::Result<String> {
    stage.gateway.write_config("origin: assign\nno-such-key: 1\n")?;
    let (reloaded, said) = stage.gateway.control_command("reload")?;
    ensure!(!reloaded, "it was taken");
    let reason = said.lines().find(|line| line.contains("no-such-key")).context("no reason given")?.trim();
    refused(stage, interrupt, Family::V4, "demo after a bad reload")?;
    Ok(reason.to_owned())
}

fn not_preserved(stage: &mut Stage, interrupt: &Interrupt) -> anyhow::Result<String> {
    let changed = Settings { source_address: "gateway", ..stage::settings(&stage.clamd) };
    stage.gateway.restart(&stage.lab, &changed)?;
    seen_as(stage, interrupt, "demo not preserved", &Family::V4.router().to_string())
}

/// Sends a message and looks which peer `smtp-sink` noted for it.
fn seen_as(stage: &Stage, interrupt: &Interrupt, subject: &str, address: &str) -> anyhow::Result<String> {
    arrives(stage, interrupt, Family::V4, subject, "")?;
    let kept = stage.sink_v4.wait_for(&format!("Subject: {subject}"))?;
    let noted = kept.lines().find_map(|line| line.strip_prefix("X-Client-Addr: ")).unwrap_or_default();
    ensure!(noted == address, "smtp-sink saw {noted}");
    Ok(format!("smtp-sink saw {noted}"))
}

fn last_line(transcript: &str) -> &str {
    transcript.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or_default()
}
