//! On what terms a connection is used: what the operator set, and what holds for this server.

use std::fmt;
use std::time::Duration;

use super::feature::Discard;
use super::sasl::Login;
use crate::table::Maps;

/// Which protocol is spoken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// SMTP (RFC 5321).
    Smtp,
    /// LMTP (RFC 2033): LHLO, and one reply for each recipient behind the text.
    Lmtp,
}

/// How much TLS is wanted, weakest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum TlsLevel {
    /// STARTTLS is never used.
    None,
    /// Used where offered; clear text otherwise.
    May,
    /// No mail without TLS.
    Encrypt,
    /// The server's certificate or key is listed.
    Fingerprint,
    /// A trusted certificate for the server's name.
    Verify,
    /// A trusted certificate for the next hop's name.
    Secure,
}

impl TlsLevel {
    /// Whether mail must not go in clear text.
    #[must_use]
    pub fn is_mandatory(self) -> bool {
        self >= Self::Encrypt
    }

    /// Whether the certificate must have matched.
    #[must_use]
    pub fn needs_match(self) -> bool {
        self >= Self::Fingerprint
    }
}

/// What the driver knows of a handshake that has succeeded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TlsFacts {
    /// The certificate is what the level asks for.
    pub matched: bool,
}

/// How long each step may take.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Timeouts {
    /// The TCP connection.
    pub connect: Duration,
    /// The greeting, and EHLO, HELO or LHLO.
    pub hello: Duration,
    /// STARTTLS and the handshake.
    pub starttls: Duration,
    /// Each step of AUTH.
    pub auth: Duration,
    /// XFORWARD.
    pub xforward: Duration,
    /// MAIL.
    pub mail: Duration,
    /// Each RCPT.
    pub rcpt: Duration,
    /// DATA up to its 354.
    pub data_init: Duration,
    /// The text: without progress, or in all, see [`Rules::request_deadline`].
    pub data_transfer: Duration,
    /// The reply to the text.
    pub data_done: Duration,
    /// RSET.
    pub rset: Duration,
    /// QUIT.
    pub quit: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        let five_minutes = Duration::from_secs(300);
        Self {
            connect: Duration::from_secs(30),
            hello: five_minutes,
            starttls: five_minutes,
            auth: five_minutes,
            xforward: five_minutes,
            mail: five_minutes,
            rcpt: five_minutes,
            data_init: Duration::from_secs(120),
            data_transfer: Duration::from_secs(180),
            data_done: Duration::from_secs(600),
            rset: Duration::from_secs(20),
            quit: five_minutes,
        }
    }
}

/// What the operator set for all servers.
#[derive(Clone, Debug)]
pub struct Rules {
    /// SMTP or LMTP.
    pub protocol: Protocol,
    /// The name in EHLO, HELO and LHLO.
    pub hello: String,
    /// This host's name; a server with the same is this host.
    pub hostname: String,
    /// EHLO is sent to servers whose greeting has no word `ESMTP`, too.
    pub always_send_ehlo: bool,
    /// HELO is sent to all, and nothing is asked of them that needs EHLO.
    pub never_send_ehlo: bool,
    /// A 5xx greeting is a reason to try another server, not to return the mail.
    pub skip_5xx_greeting: bool,
    /// The connection is closed behind QUIT without waiting for its reply.
    pub skip_quit_response: bool,
    /// Local parts are quoted where RFC 5321 asks for it.
    pub quote_envelope: bool,
    /// The original client's facts are sent with XFORWARD to servers that take them.
    pub send_xforward: bool,
    /// `AUTH=<>` is sent with MAIL after AUTH.
    pub dummy_mail_auth: bool,
    /// Octets of a line of text, CRLF not counted, before it is folded; 0 folds none.
    pub line_length: usize,
    /// 8-bit text is not turned into 7-bit text for servers without 8BITMIME.
    pub disable_mime_conversion: bool,
    /// Every permanent failure counts as a transient one.
    pub soft_bounce: bool,
    /// How long the dot is held back from servers behind a PIX.
    pub pix_delay: Duration,
    /// How old a message must be for that.
    pub pix_threshold: Duration,
    /// The text goes in BDAT chunks to servers that take them (RFC 3030).
    pub chunking: bool,
    /// Refused credentials are a reason to try again later, not to return the mail.
    pub auth_soft_bounce: bool,
    /// Time limits hold for a whole step, not for each read and write.
    pub request_deadline: bool,
    /// Octets a second that extend the limit of a text that moves, with `request_deadline`.
    pub min_data_rate: u32,
    /// How long each step may take.
    pub timeouts: Timeouts,
    /// What is said is written down, for the postmaster (`notify-classes`).
    pub transcript: bool,
    /// What is read in place of a line of a server's reply (`reply-filter`).
    pub reply_filter: Maps,
    /// What is told in place of `X.Y.Z text` of an outcome (`delivery-status-filter`).
    pub status_filter: Maps,
}

impl Rules {
    /// The defaults of Postfix, for a host of that name; but time limits hold for whole steps.
    #[must_use]
    pub fn new(protocol: Protocol, hostname: &str) -> Self {
        Self {
            protocol,
            hello: hostname.to_owned(),
            hostname: hostname.to_owned(),
            always_send_ehlo: true,
            never_send_ehlo: false,
            skip_5xx_greeting: true,
            skip_quit_response: true,
            quote_envelope: true,
            send_xforward: false,
            dummy_mail_auth: false,
            line_length: 998,
            disable_mime_conversion: false,
            soft_bounce: false,
            pix_delay: Duration::from_secs(10),
            pix_threshold: Duration::from_secs(500),
            chunking: false,
            auth_soft_bounce: true,
            request_deadline: true,
            min_data_rate: 500,
            timeouts: Timeouts::default(),
            transcript: true,
            reply_filter: Maps::default(),
            status_filter: Maps::default(),
        }
    }
}

/// What is done for a server behind a PIX firewall that mangles SMTP.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PixWorkarounds {
    /// HELO instead of EHLO.
    pub disable_esmtp: bool,
    /// A pause before the dot, which goes in a segment of its own.
    pub delay_dotcrlf: bool,
}

impl fmt::Display for PixWorkarounds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match (self.disable_esmtp, self.delay_dotcrlf) {
            (true, true) => "disable_esmtp delay_dotcrlf",
            (true, false) => "disable_esmtp",
            (false, true) => "delay_dotcrlf",
            (false, false) => "none",
        })
    }
}

/// The server, as records name it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peer {
    /// Host name.
    pub name: String,
    /// IP address, or path of a UNIX socket.
    pub address: String,
    /// TCP port.
    pub port: Option<u16>,
}

impl Peer {
    /// `NAME[ADDRESS]`.
    #[must_use]
    pub fn host(&self) -> String {
        format!("{}[{}]", self.name, self.address)
    }
}

impl fmt::Display for Peer {
    /// `NAME[ADDRESS]:PORT`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}[{}]", self.name, self.address)?;
        self.port.map_or(Ok(()), |port| write!(f, ":{port}"))
    }
}

/// What holds for one server.
#[derive(Clone, Debug)]
pub struct Terms {
    /// The server.
    pub peer: Peer,
    /// The next hop that it serves, for reasons.
    pub next_hop: String,
    /// Whether a server of this host's name is a loop (RFC 5321 section 5): on port 25 only.
    pub detect_loop: bool,
    /// The server is an MX of the best preference: a loop there lasts.
    pub best_mx: bool,
    /// Keywords that are treated as not announced.
    pub discard: Discard,
    /// What is done when the greeting is a PIX's.
    pub pix: PixWorkarounds,
    /// How much TLS is wanted.
    pub tls: TlsLevel,
    /// TLS comes before the greeting (RFC 8314 section 3.3).
    pub tls_wrapper: bool,
    /// With whom AUTH is done, where the server offers it.
    pub login: Option<Login>,
}
