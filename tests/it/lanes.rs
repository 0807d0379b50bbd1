//! Which lane a flow takes.

use std::time::Duration;

use anyhow::{Context as _, ensure};
use gateway_tests::client::Client;
use gateway_tests::gateway::{Gateway, Settings};
use gateway_tests::lab::{Family, Lab};
use gateway_tests::message;
use gateway_tests::recorder::{Manners, Recorder};

use crate::bench::Bench;
use crate::direct::echo;
use crate::quarantine::{attempt, greeting, lock};

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

#[test]
fn each_lane_rule_has_its_own_way_with_starttls() -> anyhow::Result<()> {
    let lab = Lab::new()?;
    let lanes = vec![
        "{server: [198.51.100.2], lane: inspect, starttls: forbid}",
        "{server: [198.51.100.3], lane: inspect, starttls: require}",
    ];
    let mut manners = Manners::default();
    manners.keywords.push("STARTTLS".to_owned());
    let start = |address| Recorder::start(lab.server(), address, manners.clone());
    let [forbidding, requiring, default] = [Family::V4.smtp(), Family::V4.second_smtp(), Family::V6.smtp()];
    let servers =
        [(forbidding, start(forbidding)?), (requiring, start(requiring)?), (default, start(default)?)];
    let _gateway = Gateway::start(&lab, &Settings { lanes, ..Settings::default() })?;
    for (address, server) in servers {
        let may = address != forbidding;
        let (mut plain, keywords) = Client::greeted(lab.client(), address)?;
        let offered = keywords.lines.iter().any(|line| line == "STARTTLS");
        assert_eq!(offered, may, "{address}: {keywords}");
        plain.send(b"MAIL FROM:<sender@client.example>\r\n")?;
        plain.expect(if address == requiring { 530 } else { 250 })?;

        let (mut client, _) = Client::greeted(lab.client(), address)?;
        client.send(b"STARTTLS\r\n")?;
        client.expect(if may { 220 } else { 502 })?;
        let seen = |word| server.connections().iter().map(|seen| seen.commands(word)).sum::<usize>();
        assert_eq!(seen("STARTTLS"), usize::from(may), "{address}");
        assert_eq!(seen("MAIL"), usize::from(address != requiring), "{address}");
    }
    Ok(())
}

#[test]
fn what_is_said_of_all_of_ipv6_is_not_said_of_ipv4() -> anyhow::Result<()> {
    let lab = Lab::new()?;
    for family in [Family::V4, Family::V6] {
        echo(&lab, family.smtp())?;
    }
    let blocks = Settings { lanes: vec!["{client: ['::/0'], lane: block}"], ..Settings::default() };
    let gateway = Gateway::start(&lab, &blocks)?;
    ensure!(greeting(&lab, Family::V4.smtp())?.starts_with("220"));
    ensure!(attempt(&lab, Family::V6.smtp())?.is_err(), "IPv6 is not blocked");
    gateway.write_settings(&Settings::default())?;
    let (reloaded, said) = gateway.control_command("reload")?;
    ensure!(reloaded, "{said}");
    ensure!(greeting(&lab, Family::V6.smtp())?.starts_with("220"));

    lock(&gateway, &["add", "::/0", "--action", "reset"])?;
    ensure!(greeting(&lab, Family::V4.smtp())?.starts_with("220"));
    ensure!(attempt(&lab, Family::V6.smtp())?.is_err(), "IPv6 is not locked");
    let row = lock(&gateway, &["list"])?.lines().nth(1).context("no lock")?.to_owned();
    ensure!(row.starts_with("::/0 ") && row.split_whitespace().nth(3) == Some("1"), "{row}");
    lock(&gateway, &["exempt", "::/0"])?;
    ensure!(greeting(&lab, Family::V6.smtp())?.starts_with("220"));

    // An address of IPv4 is one, however it is written.
    let client = Family::V4.client();
    lock(&gateway, &["add", &format!("::ffff:{client}"), "--action", "reset"])?;
    ensure!(attempt(&lab, Family::V4.smtp())?.is_err(), "IPv4 is exempt, or not locked");
    lock(&gateway, &["remove", &client.to_string()])?;
    ensure!(greeting(&lab, Family::V4.smtp())?.starts_with("220"));
    Ok(())
}
