//! How the gateway is, in the words of smtp-gated's state file.
//!
//! Owns keys, labels and columns, on which old scripts stand: they do not change. What smtp-gated
//! counts and this gateway does not have is 0.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::time::{Duration, SystemTime};

use jiff::Timestamp;
use jiff::tz::TimeZone;

use super::request::Status;
use crate::config::file::StateFormat;
use crate::session::table::{AuthState, SessionView, Stage};
use crate::telemetry::logfmt::escape;

/// Sessions that are listed at most: the text goes from one process to the other in one piece.
const LISTED: usize = 2_000;

/// The state at `now`; with `sessions`, these are listed.
#[must_use]
pub fn text(
    format: StateFormat,
    status: &Status,
    sessions: Option<&[SessionView]>,
    now: SystemTime,
) -> String {
    let state = State { status, now, zone: TimeZone::system() };
    match format {
        StateFormat::Human => state.human(sessions),
        StateFormat::Flat => state.flat(sessions),
        // A status has nothing in it that JSON cannot say.
        StateFormat::Json => serde_json::to_string_pretty(status).unwrap_or_default() + "\n",
    }
}

struct State<'s> {
    status: &'s Status,
    now: SystemTime,
    zone: TimeZone,
}

/// What smtp-gated counts.
struct Counts {
    /// Viruses, spam, missing AUTH, SPF, patterns, early talk.
    found: [u64; 6],
    /// All sessions, those that passed unread, those without a message.
    requests: [u64; 3],
    /// By host, identity, lock, block list, rate in the kernel, quota, other.
    rejects: [u64; 7],
    /// AUTH accepted and refused.
    auth: [u64; 2],
}

impl Counts {
    fn of(status: &Status) -> Self {
        let sum = |name: &str, labels: &[(&str, &str)]| status.telemetry.sum(name, labels);
        let verdict = |verdict| sum("gateway_messages_total", &[("verdict", verdict)]);
        let offence = |cause| sum("gateway_offences_total", &[("cause", cause)]);
        let limit = |limit| sum("gateway_limits_hit_total", &[("limit", limit)]);
        let auth = |outcome| sum("gateway_auth_total", &[("outcome", outcome)]);
        let patterns = ["regex-helo", "regex-mail-from", "regex-rcpt-to"].map(offence).iter().sum();
        Self {
            found: [
                verdict("infected"),
                verdict("spam"),
                auth("required"),
                offence("spf"),
                patterns,
                offence("early-talk"),
            ],
            requests: [
                sum("gateway_sessions_accepted_total", &[]),
                sum("gateway_splices_total", &[]),
                sum("gateway_sessions_without_message_total", &[]),
            ],
            rejects: [
                limit("sessions-per-client"),
                limit("sessions-per-identity"),
                sum("gateway_sessions_total", &[("end", "locked")]),
                offence("dnsbl"),
                limit("client"),
                limit("quotas"),
                ["sessions", "sessions-per-prefix", "max-load"]
                    .map(limit)
                    .into_iter()
                    .fold(0, u64::saturating_add),
            ],
            auth: [auth("succeeded"), auth("failed")],
        }
    }
}

impl State<'_> {
    fn human(&self, sessions: Option<&[SessionView]>) -> String {
        let status = self.status;
        let counts = Counts::of(status);
        let start = status.telemetry.since;
        let mut text = format!(
            "Version:      {}\nCompile date: -\nDump time:    {}\nStart time:   {}\nRestart time: {}\n\
             Last crash:   -\nLast BUG:     -\nUptime:   {}\n",
            status.version.gateway,
            self.date(unix(self.now)),
            self.date(start),
            self.date(status.reloaded.unwrap_or(start)),
            uptime(status.telemetry.uptime),
        );
        for (label, values, of) in [
            ("Resource:", slashed(&[status.max_rss, 0, 0, 0]), "maxrss/ixrss/idrss/isrss"),
            ("Children:", self.children(), "current/max/crashed/bugs"),
            ("Found:   ", slashed(&counts.found), "viruses/spam/no-auth/spf/regex/earlytalk"),
            ("Requests:", slashed(&counts.requests), "total/direct/empty"),
            ("Rejects: ", slashed(&counts.rejects), "host/ident/lock/dnsbl/rate/ratelimit/other"),
            ("Errors:  ", "0".to_owned(), "pipeline"),
            ("Auth:    ", slashed(&counts.auth), "accepted/rejected"),
        ] {
            // Writing to a `String` cannot fail, here and below.
            writeln!(text, "{label} {values} ({of})").unwrap_or_default();
        }
        writeln!(
            text,
            "\n{:>6} {:<5} {:<8} {:<5} {:<5} {:<15} {:<15} {:>4} {:>8} {:>8} {:>7} ident",
            "slot", "pid", "state", "flags", "time", "source", "target", "trns", "cli_rx", "srv_rx", "kbps",
        )
        .unwrap_or_default();
        for (slot, session) in sessions.unwrap_or_default().iter().take(LISTED).enumerate() {
            text.push_str(&row(slot, status.pid, session));
        }
        text
    }

    fn flat(&self, sessions: Option<&[SessionView]>) -> String {
        let status = self.status;
        let Counts { found, requests, rejects, auth } = Counts::of(status);
        let (dump, start) = (unix(self.now), status.telemetry.since);
        let restart = status.reloaded.unwrap_or(start);
        let mut text = String::new();
        let mut line = |key: &str, value: &str| {
            writeln!(text, "{key}: {value}").unwrap_or_default();
        };
        line("version", &status.version.gateway);
        for (name, at) in [("dump", dump), ("start", start), ("restart", restart)] {
            line(&format!("time.{name}.unix"), &at.to_string());
            line(&format!("time.{name}.string"), &self.date(at));
        }
        line("uptime.ticks", &status.telemetry.uptime.to_string());
        line("uptime.string", &uptime(status.telemetry.uptime));
        line("Resource", &format!("{}/0/0/0 (maxrss/ixrss/idrss/isrss)", status.max_rss));
        line("children.current", &status.open.to_string());
        line("children.max", &status.most.to_string());
        line("children.crashes", &status.datapath.proxy_restarts.to_string());
        for zero in ["crash_last", "bugs", "bug_last"] {
            line(&format!("children.{zero}"), "0");
        }
        for (section, names, values) in [
            ("found", &["viruses", "spams", "noauths", "spf", "regex", "earlytalk"][..], &found[..]),
            ("requests", &["total", "direct", "empty"], &requests),
            ("rejects", &["host", "ident", "lock", "dnsbl", "rate", "ratelimit", "other"], &rejects),
            ("errors", &["pipeline"], &[0]),
            ("auth", &["accepts", "rejects"], &auth),
        ] {
            for (name, value) in names.iter().zip(values) {
                line(&format!("{section}.{name}"), &value.to_string());
            }
        }
        for (slot, session) in sessions.unwrap_or_default().iter().take(LISTED).enumerate() {
            let start = dump.saturating_sub(session.age.as_secs());
            for (key, value) in [
                ("pid", status.pid.to_string()),
                ("start.unix", start.to_string()),
                ("start.string", self.date(start)),
                ("state", stage(session.stage).to_owned()),
                ("src.ip", host(&session.client)),
                ("flags", flags(session.auth).to_owned()),
            ] {
                line(&format!("slot.{slot}.{key}"), &value);
            }
        }
        text
    }

    fn children(&self) -> String {
        let count = |number: usize| u64::try_from(number).unwrap_or(u64::MAX);
        let status = self.status;
        slashed(&[count(status.open), count(status.most), status.datapath.proxy_restarts, 0])
    }

    /// As strftime(3) writes `%c` in the C locale.
    fn date(&self, seconds: u64) -> String {
        let at = i64::try_from(seconds).ok().and_then(|seconds| Timestamp::from_second(seconds).ok());
        let at = at.unwrap_or(Timestamp::UNIX_EPOCH).to_zoned(self.zone.clone());
        at.strftime("%a %b %e %H:%M:%S %Y").to_string()
    }
}

fn unix(time: SystemTime) -> u64 {
    time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or(Duration::ZERO).as_secs()
}

fn uptime(seconds: u64) -> String {
    let (minutes, hours) = (seconds / 60, seconds / 3_600);
    format!("{}d {}h {}m {}s", hours / 24, hours % 24, minutes % 60, seconds % 60)
}

fn slashed(values: &[u64]) -> String {
    values.iter().map(u64::to_string).collect::<Vec<_>>().join("/")
}

/// A session as a line of the table.
fn row(slot: usize, pid: u32, session: &SessionView) -> String {
    let seconds = session.age.as_secs();
    // Tenths of a kilobit, so that no floating point is needed.
    let tenths = u128::from(session.from_client) * 80 / 1_024 / u128::from(seconds.max(1));
    format!(
        "{slot:>6} {pid:<5} {:<8} {:<5} {:02}:{:02} {:<15} {:<15} {:>4} {:>8} {:>8} {:>7} {}\n",
        stage(session.stage),
        flags(session.auth),
        seconds / 60,
        seconds % 60,
        host(&session.client),
        host(&session.destination),
        session.messages,
        session.from_client,
        session.from_server,
        format!("{}.{}", tenths / 10, tenths % 10),
        escape(session.identity.as_deref().unwrap_or_default()),
    )
}

/// An address without its port.
fn host(address: &str) -> String {
    address.parse::<SocketAddr>().map_or_else(|_| escape(address), |socket| socket.ip().to_string())
}

/// smtp-gated's words for where a session is.
const fn stage(stage: Stage) -> &'static str {
    match stage {
        Stage::Connect => "connect",
        Stage::Greeting => "pre",
        Stage::Command | Stage::Envelope => "helo",
        Stage::Data => "data",
        Stage::Scan => "scan",
        Stage::EndOfData => "post",
        Stage::Splice => "direct",
        Stage::Takeover | Stage::Closing => "quit",
    }
}

const fn flags(auth: AuthState) -> &'static str {
    match auth {
        AuthState::NotOffered => ".",
        AuthState::Offered => "a",
        AuthState::Accepted => "A",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::request::{StateHealth, Version};
    use crate::ipc::DatapathStatus;
    use crate::telemetry::{Sample, Snapshot};

    fn status() -> Status {
        let sample = |name: &str, labels: &[(&str, &str)], value| Sample {
            name: name.to_owned(),
            labels: labels.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect(),
            value,
        };
        let limit = |limit, value| sample("gateway_limits_hit_total", &[("limit", limit)], value);
        Status {
            version: Version { gateway: "0.1.0".to_owned(), control: 1 },
            name: "gw.example".to_owned(),
            pid: 4711,
            open: 1,
            most: 3,
            max_rss: 3_276,
            reloaded: None,
            stages: vec![],
            telemetry: Snapshot {
                since: 1_795_212_000,
                uptime: 93_784,
                samples: vec![
                    sample("gateway_messages_total", &[("verdict", "infected")], 1),
                    sample("gateway_messages_total", &[("verdict", "spam")], 2),
                    sample("gateway_auth_total", &[("outcome", "required")], 3),
                    sample("gateway_offences_total", &[("cause", "spf")], 4),
                    sample("gateway_offences_total", &[("cause", "regex-helo")], 2),
                    sample("gateway_offences_total", &[("cause", "regex-rcpt-to")], 3),
                    sample("gateway_offences_total", &[("cause", "early-talk")], 6),
                    sample("gateway_sessions_accepted_total", &[], 70),
                    sample("gateway_splices_total", &[], 8),
                    sample("gateway_sessions_without_message_total", &[], 9),
                    limit("sessions-per-client", 10),
                    limit("sessions-per-identity", 11),
                    sample("gateway_sessions_total", &[("lane", "reject"), ("end", "locked")], 12),
                    sample("gateway_offences_total", &[("cause", "dnsbl")], 13),
                    limit("client", 14),
                    limit("quotas", 15),
                    limit("sessions", 16),
                    sample("gateway_auth_total", &[("outcome", "succeeded")], 17),
                    sample("gateway_auth_total", &[("outcome", "failed")], 18),
                ],
                history: vec![],
            },
            state: StateHealth::default(),
            datapath: DatapathStatus { proxy_restarts: 2, ..DatapathStatus::default() },
            scanners: vec![],
        }
    }

    fn session() -> SessionView {
        SessionView {
            id: "0000000000001".parse().unwrap(),
            client: "192.0.2.1:1025".to_owned(),
            destination: "[2001:db8::19]:25".to_owned(),
            stage: Stage::Data,
            helo: "client".to_owned(),
            from_client: 93_000,
            from_server: 303,
            messages: 1,
            age: Duration::from_secs(64),
            facts: None,
            tls: None,
            identity: Some("u\u{1b}1".to_owned()),
            auth: AuthState::Accepted,
        }
    }

    fn state(status: &Status) -> State<'_> {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_795_305_784);
        State { status, now, zone: TimeZone::UTC }
    }

    #[test]
    fn people_and_scripts_find_what_smtp_gated_wrote() {
        insta::assert_snapshot!(state(&status()).human(Some(&[session()])));
    }

    #[test]
    fn scripts_find_the_keys_of_smtp_gated() {
        insta::assert_snapshot!(state(&status()).flat(Some(&[session()])));
        assert!(!state(&status()).flat(None).contains("slot."));
    }
}
