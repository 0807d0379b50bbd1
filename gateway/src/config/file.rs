//! The exact shape of `gateway.yaml`, key by key, with its defaults.
//!
//! Doc comments here become the descriptions in the JSON Schema and in the reference, so they
//! are written for the operator.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use super::condition::{DayTimes, InterfacePattern, Network};
use super::units::{ByteCount, Span};

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
    /// With `origin: fixed`, address and port of the server that every flow goes to.
    pub fixed_server: Option<SocketAddr>,
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
    /// The splice lane, which carries sessions after STARTTLS.
    pub splice: Splice,
    /// Ceilings on sessions, messages and errors.
    pub limits: Limits,
    /// Deadlines of each step of a session, as a client or server has them by RFC 5321 section
    /// 4.5.3.2 where that names one.
    pub timeouts: Timeouts,
    /// The copy of a message that the scanners see.
    pub spool: Spool,
    /// The scanners.
    pub scan: Scan,
    /// The control socket, which `gateway status` and `gateway top` use.
    pub control: Control,
    /// Where and how records are written.
    pub log: Log,
    /// Account of the process that reads the mail. Ignored when the gateway is not started as
    /// root.
    pub user: String,
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
            intercept: Intercept::default(),
            source_address: SourceAddress::Auto,
            gateway_addresses: GatewayAddresses::default(),
            lanes: Vec::new(),
            inspect: Inspect::default(),
            splice: Splice::default(),
            limits: Limits::default(),
            timeouts: Timeouts::default(),
            spool: Spool::default(),
            scan: Scan::default(),
            control: Control::default(),
            log: Log::default(),
            user: "gateway".to_owned(),
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
}

/// The kernel side of `origin: assign`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
pub struct Intercept {
    /// Interfaces on which clients open flows: names, or patterns such as `vnet*`. Interfaces
    /// that appear later are taken too. Empty: nothing is intercepted.
    pub interfaces: Vec<InterfacePattern>,
    /// Interfaces on which servers answer, as names or patterns. They are needed where servers
    /// see the client's address.
    pub return_interfaces: Vec<InterfacePattern>,
    /// TCP ports of servers that are intercepted.
    pub ports: Vec<u16>,
    /// How the eBPF program is attached to an interface.
    pub attach: Attach,
    /// What happens to new flows while the process that reads the mail is down.
    pub when_down: WhenDown,
    /// The policy routing that delivers steered packets to this machine.
    pub routing: Routing,
    /// Number of recent flows whose interface, MAC address, TTL and SYN options the kernel keeps;
    /// the oldest are forgotten.
    pub flow_table_size: u32,
}

impl Default for Intercept {
    fn default() -> Self {
        Self {
            interfaces: Vec::new(),
            return_interfaces: vec![InterfacePattern::any()],
            ports: vec![25],
            attach: Attach::Auto,
            when_down: WhenDown::Pass,
            routing: Routing::default(),
            flow_table_size: 65_536,
        }
    }
}

/// How the TC program is attached.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Attach {
    /// TCX where the kernel has it (6.6 and later), else clsact.
    Auto,
    /// TCX only.
    Tcx,
    /// A clsact qdisc with a filter.
    Clsact,
}

/// What happens to new flows while the proxy process is down.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum WhenDown {
    /// They are forwarded, not inspected.
    Pass,
    /// They are dropped.
    Drop,
}

/// The policy-routing rule `fwmark MARK/MASK lookup TABLE` and the local route in that table.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
pub struct Routing {
    /// Mark of packets that are steered to the gateway; within `mask`.
    #[schemars(extend("x-hexadecimal" = true))]
    pub mark: u32,
    /// Mark of packets of the gateway's own connections, so that they are not steered again;
    /// within `mask`.
    #[schemars(extend("x-hexadecimal" = true))]
    pub own_mark: u32,
    /// Bits of the packet mark that belong to the gateway; the others stay as your own rules set
    /// them.
    #[schemars(extend("x-hexadecimal" = true))]
    pub mask: u32,
    /// Number of the routing table, used for nothing else.
    pub table: u32,
    /// Priority of the routing rule; before the rule for table `main`, which has 32766.
    pub priority: u32,
}

impl Default for Routing {
    fn default() -> Self {
        Self { mark: 0x2500, own_mark: 0x2600, mask: 0xff00, table: 2525, priority: 1025 }
    }
}

/// Whose address the server sees.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum SourceAddress {
    /// The client's, where client and server speak the same version of IP.
    Preserve,
    /// The gateway's.
    Gateway,
    /// With `origin: assign` the client's where it is routable on the Internet; else, and where
    /// it is private, the gateway's.
    Auto,
}

/// The gateway's own addresses towards servers.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
pub struct GatewayAddresses {
    /// Source address for IPv4 servers.
    pub ipv4: Option<Ipv4Addr>,
    /// Source address for IPv6 servers.
    pub ipv6: Option<Ipv6Addr>,
}

impl GatewayAddresses {
    /// The configured address of the family that `server` has.
    #[must_use]
    pub fn for_server(&self, server: IpAddr) -> Option<IpAddr> {
        match server {
            IpAddr::V4(_) => self.ipv4.map(IpAddr::V4),
            IpAddr::V6(_) => self.ipv6.map(IpAddr::V6),
        }
    }
}

/// One rule of the lane list. Every condition given must hold; one left out always holds.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct LaneRule {
    /// Client addresses or networks.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub client: Vec<Network>,
    /// Server addresses or networks.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub server: Vec<Network>,
    /// Server ports; each must be among the intercepted ones.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub port: Vec<u16>,
    /// Interfaces the flow came in on: names, or patterns such as `vnet*`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub interface: Vec<InterfacePattern>,
    /// Times of day in local time, such as `08:00-18:00`; may wrap around midnight.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub time: Vec<DayTimes>,
    /// The lane of a flow that matches.
    pub lane: Lane,
}

/// What is done with a flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Lane {
    /// The kernel forwards it as if there were no gateway.
    Bypass,
    /// It is dropped.
    Block,
    /// It is answered with one SMTP reply and closed.
    Reject,
    /// It is relayed command by command and its messages are scanned.
    Inspect,
}

impl Lane {
    /// The name in `gateway.yaml`, in records and in the console.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Bypass => "bypass",
            Self::Block => "block",
            Self::Reject => "reject",
            Self::Inspect => "inspect",
        }
    }
}

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
    /// The fastest that works here.
    Auto,
    /// splice(2) through a pipe.
    Splice,
    /// Read and write.
    Copy,
}

/// Ceilings.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
pub struct Limits {
    /// Sessions open at the same time; more are answered with 421.
    pub sessions: usize,
    /// Sessions of one client address open at the same time; 0: no limit of its own.
    pub sessions_per_client: usize,
    /// Largest message, header included; a larger one is refused with 552. 0: the server decides.
    pub message_size: ByteCount,
    /// Recipients of one message; RFC 5321 section 4.5.3.1.8 asks for at least 100.
    pub recipients: usize,
    /// Longest command line; RFC 5321 section 4.5.3.1.4 asks for at least 512 bytes.
    pub command_line: ByteCount,
    /// Errors of a client in one session after which each reply is delayed by `error-delay`.
    pub soft_errors: u32,
    /// Errors of a client in one session after which it ends with 421.
    pub hard_errors: u32,
    /// Delay of each reply after `soft-errors` errors.
    pub error_delay: Span,
    /// Commands that are still answered after the gateway has refused a message and speaks for
    /// the server.
    pub takeover_commands: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            sessions: 10_000,
            sessions_per_client: 0,
            message_size: ByteCount::new(0),
            recipients: 1_000,
            command_line: ByteCount::kib(2),
            soft_errors: 10,
            hard_errors: 20,
            error_delay: Span::seconds(1),
            takeover_commands: 10,
        }
    }
}

/// Deadlines of each step of a session.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
pub struct Timeouts {
    /// Until the server accepts the connection.
    pub connect: Span,
    /// Until the server's greeting is complete (RFC 5321 section 4.5.3.2.1: 5 minutes).
    pub greeting: Span,
    /// Until the client's next command is complete (section 4.5.3.2.7: 5 minutes).
    pub command: Span,
    /// Until the server's reply to a command is complete (sections 4.5.3.2.2 to 4.5.3.2.4: 5
    /// minutes).
    pub reply: Span,
    /// Between two pieces of a message's text (section 4.5.3.2.5: 3 minutes).
    pub data_block: Span,
    /// Until all scanners have answered, from the end of the message on. Clients wait no longer
    /// than `end-of-data` for this and the server's reply together.
    pub scan: Span,
    /// Until the server's reply to the end of a message (section 4.5.3.2.6: 10 minutes).
    pub end_of_data: Span,
    /// Without a byte in either direction in the splice lane, where the end of a message cannot
    /// be seen, so that 10 minutes hold there too.
    pub idle: Span,
    /// Of the rest of a session after the gateway has refused a message and speaks for the
    /// server.
    pub takeover: Span,
    /// Of one message's text, from the go-ahead to its end, however slowly it drips.
    pub message: Span,
    /// Of a session in the inspect lane, in all.
    pub session: Span,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            connect: Span::seconds(30),
            greeting: Span::minutes(5),
            command: Span::minutes(5),
            reply: Span::minutes(5),
            data_block: Span::minutes(3),
            scan: Span::minutes(2),
            end_of_data: Span::minutes(10),
            idle: Span::minutes(10),
            takeover: Span::seconds(20),
            message: Span::minutes(60),
            session: Span::minutes(120),
        }
    }
}

/// The copy of a message that scanners see.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
pub struct Spool {
    /// Folder for copies larger than `memory`; it must belong to the account `user` alone.
    pub directory: PathBuf,
    /// Largest copy that stays in memory; each session may hold one.
    pub memory: ByteCount,
    /// Outcomes after which the copy stays in `directory` for you to look at; you remove it. Empty:
    /// copies are always removed.
    pub leave_on: Vec<LeaveOn>,
    /// Free space in `directory` below which new messages are answered with 452.
    pub min_free: ByteCount,
}

impl Default for Spool {
    fn default() -> Self {
        Self {
            directory: PathBuf::from("/var/spool/gateway"),
            memory: ByteCount::kib(256),
            leave_on: Vec::new(),
            min_free: ByteCount::mib(64),
        }
    }
}

/// An outcome after which the copy of a message is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum LeaveOn {
    /// A scanner found a virus.
    Virus,
    /// A scanner failed.
    Error,
    /// Always.
    Always,
}

/// The scanners.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
pub struct Scan {
    /// The virus scanner clamd. Left out: messages are not scanned for viruses.
    pub clamd: Option<Clamd>,
}

/// The virus scanner clamd.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Clamd {
    /// Where clamd listens: `unix:/run/clamav/clamd.ctl` or `tcp:127.0.0.1:3310`.
    pub address: ScannerAddress,
    /// Largest message that is scanned; not more than `StreamMaxLength` of clamd.conf.
    #[serde(default = "Clamd::default_max_size")]
    pub max_size: ByteCount,
    /// What happens to a larger message. `tempfail` makes clients try again in vain.
    #[serde(default = "Clamd::default_on_too_large")]
    pub on_too_large: OnFailure,
    /// What happens to a message that clamd could not scan.
    #[serde(default = "Clamd::default_on_failure")]
    pub on_failure: OnFailure,
    /// Scans at the same time; not more than `MaxThreads` of clamd.conf.
    #[serde(default = "Clamd::default_concurrency")]
    pub concurrency: usize,
    /// Pause between two checks of clamd's health.
    #[serde(default = "Clamd::default_health_interval")]
    pub health_interval: Span,
}

impl Clamd {
    fn default_max_size() -> ByteCount {
        ByteCount::mib(25)
    }
    fn default_on_too_large() -> OnFailure {
        OnFailure::Reject
    }
    fn default_on_failure() -> OnFailure {
        OnFailure::Tempfail
    }
    fn default_concurrency() -> usize {
        10
    }
    fn default_health_interval() -> Span {
        Span::seconds(10)
    }
}

/// What happens to a message without a verdict.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum OnFailure {
    /// It is refused with a temporary error: the client tries again.
    Tempfail,
    /// It is passed on, recorded as not scanned.
    Pass,
    /// It is refused for good.
    Reject,
}

/// Where a scanner listens.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "String", into = "String")]
#[schemars(with = "String", extend("pattern" = "^(unix:/.*|tcp:.*:[0-9]+)$"))]
pub enum ScannerAddress {
    /// A UNIX stream socket.
    Unix(PathBuf),
    /// A TCP address.
    Tcp(SocketAddr),
}

impl TryFrom<String> for ScannerAddress {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let unix = text.strip_prefix("unix:").filter(|path| path.starts_with('/'));
        let tcp = text.strip_prefix("tcp:").and_then(|addr| addr.parse().ok());
        match (unix, tcp) {
            (Some(path), _) => Ok(Self::Unix(PathBuf::from(path))),
            (None, Some(addr)) => Ok(Self::Tcp(addr)),
            (None, None) => Err(format!(
                "`{text}` is not a scanner's address; write for example `unix:/run/clamav/clamd.ctl` or `tcp:127.0.0.1:3310`"
            )),
        }
    }
}

impl From<ScannerAddress> for String {
    fn from(address: ScannerAddress) -> Self {
        match address {
            ScannerAddress::Unix(path) => format!("unix:{}", path.display()),
            ScannerAddress::Tcp(addr) => format!("tcp:{addr}"),
        }
    }
}

/// The control socket.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
pub struct Control {
    /// Path of the socket. Empty (`''`): no control socket.
    pub socket: PathBuf,
    /// Group whose members may look; to change something is left to root and the account `user`.
    /// Empty: only those two may look.
    pub group: String,
}

impl Default for Control {
    fn default() -> Self {
        Self { socket: PathBuf::from("/run/gateway/control.sock"), group: String::new() }
    }
}

/// Where and how records are written.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
pub struct Log {
    /// Where records go.
    pub target: LogTarget,
    /// How a record is written.
    pub format: LogFormat,
    /// Least severe level that is written.
    pub level: LogLevel,
    /// How much of mail addresses stands in records.
    pub addresses: LogAddresses,
}

impl Default for Log {
    fn default() -> Self {
        Self {
            target: LogTarget::Stderr,
            format: LogFormat::Logfmt,
            level: LogLevel::Info,
            addresses: LogAddresses::Masked,
        }
    }
}

/// Where records go.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum LogTarget {
    /// Standard error, which systemd passes to its journal.
    Stderr,
    /// The journal, with every value as a field.
    Journald,
    /// The local syslog socket, facility mail.
    Syslog,
}

/// How a record is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum LogFormat {
    /// `key=value` pairs.
    Logfmt,
    /// One JSON object a line.
    Json,
}

/// Least severe level that is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum LogLevel {
    /// The gateway stops or loses mail.
    Error,
    /// An operator should look.
    Warn,
    /// One line for each message and each session.
    Info,
    /// One line for each command.
    Debug,
    /// One line for each read and write.
    Trace,
}

/// How much of mail addresses stands in records.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum LogAddresses {
    /// As they are.
    Full,
    /// The domain, and the first letter of the local part.
    Masked,
    /// Not at all.
    Off,
}
