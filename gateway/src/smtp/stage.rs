//! Where a session is, in the words that records, metrics and the console use.

use serde::{Deserialize, Serialize};

/// Where a session is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[repr(u8)]
pub enum Stage {
    /// Connecting to the server.
    Connect,
    /// Waiting for the greeting.
    Greeting,
    /// Between transactions.
    Command,
    /// MAIL and RCPT.
    Envelope,
    /// The text of a message.
    Data,
    /// Waiting for the verdict.
    Scan,
    /// Waiting for the server's reply to the end of data.
    EndOfData,
    /// Octets pass unread.
    Splice,
    /// The gateway answers in the server's place.
    Takeover,
    /// Last replies on their way.
    Closing,
}

impl Stage {
    /// All stages, in the order of a session.
    pub const ALL: [Self; 10] = [
        Self::Connect,
        Self::Greeting,
        Self::Command,
        Self::Envelope,
        Self::Data,
        Self::Scan,
        Self::EndOfData,
        Self::Splice,
        Self::Takeover,
        Self::Closing,
    ];

    /// One word, as shown.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Connect => "connect",
            Self::Greeting => "greeting",
            Self::Command => "command",
            Self::Envelope => "envelope",
            Self::Data => "data",
            Self::Scan => "scan",
            Self::EndOfData => "end-of-data",
            Self::Splice => "splice",
            Self::Takeover => "takeover",
            Self::Closing => "closing",
        }
    }
}
