//! Which lane a flow takes.

use std::time::Duration;

use gateway_tests::client::Client;
use gateway_tests::gateway::Settings;
use gateway_tests::lab::Family;
use gateway_tests::message;
use gateway_tests::recorder::Manners;

use crate::bench::Bench;

fn with_lane(rule: &'static str) -> anyhow::Result<Bench> {
    Bench::with(|settings| Settings { lanes: vec![rule], ..settings }, Manners::default())
}

#[test]
fn bypassed_flows_are_forwarded_unread() -> anyhow::Result<()> {
    let bench = with_lane("{client: [192.0.2.0/24], lane: bypass}")?;
    let mut client = bench.up_to_data()?;
    client.send(&message::infected("bypassed"))?;
    client.send(message::END)?;
    client.expect(250)?;
    let seen = bench.server.connections();
    assert_eq!(seen[0].peer, Family::V4.client());
    assert_eq!(seen[0].messages.len(), 1);
    Ok(())
}

#[test]
fn blocked_flows_never_open() -> anyhow::Result<()> {
    let bench = with_lane("{server: [198.51.100.2], lane: block}")?;
    assert!(Client::connect(bench.lab.client(), Family::V4.smtp()).is_err());
    assert!(bench.server.connections().is_empty());
    Ok(())
}

#[test]
fn rejected_flows_are_answered_with_one_reply() -> anyhow::Result<()> {
    let bench = with_lane("{client: [192.0.2.2], lane: reject}")?;
    let mut client = Client::connect(bench.lab.client(), Family::V4.smtp())?;
    let reply = client.reply()?;
    assert!((500..600).contains(&reply.code), "{reply}");
    client.rest(Duration::from_secs(30))?;
    assert!(bench.server.connections().is_empty());
    Ok(())
}
