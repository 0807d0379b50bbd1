//! The datapath process: the one with power, which reads no mail.
//!
//! | module | what it owns |
//! | --- | --- |
//! | [`source`] | the configuration file, as root must read it |
//! | [`object`], [`maps`], [`attach`], [`events`], [`flow_table`], [`selftest`] | the eBPF program; the only users of `aya` |
//! | [`pin`] | what of those outlives this process |
//! | [`route`] | the rule and the route that deliver steered packets |
//! | [`interfaces`] | which interfaces there are and are meant |
//! | [`lanes`] | the lane list as the kernel understands it |
//! | [`steer`] | all of those together |
//! | [`accounts`] | what is counted of clients, and what they may have |
//! | [`carrier`], [`handoff`], [`repair`], [`sweep`], [`progress`] | sessions that the kernel carries alone |
//! | [`reset`], [`segment`] | ends those that must not go on |
//! | [`quarantine`] | networks whose new flows are held off |
//! | [`listener`] | the sockets the proxy is handed |
//! | [`supervise`], `liveness` | the proxy process |
//! | [`pid_file`] | the process number, for scripts |
//! | `actions` | the process that runs the operator's script for locks |
//! | [`takeover`], [`namespace`] | how a new release takes over from the one that runs |
//! | `serve` | what happens while the gateway runs |
//! | [`probe`] | whether this machine can do all this |
//!
//! [`run`] is the order in which they come and go, [`succeed`] the same for a process that takes
//! over. With `origin: netfilter` and `origin: fixed`
//! there is no eBPF, and this process needs root only for what the operator asks of it: a port
//! below 1024, an account for the proxy.

use std::error::Error as StdError;
use std::os::fd::OwnedFd;

use tracing::warn;

use crate::config::file::{Config, Origin};
use crate::ipc::memfile;
use crate::privilege::{self, Account};
use crate::telemetry::log::Logging;

pub mod accounts;
mod actions;
pub mod attach;
pub mod carrier;
mod cuts;
pub mod events;
pub mod flow_table;
pub mod handoff;
pub mod interfaces;
pub mod lanes;
pub mod listener;
mod liveness;
pub mod maps;
pub mod namespace;
mod netlink;
pub mod object;
pub mod pid_file;
pub mod pin;
pub mod probe;
pub mod progress;
mod publish;
mod qdisc;
pub mod quarantine;
pub mod repair;
pub mod reset;
pub mod route;
pub mod segment;
pub mod selftest;
mod serve;
pub mod source;
mod state_file;
pub mod steer;
pub mod supervise;
pub mod sweep;
pub mod takeover;
mod unsettled;
pub mod verified;
mod wrapping;

use listener::ControlSocket;
use serve::{Datapath, End, Signals};
use source::Source;
use steer::Steering;
use supervise::Proxy;
use takeover::predecessor::{Inheritance, Predecessor};

/// Why the gateway does not run.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// eBPF and routing are root's.
    #[error("`origin: assign` needs root; without it, use `origin: netfilter` or `origin: fixed`")]
    NotRoot,
    /// The account of the proxy.
    #[error(transparent)]
    Account(#[from] privilege::user::Error),
    /// The account of the script for locks.
    #[error("`on-lock.user`: {0}")]
    ScriptAccount(privilege::user::Error),
    /// A socket.
    #[error(transparent)]
    Listener(#[from] listener::Error),
    /// The kernel side.
    #[error(transparent)]
    Steering(#[from] steer::Error),
    /// The proxy.
    #[error(transparent)]
    Proxy(#[from] supervise::Error),
    /// The proxy ended before it served a flow.
    #[error("the proxy process did not start: {0}")]
    NotReady(String),
    /// The configuration cannot be handed over.
    #[error("cannot hand the configuration to the proxy process")]
    HandOver(#[from] memfile::Error),
    /// A takeover.
    #[error(transparent)]
    Takeover(#[from] takeover::Error),
    /// The configuration has changed in what was inherited.
    #[error(transparent)]
    Source(#[from] source::Error),
    /// A takeover that was given up.
    #[error("told to stop before it served a flow")]
    Stopped,
    /// Signals cannot be received.
    #[error("cannot receive signals")]
    Signals(#[source] std::io::Error),
    /// `process.pid-file`.
    #[error("cannot write the pid file {path}; make its folder, or change `process.pid-file`")]
    PidFile {
        /// Its path.
        path: String,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// The spool folder.
    #[error("cannot make the spool folder {path}")]
    Spool {
        /// Its path.
        path: String,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
}

/// Runs the gateway until it is told to stop, and leaves nothing behind but what carries flows, or until
/// another process has taken it over.
///
/// # Errors
///
/// What keeps it from starting. Once it runs, it runs.
pub async fn run(source: Source, logging: Logging) -> Result<(), Error> {
    let mut signals = Signals::listen()?;
    let config = &source.config;
    let account = account(config)?;
    actions::check(config)?;
    let control = open_control(config, account.as_ref())?;
    make_folders(config, account.as_ref())?;
    let listeners = listener::open(config)?;
    let steering = match config.origin {
        Origin::Assign => Some(Box::pin(Steering::start(config, &listeners)).await?),
        Origin::Netfilter | Origin::Fixed | Origin::Proxy | Origin::RemoteUdp | Origin::Remote => None,
    };
    let proxy = Proxy::new(account, source::keep(config));
    let datapath = Datapath::new(source, logging, listeners, control, steering, proxy);
    Box::pin(live(datapath, &mut signals)).await
}

/// Takes the gateway over from the process at the other end of `channel`, and runs it from there
/// on as [`run`] does.
///
/// # Errors
///
/// Why it does not follow; the other process was told and goes on.
pub async fn succeed(source: Source, logging: Logging, channel: OwnedFd) -> Result<(), Error> {
    let mut signals = Signals::listen()?;
    let predecessor = Predecessor::greet(channel).await?;
    match inherit(source, logging, &predecessor).await {
        Ok(datapath) => Box::pin(live(datapath.heir_of(predecessor), &mut signals)).await,
        Err(error) => {
            predecessor.fail(chain(&error)).await;
            Err(error)
        }
    }
}

/// Makes a gateway from what another process hands over. Nothing changes for that process yet.
async fn inherit(source: Source, logging: Logging, predecessor: &Predecessor) -> Result<Datapath, Error> {
    let Inheritance { configuration, process, lock, listeners, control, elders } =
        predecessor.inherit().await?;
    let config = &source.config;
    source.check_successor_of(&configuration)?;
    let account = account(config)?;
    actions::check(config)?;
    make_folders(config, account.as_ref())?;
    let control = control.map(|(listener, made)| ControlSocket::inherit(listener, &config.control, made));
    let steering = lock.map(|lock| Steering::adopt(config, lock)).transpose()?;
    let proxy = Proxy::new(account, source::keep(config));
    Ok(Datapath::new(source, logging, listeners, control, steering, proxy).with_elders(elders, process))
}

/// The whole life of a gateway that is ready to start its proxy.
async fn live(mut datapath: Datapath, signals: &mut Signals) -> Result<(), Error> {
    let ran = match datapath.run(signals).await {
        Ok(End::Stopped) if datapath.is_heir() => Err(Error::Stopped),
        Ok(End::Succeeded(successor)) => {
            Box::pin(datapath.retire(successor, signals)).await;
            return Ok(());
        }
        Ok(End::Stopped) => Ok(()),
        Err(error) => Err(error),
    };
    match ran {
        Err(error) if datapath.is_heir() => {
            Box::pin(datapath.abandon(chain(&error))).await;
            Err(error)
        }
        ran => {
            Box::pin(datapath.stop(signals)).await;
            ran
        }
    }
}

/// The account for a proxy without one of its own; every Linux has it.
const STAND_IN: &str = "nobody";

/// The account the proxy becomes, unless this process is not root.
///
/// A container is often root without any account of its own. Where the kernel side is not touched,
/// `nobody` stands in for the default one.
fn account(config: &Config) -> Result<Option<Account>, Error> {
    if !privilege::user::is_root() {
        return if config.origin == Origin::Assign { Err(Error::NotRoot) } else { Ok(None) };
    }
    match Account::find(&config.user).and_then(|account| account.with_group(&config.process.group)) {
        Err(privilege::user::Error::Missing(name))
            if config.origin == Origin::Fixed && name == Config::default().user =>
        {
            let stand_in = Account::find(STAND_IN)?;
            warn!(missing = name, account = STAND_IN, "no account of its own; name one under `user`");
            Ok(Some(stand_in))
        }
        found => Ok(Some(found?)),
    }
}

/// Makes the folders of the proxy.
fn make_folders(config: &Config, account: Option<&Account>) -> Result<(), Error> {
    let (Some(account), folder) = (account, &config.spool.directory) else { return Ok(()) };
    if let Err(error) = listener::make_folder_for(&config.state_directory, account) {
        // The proxy goes on without it, and says so.
        tracing::debug!(%error, "the folder of the state store cannot be made");
    }
    if let Some(queue) = &config.queue.directory
        && let Err(error) = listener::make_folder_for(queue, account)
    {
        // Below a folder of the proxy's own only that makes it; it does not go on without.
        tracing::debug!(%error, "the folder of the queue cannot be made");
    }
    listener::make_folder_for(folder, account)
        .map_err(|source| Error::Spool { path: folder.display().to_string(), source })
}

/// Raises the number of descriptors of this process and the proxy to what the system allows.
///
/// A session takes up to seven, and 1,024 are soon gone. Without root, the hard limit is what
/// there is.
pub fn raise_descriptor_limit() {
    use nix::sys::resource::{Resource, getrlimit, setrlimit};
    let most = std::fs::read_to_string("/proc/sys/fs/nr_open").ok().and_then(|text| text.trim().parse().ok());
    let Ok((soft, hard)) = getrlimit(Resource::RLIMIT_NOFILE) else { return };
    let most = most.unwrap_or(hard).max(hard);
    if setrlimit(Resource::RLIMIT_NOFILE, most, most).is_err() && soft < hard {
        // Raising the soft limit to the hard one is always allowed.
        setrlimit(Resource::RLIMIT_NOFILE, hard, hard).ok();
    }
}

/// Without root the usual place of the control socket cannot be written; that must not keep a
/// gateway in a container from running.
fn open_control(config: &Config, account: Option<&Account>) -> Result<Option<ControlSocket>, Error> {
    match ControlSocket::open(&config.control, account) {
        Err(error @ listener::Error::Control { .. })
            if account.is_none() && config.control == Default::default() =>
        {
            warn!(error = chain(&error), "no control socket; name a place for it in `control.socket`");
            Ok(None)
        }
        opened => Ok(opened?),
    }
}

/// An error and its causes, in one line.
fn chain(error: &dyn StdError) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}
