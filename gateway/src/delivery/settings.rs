//! From the section `delivery` to policies, for SMTP or for LMTP.
//!
//! Owns what keys mean. Opens no files itself: whoever makes settings gives [`Files`].

use std::collections::BTreeSet;
use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use super::attempt::AttemptPolicy;
use super::checks::Checks;
use super::destination::{Destination, LMTP_PORT, SMTP_PORT};
use super::dkim::{KeyError, Signers};
use super::generic::Generic;
use super::lookup::LookupPolicy;
use super::password::RefusedPasswords;
use super::rewrite::Rewriting;
use super::route::{Preference, RoutePolicy};
use super::source::Pools;
use super::tls::{TlsClient, TlsError};
use crate::config::file::delivery::{
    AddressPreference, Compatibility, Delivery, Dkim, HostLookup, InetProtocol, Interface, Miscellaneous,
    NextHop, Resources, Schedule,
};
use crate::mime;
use crate::queue::schedule::{Concurrency, Limits, Retry};
use crate::smtp::client::{Discard, Protocol, Rules, Timeouts};
use crate::smtp::fault::Fault;
use crate::table::TableProblems;

mod detail;
mod files;
mod sasl;
mod server;
mod starttls;
#[cfg(test)]
mod tests;

use detail::Details;
use server::Servers;

pub use files::{Disk, Files, unusable_keys};
pub use server::Visit;

/// Why the section cannot be carried out: for the operator.
#[derive(Debug, thiserror::Error)]
pub enum SettingsError {
    /// A file cannot be read.
    #[error("{path} cannot be read by the account of the gateway: {error}")]
    Read {
        /// The file.
        path: String,
        /// Why.
        error: io::Error,
    },
    /// A table has wrong lines.
    #[error(transparent)]
    Table(#[from] TableProblems),
    /// A file has not what TLS needs of it.
    #[error("{path}: {error}")]
    File {
        /// The file.
        path: String,
        /// Why.
        error: TlsError,
    },
    /// A key cannot sign.
    #[error("`{path}` {error}")]
    Dkim {
        /// Its file.
        path: String,
        /// Why.
        error: KeyError,
    },
    /// A key of `starttls` cannot be carried out.
    #[error("`delivery.starttls.{key}`: {error}")]
    Key {
        /// The key.
        key: &'static str,
        /// Why.
        error: TlsError,
    },
}

/// This host.
#[derive(Clone, Copy, Debug)]
pub struct Host<'h> {
    /// The gateway's name.
    pub name: &'h str,
    /// The addresses of all its interfaces.
    pub addresses: &'h [IpAddr],
}

/// Which connections are kept for the next delivery.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reuse {
    /// Those to destinations with more mail (`connection-cache-on-demand`).
    pub on_demand: bool,
    /// Those to these destinations, without brackets and port (`connection-cache-destinations`).
    pub destinations: BTreeSet<String>,
    /// How long they may be idle (`connection-cache-time-limit`).
    pub idle: Duration,
    /// How old they may become (`connection-reuse-time-limit`).
    pub age: Duration,
    /// How many deliveries they may serve; 0: any number (`connection-reuse-count-limit`).
    pub count: u32,
}

/// What holds for one of the two protocols.
#[derive(Clone, Debug)]
pub struct Settings {
    /// How servers are spoken to.
    pub rules: Arc<Rules>,
    /// How they are found.
    pub lookup: LookupPolicy,
    /// In which order they are tried.
    pub route: RoutePolicy,
    /// How many of them.
    pub attempt: AttemptPolicy,
    /// What a destination can bear.
    pub limits: Arc<Limits>,
    /// When mail is tried again.
    pub retry: Retry,
    /// What is done to messages on the way.
    pub rewriting: Rewriting,
    /// Which connections are kept.
    pub reuse: Reuse,
    /// Certificates and TLS sessions.
    pub tls: Arc<TlsClient>,
    /// Reports on success say that LMTP servers have delivered (`assume-final`).
    pub assume_final: bool,
    /// Digits behind the point of delays (`delay-logging-resolution-limit`).
    pub digits: u32,
    servers: Arc<Servers>,
    detail: Details,
}

impl Settings {
    /// The settings for `protocol`. `deadline`: for each look-up.
    ///
    /// # Errors
    ///
    /// A file cannot be read, or does not hold what it should.
    pub fn new(
        delivery: &Delivery,
        protocol: Protocol,
        host: Host<'_>,
        deadline: Duration,
        files: &impl Files,
    ) -> Result<Self, SettingsError> {
        let lmtp = delivery.for_lmtp();
        let section = match protocol {
            Protocol::Smtp => delivery,
            Protocol::Lmtp => &lmtp,
        };
        let Delivery { compatibility, resources, miscellaneous, .. } = section;
        let rules = Arc::new(rules(section, protocol, host.name, files)?);
        Ok(Self {
            servers: Arc::new(servers(section, &rules, files)?),
            rules,
            lookup: lookup(miscellaneous, deadline),
            route: route(section, own_addresses(miscellaneous, host.addresses)),
            attempt: AttemptPolicy {
                session_limit: resources.mx_session_limit,
                fallback_relay: fallback(&miscellaneous.fallback_relay),
                best_mx_transport: miscellaneous.best_mx_transport.clone().map(String::from),
            },
            limits: Arc::new(limits(section)),
            retry: retry(&section.schedule),
            rewriting: Rewriting {
                checks: Arc::new(Checks {
                    header: files::maps(&compatibility.header_checks, files)?,
                    mime_header: files::maps(&compatibility.mime_header_checks, files)?,
                    nested_header: files::maps(&compatibility.nested_header_checks, files)?,
                    body: files::maps(&compatibility.body_checks, files)?,
                }),
                generic: Arc::new(Generic {
                    maps: files::maps(&compatibility.generic_maps, files)?,
                    own_domains: vec![host.name.to_owned()],
                    origin: host.name.to_owned(),
                    ..Generic::default()
                }),
                limits: mime::Limits {
                    nesting: section.mime.mime_nesting_limit,
                    boundary: section.mime.mime_boundary_length_limit,
                },
            },
            reuse: reuse(resources),
            tls: Arc::new(starttls::client(&section.starttls, files)?),
            assume_final: delivery.lmtp.assume_final,
            digits: u32::from(miscellaneous.delay_logging_resolution_limit),
            detail: Details::new(section),
        })
    }
}

/// The keys that sign mail.
///
/// # Errors
///
/// A file has no key that can.
pub fn signers(section: &[Dkim], files: &impl Files) -> Result<Signers, SettingsError> {
    Signers::new(section, |path| files::secret(path, files)).map_err(|(number, error)| {
        let path = section.get(number).map_or(String::new(), |entry| entry.key.display().to_string());
        SettingsError::Dkim { path, error }
    })
}

/// The addresses that this host has, as far as the operator counts them: mail for them does not leave it.
fn own_addresses(section: &Miscellaneous, addresses: &[IpAddr]) -> BTreeSet<IpAddr> {
    let mut own: BTreeSet<_> = section.proxy_interfaces.iter().copied().collect();
    for interface in &section.inet_interfaces {
        match interface {
            Interface::All => own.extend(addresses),
            Interface::LoopbackOnly => own.extend(addresses.iter().filter(|address| address.is_loopback())),
            Interface::Address(address) => _ = own.insert(*address),
        }
    }
    own
}

const fn own_port(protocol: Protocol) -> u16 {
    match protocol {
        Protocol::Smtp => SMTP_PORT,
        Protocol::Lmtp => LMTP_PORT,
    }
}

fn servers(section: &Delivery, rules: &Rules, files: &impl Files) -> Result<Servers, SettingsError> {
    let Delivery { compatibility, sasl, starttls, miscellaneous, .. } = section;
    let Compatibility { discard_ehlo_keywords: discard, pix_workarounds: pix, .. } = compatibility;
    let window = u32::from(compatibility.tcp_windowsize);
    Ok(Servers {
        discard: Discard::new(discard.iter().map(String::as_str)),
        discard_maps: files::maps(&compatibility.discard_ehlo_keyword_address_maps, files)?,
        pix: server::workarounds(|workaround| pix.contains(&workaround)),
        pix_maps: files::maps(&compatibility.pix_workaround_maps, files)?,
        policies: starttls::policies(starttls, files)?,
        passwords: if sasl.sasl_auth_enable {
            Some(sasl::passwords(section, rules.protocol, files)?)
        } else {
            None
        },
        refused: RefusedPasswords::new(if sasl.sasl_auth_cache {
            sasl.sasl_auth_cache_time.duration()
        } else {
            Duration::ZERO
        }),
        source: source(miscellaneous),
        pools: Pools::new(&section.sources, rules),
        window: (window > 0).then_some(window),
        port: miscellaneous.tcp_port,
    })
}

/// `bind-address`, or the only address of its family that this host has by `inet-interfaces`.
fn source(section: &Miscellaneous) -> (Option<std::net::Ipv4Addr>, Option<std::net::Ipv6Addr>) {
    let listed = section.inet_interfaces.iter().filter_map(|interface| match interface {
        Interface::Address(address) => Some(*address),
        Interface::All | Interface::LoopbackOnly => None,
    });
    let (mut ipv4, mut ipv6) = (Vec::new(), Vec::new());
    for address in listed {
        match address {
            IpAddr::V4(address) => ipv4.push(address),
            IpAddr::V6(address) => ipv6.push(address),
        }
    }
    let only4 = if let [only] = ipv4[..] { Some(only).filter(|only| !only.is_loopback()) } else { None };
    let only6 = if let [only] = ipv6[..] { Some(only).filter(|only| !only.is_loopback()) } else { None };
    (section.bind_address.or(only4), section.bind_address6.or(only6))
}

fn reuse(resources: &Resources) -> Reuse {
    Reuse {
        on_demand: resources.connection_cache_on_demand,
        destinations: resources
            .connection_cache_destinations
            .iter()
            .map(|name| name.to_ascii_lowercase())
            .collect(),
        idle: resources.connection_cache_time_limit.duration(),
        age: resources.connection_reuse_time_limit.duration(),
        count: resources.connection_reuse_count_limit,
    }
}

fn route(section: &Delivery, own: BTreeSet<IpAddr>) -> RoutePolicy {
    let Delivery { compatibility, resources, miscellaneous, .. } = section;
    RoutePolicy {
        ignore_mx_lookup_error: compatibility.ignore_mx_lookup_error,
        defer_if_no_mx_address_found: compatibility.defer_if_no_mx_address_found,
        randomize: miscellaneous.randomize_addresses,
        preference: match miscellaneous.address_preference {
            AddressPreference::Any => Preference::Any,
            AddressPreference::Ipv4 => Preference::Ipv4,
            AddressPreference::Ipv6 => Preference::Ipv6,
        },
        balance: miscellaneous.balance_inet_protocols,
        address_limit: resources.mx_address_limit,
        own,
    }
}

fn fallback(hops: &[NextHop]) -> Vec<Destination> {
    hops.iter().map(|hop| hop.destination().clone()).collect()
}

fn lookup(section: &Miscellaneous, deadline: Duration) -> LookupPolicy {
    let families = &section.inet_protocols;
    let has = |family| families.contains(&family) || families.contains(&InetProtocol::All);
    let by = |source| section.host_lookup.contains(&source);
    LookupPolicy {
        dns: !section.disable_dns_lookups && by(HostLookup::Dns),
        native: section.disable_dns_lookups || by(HostLookup::Native),
        mx: !section.disable_dns_lookups,
        ipv4: has(InetProtocol::Ipv4),
        ipv6: has(InetProtocol::Ipv6),
        deadline,
    }
}

fn limits(section: &Delivery) -> Limits {
    let Delivery { resources, schedule, .. } = section;
    let concurrency =
        resources.destination_concurrency_limit.unwrap_or(resources.default_destination_concurrency_limit);
    let recipients =
        resources.destination_recipient_limit.unwrap_or(resources.default_destination_recipient_limit);
    Limits {
        concurrency: Concurrency {
            initial: schedule.initial_destination_concurrency,
            limit: concurrency,
            positive: schedule.destination_concurrency_positive_feedback,
            negative: schedule.destination_concurrency_negative_feedback,
            failed_cohorts: schedule.destination_concurrency_failed_cohort_limit,
        },
        recipients,
        dead: schedule.minimal_backoff_time.duration(),
        rate_delay: resources.destination_rate_delay.duration(),
    }
}

fn retry(section: &Schedule) -> Retry {
    Retry {
        minimal_backoff: section.minimal_backoff_time.duration(),
        maximal_backoff: section.maximal_backoff_time.duration(),
        lifetime: section.maximal_queue_lifetime.duration(),
        bounce_lifetime: section.bounce_queue_lifetime.duration(),
        delay_warning: section.delay_warning_time.duration(),
    }
}

fn rules(
    section: &Delivery,
    protocol: Protocol,
    name: &str,
    files: &impl Files,
) -> Result<Rules, SettingsError> {
    let Delivery {
        compatibility, mime, content_inspection, sasl, starttls, resources, miscellaneous, ..
    } = section;
    let own = Rules::new(protocol, name);
    Ok(Rules {
        hello: miscellaneous.helo_name.clone().unwrap_or_else(|| name.to_owned()),
        always_send_ehlo: compatibility.always_send_ehlo,
        never_send_ehlo: compatibility.never_send_ehlo,
        skip_5xx_greeting: compatibility.skip_5xx_greeting,
        skip_quit_response: compatibility.skip_quit_response,
        quote_envelope: compatibility.quote_rfc821_envelope,
        send_xforward: content_inspection.send_xforward_command,
        line_length: compatibility.line_length_limit,
        disable_mime_conversion: mime.disable_mime_output_conversion,
        pix_delay: compatibility.pix_workaround_delay_time.duration(),
        pix_threshold: compatibility.pix_workaround_threshold_time.duration(),
        auth_soft_bounce: sasl.sasl_auth_soft_bounce,
        timeouts: Timeouts {
            connect: resources.connect_timeout.duration(),
            hello: resources.helo_timeout.duration(),
            starttls: starttls.starttls_timeout.duration(),
            xforward: resources.xforward_timeout.duration(),
            mail: resources.mail_timeout.duration(),
            rcpt: resources.rcpt_timeout.duration(),
            data_init: resources.data_init_timeout.duration(),
            data_transfer: resources.data_xfer_timeout.duration(),
            data_done: resources.data_done_timeout.duration(),
            rset: resources.rset_timeout.duration(),
            quit: resources.quit_timeout.duration(),
            ..own.timeouts
        },
        transcript: !Fault::wanted(&section.trouble_shooting.notify_classes).is_empty(),
        reply_filter: files::maps(&compatibility.reply_filter, files)?,
        status_filter: files::maps(&compatibility.delivery_status_filter, files)?,
        ..own
    })
}
