//! Servers that hang, break off or drip at each step of a delivery: each is given up in its time, with the record
//! that postmasters know, and holds nobody else.

use std::fmt::Write as _;
use std::time::Duration;

use anyhow::Context as _;
use gateway::queue::Target;
use gateway_tests::gateway::Gateway;
use gateway_tests::lab::{Family, Lab};
use gateway_tests::sink::Sink;
use gateway_tests::stuck::{Fault, Step, Stuck};
use gateway_tests::wait;

use super::{SOON, envelope, fill, left, record, server, settings, text};

/// A text that fits into no buffers.
const LARGE: usize = 8_000_000;

/// Seconds that a step may take, under its key; no two are the same.
const LIMITS: [(&str, u64); 7] = [
    ("connect-timeout", 6),
    ("helo-timeout", 7),
    ("mail-timeout", 9),
    ("rcpt-timeout", 10),
    ("data-init-timeout", 11),
    ("data-xfer-timeout", 12),
    ("data-done-timeout", 13),
];
const STARTTLS_LIMIT: u64 = 8;

/// A step, its limit in seconds, the status, and what is said of a server that is too slow there and of one that
/// is gone.
const STEPS: [(Step, u64, &str, &str, &str); 11] = [
    (
        Step::Connect,
        6,
        "4.4.1",
        "connect to PEER: Connection timed out",
        "connect to PEER: Connection refused",
    ),
    (Step::Greeting, 7, "4.4.2", "receiving the initial server greeting", ""),
    (Step::Hello, 7, "4.4.2", "performing the EHLO handshake", ""),
    (Step::StartTls, STARTTLS_LIMIT, "4.4.2", "receiving the STARTTLS response", ""),
    (Step::Handshake, STARTTLS_LIMIT, "4.7.5", "performing the TLS handshake", "Cannot start TLS"),
    (Step::Mail, 9, "4.4.2", "sending MAIL FROM", ""),
    (Step::Rcpt, 10, "4.4.2", "sending RCPT TO", ""),
    (Step::Data, 11, "4.4.2", "sending DATA command", ""),
    (Step::Text, 12, "4.4.2", "sending message body", ""),
    (Step::EndOfData, 13, "4.4.2", "sending end of data -- message may be sent more than once", ""),
    (Step::Quit, 0, "2.0.0", "250 2.0.0 taken", "250 2.0.0 taken"),
];

/// One server of the test.
struct Cell {
    port: u16,
    step: Step,
    fault: Fault,
    limit: u64,
    status: &'static str,
    slow: &'static str,
    gone: &'static str,
}

impl Cell {
    fn all() -> Vec<Self> {
        let faults = [Fault::Hang, Fault::Reset, Fault::Drip];
        let cells = STEPS.into_iter().flat_map(|row| faults.map(|fault| (row, fault)));
        // A connection comes about or not; there is nothing to drip.
        let cells = cells.filter(|((step, ..), fault)| (*step, *fault) != (Step::Connect, Fault::Drip));
        (2_610..)
            .zip(cells)
            .map(|(port, ((step, limit, status, slow, gone), fault))| Self {
                port,
                step,
                fault,
                limit,
                status,
                slow,
                gone,
            })
            .collect()
    }

    fn recipient(&self) -> String {
        format!("{:?}-{:?}@b.example", self.step, self.fault).to_lowercase()
    }

    /// What the record may give as reason.
    fn reasons(&self) -> Vec<String> {
        let host = format!("{0}[{0}]", Family::V4.server());
        let whole = |reason: &str| reason.replace("PEER", &format!("{host}:{}", self.port));
        let phrase = |how: &str| format!("{} while {}", how.replace("HOST", &host), self.slow);
        match (self.step, self.fault) {
            (Step::Connect | Step::Quit, Fault::Hang | Fault::Drip) => vec![whole(self.slow)],
            (Step::Connect | Step::Quit, Fault::Reset) => vec![whole(self.gone)],
            (_, Fault::Hang | Fault::Drip) => vec![phrase("conversation with HOST timed out")],
            (Step::Handshake, Fault::Reset) => vec![format!("{} with host {host}", self.gone)],
            // The reset may come before the client has looked at its connection for the first time.
            (Step::Greeting, Fault::Reset) => {
                vec![phrase("lost connection with HOST"), whole("connect to PEER: Connection reset by peer")]
            }
            (_, Fault::Reset) => vec![phrase("lost connection with HOST")],
        }
    }

    fn check(&self, line: &str) {
        let is_sent = self.step == Step::Quit;
        let reasons = self.reasons();
        let reason = reasons.iter().find(|reason| line.contains(reason.as_str()));
        assert!(reason.is_some(), "{:?} {:?}: {line}\nexpected {reasons:?}", self.step, self.fault);
        let connected = !reason.is_some_and(|reason| reason.starts_with("connect to"));
        let relay = if connected {
            format!("relay={0}[{0}]:{1} ", Family::V4.server(), self.port)
        } else {
            "relay=none ".to_owned()
        };
        assert!(line.contains(&relay), "{line}");
        if connected || self.fault != Fault::Reset {
            assert!(line.contains(&format!("dsn={} ", self.status)), "{line}");
        }
        assert!(line.contains(if is_sent { "status=sent" } else { "status=deferred" }), "{line}");
        // It was given up when its limit was over, and not before.
        if self.fault != Fault::Reset && !is_sent {
            let took = self.took(line).unwrap_or_default();
            assert!(took >= self.limit && took <= self.limit + 60, "{took} s: {line}");
        }
    }

    /// Whole seconds of the attempt: what `delays` says of the connection and the transaction.
    fn took(&self, line: &str) -> Option<u64> {
        let delays = line.split("delays=").nth(1)?.split(' ').next()?;
        let parts = delays.trim_matches('"').split('/').skip(2);
        let seconds = parts.map(|part| part.parse::<f64>().unwrap_or_default()).sum::<f64>();
        // Delays are rounded to two digits.
        Duration::try_from_secs_f64(seconds + 0.5).ok().map(|took| took.as_secs())
    }
}

#[test]
fn a_server_that_hangs_breaks_off_or_drips_is_given_up_in_time_and_holds_nobody() -> anyhow::Result<()> {
    let lab = Lab::new()?;
    let sink = Sink::at(lab.server(), server(2_600), lab.directory())?;
    let cells = Cell::all();
    let (mut servers, mut mail, mut policies) = (Vec::new(), Vec::new(), String::new());
    for cell in &cells {
        servers.push(Stuck::start(lab.server(), server(cell.port), cell.step, cell.fault)?);
        let mut content = text(&cell.recipient());
        if cell.step == Step::Text {
            content.push_str(&"never taken\r\n".repeat(LARGE / 13));
        }
        mail.push((envelope(Target::Original(server(cell.port)), &[&cell.recipient()]), content));
        if matches!(cell.step, Step::StartTls | Step::Handshake) {
            write!(policies, "[{}]:{}=encrypt, ", Family::V4.server(), cell.port)?;
        }
    }
    for number in 0..50 {
        let passed = envelope(Target::Original(server(2_600)), &["passed@c.example"]);
        mail.push((passed, text(&format!("passed{number}@a.example"))));
    }
    fill(&lab, mail)?;
    let limits: String = LIMITS.iter().map(|(key, limit)| format!("{key}: {limit}s, ")).collect();
    let delivery = format!(
        "  resources: {{{limits}quit-timeout: 5s}}\n  starttls:\n    starttls-timeout: {STARTTLS_LIMIT}s\n\
         \x20   tls-policy-maps: ['inline:{{{policies}}}']\n"
    );
    let settings = settings(&lab, &delivery, "");
    let settings = gateway_tests::gateway::Settings {
        // Each of them is tried once.
        more: settings.more.replace("time: 1s", "time: 1h"),
        ..settings
    };
    let mut gateway = Gateway::start(&lab, &settings)?;
    wait::until(SOON, "all mail for the other destination", || {
        Ok((sink.messages()?.len() == 50).then_some(()))
    })
    .with_context(|| gateway.daemon().log_tail())?;
    for cell in &cells {
        let status = if cell.step == Step::Quit { "sent" } else { "deferred" };
        cell.check(&record(&gateway, &cell.recipient(), status)?);
    }
    gateway.stop()?;
    let stuck = cells.iter().filter(|cell| cell.step != Step::Quit).count();
    assert_eq!(left(&lab)?.len(), stuck, "what was given up is still there, and what was taken is not");
    drop(servers);
    Ok(())
}
