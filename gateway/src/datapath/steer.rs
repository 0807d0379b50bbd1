//! The kernel side of `origin: assign`, all together: program, routing, interfaces.
//!
//! Owns the order in which they come and go, so that no packet is steered before somebody listens
//! and nothing stays behind. Never looks at the proxy.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::os::fd::AsFd as _;
use std::time::Instant;

use ipnet::IpNet;
use rtnetlink::Handle;
use tracing::{debug, info, warn};

use super::attach;
use super::carrier::{Carrier, Order, Word};
use super::events::Events;
use super::interfaces::Watch;
use super::listener::Listener;
use super::namespace::NamespaceLock;
use super::object::{self, Kernel, Settings};
use super::pin::Pins;
use super::reset::{Cut, Whose};
use super::{lanes, route, sweep};
use crate::config::file::{Config, LockAction, LogLevel};
use crate::ipc::flow::FlowEnd;
use crate::ipc::lock::{BATCH, Hits, LockOrder};

mod clients;
mod follow;
mod held;
mod report;

use clients::Book;
use held::Held;

/// Why flows cannot be steered.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// There is another gateway.
    #[error("another gateway steers flows in this network namespace")]
    Taken,
    /// What another process has in the kernel cannot be taken over.
    #[error("without a BPF file system at /sys/fs/bpf, restart the gateway to upgrade it")]
    NotAdopted,
    /// The network namespace.
    #[error("cannot lock the network namespace")]
    Lock(#[source] io::Error),
    /// The program.
    #[error(transparent)]
    Kernel(#[from] object::Error),
    /// The routing.
    #[error(transparent)]
    Route(#[from] route::Error),
    /// The thread that carries flows.
    #[error("cannot start a thread")]
    Carrier(#[source] io::Error),
    /// Interfaces.
    #[error("cannot read the list of interfaces")]
    Interfaces(#[source] io::Error),
}

/// Program, routing and attachments.
pub struct Steering {
    kernel: Kernel,
    events: Option<Events>,
    carrier: Option<Carrier>,
    pins: Option<Pins>,
    /// Whether a predecessor's places are this program's.
    took_over: bool,
    book: Option<Book>,
    netlink: Handle,
    watch: Watch,
    names: BTreeMap<u32, String>,
    refused: BTreeSet<(u32, String)>,
    idle: BTreeSet<String>,
    told: BTreeSet<String>,
    quiet: BTreeMap<&'static str, Instant>,
    held: Held,
    lock: NamespaceLock,
}

impl Steering {
    /// Loads and tests the program, and sets up routing. Nothing is steered yet.
    ///
    /// The routing that a killed predecessor left is removed; a lock on the network namespace makes
    /// sure that it is a predecessor's. The kernel drops the lock with this process. The flows that
    /// a predecessor's program carries go on: this one takes over its state now, and its places with
    /// [`Self::follow`].
    ///
    /// # Errors
    ///
    /// What is missing; nothing is left behind then.
    pub async fn start(config: &Config, listeners: &[Listener]) -> Result<Self, Error> {
        let lock = NamespaceLock::take().map_err(Error::Lock)?.ok_or(Error::Taken)?;
        let pins = Pins::find().map_err(object::Error::from)?;
        if let Some(pins) = &pins {
            pins.open().map_err(object::Error::from)?;
            remove_abandoned(pins);
            let carried = pins.carried().map_err(object::Error::from)?;
            if carried > 0 {
                info!(flows = carried, "taking over what the kernel carries");
            }
        } else {
            warn!("no BPF file system at /sys/fs/bpf: handed-off sessions end with this process");
        }
        let netlink = connect()?;
        route::remove(&netlink).await?;
        let loaded = Self::load(config, lock, pins.clone(), netlink);
        let mut steering = loaded.inspect_err(|_| forget_unless_carried(pins.as_ref()))?;
        let families: Vec<_> = listeners.iter().map(Listener::family).collect();
        let begun = match steering.configure(config) {
            Ok(()) => route::install(&steering.netlink, &config.intercept.routing, &families).await,
            Err(error) => {
                steering.stop(Carried::Keep).await;
                return Err(error);
            }
        };
        if let Err(error) = begun {
            steering.stop(Carried::Keep).await;
            return Err(error.into());
        }
        Ok(steering)
    }

    /// Loads and tests the program beside that of the process `lock` comes from, whose routing and
    /// state it shares. It takes that one's places with [`Self::follow`]; until then, [`Self::leave`]
    /// undoes all of it.
    ///
    /// # Errors
    ///
    /// What is missing; nothing has changed for the other process then.
    pub fn adopt(config: &Config, lock: NamespaceLock) -> Result<Self, Error> {
        let pins = Pins::find().map_err(object::Error::from)?.ok_or(Error::NotAdopted)?;
        pins.open().map_err(object::Error::from)?;
        let mut steering = Self::load(config, lock, Some(pins), connect()?)?;
        match steering.configure(config) {
            Ok(()) => Ok(steering),
            Err(error) => {
                steering.leave();
                Err(error)
            }
        }
    }

    fn load(
        config: &Config,
        lock: NamespaceLock,
        pins: Option<Pins>,
        netlink: Handle,
    ) -> Result<Self, Error> {
        let watch = Watch::start().map_err(Error::Interfaces)?;
        let debug = matches!(config.log.level, LogLevel::Debug | LogLevel::Trace);
        let settings = Settings {
            debug,
            client_table_size: config.clients.table_size,
            ..Settings::from(&config.intercept)
        };
        let mut kernel = load(&settings, pins.clone())?;
        let mut events = kernel.events();
        // Those of the test concern nobody.
        while events.as_mut().is_some_and(|events| events.pop().is_some()) {}
        let carrier = kernel.flow_table().zip(kernel.caught());
        let held = Held::new(carrier.as_ref().map(|(table, _)| sweep::ports(table)).unwrap_or_default());
        let carrier = carrier.map(|(table, caught)| Carrier::start(table, caught));
        let carrier = carrier.transpose().map_err(Error::Carrier)?;
        let book = Book::open(&mut kernel);
        Ok(Self {
            kernel,
            events,
            carrier,
            pins,
            took_over: false,
            book,
            netlink,
            watch,
            names: BTreeMap::new(),
            refused: BTreeSet::new(),
            idle: BTreeSet::new(),
            told: BTreeSet::new(),
            quiet: BTreeMap::new(),
            held,
            lock,
        })
    }

    /// The lock on the network namespace.
    #[must_use]
    pub const fn namespace_lock(&self) -> &NamespaceLock {
        &self.lock
    }

    /// Another process sweeps from here on; what is under way here goes on.
    pub fn retire(&mut self) {
        self.order(Order::Pause);
    }

    /// Leaves everything in the kernel to another process.
    pub fn leave(self) {
        let Self { kernel, carrier, .. } = self;
        drop(carrier);
        kernel.leave();
    }

    /// Puts ports and lanes in force, without a moment in which none are.
    ///
    /// # Errors
    ///
    /// When there are more lanes than room.
    pub fn configure(&mut self, config: &Config) -> Result<(), Error> {
        let tries = lanes::compile(&config.lanes);
        self.kernel.configure(&Settings::from(&config.intercept))?;
        self.kernel.set_client_lanes(&tries.client)?;
        self.kernel.set_server_lanes(&tries.server)?;
        let exempt = config.locks.exempt.iter().map(|network| network.0).collect();
        self.kernel.quarantine().set_exempt(exempt)?;
        self.configure_clients(config)?;
        let ports = config.intercept.ports.clone();
        self.kernel.set_ports(&self.held.configure(&ports))?;
        let routing = &config.intercept.routing;
        let own_mark = routing.own_mark & routing.mask;
        let idle = config.timeouts.idle.duration();
        self.order(Order::Configure { idle, own_mark, ports, number: self.held.number() });
        Ok(())
    }

    /// Gives new flows to the listeners.
    ///
    /// # Errors
    ///
    /// When the kernel refuses a listener.
    pub fn open(&mut self, listeners: &[Listener]) -> Result<(), Error> {
        for listener in listeners {
            self.kernel.set_listener(listener.family(), listener.as_fd())?;
        }
        Ok(())
    }

    /// Lets new flows pass, or drop, at once.
    ///
    /// # Errors
    ///
    /// When the kernel refuses.
    pub fn close(&mut self) -> Result<(), Error> {
        Ok(self.kernel.clear_listeners()?)
    }

    /// Tells the thread that carries flows what to do.
    pub fn order(&self, order: Order) {
        if let Some(carrier) = &self.carrier {
            carrier.order(order);
        }
    }

    /// Changes what is locked.
    pub fn lock(&mut self, order: &LockOrder) {
        let quarantine = self.kernel.quarantine();
        let done = match order {
            LockOrder::Begin => {
                quarantine.begin();
                Ok(())
            }
            LockOrder::Set { locks } => locks.iter().try_for_each(|lock| quarantine.set(lock)),
            LockOrder::Complete => quarantine.complete(),
            LockOrder::Remove { nets } => nets.iter().try_for_each(|net| quarantine.remove(*net)),
            LockOrder::Exempt { nets } => quarantine.exempt_too(nets.clone()),
            LockOrder::Cut { net, action } => {
                let cut = if *action == LockAction::Drop { Cut::Drop } else { Cut::Reset };
                self.order(Order::Condemn { whose: Whose::Clients(*net), cut, end: FlowEnd::Locked });
                Ok(())
            }
        };
        if let Err(error) = done {
            warn!(error = super::chain(&error), "locks are not enforced as they should");
        }
    }

    /// What was counted of the locks of these networks.
    pub fn lock_hits(&mut self, nets: &[IpNet]) -> Vec<Hits> {
        let quarantine = self.kernel.quarantine();
        nets.iter().take(BATCH).map(|net| quarantine.hits(*net)).collect()
    }

    /// Waits until interfaces have changed (`None`: then [`Self::follow`] is due), or the thread
    /// that carries flows has something to say. Cancelled, it loses nothing.
    pub async fn event(&mut self) -> Option<Word> {
        let (Some(carrier), Some(book)) = (&mut self.carrier, &mut self.book) else {
            self.watch.changed().await;
            return None;
        };
        tokio::select! {
            () = self.watch.changed() => None,
            Some(word) = carrier.word() => Some(word),
            Some(word) = book.word() => Some(word),
        }
    }

    /// Has the last told of all flows that are carried, and ends them where they are not kept. Each
    /// word that is left is for the proxy; [`Word::Settled`] comes last.
    pub fn settle(&self, carried: Carried) {
        let kept = carried == Carried::Keep && self.pins.is_some();
        self.order(Order::Settle { end: (!kept).then_some(FlowEnd::Shutdown) });
    }

    /// Takes everything out of the kernel again, or all but what carries flows. Returns how many
    /// flows go on.
    pub async fn stop(self, carried: Carried) -> usize {
        let Self { mut kernel, events, carrier, pins, netlink, lock: _lock, .. } = self;
        drop((events, carrier));
        let left = match (&pins, carried) {
            (Some(pins), Carried::Keep) => pins.carried().unwrap_or_else(|error| {
                warn!(error = super::chain(&error), "cannot count the flows that the kernel carries");
                0
            }),
            (None, _) | (_, Carried::Drop) => 0,
        };
        // First the program: a packet that is steered without a rule would be lost.
        if left > 0 {
            if let Err(error) = kernel.pass_when_down() {
                warn!(
                    error = super::chain(&error),
                    "new flows do as configured for when the gateway is down"
                );
            }
            kernel.leave();
        } else {
            drop(kernel);
            if let Some(Err(error)) = pins.map(|pins| pins.remove()) {
                warn!(error = super::chain(&error), "cannot remove what is pinned");
            }
        }
        if let Err(error) = route::remove(&netlink).await {
            warn!(%error, "cannot remove the policy routing");
        }
        left
    }
}

/// What becomes of the flows that the kernel carries when the gateway stops.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Carried {
    /// They go on.
    Keep,
    /// They end.
    Drop,
}

fn connect() -> Result<Handle, Error> {
    let (connection, netlink, _) =
        rtnetlink::new_connection_with_strict_check().map_err(Error::Interfaces)?;
    tokio::spawn(connection);
    Ok(netlink)
}

/// Ends all flows that the kernel carries without a gateway, and takes out of the kernel what
/// carries them. Returns how many there were.
///
/// # Errors
///
/// There is a gateway, or the kernel refuses.
pub async fn drop_flows() -> Result<usize, Error> {
    let _lock = NamespaceLock::take().map_err(Error::Lock)?.ok_or(Error::Taken)?;
    let netlink = connect()?;
    let mut carried = 0;
    if let Some(pins) = Pins::find().map_err(object::Error::from)? {
        carried = pins.carried().map_err(object::Error::from)?;
        pins.remove().map_err(object::Error::from)?;
    }
    attach::sweep()?;
    route::remove(&netlink).await?;
    Ok(carried)
}

/// What others have left is no reason not to start.
fn remove_abandoned(pins: &Pins) {
    match pins.remove_abandoned() {
        Ok(0) => {}
        Ok(namespaces) => info!(namespaces, "removed what was pinned for network namespaces that are gone"),
        Err(error) => debug!(error = super::chain(&error), "what is pinned for other network namespaces"),
    }
}

fn load(settings: &Settings, pins: Option<Pins>) -> Result<Kernel, object::Error> {
    let mut kernel = match pins {
        Some(pins) => Kernel::load_pinned(settings, pins)?,
        None => Kernel::load(settings)?,
    };
    kernel.self_test()?;
    Ok(kernel)
}

/// A gateway that does not start leaves nothing, but flows that were there before.
fn forget_unless_carried(pins: Option<&Pins>) {
    let Some(pins) = pins else { return };
    if !pins.carried().is_ok_and(|carried| carried == 0) {
        return;
    }
    if let Err(error) = pins.remove() {
        warn!(error = super::chain(&error), "cannot remove what is pinned");
    }
}
