//! Values that can be wrong.

use std::fmt;
use std::net::IpAddr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::config::condition::Network;
use crate::delivery::destination::{Destination, host_name};
use crate::smtp::client::Protocol;

/// A next hop: `domain`, `host:port`, `[host]`, `[192.0.2.1]:587`, `[ipv6:2001:db8::1]`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "String", into = "String")]
#[schemars(with = "String")]
pub struct NextHop(Destination);

impl NextHop {
    /// Where it is.
    #[must_use]
    pub const fn destination(&self) -> &Destination {
        &self.0
    }
}

impl TryFrom<String> for NextHop {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        Destination::parse(&text, Protocol::Smtp).map(Self).map_err(|error| error.to_string())
    }
}

impl fmt::Display for NextHop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl From<NextHop> for String {
    fn from(hop: NextHop) -> Self {
        hop.to_string()
    }
}

/// A protocol and a next hop: `smtp:[host]`, `lmtp:unix:/path`, `lmtp:inet:host`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "String", into = "String")]
#[schemars(with = "String")]
pub struct Transport(String);

impl Transport {
    /// As it is written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for Transport {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let parsed = match text.split_once(':') {
            Some(("smtp", hops)) => Destination::parse_list(hops, Protocol::Smtp),
            Some(("lmtp", hops)) => Destination::parse_list(hops, Protocol::Lmtp),
            _ => Ok(Vec::new()),
        };
        match parsed {
            Ok(hops) if hops.is_empty() => {
                Err(format!("`{text}` is no transport; write `smtp:NEXTHOP` or `lmtp:NEXTHOP`"))
            }
            Ok(_) => Ok(Self(text)),
            Err(error) => Err(error.to_string()),
        }
    }
}

impl From<Transport> for String {
    fn from(transport: Transport) -> Self {
        transport.0
    }
}

/// `all`, `loopback-only`, or an address.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "String", into = "String")]
#[schemars(with = "String")]
pub enum Interface {
    /// All addresses of this host.
    All,
    /// Those that nobody else can reach.
    LoopbackOnly,
    /// This one.
    Address(IpAddr),
}

impl TryFrom<String> for Interface {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        match text.as_str() {
            "all" => Ok(Self::All),
            "loopback-only" => Ok(Self::LoopbackOnly),
            other => other.parse().map(Self::Address).map_err(|_| {
                format!("`{text}` is no address of this host; write `all`, `loopback-only`, or for example 192.0.2.1")
            }),
        }
    }
}

impl From<Interface> for String {
    fn from(interface: Interface) -> Self {
        match interface {
            Interface::All => "all".to_owned(),
            Interface::LoopbackOnly => "loopback-only".to_owned(),
            Interface::Address(address) => address.to_string(),
        }
    }
}

/// A domain with all below it, a host, an address or a network.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "String", into = "String")]
#[schemars(with = "String")]
pub enum DebugPeer {
    /// A domain or a host, in lower case.
    Name(String),
    /// A network, or one address.
    Network(Network),
}

impl DebugPeer {
    /// Whether it is a server: its next hop's name, its own, and its address, where it has one.
    #[must_use]
    pub fn is(&self, next_hop: &str, host: &str, address: Option<IpAddr>) -> bool {
        match self {
            Self::Name(name) => [next_hop, host].into_iter().any(|found| {
                let found = found.to_ascii_lowercase();
                found
                    .strip_suffix(name.as_str())
                    .is_some_and(|above| above.is_empty() || above.ends_with('.'))
            }),
            Self::Network(network) => address.is_some_and(|address| network.0.contains(&address)),
        }
    }
}

impl TryFrom<String> for DebugPeer {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let bare = text.trim_start_matches('[').replacen(']', "", 1);
        if let Ok(network) = Network::try_from(bare) {
            return Ok(Self::Network(network));
        }
        host_name(&text).map(Self::Name).map_err(|_| {
            format!("`{text}` is no peer; write a domain such as `example.com`, an address, or a network")
        })
    }
}

impl From<DebugPeer> for String {
    fn from(peer: DebugPeer) -> Self {
        match peer {
            DebugPeer::Name(name) => name,
            DebugPeer::Network(network) => network.to_string(),
        }
    }
}

macro_rules! words {
    ($(#[doc = $about:literal])+ $name:ident { $($(#[doc = $doc:literal])+ $word:ident = $text:literal,)+ }) => {
        $(#[doc = $about])+
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
        pub enum $name {
            $($(#[doc = $doc])+ #[serde(rename = $text)] $word,)+
        }

        impl $name {
            /// The word for it.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$word => $text,)+
                }
            }
        }
    };
}

words! {
    /// How much TLS is wanted.
    SecurityLevel {
        /// None.
        None = "none",
        /// Where the server offers it; clear text otherwise.
        May = "may",
        /// No mail without it.
        Encrypt = "encrypt",
        /// And the certificate or its key is listed.
        Fingerprint = "fingerprint",
        /// And the certificate is trusted, and for the server's name.
        Verify = "verify",
        /// And the certificate is trusted, and for the destination's name.
        Secure = "secure",
    }
}

words! {
    /// Ciphers. The TLS library has none that are not of grade high.
    CipherGrade {
        /// High.
        High = "high",
        /// Medium or better.
        Medium = "medium",
    }
}

words! {
    /// A digest of certificates.
    FingerprintDigest {
        /// MD5; forgeries are possible.
        Md5 = "md5",
        /// SHA-1; forgeries are possible.
        Sha1 = "sha1",
        /// SHA-256.
        Sha256 = "sha256",
        /// SHA-384.
        Sha384 = "sha384",
        /// SHA-512.
        Sha512 = "sha512",
    }
}

words! {
    /// Mechanisms that are not used.
    SaslOption {
        /// Those that show the password.
        NoPlaintext = "noplaintext",
        /// Those open to active attacks.
        NoActive = "noactive",
        /// Those open to dictionary attacks.
        NoDictionary = "nodictionary",
        /// Those without a name.
        NoAnonymous = "noanonymous",
        /// Those in which the server proves nothing.
        MutualAuth = "mutual_auth",
    }
}

words! {
    /// What the postmaster is told of; of sessions in deliveries and in the relay lane with a transcript.
    NotifyClass {
        /// Returned mail.
        Bounce = "bounce",
        /// Reports that cannot be delivered.
        DoubleBounce = "2bounce",
        /// Messages whose content cannot be used.
        Data = "data",
        /// Delayed mail.
        Delay = "delay",
        /// Sessions of clients from which a policy refused something.
        Policy = "policy",
        /// Sessions in which one side did not keep to the protocol, or did not understand the other.
        Protocol = "protocol",
        /// Sessions and messages for which a server or the gateway lacked room, memory or connections.
        Resource = "resource",
        /// What the operator has set up and does not work: scanners, passwords, TLS, relays.
        Software = "software",
    }
}

words! {
    /// What is done for servers behind a PIX firewall that mangles SMTP.
    PixWorkaround {
        /// HELO is sent, not EHLO.
        DisableEsmtp = "disable_esmtp",
        /// The dot comes after a pause, and by itself.
        DelayDotCrlf = "delay_dotcrlf",
    }
}

words! {
    /// A source of addresses.
    HostLookup {
        /// The DNS.
        Dns = "dns",
        /// The system: `/etc/hosts` and what nsswitch.conf(5) names.
        Native = "native",
    }
}

words! {
    /// A family of addresses.
    InetProtocol {
        /// IPv4.
        Ipv4 = "ipv4",
        /// IPv6.
        Ipv6 = "ipv6",
        /// Both.
        All = "all",
    }
}

words! {
    /// The family of addresses that is tried first.
    AddressPreference {
        /// Neither.
        Any = "any",
        /// IPv4.
        Ipv4 = "ipv4",
        /// IPv6.
        Ipv6 = "ipv6",
    }
}
