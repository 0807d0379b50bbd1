//! `gateway helper`, as on a router that redirects flows to a gateway elsewhere.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};

use crate::gateway::binary;
use crate::lab::Lab;
use crate::process::Daemon;

/// A running helper in the router's namespace.
#[derive(Debug)]
pub struct Helper {
    daemon: Daemon,
    config: PathBuf,
}

impl Helper {
    /// Starts one with these sections of `gateway.yaml`, and waits until it answers.
    ///
    /// # Errors
    ///
    /// When it does not within 15 s: then with the end of its log.
    pub fn start(lab: &Lab, sections: &str) -> anyhow::Result<Self> {
        let config = lab.directory().join("helper.yaml");
        fs::write(&config, yaml(sections))?;
        let mut command = lab.router().host_command(&binary()?.to_string_lossy());
        command.arg("helper").arg("-c").arg(&config);
        let mut daemon = Daemon::start("helper", lab.directory(), &mut command)?;
        daemon.wait_until(Duration::from_secs(15), |daemon| daemon.log().contains("answering"))?;
        Ok(Self { daemon, config })
    }

    /// Gives it other sections and has it read them, and waits until it says `said` about that.
    ///
    /// # Errors
    ///
    /// When it does not within 20 s.
    pub fn reload(&self, sections: &str, said: &str) -> anyhow::Result<()> {
        fs::write(&self.config, yaml(sections))?;
        kill(self.daemon.pid(), Signal::SIGHUP)?;
        self.daemon.wait_for_log(Duration::from_secs(20), said).map(drop)
    }

    /// The process.
    #[must_use]
    pub const fn daemon(&self) -> &Daemon {
        &self.daemon
    }
}

fn yaml(sections: &str) -> String {
    format!("user: nobody\n{sections}")
}
