//! From the section `delivery` to policies, for SMTP or for LMTP.
//!
//! Tables are not among them: they are read from files first.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::Duration;

use super::attempt::AttemptPolicy;
use super::lookup::LookupPolicy;
use super::route::{Preference, RoutePolicy};
use crate::config::file::delivery::{
    AddressPreference, Delivery, HostLookup, InetProtocol, Miscellaneous, NextHop, Schedule,
};
use crate::mime;
use crate::queue::schedule::{Concurrency, Limits, Retry};
use crate::smtp::client::{Protocol, Rules, Timeouts};

/// What holds for one of the two protocols.
#[derive(Clone, Debug)]
pub struct Settings {
    /// How servers are spoken to.
    pub rules: Rules,
    /// How they are found.
    pub lookup: LookupPolicy,
    /// In which order they are tried.
    pub route: RoutePolicy,
    /// How many of them.
    pub attempt: AttemptPolicy,
    /// What a destination can bear.
    pub limits: Limits,
    /// When mail is tried again.
    pub retry: Retry,
    /// Ceilings of messages with parts.
    pub mime: mime::Limits,
}

impl Settings {
    /// The settings for `protocol` of a gateway of that name. `own`: addresses of this host, its translated ones
    /// among them; `deadline`: for each look-up.
    #[must_use]
    pub fn new(
        delivery: &Delivery,
        protocol: Protocol,
        name: &str,
        own: BTreeSet<IpAddr>,
        deadline: Duration,
    ) -> Self {
        let lmtp = delivery.for_lmtp();
        let section = match protocol {
            Protocol::Smtp => delivery,
            Protocol::Lmtp => &lmtp,
        };
        Self {
            rules: rules(section, protocol, name),
            lookup: lookup(&section.miscellaneous, deadline),
            route: RoutePolicy {
                ignore_mx_lookup_error: section.compatibility.ignore_mx_lookup_error,
                defer_if_no_mx_address_found: section.compatibility.defer_if_no_mx_address_found,
                randomize: section.miscellaneous.randomize_addresses,
                preference: match section.miscellaneous.address_preference {
                    AddressPreference::Any => Preference::Any,
                    AddressPreference::Ipv4 => Preference::Ipv4,
                    AddressPreference::Ipv6 => Preference::Ipv6,
                },
                balance: section.miscellaneous.balance_inet_protocols,
                address_limit: section.resources.mx_address_limit,
                own,
            },
            attempt: AttemptPolicy {
                session_limit: section.resources.mx_session_limit,
                fallback_relay: fallback(&section.miscellaneous.fallback_relay),
                best_mx_transport: section.miscellaneous.best_mx_transport.clone(),
            },
            limits: limits(section),
            retry: retry(&section.schedule),
            mime: mime::Limits {
                nesting: section.mime.mime_nesting_limit,
                boundary: section.mime.mime_boundary_length_limit,
            },
        }
    }
}

fn fallback(hops: &[NextHop]) -> Vec<super::destination::Destination> {
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

fn rules(section: &Delivery, protocol: Protocol, name: &str) -> Rules {
    let Delivery {
        compatibility, mime, content_inspection, sasl, starttls, resources, miscellaneous, ..
    } = section;
    let own = Rules::new(protocol, name);
    Rules {
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
        ..own
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config;

    fn settings(yaml: &str, protocol: Protocol) -> Settings {
        let delivery = config::parse(yaml, "test.yaml").unwrap().delivery;
        let deadline = Duration::from_secs(30);
        Settings::new(&delivery, protocol, "gw.test", BTreeSet::new(), deadline)
    }

    // Specification sections 15 and 17.3, with the defaults of today.
    #[test]
    fn without_a_key_the_policies_have_their_own_defaults() {
        let Settings { rules, lookup, route, attempt, limits, retry, mime } = settings("", Protocol::Smtp);
        assert_eq!(format!("{rules:?}"), format!("{:?}", Rules::new(Protocol::Smtp, "gw.test")));
        assert_eq!(lookup, LookupPolicy::default());
        assert_eq!(route, RoutePolicy::default());
        assert_eq!(attempt, AttemptPolicy::default());
        assert_eq!((limits.concurrency, limits.recipients), (Concurrency::default(), 50));
        assert_eq!((retry, limits.dead), (Retry::default(), retry.minimal_backoff));
        assert_eq!(mime, mime::Limits::default());
    }

    // Issue 5: `lmtp` inherits from `smtp` and overrides.
    #[test]
    fn lmtp_has_what_smtp_has_unless_it_says_otherwise() {
        let yaml = "delivery:\n  resources: { helo-timeout: 10s, mail-timeout: 20s, destination-recipient-limit: 7 }\n  \
            miscellaneous: { fallback-relay: ['[f.test]:587'], disable-dns-lookups: true, inet-protocols: [ipv6] }\n  \
            lmtp:\n    resources: { helo-timeout: 30s }\n    \
            miscellaneous: { disable-dns-lookups: false, helo-name: l.test }\n";
        let (smtp, lmtp) = (settings(yaml, Protocol::Smtp), settings(yaml, Protocol::Lmtp));
        let seconds = |settings: &Settings| {
            [settings.rules.timeouts.hello.as_secs(), settings.rules.timeouts.mail.as_secs()]
        };
        assert_eq!((seconds(&smtp), seconds(&lmtp)), ([10, 20], [30, 20]));
        assert_eq!((smtp.rules.hello.as_str(), lmtp.rules.hello.as_str()), ("gw.test", "l.test"));
        let sources = |lookup: LookupPolicy| (lookup.mx, lookup.dns, lookup.native, lookup.ipv4, lookup.ipv6);
        assert_eq!(sources(smtp.lookup), (false, false, true, false, true));
        assert_eq!(sources(lmtp.lookup), (true, true, false, false, true));
        assert_eq!((smtp.limits.recipients, lmtp.limits.recipients), (7, 7));
        assert_eq!(smtp.attempt.fallback_relay[0].to_string(), "[f.test]:587");
    }
}
