//! What AUTH changes, seen from outside.

use std::time::Duration;

use gateway_tests::clamd::Clamd;
use gateway_tests::client::Client;
use gateway_tests::gateway::{Gateway, Settings};
use gateway_tests::lab::{Family, Lab};
use gateway_tests::message::{self, END};
use gateway_tests::recorder::{Manners, Recorder};
use gateway_tests::spamd::Spamd;

use crate::bench::Bench;

#[test]
fn with_auth_skip_direct_a_client_that_the_server_knows_is_not_read_and_others_are() -> anyhow::Result<()> {
    let mut manners = Manners::default();
    manners.keywords.push("AUTH PLAIN".to_owned());
    let more = "auth:\n  skip: [direct]\n".to_owned();
    let bench = Bench::with(|settings| Settings { more, ..settings }, manners)?;
    let mut stranger = bench.up_to_data()?;
    stranger.send(&message::infected("from a stranger"))?;
    stranger.send(END)?;
    stranger.expect(550)?;
    drop(stranger);

    let mut known = bench.greeted()?;
    known.send(b"AUTH PLAIN AGJvYgBzZWNyZXQ=\r\n")?;
    known.expect(235)?;
    known.begin_data()?;
    let sent = message::infected("of one that the server knows");
    known.send(&sent)?;
    known.send(END)?;
    known.expect(250)?;
    known.send(b"QUIT\r\n")?;
    known.expect(221)?;
    drop(known);
    bench.seen()?;
    assert_eq!(bench.server.messages(), [sent]);
    let record = bench.gateway.wait_for_log("lane=splice")?;
    assert!(record.contains("authenticated=true"), "{record}");
    assert!(!bench.gateway.log().contains("AGJvYgBzZWNyZXQ="), "the log has the password");
    Ok(())
}

#[test]
fn with_auth_skip_a_client_that_the_server_knows_passes_the_scanner_that_is_named_and_no_other()
-> anyhow::Result<()> {
    let lab = Lab::new()?;
    let (clamd, spamd) = (Clamd::start(&lab)?, Spamd::start(&lab)?);
    let mut manners = Manners::default();
    manners.keywords.push("AUTH PLAIN".to_owned());
    let _server = Recorder::start(lab.server(), Family::V4.smtp(), manners)?;
    let settings = |skip: &str| Settings {
        scan: vec![("spamd", format!("{{ address: '{}' }}", spamd.address()))],
        more: format!("auth: {{ skip: [{skip}] }}\n"),
        ..Settings::scanning(clamd.address())
    };
    let answer = |known: bool, text: &[u8]| -> anyhow::Result<u16> {
        let (mut client, _) = Client::greeted(lab.client(), Family::V4.smtp())?;
        if known {
            client.send(b"AUTH PLAIN AGJvYgBzZWNyZXQ=\r\n")?;
            client.expect(235)?;
        }
        client.begin_data()?;
        client.send(text)?;
        client.send(END)?;
        Ok(client.reply_within(Duration::from_secs(60))?.code)
    };
    let (virus, spam) = (message::infected("a virus"), message::gtube("spam"));
    let mut gateway = Gateway::start(&lab, &settings("antivirus"))?;
    assert_eq!((answer(true, &virus)?, answer(true, &spam)?), (250, 550));
    assert_eq!((answer(false, &virus)?, answer(false, &spam)?), (550, 550));
    gateway.restart(&lab, &settings("antispam"))?;
    assert_eq!((answer(true, &virus)?, answer(true, &spam)?), (550, 250));
    assert_eq!((answer(false, &virus)?, answer(false, &spam)?), (550, 550));
    Ok(())
}
