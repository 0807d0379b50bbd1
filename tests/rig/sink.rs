//! Postfix's `smtp-sink`: accepts everything and keeps each message in a file.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::unistd::{Uid, User, chown};

use crate::lab::{Family, Lab};
use crate::netns::Netns;
use crate::process::Daemon;
use crate::wait;

/// A running `smtp-sink`.
#[derive(Debug)]
pub struct Sink {
    folder: PathBuf,
    _daemon: Daemon,
}

impl Sink {
    /// Starts one on the SMTP port of the server's address of this family.
    ///
    /// # Errors
    ///
    /// When it does not listen within 60 s.
    pub fn start(lab: &Lab, family: Family) -> anyhow::Result<Self> {
        Self::at(lab.server(), family.smtp(), lab.directory())
    }

    /// Starts one at any address of a namespace, with its files below `directory`.
    ///
    /// # Errors
    ///
    /// When it does not listen within 60 s.
    pub fn at(netns: &Netns, address: SocketAddr, directory: &Path) -> anyhow::Result<Self> {
        Self::with(netns, address, directory, &[])
    }

    /// The same with options of `smtp-sink`'s, for one that refuses, or leaves.
    ///
    /// # Errors
    ///
    /// When it does not listen within 10 s.
    pub fn with(
        netns: &Netns,
        address: SocketAddr,
        directory: &Path,
        options: &[&str],
    ) -> anyhow::Result<Self> {
        let name = format!("sink-{}-{}", address.ip().to_string().replace(':', "."), address.port());
        let folder = directory.join(&name);
        fs::create_dir(&folder)?;
        let account = User::from_name("nobody")?;
        let user = account.as_ref().map_or(Uid::current(), |user| user.uid);
        chown(&folder, Some(user), None)?;
        let mut command = netns.command("smtp-sink");
        // -d: every message into a file of its own; -u is asked for when started as root.
        command
            .args(["-c", "-u", "nobody", "-d", "message."])
            .args(options)
            .arg(address.to_string())
            .arg("512");
        command.current_dir(&folder);
        let mut daemon = Daemon::start(&name, directory, &mut command)?;
        daemon.wait_until(Duration::from_secs(60), |_| listens(netns, address))?;
        Ok(Self { folder, _daemon: daemon })
    }

    /// The messages it has accepted, each as `smtp-sink` writes them: trace lines, header, text.
    ///
    /// # Errors
    ///
    /// When a file cannot be read.
    pub fn messages(&self) -> anyhow::Result<Vec<String>> {
        let mut messages = Vec::new();
        for entry in fs::read_dir(&self.folder)? {
            let octets = fs::read(entry?.path())?;
            messages.push(String::from_utf8_lossy(&octets).into_owned());
        }
        Ok(messages)
    }

    /// Waits for a message that contains `text`.
    ///
    /// # Errors
    ///
    /// When none has come within 60 s.
    pub fn wait_for(&self, text: &str) -> anyhow::Result<String> {
        wait::until(Duration::from_secs(60), &format!("arrival of a message with `{text}`"), || {
            Ok(self.messages()?.into_iter().find(|message| message.contains(text)))
        })
    }
}

/// Whether somebody in `netns` listens on `address`.
#[must_use]
pub fn listens(netns: &Netns, address: SocketAddr) -> bool {
    let listeners = netns.command("ss").args(["-Hltn"]).output();
    listeners.is_ok_and(|output| {
        String::from_utf8_lossy(&output.stdout).split_whitespace().any(|word| word == address.to_string())
    })
}
