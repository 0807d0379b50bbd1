//! What is to be delivered, and what became of it.

use std::time::{Duration, Instant};

use super::status::Status;
use crate::smtp::envelope::{Recipient, Ret};

/// What the text is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Encoding {
    /// US-ASCII only.
    SevenBit,
    /// Octets above 127, too.
    EightBit,
    /// Nobody has looked.
    Unknown,
}

/// Facts of the client that the message came from, for XFORWARD. `None` where unknown.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Origin {
    /// Host name.
    pub name: Option<String>,
    /// IP address.
    pub address: Option<std::net::IpAddr>,
    /// TCP port.
    pub port: Option<u16>,
    /// `SMTP` or `ESMTP`.
    pub protocol: Option<String>,
    /// The name in HELO or EHLO.
    pub hello: Option<String>,
    /// The message's name at this host.
    pub ident: Option<String>,
    /// Whether the client is a machine of the operator's own.
    pub local: Option<bool>,
}

/// One message for one or more recipients.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Delivery {
    /// Envelope sender in its internal form; empty for `<>`.
    pub sender: String,
    /// Recipients; outcomes name them by their place.
    pub recipients: Vec<Recipient>,
    /// Octets of the text.
    pub size: u64,
    /// What the text is made of.
    pub encoding: Encoding,
    /// An address or a header field needs SMTPUTF8.
    pub smtputf8: bool,
    /// ENVID, xtext decoded.
    pub envelope_id: Option<String>,
    /// RET.
    pub ret: Option<Ret>,
    /// Facts for XFORWARD.
    pub origin: Option<Origin>,
    /// How long the message has been here.
    pub age: Duration,
    /// Only ask whether the recipients exist: no text is sent.
    pub probe: bool,
}

/// Why a recipient's delivery ended as it did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// Enhanced status code.
    pub status: Status,
    /// For the record: what happened, in a sentence.
    pub reason: String,
    /// What the server said, for `Diagnostic-Code`; `None` when it said nothing.
    pub diagnostic: Option<String>,
    /// The failure is this server's: another server of the destination may take the message, even
    /// where the status is permanent.
    pub elsewhere: bool,
}

/// What became of one recipient at this server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The server has taken the message (or, for a probe, the address).
    Sent(Report),
    /// To be tried again: at another server, or later.
    Deferred(Report),
    /// Never to be tried again.
    Bounced(Report),
}

/// A delivery has ended: every recipient has its outcome.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DeliveryDone {
    /// When MAIL was sent: the end of the record's third delay. `None` when it never was.
    pub mail: Option<Instant>,
    /// When it ended: the end of the fourth.
    pub end: Instant,
    /// The server takes over NOTIFY=SUCCESS.
    pub dsn: bool,
    /// The connection broke: the destination is in trouble.
    pub broken: bool,
    /// Another delivery may follow; else the connection ends by itself.
    pub reusable: bool,
}
