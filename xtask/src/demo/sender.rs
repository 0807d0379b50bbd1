//! Real clients in the client's namespace.

use std::fs::{self, File};
use std::net::IpAddr;
use std::os::unix::process::CommandExt as _;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::Context as _;
use gateway_tests::process::shown;

use crate::interrupt::Interrupt;
use crate::stage::Stage;

/// How long a client may take.
const LIMIT: Duration = Duration::from_secs(60);

/// What a client did.
#[derive(Debug)]
pub(crate) struct Done {
    /// Whether it says that all went well.
    pub(crate) success: bool,
    /// All it wrote.
    pub(crate) transcript: String,
}

impl Done {
    /// The last reply of the server that begins with this code, as swaks shows replies.
    pub(crate) fn reply(&self, code: &str) -> Option<&str> {
        let replies = self.transcript.lines().filter_map(|line| line.get(4..)).rev();
        let mut matching = replies.filter(|reply| reply.starts_with(code));
        matching.next()
    }
}

/// Sends a message with swaks; `options` are separated by spaces.
pub(crate) fn swaks(
    stage: &Stage,
    interrupt: &Interrupt,
    server: IpAddr,
    message: &[u8],
    options: &str,
) -> anyhow::Result<Done> {
    let file = stage.lab.directory().join("message.eml");
    fs::write(&file, message)?;
    let mut command = stage.lab.client().command("swaks");
    command.args(["--server", &server.to_string(), "--port", "25", "--helo", "client.example"]);
    command.args(["--from", "sender@client.example", "--to", "recipient@server.example"]);
    command.arg("--data").arg(format!("@{}", file.display())).args(options.split_whitespace());
    if server.is_ipv6() {
        command.arg("-6");
    }
    run(stage, interrupt, &mut command)
}

/// Runs a client to its end, unless the user wants to end first.
pub(crate) fn run(stage: &Stage, interrupt: &Interrupt, command: &mut Command) -> anyhow::Result<Done> {
    let path = stage.lab.directory().join("client.log");
    let output = File::create(&path)?;
    let mut child = command
        .stdin(Stdio::null())
        .stdout(output.try_clone()?)
        .stderr(output)
        .process_group(0)
        .spawn()
        .with_context(|| format!("cannot run {}", shown(command)))?;
    let status = interrupt.wait(&mut child, Some(LIMIT))?;
    Ok(Done {
        success: status.success(),
        transcript: String::from_utf8_lossy(&fs::read(&path)?).into_owned(),
    })
}
