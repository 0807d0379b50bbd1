//! Reports to senders: what became of their mail (RFC 3461 to 3464, RFC 6522, RFC 6533).
//!
//! Owns who is told, and the text. Pure: what there is to tell goes in, a message comes out, whose octets of the
//! original are those that came, 8-bit ones too.

mod field;
mod notice;
#[cfg(test)]
mod tests;
mod text;

use std::time::{Duration, SystemTime};

use crate::queue::{Body, Envelope, NotifyOn, Recipient, Ret};
use crate::smtp::client::Status;
use field::{Fields, date};
pub use notice::{Session, Side, notice, sum};

/// What a report tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The mail is returned.
    Failure,
    /// The mail takes longer; it is tried until then.
    Delay {
        /// When it will be given up.
        until: SystemTime,
    },
    /// The mail was delivered, or passed on to a host that reports nothing.
    Success,
}

impl Kind {
    /// One word for the log and metrics.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Failure => "failure",
            Self::Delay { .. } => "delay",
            Self::Success => "success",
        }
    }
}

/// What was done for a recipient (RFC 3464 section 2.3.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// It is returned.
    Failed,
    /// It is tried again.
    Delayed,
    /// It is where it should be.
    Delivered,
    /// It was given to a host that does not promise reports.
    Relayed,
}

impl Action {
    const fn name(self) -> &'static str {
        match self {
            Self::Failed => "failed",
            Self::Delayed => "delayed",
            Self::Delivered => "delivered",
            Self::Relayed => "relayed",
        }
    }
}

/// What became of one recipient.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Told<'m> {
    /// The recipient, as it came.
    pub recipient: &'m Recipient,
    /// What was done.
    pub action: Action,
    /// The enhanced status code.
    pub status: Status,
    /// The name of the server that said so, if one did.
    pub remote: Option<&'m str>,
    /// What it said, if it did.
    pub diagnostic: Option<&'m str>,
    /// What happened, in a sentence.
    pub reason: &'m str,
}

/// A message of which there is something to tell.
#[derive(Clone, Copy, Debug)]
pub struct Original<'m> {
    /// The name that it has in the queue.
    pub id: &'m str,
    /// Its envelope.
    pub envelope: &'m Envelope,
    /// Its header and, if it is not longer than [`Host::size_limit`], its body.
    pub content: &'m [u8],
    /// Whether `content` is all of it.
    pub whole: bool,
}

/// Who reports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Host<'m> {
    /// The name of this host.
    pub name: &'m str,
    /// Octets of a message that is returned whole.
    pub size_limit: usize,
    /// How long mail is tried, for those who are told that it takes longer.
    pub lifetime: Duration,
}

/// Who reads a report.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reader<'m> {
    /// The sender of the mail, as far as he wants to know.
    Sender,
    /// The postmaster, at this address: everything, and of the mail its header.
    Postmaster(&'m str),
}

/// A message whose recipient wants no report on it. What a sender reads has an empty sender, what the
/// postmaster reads that of double bounces.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// To whom.
    pub recipient: String,
    /// Header and body, in lines that end with CRLF.
    pub content: Vec<u8>,
    /// Whether there are octets above 127 in it.
    pub body: Body,
    /// Whether its header has some.
    pub smtputf8: bool,
}

/// Whether a recipient's sender wants to be told (RFC 3461 section 4.1). Without NOTIFY: of failures and delays.
#[must_use]
pub fn is_wanted(notify: Option<NotifyOn>, kind: Kind) -> bool {
    match (notify, kind) {
        (None, Kind::Failure | Kind::Delay { .. }) => true,
        (None, Kind::Success) => false,
        (Some(notify), Kind::Failure) => notify.failure,
        (Some(notify), Kind::Delay { .. }) => notify.delay,
        (Some(notify), Kind::Success) => notify.success,
    }
}

/// The report on those recipients whose sender wants one; `None`: there are none, or the mail is a report itself.
/// `now` is its date.
#[must_use]
pub fn compose(
    host: Host<'_>,
    reader: Reader<'_>,
    kind: Kind,
    original: Original<'_>,
    told: &[Told<'_>],
    now: SystemTime,
) -> Option<Report> {
    let envelope = original.envelope;
    let is_told = |told: &&Told<'_>| reader != Reader::Sender || is_wanted(told.recipient.notify, kind);
    let told: Vec<_> = told.iter().filter(is_told).collect();
    let recipient = match reader {
        Reader::Sender => envelope.sender.as_str(),
        Reader::Postmaster(address) => address,
    };
    if recipient.is_empty() || told.is_empty() {
        return None;
    }
    let smtputf8 = envelope.smtputf8;
    let returned = returned(host, reader, kind, original);
    let eight_bit = smtputf8 || !returned.is_ascii();
    let boundary = boundary(host, original, now, returned);
    let mut out = Fields::new(smtputf8);
    header(&mut out, host, reader, kind, original, &boundary, now);
    if eight_bit {
        out.field("Content-Transfer-Encoding", "8bit");
    }
    out.line("");
    out.line("This report has parts in MIME.");

    out.line("");
    out.line(&format!("--{boundary}"));
    out.field("Content-Description", "Notification");
    out.field(
        "Content-Type",
        if smtputf8 { "text/plain; charset=utf-8" } else { "text/plain; charset=us-ascii" },
    );
    part_encoding(&mut out, smtputf8);
    text::write(&mut out, host, kind, &told);

    out.line("");
    out.line(&format!("--{boundary}"));
    out.field("Content-Description", "Delivery report");
    out.field(
        "Content-Type",
        if smtputf8 { "message/global-delivery-status" } else { "message/delivery-status" },
    );
    part_encoding(&mut out, smtputf8);
    status(&mut out, host, kind, original, &told);

    out.line("");
    out.line(&format!("--{boundary}"));
    let whole =
        returned.len() == original.content.len() && original.whole && is_full(reader, kind, envelope.ret);
    out.field(
        "Content-Description",
        if whole { "Undelivered message" } else { "Undelivered message headers" },
    );
    out.field(
        "Content-Type",
        match (whole, smtputf8) {
            (true, true) => "message/global",
            (true, false) => "message/rfc822",
            (false, true) => "message/global-headers",
            (false, false) => "text/rfc822-headers",
        },
    );
    part_encoding(&mut out, !returned.is_ascii());
    out.line("");
    out.field("Return-Path", &format!("<{}>", envelope.sender));
    let mut content = out.finish();
    content.extend_from_slice(returned);
    if !returned.ends_with(b"\r\n") {
        content.extend_from_slice(b"\r\n");
    }
    content.extend_from_slice(format!("\r\n--{boundary}--\r\n").as_bytes());
    let body = if eight_bit || !content.is_ascii() { Body::EightBitMime } else { Body::SevenBit };
    Some(Report { recipient: recipient.to_owned(), content, body, smtputf8 })
}

/// Whether the sender wants all of it back (RFC 3461 section 4.3: RET is about failures only).
fn is_full(reader: Reader<'_>, kind: Kind, ret: Option<Ret>) -> bool {
    reader == Reader::Sender && kind == Kind::Failure && ret != Some(Ret::Hdrs)
}

/// What is returned of the message: all of it, or its header, never a piece of a body.
fn returned<'m>(host: Host<'_>, reader: Reader<'_>, kind: Kind, original: Original<'m>) -> &'m [u8] {
    let Original { content, whole, envelope, .. } = original;
    if whole && content.len() <= host.size_limit && is_full(reader, kind, envelope.ret) {
        return content;
    }
    let end = field::header_length(content);
    content.get(..end).unwrap_or(content)
}

/// A line that is nowhere in what is returned.
fn boundary(host: Host<'_>, original: Original<'_>, now: SystemTime, returned: &[u8]) -> String {
    let seconds = now.duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs());
    let mut boundary = format!("{}.{seconds}/{}", original.id, host.name);
    // RFC 2046 section 5.1.1: at most 70 characters.
    boundary.truncate(60);
    while memchr::memmem::find(returned, boundary.as_bytes()).is_some() {
        boundary.push('=');
    }
    boundary
}

fn part_encoding(out: &mut Fields, eight_bit: bool) {
    if eight_bit {
        out.field("Content-Transfer-Encoding", "8bit");
    }
}

fn header(
    out: &mut Fields,
    host: Host<'_>,
    reader: Reader<'_>,
    kind: Kind,
    original: Original<'_>,
    boundary: &str,
    now: SystemTime,
) {
    let subject = match kind {
        Kind::Failure => "Your mail could not be delivered",
        Kind::Delay { .. } => "Your mail is delayed",
        Kind::Success => "Your mail was delivered",
    };
    out.field("Date", &date(now));
    out.field("From", &format!("Mail delivery <MAILER-DAEMON@{}>", host.name));
    // RFC 3834 section 5.
    let (subject, to, submitted) = match reader {
        Reader::Sender => (subject.to_owned(), original.envelope.sender.as_str(), "auto-replied"),
        Reader::Postmaster(address) => (format!("Postmaster copy: {subject}"), address, "auto-generated"),
    };
    out.field("Subject", &subject);
    out.field("To", to);
    out.field("Auto-Submitted", submitted);
    out.field("Message-ID", &format!("<{}.dsn@{}>", boundary.replace('/', "."), host.name));
    if let Some(id) = field::message_id(original.content) {
        out.field("In-Reply-To", &id);
        out.field("References", &id);
    }
    out.field("MIME-Version", "1.0");
    let kind = "multipart/report; report-type=delivery-status";
    out.field("Content-Type", &format!("{kind}; boundary=\"{boundary}\""));
}

/// The part for programs (RFC 3464 section 2).
fn status(out: &mut Fields, host: Host<'_>, kind: Kind, original: Original<'_>, told: &[&Told<'_>]) {
    let Original { id, envelope, .. } = original;
    out.line("");
    out.field("Reporting-MTA", &format!("dns; {}", host.name));
    if let Some(envid) = &envelope.envid {
        out.field("Original-Envelope-Id", envid);
    }
    out.field("X-Gateway-Queue-ID", id);
    out.field("X-Gateway-Sender", &format!("{}; {}", field::address_type(&envelope.sender), envelope.sender));
    let arrived = SystemTime::UNIX_EPOCH.checked_add(Duration::from_millis(envelope.arrived));
    if let Some(arrived) = arrived {
        out.field("Arrival-Date", &date(arrived));
    }
    for told in told {
        let Told { recipient, action, status, remote, diagnostic, reason } = told;
        out.line("");
        out.field(
            "Final-Recipient",
            &format!("{}; {}", field::address_type(&recipient.address), recipient.address),
        );
        if let Some(original) = &recipient.original {
            out.field("Original-Recipient", &original.replacen(';', "; ", 1));
        }
        out.field("Action", action.name());
        out.field("Status", &status.to_string());
        if let Some(remote) = remote {
            out.field("Remote-MTA", &format!("dns; {remote}"));
        }
        match diagnostic {
            Some(said) => out.field("Diagnostic-Code", &format!("smtp; {said}")),
            None => out.field("Diagnostic-Code", &format!("X-Gateway; {reason}")),
        }
        if let Kind::Delay { until } = kind {
            out.field("Will-Retry-Until", &date(until));
        }
    }
}
