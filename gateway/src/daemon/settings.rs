//! From the configuration to what sessions work with.

use std::path::PathBuf;
use std::sync::Arc;

use anyhow::Context as _;
use tokio::sync::mpsc;
use tracing::warn;

use crate::config::file::{AuthSkip, Lane, Origin, SpfCheck, Spool, State};
use crate::config::{self, Config, Problems};
use crate::delivery::settings::{Disk, unusable_keys};
use crate::dns::{self, Resolver};
use crate::folder::{self, Folder};
use crate::handoff::Handoff;
use crate::handoff::kernel::Kernel;
use crate::intercept::facts::{self, Facts, Question};
use crate::policy::lane::Lanes;
use crate::queue::Queue;
use crate::quota::Quotas;
use crate::scan::Scanners;
use crate::session::Settings;
use crate::session::checks::dnsbl::BlockLists;
use crate::session::checks::quota::Quota;
use crate::session::checks::spf::SenderPolicy;
use crate::session::checks::{Check, Checks};
use crate::session::direct::Journal;
use crate::session::relay::{Relaying, tls};
use crate::smtp::exchange::Rules;
use crate::smtp::question::{Step, Steps};
use crate::smtp::server;
use crate::spool::{self, Spooler};
use crate::store::{News, Store};
use crate::telemetry::Telemetry;

/// Why a configuration cannot be put in force.
#[derive(Debug, thiserror::Error)]
pub(super) enum Error {
    /// There is no place for copies of messages.
    #[error(transparent)]
    Spool(#[from] spool::Error),
    /// Nothing can be looked up.
    #[error(transparent)]
    Dns(#[from] dns::SetupError),
    /// A certificate of the relay lane cannot be shown.
    #[error(transparent)]
    Tls(#[from] tls::Error),
}

/// Reads a configuration and the keys that it names.
pub(super) fn read(text: &str, path: &str) -> Result<Config, Problems> {
    let config = config::parse(text, path)?;
    let faults = unusable_keys(&config, &Disk).into_iter();
    let faults: Vec<_> = faults.map(|(key, error)| (key, error.to_string())).collect();
    if faults.is_empty() { Ok(config) } else { Err(config::blame(text, path, &faults)) }
}

/// The gateway's name in its replies: configured, or the host's.
pub(super) fn name(config: &Config) -> String {
    if !config.name.is_empty() {
        return config.name.clone();
    }
    let host = nix::unistd::gethostname().ok().and_then(|host| host.into_string().ok());
    host.filter(|host| !host.is_empty()).unwrap_or_else(|| "gateway".to_owned())
}

/// Makes the settings of `config`; only inside a runtime, since scanners are watched.
pub(super) fn make(
    config: Config,
    telemetry: &Arc<Telemetry>,
    quotas: &Arc<Quotas>,
) -> Result<Settings, Error> {
    let relays = relays(&config);
    let spooler = if spools(&config) { Some(spooler(&config)?) } else { None };
    let checks = Checks::new(checks(&config, telemetry, quotas)?, config.timeouts.checks.duration());
    let relaying = if relays { Some(relaying(&config, checks.steps())?) } else { None };
    let mut lanes = Lanes::new(config.lanes.clone());
    if config.origin == Origin::Assign {
        lanes = lanes.for_ports(config.intercept.ports.clone());
    }
    Ok(Settings {
        relaying,
        rules: Arc::new(Rules { asks: checks.steps(), ..Rules::new(&config, name(&config)) }),
        checks,
        lanes,
        scanners: Scanners::new(&config.scan),
        spooler,
        config,
    })
}

/// The relay lane: `steps` are those at which somebody is asked. MAIL is always one: there must be room.
fn relaying(config: &Config, steps: Steps) -> Result<Relaying, tls::Error> {
    let asks = steps.and([Step::Mail].into_iter().collect());
    Ok(Relaying {
        rules: Arc::new(server::Rules { asks, ..server::Rules::new(config, name(config)) }),
        acceptor: tls::acceptor(&config.relay.tls)?,
    })
}

/// Whether copies of messages are made.
pub(super) fn spools(config: &Config) -> bool {
    relays(config) || !config.scan.scanners().is_empty() || !config.spool.leave_on.is_empty()
}

/// Whether there is a relay lane.
pub(super) fn relays(config: &Config) -> bool {
    config.lanes.iter().any(|rule| rule.lane == Lane::Relay)
}

/// Whether names are looked up for sessions.
pub(super) fn looks_up(config: &Config) -> bool {
    !config.dnsbl.zones.is_empty() || config.spf.check != SpfCheck::None
}

/// The server that other gateways add to, and what it tells.
pub(super) async fn shared(
    config: &Config,
) -> Result<Option<(Store, mpsc::UnboundedReceiver<News>)>, tokio::task::JoinError> {
    if config.state == State::Embedded {
        return Ok(None);
    }
    let server = config.redis.clone();
    tokio::task::spawn_blocking(move || Some(Store::connect(server))).await
}

/// The checks that are configured. Without any there is no resolver, and nothing is asked.
fn checks(
    config: &Config,
    telemetry: &Arc<Telemetry>,
    quotas: &Arc<Quotas>,
) -> Result<Vec<Box<dyn Check>>, dns::SetupError> {
    let (lists, policy) = (!config.dnsbl.zones.is_empty(), config.spf.check != SpfCheck::None);
    let mut checks: Vec<Box<dyn Check>> = Vec::new();
    if config.quotas.is_on() {
        checks.push(Box::new(Quota::new(Arc::clone(quotas), Arc::clone(telemetry))));
    }
    if !looks_up(config) {
        return Ok(checks);
    }
    let resolver = Arc::new(Resolver::new(&config.dns)?);
    let spares = |what| config.auth.skip.contains(&what);
    if lists {
        let (resolver, telemetry) = (Arc::clone(&resolver), Arc::clone(telemetry));
        let lists = BlockLists::new(config.dnsbl.clone(), spares(AuthSkip::Dnsbl), resolver, telemetry);
        checks.push(Box::new(lists));
    }
    if policy {
        let (spared, telemetry) = (spares(AuthSkip::Spf), Arc::clone(telemetry));
        let policy = SenderPolicy::new(config.spf.clone(), name(config), spared, resolver, telemetry);
        checks.push(Box::new(policy));
    }
    Ok(checks)
}

/// The default folder is made by root or by a package; without either, as with `origin: fixed` in a
/// container, the gateway keeps its copies in a folder of its own below the temporary one.
pub(super) fn makeshift(config: &Config) -> Option<PathBuf> {
    let possible = config.origin == Origin::Fixed && config.spool.directory == Spool::default().directory;
    possible.then(|| std::env::temp_dir().join(format!("gateway-{}", nix::unistd::geteuid())))
}

fn spooler(config: &Config) -> Result<Spooler, spool::Error> {
    match (Spooler::open(&config.spool), makeshift(config)) {
        (Err(spool::Error::Folder(error @ folder::Error::Open { .. })), Some(directory)) => {
            warn!(
                folder = %directory.display(),
                %error,
                "copies of messages go to the temporary folder; name a place for them in `spool.directory`"
            );
            Spooler::open(&Spool { directory, ..config.spool.clone() })
        }
        (opened, _) => opened,
    }
}

/// The queue, where there is one. What was found in it is told.
pub(super) async fn queue(config: &Config) -> anyhow::Result<Option<Queue>> {
    let Some(directory) = config.queue.directory.clone() else { return Ok(None) };
    let min_free = config.queue.min_free;
    let opened = tokio::task::spawn_blocking(move || Queue::open(&directory, min_free)).await?;
    Ok(Some(opened.context("mail can be neither taken nor delivered; see `queue.directory`")?))
}

/// Where it is noted what the next process needs to know of sessions that the kernel carries.
pub(super) fn journal(config: &Config) -> Option<Journal> {
    if config.origin != Origin::Assign {
        return None;
    }
    let folder = Folder::open(&config.state_directory).inspect_err(|error| {
        warn!(%error, "records of handed-off sessions that outlive this process will lack what was before");
    });
    folder.ok().map(Journal::open)
}

/// Sessions are left to the kernel program where there is one.
pub(super) fn handoff(config: &Config, kernel: Kernel) -> Handoff {
    if config.origin == Origin::Assign { Handoff::with(kernel) } else { Handoff::default() }
}

/// Facts are noted by the kernel program only. Questions go through `questions`.
pub(super) fn facts(config: &Config, questions: mpsc::Sender<Question>) -> Facts {
    if config.origin != Origin::Assign {
        return Facts::default();
    }
    let (together, waiting) = mpsc::channel(super::QUESTIONS);
    // It ends with those who ask.
    tokio::spawn(facts::gather(waiting, questions.clone()));
    Facts::new(questions, together)
}
