//! What the postmaster is told of sessions: a transcript of one, or how many there were.

use std::time::SystemTime;

use super::field::{Fields, date};
use super::{Host, Report};
use crate::queue::Body;
use crate::smtp::fault::Fault;

/// The side that the gateway has in a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// It delivers.
    Client,
    /// It takes mail, in the relay lane.
    Server,
}

impl Side {
    const fn name(self) -> &'static str {
        match self {
            Self::Client => "client",
            Self::Server => "server",
        }
    }
}

/// A session in which something went wrong.
#[derive(Clone, Copy, Debug)]
pub struct Session<'s> {
    /// What the gateway was in it.
    pub side: Side,
    /// The other side.
    pub peer: &'s str,
    /// In which class.
    pub fault: Fault,
    /// What happened, in a sentence.
    pub reason: &'s str,
    /// The name that records have for the message or the session.
    pub id: &'s str,
    /// What was said, line by line.
    pub transcript: &'s [String],
}

/// The notice of one session.
#[must_use]
pub fn notice(host: Host<'_>, postmaster: &str, session: &Session<'_>, now: SystemTime) -> Report {
    let Session { side, peer, fault, reason, id, transcript } = *session;
    let mut out = Fields::new(false);
    header(&mut out, host, postmaster, &format!("SMTP {}: errors from {peer}", side.name()), now);
    out.paragraph(&format!(
        "This is a notice of the mail gateway {}, of the class `{}`.",
        host.name,
        fault.name()
    ));
    out.line("");
    out.paragraph(&match side {
        Side::Client => format!("The delivery of message {id} met this: {reason}"),
        Side::Server => format!("In session {id} the gateway refused something: {reason}"),
    });
    out.line("");
    if transcript.is_empty() {
        out.line("There was no session of which there is a transcript.");
    } else {
        out.line("Transcript of the session, without texts of messages and passwords:");
        out.line("");
        for line in transcript {
            out.paragraph(&format!(" {line}"));
        }
    }
    footer(&mut out);
    finished(out, postmaster)
}

/// The notice of `count` further sessions, with `peers` among others.
#[must_use]
pub fn sum(
    host: Host<'_>,
    postmaster: &str,
    fault: Fault,
    count: u64,
    peers: &[String],
    now: SystemTime,
) -> Report {
    let mut out = Fields::new(false);
    header(&mut out, host, postmaster, &format!("{count} further errors of the class {}", fault.name()), now);
    out.paragraph(&format!(
        "This is a notice of the mail gateway {}, of the class `{}`.",
        host.name,
        fault.name()
    ));
    out.line("");
    out.paragraph(&format!(
        "In the last hour there were {count} further incidents of this class, of which no notice was sent. They were \
         with these peers, among others:"
    ));
    out.line("");
    for peer in peers {
        out.paragraph(&format!(" {peer}"));
    }
    footer(&mut out);
    finished(out, postmaster)
}

fn header(out: &mut Fields, host: Host<'_>, postmaster: &str, subject: &str, now: SystemTime) {
    out.field("Date", &date(now));
    out.field("From", &format!("Mail delivery <MAILER-DAEMON@{}>", host.name));
    out.field("Subject", &format!("Gateway {subject}"));
    out.field("To", postmaster);
    // RFC 3834 section 5.
    out.field("Auto-Submitted", "auto-generated");
    let passed = now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    out.field("Message-ID", &format!("<{}.notice@{}>", passed.as_nanos(), host.name));
    out.line("");
}

fn footer(out: &mut Fields) {
    out.line("");
    out.line("`delivery.trouble-shooting` has `notify-classes`, which says what you are told of, and");
    out.line("`notices-per-hour`.");
}

fn finished(out: Fields, postmaster: &str) -> Report {
    Report { recipient: postmaster.to_owned(), content: out.finish(), body: Body::SevenBit, smtputf8: false }
}
