//! Clients that are locked and mail that waits, by the million: made once for each size, and given to every gateway
//! that is measured.

use std::fs::{self, File};
use std::io::{BufWriter, Write as _};
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, ensure};
use gateway_tests::gateway::{Gateway, Settings};
use gateway_tests::lab::Lab;
use gateway_tests::process;
use tempfile::TempDir;

use super::growth::Stage;
use super::inspect::{self, Load};
use super::peer;
use crate::interrupt::Interrupt;
use crate::{say, step};

/// State stores with locks in them.
pub(super) struct Locked(Vec<TempDir>);

impl Locked {
    /// Has a gateway take in so many locks, for each of the sizes.
    pub(super) fn prepare(binary: &Path, sizes: &[u32], interrupt: &Interrupt) -> anyhow::Result<Self> {
        let mut stores = Vec::new();
        for locks in sizes {
            interrupt.check()?;
            say::line(&format!("a state store with {locks} locks"));
            let lab = Lab::new()?;
            let spool = lab.directory().join("gateway/spool");
            fs::create_dir_all(&spool)?;
            write_locks(&spool.join("locks.json"), *locks)?;
            let mut gateway = Gateway::start_binary(binary, &lab, &Settings::default(), &[])?;
            gateway.wait_for_log("locks of an earlier release are in the state store")?;
            gateway.stop()?;
            let store = TempDir::new()?;
            copy(&gateway.state(), &store.path().join("state"), "-a")?;
            stores.push(store);
        }
        Ok(Self(stores))
    }

    /// Messages of a client that is not locked, where those of one size are.
    pub(super) fn stage(&self, size: usize) -> anyhow::Result<Stage> {
        let lab = peer::lab()?;
        let store = self.0.get(size).context("no such size")?;
        copy(&store.path().join("state"), &home(&lab)?.join("state"), "-a")?;
        let settings = Settings { limits: inspect::limits(), ..Settings::default() };
        Ok(Stage { lab, settings, load: Load::profiled(false).of_sessions(8) })
    }
}

/// So many clients, none of which is in the lab, as an earlier release left them.
fn write_locks(path: &Path, locks: u32) -> anyhow::Result<()> {
    const FIRST: u32 = 0x0a00_0000;
    let mut file = BufWriter::new(File::create(path)?);
    write!(file, r#"{{"exempt":[],"locks":["#)?;
    for place in 0..locks {
        let (comma, who) = (if place == 0 { "" } else { "," }, Ipv4Addr::from(FIRST.saturating_add(place)));
        write!(
            file,
            r#"{comma}{{"who":"{who}","action":"drop","cause":"virus","detail":"Eicar","session":null,"since":1,"until":null,"offences":1,"refused":0}}"#
        )?;
    }
    write!(file, "]}}")?;
    Ok(file.flush()?)
}

/// Queues in which mail waits for another attempt.
pub(super) struct Waiting(Vec<TempDir>);

impl Waiting {
    /// Fills a queue for each of the sizes (`tests/bench/queue.rs`).
    pub(super) fn prepare(sizes: &[u32], interrupt: &Interrupt) -> anyhow::Result<Self> {
        let mut queues = Vec::new();
        for messages in sizes {
            interrupt.check()?;
            say::line(&format!("a queue of {messages} messages"));
            let queue = TempDir::new()?;
            let mut fill =
                step::cargo(&["bench", "--quiet", "--package", "gateway-tests", "--bench", "queue", "--"]);
            fill.arg(queue.path().join("queue")).arg(messages.to_string());
            let status = fill.stdin(Stdio::null()).status().context("cannot run cargo bench")?;
            ensure!(status.success(), "the queue could not be filled");
            process::done(Command::new("chown").args(["-R", "nobody:"]).arg(queue.path().join("queue")))?;
            queues.push(queue);
        }
        Ok(Self(queues))
    }

    /// Mail that is taken and delivered, while that of one size waits.
    pub(super) fn stage(&self, size: usize) -> anyhow::Result<Stage> {
        let lab = peer::lab()?;
        let filled = self.0.get(size).context("no such size")?;
        let queue = home(&lab)?.join("queue");
        // Segments are never written again by another process than the one that began them, so that links will do.
        copy(&filled.path().join("queue"), &queue, "-al")?;
        let settings = Settings {
            limits: inspect::limits(),
            lanes: vec!["{client: [192.0.2.0/24], lane: relay, target: original}"],
            more: format!("queue:\n  directory: {}\n  min-free: 1MiB\n", queue.display()),
            ..Settings::default()
        };
        Ok(Stage { lab, settings, load: Load::profiled(false).of_sessions(8) })
    }
}

/// The folder of the gateway's folders in a lab.
fn home(lab: &Lab) -> anyhow::Result<PathBuf> {
    let home = lab.directory().join("gateway");
    fs::create_dir_all(&home)?;
    Ok(home)
}

fn copy(from: &Path, to: &Path, how: &str) -> anyhow::Result<()> {
    process::done(Command::new("cp").arg(how).arg(from).arg(to)).map(drop)
}
