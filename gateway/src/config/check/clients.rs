//! What clients may have: limits that cannot hold.

use gateway_common::client::MOST_DESTINATIONS;
use ipnet::IpNet;

use super::Findings;
use crate::config::file::{ClientLimits, Clients, Config, Origin};
use crate::config::units::Span;

/// Clients below which the table forgets those that are there.
const FEWEST: u32 = 1_024;
/// Clients that take 6 GB.
const MOST: u32 = 16_777_216;

pub(super) fn check(config: &Config, findings: &mut Findings<'_>) {
    let clients = &config.clients;
    for (key, length, most) in [
        ("clients.ipv4-prefix", clients.ipv4_prefix, 32u8),
        ("clients.ipv6-prefix", clients.ipv6_prefix, 128),
    ] {
        if length == 0 || length > most {
            findings
                .error(&[key], format!("a prefix has 1 to {most} bits; write for example `{}`", most / 2));
        }
    }
    if clients.period < Span::seconds(1) || clients.period > Span::minutes(7 * 24 * 60) {
        findings.error(
            &["clients.period"],
            format!(
                "a period of {} is not between a second and a week; write for example `10m`",
                clients.period
            ),
        );
    }
    if !(FEWEST..=MOST).contains(&clients.table_size) {
        findings.error(
            &["clients.table-size"],
            format!("room for {} clients is not between {FEWEST} and {MOST}", clients.table_size),
        );
    }
    limits("clients.limits", &clients.limits, findings);
    networks(clients, findings);
    if config.origin != Origin::Assign && (!clients.limits.is_none() || !clients.networks.is_empty()) {
        findings.warn(
            &["clients.limits", "clients.networks"],
            "clients are counted, and limited, with `origin: assign` only",
        );
    }
}

fn limits(key: &str, limits: &ClientLimits, findings: &mut Findings<'_>) {
    if limits.destinations > MOST_DESTINATIONS {
        findings.error(
            &[&format!("{key}.destinations")],
            format!(
                "more than {MOST_DESTINATIONS} destinations are not told apart; write at most `{MOST_DESTINATIONS}`"
            ),
        );
    }
}

fn networks(clients: &Clients, findings: &mut Findings<'_>) {
    for (index, entry) in clients.networks.iter().enumerate() {
        limits(&format!("clients.networks.{index}.limits"), &entry.limits, findings);
        let list = format!("clients.networks.{index}.client");
        if entry.client.is_empty() {
            findings
                .error(&[&list], "an entry without networks holds for nobody; write the networks it is for");
        }
        for (position, network) in entry.client.iter().enumerate() {
            let (prefix, name) = match network.0 {
                IpNet::V4(_) => (clients.ipv4_prefix, "ipv4-prefix"),
                IpNet::V6(_) => (clients.ipv6_prefix, "ipv6-prefix"),
            };
            if network.0.prefix_len() > prefix {
                findings.error(
                    &[&format!("{list}.{position}"), &format!("clients.{name}")],
                    format!("`{network}` is a part of one client only: `{name}` is {prefix}; write a network of at most {prefix} bits"),
                );
            }
        }
    }
}
