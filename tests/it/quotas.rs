//! Quotas: what a client has used up, counted across sessions, restarts and upgrades.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use gateway_tests::client::Client;
use gateway_tests::gateway::{Gateway, Settings};
use gateway_tests::lab::{Family, Lab};
use gateway_tests::message::END;
use gateway_tests::recorder::{Manners, Recorder};
use gateway_tests::redis::Redis;
use gateway_tests::wait;
use nix::sys::signal::{Signal, kill};

use crate::bench::from;

const PATIENCE: Duration = Duration::from_secs(20);

/// Quotas by a period that no test outlives; it slides, so that nothing comes back meanwhile.
fn settings(limits: &str) -> Settings {
    Settings { more: format!("quotas:\n  period: 31d\n  limits: {limits}\n"), ..Settings::default() }
}

fn start(limits: &str) -> anyhow::Result<(Gateway, Recorder, Lab)> {
    let lab = Lab::new()?;
    let mut manners = Manners { refuses: Some("nobody".to_owned()), ..Manners::default() };
    manners.keywords.push("AUTH PLAIN".to_owned());
    let server = Recorder::start(lab.server(), Family::V4.smtp(), manners)?;
    let gateway = Gateway::start(&lab, &settings(limits))?;
    Ok((gateway, server, lab))
}

fn greeted(lab: &Lab) -> anyhow::Result<Client> {
    Client::greeted(lab.client(), Family::V4.smtp()).map(|(client, _)| client)
}

/// Sends commands one after the other, each with the code that is expected.
fn commands(client: &mut Client, dialogue: &[(&str, u16)]) -> anyhow::Result<()> {
    for (line, code) in dialogue {
        client.send(format!("{line}\r\n").as_bytes())?;
        client.expect(*code)?;
    }
    Ok(())
}

fn send(client: &mut Client, text: &[u8]) -> anyhow::Result<()> {
    client.begin_data()?;
    client.send(&[text, END].concat())?;
    client.expect(250).map(drop)
}

/// The reply that a new connection begins with.
fn first_reply(lab: &Lab) -> anyhow::Result<String> {
    let mut client = Client::connect(lab.client(), Family::V4.smtp())?;
    Ok(client.reply_within(PATIENCE)?.to_string())
}

/// A line of `gateway quota show`, of the lab's client.
fn shown(gateway: &Gateway, quota: &str) -> anyhow::Result<Vec<String>> {
    let (done, said) = gateway.control_command_with("quota show", &[&Family::V4.client().to_string()])?;
    ensure!(done, "{said}");
    let line = said.lines().find(|line| line.contains(quota)).unwrap_or_default();
    Ok(line.split_whitespace().skip_while(|word| *word != quota).skip(1).map(str::to_owned).collect())
}

#[test]
fn who_has_sent_his_share_is_refused_for_the_time_being() -> anyhow::Result<()> {
    let (gateway, server, lab) = start("{messages: 2, recipients: 4}")?;
    let mut client = greeted(&lab)?;
    send(&mut client, b"Subject: one\r\n\r\nfirst")?;
    commands(
        &mut client,
        &[
            ("MAIL FROM:<a@client.example>", 250),
            ("RCPT TO:<b@server.example>", 250),
            ("RCPT TO:<c@server.example>", 250),
            ("RCPT TO:<d@server.example>", 250),
        ],
    )?;
    client.send(b"RCPT TO:<e@server.example>\r\n")?;
    let reply = client.expect(450)?;
    assert!(
        reply.contains("4.7.1 gateway.example Too much mail from you, try again later (recipients)"),
        "{reply}"
    );
    // The message goes on with those that it has.
    client.send(b"DATA\r\n")?;
    client.expect(354)?;
    client.send(&[b"Subject: two\r\n\r\nsecond", END].concat())?;
    client.expect(250)?;
    commands(&mut client, &[("MAIL FROM:<a@client.example>", 450), ("QUIT", 221)])?;
    let refused = first_reply(&lab)?;
    assert!(refused.starts_with("421 4.7.0 ") && refused.contains("(messages)"), "{refused}");
    // Another client has its own.
    let _server = Recorder::start(lab.server(), Family::V6.smtp(), Manners::default())?;
    let (mut other, _) = Client::greeted(lab.client(), Family::V6.smtp())?;
    commands(&mut other, &[("QUIT", 221)])?;
    assert_eq!(server.messages().len(), 2);
    assert_eq!(shown(&gateway, "messages")?, ["2", "2"]);
    assert_eq!(shown(&gateway, "recipients")?, ["4", "4"]);
    assert_eq!(gateway.log().matches("quota used up").count(), 1, "one line for a client, not for each try");
    Ok(())
}

#[test]
fn operators_give_limits_and_forget_what_was_used() -> anyhow::Result<()> {
    let (gateway, _server, lab) = start("{messages: 1}")?;
    let address = Family::V4.client().to_string();
    let mut client = greeted(&lab)?;
    send(&mut client, b"one")?;
    commands(&mut client, &[("MAIL FROM:<a@client.example>", 450)])?;
    let (done, said) = gateway.control_command_with("quota set", &[&address, "messages=2", "bytes=1GiB"])?;
    assert!(done && said.contains("has limits of its own"), "{said}");
    send(&mut client, b"two")?;
    commands(&mut client, &[("MAIL FROM:<a@client.example>", 450)])?;
    let (done, said) = gateway.control_command_with("quota reset", &[&address])?;
    assert!(done && said.contains("1 client begin anew"), "{said}");
    assert_eq!(shown(&gateway, "messages")?, ["0", "2"]);
    send(&mut client, b"three")?;
    let (done, said) = gateway.control_command_with("quota set", &[&address, "--configured"])?;
    assert!(done && !said.contains("limits of its own"), "{said}");
    commands(&mut client, &[("MAIL FROM:<a@client.example>", 450)])?;
    for wrong in [&["bytes=5"][..], &["mail=5"], &[]] {
        let (done, said) =
            gateway.control_command_with("quota set", &[&[address.as_str()], wrong].concat())?;
        assert!(!done, "{said}");
    }
    Ok(())
}

#[test]
fn octets_and_announced_sizes_count() -> anyhow::Result<()> {
    let (gateway, _server, lab) = start("{bytes: 100KiB}")?;
    let mut client = greeted(&lab)?;
    commands(&mut client, &[("MAIL FROM:<a@client.example> SIZE=102401", 450)])?;
    send(&mut client, &b"0123456789abcdef\r\n".repeat(4_000))?;
    commands(&mut client, &[("MAIL FROM:<a@client.example> SIZE=50000", 450)])?;
    // Without a size the message that goes beyond is the last one.
    send(&mut client, &b"0123456789abcdef\r\n".repeat(4_000))?;
    commands(&mut client, &[("MAIL FROM:<a@client.example>", 450)])?;
    assert!(first_reply(&lab)?.starts_with("421 "));
    assert_eq!(shown(&gateway, "connections")?, ["1", "none"]);
    Ok(())
}

#[test]
fn who_guesses_recipients_is_cut_off() -> anyhow::Result<()> {
    let (_gateway, server, lab) = start("{rcpt-rejects: 3}")?;
    let mut client = greeted(&lab)?;
    commands(&mut client, &[("MAIL FROM:<a@client.example>", 250)])?;
    for guess in 0..3 {
        commands(&mut client, &[(&format!("RCPT TO:<nobody{guess}@server.example>"), 550)])?;
    }
    commands(&mut client, &[("RCPT TO:<b@server.example>", 421)])?;
    assert!(client.rest(PATIENCE)?.is_empty(), "the session is over");
    assert!(first_reply(&lab)?.contains("(rcpt-rejects)"));
    assert_eq!(server.wait_closed(PATIENCE)?[0].commands("RCPT"), 3);
    Ok(())
}

#[test]
fn who_guesses_passwords_or_senders_is_cut_off() -> anyhow::Result<()> {
    // What begins with "nobody" is refused by the server.
    let password = "AUTH PLAIN nobodyXX";
    let sender = "MAIL FROM:<nobody@client.example>";
    for (quota, guess, code) in [("auth-rejects", password, 535), ("mail-rejects", sender, 550)] {
        let (gateway, server, lab) = start(&format!("{{{quota}: 2}}"))?;
        let mut client = greeted(&lab)?;
        commands(&mut client, &[(guess, code), (guess, code)])?;
        commands(&mut client, &[(guess, 421)]).with_context(|| quota)?;
        assert!(client.rest(PATIENCE)?.is_empty(), "{quota}: the session is over");
        let refused = first_reply(&lab)?;
        assert!(refused.starts_with("421 ") && refused.contains(&format!("({quota})")), "{refused}");
        assert_eq!(shown(&gateway, quota)?, ["2", "2"]);
        let word = guess.split(' ').next().unwrap_or_default();
        assert_eq!(server.wait_closed(PATIENCE)?[0].commands(word), 2, "{quota}");
    }
    Ok(())
}

#[test]
fn what_was_used_comes_back_as_the_period_of_the_configuration_slides() -> anyhow::Result<()> {
    let lab = Lab::new()?;
    let _server = Recorder::start(lab.server(), Family::V4.smtp(), Manners::default())?;
    let more = "quotas: { period: 10s, limits: { messages: 1 } }\n".to_owned();
    let _gateway = Gateway::start(&lab, &Settings { more, ..Settings::default() })?;
    let mut client = greeted(&lab)?;
    let mut mail = || -> anyhow::Result<u16> {
        client.send(b"MAIL FROM:<a@client.example>\r\nRSET\r\n")?;
        let code = client.reply()?.code;
        client.expect(250)?;
        Ok(code)
    };
    assert_eq!(mail()?, 250);
    // The second one comes within the same period, unless the machine was held up.
    wait::until(PATIENCE, "a refusal", || Ok((mail()? == 450).then_some(())))?;
    wait::until(LONG, "a message more", || Ok((mail()? == 250).then_some(())))
}

#[test]
fn connections_and_servers_are_counted() -> anyhow::Result<()> {
    let (gateway, _server, lab) = start("{connections: 4, destinations: 1}")?;
    let _second = Recorder::start(lab.server(), Family::V4.second_smtp(), Manners::default())?;
    drop(greeted(&lab)?);
    let mut client = Client::connect(lab.client(), Family::V4.second_smtp())?;
    assert!(client.reply_within(PATIENCE)?.to_string().contains("(destinations)"));
    for _ in 0..3 {
        drop(greeted(&lab)?);
    }
    assert!(first_reply(&lab)?.contains("(connections)"), "those that were refused do not count");
    let (_, said) = gateway.control_command_with("quota show", &[&Family::V4.client().to_string()])?;
    assert!(said.contains(&format!("servers {}", Family::V4.server())), "{said}");
    assert!(said.contains("refused 2 times"), "{said}");
    Ok(())
}

#[test]
fn some_networks_have_limits_of_their_own_and_a_prefix_is_one_client() -> anyhow::Result<()> {
    let (_gateway, _server, lab) =
        start("{messages: 1}\n  networks: [{client: ['192.0.2.0/24'], limits: {messages: 2}}]")?;
    let _server = Recorder::start(lab.server(), Family::V6.smtp(), Manners::default())?;
    lab.client().ip("address add 2001:db8:1::ffff:9/64 dev eth0 nodad")?;
    lab.client().ip("address add 2001:db8:9::9/128 dev eth0 nodad")?;
    lab.router().ip("route add 2001:db8:9::/48 via 2001:db8:1::2")?;
    let mut client = greeted(&lab)?;
    send(&mut client, b"one")?;
    send(&mut client, b"two")?;
    commands(&mut client, &[("MAIL FROM:<a@client.example>", 450)])?;
    let (mut client, _) = Client::greeted(lab.client(), Family::V6.smtp())?;
    send(&mut client, b"one")?;
    commands(&mut client, &[("MAIL FROM:<a@client.example>", 450)])?;
    for (address, code) in [("2001:db8:1::ffff:9", 421), ("2001:db8:9::9", 220)] {
        let mut client = Client::over(from(&lab, address.parse()?, Family::V6.smtp())?)?;
        let reply = client.reply_within(PATIENCE)?;
        assert_eq!(reply.code, code, "{address}: {reply}");
    }
    Ok(())
}

#[test]
fn what_was_used_outlives_a_restart_and_a_kill() -> anyhow::Result<()> {
    let (mut gateway, _server, lab) = start("{messages: 4}")?;
    let address = Family::V4.client().to_string();
    send(&mut greeted(&lab)?, b"one")?;
    gateway.restart(&lab, &settings("{messages: 4}"))?;
    assert_eq!(shown(&gateway, "messages")?, ["1", "4"]);
    send(&mut greeted(&lab)?, b"two")?;
    let (done, said) = gateway.control_command_with("quota set", &[&address, "messages=3"])?;
    assert!(done, "{said}");
    // What an operator has said is written when he reads the answer; what was counted, soon.
    let proxy = gateway.proxy()?;
    kill(proxy, Signal::SIGKILL)?;
    wait::until(PATIENCE, "another proxy", || Ok(gateway.proxy().ok().filter(|other| *other != proxy)))?;
    wait::until(PATIENCE, "its answer", || Ok(shown(&gateway, "messages").ok()))?;
    assert_eq!(shown(&gateway, "messages")?, ["2", "3"]);
    let mut client = greeted(&lab)?;
    send(&mut client, b"three")?;
    commands(&mut client, &[("MAIL FROM:<a@client.example>", 450)])
}

#[test]
fn both_processes_of_an_upgrade_count_for_the_same_quota() -> anyhow::Result<()> {
    let (mut gateway, _server, lab) = start("{messages: 4}")?;
    let mut old = greeted(&lab)?;
    send(&mut old, b"one")?;
    gateway.upgrade(&[])?;
    send(&mut old, b"two")?;
    commands(&mut old, &[("QUIT", 221)])?;
    wait::until(PATIENCE, "the end of the old process", || Ok((gateway.alive().len() == 1).then_some(())))?;
    // What the old process has written since, the new one learns when it writes itself.
    let mut new = greeted(&lab)?;
    send(&mut new, b"three")?;
    wait::until(PATIENCE, "all three", || Ok((shown(&gateway, "messages")?[0] == "3").then_some(())))?;
    send(&mut new, b"four")?;
    commands(&mut new, &[("MAIL FROM:<a@client.example>", 450)])
}

#[test]
fn without_its_file_mail_passes_and_is_counted_in_memory() -> anyhow::Result<()> {
    let (mut gateway, _server, lab) = start("{messages: 1}")?;
    let (_, said) = gateway.control_command("status")?;
    assert!(!said.contains("in memory only"), "{said}");
    gateway.stop()?;
    // Others may read it: not the gateway's own any more.
    fs::set_permissions(gateway.state(), fs::Permissions::from_mode(0o755))?;
    gateway.restart(&lab, &settings("{messages: 1}"))?;
    let mut client = greeted(&lab)?;
    send(&mut client, b"one")?;
    commands(&mut client, &[("MAIL FROM:<a@client.example>", 450)])?;
    let (_, said) = gateway.control_command("status")?;
    assert!(said.contains("state      in memory only: ") && said.contains("chmod 0700"), "{said}");
    assert_eq!(gateway.log().matches("state store cannot be used").count(), 1);
    commands(&mut client, &[("QUIT", 221)])?;
    // It is taken up again without a restart.
    fs::set_permissions(gateway.state(), fs::Permissions::from_mode(0o700))?;
    gateway.wait_for_log("state store is written again")?;
    gateway.restart(&lab, &settings("{messages: 1}"))?;
    assert!(first_reply(&lab)?.starts_with("421 "));
    Ok(())
}

#[test]
fn a_reload_changes_limits_and_a_generation_keeps_them() -> anyhow::Result<()> {
    let (gateway, _server, lab) = start("{messages: 1}")?;
    let mut client = greeted(&lab)?;
    send(&mut client, b"one")?;
    let reload = |limits: &str| -> anyhow::Result<()> {
        gateway.write_settings(&settings(limits))?;
        let (done, said) = gateway.control_command("reload")?;
        ensure!(done, "{said}");
        Ok(())
    };
    reload("{messages: 2}")?;
    send(&mut client, b"two")?;
    reload("{messages: 2}\n  generation: 1")?;
    commands(&mut client, &[("MAIL FROM:<a@client.example>", 450)])?;
    reload("{messages: 9}\n  generation: 1")?;
    commands(&mut client, &[("MAIL FROM:<a@client.example>", 450)])?;
    reload("{messages: 3}\n  generation: 2")?;
    send(&mut client, b"three")
}

/// Two gateways, each with a network of its own, and one Redis.
fn start_together(redis: &Redis) -> anyhow::Result<[(Gateway, Recorder, Lab); 2]> {
    let together = || -> anyhow::Result<_> {
        let lab = Lab::new()?;
        let server = Recorder::start(lab.server(), Family::V4.smtp(), Manners::default())?;
        let mut settings = settings("{messages: 3}");
        settings.more.push_str(&format!("state: redis\nredis: {{address: '{}'}}\n", redis.address()));
        let gateway = Gateway::start(&lab, &settings)?;
        Ok((gateway, server, lab))
    };
    Ok([together()?, together()?])
}

/// Waits until a gateway knows of so many messages of its client, which connects for that.
fn wait_for_messages(gateway: &Gateway, lab: &Lab, messages: &str) -> anyhow::Result<()> {
    wait::until(LONG, "what another gateway has counted", || {
        let mut client = Client::connect(lab.client(), Family::V4.smtp())?;
        client.reply_within(PATIENCE)?;
        Ok((shown(gateway, "messages")?[0] == messages).then_some(()))
    })
}

/// For what a gateway tries again from time to time, on a busy machine.
const LONG: Duration = Duration::from_secs(60);

#[test]
fn gateways_with_one_redis_count_for_the_same_quota() -> anyhow::Result<()> {
    let directory = tempfile::TempDir::new()?;
    fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o755))?;
    let redis = Redis::start(directory.path())?;
    let [(one, _s1, lab_one), (other, _s2, lab_other)] = start_together(&redis)?;
    let (_, said) = one.control_command("status")?;
    assert!(said.contains("redis      quotas are counted together"), "{said}");
    let mut client = greeted(&lab_one)?;
    send(&mut client, b"one")?;
    send(&mut client, b"two")?;
    wait_for_messages(&other, &lab_other, "2")?;
    let mut client = greeted(&lab_other)?;
    send(&mut client, b"three")?;
    commands(&mut client, &[("MAIL FROM:<a@client.example>", 450), ("QUIT", 221)])?;
    wait_for_messages(&one, &lab_one, "3")?;
    assert!(first_reply(&lab_one)?.starts_with("421 "));
    // Who is forgotten by one gateway begins anew at all of them.
    let (done, said) = other.control_command_with("quota reset", &["--all"])?;
    assert!(done, "{said}");
    wait::until(LONG, "a greeting", || Ok(first_reply(&lab_one)?.starts_with("220 ").then_some(())))?;
    send(&mut greeted(&lab_one)?, b"four")
}

#[test]
fn without_redis_each_gateway_counts_for_itself_until_it_is_back() -> anyhow::Result<()> {
    let directory = tempfile::TempDir::new()?;
    fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o755))?;
    let mut redis = Redis::start(directory.path())?;
    let [(one, _s1, lab_one), (other, _s2, lab_other)] = start_together(&redis)?;
    redis.stop()?;
    send(&mut greeted(&lab_one)?, b"one")?;
    one.wait_for_log("Redis is lost")?;
    send(&mut greeted(&lab_one)?, b"two")?;
    let (_, said) = one.control_command("status")?;
    assert!(said.contains("redis      lost, this gateway counts alone: "), "{said}");
    assert_eq!(shown(&one, "messages")?, ["2", "3"]);
    assert_eq!(one.log().matches("Redis is lost").count(), 1);
    let _redis = Redis::start(directory.path())?;
    wait::until(LONG, "Redis to be back", || Ok(one.log().contains("Redis is back").then_some(())))?;
    // What was counted meanwhile is there too.
    wait_for_messages(&other, &lab_other, "2")?;
    let mut client = greeted(&lab_other)?;
    send(&mut client, b"three")?;
    commands(&mut client, &[("MAIL FROM:<a@client.example>", 450)])
}
