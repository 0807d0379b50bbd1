//! A tmux server of our own, so that nobody else's sessions are touched.

use std::process::Command;

use anyhow::Context as _;
use gateway_tests::gateway::{self, Gateway};
use gateway_tests::lab::Lab;
use gateway_tests::process::{best_effort, done};
use nix::unistd::Pid;

use crate::interrupt::Interrupt;

/// The server; it ends with everything in it when this is dropped.
#[derive(Debug)]
pub(crate) struct Tmux {
    socket: String,
}

impl Tmux {
    /// A server whose socket lies in the lab's folder.
    pub(crate) fn new(lab: &Lab) -> Self {
        Self { socket: lab.directory().join("tmux").display().to_string() }
    }

    /// Starts it with one window.
    pub(crate) fn open(&self, name: &str, shell_command: &str) -> anyhow::Result<()> {
        let size = ["-x", "200", "-y", "50"];
        done(self.command(&["new-session", "-d", "-s", "lab", "-n", name]).args(size).arg(shell_command))?;
        Ok(())
    }

    /// One more window, in the background.
    pub(crate) fn window(&self, name: &str, shell_command: &str) -> anyhow::Result<()> {
        done(self.command(&["new-window", "-d", "-t", "lab", "-n", name]).arg(shell_command))?;
        Ok(())
    }

    /// A second pane below what the first window shows.
    pub(crate) fn below(&self, shell_command: &str) -> anyhow::Result<()> {
        done(self.command(&["split-window", "-d", "-v", "-l", "40%", "-t", "lab"]).arg(shell_command))?;
        Ok(())
    }

    /// Shows it on this terminal until the user leaves.
    pub(crate) fn attach(&self, interrupt: &Interrupt) -> anyhow::Result<()> {
        let mut client = self.command(&["attach-session", "-t", "lab"]).spawn()?;
        interrupt.wait(&mut client, None).map(|_| ())
    }

    /// Presses a key in the first window.
    pub(crate) fn press(&self, key: &str) -> anyhow::Result<()> {
        done(&mut self.command(&["send-keys", "-t", "lab", key])).map(drop)
    }

    /// The process in the first window.
    pub(crate) fn process(&self) -> anyhow::Result<Pid> {
        let pid = done(&mut self.command(&["list-panes", "-t", "lab", "-F", "#{pane_pid}"]))?;
        Ok(Pid::from_raw(pid.trim().parse().with_context(|| format!("no process number: {pid:?}"))?))
    }

    /// How somebody else looks at it.
    pub(crate) fn how_to_attach(&self) -> String {
        format!("tmux -S {} attach", self.socket)
    }

    /// The shell command of the console.
    pub(crate) fn console(gateway: &Gateway) -> anyhow::Result<String> {
        Ok(format!("{} top --socket {}", gateway::binary()?.display(), gateway.control().display()))
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new("tmux");
        // -f: nobody's own settings. Inside another tmux this one is still separate.
        command.args(["-S", &self.socket, "-f", "/dev/null"]).args(arguments).env_remove("TMUX");
        command
    }
}

impl Drop for Tmux {
    fn drop(&mut self) {
        best_effort(&mut self.command(&["kill-server"]));
    }
}
