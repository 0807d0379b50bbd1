//! The exact shape of `gateway.yaml`, key by key, with its defaults.
//!
//! Doc comments here become the descriptions in the JSON Schema and in the reference, so they
//! are written for the operator.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

mod clients;
pub mod delivery;
mod dns;
mod dnsbl;
mod filters;
mod inspect;
mod intercept;
mod lanes;
mod limits;
mod locks;
mod log;
mod lookup;
mod messages;
mod nat_header;
mod on_lock;
mod operator;
mod process;
mod proxy_protocol;
mod queue;
mod quotas;
mod relay;
mod scan;
mod spam;
mod spf;
mod spool;
mod state;
mod state_file;

pub use super::condition::{DayTimes, InterfacePattern, Network};
pub use super::pattern::Pattern;
pub use clients::{ClientLimits, ClientNetworks, Clients, OnExcess};
pub use delivery::Delivery;
pub use dns::Dns;
pub use dnsbl::{Dnsbl, DnsblZone, Families, OnListed};
pub use filters::{Auth, AuthRequire, AuthSkip, Filter, Filters, OnMatch};
pub use inspect::{
    BareNewline, CommandPolicy, Commands, EarlyTalk, Inspect, Nul, Splice, SpliceEngine, StartTls, Xclient,
};
pub use intercept::{Attach, GatewayAddresses, Intercept, Routing, SourceAddress, WhenDown};
pub(crate) use lanes::EVERYTHING;
pub use lanes::{ClientReached, Lane, LaneRule, RelayTarget, Side};
pub use limits::{Limits, Timeouts};
pub use locks::{CauseRule, LockAction, LockCause, LockKey, LockSpan, Locks, Repeat};
pub use log::{Facility, Log, LogAddresses, LogFormat, LogLevel, LogTarget, Logged};
pub use lookup::{Helper, Lookup, LookupFormat};
pub use messages::{Messages, Text};
pub use nat_header::{NatHeader, NatHeaderKind};
pub use on_lock::{OnLock, Webhook, WebhookUrl};
pub use operator::Control;
pub use process::{Process, Sandbox};
pub use proxy_protocol::ProxyProtocol;
pub use queue::Queue;
pub use quotas::{MOST_DESTINATIONS, QuotaLimits, QuotaNetworks, Quotas};
pub use relay::{Certificate, Relay, RelayTls};
pub use scan::{CircuitBreaker, Clamd, Common, Scan, ScannerAddress, Treatment};
pub(crate) use spam::MASK;
pub use spam::{Actions, Rspamd, Secret, Spamd};
pub use spf::{OnTempError, Spf, SpfCheck};
pub use spool::{LeaveOn, Spool};
pub use state::{Redis, RedisAddress, State};
pub use state_file::{FileMode, StateFile, StateFormat};

/// The whole of `gateway.yaml`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
pub struct Config {
    /// Name in every reply that the gateway makes itself, such as `gw.example.net`. Empty: the
    /// host name.
    pub name: String,
    /// How the original destination of a flow is found.
    pub origin: Origin,
    /// Addresses and ports to listen on: one for IPv4, one for IPv6, or only one of them. With
    /// `origin: assign` they are loopback addresses, which nobody can reach from outside.
    pub listen: Vec<SocketAddr>,
    /// With `origin: fixed`, address and port of the server that every flow goes to; with `origin:
    /// proxy`, where flows go that the load balancer opens for itself, such as its checks.
    pub fixed_server: Option<SocketAddr>,
    /// Load balancers that say in a header of the PROXY protocol whom they speak for: with `origin:
    /// proxy` and `origin: fixed`.
    pub proxy_protocol: ProxyProtocol,
    /// Asking another machine where flows were meant to go: `origin: remote-udp` and `origin: remote`.
    pub lookup: Lookup,
    /// `gateway helper` on a router, which answers such questions. `gateway run` does not use it.
    pub helper: Helper,
    /// The kernel side of `origin: assign`.
    pub intercept: Intercept,
    /// Whose address the server sees.
    pub source_address: SourceAddress,
    /// The gateway's own addresses towards servers, where the kernel's choice by route is not
    /// wanted.
    pub gateway_addresses: GatewayAddresses,
    /// Which lane a flow takes: the first rule that matches decides. A flow that no rule matches
    /// is inspected.
    pub lanes: Vec<LaneRule>,
    /// The inspect lane: what is relayed between client and server, and what is not.
    pub inspect: Inspect,
    /// The relay lane: how mail is taken.
    pub relay: Relay,
    /// Regular expressions that names and addresses in the dialogue must or must not match.
    pub filters: Filters,
    /// What AUTH is needed for, and what it changes.
    pub auth: Auth,
    /// How names are looked up.
    pub dns: Dns,
    /// Block lists in the DNS.
    pub dnsbl: Dnsbl,
    /// Whether a sender's domain lets the client send its mail.
    pub spf: Spf,
    /// A header that names the client to the server.
    pub nat_header: NatHeader,
    /// Locks: clients whose new flows are held off for a time, set with `gateway lock` or for what
    /// they have done.
    pub locks: Locks,
    /// Who is told when a client is locked for what it has done.
    pub on_lock: OnLock,
    /// Texts of the gateway's own replies, behind code, status and name. Where one begins with a
    /// status code of its own, such as `5.7.9` (RFC 3463), of the same class as the reply, that is
    /// used instead of the gateway's. The reply code does not depend on the text.
    pub messages: Messages,
    /// The splice lane, which carries sessions after STARTTLS.
    pub splice: Splice,
    /// Ceilings on sessions, messages and errors.
    pub limits: Limits,
    /// What the kernel counts of each client, and what a client may have. Needs `origin: assign`.
    pub clients: Clients,
    /// What clients may use up in a period.
    pub quotas: Quotas,
    /// Deadlines of each step of a session, as a client or server has them by RFC 5321 section
    /// 4.5.3.2 where that names one.
    pub timeouts: Timeouts,
    /// Where it is kept what clients have used. Takes effect at start.
    pub state: State,
    /// The server of `state: redis`. Takes effect at start.
    pub redis: Redis,
    /// Folder of the file in which quotas and locks outlive the gateway, and of those in which processes
    /// tell each other of sessions that the kernel carries; it must belong to the account `user` alone.
    /// Where it cannot be used, all that is kept in memory only. Takes effect at start.
    pub state_directory: PathBuf,
    /// The copy of a message that the scanners see.
    pub spool: Spool,
    /// Mail that the gateway has taken and not yet delivered.
    pub queue: Queue,
    /// The scanners.
    pub scan: Scan,
    /// The control socket, which `gateway status` and `gateway top` use.
    pub control: Control,
    /// How mail of the relay lane is delivered, by SMTP and by LMTP: a key for each parameter of Postfix's smtp(8).
    pub delivery: Box<Delivery>,
    /// Where and how records are written.
    pub log: Log,
    /// A file that says how the gateway is, for scripts; `gateway status --format` prints the same.
    pub state_file: StateFile,
    /// Account of the process that reads the mail. Ignored when the gateway is not started as
    /// root. With `origin: fixed`, `nobody` stands in for a `gateway` that does not exist.
    pub user: String,
    /// The processes themselves, where no service manager sees to it.
    pub process: Process,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            name: String::new(),
            origin: Origin::Assign,
            listen: vec![
                SocketAddr::from((Ipv4Addr::LOCALHOST, 10025)),
                SocketAddr::from((Ipv6Addr::LOCALHOST, 10025)),
            ],
            fixed_server: None,
            proxy_protocol: ProxyProtocol::default(),
            lookup: Lookup::default(),
            helper: Helper::default(),
            intercept: Intercept::default(),
            source_address: SourceAddress::Auto,
            gateway_addresses: GatewayAddresses::default(),
            lanes: Vec::new(),
            inspect: Inspect::default(),
            relay: Relay::default(),
            filters: Filters::default(),
            auth: Auth::default(),
            dns: Dns::default(),
            dnsbl: Dnsbl::default(),
            spf: Spf::default(),
            nat_header: NatHeader::default(),
            locks: Locks::default(),
            on_lock: OnLock::default(),
            messages: Messages::default(),
            splice: Splice::default(),
            limits: Limits::default(),
            clients: Clients::default(),
            quotas: Quotas::default(),
            timeouts: Timeouts::default(),
            state: State::Embedded,
            redis: Redis::default(),
            state_directory: PathBuf::from("/var/lib/gateway"),
            spool: Spool::default(),
            queue: Queue::default(),
            scan: Scan::default(),
            control: Control::default(),
            delivery: Box::default(),
            log: Log::default(),
            state_file: StateFile::default(),
            user: "gateway".to_owned(),
            process: Process::default(),
        }
    }
}

/// How the original destination of a flow is found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Origin {
    /// The eBPF program assigns the flow to the gateway's socket; its local address is the destination.
    Assign,
    /// A netfilter REDIRECT or DNAT rule of yours sent the flow here (`SO_ORIGINAL_DST`).
    Netfilter,
    /// Every flow goes to `fixed-server`.
    Fixed,
    /// A load balancer says in a header of the PROXY protocol where the flow went.
    Proxy,
    /// The router that redirects flows is asked by a datagram; `gateway helper` answers there.
    RemoteUdp,
    /// The same by a line of the ident protocol over TCP, which nothing protects.
    Remote,
}
