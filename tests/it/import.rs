//! A whole configuration of smtp-gated, imported: the result starts unchanged and does as before.

use std::fmt::Write as _;
use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use gateway_tests::clamd::Clamd;
use gateway_tests::client::Client;
use gateway_tests::gateway::binary;
use gateway_tests::lab::{Family, Lab};
use gateway_tests::log_daemons::LogDaemons;
use gateway_tests::message::{self, END};
use gateway_tests::process::{Daemon, done};
use gateway_tests::recorder::{Manners, Recorder};
use gateway_tests::spamd::Spamd;
use gateway_tests::wait;
use nix::sys::signal::Signal;
use nix::unistd::{User, chown};

const LONG: Duration = Duration::from_secs(30);

/// An operator who has moved over: the gateway runs with what `gateway import` printed.
/// Fields are dropped in order, the network last.
struct Moved {
    gateway: Daemon,
    server: Recorder,
    log: LogDaemons,
    folder: PathBuf,
    lab: Lab,
}

impl Moved {
    /// Imports the file that `old` writes for a folder, and starts the result.
    fn from(old: impl FnOnce(&Lab, &Path) -> anyhow::Result<String>) -> anyhow::Result<Self> {
        let lab = Lab::new()?;
        let folder = lab.directory().join("old");
        let spool = folder.join("msg");
        fs::create_dir_all(&spool)?;
        fs::set_permissions(&spool, fs::Permissions::from_mode(0o700))?;
        let nobody = User::from_name("nobody")?.context("no account `nobody`")?;
        chown(&spool, Some(nobody.uid), Some(nobody.gid))?;
        let conf = folder.join("smtp-gated.conf");
        fs::write(&conf, old(&lab, &folder)?)?;
        let yaml = done(Command::new(binary()?).args(["import", "smtp-gated"]).arg(&conf))?;
        fs::write(folder.join("gateway.yaml"), &yaml)?;

        let server = Recorder::start(lab.server(), Family::V4.smtp(), Manners::default())?;
        let log = LogDaemons::start(lab.directory())?;
        let program = log.program().to_str().context("a path that is not text")?;
        let mut command = lab.router().host_command(program);
        command.args(["run", "-c", "gateway.yaml"]).current_dir(&folder);
        let gateway = Daemon::start("gateway", lab.directory(), &mut command)?;
        log.syslog("msg=intercepting").with_context(|| format!("{}\n{yaml}", gateway.log_tail()))?;
        Ok(Self { gateway, server, log, folder, lab })
    }

    /// A client that is greeted, as soon as those before it have left their places.
    fn welcome(&self, address: SocketAddr) -> anyhow::Result<Client> {
        wait::until(LONG, "a greeting", || {
            let mut client = Client::connect(self.lab.client(), address)?;
            Ok((client.reply()?.code == 220).then_some(client))
        })
    }

    /// A client that has its answer to EHLO.
    fn greeted(&self, address: SocketAddr) -> anyhow::Result<Client> {
        let mut client = self.welcome(address)?;
        client.send(b"EHLO client.example\r\n")?;
        client.expect(250)?;
        Ok(client)
    }

    /// The proxy process.
    fn proxy(&self) -> anyhow::Result<String> {
        let datapath = self.gateway.pid();
        let children = fs::read_to_string(format!("/proc/{datapath}/task/{datapath}/children"))?;
        Ok(children.split_whitespace().next().context("no proxy process")?.to_owned())
    }

    /// What `ss` says of the listener on `address`: state, received, backlog.
    fn listens(&self, address: &str) -> anyhow::Result<String> {
        let all = done(self.lab.router().host_command("ss").arg("-ltnH"))?;
        let line = all.lines().find(|line| line.split_whitespace().nth(3) == Some(address));
        Ok(line.with_context(|| format!("nothing listens on {address}: {all}"))?.to_owned())
    }
}

/// Sends a message; returns the reply to its end.
fn deliver(client: &mut Client, text: &[u8]) -> anyhow::Result<String> {
    client.begin_data()?;
    client.send(text)?;
    client.send(END)?;
    Ok(client.reply()?.to_string())
}

#[test]
fn a_transparent_proxy_with_scanners_goes_on_as_before() -> anyhow::Result<()> {
    let mut scanners = None;
    let moved = Moved::from(|lab, folder| {
        let (clamd, spamd) = (Clamd::start(lab)?, Spamd::start(lab)?);
        let path =
            |address: String| address.trim_start_matches("unix:").trim_start_matches("tcp:").to_owned();
        let mut conf = format!(
            "# of the old router\nproxy_name old.example\nport 9199\nmode tproxy\nset_user nobody\nset_group mail\n\
             pidfile {0}/run/gateway.pid\nspool_path {0}/msg\nconnect_queue 7\nmax_per_host 2\nmax_load 0\nlock_on virus,spam\n\
             antivirus_type clamd\nantivirus_path {1}\nantispam_type spamassassin\nantispam_path {2}\nspam_max_load 0\n",
            folder.display(),
            path(clamd.address()),
            path(spamd.address()),
        );
        conf.push_str(
            "spam_threshold 5\nignore_errors 0\nlock_duration 0\nspool_header X-Old-Spool\nnat_header X-Old-Nat\n\
             nat_header_type generic\nabuse abuse@old.example\nregex_reject_helo ^spammer\\.example$\n\
             log_helo 1\nlog_mail_from accepted\nlog_rcpt_to accepted,base64\nlog_facility local3\nlog_level info\n\
             msg_virus_found Virus in your mail\nmsg_spam_found Spam in your mail\nmsg_max_per_host One at a time\n\
             timeout_idle 60\nforbid_starttls 1\n",
        );
        scanners = Some((clamd, spamd));
        Ok(conf)
    })?;
    let smtp = Family::V4.smtp();

    // The daemon itself. The folder was made by a script of the old one, after each boot.
    let pid = fs::read_to_string(moved.folder.join("run/gateway.pid"))?;
    assert_eq!(pid, format!("{}\n", moved.gateway.pid()));
    let status = fs::read_to_string(format!("/proc/{}/status", moved.proxy()?))?;
    let nobody = User::from_name("nobody")?.context("no account `nobody`")?.uid;
    assert!(status.contains(&format!("\nUid:\t{nobody}\t{nobody}\t")), "{status}");
    let listener = moved.listens("127.0.0.1:9199")?;
    assert_eq!(listener.split_whitespace().nth(2), Some("7"), "{listener}");

    // Honest mail passes with the header for the abuse desk, from the client's own address.
    let mut client = moved.greeted(smtp)?;
    assert!(deliver(&mut client, &message::clean("honest"))?.starts_with("250"));
    let record = moved.log.syslog("msg=message")?;
    assert!(record.starts_with("<158>"), "facility local3, severity info: {record}");
    for shown in [" helo=client.example", " sender=sender@client.example", " recipients="] {
        assert!(record.contains(shown), "{shown} is not in {record}");
    }
    assert!(!record.contains("recipient@server.example"), "{record}");
    let seen = moved.server.connections();
    assert_eq!(seen[0].peer, Family::V4.client());
    let text = String::from_utf8_lossy(&seen[0].messages[0]).into_owned();
    let header = "X-Old-Nat: from [192.0.2.2]:";
    assert!(text.starts_with(header) && text.contains("\tabuse-to abuse@old.example\r\n"), "{text}");
    assert!(!text.contains("X-Old-Spool"), "{text}");

    // Scanners, with the old texts; the session goes on politely.
    let reply = deliver(&mut client, &message::infected("virus"))?;
    let expected = format!("550 5.7.1 old.example Virus in your mail ({}", message::EICAR_SIGNATURE);
    assert!(reply.starts_with(&expected), "{reply}");
    client.send(b"NOOP\r\nQUIT\r\n")?;
    client.expect(250)?;
    client.expect(221)?;
    let mut client = moved.greeted(smtp)?;
    let reply = deliver(&mut client, &message::gtube("spam"))?;
    assert!(reply.starts_with("550 5.7.1 old.example Spam in your mail ("), "{reply}");
    drop(client);

    // Filters and limits.
    let mut client = moved.welcome(smtp)?;
    client.send(b"EHLO spammer.example\r\n")?;
    client.expect(550)?;
    drop(client);
    let mut client = moved.greeted(smtp)?;
    client.send(b"STARTTLS\r\n")?;
    client.expect(502)?;
    let second = moved.greeted(smtp)?;
    let mut third = Client::connect(moved.lab.client(), smtp)?;
    let reply = third.expect(421)?;
    assert!(reply.contains("old.example One at a time"), "{reply}");
    drop((client, second, third));
    Ok(())
}

#[test]
fn a_proxy_before_one_server_goes_on_as_before() -> anyhow::Result<()> {
    let moved = Moved::from(|_, folder| {
        let mut conf = String::new();
        write!(
            conf,
            "mode fixed\nproxy_name *\nbind_address 192.0.2.1\nport 2525\nfixed_server 198.51.100.2\n\
             fixed_server_port 25\noutgoing_addr 192.0.2.1\nset_user nobody\npidfile {0}/gateway.pid\nspool_path {0}/msg\n\
             max_connections 1\nmax_load 0\nnat_header_type none\nlog_level info\nmsg_max_reached Only one\n",
            folder.display()
        )?;
        Ok(conf)
    })?;
    let address: SocketAddr = "192.0.2.1:2525".parse()?;
    moved.listens("192.0.2.1:2525")?;
    let mut client = moved.greeted(address)?;
    let sent = message::clean("fixed");
    ensure!(deliver(&mut client, &sent)?.starts_with("250"), "honest mail passes");
    let seen = moved.server.connections();
    assert_eq!(seen[0].peer.to_string(), "192.0.2.1");
    assert_eq!(seen[0].messages, [sent]);
    let mut second = Client::connect(moved.lab.client(), address)?;
    let reply = second.expect(421)?;
    assert!(reply.contains("Only one"), "{reply}");

    // The file was named by a relative path; what is changed there takes effect.
    let file = moved.folder.join("gateway.yaml");
    let yaml = fs::read_to_string(&file)?;
    fs::write(&file, yaml.replace("Only one", "Just one"))?;
    moved.gateway.signal(Signal::SIGHUP)?;
    moved.log.syslog("configuration reloaded")?;
    let reply = Client::connect(moved.lab.client(), address)?.expect(421)?;
    assert!(reply.contains("Just one"), "{reply}");
    Ok(())
}
