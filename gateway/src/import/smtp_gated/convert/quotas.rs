//! What clients may use up: `ratelimit_*`.

use super::Conversion;

/// The longest period of the gateway's, in seconds.
const LONGEST: i64 = 31 * 24 * 60 * 60;
/// Servers of a client that smtp-gated remembered.
const SERVERS: &str = "64";

impl Conversion<'_> {
    /// smtp-gated cleared its counters at the end of a period; the gateway's slides. It counted bytes
    /// and AUTH by no means, and refused everybody with only `ratelimit_dst_expiration` set.
    pub(super) fn quotas(&mut self) {
        let limits = [
            ("ratelimit_connections", "connections"),
            ("ratelimit_sessions", "messages"),
            ("ratelimit_recipients", "recipients"),
            ("ratelimit_bytes", "bytes"),
            ("ratelimit_mailfrom_rejects", "mail-rejects"),
            ("ratelimit_rcptto_rejects", "rcpt-rejects"),
            ("ratelimit_auth_rejects", "auth-rejects"),
        ];
        let (period, servers) = (self.number("ratelimit_period"), self.number("ratelimit_dst_expiration"));
        if period <= 0 {
            for (name, _) in
                limits.iter().filter(|(name, _)| self.number(name) > 0).copied().collect::<Vec<_>>()
            {
                self.warn(
                    name,
                    &format!("`{name}` changes nothing without a `ratelimit_period`, as in smtp-gated"),
                );
            }
        }
        if period <= 0 && servers <= 0 {
            return;
        }
        let (span, was) =
            if period > 0 { (period, "ratelimit_period") } else { (servers, "ratelimit_dst_expiration") };
        if span > LONGEST {
            self.warn(was, "the longest period is 31d, which stands in its place");
        }
        self.set("quotas.period", &format!("{}s", span.min(LONGEST)), was);
        for (name, key) in limits {
            let limit = self.number(name);
            if period > 0 && limit > 0 {
                let unit = if key == "bytes" { "B" } else { "" };
                self.set(&format!("quotas.limits.{key}"), &format!("{limit}{unit}"), name);
            }
        }
        if servers > 0 {
            if period > 0 && servers != period {
                let message = "servers are counted in the same period as all else, `ratelimit_period`";
                self.warn("ratelimit_dst_expiration", message);
            }
            self.set("quotas.limits.destinations", SERVERS, "ratelimit_dst_expiration");
        }
        // The default, 0, never refreshed the limits of a client; here it always does.
        let generation = self.number("ratelimit_generation").max(0);
        self.set("quotas.generation", &generation.to_string(), "ratelimit_generation");
    }
}
