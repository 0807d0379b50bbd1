//! Gateways that hold the same clients off, through a real Redis.

use std::fmt::Write as _;
use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::PermissionsExt as _;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use gateway_tests::client::Client;
use gateway_tests::gateway::{Gateway, Settings};
use gateway_tests::lab::{Family, Lab};
use gateway_tests::message::{self, END};
use gateway_tests::recorder::{Manners, Recorder};
use gateway_tests::redis::Redis;
use gateway_tests::wait;
use tempfile::TempDir;

use crate::quarantine::{attempt, greeting, lock};

/// For what a gateway tries again from time to time, on a busy machine.
const LONG: Duration = Duration::from_secs(90);
/// The client of each lab.
const CLIENT: &str = "192.0.2.2";

/// A gateway with a network of its own; the server and the lab go with it.
struct Site {
    gateway: Gateway,
    settings: Settings,
    _server: Recorder,
    lab: Lab,
}

impl Site {
    fn start(redis: &str) -> anyhow::Result<Self> {
        let lab = Lab::new()?;
        let server = Recorder::start(lab.server(), Family::V4.smtp(), Manners::default())?;
        let settings = settings(redis);
        let gateway = Gateway::start(&lab, &settings)?;
        Ok(Self { gateway, settings, _server: server, lab })
    }

    fn lock(&self, arguments: &[&str]) -> anyhow::Result<String> {
        lock(&self.gateway, arguments)
    }

    /// Who is locked, as far as it is known here.
    fn locked(&self) -> anyhow::Result<Vec<String>> {
        let list: serde_json::Value = serde_json::from_str(&self.lock(&["list", "--json"])?)?;
        let locks = list["locks"].as_array().context("no list")?;
        Ok(locks.iter().filter_map(|lock| Some(lock["who"].as_str()?.to_owned())).collect())
    }

    fn until_locked(&self, expected: &[&str]) -> anyhow::Result<()> {
        let known = wait::until(LONG, "the locks of another gateway", || {
            Ok((self.locked()? == expected).then_some(()))
        });
        known.with_context(|| format!("{:?} instead of {expected:?}", self.locked()))
    }

    /// Waits until the kernel resets new flows of the client.
    fn until_reset(&self) -> anyhow::Result<()> {
        self.until_reset_of(Family::V4)
    }

    fn until_reset_of(&self, family: Family) -> anyhow::Result<()> {
        wait::until(LONG, "a reset", || {
            let tried = attempt(&self.lab, family.smtp())?;
            Ok((tried.err() == Some(ErrorKind::ConnectionRefused)).then_some(()))
        })
    }

    /// Waits until a new session of the client begins like this.
    fn until_greeted(&self, begin: &str) -> anyhow::Result<()> {
        wait::until(LONG, begin, || {
            let Ok(stream) = attempt(&self.lab, Family::V4.smtp())? else { return Ok(None) };
            drop(stream);
            Ok(greeting(&self.lab, Family::V4.smtp())?.starts_with(begin).then_some(()))
        })
    }

    fn status(&self) -> anyhow::Result<String> {
        Ok(self.gateway.control_command("status")?.1)
    }

    fn until_status(&self, text: &str) -> anyhow::Result<()> {
        wait::until(LONG, text, || Ok(self.status()?.contains(text).then_some(())))
    }

    fn restart(&mut self) -> anyhow::Result<()> {
        self.gateway.restart(&self.lab, &self.settings)
    }
}

fn settings(redis: &str) -> Settings {
    let more = format!(
        "state: redis\nredis: {{address: '{redis}'}}\n\
         locks: {{lock-on: [regex], action: reset}}\nfilters: {{mail: {{reject: ['^spammer@']}}}}\n"
    );
    Settings { more, ..Settings::default() }
}

/// A place for Redis, which runs under another account than the gateway.
fn place() -> anyhow::Result<TempDir> {
    let directory = TempDir::new()?;
    fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o755))?;
    Ok(directory)
}

#[test]
fn a_lock_of_one_gateway_holds_in_all_and_so_does_its_end() -> anyhow::Result<()> {
    let directory = place()?;
    let redis = Redis::start(directory.path())?;
    let (one, other) = (Site::start(&redis.address())?, Site::start(&redis.address())?);
    ensure!(one.status()?.contains("redis      locks are shared"), "{}", one.status()?);

    // An operator's, in the kernel and for the end of a message; and its removal by another operator.
    let mut open = Client::up_to_data(other.lab.client(), Family::V4.smtp())?;
    open.send(&message::clean("under way"))?;
    one.lock(&["add", CLIENT, "--for", "1h", "--cause", "by hand"])?;
    other.until_reset()?;
    let list = other.lock(&["list"])?;
    ensure!(list.contains("by hand") && list.contains("operator"), "{list}");
    open.send(END)?;
    let reply = open.expect(421)?;
    ensure!(reply.contains("4.7.0"), "{reply}");
    other.lock(&["remove", CLIENT])?;
    one.until_greeted("220 ")?;
    one.until_locked(&[])?;

    // One that the proxy enforces.
    other.lock(&["add", CLIENT, "--action", "reject", "--forever"])?;
    one.until_greeted("554 ")?;
    one.lock(&["remove", "--all"])?;
    other.until_greeted("220 ")?;

    // One for an offence.
    let (mut client, _) = Client::greeted(one.lab.client(), Family::V4.smtp())?;
    client.send(b"MAIL FROM:<spammer@client.example>\r\n")?;
    client.expect(550)?;
    other.until_reset()?;
    let list = other.lock(&["list"])?;
    ensure!(list.contains("regex") && list.contains("sender"), "{list}");
    one.lock(&["remove", CLIENT])?;
    other.until_greeted("220 ")?;

    // One of an IPv6 network.
    one.lock(&["add", "2001:db8:1::/64"])?;
    other.until_reset_of(Family::V6)?;
    other.lock(&["remove", "2001:db8:1::/64"])?;

    // One that ends by itself, everywhere.
    one.lock(&["add", CLIENT, "--for", "10s"])?;
    other.until_reset()?;
    other.until_greeted("220 ")?;
    one.until_locked(&[])?;
    other.until_locked(&[])
}

#[test]
fn an_exemption_that_one_operator_makes_holds_in_all_gateways() -> anyhow::Result<()> {
    let directory = place()?;
    let redis = Redis::start(directory.path())?;
    let (one, other) = (Site::start(&redis.address())?, Site::start(&redis.address())?);
    one.lock(&["exempt", "192.0.2.0/28"])?;
    wait::until(LONG, "the exemption", || Ok((other.lock(&["exempt"])? == "192.0.2.0/28\n").then_some(())))?;
    ensure!(other.lock(&["add", CLIENT]).is_err(), "it is exempt");
    other.lock(&["add", "192.0.2.0/24"])?;
    one.until_locked(&["192.0.2.0/24"])?;
    for site in [&one, &other] {
        site.until_greeted("220 ")?;
    }
    other.lock(&["exempt", "192.0.2.0/28", "--remove"])?;
    one.until_reset()?;
    other.until_reset()
}

#[test]
fn without_redis_each_gateway_holds_its_own_and_both_are_merged_when_it_is_back() -> anyhow::Result<()> {
    let directory = place()?;
    let mut redis = Redis::start(directory.path())?;
    let (one, mut other) = (Site::start(&redis.address())?, Site::start(&redis.address())?);
    for client in ["10.0.0.1", "10.0.0.2", CLIENT] {
        one.lock(&["add", client])?;
    }
    other.until_locked(&["10.0.0.1", "10.0.0.2", CLIENT])?;
    redis.stop()?;
    for site in [&one, &other] {
        site.until_status("redis      lost, locks are not shared: ")?;
    }
    // What both knew holds on, also for a process that starts meanwhile.
    other.until_reset()?;
    other.restart()?;
    other.until_reset()?;
    other.until_locked(&["10.0.0.1", "10.0.0.2", CLIENT])?;
    one.lock(&["remove", "10.0.0.1"])?;
    one.lock(&["add", "10.0.0.3"])?;
    other.lock(&["remove", CLIENT])?;
    other.lock(&["add", "10.0.0.4"])?;
    other.until_greeted("220 ")?;
    one.until_locked(&["10.0.0.2", "10.0.0.3", CLIENT])?;
    let complaints = one.gateway.log().matches("locks are not shared with other gateways").count();
    ensure!(complaints == 1, "{complaints} lines");
    // What was removed here is not forgotten by the next process.
    other.restart()?;

    // It has forgotten everything.
    let redis = Redis::start(directory.path())?;
    for site in [&one, &other] {
        site.until_locked(&["10.0.0.2", "10.0.0.3", "10.0.0.4"])?;
        site.until_status("redis      locks are shared\n")?;
        site.until_greeted("220 ")?;
    }
    // Emptied while it is there.
    redis.command(&["FLUSHALL"])?;
    one.lock(&["add", CLIENT])?;
    other.until_reset()?;
    wait::until(LONG, "all of them in Redis", || {
        Ok((redis.command(&["HLEN", "gateway:locks"])?.trim() == "4").then_some(()))
    })
}

/// So many that they take several round trips.
const MANY: usize = 20_000;

#[test]
fn a_gateway_that_starts_takes_over_what_the_others_hold() -> anyhow::Result<()> {
    let directory = place()?;
    let redis = Redis::start(directory.path())?;
    let mut one = Site::start(&redis.address())?;
    one.gateway.stop()?;
    // What an earlier release has left to one of them.
    let mut locks = String::new();
    for number in 1..MANY {
        let (high, low) = (number >> 8, number & 255);
        write!(locks, "{},", earlier(&format!("10.1.{high}.{low}")))?;
    }
    let file = format!("{{\"locks\":[{locks}{}],\"exempt\":[\"10.9.0.0/16\"]}}", earlier(CLIENT));
    fs::write(one.gateway.spool().join("locks.json"), file)?;
    one.restart()?;
    one.until_reset()?;
    wait::until(LONG, "all locks in Redis", || {
        let rows = redis.command(&["HLEN", "gateway:locks"])?;
        Ok((rows.trim() == (MANY + 1).to_string()).then_some(()))
    })?;

    // Nobody is served before: the first that its client sees is a reset.
    let two = Site::start(&redis.address())?;
    let first = attempt(&two.lab, Family::V4.smtp())?;
    ensure!(first.as_ref().err() == Some(&ErrorKind::ConnectionRefused), "{first:?}");
    let list: serde_json::Value = serde_json::from_str(&two.lock(&["list", "--json"])?)?;
    ensure!(list["held"] == MANY, "{}", list["held"]);
    ensure!(two.lock(&["exempt"])? == "10.9.0.0/16\n");
    // A process that takes over hears of what is changed as the one before did.
    one.gateway.upgrade(&[])?;
    one.until_reset()?;
    two.lock(&["remove", "--all"])?;
    wait::until(LONG, "the end of all locks", || Ok(one.locked()?.is_empty().then_some(())))?;
    one.until_greeted("220 ")
}

/// A lock as an earlier release has kept it.
fn earlier(who: &str) -> String {
    format!(
        "{{\"who\":\"{who}\",\"action\":\"reset\",\"cause\":\"virus\",\"detail\":\"Eicar\",\"session\":null,\
         \"since\":5,\"until\":null,\"offences\":1,\"refused\":0}}"
    )
}

#[test]
fn what_others_have_written_into_redis_is_counted_and_harms_nothing() -> anyhow::Result<()> {
    let directory = place()?;
    let redis = Redis::start(directory.path())?;
    let (rows, order, state) = ("gateway:locks", "gateway:locks:order", "gateway:locks:state");
    let long = "x".repeat(100_000);
    let far = format!("9000000000000000 {}", earlier("10.0.0.5"));
    for (place, (name, row)) in [
        ("lock:10.0.0.1", "no version"),
        ("lock:10.0.0.2", "7 no lock"),
        ("lock:10.0.0.3", &long),
        (long.as_str(), "7 true"),
        ("lock:10.0.0.5", &far),
        ("exempt:0.0.0.0/1/2", "7 true"),
    ]
    .into_iter()
    .enumerate()
    {
        let place = (place + 1).to_string();
        redis.command(&["HSET", rows, name, row])?;
        redis.command(&["ZADD", order, &place, name])?;
        redis.command(&["HSET", state, "place", &place])?;
    }
    redis.command(&["ZADD", order, "inf", "lock:10.0.0.6"])?;
    let (one, other) = (Site::start(&redis.address())?, Site::start(&redis.address())?);
    one.until_status("redis      locks are shared; 6 rows made no sense")?;
    ensure!(one.gateway.log().matches("rows in Redis make no sense").count() == 1);
    one.until_locked(&[])?;
    // Whom such a row is about can be locked all the same.
    for client in ["10.0.0.1", "10.0.0.3", "10.0.0.5", CLIENT] {
        one.lock(&["add", client])?;
    }
    other.until_locked(&["10.0.0.1", "10.0.0.3", "10.0.0.5", CLIENT])?;
    other.until_reset()?;

    // Another program's keys under these names; quotas are shared all the same.
    redis.command(&["SET", order, "something else"])?;
    one.until_status("redis      lost, locks are not shared: ")?;
    let status = one.status()?;
    ensure!(status.contains("WRONGTYPE") && status.contains("quotas are counted together"), "{status}");
    one.lock(&["remove", CLIENT])?;
    one.until_greeted("220 ")?;
    redis.command(&["DEL", order])?;
    other.until_greeted("220 ")?;
    wait::until(LONG, "all of them in order", || {
        Ok((redis.command(&["ZCARD", order])?.trim() == "4").then_some(()))
    })
}

#[test]
fn rows_that_are_gone_are_told_again_however_many_there_are_since() -> anyhow::Result<()> {
    let directory = place()?;
    let redis = Redis::start(directory.path())?;
    let one = Site::start(&redis.address())?;
    let rows = || redis.command(&["HLEN", "gateway:locks"]);
    one.lock(&["add", "10.0.0.1"])?;
    wait::until(LONG, "the lock in Redis", || Ok((rows()?.trim() == "1").then_some(())))?;
    // It was emptied, and as much was changed by others, before this gateway has looked.
    let script = "redis.call('DEL', KEYS[1], KEYS[1] .. ':order', KEYS[1] .. ':ends', KEYS[1] .. ':state') \
                  redis.call('HSET', KEYS[1] .. ':state', 'place', 1)";
    redis.command(&["EVAL", script, "1", "gateway:locks"])?;
    wait::until(LONG, "the lock in Redis again", || Ok((rows()?.trim() == "1").then_some(())))
}

#[test]
fn a_shorter_lock_is_known_for_as_long_as_others_may_come_back_with_the_longer_one() -> anyhow::Result<()> {
    let directory = place()?;
    let redis = Redis::start(directory.path())?;
    let one = Site::start(&redis.address())?;
    let until = |what: &str, client: &str, enough: fn(f64) -> bool| {
        wait::until(LONG, what, || {
            let now: f64 = redis.command(&["TIME"])?.lines().next().unwrap_or_default().parse()?;
            let end = redis.command(&["ZSCORE", "gateway:locks:ends", &format!("lock:{client}")])?;
            Ok(end.trim().parse::<f64>().is_ok_and(|end| enough((end - now) / 3600.)).then_some(()))
        })
    };
    let row = |what| redis.command(&["HEXISTS", "gateway:locks", what]);
    one.lock(&["add", "10.0.0.1", "--forever"])?;
    wait::until(LONG, "the lock in Redis", || Ok((row("lock:10.0.0.1")?.trim() == "1").then_some(())))?;
    one.lock(&["add", "10.0.0.1", "--for", "1h"])?;
    until("as after a removal", "10.0.0.1", |hours| hours > 29. * 24.)?;
    // One that replaces a shorter one, or nothing, is not kept for longer than it has to.
    one.lock(&["add", "10.0.0.2", "--for", "1h"])?;
    until("an hour more than it holds", "10.0.0.2", |hours| (1.5..2.5).contains(&hours))?;
    one.lock(&["add", "10.0.0.2", "--for", "10h"])?;
    until("an hour more than it holds", "10.0.0.2", |hours| (10.5..11.5).contains(&hours))?;
    one.lock(&["add", "10.0.0.2", "--for", "1h"])?;
    wait::until(LONG, "the last lock in Redis", || {
        let now = redis.command(&["HGET", "gateway:locks:state", "place"])?;
        Ok((now.trim() == "5").then_some(()))
    })?;
    until("as long as the longer one", "10.0.0.2", |hours| hours > 10.5)
}

/// How far the clock of Redis is ahead of those of the gateways: for longer than removals are known.
const DAYS_AHEAD: u64 = 60;

#[test]
fn a_removal_is_known_as_long_as_it_has_to_be_however_far_the_clock_of_redis_is_from_that_of_gateways()
-> anyhow::Result<()> {
    let directory = place()?;
    let redis = Redis::start_ahead(directory.path(), DAYS_AHEAD)?;
    let (one, mut other) = (Site::start(&redis.address())?, Site::start(&redis.address())?);
    one.lock(&["add", CLIENT, "--forever"])?;
    other.until_reset()?;
    other.gateway.stop()?;
    one.lock(&["remove", CLIENT])?;
    // By the clock of Redis this is over long since, and is removed with all that is.
    one.lock(&["add", "10.0.0.9", "--for", "1h"])?;
    let row = |name: &str| {
        Ok::<_, anyhow::Error>(redis.command(&["HEXISTS", "gateway:locks", name])?.trim() == "1")
    };
    wait::until(LONG, "the lock in Redis", || Ok(row("lock:10.0.0.9")?.then_some(())))?;
    wait::until(LONG, "the end of what is over", || Ok((!row("lock:10.0.0.9")?).then_some(())))?;
    ensure!(row(&format!("lock:{CLIENT}"))?, "nobody can know any more that the lock was removed");

    // One that was away has the lock still, and hears that it is no more.
    other.restart()?;
    other.until_greeted("220 ")?;
    other.until_locked(&[])?;
    one.until_locked(&["10.0.0.9"])?;
    one.until_greeted("220 ")
}
