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
/// packet's mark, finds our local route and takes the sender for an impostor.
fn martians(interfaces: &[&str], value: &dyn Fn(&str) -> Option<String>) -> Vec<Finding> {
    let on = |interface: &str, key: &str| {
        value(&format!("net/ipv4/conf/{interface}/{key}")).is_some_and(|found| found != "0")
    };
    interfaces
        .iter()
        .filter(|interface| on("all", "src_valid_mark") || on(interface, "src_valid_mark"))
        .filter(|interface| !(on("all", "accept_local") || on(interface, "accept_local")))
        .map(|interface| {
            let advice = format!(
                "steered packets are dropped as martians: run `sysctl -w net.ipv4.conf.{interface}.accept_local=1`"
            );
            Finding::look(format!("net.ipv4.conf.{interface}.src_valid_mark is on"), advice)
        })
        .collect()
}

fn dotted(name: &str) -> String {
    name.replace('/', ".")
}
