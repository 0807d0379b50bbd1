//! Ctrl-C and its relatives: what was made is removed before the tool ends.
//!
//! A signal only raises a flag. Everything that waits looks at it, fails, and on the way out each
//! part of the lab removes itself.

use std::process::{Child, ExitStatus};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use anyhow::bail;
use gateway_tests::wait::Deadline;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};

/// Whether the user wants this to end.
#[derive(Clone, Debug)]
pub(crate) struct Interrupt(Arc<AtomicBool>);

impl Interrupt {
    /// Takes Ctrl-C, SIGTERM and the end of the terminal.
    pub(crate) fn catch() -> anyhow::Result<Self> {
        let flag = Arc::new(AtomicBool::new(false));
        for signal in [SIGINT, SIGTERM, SIGHUP] {
            signal_hook::flag::register(signal, Arc::clone(&flag))?;
        }
        Ok(Self(flag))
    }

    /// Whether it came.
    pub(crate) fn came(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    /// Fails when it came.
    pub(crate) fn check(&self) -> anyhow::Result<()> {
        if self.came() {
            bail!("interrupted");
        }
        Ok(())
    }

    /// Waits for a command to end; ends it when the user wants to end, or after `limit`.
    pub(crate) fn wait(&self, child: &mut Child, limit: Option<Duration>) -> anyhow::Result<ExitStatus> {
        let deadline = limit.map(Deadline::after);
        loop {
            if let Some(status) = child.try_wait()? {
                return Ok(status);
            }
            if self.came() || deadline.is_some_and(Deadline::passed) {
                child.kill()?;
                child.wait()?;
                self.check()?;
                bail!("it did not end in time");
            }
            thread::sleep(Duration::from_millis(20));
        }
    }
}
