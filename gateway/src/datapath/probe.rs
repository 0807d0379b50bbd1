//! Whether this machine can run the gateway, and what to do where it cannot.
//!
//! Owns the list of what a configuration needs of kernel, rights, settings and files. Changes
//! nothing: the program is loaded and tested, and gone again before it was attached anywhere.

use std::collections::BTreeSet;
use std::fmt;
use std::io;
use std::net::UdpSocket;

use aya::maps::MapType;
use aya::programs::ProgramType;
use aya::sys::{BpfHelper, is_helper_supported, is_map_supported, is_program_supported};

use super::interfaces::{self, Link};
use super::object::{Kernel, Settings};
use super::pin::Pins;
use super::{chain, source, verified};
use serde::Serialize;

use crate::config::file::{Attach, Config, Origin};
use crate::privilege::{Account, capabilities, user};

mod folders;
pub mod sysctl;

/// First Linux with TCX links.
const TCX: (u32, u32) = (6, 6);
/// First Linux where `CAP_NET_RAW` suffices for `SO_MARK`, and maps need no capability to be used.
const OLDEST: (u32, u32) = (5, 19);

/// How bad a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum State {
    /// As it should be.
    Fine,
    /// The gateway runs, but not as it could, or not for all flows.
    Look,
    /// The gateway cannot run.
    Missing,
}

/// One thing that was looked at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// How bad it is.
    pub state: State,
    /// What was looked at and found.
    pub what: String,
    /// What to do about it; empty where nothing is to be done.
    pub advice: String,
}

impl Finding {
    fn fine(what: impl Into<String>) -> Self {
        Self { state: State::Fine, what: what.into(), advice: String::new() }
    }

    fn look(what: impl Into<String>, advice: impl Into<String>) -> Self {
        Self { state: State::Look, what: what.into(), advice: advice.into() }
    }

    fn missing(what: impl Into<String>, advice: impl Into<String>) -> Self {
        Self { state: State::Missing, what: what.into(), advice: advice.into() }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let word = match self.state {
            State::Fine => "ok",
            State::Look => "look",
            State::Missing => "missing",
        };
        write!(f, "{word:<8}{}", self.what)?;
        if self.advice.is_empty() { Ok(()) } else { write!(f, "\n{:<8}→ {}", "", self.advice) }
    }
}

/// Looks at everything `config` needs of this machine.
///
/// # Errors
///
/// When the list of interfaces cannot be had.
pub async fn examine(config: &Config) -> io::Result<Vec<Finding>> {
    let mut findings = vec![kernel_release(config)];
    findings.extend(rights(config));
    if config.origin == Origin::Assign {
        let (connection, netlink, _) = rtnetlink::new_connection()?;
        let connection = tokio::spawn(connection);
        let links = interfaces::list(&netlink).await?;
        connection.abort();
        if user::is_root() {
            findings.extend(features());
            findings.push(program(config));
            findings.push(pins());
        }
        findings.extend(interface_findings(&links, config));
        findings.extend(settings(&links, config));
    }
    findings.extend(account(config));
    findings.extend(folders::examine(config));
    findings.extend(source_addresses(config));
    Ok(findings)
}

/// The addresses that mail is to leave from.
fn source_addresses(config: &Config) -> Vec<Finding> {
    let pools = config.delivery.sources.iter();
    let addresses: BTreeSet<_> =
        pools.flat_map(|pool| pool.addresses.iter().map(|source| source.address)).collect();
    let missing = addresses.into_iter().filter(|address| UdpSocket::bind((*address, 0)).is_err());
    let advice =
        "mail goes from the other addresses of its pool, or waits; see `ip address` and `delivery.sources`";
    missing.map(|address| Finding::look(format!("{address} is no address of this machine"), advice)).collect()
}

/// Looks at the kernel's settings for the interfaces that are meant.
#[must_use]
pub fn settings(links: &[Link], config: &Config) -> Vec<Finding> {
    let answers = config.splice.engine.hands_off() || source::servers_answer_clients(config);
    let wanted = interfaces::wanted(links, &config.intercept, answers);
    let names: Vec<&str> = wanted.values().map(|(name, _)| name.as_str()).collect();
    sysctl::examine(config, &names, &sysctl::read)
}

/// Tries to make an eBPF map of a kind that the kernel gives to nobody without `CAP_BPF`, however
/// `kernel.unprivileged_bpf_disabled` is set.
#[must_use]
pub fn makes_maps() -> bool {
    matches!(is_map_supported(MapType::LpmTrie), Ok(true))
}

fn kernel_release(config: &Config) -> Finding {
    let release = nix::sys::utsname::uname().map(|name| name.release().to_string_lossy().into_owned());
    let release = release.unwrap_or_default();
    let what = format!("Linux {release}");
    let Some(version) = version(&release) else {
        return Finding::look(what, "this release has no number; Linux 5.19 or later is needed");
    };
    if config.origin != Origin::Assign {
        Finding::fine(what)
    } else if version < OLDEST {
        Finding::missing(what, "`origin: assign` needs Linux 5.19 or later")
    } else if config.intercept.attach == Attach::Tcx && version < TCX {
        Finding::missing(what, "`intercept.attach: tcx` needs Linux 6.6 or later; write `auto`")
    } else {
        Finding::fine(what)
    }
}

fn version(release: &str) -> Option<(u32, u32)> {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(str::parse);
    Some((numbers.next()?.ok()?, numbers.next()?.ok()?))
}

fn rights(config: &Config) -> Vec<Finding> {
    if user::is_root() {
        let missing = capabilities::missing().unwrap_or_default();
        let advice = "give it to the container or service that runs the gateway (`CapabilityBoundingSet`)";
        let lacking = |name| Finding::missing(format!("root without {name}"), advice);
        return match missing.is_empty() {
            true => vec![Finding::fine("run as root, with all it needs")],
            false => missing.into_iter().map(lacking).collect(),
        };
    }
    let mut findings = Vec::new();
    if config.origin == Origin::Assign {
        findings.push(Finding::missing(
            "not run as root",
            "`origin: assign` needs root: try `sudo gateway check`",
        ));
    }
    let first = sysctl::read("net/ipv4/ip_unprivileged_port_start").and_then(|text| text.parse().ok());
    let first: u16 = first.unwrap_or(1024);
    for address in config.listen.iter().filter(|address| address.port() < first && address.port() != 0) {
        let advice = format!("choose a port from {first} on in `listen`, or start the gateway as root");
        findings.push(Finding::missing(format!("port {} needs root", address.port()), advice));
    }
    findings
}

fn features() -> Vec<Finding> {
    let maps = [
        (MapType::Array, "array"),
        (MapType::PerCpuArray, "per-CPU array"),
        (MapType::Hash, "hash"),
        (MapType::LruHash, "LRU hash"),
        (MapType::LpmTrie, "LPM trie"),
        (MapType::SockMap, "sockmap"),
        (MapType::RingBuf, "ring buffer"),
    ];
    let helpers = [
        (BpfHelper::BPF_FUNC_skc_lookup_tcp, "bpf_skc_lookup_tcp"),
        (BpfHelper::BPF_FUNC_sk_assign, "bpf_sk_assign"),
        (BpfHelper::BPF_FUNC_sk_release, "bpf_sk_release"),
    ];
    let advice = "this kernel was built without it: CONFIG_BPF_SYSCALL, CONFIG_NET_CLS_BPF, CONFIG_INET and \
                  CONFIG_NET_SCH_INGRESS are needed, or a container hides it";
    let mut absent = Vec::new();
    for (kind, name) in maps {
        absent.extend(unsupported(is_map_supported(kind), format!("eBPF map kind {name}")));
    }
    absent.extend(unsupported(
        is_program_supported(ProgramType::SchedClassifier),
        "eBPF traffic-control programs".to_owned(),
    ));
    for (helper, name) in helpers {
        let supported = is_helper_supported(ProgramType::SchedClassifier, helper);
        absent.extend(unsupported(supported, format!("eBPF helper {name}")));
    }
    if absent.is_empty() {
        return vec![Finding::fine("eBPF maps, programs and helpers")];
    }
    absent.into_iter().map(|what| Finding::missing(what, advice)).collect()
}

/// What is absent, or cannot be found out.
fn unsupported<E: std::error::Error>(answer: Result<bool, E>, what: String) -> Option<String> {
    match answer {
        Ok(true) => None,
        Ok(false) => Some(format!("no {what}")),
        Err(error) => Some(format!("no {what}: {}", chain(&error))),
    }
}

/// Loads the program for real, and runs its self-test.
fn program(config: &Config) -> Finding {
    let tested = Kernel::load(&Settings::from(&config.intercept)).and_then(|mut kernel| {
        kernel.self_test()?;
        kernel.verified_instructions()
    });
    match tested {
        Ok(verified) => Finding::fine(format!(
            "the eBPF program loads and passes its self-test (instructions followed: {})",
            verified::shown(&verified)
        )),
        // The first line: what follows is the verifier's account of every instruction.
        Err(error) => Finding::missing(
            format!("the eBPF program: {}", chain(&error).lines().next().unwrap_or_default()),
            "without it, only `origin: netfilter` and `origin: fixed` work",
        ),
    }
}

/// Whether what the kernel carries outlives the gateway, and whether there is any.
fn pins() -> Finding {
    match Pins::find().and_then(|pins| pins.map(|pins| pins.carried()).transpose()) {
        Ok(Some(0)) => Finding::fine("a BPF file system at /sys/fs/bpf"),
        Ok(Some(flows)) => {
            Finding::fine(format!("a BPF file system at /sys/fs/bpf; flows that the kernel carries: {flows}"))
        }
        Ok(None) => Finding::look(
            "no BPF file system at /sys/fs/bpf",
            "sessions that the kernel carries end with the gateway, unless it may mount one; \
             run `mount -t bpf bpf /sys/fs/bpf`",
        ),
        Err(error) => Finding::look(
            format!("what is pinned at /sys/fs/bpf/gateway: {}", chain(&error)),
            "`gateway stop --drop-flows` removes it",
        ),
    }
}

fn interface_findings(links: &[Link], config: &Config) -> Vec<Finding> {
    let mut findings = Vec::new();
    if !links.iter().any(|link| link.loopback && link.up) {
        findings.push(Finding::missing("the interface `lo` is down", "run `ip link set lo up`"));
    }
    for pattern in interfaces::idle_patterns(links, &config.intercept) {
        let advice =
            "flows are intercepted as soon as one appears; for now, see `ip link` for those there are";
        findings.push(Finding::look(format!("no interface matches `{pattern}`"), advice));
    }
    let answers = source::servers_answer_clients(config);
    let wanted = interfaces::wanted(links, &config.intercept, answers);
    let names = |client| -> Vec<&str> {
        let of_kind = wanted.values().filter(|(_, role)| role.client == client);
        of_kind.map(|(name, _)| name.as_str()).collect()
    };
    let clients = names(true);
    if !clients.is_empty() {
        findings.push(Finding::fine(format!("clients behind {}", clients.join(", "))));
    }
    if answers {
        let others = names(false);
        if others.is_empty() {
            findings.push(Finding::look(
                "servers answer on no other interface than clients",
                "with client addresses preserved, `intercept.return-interfaces` must hold the way to the servers",
            ));
        } else {
            findings.push(Finding::fine(format!("servers behind {}", others.join(", "))));
        }
    }
    findings
}

fn account(config: &Config) -> Option<Finding> {
    if !user::is_root() {
        return None;
    }
    Some(match Account::find(&config.user) {
        Ok(account) => Finding::fine(format!("the account `{}`", account.name())),
        Err(error) => Finding::missing(chain(&error), "the proxy process never runs as root"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_release_is_a_version_whatever_a_distribution_appends() {
        assert_eq!(version("6.18.44-fc-v657"), Some((6, 18)));
        assert_eq!(version("5.15.0-91-generic"), Some((5, 15)));
        assert_eq!(version("6.1"), Some((6, 1)));
        assert_eq!(version("next"), None);
    }

    #[test]
    fn a_pattern_without_interface_is_told_with_what_it_means() {
        let config = Config::default();
        let mut config = config;
        config.intercept.interfaces = vec!["vnet*".to_owned().try_into().unwrap()];
        let links = [Link { index: 1, name: "lo".to_owned(), loopback: true, up: true, ..Link::default() }];
        let findings = interface_findings(&links, &config);
        assert!(findings.iter().any(|finding| finding.what == "no interface matches `vnet*`"));
        assert!(findings.iter().all(|finding| finding.state != State::Missing));
        let findings = interface_findings(&[], &config);
        assert!(findings.iter().any(|finding| finding.what.contains("`lo` is down")));
    }
}
