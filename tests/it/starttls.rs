//! Sessions that turn to TLS are the server's own affair.

use std::fs;
use std::process::Stdio;
use std::thread;
use std::time::Duration;

use gateway_tests::clamd::Clamd;
use gateway_tests::gateway::{Gateway, Settings};
use gateway_tests::lab::{Family, Lab};
use gateway_tests::{message, postfix, process, wait};

#[test]
fn the_client_sees_the_servers_certificate_and_its_mail_passes() -> anyhow::Result<()> {
    let lab = Lab::new()?;
    let clamd = Clamd::start(&lab)?;
    let server = Family::V4.second_smtp();
    let postfix = postfix::Postfix::start(lab.server(), server, lab.directory())?;
    let gateway = Gateway::start(&lab, &Settings::scanning(clamd.address()))?;

    let mut openssl = lab.client().command("openssl");
    openssl.args(["s_client", "-starttls", "smtp", "-connect", &server.to_string()]);
    openssl.args(["-servername", "mx.server.example"]);
    let shown = openssl.stdin(Stdio::null()).output()?.stdout;
    let file = lab.directory().join("shown.pem");
    fs::write(&file, shown)?;
    assert_eq!(postfix::fingerprint(&file)?, postfix::fingerprint(postfix.certificate())?);

    // EICAR, because it shows that nobody but the server reads what is inside TLS.
    let letter = lab.directory().join("letter.eml");
    fs::write(&letter, message::infected("inside TLS"))?;
    let mut swaks = lab.client().command("swaks");
    swaks.args(["--server", &server.ip().to_string(), "--tls", "--helo", "client.example"]);
    swaks.args(["--from", "sender@client.example", "--to", "recipient@server.example", "--data"]);
    process::done(swaks.arg(format!("@{}", letter.display())))?;
    wait::until(Duration::from_secs(10), "arrival of the message", || {
        Ok(postfix.has("inside-TLS@client.example").then_some(()))
    })?;
    // What the client says of itself in clear is in the session's record.
    let record = gateway.wait_for_log("server_name=mx.server.example")?;
    assert!(record.contains("lane=splice") && record.contains(" tls=1.3 ja4=t13d"), "{record}");
    Ok(())
}

#[test]
fn commands_behind_starttls_in_its_segment_never_run() -> anyhow::Result<()> {
    let lab = Lab::new()?;
    let clamd = Clamd::start(&lab)?;
    let server = Family::V4.second_smtp();
    let postfix = postfix::Postfix::start(lab.server(), server, lab.directory())?;
    let _gateway = Gateway::start(&lab, &Settings::scanning(clamd.address()))?;
    let (mut client, _) = gateway_tests::client::Client::greeted(lab.client(), server)?;
    client.send(b"STARTTLS\r\nMAIL FROM:<injected@evil.example>\r\nRCPT TO:<b@server.example>\r\n")?;
    // Refused, or accepted without what came behind it: either way the server never hears of it.
    let reply = client.reply()?;
    assert!(reply.code == 220 || reply.code >= 400, "{reply}");
    drop(client);
    thread::sleep(Duration::from_millis(500));
    assert!(!postfix.log().contains("injected@evil.example"), "{}", postfix.log());
    Ok(())
}
