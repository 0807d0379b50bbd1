//! Honest mail arrives as it was sent.

use std::collections::HashMap;
use std::time::Duration;

use gateway_tests::clamd::Clamd;
use gateway_tests::client::Client;
use gateway_tests::gateway::{Gateway, Settings};
use gateway_tests::lab::{Family, Lab};
use gateway_tests::recorder::{Manners, Recorder};
use gateway_tests::sink::Sink;
use gateway_tests::{message, process, wait};

use crate::bench::Bench;

#[test]
fn twenty_megabytes_arrive_byte_for_byte() -> anyhow::Result<()> {
    let bench = Bench::new()?;
    let mut client = bench.up_to_data()?;
    let sent = message::large("twenty megabytes", 20 << 20, 20);
    client.send(&sent)?;
    client.send(message::END)?;
    client.expect(250)?;
    client.send(b"QUIT\r\n")?;
    client.expect(221)?;
    let seen = bench.seen()?;
    assert_eq!(seen.len(), 1);
    assert_eq!(seen[0].messages.len(), 1);
    assert!(seen[0].messages[0] == sent, "the message was changed");
    assert_eq!(bench.spooled()?, [""; 0], "the copy was not removed");
    Ok(())
}

#[test]
fn the_end_of_data_in_four_segments_is_one_end_of_one_message() -> anyhow::Result<()> {
    let bench = Bench::new()?;
    let mut client = bench.up_to_data()?;
    for segment in ["Subject: s\r\n\r\nM1\r", "\n.", "\r", "\n"] {
        client.send(segment.as_bytes())?;
        std::thread::sleep(Duration::from_millis(50));
    }
    client.expect(250)?;
    client.send(b"QUIT\r\n")?;
    client.expect(221)?;
    assert_eq!(bench.seen()?[0].messages, [b"Subject: s\r\n\r\nM1"]);
    Ok(())
}

#[test]
fn pipelined_commands_are_answered_in_order_and_their_messages_arrive() -> anyhow::Result<()> {
    let bench = Bench::with(
        |settings| settings,
        Manners { refuses: Some("nobody@".to_owned()), ..Manners::default() },
    )?;
    let mut client = bench.greeted()?;
    let group = b"MAIL FROM:<a@client.example>\r\nRCPT TO:<b@server.example>\r\n\
                  RCPT TO:<nobody@server.example>\r\nDATA\r\n";
    for text in ["first", "second"] {
        client.send(group)?;
        for code in [250, 250, 550, 354] {
            client.expect(code)?;
        }
        client.send(format!("Subject: {text}\r\n\r\n{text}\r\n.\r\n").as_bytes())?;
        client.expect(250)?;
    }
    // The end of data and the next group in one segment, as RFC 2920 section 3.1 allows.
    client.send(group)?;
    for code in [250, 250, 550, 354] {
        client.expect(code)?;
    }
    client.send(b"Subject: third\r\n\r\nthird\r\n.\r\nNOOP\r\nQUIT\r\n")?;
    for code in [250, 250, 221] {
        client.expect(code)?;
    }
    let seen = bench.seen()?;
    let texts: Vec<_> =
        seen[0].messages.iter().map(|text| String::from_utf8_lossy(text).into_owned()).collect();
    assert_eq!(texts, ["first", "second", "third"].map(|text| format!("Subject: {text}\r\n\r\n{text}")));
    Ok(())
}

#[test]
fn chunks_of_any_octets_arrive_as_one_message() -> anyhow::Result<()> {
    let bench = Bench::new()?;
    let mut client = bench.greeted()?;
    client.envelope(" BODY=8BITMIME")?;
    let message = b"Subject: chunks\r\n\r\n.\r\n..\r\nno dot ends this\r\n.\r\n".repeat(1000);
    let (first, second) = message.split_at(message.len() / 3);
    for chunk in [first, second] {
        client.chunk(chunk, false)?;
        client.expect(250)?;
    }
    // The last chunk is empty, and a command follows it in the same segment.
    client.send(b"BDAT 0 LAST\r\nQUIT\r\n")?;
    client.expect(250)?;
    client.expect(221)?;
    let seen = bench.seen()?;
    assert_eq!(seen[0].messages.len(), 1);
    assert!(seen[0].messages[0] == message, "the message was changed");
    Ok(())
}

#[test]
fn chunks_before_rset_are_forgotten() -> anyhow::Result<()> {
    let bench = Bench::new()?;
    let mut client = bench.greeted()?;
    client.envelope("")?;
    client.chunk(b"0123456789", false)?;
    client.expect(250)?;
    client.send(b"RSET\r\n")?;
    client.expect(250)?;
    client.begin_data()?;
    client.send(b"Subject: s\r\n\r\nM1\r\n.\r\n")?;
    client.expect(250)?;
    client.send(b"QUIT\r\n")?;
    client.expect(221)?;
    assert_eq!(bench.seen()?[0].messages, [b"Subject: s\r\n\r\nM1"]);
    Ok(())
}

#[test]
fn mail_over_ipv6_is_inspected_and_arrives() -> anyhow::Result<()> {
    let lab = Lab::new()?;
    let clamd = Clamd::start(&lab)?;
    let server = Recorder::start(lab.server(), Family::V6.smtp(), Manners::default())?;
    let _gateway = Gateway::start(&lab, &Settings::scanning(clamd.address()))?;
    let mut client = Client::up_to_data(lab.client(), Family::V6.smtp())?;
    let sent = message::clean("over IPv6");
    client.send(&sent)?;
    client.send(message::END)?;
    client.expect(250)?;
    assert!(server.messages() == [sent]);
    // Only a gateway refuses this: it shows that the flow above did not pass it by.
    let mut client = Client::up_to_data(lab.client(), Family::V6.smtp())?;
    client.send(&message::infected("over IPv6"))?;
    client.send(message::END)?;
    client.expect(550)?;
    assert_eq!(server.messages().len(), 1);
    Ok(())
}

#[test]
fn two_thousand_messages_of_fifty_sessions_arrive_and_none_twice() -> anyhow::Result<()> {
    const COUNT: usize = 2000;
    let lab = Lab::new()?;
    let clamd = Clamd::start(&lab)?;
    let sink = Sink::start(&lab, Family::V4)?;
    let _gateway = Gateway::start(&lab, &Settings::scanning(clamd.address()))?;
    let mut source = lab.client().command("smtp-source");
    // -N: each message has a number of its own in its envelope and header.
    source.args(["-N", "-s", "50", "-m", &COUNT.to_string(), "-l", "2048"]);
    source.args(["-f", "load@client.example", "-t", "recipient@server.example"]);
    process::done(source.arg(Family::V4.smtp().to_string()))?;
    let messages = wait::until(Duration::from_secs(20), "arrival of all messages", || {
        let messages = sink.messages()?;
        Ok((messages.len() >= COUNT).then_some(messages))
    })?;
    let mut recipients = HashMap::new();
    for message in &messages {
        let recipient = message.lines().find_map(|line| line.strip_prefix("X-Rcpt-Args: "));
        *recipients.entry(recipient.unwrap_or_default()).or_insert(0) += 1;
    }
    assert_eq!(messages.len(), COUNT);
    assert_eq!(recipients.len(), COUNT, "a message arrived twice and another not at all");
    Ok(())
}
