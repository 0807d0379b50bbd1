//! What is relayed between client and server: `inspect`, `splice`.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The inspect lane.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
pub struct Inspect {
    /// What is done with a carriage return or line feed that stands alone in a message, by which
    /// mail has been smuggled past other gateways.
    pub bare_newline: BareNewline,
    /// What is done with a NUL octet in a message.
    pub nul: Nul,
    /// What is done with a client that speaks before the server's greeting (RFC 5321 section
    /// 4.3.1 has it wait).
    pub early_talk: EarlyTalk,
    /// What is done with STARTTLS, where the lane's rule does not say.
    pub starttls: StartTls,
    /// Whether the server is told by XCLIENT who the client is, before its first command; with
    /// `origin: fixed` and `origin: proxy`. Postfix believes those in its
    /// `smtpd_authorized_xclient_hosts`. A client's own XCLIENT is refused.
    pub xclient: Xclient,
    /// Keywords of the server's EHLO reply that the client sees; the lines of all others are
    /// removed. The gateway must understand what a keyword changes in the dialogue.
    pub ehlo_keywords: Vec<String>,
    /// Whether commands that only ask reach the server.
    pub commands: Commands,
}

impl Default for Inspect {
    fn default() -> Self {
        Self {
            bare_newline: BareNewline::Normalize,
            nul: Nul::Reject,
            early_talk: EarlyTalk::Hold,
            starttls: StartTls::Splice,
            xclient: Xclient::Off,
            ehlo_keywords: [
                "8BITMIME",
                "AUTH",
                "BINARYMIME",
                "CHUNKING",
                "DELIVERBY",
                "DSN",
                "ENHANCEDSTATUSCODES",
                "FUTURERELEASE",
                "HELP",
                "LIMITS",
                "MT-PRIORITY",
                "NO-SOLICITING",
                "PIPELINING",
                "REQUIRETLS",
                "RRVS",
                "SIZE",
                "SMTPUTF8",
                "STARTTLS",
            ]
            .map(str::to_owned)
            .to_vec(),
            commands: Commands::default(),
        }
    }
}

/// What is done with a carriage return or line feed that stands alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum BareNewline {
    /// It becomes CRLF, for the scanner and the server alike; it never ends a message.
    Normalize,
    /// The message is refused.
    Reject,
}

/// What is done with a NUL octet in a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Nul {
    /// It is removed, for the scanner and the server alike.
    Remove,
    /// The message is refused.
    Reject,
}

/// What is done with a client that speaks before the server's greeting.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum EarlyTalk {
    /// What it says waits for the greeting.
    Hold,
    /// It is refused with 554 and the session ends.
    Refuse,
}

/// What is done with STARTTLS (RFC 3207).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum StartTls {
    /// It passes, and so does what is encrypted from there on.
    Splice,
    /// It is not offered and answered with 502: nothing can be encrypted.
    Forbid,
    /// Nothing else passes before it: other commands are refused with 530, or, where the server
    /// does not offer it, with 451.
    Require,
}

/// Commands outside a transaction: passed to the server, or answered by the gateway.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
pub struct Commands {
    /// VRFY; answered with 252 when refused.
    pub vrfy: CommandPolicy,
    /// EXPN; answered with 502 when refused.
    pub expn: CommandPolicy,
    /// ETRN; answered with 502 when refused.
    pub etrn: CommandPolicy,
    /// HELP; answered with 214 when refused.
    pub help: CommandPolicy,
}

impl Default for Commands {
    fn default() -> Self {
        Self {
            vrfy: CommandPolicy::Refuse,
            expn: CommandPolicy::Refuse,
            etrn: CommandPolicy::Refuse,
            help: CommandPolicy::Refuse,
        }
    }
}

/// Whether a command reaches the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum CommandPolicy {
    /// It is passed to the server.
    Pass,
    /// The gateway answers it.
    Refuse,
}

/// The splice lane.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
pub struct Splice {
    /// How bytes are moved once they need not be read.
    pub engine: SpliceEngine,
}

impl Default for Splice {
    fn default() -> Self {
        Self { engine: SpliceEngine::Auto }
    }
}

/// How bytes are moved once they need not be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum SpliceEngine {
    /// `handoff` wherever the kernel allows, else `splice`, else `copy`.
    Auto,
    /// The kernel program carries the session alone, with no socket and no wake-up of the gateway;
    /// what it refuses goes as with `splice`. Needs `origin: assign`.
    Handoff,
    /// splice(2) through a pipe.
    Splice,
    /// Read and write.
    Copy,
}

impl SpliceEngine {
    /// Whether sessions are left to the kernel where it takes them.
    #[must_use]
    pub const fn hands_off(self) -> bool {
        matches!(self, Self::Auto | Self::Handoff)
    }
}

/// Whether servers are told by XCLIENT who their clients are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Xclient {
    /// They see the gateway.
    Off,
    /// Those that offer XCLIENT to the gateway; others see the gateway.
    IfOffered,
    /// All; a server that does not listen gets no mail, and its clients are answered with 421.
    Required,
}
