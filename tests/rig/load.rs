//! Keeping the machine busy.

use std::fs;
use std::hint::spin_loop;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use anyhow::Context as _;

use crate::wait;

/// Works until the load average of the last minute (`proc_loadavg(5)`) is above this.
///
/// # Errors
///
/// When it is not within a minute.
pub fn raise_above(average: f64) -> anyhow::Result<()> {
    let busy = || {
        let load = fs::read_to_string("/proc/loadavg").context("no load average")?;
        let minute: f64 = load.split(' ').next().unwrap_or_default().parse()?;
        Ok((minute > average).then_some(()))
    };
    // Looking takes no time, so the load comes from here.
    let spinning = AtomicBool::new(true);
    thread::scope(|scope| {
        scope.spawn(|| {
            while spinning.load(Ordering::Relaxed) {
                spin_loop();
            }
        });
        let loaded = wait::until(Duration::from_secs(60), "some load", busy);
        spinning.store(false, Ordering::Relaxed);
        loaded
    })
}
