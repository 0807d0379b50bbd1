//! HAProxy, a load balancer that speaks the PROXY protocol.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use crate::netns::Netns;
use crate::process::Daemon;
use crate::sink;

/// A running HAProxy.
#[derive(Debug)]
pub struct Haproxy {
    _daemon: Daemon,
}

impl Haproxy {
    /// Starts one that passes what comes to `address` on to `server`; `options` are those of its line
    /// `server`, such as `send-proxy-v2`.
    ///
    /// # Errors
    ///
    /// When HAProxy is not installed or does not listen within 15 s.
    pub fn start(
        netns: &Netns,
        address: SocketAddr,
        server: SocketAddr,
        options: &str,
        directory: &Path,
    ) -> anyhow::Result<Self> {
        let config = directory.join(format!("haproxy-{}.cfg", address.port()));
        fs::write(
            &config,
            format!(
                "defaults\n mode tcp\n timeout connect 10s\n timeout client 60s\n timeout server 60s\n\
                 listen smtp\n bind {address}\n option smtpchk EHLO check.example\n \
                 server gateway {server} {options}\n"
            ),
        )?;
        let mut command = netns.command("/usr/sbin/haproxy");
        // -db: stay in the foreground.
        command.arg("-db").arg("-f").arg(&config);
        let mut daemon = Daemon::start("haproxy", directory, &mut command)?;
        daemon.wait_until(Duration::from_secs(15), |_| sink::listens(netns, address))?;
        Ok(Self { _daemon: daemon })
    }
}
