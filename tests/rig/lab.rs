//! Client, router and server, as in a network with a router between.
//!
//! ```text
//!  client                    router                     server
//!  192.0.2.2  eth0 ── lan0  192.0.2.1
//!  2001:db8:1::2            2001:db8:1::1
//!                           198.51.100.1     wan0 ── eth0  198.51.100.2
//!                           2001:db8:2::1                  2001:db8:2::2
//!                                                          198.51.100.3
//!                                                          2001:db8:2::3
//! ```

use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::Context as _;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tempfile::TempDir;

use crate::netns::Netns;
use crate::process;

/// The router's interface towards the client.
pub const LAN: &str = "lan0";
/// The router's interface towards the server.
pub const WAN: &str = "wan0";

/// Every namespace and folder of a lab begins with this and the number of its process.
const PREFIX: &str = "gwlab-";

/// IP version of a path through the lab.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

impl Family {
    /// The client's address.
    #[must_use]
    pub const fn client(self) -> IpAddr {
        match self {
            Self::V4 => IpAddr::V4(Ipv4Addr::new(192, 0, 2, 2)),
            Self::V6 => IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 1, 0, 0, 0, 0, 2)),
        }
    }

    /// The router's address on the server's side: what a server sees of a gateway that does not
    /// preserve the client's address.
    #[must_use]
    pub const fn router(self) -> IpAddr {
        match self {
            Self::V4 => IpAddr::V4(Ipv4Addr::new(198, 51, 100, 1)),
            Self::V6 => IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 2, 0, 0, 0, 0, 1)),
        }
    }

    /// The server's address.
    #[must_use]
    pub const fn server(self) -> IpAddr {
        match self {
            Self::V4 => IpAddr::V4(Ipv4Addr::new(198, 51, 100, 2)),
            Self::V6 => IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 2, 0, 0, 0, 0, 2)),
        }
    }

    /// A second address of the server, for a second daemon on the same port.
    #[must_use]
    pub const fn second_server(self) -> IpAddr {
        match self {
            Self::V4 => IpAddr::V4(Ipv4Addr::new(198, 51, 100, 3)),
            Self::V6 => IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 2, 0, 0, 0, 0, 3)),
        }
    }

    /// The server's SMTP port.
    #[must_use]
    pub const fn smtp(self) -> SocketAddr {
        SocketAddr::new(self.server(), 25)
    }

    /// The SMTP port of the server's second address.
    #[must_use]
    pub const fn second_smtp(self) -> SocketAddr {
        SocketAddr::new(self.second_server(), 25)
    }
}

/// Three namespaces and a folder; all removed when dropped.
#[derive(Debug)]
pub struct Lab {
    client: Netns,
    router: Netns,
    server: Netns,
    directory: TempDir,
}

impl Lab {
    /// Makes the network; packets pass when this returns.
    ///
    /// # Errors
    ///
    /// When a namespace, link, address or route cannot be made: not root, mostly.
    pub fn new() -> anyhow::Result<Self> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let prefix = format!("{PREFIX}{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let directory = TempDir::with_prefix(format!("{prefix}-")).context("cannot make the lab's folder")?;
        // Daemons under other accounts reach their files below it.
        fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o755))?;
        let lab = Self {
            client: Netns::create(&format!("{prefix}-client"))?,
            router: Netns::create(&format!("{prefix}-router"))?,
            server: Netns::create(&format!("{prefix}-server"))?,
            directory,
        };
        lab.connect()?;
        Ok(lab)
    }

    /// Where clients are.
    #[must_use]
    pub const fn client(&self) -> &Netns {
        &self.client
    }

    /// Where the gateway runs.
    #[must_use]
    pub const fn router(&self) -> &Netns {
        &self.router
    }

    /// Where servers are.
    #[must_use]
    pub const fn server(&self) -> &Netns {
        &self.server
    }

    /// A folder for configurations, logs and queues.
    #[must_use]
    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// Removes what runs that were killed have left: namespaces and folders that carry the number
    /// of a process that is gone, and the processes in them.
    pub fn sweep() {
        let names = |folder: &str| {
            let entries = fs::read_dir(folder).into_iter().flatten().flatten();
            entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect::<Vec<_>>()
        };
        for name in names("/run/netns").into_iter().filter(|name| is_left_over(name)) {
            let inside = process::done(Command::new("ip").args(["netns", "pids", &name])).unwrap_or_default();
            for pid in inside.split_whitespace().filter_map(|word| word.parse().ok()) {
                kill(Pid::from_raw(pid), Signal::SIGKILL).ok();
            }
            process::best_effort(Command::new("ip").args(["netns", "del", &name]));
        }
        let temporary = std::env::temp_dir();
        for name in names(&temporary.to_string_lossy()).into_iter().filter(|name| is_left_over(name)) {
            fs::remove_dir_all(temporary.join(name)).ok();
        }
    }

    fn connect(&self) -> anyhow::Result<()> {
        for parameter in ["forwarding", "rp_filter"] {
            for interface in ["all", "default"] {
                self.router.sysctl(&format!("ipv4/conf/{interface}/{parameter}"), "1")?;
            }
        }
        self.router.sysctl("ipv6/conf/all/forwarding", "1")?;
        self.link(&self.client, LAN, "192.0.2", "2001:db8:1:")?;
        self.link(&self.server, WAN, "198.51.100", "2001:db8:2:")?;
        self.server.ip("address add 198.51.100.3/24 dev eth0")?;
        self.server.ip("address add 2001:db8:2::3/64 dev eth0 nodad")?;
        Ok(())
    }

    /// Joins a host to the router: the host has `.2`, the router `.1` and is the way to all else.
    fn link(&self, host: &Netns, interface: &str, net4: &str, net6: &str) -> anyhow::Result<()> {
        let peer = host.name();
        self.router.ip(&format!("link add {interface} type veth peer name eth0 netns {peer}"))?;
        for (netns, interface, number) in [(&self.router, interface, 1), (host, "eth0", 2)] {
            netns.ip(&format!("link set {interface} up"))?;
            netns.ip(&format!("address add {net4}.{number}/24 dev {interface}"))?;
            // Duplicate address detection takes a second in which the address does not work.
            netns.ip(&format!("address add {net6}:{number}/64 dev {interface} nodad"))?;
        }
        host.ip(&format!("route add default via {net4}.1"))?;
        host.ip(&format!("route add default via {net6}:1"))?;
        Ok(())
    }
}

/// Whether a name is that of a lab whose process is gone.
fn is_left_over(name: &str) -> bool {
    let owner = name.strip_prefix(PREFIX).and_then(|rest| rest.split('-').next()?.parse::<u32>().ok());
    owner.is_some_and(|pid| !Path::new("/proc").join(pid.to_string()).exists())
}
