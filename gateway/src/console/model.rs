//! What the console knows and shows.
//!
//! Owns the state of the screen. Pure: time and answers come in as arguments.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use ipnet::IpNet;
use jiff::tz::TimeZone;

use super::deed::Deed;
use super::list::List;
use super::list::queue::Queued;
use crate::config::file::Network;
use crate::control::Status;
use crate::control::request::queue::{DestinationList, QueuedMessage};
use crate::control::request::{LockList, LockView};
use crate::delivery::waiting::Destination;
use crate::intercept::flow::SessionId;
use crate::ipc::client::{ClientList, ClientView};
use crate::policy::lock::Who;
use crate::queue::QueueId;
use crate::session::table::SessionView;
use crate::telemetry::Line;

/// Lines of the log that the console keeps.
const LINES: usize = 5_000;

/// How long a notice stays.
const NOTICE_TIME: Duration = Duration::from_secs(6);

/// One of the console's pages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Tab {
    /// Rates, verdicts, scanners, the kernel side.
    Overview,
    /// The open sessions.
    Sessions,
    /// What the kernel counts of each client.
    Clients,
    /// Clients that are held off.
    Locks,
    /// Mail that waits.
    Queue,
    /// The destinations that it waits for.
    Waiting,
    /// The log's last lines.
    Log,
}

impl Tab {
    pub(super) const ALL: [Self; 7] =
        [Self::Overview, Self::Sessions, Self::Clients, Self::Locks, Self::Queue, Self::Waiting, Self::Log];

    pub(super) const fn title(self) -> &'static str {
        match self {
            Self::Overview => "Overview",
            Self::Sessions => "Sessions",
            Self::Clients => "Clients",
            Self::Locks => "Locks",
            Self::Queue => "Queue",
            Self::Waiting => "Waiting",
            Self::Log => "Log",
        }
    }

    pub(super) const fn next(self) -> Self {
        match self {
            Self::Overview => Self::Sessions,
            Self::Sessions => Self::Clients,
            Self::Clients => Self::Locks,
            Self::Locks => Self::Queue,
            Self::Queue => Self::Waiting,
            Self::Waiting => Self::Log,
            Self::Log => Self::Overview,
        }
    }

    pub(super) const fn previous(self) -> Self {
        match self {
            Self::Overview => Self::Log,
            Self::Sessions => Self::Overview,
            Self::Clients => Self::Sessions,
            Self::Locks => Self::Clients,
            Self::Queue => Self::Locks,
            Self::Waiting => Self::Queue,
            Self::Log => Self::Waiting,
        }
    }
}

/// What keys mean at the moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Mode {
    /// They move and command.
    Normal,
    /// They write the page's filter; what it was before comes back with Esc.
    Filter {
        /// The filter before.
        before: String,
    },
    /// They close the page of keys.
    Help,
    /// They close the details of a session.
    Detail(SessionId),
    /// They close the details of a client.
    Client(IpNet),
    /// They close the details of a lock.
    Lock(Who),
    /// They close the details of a message.
    Message(QueueId),
    /// They close the details of a destination.
    Destination(String),
    /// They answer whether something is to be done.
    Confirm(Deed),
}

/// Whether the gateway answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Link {
    /// The first answer is awaited.
    Starting,
    /// It answers.
    Up,
    /// It does not.
    Away {
        /// Since when.
        since: Instant,
        /// Why, and what to do.
        why: String,
    },
}

/// How much mail waits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct QueueStanding {
    pub(super) ready: usize,
    pub(super) deferred: usize,
    pub(super) damaged: usize,
    pub(super) held: usize,
    /// The age of the oldest message.
    pub(super) oldest: Option<Duration>,
}

/// A sentence at the foot of the screen for a while.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Notice {
    pub(super) text: String,
    pub(super) bad: bool,
    until: Instant,
}

/// The lines of the log, and which of them are seen.
#[derive(Debug, Default)]
pub(super) struct LogPane {
    pub(super) lines: VecDeque<Line>,
    pub(super) filter: String,
    /// How many matching lines are below the screen; 0 follows the end.
    pub(super) behind: usize,
    /// Columns scrolled to the right.
    pub(super) shift: usize,
    last: u64,
}

impl LogPane {
    /// The number behind which new lines are asked for.
    pub(super) const fn last(&self) -> u64 {
        self.last
    }

    /// Takes new lines in; a scrolled pane stays where it is.
    pub(super) fn take(&mut self, lines: Vec<Line>) {
        for line in lines {
            self.last = line.number;
            if self.behind != 0 && self.matches(&line) {
                self.behind = self.behind.saturating_add(1);
            }
            if self.lines.len() == LINES {
                self.lines.pop_front();
            }
            self.lines.push_back(line);
        }
        self.behind = self.behind.min(self.matching().count().saturating_sub(1));
    }

    /// The lines that the filter lets through, oldest first.
    pub(super) fn matching(&self) -> impl DoubleEndedIterator<Item = &Line> {
        self.lines.iter().filter(|line| self.matches(line))
    }

    fn matches(&self, line: &Line) -> bool {
        let wanted = self.filter.to_ascii_lowercase();
        wanted.is_empty() || line.level.contains(&wanted) || line.text.to_ascii_lowercase().contains(&wanted)
    }

    /// The lines of another process have numbers of their own.
    const fn start_over(&mut self) {
        self.last = 0;
    }
}

/// The whole state of the screen.
#[derive(Debug)]
pub(super) struct Model {
    pub(super) tab: Tab,
    pub(super) mode: Mode,
    pub(super) link: Link,
    pub(super) status: Option<Status>,
    pub(super) sessions: List<SessionView>,
    pub(super) clients: List<ClientView>,
    /// Why nothing is counted of clients, when that is so.
    pub(super) uncounted: Option<String>,
    /// How long clients are counted in one go.
    pub(super) period: Duration,
    pub(super) locks: List<LockView>,
    /// Networks that no lock touches.
    pub(super) exempt: Vec<Network>,
    pub(super) queue: List<Queued>,
    pub(super) standing: QueueStanding,
    /// Why there is no queue to be shown, when that is so.
    pub(super) queueless: Option<String>,
    pub(super) destinations: List<Destination>,
    /// Messages that are not in that list.
    pub(super) unlooked: u64,
    /// Why there is no such list, when that is so.
    pub(super) unshaped: Option<String>,
    /// The message that was asked for, or why it is not shown.
    pub(super) message: Option<(QueueId, Result<Box<QueuedMessage>, String>)>,
    pub(super) log: LogPane,
    pub(super) notice: Option<Notice>,
    pub(super) now: Instant,
    /// Rows of the screen.
    pub(super) height: u16,
    zone: TimeZone,
}

impl Model {
    pub(super) fn new(now: Instant, height: u16, zone: TimeZone) -> Self {
        Self {
            zone,
            tab: Tab::Overview,
            mode: Mode::Normal,
            link: Link::Starting,
            status: None,
            sessions: List::default(),
            clients: List::default(),
            uncounted: None,
            period: Duration::ZERO,
            locks: List::default(),
            exempt: Vec::new(),
            queue: List::default(),
            standing: QueueStanding::default(),
            queueless: None,
            destinations: List::default(),
            unlooked: 0,
            unshaped: None,
            message: None,
            log: LogPane::default(),
            notice: None,
            now,
            height,
        }
    }

    /// The time zone in which times are shown.
    pub(super) const fn zone(&self) -> &TimeZone {
        &self.zone
    }

    /// Rows that a list has on the screen for sure, whatever else is on it.
    pub(super) fn page(&self) -> usize {
        usize::from(self.height).saturating_sub(7).max(1)
    }

    /// Takes the clients in, or why none are counted.
    pub(super) fn take_clients(&mut self, clients: Result<ClientList, String>) {
        match clients {
            Ok(list) => {
                self.uncounted = None;
                self.period = list.period;
                self.clients.take(list.known, list.clients);
            }
            Err(why) => self.uncounted = Some(why),
        }
    }

    /// Takes the locks in.
    pub(super) fn take_locks(&mut self, list: LockList) {
        self.exempt = list.exempt;
        self.locks.take(list.held, list.locks);
    }

    /// Takes the queue in, or why there is none.
    pub(super) fn take_queue(&mut self, queue: Result<(QueueStanding, Vec<Queued>), String>) {
        match queue {
            Ok((standing, messages)) => {
                self.queueless = None;
                self.standing = standing;
                let QueueStanding { ready, deferred, held, .. } = standing;
                self.queue.take(ready.saturating_add(deferred).saturating_add(held), messages);
            }
            Err(why) => self.queueless = Some(why),
        }
    }

    /// Takes the destinations in, or why they are not told.
    pub(super) fn take_destinations(&mut self, list: Result<DestinationList, String>) {
        match list {
            Ok(DestinationList { destinations, unlooked }) => {
                (self.unshaped, self.unlooked) = (None, unlooked);
                self.destinations.take(destinations.len(), destinations);
            }
            Err(why) => self.unshaped = Some(why),
        }
    }

    /// Takes a status in; false when it is of another process than the one before.
    pub(super) fn take_status(&mut self, status: Status) -> bool {
        let process = |status: &Status| (status.pid, status.telemetry.since);
        let same = self.status.as_ref().map(process).is_none_or(|old| old == process(&status));
        if !same {
            self.log.start_over();
            self.notify("the gateway was restarted".to_owned(), false);
        }
        self.link = Link::Up;
        self.status = Some(status);
        same
    }

    /// Notes that the gateway does not answer.
    pub(super) fn lose(&mut self, why: String) {
        let since = match &self.link {
            Link::Away { since, .. } => *since,
            Link::Starting | Link::Up => self.now,
        };
        self.link = Link::Away { since, why };
    }

    /// Shows a sentence at the foot of the screen for a while.
    pub(super) fn notify(&mut self, text: String, bad: bool) {
        self.notice = Some(Notice { text, bad, until: self.now + NOTICE_TIME });
    }

    /// Lets time pass.
    pub(super) fn tick(&mut self, now: Instant) {
        self.now = now;
        self.notice.take_if(|notice| notice.until <= now);
    }

    /// The filter of the page on the screen, if it has one.
    pub(super) const fn filter_mut(&mut self) -> Option<&mut String> {
        match self.tab {
            Tab::Overview => None,
            Tab::Sessions => Some(&mut self.sessions.filter),
            Tab::Clients => Some(&mut self.clients.filter),
            Tab::Locks => Some(&mut self.locks.filter),
            Tab::Queue => Some(&mut self.queue.filter),
            Tab::Waiting => Some(&mut self.destinations.filter),
            Tab::Log => Some(&mut self.log.filter),
        }
    }

    /// The filter of the page on the screen.
    pub(super) fn filter(&self) -> &str {
        match self.tab {
            Tab::Overview => "",
            Tab::Sessions => &self.sessions.filter,
            Tab::Clients => &self.clients.filter,
            Tab::Locks => &self.locks.filter,
            Tab::Queue => &self.queue.filter,
            Tab::Waiting => &self.destinations.filter,
            Tab::Log => &self.log.filter,
        }
    }
}
