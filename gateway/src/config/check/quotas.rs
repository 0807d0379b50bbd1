//! Quotas: `quotas`, `state`, `redis`, `state-directory`.

use super::Findings;
use crate::config::file::{Config, MOST_DESTINATIONS, QuotaLimits, ScannerAddress, State};
use crate::config::units::Span;

/// Clients that are kept in mind at most: half a gigabyte of them.
const LARGEST_TABLE: usize = 1_000_000;
/// Longest period: counters are kept for two of them.
const LONGEST_PERIOD: Span = Span::minutes(31 * 24 * 60);

pub(super) fn check(config: &Config, findings: &mut Findings<'_>) {
    let quotas = &config.quotas;
    if !config.state_directory.is_absolute() {
        let shown = config.state_directory.display();
        findings
            .error(&["state-directory"], format!("`{shown}` does not begin with `/`; write a whole path"));
    }
    redis(config, findings);
    if quotas.period < Span::seconds(1) || quotas.period > LONGEST_PERIOD {
        findings.error(
            &["quotas.period"],
            format!("{} is no period; write `1s` to `31d`, for example `1h`", quotas.period),
        );
    } else if quotas.period.duration().subsec_nanos() != 0 {
        findings.error(&["quotas.period"], "a period has whole seconds; write for example `10s`");
    }
    for (key, prefix, longest) in
        [("ipv4-prefix", quotas.ipv4_prefix, 32), ("ipv6-prefix", quotas.ipv6_prefix, 128)]
    {
        if prefix == 0 || prefix > longest {
            findings.error(
                &[&format!("quotas.{key}")],
                format!("{prefix} is no length of a prefix; write 1 to {longest}"),
            );
        }
    }
    if quotas.table_size == 0 || quotas.table_size > LARGEST_TABLE {
        findings.error(
            &["quotas.table-size"],
            format!("{} is no size of a table; write 1 to {LARGEST_TABLE}", quotas.table_size),
        );
    }
    limits("quotas.limits", &quotas.limits, findings);
    for (index, networks) in quotas.networks.iter().enumerate() {
        if networks.client.is_empty() {
            findings.error(
                &[&format!("quotas.networks.{index}.client")],
                "no network: the entry counts for nobody; write for example `[192.0.2.0/24]`",
            );
        }
        limits(&format!("quotas.networks.{index}.limits"), &networks.limits, findings);
        shadowed(config, index, findings);
    }
    if !quotas.is_on() && !quotas.networks.is_empty() {
        findings.warn(&["quotas.networks"], "nothing is limited, so that there is nobody to be exempted");
    }
}

fn redis(config: &Config, findings: &mut Findings<'_>) {
    let redis = &config.redis;
    if let ScannerAddress::Tcp(address) = &redis.address.0
        && address.port() == 0
    {
        findings.error(&["redis.address"], "port 0 does not exist; Redis has 6379");
    }
    // Anything else could be read as a pattern by Redis.
    let is_plain = |octet: u8| octet.is_ascii_alphanumeric() || b":._-".contains(&octet);
    if redis.prefix.is_empty() || redis.prefix.len() > 64 || !redis.prefix.bytes().all(is_plain) {
        findings.error(
            &["redis.prefix"],
            format!("`{}` is no prefix; write up to 64 of a-z, 0-9, `:`, `.`, `_`, `-`", redis.prefix),
        );
    }
    if !redis.user.is_empty() && redis.password.is_none() {
        findings.error(&["redis.user"], "an account needs its password; write `redis.password`");
    }
    if config.state == State::Embedded && findings.is_written("redis") {
        findings.warn(&["redis"], "nothing is kept there; write `state: redis`");
    }
}

fn limits(key: &str, limits: &QuotaLimits, findings: &mut Findings<'_>) {
    if limits.destinations > MOST_DESTINATIONS {
        findings.error(
            &[&format!("{key}.destinations")],
            format!(
                "{} servers of each client take too much memory; write at most {MOST_DESTINATIONS}",
                limits.destinations
            ),
        );
    }
}

/// Says which networks an earlier entry has in whole.
fn shadowed(config: &Config, index: usize, findings: &mut Findings<'_>) {
    let entries = &config.quotas.networks;
    let Some(entry) = entries.get(index) else { return };
    for (place, network) in entry.client.iter().enumerate() {
        let has = entries
            .iter()
            .take(index)
            .any(|earlier| earlier.client.iter().any(|net| net.0.contains(&network.0)));
        if has {
            findings.warn(
                &[&format!("quotas.networks.{index}.client.{place}")],
                format!("{network} never counts here: it lies in a network of an earlier entry"),
            );
        }
    }
}
