//! The proxy process: started, listened to, found dead, started again.
//!
//! Owns the child and its end of the channel. Never trusts it: a proxy that says what no proxy
//! says is as dead as one that says nothing.

use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::process::{ExitStatus, Stdio};
use std::time::{Duration, Instant};

use serde::Serialize;
use tokio::process::{Child, Command};
use tracing::{info, warn};

use super::liveness::{Silence, Times};
use crate::clock;
use crate::ipc::{self, Channel, ToDatapath, ToProxy};
use crate::privilege::{Account, Keep};

/// Without a message for this long, a proxy that is not ready is dead. It tells of what it reads; a
/// busy disk takes its time for what is made durable at a start. Less than a process waits for its
/// successor, which is to say why it did not start.
pub(super) const START: Duration = Duration::from_secs(45);
/// A proxy that was ready for this long starts again without delay.
const STEADY: Duration = Duration::from_secs(30);
/// First pause before a restart.
const SHORTEST_PAUSE: Duration = Duration::from_millis(200);
/// Longest pause before a restart.
const LONGEST_PAUSE: Duration = Duration::from_secs(10);
/// How long a proxy that has closed its channel has to write down why, and end.
const LAST_WORDS: Duration = Duration::from_millis(200);
/// How long a message that must arrive may wait for room.
const PATIENCE: Duration = Duration::from_secs(1);
/// How long the kernel may take to end a killed process.
const BURIAL: Duration = Duration::from_secs(2);

/// What the proxy inherits of the environment: the names that libraries look at for time zone,
/// language and back traces. Nothing else of root's environment is its business.
const ENVIRONMENT: [&str; 4] = ["TZ", "LANG", "LC_ALL", "RUST_BACKTRACE"];

/// Why a proxy could not be started or told something.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No process.
    #[error("cannot start the proxy process")]
    Spawn(#[source] io::Error),
    /// No channel.
    #[error("cannot talk to the proxy process")]
    Channel(#[from] ipc::Error),
    /// It reads nothing.
    #[error("the proxy process reads nothing")]
    Deaf,
    /// There is none at the moment.
    #[error("the proxy process is not running")]
    Absent,
}

/// The pauses between restarts: short at first, longer while it goes on.
#[derive(Debug)]
pub struct Backoff {
    next: Duration,
}

impl Default for Backoff {
    fn default() -> Self {
        Self { next: SHORTEST_PAUSE }
    }
}

impl Backoff {
    /// The pause after a proxy that was ready for `lived`.
    pub fn pause(&mut self, lived: Duration) -> Duration {
        if lived >= STEADY {
            self.next = SHORTEST_PAUSE;
        }
        let pause = self.next;
        self.next = (pause * 2).min(LONGEST_PAUSE);
        pause
    }
}

/// What happens to a proxy.
#[derive(Debug)]
pub enum Event {
    /// It says something.
    Said(ToDatapath),
    /// It says something and brings descriptors along.
    Brought(ToDatapath, Vec<OwnedFd>),
    /// It is dead, for this reason. Whatever depends on it comes first, then [`Proxy::bury`].
    Dead(String),
    /// It is time to start it: call [`Proxy::start`].
    Due,
}

#[derive(Debug)]
enum State {
    Absent { due: Instant },
    Running(Box<Running>),
}

#[derive(Debug)]
struct Running {
    child: Child,
    channel: Channel,
    silence: Silence,
    ready: Option<Instant>,
}

impl Running {
    /// When its silence is long enough to be looked into.
    fn due(&self) -> Instant {
        if self.ready.is_some() { self.silence.due() } else { self.silence.since() + START }
    }

    /// Looks into its silence: why it is dead, if it is.
    fn look(&mut self) -> Option<String> {
        let silent = match (self.ready, self.child.id()) {
            (Some(_), Some(pid)) => self.silence.look(Times::of(pid))?,
            _ => self.silence.since().elapsed(),
        };
        Some(format!("it was silent for {:.1} s", silent.as_secs_f64()))
    }
}

/// The proxy process.
#[derive(Debug)]
pub struct Proxy {
    account: Option<Account>,
    keep: Keep,
    state: State,
    backoff: Backoff,
    starts: u64,
}

impl Proxy {
    /// A proxy that is due to be started. As root it becomes `account`.
    #[must_use]
    pub fn new(account: Option<Account>, keep: Keep) -> Self {
        let state = State::Absent { due: clock::now() };
        Self { account, keep, state, backoff: Backoff::default(), starts: 0 }
    }

    /// How often it was started again.
    #[must_use]
    pub const fn restarts(&self) -> u64 {
        self.starts.saturating_sub(1)
    }

    /// Whether it serves flows.
    #[must_use]
    pub const fn is_ready(&self) -> bool {
        matches!(&self.state, State::Running(running) if running.ready.is_some())
    }

    /// Starts the process and gives it its first message.
    ///
    /// # Errors
    ///
    /// No process or no channel; it is then due again after a pause.
    pub async fn start(&mut self, first: &ToProxy, descriptors: &[BorrowedFd<'_>]) -> Result<(), Error> {
        self.starts = self.starts.saturating_add(1);
        match self.spawn() {
            Ok(running) => self.state = State::Running(Box::new(running)),
            Err(error) => {
                self.state = State::Absent { due: clock::now() + self.backoff.pause(Duration::ZERO) };
                return Err(error);
            }
        }
        self.tell(first, descriptors).await
    }

    fn spawn(&self) -> Result<Running, Error> {
        let (ours, theirs) = ipc::channel::pair()?;
        // The same program, also when the file was replaced in the meantime.
        let mut command = Command::new("/proc/self/exe");
        command.arg0("gateway").arg("proxy");
        if self.keep == Keep::TransparentSockets {
            command.arg("--transparent-sockets");
        }
        if let Some(account) = &self.account {
            command.args(["--account", account.name()]);
            if let Some(group) = account.group() {
                command.args(["--group", group]);
            }
        }
        command.env_clear();
        for name in ENVIRONMENT {
            command.envs(std::env::var_os(name).map(|value| (name, value)));
        }
        command.current_dir("/");
        // As standard input the channel needs no number to be agreed on. A process group of its
        // own keeps the terminal's Ctrl-C from it: it is drained in good order.
        command.stdin(Stdio::from(theirs)).process_group(0).kill_on_drop(true);
        let child = command.spawn().map_err(Error::Spawn)?;
        let channel = Channel::new(ours)?;
        info!(pid = child.id(), "proxy process started");
        Ok(Running { child, channel, silence: Silence::broken(), ready: None })
    }

    /// The next thing that happens. Cancelled, it loses nothing.
    pub async fn event(&mut self) -> Event {
        let running = match &mut self.state {
            State::Absent { due } => {
                tokio::time::sleep_until((*due).into()).await;
                return Event::Due;
            }
            State::Running(running) => running,
        };
        loop {
            let due = tokio::time::Instant::from_std(running.due());
            return tokio::select! {
                // What it said comes before the time that has passed: this process may have slept too.
                biased;
                said = running.channel.receive() => match said {
                    Ok(Some((message, descriptors))) => {
                        running.silence = Silence::broken();
                        if message == ToDatapath::Ready && running.ready.replace(clock::now()).is_some() {
                            return Event::Dead("it said twice that it is ready".to_owned());
                        }
                        if descriptors.is_empty() { Event::Said(message) } else { Event::Brought(message, descriptors) }
                    }
                    Ok(None) => Event::Dead(match tokio::time::timeout(LAST_WORDS, running.child.wait()).await {
                        Ok(Ok(status)) => ended(status),
                        _ => "it closed its channel".to_owned(),
                    }),
                    Err(error) => Event::Dead(format!("it said nonsense: {error}")),
                },
                status = running.child.wait() => Event::Dead(match status {
                    Ok(status) => ended(status),
                    Err(error) => format!("its end cannot be waited for: {error}"),
                }),
                () = tokio::time::sleep_until(due) => match running.look() {
                    Some(reason) => Event::Dead(reason),
                    None => continue,
                },
            };
        }
    }

    /// Makes sure that a dead proxy is, and plans the next one.
    pub async fn bury(&mut self) {
        let now = clock::now();
        let State::Running(mut running) = std::mem::replace(&mut self.state, State::Absent { due: now })
        else {
            return;
        };
        end(&mut running.child).await;
        let lived = running.ready.map_or(Duration::ZERO, |ready| now.saturating_duration_since(ready));
        let pause = self.backoff.pause(lived);
        self.state = State::Absent { due: clock::now() + pause };
    }

    /// Says something that must arrive.
    ///
    /// # Errors
    ///
    /// [`Error::Absent`] or [`Error::Deaf`]; then [`Self::event`] tells of its death in time.
    pub async fn tell(&self, message: &ToProxy, descriptors: &[BorrowedFd<'_>]) -> Result<(), Error> {
        let State::Running(running) = &self.state else { return Err(Error::Absent) };
        let sent = tokio::time::timeout(PATIENCE, running.channel.send(message, descriptors)).await;
        Ok(sent.map_err(|_| Error::Deaf)??)
    }

    /// Says something that may be lost while the proxy is behind; says whether it was not.
    pub fn mention(&self, message: &(impl Serialize + Sync)) -> bool {
        match &self.state {
            State::Running(running) => matches!(running.channel.try_send(message), Ok(true)),
            State::Absent { .. } => false,
        }
    }

    /// Waits for the end of a proxy that was told to drain, which says nothing more.
    pub async fn ended(&mut self) {
        if let State::Running(running) = &mut self.state
            && let Err(error) = running.child.wait().await
        {
            warn!(%error, "the end of the proxy process cannot be waited for");
        }
    }

    /// Ends the process at once, and for good.
    pub async fn kill(mut self) {
        if let State::Running(running) = &mut self.state {
            end(&mut running.child).await;
        }
    }
}

fn ended(status: ExitStatus) -> String {
    format!("it ended with {status}")
}

/// Kills a child and waits for its end.
async fn end(child: &mut Child) {
    if let Err(error) = child.start_kill() {
        warn!(%error, "cannot kill the proxy process");
    }
    if tokio::time::timeout(BURIAL, child.wait()).await.is_err() {
        warn!("the killed proxy process does not end");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A proxy that is a process which does nothing, and its end of the channel.
    fn stand_in() -> (Proxy, Channel) {
        let (ours, theirs) = ipc::channel::pair().unwrap();
        let child = Command::new("sleep").arg("60").kill_on_drop(true).spawn().unwrap();
        let channel = Channel::new(ours).unwrap();
        let mut proxy = Proxy::new(None, Keep::Nothing);
        proxy.state =
            State::Running(Box::new(Running { child, channel, silence: Silence::broken(), ready: None }));
        (proxy, Channel::new(theirs).unwrap())
    }

    #[tokio::test]
    async fn a_proxy_is_ready_when_it_says_so_once() {
        let (mut proxy, theirs) = stand_in();
        assert!(!proxy.is_ready());
        theirs.send(&ToDatapath::Ready, &[]).await.unwrap();
        assert!(matches!(proxy.event().await, Event::Said(ToDatapath::Ready)));
        assert!(proxy.is_ready());
        theirs.send(&ToDatapath::Ready, &[]).await.unwrap();
        assert!(matches!(proxy.event().await, Event::Dead(_)));
    }

    #[tokio::test]
    async fn a_proxy_that_says_nonsense_is_dead() {
        let (mut proxy, theirs) = stand_in();
        theirs.send(&"give me root", &[]).await.unwrap();
        let Event::Dead(reason) = proxy.event().await else { panic!("it lives") };
        assert!(reason.starts_with("it said nonsense"), "{reason}");
        proxy.bury().await;
        assert!(!proxy.is_ready());
        assert!(matches!(proxy.event().await, Event::Due));
    }

    #[tokio::test]
    async fn a_proxy_that_was_ready_and_neither_speaks_nor_works_is_dead_within_two_seconds() {
        let (mut proxy, theirs) = stand_in();
        theirs.send(&ToDatapath::Ready, &[]).await.unwrap();
        assert!(matches!(proxy.event().await, Event::Said(ToDatapath::Ready)));
        let ready = clock::now();
        assert!(matches!(proxy.event().await, Event::Dead(_)));
        let silent = clock::now().duration_since(ready);
        assert!(silent > Duration::from_secs(1) && silent < Duration::from_secs(4), "{silent:?}");
    }

    #[tokio::test]
    async fn a_proxy_that_closes_its_channel_or_ends_is_dead() {
        let (mut proxy, theirs) = stand_in();
        drop(theirs);
        assert!(matches!(proxy.event().await, Event::Dead(_)));
        let (mut proxy, _theirs) = stand_in();
        let State::Running(running) = &mut proxy.state else { panic!("it is there") };
        running.child.start_kill().unwrap();
        let Event::Dead(reason) = proxy.event().await else { panic!("it lives") };
        assert!(reason.contains("SIGKILL"), "{reason}");
    }

    #[tokio::test]
    async fn a_proxy_that_reads_nothing_holds_nobody_up() {
        let (mut proxy, _theirs) = stand_in();
        let status = ToProxy::Status(ipc::DatapathStatus::default());
        while proxy.mention(&status) {}
        assert!(matches!(proxy.tell(&ToProxy::Drain, &[]).await, Err(Error::Deaf)));
        proxy.bury().await;
        assert!(matches!(proxy.tell(&ToProxy::Drain, &[]).await, Err(Error::Absent)));
    }

    #[test]
    fn pauses_grow_to_ten_seconds_while_the_proxy_keeps_dying() {
        let mut backoff = Backoff::default();
        let pauses: Vec<u128> = (0..8).map(|_| backoff.pause(Duration::from_secs(1)).as_millis()).collect();
        assert_eq!(pauses, [200, 400, 800, 1_600, 3_200, 6_400, 10_000, 10_000]);
    }

    #[test]
    fn a_proxy_that_was_well_for_long_starts_again_at_once() {
        let mut backoff = Backoff::default();
        for _ in 0..8 {
            backoff.pause(Duration::ZERO);
        }
        assert_eq!(backoff.pause(STEADY), SHORTEST_PAUSE);
        assert_eq!(backoff.pause(Duration::ZERO), SHORTEST_PAUSE * 2);
    }
}
