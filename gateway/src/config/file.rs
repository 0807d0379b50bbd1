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
    /// Name in every reply the gateway makes itself. Empty: the host name.
    pub name: String,
    /// How the original destination of a flow is found.
    pub origin: Origin,
    /// Addresses to listen on: one for IPv4, one for IPv6, or only one. With `origin: assign`
    /// they are loopback addresses, which nobody can reach from outside.
    pub listen: Vec<SocketAddr>,
    /// With `origin: fixed`, the server every flow goes to.
    pub fixed_server: Option<SocketAddr>,
    /// The kernel side of `origin: assign`.
    pub intercept: Intercept,
    /// Whose address the server sees.
    pub source_address: SourceAddress,
    /// The gateway's own addresses towards servers, where not the kernel's choice.
    pub gateway_addresses: GatewayAddresses,
    /// Which lane a flow takes: the first rule that matches decides; without a match, `inspect`.
    pub lanes: Vec<LaneRule>,
    /// The inspect lane.
    pub inspect: Inspect,
    /// The splice lane, which carries sessions after STARTTLS.
    pub splice: Splice,
    /// Ceilings.
    pub limits: Limits,
    /// Deadlines of each step of a session.
    pub timeouts: Timeouts,
    /// The copy of a message that scanners see.
    pub spool: Spool,
    /// The scanners.
    pub scan: Scan,
    /// The control socket, which `gateway status` and `gateway top` use.
    pub control: Control,
    /// Where and how records are written.
    pub log: Log,
    /// The account of the proxy process. Ignored when not started as root.
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
    /// that appear later are taken too.
    pub interfaces: Vec<InterfacePattern>,
    /// Interfaces on which servers answer. Needed where the client's address is preserved.
    pub return_interfaces: Vec<InterfacePattern>,
    /// Destination ports that are intercepted.
    pub ports: Vec<u16>,
    /// How the program is attached.
    pub attach: Attach,
    /// What happens to new flows while the proxy process is down.
    pub when_down: WhenDown,
    /// The policy routing that delivers steered packets to this machine.
    pub routing: Routing,
    /// How many recent flows the kernel keeps facts of (interface, MAC, TTL, SYN options).
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
    /// Packet mark of steered packets, under `mask`.
    pub mark: u32,
    /// Mark of the gateway's own connections, under `mask`, so that they are never steered again.
    pub own_mark: u32,
    /// Which bits of the packet mark belong to the gateway.
    pub mask: u32,
    /// Number of the routing table.
    pub table: u32,
    /// Priority of the rule.
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
    /// The client's.
    Preserve,
    /// The gateway's.
    Gateway,
    /// The client's where it is routable on the Internet, the gateway's where it is private.
    Auto,
}

/// The gateway's own addresses towards servers.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
pub struct GatewayAddresses {
    /// For IPv4 servers; empty: the kernel chooses by route.
    pub ipv4: Option<Ipv4Addr>,
    /// For IPv6 servers; empty: the kernel chooses by route.
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
    /// Server ports.
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
    /// A carriage return or line feed that stands alone in a message: made into a line end that
    /// cannot end the message, or a reason to refuse it.
    pub bare_newline: BareNewline,
    /// A NUL octet in a message.
    pub nul: Nul,
    /// A client that speaks before the server's greeting.
    pub early_talk: EarlyTalk,
    /// EHLO keywords passed on to the client; the lines of all others are removed.
    pub ehlo_keywords: Vec<String>,
    /// Commands outside a transaction.
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
    /// Open sessions; more are answered with 421.
    pub sessions: usize,
    /// Open sessions of one client address; 0: no limit.
    pub sessions_per_client: usize,
    /// Size of a message, headers included; 0: the server decides.
    pub message_size: ByteCount,
    /// Recipients of one message. RFC 5321 section 4.5.3.1.8 asks for at least 100.
    pub recipients: usize,
    /// Length of a command line.
    pub command_line: ByteCount,
    /// Errors of a client after which replies are delayed by `error-delay`.
    pub soft_errors: u32,
    /// Errors of a client after which the session ends with 421.
    pub hard_errors: u32,
    /// The delay of a reply after `soft-errors` errors.
    pub error_delay: Span,
    /// Commands answered after the gateway has taken a session over.
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
    /// Until the server's greeting is complete.
    pub greeting: Span,
    /// Until the client's next command line is complete.
    pub command: Span,
    /// Until the server's reply to a command is complete.
    pub reply: Span,
    /// Between two reads or writes of a message's text.
    pub data_block: Span,
    /// Until all scanners have answered, counted from the end of the message.
    pub scan: Span,
    /// Until the server's reply to the end of data.
    pub end_of_data: Span,
    /// Without a byte in either direction in the splice lane.
    pub idle: Span,
    /// Of a session that the gateway has taken over, in all.
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
    /// Folder for copies larger than `memory`; must belong to the gateway's user and to nobody else.
    pub directory: PathBuf,
    /// Size up to which a copy stays in memory.
    pub memory: ByteCount,
    /// When the copy is kept for the operator; otherwise it is always removed.
    pub leave_on: Vec<LeaveOn>,
    /// Free space below which new messages are answered with 452.
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
    /// The virus scanner clamd; absent: messages are not scanned.
    pub clamd: Option<Clamd>,
}

/// The virus scanner clamd.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Clamd {
    /// Where clamd listens: `unix:/run/clamav/clamd.ctl` or `tcp:127.0.0.1:3310`.
    pub address: ScannerAddress,
    /// Size of the largest message that is scanned; at most clamd's own `StreamMaxLength`.
    #[serde(default = "Clamd::default_max_size")]
    pub max_size: ByteCount,
    /// What happens to a larger message.
    #[serde(default = "Clamd::default_on_too_large")]
    pub on_too_large: OnFailure,
    /// What happens to a message that clamd could not scan.
    #[serde(default = "Clamd::default_on_failure")]
    pub on_failure: OnFailure,
    /// Scans at the same time; at most clamd's own `MaxThreads`.
    #[serde(default = "Clamd::default_concurrency")]
    pub concurrency: usize,
    /// How often clamd's health is checked.
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
    /// Path of the socket; empty: no control socket.
    pub socket: PathBuf,
    /// Group whose members may read the status; changing things is left to root and the gateway's user.
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
    /// Where to.
    pub target: LogTarget,
    /// How a record is written.
    pub format: LogFormat,
    /// Least severe level that is written.
    pub level: LogLevel,
    /// Mail addresses in records.
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

/// Mail addresses in records.
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
