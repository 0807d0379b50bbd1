//! One network namespace.

use std::fs::{self, File};
use std::io::ErrorKind;
use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, anyhow};
use nix::sched::{CloneFlags, setns};

use crate::{process, wait};

/// A network namespace with a name under `/run/netns`; removed when dropped.
#[derive(Debug)]
pub struct Netns {
    name: String,
}

impl Netns {
    /// Makes a namespace; its loopback interface is up.
    ///
    /// # Errors
    ///
    /// When `ip` fails: not root, or the name is taken.
    pub fn create(name: &str) -> anyhow::Result<Self> {
        process::done(Command::new("ip").args(["netns", "add", name]))?;
        let netns = Self { name: name.to_owned() };
        netns.ip("link set lo up")?;
        Ok(netns)
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// A command that runs `program` inside.
    #[must_use]
    pub fn command(&self, program: &str) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.name, program]);
        command
    }

    /// A command that runs `program` inside, with the mounts of this process: `ip netns exec` gives
    /// each program a `/sys` of its own, and with it no BPF file system or one that nobody else sees.
    #[must_use]
    pub fn host_command(&self, program: &str) -> Command {
        let mut command = Command::new("nsenter");
        command.arg(format!("--net=/run/netns/{}", self.name)).arg("--").arg(program);
        command
    }

    /// What gateways in this namespace have pinned.
    #[must_use]
    pub fn pins(&self) -> PathBuf {
        let number = fs::metadata(format!("/run/netns/{}", self.name)).map_or(0, |namespace| namespace.ino());
        Path::new("/sys/fs/bpf/gateway").join(number.to_string())
    }

    /// Runs `ip` inside with arguments as written in a shell.
    ///
    /// # Errors
    ///
    /// What `ip` says.
    pub fn ip(&self, arguments: &str) -> anyhow::Result<String> {
        process::done(Command::new("ip").args(["-n", &self.name]).args(arguments.split_whitespace()))
    }

    /// Sets a kernel parameter below `net`, such as `ipv4/ip_forward`.
    ///
    /// # Errors
    ///
    /// When there is no such parameter or it does not take the value.
    pub fn sysctl(&self, key: &str, value: &str) -> anyhow::Result<()> {
        let path = format!("/proc/sys/net/{key}");
        self.enter(|| fs::write(&path, value))?.with_context(|| format!("cannot write {value} to {path}"))
    }

    /// Listens on `address` in this namespace, maybe in place of a listener that was just closed: a
    /// process that another test is about to start has a copy of it for a moment, which listens.
    ///
    /// # Errors
    ///
    /// When the address stays taken for five seconds, or is none of this namespace.
    pub fn listen(&self, address: SocketAddr) -> anyhow::Result<TcpListener> {
        wait::until(Duration::from_secs(30), "a free port to listen on", || {
            match self.enter(|| TcpListener::bind(address))? {
                Ok(listener) => Ok(Some(listener)),
                Err(error) if error.kind() == ErrorKind::AddrInUse => Ok(None),
                Err(error) => Err(error.into()),
            }
        })
    }

    /// Runs `work` on a thread that is inside; sockets made there stay in the namespace.
    ///
    /// # Errors
    ///
    /// When the thread cannot enter, or panics.
    pub fn enter<T: Send>(&self, work: impl FnOnce() -> T + Send) -> anyhow::Result<T> {
        let path = format!("/run/netns/{}", self.name);
        let handle = File::open(&path).with_context(|| format!("cannot open {path}"))?;
        thread::scope(|scope| {
            scope
                .spawn(move || {
                    setns(&handle, CloneFlags::CLONE_NEWNET)?;
                    anyhow::Ok(work())
                })
                .join()
                .map_err(|_| anyhow!("work in namespace {} panicked", self.name))?
        })
    }
}

impl Drop for Netns {
    fn drop(&mut self) {
        fs::remove_dir_all(self.pins()).ok();
        process::best_effort(Command::new("ip").args(["netns", "del", &self.name]));
    }
}
