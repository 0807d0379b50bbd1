//! A message under real TLS whose text is on its way while the gateway's processes come and go.

use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Child, ChildStdin, ChildStdout, Stdio};
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use gateway_tests::gateway::Gateway;
use gateway_tests::lab::{Family, Lab};
use gateway_tests::postfix::Postfix;
use gateway_tests::wait;
use nix::sys::signal::{Signal, kill};

use super::{PATIENCE, field, leave, records, through};
use crate::direct::sockets;

/// Lines of one piece of the text: more than all buffers on the way hold together.
const LINES: usize = 150_000;
const LINE: &[u8] = b"a line of a message that is so long that it takes its time\r\n";

/// A client that speaks SMTP under TLS (`openssl s_client`).
struct Client {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

impl Client {
    fn start(lab: &Lab) -> anyhow::Result<Self> {
        let mut openssl = lab.client().command("openssl");
        openssl.args(["s_client", "-quiet", "-starttls", "smtp", "-connect"]);
        openssl.arg(Family::V4.second_smtp().to_string());
        let mut child = openssl.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn()?;
        let input = child.stdin.take().context("no standard input")?;
        let output = BufReader::new(child.stdout.take().context("no standard output")?);
        Ok(Self { child, input, output })
    }

    /// The reply to a command, which has one line.
    fn ask(&mut self, command: &str) -> anyhow::Result<String> {
        self.input.write_all(command.as_bytes())?;
        let mut line = String::new();
        self.output.read_line(&mut line)?;
        Ok(line)
    }

    fn expect(&mut self, command: &str, code: &str) -> anyhow::Result<()> {
        let reply = self.ask(command)?;
        ensure!(reply.starts_with(code), "{command}: {reply}");
        Ok(())
    }

    /// A piece of the text. When this returns, most of it has passed the router.
    fn write(&mut self, when: &str) -> anyhow::Result<()> {
        self.input.write_all(&LINE.repeat(LINES)).with_context(|| format!("the text {when}"))
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        // Without its connection it would wait for ever.
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

#[test]
fn a_message_under_tls_goes_on_through_kills_a_restart_and_an_upgrade() -> anyhow::Result<()> {
    let lab = Lab::new()?;
    let postfix = Postfix::start(lab.server(), Family::V4.second_smtp(), lab.directory())?;
    let mut gateway = Gateway::start(&lab, &through("tcx"))?;
    let mut client = Client::start(&lab)?;
    wait::until(PATIENCE, "handoff of TLS", || {
        client.expect("NOOP\r\n", "250")?;
        thread::sleep(Duration::from_millis(50));
        Ok((sockets(&lab)? == 0).then_some(()))
    })?;
    client.expect("MAIL FROM:<sender@client.example>\r\n", "250")?;
    client.expect("RCPT TO:<recipient@server.example>\r\n", "250")?;
    client.expect("DATA\r\n", "354")?;
    client.input.write_all(b"Message-ID: <through-all@client.example>\r\n\r\n")?;
    client.write("with all processes")?;

    kill(gateway.proxy()?, Signal::SIGKILL)?;
    client.write("without a proxy")?;
    wait::until(PATIENCE, "restart of the proxy", || {
        Ok((gateway.log().matches("msg=intercepting").count() == 2).then_some(()))
    })?;
    client.write("with a new proxy")?;
    gateway.upgrade(&[])?;
    client.write("after an upgrade")?;
    wait::until(PATIENCE, "end of the old one", || Ok((gateway.alive().len() == 1).then_some(())))?;

    kill(gateway.serving(), Signal::SIGKILL)?;
    wait::until(PATIENCE, "end of the gateway", || Ok(gateway.alive().is_empty().then_some(())))?;
    client.write("without a gateway")?;
    leave(gateway)?;
    let mut gateway = Gateway::start(&lab, &through("tcx"))?;
    client.write("with a new gateway")?;
    gateway.stop()?;
    client.write("after a stop")?;
    leave(gateway)?;
    let mut gateway = Gateway::start(&lab, &through("tcx"))?;
    client.write("after a restart")?;

    client.expect(".\r\n", "250")?;
    client.expect("QUIT\r\n", "221")?;
    ensure!(client.child.wait()?.success());
    wait::until(PATIENCE, "the message in the queue", || {
        Ok(postfix.has("through-all@client.example").then_some(()))
    })
    .with_context(|| postfix.log())?;
    // TLS has seen to it that no octet was another one; none is missing either.
    let octets = LINE.len() * LINES * 8;
    let size = |line: &str| line.split(", size=").nth(1)?.split(',').next()?.parse::<usize>().ok();
    let arrived = postfix.log().lines().find_map(size).context("no size in Postfix' log")?;
    // Postfix counts line ends as one octet, and its own header fields.
    ensure!((octets - 8 * LINES..octets + 2_000).contains(&arrived), "{arrived} of {octets} octets");
    wait::until(PATIENCE, "the record", || Ok((records(&gateway).len() == 1).then_some(())))?;
    let record = &records(&gateway)[0];
    ensure!(record.contains("taken_over=true"), "{record}");
    ensure!(field(record, "from_client")?.parse::<usize>()? > octets, "{record}");
    gateway.stop()
}
