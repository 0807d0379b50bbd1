//! Who is told when a client is locked for what it has done: the operator's script and server.
//!
//! Owns that no session waits for them, and that what cannot be told is counted. Never runs anything:
//! the datapath process has that done by one of its own (`crate::action`).

use std::fmt;
use std::sync::Arc;

use arc_swap::ArcSwapOption;
use tokio::sync::{Semaphore, mpsc};

use crate::config::file::OnLock;
use crate::ipc::offender::{End, Offender, Report};
use crate::policy::lock::Who;
use crate::telemetry::{Counter, Telemetry, Trouble};

mod webhook;

pub use webhook::Error;
use webhook::Webhook;

/// Locks that the server has not been told of at most.
const WAITING: usize = 256;
/// Requests to the server at the same time.
const AT_ONCE: usize = 4;

/// Something that is told of locks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hook {
    /// `on-lock.script`.
    Script,
    /// `on-lock.webhook`.
    Webhook,
}

impl Hook {
    /// All of them.
    pub const ALL: [Self; 2] = [Self::Script, Self::Webhook];

    /// One word for records and metrics.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Script => "script",
            Self::Webhook => "webhook",
        }
    }
}

/// How it went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Well.
    Done,
    /// With a failure.
    Failed,
    /// It took too long.
    Overdue,
    /// There were too many.
    LeftOut,
}

impl Outcome {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Done, Self::Failed, Self::Overdue, Self::LeftOut];

    /// One word for records and metrics.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::Failed => "failed",
            Self::Overdue => "overdue",
            Self::LeftOut => "left-out",
        }
    }
}

/// The way to those who are told.
pub struct Hooks {
    script: mpsc::Sender<Box<Offender>>,
    server: mpsc::Sender<Box<Offender>>,
    webhook: ArcSwapOption<Webhook>,
    telemetry: Arc<Telemetry>,
}

impl fmt::Debug for Hooks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hooks").finish_non_exhaustive()
    }
}

/// The server that is told, where there is one.
pub struct Server(Option<Arc<Webhook>>);

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Server").finish_non_exhaustive()
    }
}

impl Server {
    /// That of these rules.
    ///
    /// # Errors
    ///
    /// It can be told nothing.
    pub fn of(rules: &OnLock) -> Result<Self, Error> {
        let webhook = rules.webhook.as_ref().map(Webhook::new).transpose()?;
        Ok(Self(webhook.map(Arc::new)))
    }
}

/// What waits to be told to the server.
#[derive(Debug)]
pub struct Waiting(mpsc::Receiver<Box<Offender>>);

impl Hooks {
    /// `script` leads to the datapath process; what waits for the server goes to [`Self::run`].
    #[must_use]
    pub fn new(script: mpsc::Sender<Box<Offender>>, telemetry: Arc<Telemetry>) -> (Self, Waiting) {
        let (server, waiting) = mpsc::channel(WAITING);
        (Self { script, server, webhook: ArcSwapOption::empty(), telemetry }, Waiting(waiting))
    }

    /// From here on this server is told.
    pub fn set_server(&self, server: Server) {
        self.webhook.store(server.0);
    }

    /// A client was locked. Never waits.
    pub fn tell(&self, rules: &OnLock, offender: Offender) {
        let offender = Box::new(offender);
        if rules.webhook.is_some() {
            self.hand(Hook::Webhook, &self.server, offender.clone());
        }
        if !rules.script.as_os_str().is_empty() {
            self.hand(Hook::Script, &self.script, offender);
        }
    }

    fn hand(&self, hook: Hook, way: &mpsc::Sender<Box<Offender>>, offender: Box<Offender>) {
        if let Err(error) = way.try_send(offender) {
            self.ended(hook, &error.into_inner().lock, &End::LeftOut);
        }
    }

    /// Tells the server of those who wait, until it is dropped.
    pub async fn run(self: Arc<Self>, mut waiting: Waiting) {
        let places = Arc::new(Semaphore::new(AT_ONCE));
        while let Some(offender) = waiting.0.recv().await {
            let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
            let hooks = Arc::clone(&self);
            tokio::spawn(async move {
                if let Some(webhook) = hooks.webhook.load_full() {
                    let end = webhook.tell(&offender).await;
                    hooks.ended(Hook::Webhook, &offender.lock, &end);
                }
                drop(place);
            });
        }
    }

    /// A script has ended.
    pub fn reported(&self, report: &Report) {
        self.ended(Hook::Script, &report.lock, &report.end);
    }

    /// One line of the log for each lock at most, as that of the lock itself; trouble is summed up.
    fn ended(&self, hook: Hook, who: &Who, end: &End) {
        let (outcome, reason) = match end {
            End::Done => (Outcome::Done, ""),
            End::Failed { reason } => (Outcome::Failed, reason.as_str()),
            End::Overdue => (Outcome::Overdue, "it was ended after its time limit"),
            End::LeftOut => (Outcome::LeftOut, "too many others wait already"),
        };
        self.telemetry.count(Counter::Hook(hook, outcome));
        let (hook, outcome) = (hook.name(), outcome.name());
        tracing::info!(%who, hook, outcome, "told of a lock");
        if *end != End::Done {
            self.telemetry.trouble(Trouble::Hook, || format!("{hook} for {who}: {reason}"));
        }
    }
}
