//! From the configuration to what deliveries work with, and the task that makes them.

use std::collections::BTreeSet;
use std::fs;
use std::net::IpAddr;
use std::sync::Arc;

use anyhow::Context as _;
use nix::ifaddrs::getifaddrs;
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::settings;
use crate::config::Config;
use crate::config::file::delivery::{Delivery, Miscellaneous, SecurityLevel, Starttls};
use crate::delivery::manager;
use crate::delivery::office::{Office, Reports};
use crate::delivery::settings::Settings;
use crate::delivery::tls::{NameMatch, TlsClient, TlsPolicy, Versions};
use crate::delivery::transport::{Setup, Transport};
use crate::dns::Resolver;
use crate::queue::Queue;
use crate::smtp::client::{Protocol, TlsLevel};
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

/// What deliveries are made with.
pub(super) fn setup(config: &Config) -> anyhow::Result<Setup> {
    let name = settings::name(config);
    let section = &config.delivery;
    let lmtp = section.for_lmtp();
    Ok(Setup {
        smtp: transport(config, section, Protocol::Smtp, &name)?,
        lmtp: transport(config, &lmtp, Protocol::Lmtp, &name)?,
        retry: own_settings(config, Protocol::Smtp, &name)?.retry,
        reports: Reports {
            size_limit: section.schedule.bounce_size_limit,
            classes: section.trouble_shooting.notify_classes.clone(),
            postmaster: section.trouble_shooting.error_notice_recipient.clone(),
        },
        digits: u32::from(section.miscellaneous.delay_logging_resolution_limit),
        name,
    })
}

fn own_settings(config: &Config, protocol: Protocol, name: &str) -> anyhow::Result<Settings> {
    let dns = &config.dns;
    let attempts = u32::try_from(dns.attempts).unwrap_or(u32::MAX).max(1);
    // One look-up asks each server as often as it is allowed to.
    let deadline = dns.timeout.duration().saturating_mul(attempts).saturating_mul(2);
    let own = own_addresses(&config.delivery.miscellaneous)?;
    Ok(Settings::new(&config.delivery, protocol, name, own, deadline))
}

fn transport(
    config: &Config,
    section: &Delivery,
    protocol: Protocol,
    name: &str,
) -> anyhow::Result<Transport> {
    let (tls, policy) = tls(&section.starttls)?;
    let other = &section.miscellaneous;
    Ok(Transport {
        source: (other.bind_address, other.bind_address6),
        assume_final: section.lmtp.assume_final,
        ..Transport::new(own_settings(config, protocol, name)?, Arc::new(tls), policy)
    })
}

fn tls(section: &Starttls) -> anyhow::Result<(TlsClient, TlsPolicy)> {
    let level = match section.tls_security_level {
        SecurityLevel::None => TlsLevel::None,
        SecurityLevel::May => TlsLevel::May,
        SecurityLevel::Encrypt => TlsLevel::Encrypt,
        SecurityLevel::Fingerprint => TlsLevel::Fingerprint,
        SecurityLevel::Verify => TlsLevel::Verify,
        SecurityLevel::Secure => TlsLevel::Secure,
    };
    let read = |path: &std::path::Path| fs::read(path).with_context(|| path.display().to_string());
    let trusted = section.tls_cafile.as_deref().map(read).transpose()?.unwrap_or_default();
    let mut client = TlsClient::new(&trusted).context("`delivery.starttls.tls-cafile`")?;
    if let Some(certificates) = &section.tls_cert_file {
        let key = section.tls_key_file.as_ref().unwrap_or(certificates);
        client = client
            .with_identity(&read(certificates)?, &read(key)?)
            .context("`delivery.starttls.tls-cert-file`")?;
    }
    let protocols =
        if level.is_mandatory() { &section.tls_mandatory_protocols } else { &section.tls_protocols };
    let versions = Versions::parse(&protocols.join(" "), level)?;
    let words = match level {
        TlsLevel::Verify => section.tls_verify_cert_match.as_slice(),
        TlsLevel::Secure => section.tls_secure_cert_match.as_slice(),
        TlsLevel::None | TlsLevel::May | TlsLevel::Encrypt | TlsLevel::Fingerprint => &[],
    };
    let fingerprints: Result<_, _> =
        section.tls_fingerprint_cert_match.iter().map(|text| text.parse()).collect();
    let policy = TlsPolicy {
        names: words.iter().map(|word| NameMatch::from(word.as_str())).collect(),
        fingerprints: fingerprints.context("`delivery.starttls.tls-fingerprint-cert-match`")?,
        tls12: versions.tls12,
        tls13: versions.tls13,
        verify_depth: usize::try_from(section.tls_scert_verifydepth).unwrap_or(usize::MAX),
        resume: section.tls_session_cache_timeout.duration() > std::time::Duration::ZERO,
        ..TlsPolicy::new(level)
    };
    Ok((client, policy))
}

/// Addresses by which mail would come back to this host.
fn own_addresses(section: &Miscellaneous) -> anyhow::Result<BTreeSet<IpAddr>> {
    let mut own = BTreeSet::new();
    for word in section.inet_interfaces.iter().chain(&section.proxy_interfaces) {
        match word.as_str() {
            "all" => own.extend(interface_addresses(|_| true)?),
            "loopback-only" => own.extend(interface_addresses(IpAddr::is_loopback)?),
            address => {
                let address = address.trim_start_matches('[').trim_end_matches(']');
                own.insert(address.parse::<IpAddr>().with_context(|| {
                    format!("`{word}` is no address; write `all`, `loopback-only` or addresses")
                })?);
            }
        }
    }
    Ok(own)
}

fn interface_addresses(wanted: impl Fn(&IpAddr) -> bool) -> anyhow::Result<Vec<IpAddr>> {
    let interfaces = getifaddrs().context("the addresses of this host")?;
    let addresses = interfaces.filter_map(|interface| {
        let address = interface.address?;
        let ipv4 = address.as_sockaddr_in().map(|address| IpAddr::V4(address.ip()));
        ipv4.or_else(|| address.as_sockaddr_in6().map(|address| IpAddr::V6(address.ip())))
    });
    Ok(addresses.filter(wanted).collect())
}
