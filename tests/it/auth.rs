//! What AUTH changes, seen from outside.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use gateway_tests::clamd::Clamd;
use gateway_tests::client::Client;
use gateway_tests::gateway::{Gateway, Settings};
use gateway_tests::lab::{Family, Lab};
use gateway_tests::message::{self, END};
use gateway_tests::recorder::{Manners, Recorder};
use gateway_tests::scripted::{Script, Scripted};
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

/// Refuses a login in pieces and one at once, and accepts both the second time.
const LOGINS: Script = &[
    ("EHLO", "250-mx.example\r\n250 AUTH PLAIN LOGIN"),
    ("AUTH LOGIN", "334 VXNlcm5hbWU6"),
    ("bWFpbCB1c2Vy", "334 UGFzc3dvcmQ6"),
    ("d3JvbmcgcGFzcw==", "535 5.7.8 wrong"),
    ("AUTH PLAIN AHdyb25nAHdyb25n", "535 5.7.8 wrong"),
    ("AUTH PLAIN AGpvZQByaWdodCBwYXNz", "235 2.7.0 fine"),
];

/// What of these must be found nowhere: as it was sent, and decoded.
const CREDENTIALS: [&str; 7] = [
    "bWFpbCB1c2Vy",
    "d3JvbmcgcGFzcw",
    "wrong pass",
    "AHdyb25nAHdyb25n",
    "AGpvZQByaWdodCBwYXNz",
    "right pass",
    "mail user",
];

/// All files below a folder.
fn files(folder: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            found.extend(files(&path)?);
        } else if path.is_file() {
            found.push(path);
        }
    }
    Ok(found)
}

#[test]
fn what_clients_log_in_with_is_neither_logged_nor_kept_and_the_record_says_how_it_went() -> anyhow::Result<()>
{
    let lab = Lab::new()?;
    let _server = Scripted::start(lab.server(), Family::V4.smtp(), LOGINS)?;
    let log = vec![("level", "trace"), ("addresses", "full")];
    let mut gateway = Gateway::start(&lab, &Settings { log, ..Settings::default() })?;
    let (mut client, _) = Client::greeted(lab.client(), Family::V4.smtp())?;
    for (line, code) in [
        ("AUTH LOGIN", 334),
        ("bWFpbCB1c2Vy", 334),
        ("d3JvbmcgcGFzcw==", 535),
        ("AUTH PLAIN AHdyb25nAHdyb25n", 535),
        ("AUTH PLAIN AGpvZQByaWdodCBwYXNz", 235),
    ] {
        client.send(format!("{line}\r\n").as_bytes())?;
        client.expect(code)?;
    }
    client.begin_data()?;
    client.send(&message::clean("known"))?;
    client.send(END)?;
    client.expect(250)?;
    let (_, mut told) = gateway.control_command_with("sessions", &["--json"])?;
    client.send(b"QUIT\r\n")?;
    client.expect(221)?;
    let record = gateway.wait_for_log("msg=session")?;
    for bit in ["auth_offered=true", "auth_rejected=true", "authenticated=true"] {
        assert!(record.contains(bit), "{bit}: {record}");
    }
    told.push_str(&gateway.control_command_with("status", &["--json"])?.1);
    gateway.stop()?;
    told.push_str(&gateway.log());
    let kept = files(&lab.directory().join("gateway"))?;
    assert!(kept.iter().any(|file| file.starts_with(gateway.state())), "nothing is kept: {kept:?}");
    for file in kept {
        told.push_str(&String::from_utf8_lossy(&fs::read(file)?));
    }
    for credential in CREDENTIALS {
        assert!(!told.contains(credential), "{credential} is kept");
    }
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
