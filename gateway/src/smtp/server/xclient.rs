//! XCLIENT and XFORWARD of trusted clients (Postfix `XCLIENT_README`, `XFORWARD_README`).
//!
//! XCLIENT says who the client is to be taken for, from then on and by every check; XFORWARD, who brought
//! the next message, for logs and those who get it.

use std::net::{IpAddr, SocketAddr};
use std::time::Instant;

use super::{Action, Hello, Server};
use crate::smtp::command::CommandError;
use crate::smtp::refusal::Refusal;
use crate::smtp::reply::Reply;
use crate::smtp::xtext;

/// Longest value of an attribute.
const LONGEST: usize = 255;

/// Somebody for whom a trusted client speaks.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Told {
    /// Whom XCLIENT names.
    client: Introduced,
    /// Whom XFORWARD names, for one message.
    forwarded: Option<Introduced>,
}

/// What is said of somebody.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Introduced {
    /// The address.
    pub address: Option<IpAddr>,
    /// The port.
    pub port: Option<u16>,
    /// The name in the DNS.
    pub name: Option<String>,
    /// The name in HELO or EHLO.
    pub helo: Option<String>,
    /// `SMTP` or `ESMTP`.
    pub protocol: Option<String>,
}

impl Introduced {
    /// The address with its port.
    #[must_use]
    pub fn socket(&self) -> Option<SocketAddr> {
        self.address.map(|address| SocketAddr::new(address, self.port.unwrap_or(0)))
    }
}

impl Told {
    /// Whom XCLIENT names, from then on.
    #[must_use]
    pub const fn client(&self) -> &Introduced {
        &self.client
    }

    /// Whom XFORWARD names as the one who brought this message.
    #[must_use]
    pub const fn forwarded(&self) -> Option<&Introduced> {
        self.forwarded.as_ref()
    }

    pub(super) fn forget_forwarded(&mut self) {
        self.forwarded = None;
    }
}

/// Whether a line is XCLIENT or XFORWARD.
pub(super) fn is_introduction(line: &[u8]) -> bool {
    let verb = line.split(|octet| *octet == b' ').next().unwrap_or_default();
    [&b"XCLIENT"[..], b"XFORWARD"].iter().any(|name| name.eq_ignore_ascii_case(verb))
}

impl Server {
    /// What a trusted client said of whom it speaks for.
    #[must_use]
    pub const fn told(&self) -> &Told {
        &self.told
    }

    pub(super) fn introduction(&mut self, line: &[u8], now: Instant) {
        if self.transaction.is_some() {
            return self.refuse_command(&Refusal::BadSequence, now);
        }
        let is_client = line.get(..7).is_some_and(|verb| verb.eq_ignore_ascii_case(b"XCLIENT"));
        let known = if is_client {
            self.told.client.clone()
        } else {
            self.told.forwarded.clone().unwrap_or_default()
        };
        let Some(introduced) = read(line, known) else {
            return self.refuse_command(&Refusal::Command(CommandError::Argument), now);
        };
        if !is_client {
            self.told.forwarded = Some(introduced);
            return self.reply(&Reply::new(250, "2.0.0 Ok"), now);
        }
        self.hello = introduced
            .helo
            .clone()
            .map(|name| Hello { extended: introduced.protocol.as_deref() == Some("ESMTP"), name });
        self.told = Told { client: introduced, forwarded: None };
        self.act(Action::Introduced);
        self.arrive(now);
    }
}

/// Adds what a line says to what is known; `None` where it is malformed.
fn read(line: &[u8], mut known: Introduced) -> Option<Introduced> {
    let line = std::str::from_utf8(line).ok()?;
    let mut words = line.split_ascii_whitespace().skip(1).peekable();
    words.peek()?;
    for word in words {
        let (name, value) = word.split_once('=')?;
        let value = xtext::decoded(value)?;
        let odd = value.len() > LONGEST || value.chars().any(|c| c.is_control() || c.is_whitespace());
        if odd {
            return None;
        }
        let unknown = value.is_empty()
            || ["[UNAVAILABLE]", "[TEMPUNAVAIL]"].iter().any(|word| word.eq_ignore_ascii_case(&value));
        let value = Some(value).filter(|_| !unknown);
        match name.to_ascii_uppercase().as_str() {
            "ADDR" => known.address = value.map(|value| address(&value).ok_or(())).transpose().ok()?,
            "PORT" => known.port = value.map(|value| value.parse()).transpose().ok()?,
            "NAME" => known.name = value,
            "HELO" => known.helo = value,
            "PROTO" => known.protocol = value.map(|value| value.to_ascii_uppercase()),
            "IDENT" | "SOURCE" => {}
            _ => return None,
        }
    }
    Some(known)
}

fn address(text: &str) -> Option<IpAddr> {
    let is_v6 = text.get(..5).is_some_and(|prefix| prefix.eq_ignore_ascii_case("IPV6:"));
    let text = if is_v6 { text.get(5..)? } else { text };
    text.parse().ok()
}
