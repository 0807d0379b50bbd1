//! The process that runs the operator's script for locks.
//!
//! Owns how many run, for how long, and what they find around them. It has an account of its own, no
//! capability, and no descriptor but the channel on which it is told what to run.

use std::collections::VecDeque;

use tokio::task::JoinSet;

use crate::ipc::offender::{End, Errand, Report};
use crate::ipc::{self, Channel};

mod environment;
mod script;

/// Errands that wait for their turn at most.
const WAITING: usize = 256;

/// Runs what it is told to until the channel is closed and nothing runs any more.
///
/// # Errors
///
/// When it cannot be understood what is to be run.
pub async fn serve(channel: Channel) -> Result<(), ipc::Error> {
    let (mut waiting, mut running) = (VecDeque::<Errand>::new(), JoinSet::new());
    let mut open = true;
    while open || !running.is_empty() {
        while waiting.front().is_some_and(|errand| running.len() < errand.at_once.max(1)) {
            if let Some(errand) = waiting.pop_front() {
                running.spawn(script::run(errand));
            }
        }
        tokio::select! {
            received = channel.receive::<Errand>(), if open => match received? {
                Some((errand, _)) if waiting.len() < WAITING => waiting.push_back(errand),
                Some((errand, _)) => report(&channel, &Report { lock: errand.offender.lock, end: End::LeftOut }),
                // The gateway stops: whoever has waited so far is left out.
                None => {
                    open = false;
                    waiting.clear();
                }
            },
            Some(ended) = running.join_next() => {
                if let Ok(ended) = ended {
                    report(&channel, &ended);
                }
            }
        }
    }
    Ok(())
}

/// A report that finds no room is lost, and a gateway that has left reads none.
fn report(channel: &Channel, report: &Report) {
    if let Err(error) = channel.try_send(report) {
        tracing::debug!(%error, "nobody hears how a script has ended");
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::{Path, PathBuf};
    use std::process::Command;
    use std::time::Duration;

    use tempfile::TempDir;

    use super::*;
    use crate::clock;
    use crate::intercept::address::{ClientAddr, OriginalDst};
    use crate::intercept::flow::SessionId;
    use crate::ipc::offender::{Found, Offender, Scene, Told};

    fn script(folder: &TempDir, text: &str) -> PathBuf {
        let path = folder.path().join("script");
        // Written by another process: what other tests start meanwhile must not hold it open (`execve(2)`, ETXTBSY).
        let write = "printf '#!/bin/sh\\n%s\\n' \"$1\" > \"$0\" && chmod 755 \"$0\"";
        let written = Command::new("sh").args(["-c", write]).arg(&path).arg(text).status().unwrap();
        assert!(written.success());
        path
    }

    fn errand(script: &Path, limit: Duration, at_once: usize) -> Errand {
        let offender = Offender {
            gateway: Told::default(),
            found: Found::EarlyTalk,
            detail: Told::default(),
            lock: "192.0.2.7".to_owned().try_into().unwrap(),
            duration: None,
            session: SessionId::next(clock::wall()),
            client: ClientAddr::new("192.0.2.7:1025".parse().unwrap()),
            destination: OriginalDst::new("198.51.100.2:25".parse().unwrap()),
            listener: None,
            identity: None,
            sessions: 1,
            scene: Scene::default(),
        };
        Errand { script: script.to_owned(), limit, at_once, offender }
    }

    /// Has all of these run, and returns how each has ended, in order of the ends.
    async fn ends(errands: Vec<Errand>) -> Vec<End> {
        let (ours, theirs) = ipc::channel::pair().unwrap();
        let (ours, theirs) = (Channel::new(ours).unwrap(), Channel::new(theirs).unwrap());
        let served = tokio::spawn(serve(theirs));
        let count = errands.len();
        let mut ends = Vec::new();
        let hear = async {
            while ends.len() < count {
                ends.push(ours.receive::<Report>().await.unwrap().unwrap().0.end);
            }
        };
        let tell = async {
            for errand in errands {
                ours.send(&errand, &[]).await.unwrap();
            }
        };
        tokio::join!(tell, hear);
        drop(ours);
        served.await.unwrap().unwrap();
        ends
    }

    const LONG: Duration = Duration::from_secs(60);

    #[tokio::test]
    async fn a_script_succeeds_fails_or_cannot_be_run() {
        let folder = TempDir::new().unwrap();
        let good = script(&folder, "exit 0");
        assert_eq!(ends(vec![errand(&good, LONG, 1)]).await, [End::Done]);
        let bad = script(&folder, "exit 3");
        let [End::Failed { reason }] = &ends(vec![errand(&bad, LONG, 1)]).await[..] else {
            unreachable!("3")
        };
        assert!(reason.contains("exit status: 3"), "{reason}");
        let none = errand(&folder.path().join("none"), LONG, 1);
        let [End::Failed { reason }] = &ends(vec![none]).await[..] else { unreachable!("no file") };
        assert!(reason.contains("No such file"), "{reason}");
    }

    #[tokio::test]
    async fn a_script_that_hangs_is_killed_with_what_it_has_started() {
        let folder = TempDir::new().unwrap();
        let pids = folder.path().join("pids");
        // The first one hangs itself, the second one is gone and has left something behind.
        for last in ["wait", "exit 0"] {
            let hanging = script(&folder, &format!("sleep 600 & echo $! > {}\n{last}", pids.display()));
            assert_eq!(ends(vec![errand(&hanging, Duration::from_secs(3), 1)]).await, [End::Overdue]);
            let pid = fs::read_to_string(&pids).unwrap();
            // The kernel takes a moment to end it; then it may wait for init to collect it.
            let running = || {
                let stat = fs::read_to_string(format!("/proc/{}/stat", pid.trim()));
                stat.is_ok_and(|stat| !stat.contains(") Z ") && !stat.contains(") X "))
            };
            let mut looks = 0;
            while running() {
                looks += 1;
                assert!(looks < 200, "process {pid} is still there");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }

    #[tokio::test]
    async fn no_more_run_at_once_than_may_and_none_is_lost() {
        let folder = TempDir::new().unwrap();
        let marks = folder.path().join("marks");
        fs::create_dir(&marks).unwrap();
        // Fails when a third one is there.
        let text = format!(
            "mkdir {0}/$$; [ $(ls {0} | wc -l) -le 2 ] || exit 1; sleep 0.2; rmdir {0}/$$",
            marks.display()
        );
        let path = script(&folder, &format!("PATH=/usr/bin:/bin\n{text}"));
        let all = ends((0..8).map(|_| errand(&path, LONG, 2)).collect()).await;
        assert_eq!(all, vec![End::Done; 8]);
    }

    #[tokio::test]
    async fn what_finds_no_room_to_wait_is_left_out() {
        let folder = TempDir::new().unwrap();
        let gate = folder.path().join("gate");
        let text = format!("PATH=/usr/bin:/bin\nwhile [ ! -e {} ]; do sleep 0.1; done", gate.display());
        let path = script(&folder, &text);
        let (ours, theirs) = ipc::channel::pair().unwrap();
        let (ours, theirs) = (Channel::new(ours).unwrap(), Channel::new(theirs).unwrap());
        let served = tokio::spawn(serve(theirs));
        for _ in 0..WAITING + 3 {
            ours.send(&errand(&path, LONG, 1), &[]).await.unwrap();
        }
        // One runs, the others wait, and two are too many.
        for _ in 0..2 {
            let (report, _) = ours.receive::<Report>().await.unwrap().unwrap();
            assert_eq!(report.end, End::LeftOut);
        }
        fs::write(&gate, "").unwrap();
        assert_eq!(ours.receive::<Report>().await.unwrap().unwrap().0.end, End::Done);
        drop(ours);
        served.await.unwrap().unwrap();
    }
}
