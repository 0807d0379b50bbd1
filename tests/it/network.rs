//! The lab itself, without a gateway: what is not true here is no news about the gateway.

use std::time::Duration;

use gateway_tests::client::Client;
use gateway_tests::lab::{Family, Lab};
use gateway_tests::postfix::Postfix;
use gateway_tests::recorder::{Manners, Recorder};
use gateway_tests::sink::Sink;
use gateway_tests::{message, wait};

#[test]
fn the_router_forwards_both_families_and_the_recorder_keeps_every_octet() -> anyhow::Result<()> {
    let lab = Lab::new()?;
    for family in [Family::V4, Family::V6] {
        let recorder = Recorder::start(lab.server(), family.smtp(), Manners::default())?;
        let mut client = Client::up_to_data(lab.client(), family.smtp())?;
        let sent = message::large("lab", 300_000, 1);
        client.send(&sent)?;
        client.send(message::END)?;
        client.expect(250)?;
        client.send(b"QUIT\r\n")?;
        client.expect(221)?;
        let connections = recorder.wait_closed(Duration::from_secs(5))?;
        assert_eq!(connections[0].peer, family.client());
        assert!(connections[0].messages == [sent]);
    }
    Ok(())
}

#[test]
fn smtp_sink_keeps_messages_and_postfix_shows_its_certificate() -> anyhow::Result<()> {
    let lab = Lab::new()?;
    for family in [Family::V4, Family::V6] {
        let sink = Sink::start(&lab, family)?;
        let mut client = Client::up_to_data(lab.client(), family.smtp())?;
        client.send(&message::clean("to the sink"))?;
        client.send(message::END)?;
        client.expect(250)?;
        let kept = sink.wait_for("Subject: to the sink")?;
        let noted = kept.lines().find_map(|line| line.strip_prefix("X-Client-Addr: "));
        let noted = noted.map(|address| address.trim_start_matches("ipv6:"));
        assert_eq!(noted, Some(family.client().to_string().as_str()), "{kept}");
    }
    let postfix = Postfix::start(lab.server(), Family::V4.second_smtp(), lab.directory())?;
    let mut client = Client::up_to_data(lab.client(), Family::V4.second_smtp())?;
    client.send(&message::clean("to Postfix"))?;
    client.send(message::END)?;
    client.expect(250)?;
    wait::until(Duration::from_secs(10), "arrival at Postfix", || {
        Ok(postfix.has("to-Postfix@client.example").then_some(()))
    })
}
