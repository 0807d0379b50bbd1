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
//! | [`carrier`], [`handoff`], [`repair`], [`sweep`] | sessions that the kernel carries alone |
//! | [`reset`], [`segment`] | ends those that must not go on |
//! | [`quarantine`] | networks whose new flows are held off |
//! | [`listener`] | the sockets the proxy is handed |
//! | [`supervise`] | the proxy process |
//! | [`pid_file`] | the process number, for scripts |
//! | `serve` | what happens while the gateway runs |
//! | [`probe`] | whether this machine can do all this |
//!
//! [`run`] is the order in which they come and go. With `origin: netfilter` and `origin: fixed`
//! there is no eBPF, and this process needs root only for what the operator asks of it: a port
//! below 1024, an account for the proxy.

use std::error::Error as StdError;

use tracing::warn;

use crate::config::file::{Config, Origin};
use crate::ipc::memfile;
use crate::privilege::{self, Account};
use crate::telemetry::log::Logging;

pub mod attach;
pub mod carrier;
pub mod events;
pub mod flow_table;
pub mod handoff;
pub mod interfaces;
pub mod lanes;
pub mod listener;
pub mod maps;
mod netlink;
pub mod object;
pub mod pid_file;
pub mod pin;
pub mod probe;
mod qdisc;
pub mod quarantine;
pub mod repair;
pub mod reset;
pub mod route;
pub mod segment;
pub mod selftest;
mod serve;
pub mod source;
pub mod steer;
pub mod supervise;
pub mod sweep;

use listener::ControlSocket;
use pid_file::PidFile;
use serve::{Datapath, Signals};
use source::Source;
use steer::Steering;
use supervise::Proxy;

/// Why the gateway does not run.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// eBPF and routing are root's.
    #[error("`origin: assign` needs root; without it, use `origin: netfilter` or `origin: fixed`")]
    NotRoot,
    /// The account of the proxy.
    #[error(transparent)]
    Account(#[from] privilege::user::Error),
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

/// Runs the gateway until it is told to stop, and leaves nothing behind but what carries flows.
///
/// # Errors
///
/// What keeps it from starting. Once it runs, it runs.
pub async fn run(source: Source, logging: Logging) -> Result<(), Error> {
    let mut signals = Signals::listen()?;
    let config = &source.config;
    let root = privilege::user::is_root();
    if config.origin == Origin::Assign && !root {
        return Err(Error::NotRoot);
    }
    let account = if root { Some(account(config)?) } else { None };
    let control = open_control(config, account.as_ref())?;
    if let Some(account) = &account {
        let folder = &config.spool.directory;
        listener::make_spool(folder, account)
            .map_err(|source| Error::Spool { path: folder.display().to_string(), source })?;
    }
    let listeners = listener::open(config)?;
    let steering = match config.origin {
        Origin::Assign => Some(Steering::start(config, &listeners).await?),
        Origin::Netfilter | Origin::Fixed => None,
    };
    let path = &config.process.pid_file;
    let _pid_file =
        PidFile::write(path).map_err(|source| Error::PidFile { path: path.display().to_string(), source })?;
    let proxy = Proxy::new(account, source::keep(config));
    let mut datapath = Datapath::new(source, logging, listeners, control, steering, proxy);
    let ran = datapath.run(&mut signals).await;
    Box::pin(datapath.stop(&mut signals)).await;
    ran
}

/// The account for a proxy without one of its own; every Linux has it.
const STAND_IN: &str = "nobody";

/// The account the proxy becomes.
///
/// A container is often root without any account of its own. Where the kernel side is not touched,
/// `nobody` stands in for the default one.
fn account(config: &Config) -> Result<Account, Error> {
    match Account::find(&config.user).and_then(|account| account.with_group(&config.process.group)) {
        Err(privilege::user::Error::Missing(name))
            if config.origin == Origin::Fixed && name == Config::default().user =>
        {
            let stand_in = Account::find(STAND_IN)?;
            warn!(missing = name, account = STAND_IN, "no account of its own; name one under `user`");
            Ok(stand_in)
        }
        found => Ok(found?),
    }
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
