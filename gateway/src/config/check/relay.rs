//! The relay lane: `relay`, and the lane rules that lead there.

use super::Findings;
use crate::config::file::{AuthRequire, Config, Lane, LaneRule, RelayTarget};
use crate::delivery::next_hop::NextHop;

pub(super) fn check(config: &Config, findings: &mut Findings<'_>) {
    for (index, rule) in config.lanes.iter().enumerate() {
        lane(config, index, rule, findings);
    }
    let relays = config.lanes.iter().any(|rule| rule.lane == Lane::Relay);
    if relays && config.auth.require == AuthRequire::Mandatory {
        let message =
            "the relay lane offers no AUTH, so that nobody could send mail there with `require: mandatory`";
        findings.error(&["auth.require"], message);
    }
    let relay = &config.relay;
    if relay.hopcount_limit == 0 || relay.own_hopcount_limit == 0 {
        let key = if relay.hopcount_limit == 0 { "relay.hopcount-limit" } else { "relay.own-hopcount-limit" };
        findings.error(&[key], "0 would refuse every message that was handed on; write for example `50`");
    }
    // RFC 5322 section 2.2: printable ASCII but the colon.
    let header = &relay.scan_header;
    if header.len() > 76 || header.bytes().any(|octet| !octet.is_ascii_graphic() || octet == b':') {
        let message =
            "is not the name of a header field; write for example `X-Gateway-Scan`, without a colon";
        findings.error(&["relay.scan-header"], message);
    }
    let host = &relay.relay_host;
    if host.chars().any(|c| !c.is_ascii_graphic()) {
        let message = format!("`{host}` is no destination; write for example `[mx.example.net]:587`");
        findings.error(&["relay.relay-host"], message);
    } else if !host.is_empty()
        && let Err(error) = NextHop::parse(host)
    {
        findings.error(&["relay.relay-host"], error.to_string());
    }
    if relay.tls.required && relay.tls.certificates.is_empty() {
        let message = "without a certificate there is no STARTTLS, and nobody could send mail; name one in \
                       `relay.tls.certificates`";
        findings.error(&["relay.tls.required"], message);
    }
    for (index, certificate) in relay.tls.certificates.iter().enumerate() {
        for (name, path) in [("chain", &certificate.chain), ("key", &certificate.key)] {
            if !path.is_absolute() {
                let message = format!("`{}` does not begin with `/`; write a whole path", path.display());
                findings.error(&[&format!("relay.tls.certificates.{index}.{name}")], message);
            }
        }
    }
}

fn lane(config: &Config, index: usize, rule: &LaneRule, findings: &mut Findings<'_>) {
    let key = |name: &str| format!("lanes.{index}.{name}");
    if rule.lane != Lane::Relay {
        if rule.target.is_some() {
            let message = format!(
                "the lane `{}` leads to the server that the client chose; leave `target` out, or write `lane: relay`",
                rule.lane.name()
            );
            findings.error(&[&key("target")], message);
        }
        return;
    }
    if config.queue.directory.is_none() {
        let message = "mail is taken into a queue, and there is none; name a folder for it in `queue.directory`, \
                       for example `/var/spool/gateway/queue`";
        findings.error(&[&key("lane")], message);
    }
    let target = rule.target.unwrap_or_default();
    if target == RelayTarget::Original {
        return;
    }
    if target == RelayTarget::RelayHost && config.relay.relay_host.is_empty() {
        let message =
            "the relay host is not named; write for example `relay: { relay-host: '[mx.example.net]' }`";
        findings.error(&[&key("target")], message);
    }
    let everybody = rule.client.iter().any(|network| network.0.prefix_len() == 0);
    if (rule.client.is_empty() || everybody) && rule.interface.is_empty() {
        let message = "anybody could send mail to anybody here: an open relay; name your clients in `client` or \
                       `interface`, for example `client: [192.0.2.0/24]`";
        findings.error(&[&key("client"), &key("target")], message);
    }
}
