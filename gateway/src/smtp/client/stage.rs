//! Where a connection is: how long it may stay there, and how reasons name it.

use std::time::Duration;

use super::terms::{Protocol, Timeouts};

/// What is waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// The connection.
    Connect,
    /// The greeting.
    Greeting,
    /// The reply to EHLO or LHLO.
    Hello,
    /// The reply to HELO.
    Helo,
    /// The reply to STARTTLS.
    StartTls,
    /// The TLS handshake.
    Handshake,
    /// A reply to a step of AUTH.
    Auth,
    /// Nothing: another delivery may come.
    Idle,
    /// A reply to XFORWARD.
    Xforward,
    /// The reply to MAIL.
    Mail,
    /// The reply to RCPT.
    Rcpt,
    /// The reply to DATA.
    Data,
    /// The server to take the text.
    Text,
    /// The reply to a chunk with more behind it.
    Chunk,
    /// The time to send the dot, see [`super::terms::Rules::pix_delay`].
    Pause,
    /// The reply to the text.
    EndOfData,
    /// The reply to RSET behind a delivery.
    Reset,
    /// The reply to RSET ahead of a delivery.
    Check,
    /// The reply to QUIT.
    Quit,
}

impl Stage {
    /// How long it may last; zero for no limit.
    #[must_use]
    pub const fn limit(self, times: &Timeouts, pause: Duration) -> Duration {
        match self {
            Self::Connect => times.connect,
            Self::Greeting | Self::Hello | Self::Helo => times.hello,
            Self::StartTls | Self::Handshake => times.starttls,
            Self::Auth => times.auth,
            Self::Idle => Duration::ZERO,
            Self::Xforward => times.xforward,
            Self::Mail => times.mail,
            Self::Rcpt => times.rcpt,
            Self::Data => times.data_init,
            Self::Text | Self::Chunk => times.data_transfer,
            Self::Pause => pause,
            Self::EndOfData => times.data_done,
            Self::Reset | Self::Check => times.rset,
            Self::Quit => times.quit,
        }
    }

    /// The words behind "lost connection with X while".
    #[must_use]
    pub const fn phrase(self, protocol: Protocol) -> &'static str {
        match (self, protocol) {
            (Self::Connect, _) => "connecting",
            (Self::Greeting, _) => "receiving the initial server greeting",
            (Self::Hello, Protocol::Smtp) => "performing the EHLO handshake",
            (Self::Hello, Protocol::Lmtp) => "performing the LHLO handshake",
            (Self::Helo, _) => "performing the HELO handshake",
            (Self::StartTls, _) => "receiving the STARTTLS response",
            (Self::Handshake, _) => "performing the TLS handshake",
            (Self::Auth, _) => "performing SASL authentication",
            (Self::Idle, _) => "it was idle",
            (Self::Xforward, _) => "sending XFORWARD",
            (Self::Mail, _) => "sending MAIL FROM",
            (Self::Rcpt, _) => "sending RCPT TO",
            (Self::Data, _) => "sending DATA command",
            (Self::Text | Self::Chunk | Self::Pause, _) => "sending message body",
            (Self::EndOfData, _) => "sending end of data -- message may be sent more than once",
            (Self::Reset, _) => "sending final RSET",
            (Self::Check, _) => "sending RSET probe",
            (Self::Quit, _) => "sending QUIT",
        }
    }

    /// The command as reasons name it; empty where there is none.
    #[must_use]
    pub const fn command(self, protocol: Protocol) -> &'static str {
        match (self, protocol) {
            (Self::Hello, Protocol::Smtp) => "EHLO",
            (Self::Hello, Protocol::Lmtp) => "LHLO",
            (Self::Helo, _) => "HELO",
            (Self::StartTls, _) => "STARTTLS",
            (Self::Auth, _) => "AUTH",
            (Self::Xforward, _) => "XFORWARD",
            (Self::Mail, _) => "MAIL FROM",
            (Self::Rcpt, _) => "RCPT TO",
            (Self::Data, _) => "DATA",
            (Self::Chunk, _) => "BDAT",
            (Self::Text | Self::Pause | Self::EndOfData, _) => "end of DATA",
            (Self::Reset, _) => "final RSET",
            (Self::Check, _) => "RSET probe",
            (Self::Quit, _) => "QUIT",
            (Self::Connect | Self::Greeting | Self::Handshake | Self::Idle, _) => "",
        }
    }
}
