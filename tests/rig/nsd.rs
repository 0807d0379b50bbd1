//! A real name server, nsd, with block lists in its zones.

use std::fmt::Write as _;
use std::fs;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Duration;

use crate::netns::Netns;
use crate::process::Daemon;

/// How long nsd has to read its zones and listen.
const START_LIMIT: Duration = Duration::from_secs(60);

/// A zone of a name server.
#[derive(Clone, Copy, Debug)]
pub struct Zone {
    /// Its domain.
    pub name: &'static str,
    /// Its records besides SOA and NS, as a zone file has them; without any, nsd has no data and
    /// answers SERVFAIL.
    pub records: Option<&'static str>,
}

/// A running nsd.
#[derive(Debug)]
pub struct Nsd {
    address: SocketAddr,
    daemon: Daemon,
}

impl Nsd {
    /// Starts one in a namespace, at `address`, with its files below `directory`.
    ///
    /// # Errors
    ///
    /// When it has not started within 60 s.
    pub fn start(
        netns: &Netns,
        address: SocketAddr,
        directory: &Path,
        zones: &[Zone],
    ) -> anyhow::Result<Self> {
        Self::launch(netns.command("nsd"), address, directory, zones)
    }

    /// As [`Self::start`], in this namespace, at a loopback address that nobody else takes.
    ///
    /// # Errors
    ///
    /// When it has not started within 60 s.
    pub fn here(directory: &Path, zones: &[Zone]) -> anyhow::Result<Self> {
        static PORT: AtomicU16 = AtomicU16::new(10_053);
        let [_, a, b, c] = std::process::id().to_be_bytes();
        let port = PORT.fetch_add(1, Ordering::Relaxed);
        let address = SocketAddr::new(Ipv4Addr::new(127, a, b, c).into(), port);
        Self::launch(Command::new("nsd"), address, directory, zones)
    }

    fn launch(
        mut command: Command,
        address: SocketAddr,
        directory: &Path,
        zones: &[Zone],
    ) -> anyhow::Result<Self> {
        let home = directory.join("nsd");
        fs::create_dir_all(&home)?;
        let ip: IpAddr = address.ip();
        let mut config = format!(
            "server:\n ip-address: {ip}@{port}\n username: \"\"\n chroot: \"\"\n database: \"\"\n \
             server-count: 1\n zonesdir: \"{home}\"\n xfrdfile: \"\"\n zonelistfile: \"{home}/zone.list\"\n \
             pidfile: \"{home}/nsd.pid\"\n verbosity: 1\n\
             remote-control:\n control-enable: no\n",
            port = address.port(),
            home = home.display(),
        );
        for zone in zones {
            let file = home.join(format!("{}.zone", zone.name));
            write!(config, "zone:\n name: {}\n zonefile: \"{}\"\n", zone.name, file.display())?;
            if let Some(records) = zone.records {
                let apex = "$TTL 300\n@ SOA ns.invalid. hostmaster.invalid. 1 3600 600 86400 300\n@ NS ns.invalid.\n";
                fs::write(file, format!("{apex}{records}\n"))?;
            }
        }
        let file = home.join("nsd.conf");
        fs::write(&file, config)?;
        let mut daemon = Daemon::start("nsd", directory, command.arg("-d").arg("-c").arg(file))?;
        daemon.wait_until(START_LIMIT, |daemon| daemon.log().contains("nsd started"))?;
        Ok(Self { address, daemon })
    }

    /// Where it listens.
    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Ends it; nobody answers at its address from then on.
    ///
    /// # Errors
    ///
    /// When it has to be killed.
    pub fn stop(&mut self) -> anyhow::Result<()> {
        self.daemon.stop().map(|_| ())
    }
}
