//! Messages come at a steady pace while gateways take over from each other. The pace is that of a
//! whole machine, so these tests run alone: `cargo xtask test` looks for the name of this module.

use std::net::SocketAddr;
use std::thread;

use anyhow::{Context as _, ensure};
use gateway_tests::gateway::{Gateway, Settings};
use gateway_tests::lab::{Family, Lab};
use gateway_tests::recorder::{Manners, Recorder};
use gateway_tests::source::{self, Source};
use gateway_tests::wait;

use crate::upgrade::{PATIENCE, fixed, fixed_address};

/// Messages that are due in each second while gateways take over.
const PACE: u32 = 1_000;
/// Messages between two upgrades, at least.
const BETWEEN: usize = 1_000;
/// Upgrades while they come.
const UPGRADES: usize = 5;

/// Upgrades a gateway again and again while messages go through it.
fn upgrade_under_load(settings: &Settings, target: SocketAddr) -> anyhow::Result<()> {
    let lab = Lab::new()?;
    let server = Recorder::start(lab.server(), Family::V4.smtp(), Manners::default())?;
    let mut gateway = Gateway::start(&lab, settings)?;
    lab.client().sysctl("ipv4/ip_local_port_range", "1024 65535")?;
    // The client comes to ports again that it has just had. A connection that is remembered on the
    // router (TIME-WAIT) would answer the first SYN of another one, upgrade or not.
    lab.router().sysctl("ipv4/tcp_max_tw_buckets", "0")?;
    let source = Source::new(lab.client(), target, PACE);
    let more = |source: &Source<'_>| {
        let enough = source.accepted() + BETWEEN;
        wait::until(PATIENCE, "messages", || {
            Ok((source.is_over() || source.accepted() >= enough).then_some(()))
        })
    };
    let sent = thread::scope(|scope| {
        let sending = scope.spawn(|| source.run());
        let upgraded = (1..=UPGRADES).try_for_each(|upgrade| {
            more(&source)?;
            gateway.upgrade(&[]).map(drop).with_context(|| format!("upgrade {upgrade}"))
        });
        let upgraded = upgraded.and_then(|()| more(&source));
        source.stop();
        let sent = sending.join().expect("does not panic");
        upgraded.and(sent).with_context(|| gateway.daemon().log_tail())
    })?;
    // For the log of whoever runs the tests: what the machine has allowed.
    let (rate, repeated) = (sent.rate(), sent.repeated_syns);
    let said = format!("{rate:.0} of {PACE} messages a second in {:.1?}, {repeated} SYNs twice\n", sent.took);
    std::io::Write::write_all(&mut std::io::stderr(), said.as_bytes())?;
    // A SYN that nobody answered comes again after a second, and after a standstill of the machine.
    ensure!(repeated == 0 || !sent.punctual, "{repeated} SYNs were lost");
    // Each one arrived, and none twice.
    let mut arrived: Vec<usize> = server
        .messages()
        .iter()
        .map(|message| source::number(message).context("no number"))
        .collect::<Result<_, _>>()?;
    arrived.sort_unstable();
    assert_eq!(arrived, sent.numbers);
    // The old ones are gone with their sessions.
    wait::until(PATIENCE, "end of the old processes", || Ok((gateway.alive().len() == 1).then_some(())))?;
    ensure!(gateway.alive() == [gateway.serving()]);
    gateway.stop()
}

#[test]
fn no_message_is_lost_doubled_or_refused_in_five_upgrades_under_load() -> anyhow::Result<()> {
    upgrade_under_load(&fixed(), fixed_address())
}

#[test]
fn the_same_holds_for_flows_that_the_kernel_program_steers() -> anyhow::Result<()> {
    upgrade_under_load(&Settings::default(), Family::V4.smtp())
}
