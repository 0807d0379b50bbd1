//! What the client asks its driver for.

use super::delivery::{DeliveryDone, Outcome, Report};
use super::terms::PixWorkarounds;

/// Something to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Begin the TLS handshake, once all octets are written; then call `tls_done` or `tls_failed`.
    StartTls,
    /// The server is ready: call `deliver`, `check` or `quit`.
    Ready,
    /// The server cannot be used; no mail was sent. The connection ends by itself.
    Failed(Failure),
    /// Give the text with `content`, then call `content_ended`.
    Content {
        /// The text must become 7-bit on the way: the server has no 8BITMIME.
        downgrade: bool,
    },
    /// A recipient is settled.
    Settled {
        /// Its place in the delivery.
        recipient: usize,
        /// What became of it.
        outcome: Outcome,
    },
    /// The delivery has ended; behind the outcome of its last recipient.
    Done(DeliveryDone),
    /// For the log.
    Note(Note),
    /// Close the connection.
    Close,
}

/// Why a server cannot be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// What went wrong, as each recipient's record is to say it.
    pub report: Report,
    /// Which part of it failed.
    pub kind: FailureKind,
}

/// What failed before any mail was sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FailureKind {
    /// No connection.
    Connect,
    /// The server refused, or was silent or unintelligible.
    Refused,
    /// The connection broke, or time ran out.
    Broken,
    /// The server is this host.
    Loop,
    /// TLS was refused or not offered, or the certificate did not match, where mail must not go without.
    TlsRequired,
    /// The TLS handshake failed; at the level `may`, clear text may be tried.
    Handshake,
    /// AUTH failed.
    Auth {
        /// The server refused the credentials themselves (535).
        credentials: bool,
    },
}

/// For the log; none of it changes what happens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Note {
    /// The greeting is a PIX's.
    Pix(PixWorkarounds),
    /// Keywords are treated as not announced.
    Discarding(String),
    /// The server greeted with this host's name.
    OwnName,
    /// STARTTLS was offered and is not wanted.
    StartTlsOffered,
    /// The server sent octets in clear text behind its reply to STARTTLS; they were thrown away.
    Injected,
    /// XFORWARD was refused; the mail goes on.
    XforwardRefused(String),
    /// Lines of the text were longer than allowed.
    Folded,
    /// The server did not keep to the protocol; the connection is not used again.
    Protocol(String),
}
