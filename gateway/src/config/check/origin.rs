//! How the original destination is found: `origin`, and the keys that go with one of them.

use super::Findings;
use crate::config::file::{Config, Origin};
use crate::config::units::Span;

/// A header that takes longer comes from no load balancer.
const LONGEST_HEADER: Span = Span::minutes(1);

pub(super) fn check(config: &Config, findings: &mut Findings<'_>) {
    fixed_server(config, findings);
    proxy_protocol(config, findings);
}

fn fixed_server(config: &Config, findings: &mut Findings<'_>) {
    match config.fixed_server {
        None if config.origin == Origin::Fixed => findings.error(
            &["origin", "fixed-server"],
            "`origin: fixed` needs the server; write for example `fixed-server: 192.0.2.25:25`",
        ),
        Some(_) if !matches!(config.origin, Origin::Fixed | Origin::Proxy) => {
            findings.warn(&["fixed-server", "origin"], "`fixed-server` is used with `origin: fixed` only");
        }
        Some(server) if server.port() == 0 || server.ip().is_unspecified() => findings.error(
            &["fixed-server"],
            format!("`{server}` cannot be connected to; write for example `192.0.2.25:25`"),
        ),
        Some(server) if config.listen.contains(&server) => findings.error(
            &["fixed-server", "listen"],
            format!("`{server}` is the gateway's own listener; it would connect to itself"),
        ),
        Some(_) | None => {}
    }
}

fn proxy_protocol(config: &Config, findings: &mut Findings<'_>) {
    let section = &config.proxy_protocol;
    let key = "proxy-protocol.trusted";
    match config.origin {
        Origin::Proxy if section.trusted.is_empty() => findings.error(
            &[key, "proxy-protocol", "origin"],
            "`origin: proxy` needs the addresses of the load balancers; write for example \
             `proxy-protocol: { trusted: [192.0.2.10] }`",
        ),
        Origin::Proxy | Origin::Fixed => {}
        Origin::Assign | Origin::Netfilter if !section.trusted.is_empty() => findings
            .warn(&[key, "origin"], "`proxy-protocol` is used with `origin: proxy` and `origin: fixed` only"),
        Origin::Assign | Origin::Netfilter => {}
    }
    if let Some(all) = section.trusted.iter().position(|network| network.0.prefix_len() == 0) {
        findings.error(
            &[&format!("{key}.{all}"), key],
            "everybody could say who he is and where he wants to go; name the load balancers only",
        );
    }
    if section.deadline == Span::seconds(0) || section.deadline > LONGEST_HEADER {
        findings.error(
            &["proxy-protocol.deadline"],
            format!("`{}` is no time for one packet; write for example `5s`", section.deadline),
        );
    }
}
