//! Whose address the server sees.

use gateway_tests::clamd::Clamd;
use gateway_tests::client::Client;
use gateway_tests::gateway::{Gateway, Settings};
use gateway_tests::lab::{Family, Lab};
use gateway_tests::message;
use gateway_tests::recorder::{Manners, Recorder};

/// Sends a virus and a clean message; returns whom the server saw.
fn peers(source_address: &'static str, family: Family) -> anyhow::Result<Vec<std::net::IpAddr>> {
    peers_in(&Lab::new()?, source_address, family)
}

fn peers_in(
    lab: &Lab,
    source_address: &'static str,
    family: Family,
) -> anyhow::Result<Vec<std::net::IpAddr>> {
    let clamd = Clamd::start(lab)?;
    let server = Recorder::start(lab.server(), family.smtp(), Manners::default())?;
    let _gateway = Gateway::start(lab, &Settings { source_address, ..Settings::scanning(clamd.address()) })?;
    for (octets, code) in [(message::infected("virus"), 550), (message::clean("clean"), 250)] {
        let mut client = Client::up_to_data(lab.client(), family.smtp())?;
        client.send(&octets)?;
        client.send(message::END)?;
        client.expect(code)?;
    }
    Ok(server.connections().into_iter().map(|connection| connection.peer).collect())
}

#[test]
fn with_preserve_the_server_sees_the_client() -> anyhow::Result<()> {
    for family in [Family::V4, Family::V6] {
        assert_eq!(peers("preserve", family)?, [family.client(); 2]);
    }
    Ok(())
}

#[test]
fn with_gateway_the_server_sees_the_gateway() -> anyhow::Result<()> {
    for family in [Family::V4, Family::V6] {
        assert_eq!(peers("gateway", family)?, [family.router(); 2]);
    }
    Ok(())
}

#[test]
fn with_auto_routable_clients_are_shown_and_private_ones_are_not() -> anyhow::Result<()> {
    let family = Family::V4;
    assert_eq!(peers("auto", family)?, [family.client(); 2]);
    let lab = Lab::new()?;
    lab.router().ip("addr add 10.99.0.1/24 dev lan0")?;
    lab.client().ip("addr add 10.99.0.2/24 dev eth0")?;
    lab.client().ip("route replace default via 10.99.0.1 src 10.99.0.2")?;
    assert_eq!(peers_in(&lab, "auto", family)?, [family.router(); 2]);
    Ok(())
}
