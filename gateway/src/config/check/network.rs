//! Addresses, ports, packet marks: `listen`, `intercept`, `source-address`.

use std::net::{IpAddr, SocketAddr};

use super::Findings;
use crate::config::file::{Config, Origin, Routing, SourceAddress};

/// Port on which TLS begins at once (RFC 8314 section 3.3).
const SUBMISSIONS: u16 = 465;

/// Priorities of `ip rule` that the kernel's own rules for `main` and `default` begin with
/// (ip-rule(8)); a rule at or behind them is never asked.
const FIRST_KERNEL_RULE: u32 = 32_766;

/// Largest table of recent flows; some 2 GiB of kernel memory.
const LARGEST_FLOW_TABLE: u32 = 1 << 24;

pub(super) fn check(config: &Config, findings: &mut Findings<'_>) {
    listen(config, findings);
    intercept(config, findings);
    routing(&config.intercept.routing, findings);
    source_address(config, findings);
}

fn listen(config: &Config, findings: &mut Findings<'_>) {
    if config.listen.is_empty() {
        findings.error(&["listen"], "no address to listen on; write for example `listen: [127.0.0.1:10025]`");
    }
    for (index, addr) in config.listen.iter().enumerate() {
        let key = format!("listen.{index}");
        let keys = [key.as_str(), "listen"];
        if addr.port() == 0 {
            findings.error(
                &keys,
                format!("`{addr}` has no port; write for example `{}`", with_port(*addr, 10025)),
            );
        }
        if config.listen.iter().take(index).any(|earlier| earlier.is_ipv4() == addr.is_ipv4()) {
            let family = if addr.is_ipv4() { "IPv4" } else { "IPv6" };
            findings
                .error(&keys, format!("`{addr}` is the second {family} address; give one for each family"));
        }
        match config.origin {
            Origin::Assign if !addr.ip().is_loopback() => findings.error(
                &keys,
                format!(
                    "with `origin: assign` the kernel hands flows to a loopback address; write `{}`",
                    with_port(*addr, addr.port().max(1))
                ),
            ),
            Origin::Netfilter if addr.ip().is_loopback() => findings.warn(
                &keys,
                format!(
                    "a REDIRECT rule sends flows to the address of the interface they came in on, not to `{addr}`; \
                     write `{}:{}` unless your rule is a DNAT",
                    if addr.is_ipv4() { "0.0.0.0" } else { "[::]" },
                    addr.port()
                ),
            ),
            Origin::Assign
            | Origin::Netfilter
            | Origin::Fixed
            | Origin::Proxy
            | Origin::RemoteUdp
            | Origin::Remote => {}
        }
    }
}

/// The loopback address of `addr`'s family.
fn with_port(addr: SocketAddr, port: u16) -> String {
    if addr.is_ipv4() { format!("127.0.0.1:{port}") } else { format!("[::1]:{port}") }
}

fn intercept(config: &Config, findings: &mut Findings<'_>) {
    let intercept = &config.intercept;
    let assign = config.origin == Origin::Assign;
    if assign && intercept.interfaces.is_empty() && config.helper.listen.is_empty() {
        findings.warn(
            &["intercept.interfaces", "intercept", "origin"],
            "no interface: nothing will be intercepted; write for example `intercept: { interfaces: [eth0] }`",
        );
    }
    for key in ["intercept.interfaces", "intercept.return-interfaces", "intercept.ports"] {
        if !assign && findings.is_written(key) {
            let name = key.trim_start_matches("intercept.");
            findings.warn(&[key, "origin"], format!("`{name}` is used with `origin: assign` only"));
        }
    }
    if intercept.ports.is_empty() {
        findings.error(&["intercept.ports"], "no port; write for example `ports: [25]`");
    }
    for (index, port) in intercept.ports.iter().enumerate() {
        let key = format!("intercept.ports.{index}");
        if *port == 0 {
            findings.error(&[&key], "port 0 does not exist; write for example `25`");
        } else if intercept.ports.iter().take(index).any(|earlier| earlier == port) {
            findings.warn(&[&key], format!("port {port} is given twice"));
        } else if *port == SUBMISSIONS && assign {
            findings.warn(
                &[&key],
                "on port 465 TLS begins at once (RFC 8314 section 3.3): there is nothing the gateway can inspect",
            );
        }
    }
    if !(1..=LARGEST_FLOW_TABLE).contains(&intercept.flow_table_size) {
        findings.error(
            &["intercept.flow-table-size"],
            format!("`flow-table-size` is out of range; write a number from 1 to {LARGEST_FLOW_TABLE}"),
        );
    }
}

fn routing(routing: &Routing, findings: &mut Findings<'_>) {
    let Routing { mark, own_mark, mask, table, priority } = *routing;
    if mask == 0 {
        findings.error(
            &["intercept.routing.mask"],
            "a mask without bits marks nothing; write for example `0xff00`",
        );
    } else {
        for (name, value) in [("mark", mark), ("own-mark", own_mark)] {
            let key = format!("intercept.routing.{name}");
            if value & !mask != 0 {
                findings.error(
                    &[&key, "intercept.routing.mask"],
                    format!("`{name}` {value:#x} has bits outside of `mask` {mask:#x}"),
                );
            } else if value == 0 {
                findings.error(
                    &[&key],
                    format!("`{name}` 0 is the mark of every other packet; give it a bit of `mask`"),
                );
            }
        }
        if mark == own_mark {
            findings.error(
                &["intercept.routing.own-mark", "intercept.routing.mark"],
                format!(
                    "`mark` and `own-mark` are both {mark:#x}; the gateway's own connections need another one"
                ),
            );
        }
    }
    // ip-route(8): 255 local, 254 main, 253 default, 0 unspecified.
    if matches!(table, 0 | 253..=255) {
        findings.error(
            &["intercept.routing.table"],
            format!("routing table {table} is the kernel's own; write for example `2525`"),
        );
    }
    if priority == 0 || priority >= FIRST_KERNEL_RULE {
        findings.error(
            &["intercept.routing.priority"],
            format!(
                "priority {priority} is not before the rule for table `main`; write 1 to {}",
                FIRST_KERNEL_RULE - 1
            ),
        );
    }
}

fn source_address(config: &Config, findings: &mut Findings<'_>) {
    if config.source_address == SourceAddress::Preserve && config.origin != Origin::Assign {
        findings.warn(
            &["source-address", "origin"],
            "to use the client's address the gateway must be started as root, and your own routing must bring \
             the server's answers back through this machine; write `gateway` if it does not",
        );
    }
    let addresses = &config.gateway_addresses;
    for (family, addr) in [("ipv4", addresses.ipv4.map(IpAddr::V4)), ("ipv6", addresses.ipv6.map(IpAddr::V6))]
    {
        let key = format!("gateway-addresses.{family}");
        match addr {
            Some(addr) if addr.is_unspecified() || addr.is_multicast() => findings.error(
                &[&key],
                format!("`{addr}` cannot be a source address; leave `{family}` out for the kernel's choice"),
            ),
            Some(_) if config.source_address == SourceAddress::Preserve => findings.warn(
                &[&key, "source-address"],
                format!("`{family}` is not used with `source-address: preserve`"),
            ),
            Some(_) | None => {}
        }
    }
}
