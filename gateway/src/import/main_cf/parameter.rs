//! The parameters of smtp(8) and lmtp(8) that Postfix documents, and what each is here.
//!
//! Defaults are those of Postfix 3.11; they count where another parameter refers to one that the
//! file does not set.

mod list;

pub(super) use list::PARAMETERS;

/// The type of a value (postconf(5)).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// `yes` or `no`.
    Flag,
    /// A length of time in this unit, unless it says another, of at least so many.
    Time(Unit, u64),
    /// An integer from the first to the second.
    Number(u64, u64),
    /// One of these words.
    One(&'static [&'static str]),
    /// Some of these words.
    Words(&'static [&'static str]),
    /// Words.
    List,
    /// Words, but no tables or files.
    Names,
    /// Look-up tables.
    Maps,
    /// Next hops.
    Destinations,
    /// An IPv4 address, in brackets or not.
    Ipv4,
    /// An IPv6 address, in brackets or not.
    Ipv6,
    /// Addresses of this host, or words for them.
    Interfaces,
    /// Domains, hosts, addresses, networks.
    Peers,
    /// `smtp:NEXTHOP` or `lmtp:NEXTHOP`.
    Transport,
    /// The same, or a transport that only Postfix has.
    AnyTransport,
    /// A next hop.
    NextHop,
    /// A table that the gateway keeps in memory.
    Cache,
    /// How much a delivery moves the concurrency of its destination.
    Feedback,
    /// An absolute path.
    Path,
    /// Any text.
    Text,
}

/// The unit of a time without one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unit {
    Seconds,
    Hours,
    Days,
}

/// What a parameter is here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Here {
    /// This key.
    Key(&'static str),
    /// This key, of which there is something to say.
    Noted(&'static str, &'static str),
    /// This key, though there is something newer.
    Older(&'static str),
    /// An older name of another parameter.
    Alias(&'static str),
    /// What counts for those transports that have none of their own, which is this parameter.
    General(&'static str),
    /// A part of what became `smtp_tls_security_level`.
    TlsLevel,
    /// Nothing any more, for this reason.
    Obsolete(&'static str),
    /// Nothing, for this reason.
    Nothing(&'static str),
    /// Nothing, and a file that sets it is refused for this reason.
    Impossible(&'static str),
    /// Always `no`, for this reason.
    Never(&'static str),
    /// It cannot be set.
    ReadOnly,
}

/// A parameter.
#[derive(Clone, Copy, Debug)]
pub(super) struct Parameter {
    pub(super) name: &'static str,
    pub(super) kind: Kind,
    /// `None`: Postfix finds it out by itself.
    pub(super) default: Option<&'static str>,
    pub(super) here: Here,
}

impl Parameter {
    /// The parameter of that name.
    pub(super) fn find(name: &str) -> Option<&'static Self> {
        PARAMETERS.iter().find(|parameter| parameter.name == name)
    }

    /// The parameter that `lmtp_…` mirrors.
    pub(super) fn mirrored(name: &str) -> Option<&'static Self> {
        let rest = name.strip_prefix("lmtp_")?;
        let of_smtp = |parameter: &&Self| parameter.name.strip_prefix("smtp_") == Some(rest);
        PARAMETERS.iter().find(of_smtp)
    }
}

const fn parameter(name: &'static str, kind: Kind, default: Option<&'static str>, here: Here) -> Parameter {
    Parameter { name, kind, default, here }
}
