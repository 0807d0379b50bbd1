//! A virus never completes at the server, however it is sent, and the client is told why.

use std::fs;
use std::process::Command;
use std::time::Duration;

use anyhow::Context as _;
use gateway_tests::client::Client;
use gateway_tests::message::{self, Random};

use crate::bench::{Bench, ends_data};

/// Reads the refusal that names the signature.
fn expect_refusal(client: &mut Client) -> anyhow::Result<()> {
    let reply = client.expect(550)?;
    assert!(reply.lines[0].starts_with("5.7.1 "), "{reply}");
    assert!(reply.contains(message::EICAR_SIGNATURE), "{reply}");
    Ok(())
}

#[test]
fn no_chunking_of_the_tcp_stream_gets_eicar_through() -> anyhow::Result<()> {
    let bench = Bench::new()?;
    let mut octets = message::infected("chunked at random");
    octets.extend_from_slice(message::END);
    for seed in 1..=12 {
        let mut random = Random::new(seed);
        // Short segments around the end of data, where parsers are led astray.
        let tail = octets.len() - 24;
        let step = 1 + random.below(200);
        let mut cuts: Vec<_> = random.cuts(tail, step).into_iter().collect();
        cuts.extend((tail..octets.len()).filter(|_| seed % 2 == 0 || random.below(2) == 0));
        let mut client = bench.up_to_data()?;
        client.send_cut(&octets, &cuts, Duration::from_micros(500))?;
        expect_refusal(&mut client)?;
    }
    let seen = bench.seen()?;
    assert_eq!(seen.len(), 12);
    for connection in seen {
        assert!(connection.messages.is_empty(), "the server has the virus");
        assert!(!ends_data(&connection.received), "the server was sent an end of data");
    }
    Ok(())
}

#[test]
fn eicar_at_the_head_of_a_very_long_line_is_found() -> anyhow::Result<()> {
    let bench = Bench::new()?;
    let mut line = format!("Subject: long\r\n\r\n{}", message::eicar()).into_bytes();
    line.resize(8_000, b'x');
    let mut client = bench.up_to_data()?;
    // Each segment is smaller than the buffer that smtp-gated had for a line, the line is larger.
    for segment in line.chunks(1_400) {
        client.send(segment)?;
    }
    client.send(message::END)?;
    expect_refusal(&mut client)?;
    assert!(bench.server.messages().is_empty());
    Ok(())
}

#[test]
fn eicar_in_chunks_never_gets_its_last_one() -> anyhow::Result<()> {
    let bench = Bench::new()?;
    let mut client = bench.greeted()?;
    client.envelope("")?;
    let message = message::infected("in chunks");
    let (first, second) = message.split_at(message.len() / 2);
    client.chunk(first, false)?;
    client.expect(250)?;
    client.chunk(second, true)?;
    expect_refusal(&mut client)?;
    let seen = bench.seen()?;
    assert!(seen[0].messages.is_empty(), "the server has the virus");
    Ok(())
}

#[test]
fn after_a_refusal_the_gateway_goes_on_politely_and_nothing_more_reaches_the_server() -> anyhow::Result<()> {
    let bench = Bench::new()?;
    let mut client = bench.up_to_data()?;
    client.send(&message::infected("and then"))?;
    client.send(message::END)?;
    expect_refusal(&mut client)?;
    client.send(b"NOOP\r\n")?;
    client.expect(250)?;
    client.send(b"MAIL FROM:<again@client.example>\r\n")?;
    let reply = client.reply()?;
    assert!((400..600).contains(&reply.code), "{reply}");
    client.send(b"QUIT\r\n")?;
    client.expect(221)?;
    assert_eq!(client.rest(Duration::from_secs(5))?, b"");
    let seen = bench.seen()?;
    assert_eq!(seen[0].commands("MAIL"), 1);
    // The next connection is an ordinary one.
    let mut client = bench.up_to_data()?;
    client.send(&message::clean("after a virus"))?;
    client.send(message::END)?;
    client.expect(250)?;
    assert_eq!(bench.server.messages().len(), 1);
    Ok(())
}

#[test]
fn a_decompression_bomb_is_refused_as_clamd_says_and_costs_the_gateway_no_memory() -> anyhow::Result<()> {
    let bench = Bench::new()?;
    let mut gzip = Command::new("sh");
    let bomb = gzip.args(["-c", "head -c 300M /dev/zero | gzip -9"]).output()?.stdout;
    let mut client = bench.up_to_data()?;
    client.send(&message::with_attachment("bomb", "bomb.gz", &bomb))?;
    client.send(message::END)?;
    let reply = client.reply_within(Duration::from_secs(60))?;
    assert_eq!(reply.code, 550, "{reply}");
    assert!(reply.contains("Heuristics.Limits.Exceeded"), "{reply}");
    assert!(bench.server.messages().is_empty());
    let status = fs::read_to_string(format!("/proc/{}/status", bench.gateway.proxy()?))?;
    let peak =
        status.lines().find_map(|line| line.strip_prefix("VmHWM:")?.trim().strip_suffix(" kB")?.parse().ok());
    let peak: u64 = peak.context("no peak of memory")?;
    assert!(peak < 100 * 1024, "the proxy process took {peak} KiB");
    Ok(())
}
