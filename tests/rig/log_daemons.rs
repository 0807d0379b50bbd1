//! Syslog and the journal, as far as a gateway sees them.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::Duration;

use anyhow::Context as _;

use crate::gateway::binary;
use crate::wait::Deadline;

/// How long a line may take to come.
const LONG: Duration = Duration::from_secs(20);

/// Sockets where syslog and the journal listen, for one gateway only: it has a `/dev` and a `/run`
/// of its own, which go with it.
#[derive(Debug)]
pub struct LogDaemons {
    syslog: Receiver<String>,
    journal: Receiver<String>,
    program: PathBuf,
}

impl LogDaemons {
    /// Listens in `directory`.
    ///
    /// # Errors
    ///
    /// When the gateway is not built, or the folder cannot be written.
    pub fn start(directory: &Path) -> anyhow::Result<Self> {
        let (syslog, journal) = (listen(&directory.join("syslog"))?, listen(&directory.join("journal"))?);
        let program = directory.join("gateway-among-log-daemons");
        fs::write(&program, script(directory, &binary()?))?;
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755))?;
        Ok(Self { syslog, journal, program })
    }

    /// What to start in the gateway's place: the gateway among these daemons.
    #[must_use]
    pub fn program(&self) -> &Path {
        &self.program
    }

    /// The next line for syslog that contains `text`.
    ///
    /// # Errors
    ///
    /// When none comes in time.
    pub fn syslog(&self, text: &str) -> anyhow::Result<String> {
        receive(&self.syslog, text)
    }

    /// The next entry for the journal that contains `text`.
    ///
    /// # Errors
    ///
    /// As [`syslog`](Self::syslog).
    pub fn journal(&self, text: &str) -> anyhow::Result<String> {
        receive(&self.journal, text)
    }
}

/// Starts `binary` where the two sockets are at their usual places.
fn script(directory: &Path, binary: &Path) -> String {
    let (directory, binary) = (directory.display(), binary.display());
    let inside = format!(
        "set -e
mkdir {directory}/dev
mount --rbind /dev {directory}/dev
mount -t tmpfs tmpfs /dev
for node in null zero random urandom; do
  touch /dev/$node
  mount --bind {directory}/dev/$node /dev/$node
done
ln -s {directory}/syslog /dev/log
mount -t tmpfs tmpfs /run
mkdir -p /run/systemd/journal /run/gateway
ln -s {directory}/journal /run/systemd/journal/socket
exec {binary} \"$@\"
"
    );
    format!("#!/bin/sh\nexec unshare --mount --propagation private sh -c '{inside}' sh \"$@\"\n")
}

/// Takes every datagram at once: a socket holds few, and a gateway does not wait for room.
fn listen(path: &Path) -> anyhow::Result<Receiver<String>> {
    let socket = UnixDatagram::bind(path)?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o666))?;
    socket.set_read_timeout(Some(Duration::from_millis(100)))?;
    let (lines, received) = mpsc::channel();
    let path = path.to_owned();
    thread::spawn(move || {
        let mut buffer = vec![0; 64 * 1024];
        // The folder goes with the lab.
        while path.exists() {
            let Ok(length) = socket.recv(&mut buffer) else { continue };
            let line = String::from_utf8_lossy(buffer.get(..length).unwrap_or_default()).into_owned();
            if lines.send(line).is_err() {
                return;
            }
        }
    });
    Ok(received)
}

fn receive(lines: &Receiver<String>, text: &str) -> anyhow::Result<String> {
    let deadline = Deadline::after(LONG);
    loop {
        let line = lines.recv_timeout(deadline.left()).with_context(|| format!("no word of {text}"))?;
        if line.contains(text) {
            return Ok(line);
        }
    }
}
