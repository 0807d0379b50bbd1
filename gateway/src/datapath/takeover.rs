//! How one datapath process takes the gateway over from another: the only words that two releases
//! ever exchange.
//!
//! | module | what it owns |
//! | --- | --- |
//! | [`binary`] | which file is started, and whether root may start it |
//! | [`successor`] | the old process's view: the new one, until it serves |
//! | [`predecessor`] | the new process's view: what it inherits |
//! | [`elders`] | the new process's view of the old ones, while they drain |
//!
//! The old process starts the new one with one end of a `SOCK_SEQPACKET` pair as standard input.
//! One packet is one JSON message, as in [`crate::ipc`]:
//!
//! ```text
//!  new → old   hello     who it is, with a descriptor of its process
//!  old → new   offer     the version of these messages
//!  old → new   give      one descriptor and what it is, as often as there are things to give
//!  old → new   given     that was all
//!  new → old   failed    why it ends; the old one goes on as if nothing had happened
//!           or serving   flows are its own; the old one drains
//!  old → new   draining  sessions that are open, each second
//!              lock-changes  what became of locks lately, and whenever one changes
//!              flows-ended   flows that gave way to others which the old process hands off
//!  new → old   leave     end what is open, soon
//! ```
//!
//! Each process starts and talks to a proxy of its own release; nothing of [`crate::ipc`] crosses
//! releases. `hello`, the version in `offer`, and `failed` must stay as they are for ever: they are
//! how releases that do not fit tell it. All else may change with [`VERSION`], and a field may be
//! added without, if a release that does not know it may ignore it.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::ipc;
use crate::ipc::flow::FlowReport;
use crate::ipc::lock::LockChange;
use crate::ipc::memfile;

pub mod binary;
pub mod elders;
pub mod predecessor;
pub mod successor;

/// Version of the messages.
pub const VERSION: u32 = 1;

/// Old processes that may drain at the same time.
pub const ELDERS: usize = 4;

/// From the process that serves to the one that is to follow it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "type")]
pub enum ToSuccessor {
    /// First message.
    Offer {
        /// [`VERSION`].
        version: u32,
    },
    /// One thing. Descriptor: the thing.
    Give {
        /// What it is.
        what: Thing,
    },
    /// There are no further things.
    Given,
    /// How many sessions the old process has open.
    Draining {
        /// Sessions with sockets: those the kernel carries do not keep it.
        sessions: u64,
    },
    /// What the old process has changed of the locks, of which it has the file no more.
    LockChanges {
        /// At most [`CHANGES`](crate::ipc::lock::CHANGES).
        changes: Vec<LockChange>,
        /// Whether these were the last of those before it was told to drain.
        whole: bool,
    },
    /// Flows that the kernel carried and that are over: their sessions are the new process's.
    FlowsEnded {
        /// A few at a time.
        flows: Vec<FlowReport>,
    },
}

/// What a descriptor is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Thing {
    /// The configuration in force, as a sealed memory file.
    Configuration,
    /// The network namespace, with the lock that one gateway of each has.
    Lock,
    /// A listener for flows, in the order of `listen`.
    Listener,
    /// The control socket's listener.
    Control,
    /// The same, where the gateway has made the folder it is in.
    ControlWithFolder,
    /// The old process itself (`pidfd_open(2)`).
    Process,
    /// The channel to a still older process that drains.
    ElderChannel,
    /// That process; follows its channel.
    ElderProcess,
}

/// From the new process to the old one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "type")]
pub enum ToPredecessor {
    /// First message. Descriptor: the new process (`pidfd_open(2)`).
    Hello {
        /// Its number.
        pid: u32,
        /// Its release.
        release: String,
    },
    /// It does not follow, and ends.
    Failed {
        /// Why, for the operator.
        problem: String,
    },
    /// It serves: the old one takes no more flows.
    Serving,
    /// Let open sessions end within the time that a stop takes, and leave.
    Leave,
}

/// Why the gateway is not taken over.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file of this process.
    #[error("cannot tell which file this gateway was started from; name one with `--binary PATH`")]
    Unknown,
    /// A file cannot be opened.
    #[error("cannot open {}", path.display())]
    Open {
        /// Its path.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// Not a program.
    #[error("{} is no program that can be started", .0.display())]
    NotAProgram(PathBuf),
    /// Others could make root do what they like.
    #[error(
        "{} is not root's own, and root would start it: run `chown root {}` and `chmod go-w {}`",
        .0.display(), .0.display(), .0.display()
    )]
    NotRoots(PathBuf),
    /// Another program, or one that does not start.
    #[error("`{} --version` does not say that it is the gateway, but: {said}", path.display())]
    NotTheGateway {
        /// Its path.
        path: PathBuf,
        /// What it says.
        said: String,
    },
    /// No process.
    #[error("cannot start {}", path.display())]
    Start {
        /// Its path.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The new process ended without a word.
    #[error("the new process ended before it served a flow: {0}; the log may say why")]
    Ended(String),
    /// The new process says why it does not follow.
    #[error("{0}")]
    Failed(String),
    /// The new process takes too long.
    #[error("the new process did not serve within {} seconds", .0.as_secs())]
    Slow(Duration),
    /// The channel.
    #[error("the two processes cannot talk to each other")]
    Channel(#[from] ipc::Error),
    /// The new process says something else than it should.
    #[error("the new process speaks out of turn; restart the gateway to upgrade it")]
    OutOfTurn,
    /// In a container, the end of process 1 ends all others.
    #[error("this gateway is process 1 of a container: start a new container in its place")]
    FirstProcess,
    /// One at a time.
    #[error("an upgrade is under way")]
    Busy,
    /// Too many.
    #[error(
        "{ELDERS} older processes still drain; `gateway status` counts their sessions: wait until one has left"
    )]
    Crowd,
    /// Standard input is no channel.
    #[error("`gateway upgrade` starts this; it is of no use by itself")]
    NoChannel(#[source] io::Error),
    /// The old process is gone or says something else than it should.
    #[error("the old process did not hand the gateway over")]
    NothingGiven,
    /// Releases that are too far apart.
    #[error(
        "the gateway that runs hands over in version {theirs}, release {release} takes over in version {VERSION}: \
         restart the gateway to upgrade it", release = env!("CARGO_PKG_VERSION")
    )]
    Version {
        /// Its version.
        theirs: u64,
    },
    /// A descriptor that is not what it is said to be.
    #[error("the old process handed over a {what:?} that is none")]
    Mistaken {
        /// What it is said to be.
        what: Thing,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The configuration in force cannot be handed over.
    #[error("cannot hand the configuration over")]
    Configuration(#[from] memfile::Error),
}
