//! From the configuration to what deliveries work with, and the task that makes them.

use std::net::IpAddr;
use std::sync::Arc;

use anyhow::Context as _;
use nix::ifaddrs::getifaddrs;
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::settings;
use crate::config::Config;
use crate::delivery::manager;
use crate::delivery::office::Office;
use crate::delivery::settings::{Disk, Host};
use crate::delivery::transport::Setup;
use crate::dns::Resolver;
use crate::queue::Queue;
use crate::telemetry::Telemetry;

/// What empties the queue; nothing where there is none.
pub(super) struct Deliveries {
    office: Option<Arc<Office>>,
    stop: watch::Sender<bool>,
    tasks: JoinSet<()>,
}

impl Deliveries {
    /// Begins to empty `queue`.
    pub(super) fn start(
        config: &Config,
        queue: Option<&Queue>,
        telemetry: &Arc<Telemetry>,
    ) -> anyhow::Result<Self> {
        let (stop, stopped) = watch::channel(false);
        let mut tasks = JoinSet::new();
        let mut open = None;
        if let Some(queue) = queue {
            let resolver = Arc::new(Resolver::new(&config.dns)?);
            let (office, asked) = Office::new(queue.clone(), resolver, Arc::clone(telemetry), setup(config)?);
            let office = Arc::new(office);
            tasks.spawn(manager::run(Arc::clone(&office), asked, stopped, super::LAST_DELIVERIES));
            open = Some(office);
        }
        Ok(Self { office: open, stop, tasks })
    }

    /// Where a changed configuration is put in force for deliveries to come.
    pub(super) fn office(&self) -> Option<Arc<Office>> {
        self.office.clone()
    }

    /// Begins no delivery any more.
    pub(super) fn stop(&self) {
        self.stop.send_replace(true);
    }

    /// Waits for deliveries under way, which end soon once there are to be no more.
    pub(super) async fn over(mut self) {
        self.stop();
        while self.tasks.join_next().await.is_some() {}
    }
}

/// What puts a changed configuration in force for deliveries to come, and cannot fail.
pub(super) fn changed<'o>(office: &'o Office, config: &Config) -> anyhow::Result<impl FnOnce() + use<'o>> {
    let (setup, resolver) = (Arc::new(setup(config)?), Arc::new(Resolver::new(&config.dns)?));
    Ok(move || {
        office.setup.store(setup);
        office.resolver.store(resolver);
    })
}

/// What deliveries are made with.
fn setup(config: &Config) -> anyhow::Result<Setup> {
    let addresses = addresses()?;
    let host = Host { name: &settings::name(config), addresses: &addresses };
    let setup = Setup::new(config, host, &Disk).context("mail cannot be delivered")?;
    for address in setup.smtp.pooled_addresses().filter(|address| !addresses.contains(address)) {
        tracing::warn!(%address, "an address of `delivery.sources` is none of this machine's; mail goes from the others of its pool, or waits");
    }
    Ok(setup)
}

/// The addresses of this host's interfaces.
fn addresses() -> anyhow::Result<Vec<IpAddr>> {
    let interfaces = getifaddrs().context("the addresses of this host")?;
    let addresses = interfaces.filter_map(|interface| {
        let address = interface.address?;
        let ipv4 = address.as_sockaddr_in().map(|address| IpAddr::V4(address.ip()));
        ipv4.or_else(|| address.as_sockaddr_in6().map(|address| IpAddr::V6(address.ip())))
    });
    Ok(addresses.collect())
}
