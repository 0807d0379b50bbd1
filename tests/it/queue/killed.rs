//! A gateway that is killed while it takes and delivers mail.

use std::collections::BTreeMap;
use std::hash::{BuildHasher as _, RandomState};
use std::io::Write as _;
use std::os::unix::net::UnixStream;
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use gateway_tests::gateway::{Gateway, Settings, is_alive};
use gateway_tests::lab::{Family, Lab};
use gateway_tests::recorder::{Manners, Recorder};
use gateway_tests::senders::{self, Senders};
use gateway_tests::wait;
use nix::sys::signal::{Signal, kill};

use super::{folder, left, wait_until_empty};

/// Messages, unless `GATEWAY_KILL_MESSAGES` says how many.
const MESSAGES: usize = 2_000;
const CLIENTS: usize = 50;
const KILLS: usize = 20;
/// Deliveries to one destination at once, which is the default.
const AT_ONCE: usize = 20;
/// How long anything may take that gets no further.
const STALLED: Duration = Duration::from_secs(120);

fn messages() -> anyhow::Result<usize> {
    match std::env::var("GATEWAY_KILL_MESSAGES") {
        Ok(number) => number.parse().with_context(|| format!("GATEWAY_KILL_MESSAGES={number}")),
        Err(_) => Ok(MESSAGES),
    }
}

/// What the lab's client sends is relayed to the server's second address.
pub(super) fn settings(queue: &std::path::Path, more: &str) -> Settings {
    let relay = Family::V4.second_smtp();
    Settings {
        lanes: vec!["{client: [192.0.2.0/24], lane: relay, target: relay-host}"],
        more: format!(
            "queue: {{directory: {}, min-free: 100KiB}}\nrelay: {{relay-host: '[{}]:{}'}}\n\
             delivery:\n  schedule: {{minimal-backoff-time: 1s, maximal-backoff-time: 1s}}\n  \
             trouble-shooting: {{notify-classes: []}}\n{more}",
            queue.display(),
            relay.ip(),
            relay.port()
        ),
        ..Settings::default()
    }
}

#[test]
fn killed_at_random_moments_under_load_the_gateway_loses_nothing() -> anyhow::Result<()> {
    let messages = messages()?;
    let lab = Lab::new()?;
    lab.router().sysctl("ipv4/ip_local_port_range", "10000 65000")?;
    let server = Recorder::start(lab.server(), Family::V4.second_smtp(), Manners::default())?;
    let settings = settings(&folder(&lab), "");
    let senders = Senders::new(lab.client(), Family::V4.smtp());
    let mut gateway = thread::scope(|scope| {
        let sending = scope.spawn(|| senders.run(CLIENTS, messages));
        let survived = survive(&lab, &settings, &senders, messages, || sending.is_finished());
        if survived.is_err() {
            senders.stop();
        }
        sending.join().expect("does not panic").and(survived)
    })
    .with_context(|| format!("{} delivered", server.count()))?;
    let told = senders.told();
    assert_eq!(told.accepted.len(), messages);
    loop {
        let delivered = server.count();
        match wait_until_empty(&gateway) {
            // As long as it gets on, it may take its time.
            Err(_) if server.count() > delivered => {}
            ended => break ended?,
        }
    }
    gateway.stop()?;
    assert_eq!(left(&lab)?, []);

    let mut copies = BTreeMap::new();
    for message in server.messages() {
        *copies.entry(senders::id(&message).context("another message")?).or_insert(0_usize) += 1;
    }
    let lost: Vec<_> = told.accepted.iter().filter(|id| !copies.contains_key(*id)).collect();
    assert!(lost.is_empty(), "lost: {lost:?}");
    // Of what was refused, nothing is delivered; of what nobody was told of, anything may be.
    let stray = |id: &&String| !told.accepted.contains(*id) && !told.doubtful.contains(*id);
    let stray: Vec<_> = copies.keys().filter(stray).collect();
    assert!(stray.is_empty(), "delivered, but never accepted: {stray:?}");
    let doubled: usize = copies.values().map(|copies| copies - 1).sum();
    assert!(doubled <= KILLS * AT_ONCE, "{doubled} doubled");
    if messages != MESSAGES {
        let unheard = told.doubtful.len();
        let summary =
            format!("{messages} messages, {KILLS} kills: {doubled} doubled, {unheard} without a reply");
        writeln!(std::io::stderr(), "{summary}")?;
    }
    Ok(())
}

/// Starts a gateway and kills it again and again, but for the last time.
fn survive(
    lab: &Lab,
    settings: &Settings,
    senders: &Senders<'_>,
    messages: usize,
    is_over: impl Fn() -> bool,
) -> anyhow::Result<Gateway> {
    let mut gateway = Gateway::start(lab, settings)?;
    let mut random = Random(RandomState::new().hash_one(0));
    for number in 1..=KILLS {
        // Some time behind each of so many points of progress, the last of which come before the end.
        let point = messages * number / (KILLS + 2);
        wait::until(STALLED, &format!("{point} messages"), || {
            ensure!(!is_over(), "the clients have ended before the last kill");
            Ok((senders.accepted() >= point).then_some(()))
        })
        .with_context(|| gateway.daemon().log_tail())?;
        thread::sleep(Duration::from_millis(random.below(150)));
        gateway = killed(gateway, number, lab, settings)?;
    }
    Ok(gateway)
}

/// Kills one of the gateway's processes or both, and sees that it serves again.
fn killed(gateway: Gateway, number: usize, lab: &Lab, settings: &Settings) -> anyhow::Result<Gateway> {
    let (datapath_too, proxy_too) = [(true, true), (false, true), (false, true), (true, false)][number % 4];
    let datapath = gateway.serving();
    let proxies = wait::until(STALLED, "a proxy", || {
        // While it stands still it starts no other.
        gateway.signal(Signal::SIGSTOP)?;
        let proxies = Gateway::children_of(datapath)?;
        if !proxies.iter().any(|proxy| is_alive(*proxy)) {
            gateway.signal(Signal::SIGCONT)?;
            return Ok(None);
        }
        Ok(Some(proxies))
    })?;
    if proxy_too {
        for proxy in &proxies {
            kill(*proxy, Signal::SIGKILL).ok();
        }
    }
    if !datapath_too {
        gateway.signal(Signal::SIGCONT)?;
        return Ok(gateway);
    }
    gateway.signal(Signal::SIGKILL)?;
    let control = gateway.control();
    drop(gateway);
    // It answers until the last thread of a proxy is gone.
    wait::until(STALLED, "end of the proxy", || Ok(UnixStream::connect(&control).is_err().then_some(())))?;
    Gateway::start(lab, settings)
}

/// Numbers that nobody knows before.
struct Random(u64);

impl Random {
    /// A number below `bound`.
    const fn below(&mut self, bound: u64) -> u64 {
        // Knuth's multiplier for 64 bits; the high bits are the good ones.
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % bound
    }
}
