//! The verbs that the gateway knows, where they come from and how they may be pipelined.

/// What is done with a verb before its arguments are looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Understood: [`super::command::Command`] has a variant for it.
    Known,
    /// Never relayed, whatever the server offers; answered with 502.
    Forbidden,
    /// Another protocol speaks: the session ends at once (NO STARTTLS, USENIX Security 2021).
    Foreign,
}

/// A verb.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Verb {
    /// In upper case.
    pub name: &'static str,
    /// Where it is defined.
    pub source: &'static str,
    /// What is done with it.
    pub kind: Kind,
    /// Whether nothing may be pipelined behind it (RFC 2920 section 3.1). RSET and BDAT are
    /// here too: what follows them depends on their reply.
    pub last_in_group: bool,
}

/// All verbs with a meaning here; any other is answered with 500.
pub const VERBS: &[Verb] = &[
    known("EHLO", "RFC 5321 4.1.1.1", true),
    known("HELO", "RFC 5321 4.1.1.1", true),
    known("MAIL", "RFC 5321 4.1.1.2", false),
    known("RCPT", "RFC 5321 4.1.1.3", false),
    known("DATA", "RFC 5321 4.1.1.4", true),
    known("BDAT", "RFC 3030 2", true),
    known("RSET", "RFC 5321 4.1.1.5", true),
    known("VRFY", "RFC 5321 4.1.1.6", true),
    known("EXPN", "RFC 5321 4.1.1.7", true),
    known("HELP", "RFC 5321 4.1.1.8", true),
    known("NOOP", "RFC 5321 4.1.1.9", true),
    known("QUIT", "RFC 5321 4.1.1.10", true),
    known("AUTH", "RFC 4954 4", true),
    known("STARTTLS", "RFC 3207 4", true),
    known("ETRN", "RFC 1985 5", true),
    verb("TURN", "RFC 821 3.8", Kind::Forbidden),
    verb("ATRN", "RFC 2645 4", Kind::Forbidden),
    verb("BURL", "RFC 4468 3", Kind::Forbidden),
    verb("XCLIENT", "Postfix XCLIENT_README", Kind::Forbidden),
    verb("XFORWARD", "Postfix XFORWARD_README", Kind::Forbidden),
    verb("XEXCH50", "MS-XEXCH50", Kind::Forbidden),
    verb("LHLO", "RFC 2033 4.1", Kind::Forbidden),
    verb("SEND", "RFC 821 3.4", Kind::Forbidden),
    verb("SOML", "RFC 821 3.4", Kind::Forbidden),
    verb("SAML", "RFC 821 3.4", Kind::Forbidden),
    verb("GET", "RFC 9110 9.3.1", Kind::Foreign),
    verb("HEAD", "RFC 9110 9.3.2", Kind::Foreign),
    verb("POST", "RFC 9110 9.3.3", Kind::Foreign),
    verb("PUT", "RFC 9110 9.3.4", Kind::Foreign),
    verb("CONNECT", "RFC 9110 9.3.6", Kind::Foreign),
    verb("OPTIONS", "RFC 9110 9.3.7", Kind::Foreign),
];

const fn known(name: &'static str, source: &'static str, last_in_group: bool) -> Verb {
    Verb { name, source, kind: Kind::Known, last_in_group }
}

const fn verb(name: &'static str, source: &'static str, kind: Kind) -> Verb {
    Verb { name, source, kind, last_in_group: true }
}

/// The verb of that name, in any case (RFC 5321 section 2.4).
#[must_use]
pub fn find(name: &[u8]) -> Option<&'static Verb> {
    VERBS.iter().find(|verb| verb.name.as_bytes().eq_ignore_ascii_case(name))
}
