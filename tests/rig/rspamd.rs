//! A real rspamd with the packaged rules, and no question to the network.
//!
//! What it compiles at its first start stays in the project's `target` folder, so that the next
//! start takes seconds.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::Context as _;
use nix::sys::signal::Signal;
use nix::unistd::{User, chown};

use crate::lab::Lab;
use crate::process::Daemon;

/// How long rspamd has to compile its rules and answer: 35 s were seen.
const START_LIMIT: Duration = Duration::from_secs(120);

/// The account of the package, which it gives itself up to.
const USER: &str = "_rspamd";

/// A running rspamd.
#[derive(Debug)]
pub struct Rspamd {
    home: PathBuf,
    socket: PathBuf,
    tcp: Option<SocketAddr>,
    controller: Option<SocketAddr>,
    compiled: PathBuf,
    daemon: Daemon,
}

impl Rspamd {
    /// What its controller wants to hear.
    pub const PASSWORD: &str = "lab-password";

    /// Starts one for a lab, on a UNIX socket.
    ///
    /// # Errors
    ///
    /// When it does not answer within 120 s.
    pub fn start(lab: &Lab) -> anyhow::Result<Self> {
        Self::launch(lab.router().command("rspamd"), lab.directory(), None)
    }

    /// Starts one in this namespace, which listens on a free port of 127.0.0.1, too.
    ///
    /// # Errors
    ///
    /// When it does not answer within 120 s.
    pub fn here(directory: &Path) -> anyhow::Result<Self> {
        // Both are free at the same time, so they are two.
        let free = [(); 2].map(|()| TcpListener::bind((Ipv4Addr::LOCALHOST, 0)));
        let [tcp, controller] = free.map(|free| free.and_then(|free| free.local_addr()));
        Self::launch(Command::new("rspamd"), directory, Some((tcp?, controller?)))
    }

    fn launch(
        mut command: Command,
        directory: &Path,
        ports: Option<(SocketAddr, SocketAddr)>,
    ) -> anyhow::Result<Self> {
        let (tcp, controller) = ports.unzip();
        let home = directory.join("rspamd");
        let account = User::from_name(USER)?.with_context(|| format!("no account `{USER}`"))?;
        let own = |folder: &Path| -> anyhow::Result<()> {
            fs::create_dir_all(folder)?;
            chown(folder, Some(account.uid), Some(account.gid))?;
            Ok(fs::set_permissions(folder, fs::Permissions::from_mode(0o755))?)
        };
        fs::set_permissions(directory, fs::Permissions::from_mode(0o755))?;
        let (state, local) = (home.join("state"), home.join("local"));
        [&home, &state, &local].into_iter().try_for_each(|folder| own(folder))?;
        // The project may be where only its owner gets to.
        let compiled = home.join("compiled");
        own(&compiled)?;
        copy_files(&kept()?, &compiled)?;

        let rules = home.join("rules.lua");
        fs::write(&rules, RULES)?;
        let socket = home.join("worker.sock");
        let tcp_line = tcp.map_or_else(String::new, |tcp| format!("bind_socket = \"{tcp}\";"));
        let controller_lines = controller.map_or_else(String::new, |addr| {
            let password = Self::PASSWORD;
            format!("worker \"controller\" {{ bind_socket = \"{addr}\"; count = 1; password = \"{password}\"; }}\n")
        });
        let config = format!(
            "options {{ pidfile = \"{state}/rspamd.pid\"; filters = \"chartable,dkim,regexp\";\n\
             dns {{ nameserver = [\"127.0.0.1:1\"]; timeout = 0.2s; retransmits = 1; }}\n\
             local_addrs = \"127.0.0.0/8\"; tempdir = \"{state}\"; enable_test_patterns = true;\n\
             control_socket = \"{state}/control.sock mode=0600\";\n\
             soft_reject_on_timeout = false; task_timeout = 8s; hs_cache_dir = \"{compiled}\"; }}\n\
             logging {{ type = \"file\"; filename = \"{state}/rspamd.log\"; level = \"info\"; }}\n\
             worker \"normal\" {{ bind_socket = \"{socket} mode=0666\"; {tcp_line} count = 1; }}\n\
             {controller_lines}\
             actions {{ reject = 15; add_header = 6; greylist = 4; }}\n\
             lua = \"{rules}\"\n",
            state = state.display(),
            compiled = compiled.display(),
            socket = socket.display(),
            rules = rules.display(),
        );
        let file = home.join("rspamd.conf");
        fs::write(&file, config)?;
        command.args(["--no-fork", "--user", USER, "--group", USER, "--config"]).arg(&file);
        for (name, folder) in
            [("DBDIR", &compiled), ("RUNDIR", &state), ("LOGDIR", &state), ("LOCAL_CONFDIR", &local)]
        {
            command.arg("--var").arg(format!("{name}={}", folder.display()));
        }
        let mut daemon = Daemon::start("rspamd", directory, &mut command)?;
        daemon.wait_until(START_LIMIT, |_| answers(&socket))?;
        Ok(Self { home, socket, tcp, controller, compiled, daemon })
    }

    /// Where it listens, as `scan.rspamd.address` wants it.
    #[must_use]
    pub fn address(&self) -> String {
        format!("unix:{}", self.socket.display())
    }

    /// Every address it listens on, as `scan.rspamd.address` wants them.
    #[must_use]
    pub fn addresses(&self) -> Vec<String> {
        std::iter::once(self.address()).chain(self.tcp.map(|tcp| format!("tcp:{tcp}"))).collect()
    }

    /// Where its controller listens, which wants [`Self::PASSWORD`].
    #[must_use]
    pub fn controller(&self) -> Option<String> {
        self.controller.map(|controller| format!("tcp:{controller}"))
    }

    /// What it has written into its own log.
    #[must_use]
    pub fn log(&self) -> String {
        let octets = fs::read(self.home.join("state/rspamd.log")).unwrap_or_default();
        String::from_utf8_lossy(&octets).into_owned()
    }

    /// Sends it and its workers a signal, such as `SIGSTOP`.
    ///
    /// # Errors
    ///
    /// When it has ended.
    pub fn signal(&self, signal: Signal) -> anyhow::Result<()> {
        self.daemon.signal_group(signal)
    }

    /// Ends it; its socket refuses from then on.
    ///
    /// # Errors
    ///
    /// When it has to be killed.
    pub fn stop(&mut self) -> anyhow::Result<()> {
        self.daemon.stop().map(|_| ())
    }
}

/// The packaged rules, and one by which a test chooses the action: `Subject: action: soft reject`.
const RULES: &str = "dofile('/usr/share/rspamd/rules/rspamd.lua')\n\
    rspamd_config:register_symbol{ name = 'LAB_ACTION', type = 'prefilter',\n\
      callback = function(task)\n\
        local action = (task:get_subject() or ''):match('^action: (.+)$')\n\
        if action then task:set_pre_result(action, 'chosen by the lab') end\n\
      end }\n";

impl Drop for Rspamd {
    fn drop(&mut self) {
        // Without them the next start takes longer, no more.
        kept().and_then(|kept| copy_files(&self.compiled, &kept)).ok();
    }
}

/// Where compiled rules stay from one run to the next.
fn kept() -> anyhow::Result<PathBuf> {
    let program = std::env::current_exe()?;
    let target = program.ancestors().find(|folder| folder.ends_with("target"));
    let kept = target.or_else(|| program.parent()).context("a program without a folder")?.join("rspamd");
    fs::create_dir_all(&kept)?;
    Ok(kept)
}

/// Copies the files of `from` that `to` does not have; a reader never sees half of one.
fn copy_files(from: &Path, to: &Path) -> anyhow::Result<()> {
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let name = entry.file_name();
        // Those are made of the others while they are read.
        let is_passing = Path::new(&name).extension().is_some_and(|end| end == "unser");
        if entry.file_type()?.is_file() && !is_passing && !to.join(&name).exists() {
            let half = to.join(format!("{}.{}", name.to_string_lossy(), std::process::id()));
            fs::copy(entry.path(), &half)?;
            fs::rename(&half, to.join(&name))?;
        }
    }
    Ok(())
}

/// Whether it answers a ping.
fn answers(socket: &Path) -> bool {
    let ask = || -> std::io::Result<String> {
        let mut stream = UnixStream::connect(socket)?;
        stream.set_read_timeout(Some(Duration::from_secs(1)))?;
        stream.write_all(b"GET /ping HTTP/1.0\r\n\r\n")?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok(answer)
    };
    ask().is_ok_and(|answer| answer.contains("pong"))
}
