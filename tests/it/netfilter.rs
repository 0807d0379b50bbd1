//! `origin: netfilter`: a REDIRECT of the operator's own brings the flows.

use std::process::Stdio;

use gateway_tests::clamd::Clamd;
use gateway_tests::client::Client;
use gateway_tests::gateway::{Gateway, Settings};
use gateway_tests::lab::{Family, LAN, Lab};
use gateway_tests::message;
use gateway_tests::process;
use gateway_tests::recorder::{Manners, Recorder};

fn settings() -> Settings {
    Settings {
        origin: "netfilter\nlisten: ['0.0.0.0:10025', '[::]:10025']",
        source_address: "auto",
        ..Settings::default()
    }
}

/// Redirects what comes in from clients for port 25 to the gateway's listeners.
fn redirect(lab: &Lab) -> anyhow::Result<()> {
    let rules = format!(
        "add table inet gateway; \
         add chain inet gateway prerouting {{ type nat hook prerouting priority dstnat; }}; \
         add rule inet gateway prerouting iifname {LAN} tcp dport 25 redirect to :10025"
    );
    process::done(lab.router().command("nft").arg(rules).stdin(Stdio::null()))?;
    Ok(())
}

#[test]
fn redirected_flows_go_to_their_original_destination_and_are_scanned() -> anyhow::Result<()> {
    for family in [Family::V4, Family::V6] {
        let lab = Lab::new()?;
        let clamd = Clamd::start(&lab)?;
        let server = Recorder::start(lab.server(), family.smtp(), Manners::default())?;
        let _gateway = Gateway::start(&lab, &Settings { clamd: Some(clamd.address()), ..settings() })?;
        redirect(&lab)?;
        for (octets, code) in [(message::infected("virus"), 550), (message::clean("clean"), 250)] {
            let mut client = Client::up_to_data(lab.client(), family.smtp())?;
            client.send(&octets)?;
            client.send(message::END)?;
            client.expect(code)?;
        }
        assert_eq!(server.messages().len(), 1);
        // Answers to the client's address would not come back here, so `auto` does not show it.
        for connection in server.connections() {
            assert_eq!(connection.peer, family.router());
        }
    }
    Ok(())
}

#[test]
fn the_gateways_own_connections_that_a_rule_sends_back_make_no_loop() -> anyhow::Result<()> {
    let fixed = "fixed\nlisten: ['0.0.0.0:10025', '[::]:10025']\nfixed-server: 198.51.100.2:25";
    let at_listener = std::net::SocketAddr::new(Family::V4.router(), 10025);
    for (origin, server) in [(settings().origin, Family::V4.smtp()), (fixed, at_listener)] {
        let lab = Lab::new()?;
        let recorder = Recorder::start(lab.server(), Family::V4.smtp(), Manners::default())?;
        let gateway = Gateway::start(&lab, &Settings { origin, ..settings() })?;
        redirect(&lab)?;
        let own = "add chain inet gateway output { type nat hook output priority -100; }; \
                   add rule inet gateway output tcp dport 25 redirect to :10025";
        process::done(lab.router().command("nft").arg(own).stdin(Stdio::null()))?;
        let mut client = Client::connect(lab.client(), server)?;
        client.expect(421)?;
        gateway.wait_for_log("came back to it")?;
        assert_eq!(recorder.count(), 0);
    }
    Ok(())
}

#[test]
fn a_flow_that_nobody_redirected_is_closed_and_makes_no_loop() -> anyhow::Result<()> {
    let lab = Lab::new()?;
    let gateway = Gateway::start(&lab, &settings())?;
    let address = std::net::SocketAddr::new(Family::V4.router(), 10025);
    let mut client = Client::connect(lab.client(), address)?;
    assert_eq!(client.rest(std::time::Duration::from_secs(10))?, b"");
    gateway.wait_for_log("destination")?;
    Ok(())
}
