//! Whose address the server sees.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::config::file::{GatewayAddresses, Origin, SourceAddress};
use crate::intercept::address::{ClientAddr, OriginalDst};

/// The address a connection to a server comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// The client's: a transparent socket.
    Client(IpAddr),
    /// This address of the gateway.
    Gateway(IpAddr),
    /// The one that the kernel chooses by route.
    Route,
}

/// The source that the operator wants for this flow.
///
/// A client's address can be shown only to a server of the same family. With `auto` it is shown
/// where it is routable and the kernel steers the answers back (`origin: assign`).
#[must_use]
pub fn choose(
    rule: SourceAddress,
    origin: Origin,
    own: &GatewayAddresses,
    client: ClientAddr,
    server: OriginalDst,
) -> Source {
    let same_family = client.ip().is_ipv4() == server.ip().is_ipv4();
    let preserve = match rule {
        SourceAddress::Preserve => same_family,
        SourceAddress::Gateway => false,
        SourceAddress::Auto => same_family && origin == Origin::Assign && is_routable(client.ip()),
    };
    if preserve {
        Source::Client(client.ip())
    } else {
        own.for_server(server.ip()).map_or(Source::Route, Source::Gateway)
    }
}

/// Whether an address is routable on the Internet, as far as its range says (RFC 6890).
fn is_routable(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => {
            let shared = u32::from(address) & 0xffc0_0000 == u32::from(Ipv4Addr::new(100, 64, 0, 0));
            !(address.is_private()
                || address.is_loopback()
                || address.is_link_local()
                || address.is_unspecified()
                || shared)
        }
        IpAddr::V6(address) => {
            !(address.is_unique_local()
                || address.is_unicast_link_local()
                || address.is_loopback()
                || address == Ipv6Addr::UNSPECIFIED)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn auto(client: &str, origin: Origin) -> Source {
        let client = ClientAddr::new(client.parse().unwrap());
        let server = if client.ip().is_ipv4() { "198.51.100.1:25" } else { "[2001:db8::25]:25" };
        let server = OriginalDst::new(server.parse().unwrap());
        choose(SourceAddress::Auto, origin, &GatewayAddresses::default(), client, server)
    }

    #[test]
    fn auto_hides_private_clients_and_shows_routable_ones() {
        for hidden in [
            "10.1.1.1:1",
            "172.16.0.1:1",
            "192.168.3.4:1",
            "100.64.0.1:1",
            "169.254.1.1:1",
            "[fd00::1]:1",
            "[fe80::1]:1",
        ] {
            assert_eq!(auto(hidden, Origin::Assign), Source::Route, "{hidden}");
        }
        assert_eq!(auto("192.0.2.1:1", Origin::Assign), Source::Client("192.0.2.1".parse().unwrap()));
        assert_eq!(auto("[2001:db8::1]:1", Origin::Assign), Source::Client("2001:db8::1".parse().unwrap()));
    }

    #[test]
    fn without_steering_answers_would_be_lost_so_auto_does_not_preserve() {
        assert_eq!(auto("192.0.2.1:1", Origin::Fixed), Source::Route);
        assert_eq!(auto("192.0.2.1:1", Origin::Netfilter), Source::Route);
    }

    #[test]
    fn a_client_of_another_family_cannot_be_shown() {
        let client = ClientAddr::new("192.0.2.1:1".parse().unwrap());
        let server = OriginalDst::new("[2001:db8::25]:25".parse().unwrap());
        let own = GatewayAddresses { ipv4: None, ipv6: Some("2001:db8::1".parse().unwrap()) };
        assert_eq!(
            choose(SourceAddress::Preserve, Origin::Fixed, &own, client, server),
            Source::Gateway("2001:db8::1".parse().unwrap())
        );
    }
}
