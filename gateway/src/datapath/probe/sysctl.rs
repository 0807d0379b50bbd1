//! Kernel settings (`sysctl(8)`) that decide whether steered flows get through.

use std::fs;

use super::Finding;
use crate::config::file::Config;

/// Reads a setting by its path below `/proc/sys`.
#[must_use]
pub fn read(name: &str) -> Option<String> {
    fs::read_to_string(format!("/proc/sys/{name}")).ok().map(|text| text.trim().to_owned())
}

/// Looks at the settings that matter for `config` on a machine with these interfaces; `value`
/// gives a setting's value, `None` where this kernel has no such setting.
pub fn examine(config: &Config, interfaces: &[&str], value: &dyn Fn(&str) -> Option<String>) -> Vec<Finding> {
    let is = |name: &str, wanted: &str| value(name).is_none_or(|found| found == wanted);
    let mut findings = Vec::new();
    let (v4, v6) = (config.listen.iter().any(|a| a.is_ipv4()), config.listen.iter().any(|a| a.is_ipv6()));

    let forwarding = [(v4, "net/ipv4/ip_forward"), (v6, "net/ipv6/conf/all/forwarding")];
    for (_, name) in forwarding.into_iter().filter(|(used, name)| *used && !is(name, "1")) {
        let advice =
            format!("flows that pass the gateway by need it on a router: run `sysctl -w {}=1`", dotted(name));
        findings.push(Finding::look(format!("{} is off", dotted(name)), advice));
    }
    if v6 && !is("net/ipv6/conf/lo/disable_ipv6", "0") {
        let advice =
            "run `sysctl -w net.ipv6.conf.lo.disable_ipv6=0`, or leave the IPv6 address out of `listen`";
        findings.push(Finding::missing("IPv6 is off on `lo`", advice));
    }
    if v4 {
        findings.extend(martians(interfaces, value));
    }
    if !is("net/core/bpf_jit_enable", "1") {
        let advice =
            "eBPF programs are interpreted, which is slow: run `sysctl -w net.core.bpf_jit_enable=1`";
        findings.push(Finding::look("net.core.bpf_jit_enable is off", advice));
    }
    if is("kernel/unprivileged_bpf_disabled", "0") && value("kernel/unprivileged_bpf_disabled").is_some() {
        let advice = "anybody may load eBPF programs: run `sysctl -w kernel.unprivileged_bpf_disabled=2`";
        findings.push(Finding::look("kernel.unprivileged_bpf_disabled is 0", advice));
    }
    if findings.is_empty() {
        findings.push(Finding::fine("kernel settings"));
    }
    findings
}

/// With `src_valid_mark`, the kernel looks for the way back to a steered packet's sender under the
/// packet's mark, finds our local route, and takes the sender for an impostor. It gets through
/// where local senders are accepted and the way back need not be the same interface (measured on
/// Linux 6.18; IPv6 has no such check).
fn martians(interfaces: &[&str], value: &dyn Fn(&str) -> Option<String>) -> Vec<Finding> {
    let number = |interface: &str, key: &str| -> u8 {
        let of = |interface: &str| value(&format!("net/ipv4/conf/{interface}/{key}"))?.parse().ok();
        of("all").unwrap_or(0).max(of(interface).unwrap_or(0))
    };
    let dropped = |interface: &&&str| {
        number(interface, "src_valid_mark") != 0
            && (number(interface, "accept_local") == 0 || number(interface, "rp_filter") == 1)
    };
    let finding = |interface: &&str| {
        let advice = format!(
            "the kernel drops steered IPv4 packets as martians: run `sysctl -w net.ipv4.conf.{interface}.src_valid_mark=0` \
             (and the same for `all`), or set accept_local=1 and rp_filter=2 there"
        );
        Finding::missing(format!("net.ipv4.conf.{interface}.src_valid_mark is on"), advice)
    };
    interfaces.iter().filter(dropped).map(finding).collect()
}

fn dotted(name: &str) -> String {
    name.replace('/', ".")
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::super::State;
    use super::*;

    fn states(settings: &[(&str, &str)]) -> Vec<(State, String)> {
        let settings: HashMap<&str, &str> = settings.iter().copied().collect();
        let value = |name: &str| settings.get(name).map(|value| (*value).to_owned());
        let findings = examine(&Config::default(), &["lan0"], &value);
        findings.into_iter().map(|finding| (finding.state, finding.what)).collect()
    }

    #[test]
    fn a_router_as_it_should_be_has_nothing_to_tell() {
        let good = [
            ("net/ipv4/ip_forward", "1"),
            ("net/ipv6/conf/all/forwarding", "1"),
            ("net/ipv6/conf/lo/disable_ipv6", "0"),
            ("net/ipv4/conf/all/rp_filter", "1"),
            ("net/ipv4/conf/lan0/rp_filter", "1"),
            ("net/ipv4/conf/all/src_valid_mark", "0"),
            ("net/core/bpf_jit_enable", "1"),
            ("kernel/unprivileged_bpf_disabled", "2"),
        ];
        assert_eq!(states(&good), [(State::Fine, "kernel settings".to_owned())]);
        // A kernel without a setting has nothing wrong with it.
        assert_eq!(states(&[]), [(State::Fine, "kernel settings".to_owned())]);
    }

    #[test]
    fn what_is_off_is_told_but_keeps_nobody_from_starting() {
        let off = [
            ("net/ipv4/ip_forward", "0"),
            ("net/core/bpf_jit_enable", "0"),
            ("kernel/unprivileged_bpf_disabled", "0"),
        ];
        let states = states(&off);
        assert_eq!(states.len(), 3);
        assert!(states.iter().all(|(state, _)| *state == State::Look));
    }

    #[test]
    fn marks_in_the_source_check_are_told_unless_local_senders_pass() {
        let mark = ("net/ipv4/conf/lan0/src_valid_mark", "1");
        let local = ("net/ipv4/conf/all/accept_local", "1");
        let strict = ("net/ipv4/conf/all/rp_filter", "1");
        let loose = ("net/ipv4/conf/lan0/rp_filter", "2");
        let missing = (State::Missing, "net.ipv4.conf.lan0.src_valid_mark is on".to_owned());
        assert_eq!(states(&[mark]), std::slice::from_ref(&missing));
        assert_eq!(states(&[mark, local, strict]), [missing]);
        assert_eq!(states(&[mark, local, strict, loose])[0].0, State::Fine);
    }

    #[test]
    fn a_loopback_without_ipv6_cannot_carry_an_ipv6_listener() {
        let states = states(&[("net/ipv6/conf/lo/disable_ipv6", "1")]);
        assert_eq!(states, [(State::Missing, "IPv6 is off on `lo`".to_owned())]);
    }
}
