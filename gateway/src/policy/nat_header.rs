//! The header that names the client to the server (`nat-header`).

use std::fmt::Write as _;

use crate::config::file::{Config, NatHeaderKind, Origin};
use crate::intercept::flow::Flow;

/// The header for messages of `flow`, with its line ends; `gateway` is the gateway's name.
///
/// The lines are those of smtp-gated, so that what reads them goes on working.
#[must_use]
pub fn nat_header(config: &Config, flow: &Flow, gateway: &str) -> Option<String> {
    let header = &config.nat_header;
    let client = flow.client;
    match header.kind {
        NatHeaderKind::None => None,
        NatHeaderKind::IpOnly => Some(format!("{}: {}\r\n", header.name, client.ip())),
        NatHeaderKind::Generic => {
            let how = match config.origin {
                Origin::Assign => "TPROXY",
                Origin::Netfilter => "NETFILTER",
                Origin::Fixed => "FIXED",
                Origin::Proxy => "PROXY",
                Origin::RemoteUdp => "REMOTE-UDP",
                Origin::Remote => "REMOTE",
            };
            let ident = match &flow.identity {
                Some(identity) => format!("ident {identity}"),
                None => "ident-empty".to_owned(),
            };
            let mut text = format!(
                "{}: from [{}]:{} [{ident}]\r\n\tby {gateway} with {how} id {}\r\n",
                header.name,
                client.ip(),
                client.socket().port(),
                flow.id,
            );
            if !header.abuse.is_empty() {
                // Writing to a string cannot fail.
                write!(text, "\tabuse-to {}\r\n", header.abuse).unwrap_or_default();
            }
            Some(text)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock;
    use crate::intercept::address::{ClientAddr, OriginalDst};
    use crate::intercept::flow::SessionId;
    use crate::intercept::identity::Identity;

    fn flow(client: &str) -> Flow {
        let client = ClientAddr::new(client.parse().unwrap());
        let destination = OriginalDst::new("198.51.100.1:25".parse().unwrap());
        Flow::new(SessionId::next(clock::wall()), client, destination)
    }

    fn header(client: &str, kind: NatHeaderKind, abuse: &str) -> (Option<String>, SessionId) {
        let mut config = Config::default();
        config.nat_header.kind = kind;
        config.nat_header.abuse = abuse.to_owned();
        let flow = flow(client);
        (nat_header(&config, &flow, "gw.test"), flow.id)
    }

    #[test]
    fn each_kind_says_what_it_promises() {
        assert_eq!(header("192.0.2.1:1025", NatHeaderKind::None, "a@b").0, None);
        let (text, _) = header("[2001:db8::1]:1025", NatHeaderKind::IpOnly, "a@b");
        assert_eq!(text.as_deref(), Some("X-Nat-Received: 2001:db8::1\r\n"));
        let (text, id) = header("192.0.2.1:1025", NatHeaderKind::Generic, "a@b");
        let lines = format!(
            "X-Nat-Received: from [192.0.2.1]:1025 [ident-empty]\r\n\tby gw.test with TPROXY id {id}\r\n\
             \tabuse-to a@b\r\n"
        );
        assert_eq!(text, Some(lines));
    }

    #[test]
    fn an_identity_stands_in_the_place_that_smtp_gated_had_for_it() {
        let mut flow = flow("192.0.2.1:1025");
        flow.identity = Identity::new(b"10.0.0.7");
        let mut config = Config::default();
        config.nat_header.kind = NatHeaderKind::Generic;
        let text = nat_header(&config, &flow, "gw.test").unwrap();
        assert!(text.starts_with("X-Nat-Received: from [192.0.2.1]:1025 [ident 10.0.0.7]\r\n"), "{text}");
    }
}
