//! Addresses that connections to servers come from: `delivery.sources`.

use std::net::IpAddr;

use super::Findings;
use super::delivery::is_hello;
use crate::config::file::Config;
use crate::config::file::delivery::{DomainPattern, SourcePool};

pub(super) fn check(config: &Config, findings: &mut Findings<'_>) {
    let pools = &config.delivery.sources;
    for (number, pool) in pools.iter().enumerate() {
        addresses(pool, number, findings);
        if let Some(earlier) = pools.iter().take(number).position(takes_all) {
            let message = "a pool before it takes all mail; put it before that one";
            findings.warn(
                &[&format!("delivery.sources.{number}"), &format!("delivery.sources.{earlier}.senders")],
                message,
            );
        }
    }
    let other = &config.delivery.miscellaneous;
    let binds = other.bind_address.is_some() || other.bind_address6.is_some();
    if binds && pools.iter().any(takes_all) {
        let keys = ["delivery.miscellaneous.bind-address", "delivery.miscellaneous.bind-address6"];
        findings.warn(&keys, "never counts: a pool of `delivery.sources` takes all mail");
    }
}

fn takes_all(pool: &SourcePool) -> bool {
    let all = |patterns: &[DomainPattern]| patterns.is_empty() || patterns.contains(&DomainPattern::Any);
    all(&pool.senders) && all(&pool.destinations)
}

fn addresses(pool: &SourcePool, number: usize, findings: &mut Findings<'_>) {
    if pool.addresses.is_empty() {
        let message = "a pool without an address; write for example `[{address: 192.0.2.1, helo-name: mx.example.net}]`";
        findings.error(&[&format!("delivery.sources.{number}.addresses")], message);
    }
    for (place, source) in pool.addresses.iter().enumerate() {
        let key = |name: &str| format!("delivery.sources.{number}.addresses.{place}.{name}");
        if is_unusable(source.address) {
            let message = format!("no connection to another machine comes from {}", source.address);
            findings.error(&[&key("address")], message);
        } else if pool.addresses.iter().take(place).any(|other| other.address == source.address) {
            findings.error(&[&key("address")], format!("{} is in this pool already", source.address));
        }
        if !is_hello(&source.helo_name) {
            let message = format!(
                "`{}` is no name for EHLO; write a host name such as `mx.example.net`, or [192.0.2.1]",
                source.helo_name
            );
            findings.error(&[&key("helo-name")], message);
        }
    }
}

fn is_unusable(address: IpAddr) -> bool {
    let is_broadcast = matches!(address, IpAddr::V4(address) if address.is_broadcast());
    address.is_unspecified() || address.is_multicast() || is_broadcast
}
