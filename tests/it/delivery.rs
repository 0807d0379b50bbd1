//! The delivery client and real servers: Postfix, and `smtp-sink` at its worst.

use std::collections::VecDeque;
use std::fs;
use std::future::Future;
use std::net::SocketAddr;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use gateway::config::file::delivery::FingerprintDigest;
use gateway::delivery::connection::{Connection, Detail, Remote, Target, Text, Tls};
use gateway::delivery::tls::{Fingerprint, TlsClient, TlsPolicy};
use gateway::smtp::client::{
    Delivery, DeliveryDone, Discard, Encoding, Outcome, Peer, PixWorkarounds, Protocol, Report, Rules, Terms,
    TlsLevel,
};
use gateway::smtp::envelope::Recipient;
use gateway_tests::lab::{Family, Lab};
use gateway_tests::netns::Netns;
use gateway_tests::postfix::{self, Postfix};
use gateway_tests::process::Daemon;
use gateway_tests::sink::Sink;
use gateway_tests::wait;

/// A text in pieces.
struct Letter(VecDeque<Bytes>);

impl Letter {
    fn new(id: &str, body: &str) -> Self {
        let header = format!("From: <s@a.example>\nSubject: x\nMessage-ID: <{id}>\n\n");
        Self([header, body.to_owned()].into_iter().map(Bytes::from).collect())
    }
}

impl Text for Letter {
    fn begin(&mut self, _downgrade: bool) {}

    async fn next(&mut self) -> Result<Option<Bytes>, Report> {
        Ok(self.0.pop_front())
    }
}

/// Runs in a namespace what does not end by itself in time.
fn run<T: Send>(netns: &Netns, work: impl Future<Output = T> + Send) -> anyhow::Result<T> {
    netns.enter(|| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        Ok(runtime.block_on(async { tokio::time::timeout(Duration::from_secs(60), work).await })?)
    })?
}

fn target(server: SocketAddr, protocol: Protocol, tls: TlsLevel) -> Target {
    let peer = Peer {
        name: "mail.server.example".to_owned(),
        address: server.ip().to_string(),
        port: Some(server.port()),
    };
    Target {
        detail: Detail::default(),
        remote: Remote::Tcp { address: server, source: None, must_bind: false, window: None },
        rules: Arc::new(Rules::new(protocol, "gw.example")),
        terms: Terms {
            peer,
            next_hop: "server.example".to_owned(),
            detect_loop: true,
            best_mx: false,
            discard: Discard::default(),
            pix: PixWorkarounds::default(),
            tls,
            tls_wrapper: false,
            login: None,
        },
        tls: None,
    }
}

fn delivery(recipients: &[&str]) -> Delivery {
    let recipient = |address: &&str| Recipient {
        address: (*address).to_owned(),
        original: Some(format!("rfc822;{address}")),
        notify: None,
    };
    Delivery {
        sender: "s@a.example".to_owned(),
        recipients: recipients.iter().map(recipient).collect(),
        size: 500,
        encoding: Encoding::SevenBit,
        smtputf8: false,
        envelope_id: None,
        ret: None,
        origin: None,
        age: Duration::ZERO,
        probe: false,
    }
}

/// What became of a delivery: for each recipient a word, a status and a reason.
async fn outcomes(
    connection: &mut Connection,
    recipients: &[&str],
    letter: &mut Letter,
) -> (Vec<String>, DeliveryDone) {
    let mut told = vec![String::new(); recipients.len()];
    let settled = |place: usize, outcome: Outcome| {
        let (word, report) = match outcome {
            Outcome::Sent(report) => ("sent", report),
            Outcome::Deferred(report) => ("deferred", report),
            Outcome::Bounced(report) => ("bounced", report),
        };
        told[place] = format!("{word} {} {}", report.status, report.reason);
    };
    let done = connection.deliver(delivery(recipients), letter, settled).await;
    (told, done)
}

/// Why a server cannot be used.
fn said(report: &Report) -> String {
    format!("{} {}", report.status, report.reason)
}

#[test]
fn a_postfix_takes_mail_one_after_the_other_in_clear_text_and_in_chunks() -> anyhow::Result<()> {
    let lab = Lab::new()?;
    let server = Family::V4.second_smtp();
    let postfix = Postfix::start(lab.server(), server, lab.directory())?;
    for (name, chunking) in [("data", false), ("bdat", true)] {
        let rules = Rules { chunking, ..Rules::new(Protocol::Smtp, "gw.example") };
        let target = Target { rules: Arc::new(rules), ..target(server, Protocol::Smtp, TlsLevel::None) };
        run(lab.server(), async {
            let mut connection =
                Connection::open(target).await.map_err(|failure| anyhow::anyhow!("{failure:?}"))?;
            for number in 0..3 {
                if number > 0 {
                    connection.check().await.map_err(|failure| anyhow::anyhow!("{failure:?}"))?;
                }
                // Longer than any buffer on the way, with dots where they hurt.
                let body = ".\n..\n.dot\nthe quick brown fox\n".repeat(20_000);
                let mut letter = Letter::new(&format!("{name}.{number}@a.example"), &body);
                let recipients = ["r1@server.example", "bad..dots@server.example", "r2@server.example"];
                let (told, done) = outcomes(&mut connection, &recipients, &mut letter).await;
                assert!(told.iter().all(|told| told.starts_with("sent 2.0.0 250 2.0.0 Ok: ")), "{told:?}");
                assert!(done.reusable && done.dsn && done.mail.is_some(), "{done:?}");
            }
            assert_eq!(connection.deliveries(), 3);
            connection.quit().await;
            anyhow::Ok(())
        })??;
        for number in 0..3 {
            let id = format!("{name}.{number}@a.example");
            wait::until(Duration::from_secs(20), &format!("arrival of {id}"), || {
                Ok(postfix.has(&id).then_some(()))
            })?;
        }
    }
    assert!(postfix.log().contains("to=<\"bad..dots\"@server.example>"), "{}", postfix.log());
    Ok(())
}

#[test]
fn a_postfix_gets_mail_under_tls_where_its_certificate_is_what_the_level_asks_for() -> anyhow::Result<()> {
    let lab = Lab::new()?;
    let server = Family::V4.second_smtp();
    let postfix = Postfix::start(lab.server(), server, lab.directory())?;
    let pem = fs::read(postfix.certificate())?;
    let right = Fingerprint::parse(&postfix::fingerprint(postfix.certificate())?, FingerprintDigest::Sha256)?;
    let wrong = Fingerprint::parse(&"00".repeat(32), FingerprintDigest::Sha256)?;
    let listed = |fingerprint: &Fingerprint| TlsPolicy {
        fingerprints: vec![fingerprint.clone()],
        ..TlsPolicy::new(TlsLevel::Fingerprint)
    };
    for (name, policy, works) in [
        ("may", TlsPolicy::new(TlsLevel::May), true),
        ("encrypt", TlsPolicy::new(TlsLevel::Encrypt), true),
        ("old", TlsPolicy { tls13: false, ..TlsPolicy::new(TlsLevel::Encrypt) }, true),
        ("listed", listed(&right), true),
        ("not-listed", listed(&wrong), false),
        // It signed itself, and has no name but a common name.
        ("verify", TlsPolicy::new(TlsLevel::Verify), false),
        ("secure", TlsPolicy::new(TlsLevel::Secure), false),
    ] {
        let config = TlsClient::new(&pem)?.config(&policy, "mail.server.example", "server.example")?;
        let tls = Some(Tls { config, server_name: None, reusable: true });
        let target = Target { tls, ..target(server, Protocol::Smtp, policy.level) };
        let id = format!("{name}@a.example");
        let opened = run(lab.server(), async {
            let mut connection = match Connection::open(target).await {
                Ok(connection) => connection,
                Err(unusable) => return Err(unusable.failure.report),
            };
            let version = connection.tls().map(|session| session.version.clone());
            assert_eq!(version.as_deref(), Some(if policy.tls13 { "TLSv1_3" } else { "TLSv1_2" }));
            let mut letter = Letter::new(&id, &"under TLS\n".repeat(50_000));
            let (told, _) = outcomes(&mut connection, &["r@server.example"], &mut letter).await;
            assert!(told[0].starts_with("sent 2.0.0 "), "{told:?}");
            connection.quit().await;
            Ok(())
        })?;
        match opened {
            Ok(()) => {
                assert!(works, "{name}");
                wait::until(Duration::from_secs(20), &format!("arrival of {id}"), || {
                    Ok(postfix.has(&id).then_some(()))
                })?;
            }
            Err(report) => {
                assert!(!works, "{name}: {report:?}");
                assert_eq!(report.status.to_string(), "4.7.5", "{report:?}");
                assert!(
                    report.reason.starts_with("Cannot start TLS with host mail.server.example["),
                    "{report:?}"
                );
                assert!(!postfix.log().contains(&id), "mail in clear text");
            }
        }
    }
    Ok(())
}

/// What `smtp-sink` is told to do, and what becomes of two recipients.
const FAULTS: [(&[&str], &str); 15] = [
    (&[], "sent 2.0.0 250 2.0.0 Ok"),
    (&["-p"], "sent 2.0.0 250 2.0.0 Ok"),
    (&["-e"], "sent 2.0.0 250 2.0.0 Ok"),
    (&["-f", "ehlo"], "sent 2.0.0 250 2.0.0 Ok"),
    (
        &["-q", "connect"],
        "failed 4.4.2 lost connection with HOST while receiving the initial server greeting",
    ),
    (&["-f", "connect"], "failed 4.3.0 host HOST refused to talk to me: 500 5.3.0 Error: command failed"),
    (&["-r", "connect"], "failed 4.3.0 host HOST refused to talk to me: 450 4.3.0 Error: command failed"),
    (&["-q", "ehlo"], "failed 4.4.2 lost connection with HOST while performing the EHLO handshake"),
    (
        &["-f", "mail"],
        "bounced 5.3.0 host HOST said: 500 5.3.0 Error: command failed (in reply to MAIL FROM command)",
    ),
    (
        &["-r", "rcpt"],
        "deferred 4.3.0 host HOST said: 450 4.3.0 Error: command failed (in reply to RCPT TO command)",
    ),
    (&["-q", "rcpt"], "deferred 4.4.2 lost connection with HOST while sending RCPT TO"),
    (
        &["-f", "data"],
        "bounced 5.3.0 host HOST said: 500 5.3.0 Error: command failed (in reply to DATA command)",
    ),
    (
        &["-r", "."],
        "deferred 4.3.0 host HOST said: 450 4.3.0 Error: command failed (in reply to end of DATA command)",
    ),
    (&["-q", "data"], "deferred 4.4.2 lost connection with HOST while sending DATA command"),
    (
        &["-q", "."],
        "deferred 4.4.2 lost connection with HOST while sending end of data -- message may be sent more than once",
    ),
];

#[test]
fn what_a_server_refuses_or_leaves_unsaid_is_what_postmasters_know() -> anyhow::Result<()> {
    let lab = Lab::new()?;
    for (number, (options, expected)) in FAULTS.into_iter().enumerate() {
        let server = SocketAddr::new(Family::V4.server(), 2_600 + u16::try_from(number)?);
        let sink = Sink::with(lab.server(), server, lab.directory(), options)?;
        let target = target(server, Protocol::Smtp, TlsLevel::None);
        let host = target.terms.peer.host();
        let told = run(lab.server(), async {
            match Connection::open(target).await {
                Err(unusable) => vec![format!("failed {}", said(&unusable.failure.report)); 2],
                Ok(mut connection) => {
                    let mut letter = Letter::new("x@a.example", ".\n.dot\n");
                    let recipients = ["r1@server.example", "r2@server.example"];
                    let (told, _) = outcomes(&mut connection, &recipients, &mut letter).await;
                    connection.quit().await;
                    told
                }
            }
        })?;
        assert_eq!(told, vec![expected.replace("HOST", &host); 2], "smtp-sink {options:?}");
        if expected.starts_with("sent") {
            let message = sink.wait_for("x@a.example")?;
            assert!(message.contains("\n.\n.dot\n"), "{message}");
        }
    }
    Ok(())
}

#[test]
fn nobody_there_is_a_failed_connection() -> anyhow::Result<()> {
    let lab = Lab::new()?;
    let server = SocketAddr::new(Family::V4.server(), 2_599);
    let opened = run(lab.server(), Connection::open(target(server, Protocol::Smtp, TlsLevel::None)))?;
    let failure = opened.err().map(|unusable| said(&unusable.failure.report));
    let expected = format!("4.4.1 connect to mail.server.example[{}]:2599: Connection refused", server.ip());
    assert_eq!(failure, Some(expected));
    Ok(())
}

#[test]
fn a_server_that_says_nothing_is_given_up_in_time() -> anyhow::Result<()> {
    let lab = Lab::new()?;
    let server = SocketAddr::new(Family::V4.server(), 2_598);
    // Connections wait in its backlog; nobody ever takes them.
    let _silent = lab.server().listen(server)?;
    let mut rules = Rules::new(Protocol::Smtp, "gw.example");
    rules.timeouts.hello = Duration::from_secs(1);
    let target = Target { rules: Arc::new(rules), ..target(server, Protocol::Smtp, TlsLevel::None) };
    let host = target.terms.peer.host();
    let opened = run(lab.server(), Connection::open(target))?;
    let failure = opened.err().map(|unusable| said(&unusable.failure.report));
    let expected =
        format!("4.4.2 conversation with {host} timed out while receiving the initial server greeting");
    assert_eq!(failure, Some(expected));
    Ok(())
}

#[test]
fn an_lmtp_server_behind_a_unix_socket_settles_each_recipient() -> anyhow::Result<()> {
    let lab = Lab::new()?;
    let path = lab.directory().join("lmtp");
    let mut command = Command::new("smtp-sink");
    command.args(["-L", "-u", "root"]).arg(format!("unix:{}", path.display())).arg("16");
    let mut daemon = Daemon::start("lmtp-sink", lab.directory(), &mut command)?;
    daemon.wait_until(Duration::from_secs(10), |_| path.exists())?;
    let any = SocketAddr::new(Family::V4.server(), 24);
    let target = Target { remote: Remote::Unix(path), ..target(any, Protocol::Lmtp, TlsLevel::None) };
    run(lab.server(), async {
        let mut connection =
            Connection::open(target).await.map_err(|failure| anyhow::anyhow!("{failure:?}"))?;
        let recipients = ["r1@server.example", "r2@server.example", "r3@server.example"];
        for _ in 0..2 {
            let mut letter = Letter::new("x@a.example", "text\n");
            let (told, done) = outcomes(&mut connection, &recipients, &mut letter).await;
            assert!(told.iter().all(|told| told.starts_with("sent 2.")), "{told:?}");
            assert!(done.reusable);
        }
        connection.quit().await;
        anyhow::Ok(())
    })?
}
