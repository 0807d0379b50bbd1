//! What else works on a router beside the kernel program.

use std::net::{SocketAddr, TcpStream};

use gateway::datapath::attach::Role;
use gateway_tests::lab;
use gateway_tests::netns::Netns;
use gateway_tests::process;

use crate::router::{
    FAMILIES, OWN_MARK, PATIENCE, carry, client, connect, listen_on_server, on_router, settings, transparent,
};

/// What a router with address translation mostly has: a stateful firewall that takes nothing
/// invalid, and translation of whatever leaves towards the servers, but for the gateway's own.
pub(crate) const FIREWALL: &str = "
table inet lab {
    chain prerouting { type filter hook prerouting priority -150; ct state invalid drop; }
    chain input { type filter hook input priority 0; policy drop;
        iifname lo accept
        ct state established,related accept
        meta mark & 0xff00 == 0x2500 accept
        meta l4proto ipv6-icmp accept
    }
    chain forward { type filter hook forward priority 0; policy drop;
        ct state established,related accept
        iifname lan0 accept
    }
    chain postrouting { type nat hook postrouting priority 100;
        meta mark & 0xff00 == 0x2600 return
        oifname wan0 masquerade
    }
}";

#[test]
fn connection_tracking_and_address_translation_do_not_get_in_the_way() -> anyhow::Result<()> {
    on_router(&settings(), |router| {
        let rules = router.lab.directory().join("rules.nft");
        std::fs::write(&rules, FIREWALL)?;
        process::done(router.lab.router().command("nft").arg("-f").arg(&rules))?;
        for family in FAMILIES {
            let server = listen_on_server(router.lab, family)?;
            let client_end = connect(router.lab.client(), client(family), family.smtp())?;
            let (accepted, peer) = router.accept(family)?;
            carry(&client_end, &accepted, &[1; 500_000])?;
            carry(&accepted, &client_end, &[2; 500_000])?;
            for own in [peer.ip(), SocketAddr::from(([0; 4], 0)).ip()] {
                let upstream = transparent(family.client())?;
                upstream.set_mark(OWN_MARK)?;
                if own == peer.ip() {
                    upstream.bind(&SocketAddr::new(own, 0).into())?;
                }
                upstream.connect_timeout(&family.smtp().into(), PATIENCE)?;
                let (served, seen) = server.accept()?;
                assert_eq!(seen.ip(), if own == peer.ip() { family.client() } else { family.router() });
                let upstream: TcpStream = upstream.into();
                carry(&upstream, &served, &[3; 500_000])?;
                carry(&served, &upstream, &[4; 500_000])?;
            }
        }
        Ok(())
    })
}

#[test]
fn a_syn_of_the_gateway_that_comes_back_is_forwarded_not_intercepted() -> anyhow::Result<()> {
    on_router(&settings(), |mut router| {
        // A firewall beside the router, through which the gateway's own connections go and come
        // back on an interface for clients.
        let firewall = Netns::create(&format!("gwfw-{}", std::process::id()))?;
        let lan = router.lab.router();
        firewall.sysctl("ipv4/conf/all/forwarding", "1")?;
        for (interface, net) in [("out0", "10.1.0"), ("back0", "10.2.0")] {
            let peer = firewall.name();
            lan.ip(&format!("link add {interface} type veth peer name {interface} netns {peer}"))?;
            for (netns, number) in [(lan, 1), (&firewall, 2)] {
                netns.sysctl(&format!("ipv4/conf/{interface}/rp_filter"), "0")?;
                netns.ip(&format!("link set {interface} up"))?;
                netns.ip(&format!("address add {net}.{number}/24 dev {interface}"))?;
            }
        }
        for netns in [lan, &firewall] {
            netns.sysctl("ipv4/conf/all/rp_filter", "0")?;
        }
        firewall.ip("route add default via 10.2.0.1")?;
        lan.ip("rule add priority 1026 fwmark 0x2600/0xff00 lookup 100")?;
        lan.ip("route add default via 10.1.0.2 table 100")?;
        router.kernel.attach("back0", Role { client: true, bridge_mac: None })?;

        let family = lab::Family::V4;
        let server = listen_on_server(router.lab, family)?;
        let upstream = transparent(family.client())?;
        upstream.set_mark(OWN_MARK)?;
        upstream.bind(&client(family).into())?;
        upstream.connect_timeout(&family.smtp().into(), PATIENCE)?;
        let (served, seen) = server.accept()?;
        assert_eq!(seen.ip(), family.client());
        let upstream: TcpStream = upstream.into();
        carry(&upstream, &served, &[5; 100_000])?;
        carry(&served, &upstream, &[6; 100_000])?;
        assert_eq!((router.count("own_returned")?, router.count("opened")?), (1, 0));
        Ok(())
    })
}
