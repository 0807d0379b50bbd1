//! XCLIENT: a real Postfix is told who its clients are.

use std::net::SocketAddr;
use std::time::Duration;

use gateway_tests::client::Client;
use gateway_tests::dovecot::{self, Dovecot};
use gateway_tests::gateway::{Gateway, Settings};
use gateway_tests::lab::{Family, Lab};
use gateway_tests::postfix::Postfix;
use gateway_tests::{message, process, wait};

/// Believes the gateway, and logs of each recipient what it knows of the client.
const BELIEVES: &str = "smtpd_authorized_xclient_hosts = 198.51.100.1\n\
                        smtpd_recipient_restrictions = warn_if_reject reject\n\
                        smtpd_client_port_logging = yes\n";

fn settings() -> Settings {
    Settings {
        origin: "fixed\nlisten: ['0.0.0.0:10025', '[::]:10025']\nfixed-server: 198.51.100.3:25",
        source_address: "gateway",
        inspect: vec![("xclient", "required")],
        ..Settings::default()
    }
}

#[test]
fn postfix_knows_address_port_name_and_protocol_of_every_client() -> anyhow::Result<()> {
    let lab = Lab::new()?;
    let postfix = Postfix::start_with(lab.server(), Family::V4.second_smtp(), lab.directory(), BELIEVES)?;
    let _gateway = Gateway::start(&lab, &settings())?;
    for (family, router, hello, protocol) in [
        (Family::V4, "192.0.2.1:10025", "EHLO", "ESMTP"),
        (Family::V6, "[2001:db8:1::1]:10025", "HELO", "SMTP"),
    ] {
        let mut client = Client::connect(lab.client(), router.parse()?)?;
        client.expect(220)?;
        client.send(format!("{hello} client.example\r\n").as_bytes())?;
        let keywords = client.expect(250)?;
        assert!(!keywords.contains("XCLIENT"), "{keywords}");
        client.envelope("")?;
        client.send(b"QUIT\r\n")?;
        client.expect(221)?;
        let seen = format!("unknown[{}]:", family.client());
        let told = format!("proto={protocol} helo=<client.example>");
        wait::until(Duration::from_secs(10), "a line of Postfix about the recipient", || {
            let log = postfix.log();
            let line = log.lines().find(|line| line.contains(&seen) && line.contains(&told));
            let port = line.and_then(|line| line.split(&seen).nth(1)?.split(':').next()?.parse::<u16>().ok());
            Ok(port.filter(|port| *port >= 1024).map(drop))
        })
        .map_err(|error| error.context(postfix.log()))?;
    }
    Ok(())
}

#[test]
fn who_logs_in_does_so_with_the_server_which_then_knows_his_name_and_his_address() -> anyhow::Result<()> {
    let lab = Lab::new()?;
    let dovecot = Dovecot::start(lab.server(), SocketAddr::new(Family::V4.server(), 24), lab.directory())?;
    let main = format!(
        "{BELIEVES}smtpd_sasl_auth_enable = yes\nsmtpd_sasl_type = dovecot\nsmtpd_sasl_path = {}\n\
         smtpd_tls_auth_only = no\nsmtpd_sasl_security_options = noanonymous\n\
         smtpd_sender_restrictions = permit_sasl_authenticated, reject\n",
        dovecot.auth().display()
    );
    let postfix = Postfix::start_with(lab.server(), Family::V4.second_smtp(), lab.directory(), &main)?;
    let gateway = Gateway::start(&lab, &settings())?;
    let mut client = Client::connect(lab.client(), "192.0.2.1:10025".parse()?)?;
    client.expect(220)?;
    client.send(b"EHLO client.example\r\n")?;
    client.expect(250)?;
    client.send(b"MAIL FROM:<sender@client.example>\r\nRCPT TO:<one@server.example>\r\nRSET\r\n")?;
    client.expect(250)?;
    client.expect(554)?;
    client.expect(250)?;
    let password = "AHVzZXJAc2VydmVyLmV4YW1wbGUAY29ycmVjdCBob3JzZQ==";
    client.send(format!("AUTH PLAIN {password}\r\n").as_bytes())?;
    client.expect(235)?;
    client.begin_data()?;
    client.send(&message::clean("of a user"))?;
    client.send(message::END)?;
    client.expect(250)?;
    let told = format!(", sasl_method=PLAIN, sasl_username={}", dovecot::USER);
    wait::until(Duration::from_secs(60), &told, || {
        let log = postfix.log();
        let line = log.lines().find(|line| line.contains(&told));
        Ok(line.map(|line| line.contains("client=unknown[192.0.2.2]:")).filter(|told| *told).map(drop))
    })
    .map_err(|error| error.context(postfix.log()))?;
    assert!(!gateway.log().contains(password), "the log has the password");
    Ok(())
}

#[test]
fn a_session_that_turns_to_tls_stays_the_clients() -> anyhow::Result<()> {
    let lab = Lab::new()?;
    let postfix = Postfix::start_with(lab.server(), Family::V4.second_smtp(), lab.directory(), BELIEVES)?;
    let _gateway = Gateway::start(&lab, &settings())?;
    let letter = lab.directory().join("letter.eml");
    std::fs::write(&letter, message::clean("inside TLS"))?;
    let mut swaks = lab.client().command("swaks");
    swaks.args(["--server", "192.0.2.1", "--port", "10025", "--tls", "--helo", "client.example"]);
    swaks.args(["--from", "sender@client.example", "--to", "recipient@server.example", "--data"]);
    process::done(swaks.arg(format!("@{}", letter.display())))?;
    wait::until(Duration::from_secs(10), "arrival of the message", || {
        Ok(postfix.has("inside-TLS@client.example").then_some(()))
    })?;
    assert!(postfix.log().contains("client=unknown[192.0.2.2]"), "{}", postfix.log());
    Ok(())
}

#[test]
fn a_postfix_that_does_not_believe_the_gateway_gets_no_mail() -> anyhow::Result<()> {
    let lab = Lab::new()?;
    let postfix = Postfix::start(lab.server(), Family::V4.second_smtp(), lab.directory())?;
    let gateway = Gateway::start(&lab, &settings())?;
    let mut client = Client::connect(lab.client(), "192.0.2.1:10025".parse()?)?;
    client.expect(220)?;
    client.send(b"EHLO client.example\r\n")?;
    client.expect(421)?;
    gateway.wait_for_log("takes no XCLIENT")?;
    assert!(!postfix.log().contains("client=unknown[198.51.100.1]"), "{}", postfix.log());
    Ok(())
}
