//! The texts of replies that the gateway makes itself: `messages`.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Most characters of a text: with code, status, the longest name of a gateway and what may be
/// appended, a reply line stays within 512 octets (RFC 5321 section 4.5.3.1.5).
const LONGEST: usize = 200;

/// Text of a reply, in printable ASCII.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "String", into = "String")]
#[schemars(with = "String", extend("pattern" = "^[ -~]{1,200}$"))]
pub struct Text(String);

impl Text {
    /// The text as written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for Text {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        if text.trim().is_empty() {
            Err(format!("`{text}` says nothing; write a text, or leave the key out"))
        } else if !text.chars().all(|c| c.is_ascii_graphic() || c == ' ') {
            Err(format!("`{text}` cannot stand in a reply; write one line of printable ASCII"))
        } else if text.len() > LONGEST {
            Err(format!("`{text}` is longer than {LONGEST} characters; a reply line has 512 in all"))
        } else {
            Ok(Self(text))
        }
    }
}

impl fmt::Display for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl From<Text> for String {
    fn from(text: Text) -> Self {
        text.0
    }
}

macro_rules! messages {
    ($($(#[doc = $doc:literal])+ $key:ident = $text:literal;)+) => {
        /// Texts of replies that the gateway makes itself, which stand behind code, status and the
        /// gateway's name. The code is the gateway's own decision, whatever the text.
        #[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
        #[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
        pub struct Messages {
            $($(#[doc = $doc])+ pub $key: Text,)+
        }

        impl Default for Messages {
            fn default() -> Self {
                Self { $($key: Text($text.to_owned()),)+ }
            }
        }
    };
}

messages! {
    /// 550 to a message with a virus; the virus's name is appended.
    virus_found = "Malware found";
    /// The name of a virus that the scanner does not name.
    unknown_virus = "unknown";
    /// 451 to MAIL in what is left of a session with a virus.
    virus_no_more = "Malware found, no more mail in this session";
    /// To a locked client: 421 while the lock has an end, else 554.
    virus_locked = "No SMTP service for you now";
    /// 550 to spam; the score is appended.
    spam_found = "Spam found";
    /// To a message without a verdict: 451, or 550 with `on-failure: reject`.
    scanner_failed = "The message could not be scanned";
    /// 451 when the copy for the scanners cannot be written.
    spool_open_fail = "Local trouble, try again later";
    /// 452 when the spool has no room.
    no_space = "Insufficient space, try again later";
    /// 552 to a message beyond `limits.message-size`.
    too_large = "Message size exceeds the limit";
    /// 421 when the server cannot be reached.
    cannot_connect = "The server cannot be reached, try again later";
    /// 421 when the server does not accept the connection in time.
    connect_timeout = "The server does not accept the connection, try again later";
    /// 250 to EHLO when the gateway speaks for the server.
    hello = "SMTP gateway, hello";
    /// 221 to QUIT when the gateway speaks for the server.
    sign_off = "Signing off";
    /// 421 to a client that does not go on.
    session_timeout = "Timeout, closing connection";
    /// 503 to a command out of sequence.
    proto_error = "Bad sequence of commands";
    /// 554 after `limits.takeover-commands`.
    transaction_failed = "Transaction failed";
    /// 502 to a command that is not relayed.
    unimpl_command = "Command not implemented";
    /// 421 when the gateway stops.
    temp_unavail = "Service shutting down, try again later";
    /// 421 beyond `limits.sessions`.
    max_reached = "Too many connections, try again later";
    /// 421 beyond `limits.sessions-per-client`.
    max_per_host = "Too many connections from your host, try again later";
    /// 421 beyond `limits.sessions-per-identity`.
    max_per_ident = "Too many connections from you, try again later";
    /// 421 beyond `limits.sessions-per-prefix`.
    max_per_prefix = "Too many connections from your network, try again later";
    /// 421 beyond `limits.max-load`.
    system_load = "System load too high, try again later";
    /// 421 when the machine has no descriptor, memory or port left for a session.
    no_resources = "Out of resources, try again later";
    /// To a client that has used up a quota: 421 when it connects, else 450; the quota's name is appended.
    over_quota = "Too much mail from you, try again later";
    /// 421 when the router that is asked knows no original destination.
    lookup_failed = "Lookup failed, try again later";
    /// 421 when it does not answer within `lookup.deadline` of the last try.
    lookup_timeout = "Lookup timeout, try again later";
    /// 421 when its answer cannot be used.
    lookup_mismatch = "Lookup format mismatch, try again later";
    /// 421 when it names no possible destination.
    malformed_ip = "Malformed server IP, try again later";
    /// 554 to a client that speaks before the greeting.
    early_talk = "Wait for the greeting";
    /// 530 to MAIL without the AUTH that `auth.require` asks for.
    auth_required = "Authentication required";
    /// 550 to a HELO name, a sender or a recipient that `filters` keeps out, which is appended.
    filtered = "Not accepted here";
    /// 554 in the lane `reject`.
    lane_rejects = "No SMTP service for you here";
}
