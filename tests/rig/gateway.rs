//! The gateway under test, as on a router.

use std::fmt::Write as _;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, User, chown};

use crate::lab::{LAN, Lab, WAN};
use crate::netns::Netns;
use crate::process::Daemon;
use crate::wait;

/// Account of the proxy process in the lab, so that the machine needs no new one.
const USER: &str = "nobody";

/// How long a start may take, which is little but with a large state store.
const START_LIMIT: Duration = Duration::from_secs(300);

/// What a test writes into `gateway.yaml`; all else has the built-in default.
#[derive(Clone, Debug)]
pub struct Settings {
    /// `origin`, with the keys that go with it.
    pub origin: &'static str,
    /// `source-address`.
    pub source_address: &'static str,
    /// Further keys of `intercept`.
    pub intercept: Vec<(&'static str, &'static str)>,
    /// The address of clamd, in the form of `scan.clamd.address`; without it nothing is scanned.
    pub clamd: Option<String>,
    /// Further keys of `scan.clamd`.
    pub clamd_keys: Vec<(&'static str, &'static str)>,
    /// Further keys of `scan`, such as other scanners in flow style.
    pub scan: Vec<(&'static str, String)>,
    /// Further keys of `spool`.
    pub spool: Vec<(&'static str, &'static str)>,
    /// Keys of `timeouts`.
    pub timeouts: Vec<(&'static str, &'static str)>,
    /// Keys of `limits`.
    pub limits: Vec<(&'static str, &'static str)>,
    /// Keys of `inspect`.
    pub inspect: Vec<(&'static str, &'static str)>,
    /// Keys of `splice`.
    pub splice: Vec<(&'static str, &'static str)>,
    /// Keys of `clients`.
    pub clients: Vec<(&'static str, &'static str)>,
    /// Keys of `log`.
    pub log: Vec<(&'static str, &'static str)>,
    /// Rules of `lanes`, each in flow style.
    pub lanes: Vec<&'static str>,
    /// Further sections, as they stand in the file.
    pub more: String,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            origin: "assign",
            source_address: "preserve",
            intercept: Vec::new(),
            clamd: None,
            clamd_keys: Vec::new(),
            scan: Vec::new(),
            spool: Vec::new(),
            timeouts: Vec::new(),
            limits: Vec::new(),
            inspect: Vec::new(),
            splice: Vec::new(),
            clients: Vec::new(),
            log: Vec::new(),
            lanes: Vec::new(),
            more: String::new(),
        }
    }
}

impl Settings {
    /// A gateway that scans with the clamd at `address`.
    #[must_use]
    pub fn scanning(address: String) -> Self {
        Self { clamd: Some(address), ..Self::default() }
    }

    fn yaml(&self, home: &Path) -> String {
        let home = home.display();
        let mut spool = String::new();
        section(&mut spool, "  ", &self.spool);
        let mut yaml = format!(
            "name: gateway.example\n\
             origin: {}\n\
             user: {USER}\n\
             source-address: {}\n\
             control:\n  socket: {home}/control.sock\n\
             state-directory: {home}/state\n\
             spool:\n  directory: {home}/spool\n  min-free: 1MiB\n{spool}\
             intercept:\n  interfaces: [{LAN}]\n  return-interfaces: [{WAN}]\n",
            self.origin, self.source_address
        );
        section(&mut yaml, "  ", &self.intercept);
        if self.clamd.is_some() || !self.scan.is_empty() {
            yaml.push_str("scan:\n");
        }
        for (key, value) in &self.scan {
            writeln!(yaml, "  {key}: {value}").ok();
        }
        if let Some(address) = &self.clamd {
            write!(yaml, "  clamd:\n    address: {address}\n").ok();
            section(&mut yaml, "    ", &self.clamd_keys);
        }
        for (name, keys) in [
            ("timeouts", &self.timeouts),
            ("limits", &self.limits),
            ("inspect", &self.inspect),
            ("splice", &self.splice),
            ("clients", &self.clients),
            ("log", &self.log),
        ] {
            if !keys.is_empty() {
                writeln!(yaml, "{name}:").ok();
                section(&mut yaml, "  ", keys);
            }
        }
        if !self.lanes.is_empty() {
            yaml.push_str("lanes:\n");
            for rule in &self.lanes {
                writeln!(yaml, "  - {rule}").ok();
            }
        }
        yaml.push_str(&self.more);
        yaml
    }
}

fn section(yaml: &mut String, indent: &str, keys: &[(&str, &str)]) {
    for (key, value) in keys {
        writeln!(yaml, "{indent}{key}: {value}").ok();
    }
}

/// A running gateway, mostly in the router's namespace.
#[derive(Debug)]
pub struct Gateway {
    daemon: Daemon,
    /// Processes that took over, the last of which serves.
    successors: Vec<Pid>,
    home: PathBuf,
}

impl Gateway {
    /// Writes the configuration, starts the gateway and waits until it intercepts.
    ///
    /// # Errors
    ///
    /// When it is not ready within 5 minutes: then with the end of its log.
    pub fn start(lab: &Lab, settings: &Settings) -> anyhow::Result<Self> {
        Self::start_binary(&binary()?, lab, settings, &[])
    }

    /// The same in another namespace of the lab than the router's.
    ///
    /// # Errors
    ///
    /// As [`start`](Self::start).
    pub fn start_inside(netns: &Netns, lab: &Lab, settings: &Settings) -> anyhow::Result<Self> {
        Self::launch(&binary()?, netns, lab, settings, &[])
    }

    /// The same with another binary than the one built beside this program, and variables in its
    /// environment.
    ///
    /// # Errors
    ///
    /// As [`start`](Self::start).
    pub fn start_binary(
        binary: &Path,
        lab: &Lab,
        settings: &Settings,
        environment: &[(&str, &str)],
    ) -> anyhow::Result<Self> {
        Self::launch(binary, lab.router(), lab, settings, environment)
    }

    fn launch(
        binary: &Path,
        netns: &Netns,
        lab: &Lab,
        settings: &Settings,
        environment: &[(&str, &str)],
    ) -> anyhow::Result<Self> {
        let home = lab.directory().join("gateway");
        fs::create_dir_all(home.join("spool"))?;
        fs::set_permissions(home.join("spool"), fs::Permissions::from_mode(0o700))?;
        let account = User::from_name(USER)?.with_context(|| format!("no account `{USER}`"))?;
        chown(&home.join("spool"), Some(account.uid), Some(account.gid))?;
        fs::write(home.join("gateway.yaml"), settings.yaml(&home))?;

        let mut command = netns.host_command(binary.to_str().context("a path that is not text")?);
        command.envs(environment.iter().copied()).arg("run").arg("-c").arg(home.join("gateway.yaml"));
        let mut daemon = Daemon::start("gateway", lab.directory(), &mut command)?;
        daemon.wait_until(START_LIMIT, |daemon| daemon.log().contains(READY))?;
        Ok(Self { daemon, successors: Vec::new(), home })
    }

    /// What it has written to standard error.
    #[must_use]
    pub fn log(&self) -> String {
        self.daemon.log()
    }

    /// Waits for a line of the log that contains `text`.
    ///
    /// # Errors
    ///
    /// When there is none within 60 s.
    pub fn wait_for_log(&self, text: &str) -> anyhow::Result<String> {
        self.daemon.wait_for_log(Duration::from_secs(60), text)
    }

    /// The datapath process.
    #[must_use]
    pub const fn daemon(&self) -> &Daemon {
        &self.daemon
    }

    /// The datapath process that serves: the first one, or the last that took over.
    #[must_use]
    pub fn serving(&self) -> Pid {
        self.successors.last().copied().unwrap_or_else(|| self.daemon.pid())
    }

    /// Has a new process take over with `gateway upgrade`, and follows it; returns what the command
    /// wrote.
    ///
    /// # Errors
    ///
    /// When the command fails.
    pub fn upgrade(&mut self, arguments: &[&str]) -> anyhow::Result<String> {
        let (done, said) = self.control_command_with("upgrade", arguments)?;
        ensure!(done, "{said}");
        let pid = said.split("as process ").nth(1).and_then(|rest| rest.split(';').next()?.parse().ok());
        self.successors.push(Pid::from_raw(pid.with_context(|| said.clone())?));
        Ok(said)
    }

    /// Follows the process that took over last, as the log tells.
    ///
    /// # Errors
    ///
    /// When none took over within 60 s that is not known yet.
    pub fn follow(&mut self) -> anyhow::Result<()> {
        let known = self.serving();
        let pid = wait::until(Duration::from_secs(60), "another process that serves", || {
            let log = self.log();
            let line = log.lines().rfind(|line| line.contains("another process serves"));
            let pid = line.and_then(|line| line.split("pid=").nth(1)?.split(' ').next()?.parse().ok());
            Ok(pid.map(Pid::from_raw).filter(|pid| *pid != known))
        });
        self.successors.push(pid.with_context(|| self.daemon.log_tail())?);
        Ok(())
    }

    /// Every datapath process that is still there.
    #[must_use]
    pub fn alive(&self) -> Vec<Pid> {
        let all = std::iter::once(self.daemon.pid()).chain(self.successors.iter().copied());
        all.filter(|pid| is_alive(*pid)).collect()
    }

    /// The proxy process that serves flows at the moment.
    ///
    /// # Errors
    ///
    /// When there is none.
    pub fn proxy(&self) -> anyhow::Result<Pid> {
        Self::proxy_of(self.serving())
    }

    /// The proxy process of a datapath process.
    ///
    /// # Errors
    ///
    /// When there is none.
    pub fn proxy_of(datapath: Pid) -> anyhow::Result<Pid> {
        Self::children_of(datapath)?.first().copied().context("the gateway has no proxy process")
    }

    /// All processes that a datapath process has started, those included that wait to be collected.
    ///
    /// # Errors
    ///
    /// When it is gone.
    pub fn children_of(datapath: Pid) -> anyhow::Result<Vec<Pid>> {
        let mut children = Vec::new();
        for task in fs::read_dir(format!("/proc/{datapath}/task"))? {
            // A thread may end meanwhile.
            let listed = fs::read_to_string(task?.path().join("children")).unwrap_or_default();
            for child in listed.split_whitespace() {
                children.push(Pid::from_raw(child.parse()?));
            }
        }
        Ok(children)
    }

    /// The control socket.
    #[must_use]
    pub fn control(&self) -> PathBuf {
        self.home.join("control.sock")
    }

    /// The folder of copies that are larger than fits into memory.
    #[must_use]
    pub fn spool(&self) -> PathBuf {
        self.home.join("spool")
    }

    /// The folder of the state store.
    #[must_use]
    pub fn state(&self) -> PathBuf {
        self.home.join("state")
    }

    /// Replaces the configuration file; the gateway does not read it by itself.
    ///
    /// # Errors
    ///
    /// When it cannot be written.
    pub fn write_settings(&self, settings: &Settings) -> anyhow::Result<()> {
        self.write_config(&settings.yaml(&self.home))
    }

    /// Replaces the configuration file by any text.
    ///
    /// # Errors
    ///
    /// When it cannot be written.
    pub fn write_config(&self, yaml: &str) -> anyhow::Result<()> {
        fs::write(self.home.join("gateway.yaml"), yaml).context("cannot write the configuration")
    }

    /// Asks for a reload by SIGHUP.
    ///
    /// # Errors
    ///
    /// When the gateway is gone.
    pub fn hang_up(&self) -> anyhow::Result<()> {
        self.signal(Signal::SIGHUP)
    }

    /// Sends a signal to the process that serves.
    ///
    /// # Errors
    ///
    /// When it is gone.
    pub fn signal(&self, signal: Signal) -> anyhow::Result<()> {
        kill(self.serving(), signal).context("the gateway is gone")
    }

    /// Runs a client command of the gateway, such as `status` or `sessions kill ID`, on the control socket; returns
    /// whether it succeeded and all it wrote.
    ///
    /// # Errors
    ///
    /// When it cannot be started. One that takes longer than 30 s is ended and has failed.
    pub fn control_command(&self, command: &str) -> anyhow::Result<(bool, String)> {
        self.control_command_with(command, &[])
    }

    /// The same with further arguments.
    ///
    /// # Errors
    ///
    /// As [`control_command`](Self::control_command).
    pub fn control_command_with(&self, command: &str, arguments: &[&str]) -> anyhow::Result<(bool, String)> {
        let mut client = Command::new("timeout");
        client.arg("30").arg(binary()?).args(command.split_whitespace()).args(arguments);
        client.arg("--socket").arg(self.control());
        let output = client.stdin(Stdio::null()).output()?;
        let written = [output.stdout, output.stderr].concat();
        Ok((output.status.success(), String::from_utf8_lossy(&written).into_owned()))
    }

    /// Stops it and starts it again with other settings.
    ///
    /// # Errors
    ///
    /// As [`stop`](Self::stop) and [`start`](Self::start).
    pub fn restart(&mut self, lab: &Lab, settings: &Settings) -> anyhow::Result<()> {
        self.stop()?;
        // What the first one wrote is read no more: its successor is ready when its own log says so.
        self.daemon.forget_log()?;
        *self = Self::start(lab, settings)?;
        Ok(())
    }

    /// Stops it in good order.
    ///
    /// # Errors
    ///
    /// When it does not end by itself, or not with success.
    pub fn stop(&mut self) -> anyhow::Result<()> {
        if let Some(serving) = self.successors.last().copied() {
            kill(serving, Signal::SIGTERM).context("the gateway is gone")?;
            // It takes older ones with it that still drain.
            wait::until(Duration::from_secs(60), "end of the gateway", || {
                Ok(self.alive().is_empty().then_some(()))
            })
            .with_context(|| self.daemon.log_tail())?;
            self.successors.clear();
        }
        let status = self.daemon.stop()?;
        if !status.success() {
            bail!("the gateway ended with {status}");
        }
        Ok(())
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        // The first one is the daemon's to end.
        let home = self.home.display().to_string();
        let is_ours = |pid: &&Pid| {
            // The number of one that has ended may be another's.
            fs::read_to_string(format!("/proc/{pid}/cmdline")).is_ok_and(|line| line.contains(&home))
        };
        for pid in self.successors.iter().rev().filter(is_ours) {
            kill(*pid, Signal::SIGKILL).ok();
        }
    }
}

/// Whether a process runs: one that only waits to be collected does not.
#[must_use]
pub fn is_alive(pid: Pid) -> bool {
    let state = fs::read_to_string(format!("/proc/{pid}/stat"));
    state.is_ok_and(|stat| stat.rsplit(')').next().is_some_and(|rest| !rest.starts_with(" Z")))
}

/// What the log says once flows are intercepted.
const READY: &str = "intercepting";

/// The gateway's binary: `$GATEWAY_BINARY`, else the one built beside this program.
///
/// # Errors
///
/// When it is not built.
pub fn binary() -> anyhow::Result<PathBuf> {
    if let Some(path) = std::env::var_os("GATEWAY_BINARY") {
        return Ok(PathBuf::from(path));
    }
    let program = std::env::current_exe()?;
    let beside = program.ancestors().skip(1).map(|folder| folder.join("gateway")).find(|path| path.is_file());
    beside.context("the gateway is not built: run `cargo build`, or `cargo xtask test`")
}
