//! What stands on the router between client and server while something is measured.

use std::fmt::Write as _;
use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::time::Duration;

use anyhow::bail;
use gateway_tests::gateway::{Gateway, Settings};
use gateway_tests::lab::{Family, Lab};
use gateway_tests::postfix::Postfix;
use gateway_tests::process::{self, Daemon};
use gateway_tests::sink;
use nix::unistd::Pid;

/// Where the others listen for what the router redirects to them.
const PORT: u16 = 10025;
/// Where a filter listens that Postfix asks before it takes a message.
const FILTER: u16 = 10026;
/// Where Postfix listens for what its filter has let pass.
const BEHIND: u16 = 10027;
const START: Duration = Duration::from_secs(15);
/// More sessions than any family opens at once.
const SESSIONS: u16 = 2_000;

/// Programs that an operator could put there instead.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Peer {
    /// Nothing: the router forwards packets. The physical limit.
    Forwarding,
    /// The gateway.
    Gateway,
    /// HAProxy in TCP mode, which splices where it sees fit.
    Haproxy,
    /// HAProxy in TCP mode without splice(2).
    HaproxyCopy,
    /// nginx as a stream proxy.
    Nginx,
    /// Postfix, which takes each message into its queue and then delivers it.
    Postfix,
    /// Postfix that has each message filtered by `ProxSMTP` before it takes it.
    PostfixFilter,
    /// `ProxSMTP`, a filtering proxy that starts a program for every message.
    #[value(name = "proxsmtp")]
    ProxSmtp,
}

impl Peer {
    /// Its name in tables.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Forwarding => "forwarding",
            Self::Gateway => "gateway",
            Self::Haproxy => "haproxy",
            Self::HaproxyCopy => "haproxy-copy",
            Self::Nginx => "nginx",
            Self::Postfix => "postfix",
            Self::PostfixFilter => "postfix-filter",
            Self::ProxSmtp => "proxsmtp",
        }
    }

    /// The program it needs, where the lab itself has none of it.
    const fn program(self) -> Option<&'static str> {
        match self {
            Self::Forwarding | Self::Gateway | Self::Postfix => None,
            Self::Haproxy | Self::HaproxyCopy => Some("haproxy"),
            Self::Nginx => Some("nginx"),
            Self::PostfixFilter | Self::ProxSmtp => Some("proxsmtpd"),
        }
    }

    /// Starts it on the lab's router.
    pub(super) fn start(self, lab: &Lab, means: &Means<'_>) -> anyhow::Result<Running> {
        if let Some(program) = self.program().filter(|program| !is_installed(program)) {
            bail!("{program} is not there: `cargo xtask bench` installs it, unless XTASK_NO_PACKAGES is set");
        }
        let mut running = Running { gateway: None, _postfix: None, daemons: Vec::new() };
        match self {
            Self::Forwarding => {}
            Self::Gateway => {
                running.gateway = Some(Gateway::start_binary(means.binary, lab, means.settings, &[])?);
            }
            Self::Haproxy => running.daemons.push(haproxy(lab, "option splice-auto")?),
            Self::HaproxyCopy => running.daemons.push(haproxy(lab, "no option splice-auto")?),
            Self::Nginx => running.daemons.push(nginx(lab)?),
            Self::Postfix => running._postfix = Some(postfix(lab, "", "")?),
            Self::PostfixFilter => {
                running.daemons.push(proxsmtp(lab, FILTER, here(BEHIND), means.clamd_conf)?);
                let main = format!(
                    "smtpd_proxy_filter = {}\nsmtpd_client_connection_count_limit = 0\n",
                    here(FILTER)
                );
                let master = format!("{} inet n - n - - smtpd -o smtpd_proxy_filter=\n", here(BEHIND));
                running._postfix = Some(postfix(lab, &main, &master)?);
            }
            Self::ProxSmtp => running.daemons.push(proxsmtp(lab, PORT, Family::V4.smtp(), means.clamd_conf)?),
        }
        if !matches!(self, Self::Forwarding | Self::Gateway) {
            redirect(lab)?;
        }
        Ok(running)
    }
}

/// What peers are started with.
#[derive(Clone, Copy, Debug)]
pub(super) struct Means<'a> {
    /// The gateway's binary.
    pub(super) binary: &'a Path,
    /// The gateway's configuration.
    pub(super) settings: &'a Settings,
    /// `clamd.conf` of the clamd that filters ask; without it they let everything pass.
    pub(super) clamd_conf: Option<&'a Path>,
}

/// A peer that serves; ended when dropped.
#[derive(Debug)]
pub(super) struct Running {
    /// The gateway, if it is that.
    pub(super) gateway: Option<Gateway>,
    _postfix: Option<Postfix>,
    daemons: Vec<Daemon>,
}

/// Processes on the router: those of the peer, whatever it has started.
pub(super) fn processes(lab: &Lab) -> anyhow::Result<Vec<Pid>> {
    let list = process::done(std::process::Command::new("ip").args(["netns", "pids", lab.router().name()]))?;
    Ok(list.split_whitespace().map(|word| word.parse().map(Pid::from_raw)).collect::<Result<_, _>>()?)
}

const fn here(port: u16) -> SocketAddr {
    SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), port)
}

/// A lab in which clients draw their ports from another range than the router.
///
/// Here one kernel is the machines of all. It draws ports and sequence numbers (`secure_tcp_seq`) from one
/// secret and one table, and under load a client and a gateway that speaks in its name begin the same
/// connection, number and all, in the same instant: such a SYN counts as the gateway's own and is sent
/// again a second later. Between machines it takes one case in 2^32.
pub(super) fn lab() -> anyhow::Result<Lab> {
    let lab = Lab::new()?;
    // Below the kernel's own range, which the router has.
    lab.client().sysctl("ipv4/ip_local_port_range", "1024 32767")?;
    Ok(lab)
}

/// Sends what clients mean for port 25 to the peer.
fn redirect(lab: &Lab) -> anyhow::Result<()> {
    let rules = format!(
        "add table ip bench; \
         add chain ip bench prerouting {{ type nat hook prerouting priority dstnat; }}; \
         add rule ip bench prerouting iifname lan0 tcp dport 25 redirect to :{PORT}"
    );
    process::done(lab.router().command("nft").arg(rules)).map(drop)
}

fn started(lab: &Lab, name: &str, port: u16, arguments: &[&str]) -> anyhow::Result<Daemon> {
    let mut command = lab.router().command(name);
    let mut daemon = Daemon::start(name, lab.directory(), command.args(arguments))?;
    daemon.wait_until(START, |_| {
        let filter = format!("sport = :{port}");
        let listening = process::done(lab.router().command("ss").args(["-Hltn", &filter]));
        listening.is_ok_and(|list| !list.trim().is_empty())
    })?;
    Ok(daemon)
}

fn haproxy(lab: &Lab, option: &str) -> anyhow::Result<Daemon> {
    let mut config = String::new();
    // As many sessions as it may have files for, which it counts itself; some are to be silent for long.
    writeln!(config, "defaults\n    mode tcp\n    {option}")?;
    writeln!(config, "    timeout connect 5s\n    timeout client 1h\n    timeout server 1h")?;
    writeln!(config, "listen smtp\n    bind :{PORT}\n    server smtp {}", Family::V4.smtp())?;
    let path = lab.directory().join("haproxy.cfg");
    fs::write(&path, config)?;
    // -db: stay in the foreground.
    started(lab, "haproxy", PORT, &["-db", "-f", &path.to_string_lossy()])
}

fn nginx(lab: &Lab) -> anyhow::Result<Daemon> {
    let home = lab.directory().join("nginx");
    fs::create_dir_all(&home)?;
    let mut config = String::new();
    writeln!(config, "load_module /usr/lib/nginx/modules/ngx_stream_module.so;")?;
    writeln!(config, "daemon off;\nworker_processes auto;\nerror_log stderr warn;")?;
    writeln!(config, "pid {}/nginx.pid;", home.display())?;
    writeln!(config, "events {{ worker_connections {}; }}", 2 * SESSIONS)?;
    writeln!(config, "stream {{ server {{ listen {PORT}; proxy_pass {}; }} }}", Family::V4.smtp())?;
    let path = home.join("nginx.conf");
    fs::write(&path, config)?;
    started(lab, "nginx", PORT, &["-e", "stderr", "-c", &path.to_string_lossy()])
}

fn postfix(lab: &Lab, main: &str, master: &str) -> anyhow::Result<Postfix> {
    let address = SocketAddr::from((Ipv4Addr::UNSPECIFIED, PORT));
    let main = format!(
        "default_transport = smtp:[{}]:{}\ndisable_dns_lookups = yes\ndefault_process_limit = {SESSIONS}\n\
         default_destination_concurrency_limit = 100\n{main}",
        Family::V4.server(),
        Family::V4.smtp().port(),
    );
    let master = format!("smtp unix - - n - - smtp\n{master}");
    Postfix::start_services(lab.router(), address, lab.directory(), &main, &master)
}

fn proxsmtp(lab: &Lab, port: u16, to: SocketAddr, clamd_conf: Option<&Path>) -> anyhow::Result<Daemon> {
    let mut config = format!(
        "Listen: {}\nOutAddress: {to}\nMaxConnections: {SESSIONS}\nKeepAlives: 0\nTempDirectory: {}\n",
        SocketAddr::from((Ipv4Addr::UNSPECIFIED, port)),
        lab.directory().display()
    );
    if let Some(clamd_conf) = clamd_conf {
        let scan =
            format!("/usr/bin/clamdscan --config-file={} --quiet --stream $EMAIL", clamd_conf.display());
        writeln!(config, "FilterType: file\nFilterCommand: {scan}")?;
    }
    let path = lab.directory().join("proxsmtpd.conf");
    fs::write(&path, config)?;
    // -d: stay in the foreground, and tell of errors only.
    started(lab, "proxsmtpd", port, &["-d", "1", "-f", &path.to_string_lossy()])
}

fn is_installed(program: &str) -> bool {
    ["/usr/sbin", "/usr/bin", "/usr/local/sbin", "/usr/local/bin"]
        .iter()
        .any(|folder| Path::new(folder).join(program).is_file())
}

/// Postfix's test server where mail goes: it counts messages and throws them away.
#[derive(Debug)]
pub(super) struct Drain(Daemon);

impl Drain {
    /// Starts one on the server's SMTP port.
    pub(super) fn start(lab: &Lab) -> anyhow::Result<Self> {
        let address = Family::V4.smtp();
        let mut command = lab.server().command("smtp-sink");
        // -c: tell how much came; -u is asked for when started as root; the number is that of
        // connections that may wait.
        command.args(["-c", "-u", "nobody", &address.to_string(), "1024"]);
        let mut daemon = Daemon::start("drain", lab.directory(), &mut command)?;
        daemon.wait_until(START, |_| sink::listens(lab.server(), address))?;
        Ok(Self(daemon))
    }

    /// Its process.
    pub(super) fn pid(&self) -> Pid {
        self.0.pid()
    }

    /// Messages that have come.
    pub(super) fn messages(&self) -> usize {
        let log = self.0.log();
        log.rsplit_once("mesg=").map_or(0, |(_, rest)| {
            let digits = rest.split(|letter: char| !letter.is_ascii_digit()).next().unwrap_or_default();
            digits.parse().unwrap_or(0)
        })
    }
}
