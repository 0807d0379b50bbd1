//! Lookups in the DNS and what is done with them: `dns`, `dnsbl`, `spf`.

use std::net::{Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;

use super::Findings;
use crate::config::file::{Config, Dns, Dnsbl, DnsblZone, SpfCheck};
use crate::config::units::Span;

/// Longest domain of a list in characters: with the 64 that an IPv6 address takes, a name has at
/// most 253 (RFC 1035 section 2.3.4, RFC 5782 section 2.4).
const LONGEST_ZONE: usize = 189;

pub(super) fn check(config: &Config, findings: &mut Findings<'_>) {
    resolver(&config.dns, findings);
    lists(&config.dnsbl, findings);
    spf(config, findings);
    if !config.dnsbl.zones.is_empty() && config.dnsbl.deadline > config.timeouts.checks {
        findings.warn(
            &["dnsbl.deadline", "timeouts.checks"],
            format!(
                "no list is waited for longer than `timeouts.checks`, which is {}",
                config.timeouts.checks
            ),
        );
    }
}

fn spf(config: &Config, findings: &mut Findings<'_>) {
    let spf = &config.spf;
    match (spf.check, spf.fixed_address) {
        (SpfCheck::Fixed, None) => findings.error(
            &["spf.check"],
            "`fixed` checks `fixed-address`, which is missing; write the address that servers see",
        ),
        (SpfCheck::None | SpfCheck::Incoming | SpfCheck::Outgoing, Some(_)) => {
            findings.warn(&["spf.fixed-address"], "it is checked with `check: fixed` only");
        }
        (SpfCheck::None | SpfCheck::Incoming | SpfCheck::Outgoing, None) | (SpfCheck::Fixed, Some(_)) => {}
    }
    if spf.check == SpfCheck::None {
        return;
    }
    if let (SpfCheck::Fixed, Some(address)) = (spf.check, spf.fixed_address)
        && spf.exempt.iter().any(|network| network.0.contains(&address))
    {
        findings.warn(&["spf.fixed-address", "spf.exempt"], "nothing is checked: the address is in `exempt`");
    }
    if spf.deadline == Span::default() {
        findings.error(&["spf.deadline"], "no result is there in no time; write for example `8s`");
    }
    if spf.deadline > config.timeouts.checks {
        findings.warn(
            &["spf.deadline", "timeouts.checks"],
            format!(
                "no result is waited for longer than `timeouts.checks`, which is {}",
                config.timeouts.checks
            ),
        );
    }
}

fn resolver(dns: &Dns, findings: &mut Findings<'_>) {
    for (index, server) in dns.servers.iter().enumerate() {
        if server.port() == 0 {
            findings.error(&[&format!("dns.servers.{index}")], "port 0 does not exist; resolvers have 53");
        }
    }
    if dns.timeout == Span::default() {
        findings.error(&["dns.timeout"], "no server answers in no time; write for example `2s`");
    }
    if dns.attempts == 0 {
        findings.error(&["dns.attempts"], "nothing could be looked up; write 1 or more");
    }
    if dns.concurrency == 0 {
        findings.error(&["dns.concurrency"], "nothing could be looked up; write 1 or more");
    }
}

fn lists(dnsbl: &Dnsbl, findings: &mut Findings<'_>) {
    for (index, zone) in dnsbl.zones.iter().enumerate() {
        list(index, zone, findings);
        let earlier = dnsbl.zones.iter().take(index);
        if earlier
            .into_iter()
            .any(|earlier| earlier.zone.eq_ignore_ascii_case(&zone.zone) && earlier.answers == zone.answers)
        {
            findings.warn(
                &[&format!("dnsbl.zones.{index}.zone")],
                format!("`{}` is asked twice for the same answers, and counts twice", zone.zone),
            );
        }
    }
    if dnsbl.zones.is_empty() {
        return;
    }
    if dnsbl.reject_at <= 0 {
        findings.error(&["dnsbl.reject-at"], "clients that are on no list would be refused; write 1 or more");
    }
    let most: i64 = dnsbl.zones.iter().map(|zone| i64::from(zone.weight.max(0))).sum();
    if most < i64::from(dnsbl.reject_at) {
        findings.warn(
            &["dnsbl.reject-at", "dnsbl.zones"],
            format!("nobody can be refused: all lists together weigh {most}"),
        );
    }
    if dnsbl.deadline == Span::default() {
        findings.error(&["dnsbl.deadline"], "no list answers in no time; write for example `4s`");
    }
}

fn list(index: usize, list: &DnsblZone, findings: &mut Findings<'_>) {
    let key = |name: &str| format!("dnsbl.zones.{index}.{name}");
    if !is_domain(&list.zone) {
        findings.error(
            &[&key("zone")],
            format!("`{}` is not the domain of a list; write for example `bl.example.org`", list.zone),
        );
    }
    if list.weight == 0 {
        findings.error(&[&key("weight")], "a list that weighs 0 changes nothing; leave it out");
    }
    if list.answers.is_empty() {
        findings.error(&[&key("answers")], "no answer would count; leave the key out for 127.0.0.0/8");
    }
    for (place, network) in list.answers.iter().enumerate() {
        if !matches!(network.0, IpNet::V4(network) if network.addr().octets()[0] == 127 && network.prefix_len() >= 8)
        {
            findings.error(
                &[&format!("dnsbl.zones.{index}.answers.{place}")],
                format!("`{network}` is outside 127.0.0.0/8, in which lists answer (RFC 5782 section 2.1)"),
            );
        }
    }
}

/// Whether `text` is a domain in letters, digits and hyphens that lists can have.
fn is_domain(text: &str) -> bool {
    let text = text.strip_suffix('.').unwrap_or(text);
    let is_label = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|octet| octet.is_ascii_alphanumeric() || matches!(octet, b'-' | b'_'))
    };
    let is_address = text.parse::<Ipv4Addr>().is_ok() || text.parse::<Ipv6Addr>().is_ok();
    text.len() <= LONGEST_ZONE && text.contains('.') && !is_address && text.split('.').all(is_label)
}
