//! The program is exchanged under a thousand open sessions. Row 167 of the attack cases is here.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use gateway_tests::gateway::Gateway;
use gateway_tests::lab::{Family, Lab};
use gateway_tests::wait;
use nix::sys::resource::{Resource, getrlimit, setrlimit};

use super::PATIENCE;
use crate::direct::{echo, settings, sockets, started};

/// Sessions that the kernel carries.
const CARRIED: usize = 1_000;
/// So many are opened at the same time.
const WORKERS: usize = 8;
/// No session may wait longer for an answer.
const STANDSTILL: Duration = Duration::from_secs(1);
/// Between two rounds.
const BETWEEN: Duration = Duration::from_millis(100);
/// How long a thread may oversleep on a machine that has time for it.
const PUNCTUAL: Duration = Duration::from_millis(200);

/// Opens so many sessions, of both families.
fn open(lab: &Lab, number: usize) -> anyhow::Result<Vec<TcpStream>> {
    let address = |place: usize| if place.is_multiple_of(2) { Family::V4 } else { Family::V6 }.smtp();
    thread::scope(|scope| {
        let workers: Vec<_> = (0..WORKERS)
            .map(|worker| {
                let places = (worker..number).step_by(WORKERS);
                scope.spawn(move || {
                    let opened = places.map(|place| started(lab, address(place)));
                    opened.collect::<anyhow::Result<Vec<_>>>()
                })
            })
            .collect();
        let opened = workers.into_iter().map(|worker| worker.join().expect("does not panic"));
        Ok(opened.collect::<anyhow::Result<Vec<_>>>()?.into_iter().flatten().collect())
    })
}

/// One octet there and back on every session, all at the same time; how long that took.
fn round(streams: &[TcpStream], octet: u8) -> anyhow::Result<Duration> {
    let began = wait::now();
    for mut stream in streams {
        stream.write_all(&[octet]).context("a session cannot be written to")?;
    }
    for mut stream in streams {
        let mut answer = [0];
        stream.read_exact(&mut answer).context("a session does not answer")?;
        ensure!(answer == [octet ^ 1], "{answer:?}");
    }
    Ok(began.elapsed())
}

#[test]
fn a_thousand_sessions_in_the_kernel_are_neither_reset_nor_stopped_by_upgrades() -> anyhow::Result<()> {
    // Each has a descriptor at both ends.
    let (_, most) = getrlimit(Resource::RLIMIT_NOFILE)?;
    setrlimit(Resource::RLIMIT_NOFILE, most.min(65_536), most)?;
    let lab = Lab::new()?;
    for family in [Family::V4, Family::V6] {
        echo(&lab, family.smtp())?;
    }
    let mut gateway = Gateway::start(&lab, &settings("preserve"))?;
    let streams = open(&lab, CARRIED)?;
    // One that was never quiet while the machine was busy stays with the old process, and goes on too.
    let deadline = wait::Deadline::after(PATIENCE);
    wait::until(3 * PATIENCE, "handoff of nearly all", || {
        round(&streams, 5)?;
        let left = sockets(&lab)?;
        Ok((left == 0 || left < CARRIED / 5 && deadline.passed()).then_some(()))
    })?;

    let (over, rounds) = (AtomicBool::new(false), AtomicUsize::new(0));
    let (longest, punctual) = thread::scope(|scope| {
        let watch = scope.spawn(|| {
            let mut punctual = true;
            while !over.load(Ordering::Relaxed) {
                let slept = wait::now();
                thread::sleep(Duration::from_millis(20));
                punctual &= slept.elapsed() < PUNCTUAL;
            }
            punctual
        });
        let talk = scope.spawn(|| {
            let mut longest = Duration::ZERO;
            while !over.load(Ordering::Relaxed) {
                longest = longest.max(round(&streams, 9)?);
                rounds.fetch_add(1, Ordering::Relaxed);
                // The gateway is to have its share of the machine.
                thread::sleep(BETWEEN);
            }
            anyhow::Ok(longest)
        });
        let upgraded = (1..=3).try_for_each(|upgrade| {
            let enough = rounds.load(Ordering::Relaxed) + 3;
            gateway.upgrade(&[]).with_context(|| format!("upgrade {upgrade}"))?;
            wait::until(PATIENCE, "rounds after an upgrade", || {
                Ok((talk.is_finished() || rounds.load(Ordering::Relaxed) >= enough).then_some(()))
            })
        });
        over.store(true, Ordering::Relaxed);
        let longest = talk.join().expect("does not panic");
        let punctual = watch.join().expect("does not panic");
        upgraded?;
        anyhow::Ok((longest?, punctual))
    })?;
    // A packet that is lost comes again after 200 ms and more, and a machine that stands still is none
    // of the gateway's doing.
    ensure!(longest < STANDSTILL || !punctual, "no answer for {longest:?}");
    round(&streams, 11)?;
    Ok(())
}
