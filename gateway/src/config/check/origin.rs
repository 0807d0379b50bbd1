//! How the original destination is found: `origin`, and the keys that go with one of them.

use super::Findings;
use crate::config::file::{Config, Lookup, LookupFormat, Origin, Xclient};
use crate::config::units::Span;

/// A header that takes longer comes from no load balancer.
const LONGEST_HEADER: Span = Span::minutes(1);
/// Clients wait for all of them.
const MOST_TRIES: u32 = 10;
/// Octets of a secret that is not to be guessed.
const SHORTEST_SECRET: usize = 16;

pub(super) fn check(config: &Config, findings: &mut Findings<'_>) {
    fixed_server(config, findings);
    proxy_protocol(config, findings);
    xclient(config, findings);
    lookup(config, findings);
    helper(config, findings);
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
        Origin::Assign | Origin::Netfilter | Origin::RemoteUdp | Origin::Remote => {
            if !section.trusted.is_empty() {
                let message = "`proxy-protocol` is used with `origin: proxy` and `origin: fixed` only";
                findings.warn(&[key, "origin"], message);
            }
        }
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

fn xclient(config: &Config, findings: &mut Findings<'_>) {
    let own = matches!(config.origin, Origin::Fixed | Origin::Proxy);
    if config.inspect.xclient != Xclient::Off && !own {
        findings.warn(
            &["inspect.xclient", "origin"],
            "`xclient` is used with `origin: fixed` and `origin: proxy` only: servers of others do not believe it",
        );
    }
}

fn lookup(config: &Config, findings: &mut Findings<'_>) {
    let lookup = &config.lookup;
    let asks = matches!(config.origin, Origin::RemoteUdp | Origin::Remote);
    if !asks && config.helper.listen.is_empty() {
        if *lookup != Lookup::default() {
            findings.warn(
                &["lookup", "origin"],
                "`lookup` is used with `origin: remote-udp`, `origin: remote` and by `gateway helper` only",
            );
        }
        return;
    }
    if config.origin != Origin::Remote {
        secret(config, findings);
    }
    let sealed = config.origin == Origin::RemoteUdp && lookup.format == LookupFormat::Sealed;
    if asks && !sealed && lookup.server.is_none() {
        believed(config, findings);
    }
    if lookup.port == 0 {
        findings.error(&["lookup.port"], "port 0 does not exist; write for example `114`");
    }
    if lookup.tries == 0 || lookup.tries > MOST_TRIES {
        findings.error(&["lookup.tries"], format!("write a number from 1 to {MOST_TRIES}"));
    }
    if lookup.deadline == Span::seconds(0) || lookup.deadline > LONGEST_HEADER {
        findings.error(
            &["lookup.deadline"],
            format!("`{}` is no time for an answer; write for example `3s`", lookup.deadline),
        );
    }
}

/// Who may be asked where answers are not sealed.
fn believed(config: &Config, findings: &mut Findings<'_>) {
    let routers = &config.lookup.routers;
    let key = "lookup.routers";
    if routers.is_empty() {
        findings.error(
            &[key, "lookup", "origin"],
            "answers are not sealed: any client could name any server; write the address of your router, for example \
             `lookup: { server: 192.0.2.1 }`, or those that may be asked, `routers: [192.0.2.0/24]`",
        );
    } else if let Some(all) = routers.iter().position(|network| network.0.prefix_len() == 0) {
        findings.warn(
            &[&format!("{key}.{all}"), key],
            "answers are not sealed: any client can name any server; name your routers only",
        );
    }
}

fn secret(config: &Config, findings: &mut Findings<'_>) {
    let keys = ["lookup.secret", "lookup", "origin", "helper"];
    match config.lookup.format {
        LookupFormat::Sealed if config.lookup.secret().len() < SHORTEST_SECRET => findings.error(
            &keys,
            format!(
                "a seal needs a secret of {SHORTEST_SECRET} characters or more, the same on both machines; make one \
                 with `openssl rand -base64 32`"
            ),
        ),
        LookupFormat::SmtpGated if config.lookup.number().is_none() => findings.error(
            &keys,
            "with `format: smtp-gated` the secret is a number of 32 bits; write for example `\"0x1a2b3c4d\"`",
        ),
        LookupFormat::Sealed | LookupFormat::SmtpGated => {}
    }
}

fn helper(config: &Config, findings: &mut Findings<'_>) {
    let helper = &config.helper;
    for (index, address) in helper.listen.iter().enumerate() {
        if address.port() == 0 || address.ip().is_unspecified() {
            findings.error(
                &[&format!("helper.listen.{index}"), "helper.listen"],
                format!("`{address}` is not one address and port; write for example `192.0.2.1:114`"),
            );
        }
    }
    if !helper.listen.is_empty() && helper.allow.is_empty() {
        findings.error(
            &["helper.allow", "helper"],
            "nobody may ask; write the address of the gateway, for example `allow: [192.0.2.20]`",
        );
    }
    if helper.ident && helper.allow.iter().any(|net| net.0.prefix_len() == 0) {
        findings.warn(
            &["helper.allow"],
            "anybody may ask over TCP, which nothing protects; write the addresses of your gateways",
        );
    }
}
