//! What clients say to the relay lane beside plain SMTP, over real connections: chunks, binary text, introductions of
//! others, and names under TLS.

use std::fs;
use std::process::Stdio;

use anyhow::{Context as _, ensure};
use gateway_tests::client::Client;
use gateway_tests::gateway::Gateway;
use gateway_tests::lab::{Family, Lab};
use gateway_tests::postfix;

use super::{certify, contents, queue, settings, swaks};

#[test]
fn chunks_of_binary_text_are_in_the_queue_as_they_were_sent() -> anyhow::Result<()> {
    let lab = Lab::new()?;
    let mut gateway = Gateway::start(&lab, &settings(&lab, ""))?;
    let (mut client, keywords) = Client::greeted(lab.client(), Family::V4.smtp())?;
    ensure!(keywords.contains("CHUNKING") && keywords.contains("BINARYMIME"), "{keywords}");
    client.envelope(" BODY=BINARYMIME")?;
    // DATA cannot carry it (RFC 3030 section 3).
    client.send(b"DATA\r\n")?;
    client.expect(503)?;
    // Larger than what is read at once, and with all that would end a text after DATA.
    let head = b"Subject: chunks\r\nMIME-Version: 1.0\r\nContent-Transfer-Encoding: binary\r\n\r\n";
    let body: Vec<u8> = (0..=u8::MAX).cycle().take(700_000).chain(*b"\r\n.\r\n\n.\n\r.\r").collect();
    client.chunk(head, false)?;
    client.expect(250)?;
    for chunk in body.chunks(100_000) {
        client.chunk(chunk, false)?;
        client.expect(250)?;
    }
    client.chunk(b"", true)?;
    ensure!(client.expect(250)?.contains("queued as"), "not queued");
    client.send(b"QUIT\r\n")?;
    client.expect(221)?;
    gateway.stop()?;
    let found = contents(&queue(&lab))?;
    ensure!(found.len() == 1, "{} messages", found.len());
    let sent = String::from_utf8_lossy(&[head.as_slice(), &body].concat()).into_owned();
    ensure!(found[0].1.ends_with(&sent), "the text is not what was sent");
    assert_eq!(found[0].0.body, gateway::queue::Body::BinaryMime);
    Ok(())
}

#[test]
fn who_is_trusted_speaks_for_others_and_who_is_not_is_refused() -> anyhow::Result<()> {
    let lab = Lab::new()?;
    let trusting = settings(&lab, "  trusted: [192.0.2.2/32]\n");
    let mut gateway = Gateway::start(&lab, &settings(&lab, ""))?;
    let (mut client, keywords) = Client::greeted(lab.client(), Family::V4.smtp())?;
    ensure!(!keywords.contains("XCLIENT") && !keywords.contains("XFORWARD"), "{keywords}");
    for command in ["XCLIENT ADDR=203.0.113.7\r\n", "XFORWARD ADDR=203.0.113.7\r\n"] {
        client.send(command.as_bytes())?;
        let reply = client.reply()?;
        ensure!((500..=550).contains(&reply.code), "{reply}");
    }
    // They change nothing.
    client.begin_data()?;
    client.send(b"Subject: by itself\r\n\r\n.\r\n")?;
    client.expect(250)?;
    // A session that is open would hold up the end.
    drop(client);
    gateway.restart(&lab, &trusting)?;

    let (mut client, keywords) = Client::greeted(lab.client(), Family::V4.smtp())?;
    ensure!(keywords.contains("XCLIENT NAME ADDR PORT PROTO HELO"), "{keywords}");
    client.send(b"XFORWARD NAME=mx.c.example ADDR=203.0.113.8 PORT=4712 PROTO=ESMTP HELO=c.example\r\n")?;
    client.expect(250)?;
    client.begin_data()?;
    client.send(b"Subject: forwarded\r\n\r\n.\r\n")?;
    client.expect(250)?;
    client.send(b"XCLIENT NAME=mx.b.example ADDR=203.0.113.7 PORT=4711 PROTO=ESMTP HELO=b.example\r\n")?;
    client.expect(220)?;
    client.send(b"EHLO b.example\r\n")?;
    client.expect(250)?;
    client.begin_data()?;
    client.send(b"Subject: introduced\r\n\r\n.\r\n")?;
    client.expect(250)?;
    drop(client);
    gateway.stop()?;

    let found = contents(&queue(&lab))?;
    let submitter = |subject: &str| {
        let (envelope, text) = found.iter().find(|(_, text)| text.contains(subject)).context("not there")?;
        let submitter = envelope.submitter.as_ref().context("no submitter")?;
        anyhow::Ok((submitter.address.ip().to_string(), submitter.helo.clone(), text.clone()))
    };
    let (address, helo, _) = submitter("Subject: by itself")?;
    assert_eq!((address.as_str(), helo.as_str()), ("192.0.2.2", "client.example"));
    let (address, helo, text) = submitter("Subject: forwarded")?;
    assert_eq!((address.as_str(), helo.as_str()), ("203.0.113.8", "c.example"));
    ensure!(text.starts_with("Received: from client.example ([192.0.2.2])"), "{text}");
    let (address, helo, text) = submitter("Subject: introduced")?;
    assert_eq!((address.as_str(), helo.as_str()), ("203.0.113.7", "b.example"));
    ensure!(text.starts_with("Received: from b.example (mx.b.example [203.0.113.7])"), "{text}");
    Ok(())
}

// Attack case 60. What is no DNS name at all the TLS library answers with an alert: that session ends, and no other.
#[test]
fn a_name_under_tls_chooses_a_certificate_and_nothing_else() -> anyhow::Result<()> {
    let lab = Lab::new()?;
    let mut listed = Vec::new();
    for name in ["gateway.example", "other.example"] {
        let [chain, key] = ["chain", "key"].map(|what| lab.directory().join(format!("{name}.{what}.pem")));
        certify(name, &chain, &key)?;
        listed.push((chain, key));
    }
    let mut tls = "  tls:\n    certificates:\n".to_owned();
    for (chain, key) in &listed {
        tls.push_str(&format!("      - {{chain: {}, key: {}}}\n", chain.display(), key.display()));
    }
    let mut gateway = Gateway::start(&lab, &settings(&lab, &tls))?;
    let [first, second] = [0, 1].map(|number: usize| postfix::fingerprint(&listed[number].0));
    let (first, second) = (first?, second?);
    for (name, expected) in [
        (Some("gateway.example"), &first),
        (Some("other.example"), &second),
        (Some("OTHER.example"), &second),
        (Some("unknown.example"), &first),
        (Some("etc.passwd"), &first),
        (None, &first),
    ] {
        assert_eq!(shown(&lab, name)?.as_ref(), Some(expected), "{name:?}");
    }
    let long = "a".repeat(255);
    for name in ["a\\", "../../etc", "%n%s{}", "$(id)", long.as_str()] {
        assert_eq!(shown(&lab, Some(name))?, None, "{name:?}");
    }
    let (accepted, said) = swaks(&lab, &["--tls"])?;
    ensure!(accepted, "{said}");
    ensure!(!gateway.log().contains("panicked"), "{}", gateway.log());
    gateway.stop()
}

/// The fingerprint of the certificate that a client is shown who asks for this name; none where there is no session.
pub(super) fn shown(lab: &Lab, name: Option<&str>) -> anyhow::Result<Option<String>> {
    let mut openssl = lab.client().command("timeout");
    openssl.args(["30", "openssl", "s_client", "-starttls", "smtp"]);
    openssl.args(["-connect", &Family::V4.smtp().to_string()]);
    match name {
        Some(name) => openssl.args(["-servername", name]),
        None => openssl.arg("-noservername"),
    };
    let shown = openssl.stdin(Stdio::null()).output()?.stdout;
    if !String::from_utf8_lossy(&shown).contains("BEGIN CERTIFICATE") {
        return Ok(None);
    }
    let file = lab.directory().join("shown.pem");
    fs::write(&file, shown)?;
    postfix::fingerprint(&file).map(Some)
}
