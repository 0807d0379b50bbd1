//! How flows come to the gateway and leave it: `intercept`, `source-address`, `gateway-addresses`.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::config::condition::InterfacePattern;

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
