//! Spam scanners: real ones, over UNIX and TCP sockets.

use std::path::Path;
use std::time::Duration;

use anyhow::Context as _;
use gateway::clock;
use gateway::config::decimal::Decimal;
use gateway::config::file::{Scan, Spool};
use gateway::config::units::ByteCount;
use gateway::outcome::{Finding, Rating, SpamAction};
use gateway::scan::{Envelope, Exempt, ScannerState, Scanners};
use gateway::spool::Spooler;
use gateway_tests::message;
use gateway_tests::rspamd::Rspamd;
use gateway_tests::spamd::Spamd;
use tempfile::TempDir;
use tokio::time::{sleep, timeout};

const LONG: Duration = Duration::from_secs(60);

fn envelope() -> Envelope {
    Envelope {
        id: "01ABC-1".to_owned(),
        client: "192.0.2.7".parse().expect("an address"),
        helo: "mx.client.example".to_owned(),
        sender: "sender@client.example".to_owned(),
        recipients: vec!["recipient@server.example".to_owned(), "second@server.example".to_owned()],
        authenticated: false,
        gateway: "gateway.example".to_owned(),
    }
}

/// Scanners with this one section.
fn scanners(section: serde_json::Value) -> anyhow::Result<Scanners> {
    Ok(Scanners::new(&serde_json::from_value::<Scan>(section)?))
}

/// What the one scanner says of a message.
async fn finding(
    scanners: &Scanners,
    directory: &Path,
    octets: &[u8],
    envelope: Envelope,
) -> anyhow::Result<Finding> {
    let spool = Spool { directory: directory.join("spool"), min_free: ByteCount::new(0), ..Spool::default() };
    let mut copy = Spooler::open(&spool)?.begin()?;
    copy.append(octets).await?;
    copy.finish().await?;
    let mut job = scanners.start(copy.reader(), Exempt::default());
    job.complete(envelope, clock::now());
    Ok(job.next(clock::now() + LONG).await.expect("a result").finding)
}

/// Waits until the scanner passes a check of its health.
async fn up(scanners: &Scanners) -> anyhow::Result<()> {
    let all = || scanners.view(clock::now()).iter().all(|view| view.state == ScannerState::Up);
    let look = async {
        while !all() {
            sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(LONG, look).await.with_context(|| format!("{:?}", scanners.view(clock::now())))
}

fn rating(finding: Finding) -> Rating {
    let Finding::Rated(rating) = finding else { unreachable!("not rated: {finding:?}") };
    rating
}

#[tokio::test]
async fn spamd_rates_ham_and_gtube_over_both_kinds_of_socket() -> anyhow::Result<()> {
    let directory = TempDir::new()?;
    let spamd = Spamd::here(directory.path())?;
    for address in spamd.addresses() {
        let scanners = scanners(serde_json::json!({"spamd": {"address": address, "health-interval": "1s"}}))?;
        let ask = async |octets: &[u8]| finding(&scanners, directory.path(), octets, envelope()).await;
        let ham = rating(ask(&message::clean("ham")).await?);
        assert_eq!((ham.action, ham.threshold), (SpamAction::NoAction, Decimal::whole(5)), "{ham:?}");
        let spam = rating(ask(&message::gtube("spam")).await?);
        assert_eq!(spam.action, SpamAction::Reject);
        assert!(spam.score >= Decimal::whole(990), "{spam:?}");
        assert!(spam.symbols.iter().any(|symbol| symbol == "GTUBE"), "{spam:?}");
        let large = rating(ask(&message::large("large", 400_000, 1)).await?);
        assert_eq!(large.action, SpamAction::NoAction, "{large:?}");
        assert_eq!(ask(&message::large("too large", 600_000, 1)).await?, Finding::TooLarge);
        assert_eq!(rating(ask(b"").await?).threshold, Decimal::whole(5), "nothing at all is rated, too");
        up(&scanners).await?;
        let view = scanners.view(clock::now()).pop().expect("one scanner");
        assert!(view.version.is_some_and(|version| version.starts_with("SPAMD/")));
        assert!(view.latency.is_some());
    }
    Ok(())
}

#[tokio::test]
async fn the_threshold_of_spamd_can_be_another_than_its_own() -> anyhow::Result<()> {
    let directory = TempDir::new()?;
    let spamd = Spamd::here(directory.path())?;
    for (threshold, action) in [("2000", SpamAction::NoAction), ("999.5", SpamAction::Reject)] {
        let section = serde_json::json!({
            "spamd": {"address": spamd.address(), "threshold": threshold, "user": "debian-spamd"}
        });
        let found =
            finding(&scanners(section)?, directory.path(), &message::gtube("spam"), envelope()).await?;
        let rating = rating(found);
        assert_eq!((rating.action, rating.threshold.to_string()), (action, threshold.to_owned()));
    }
    Ok(())
}

#[tokio::test]
async fn rspamd_recommends_each_of_its_actions_over_both_kinds_of_socket() -> anyhow::Result<()> {
    let directory = TempDir::new()?;
    let rspamd = Rspamd::here(directory.path())?;
    for address in rspamd.addresses() {
        let scanners =
            scanners(serde_json::json!({"rspamd": {"address": address, "health-interval": "1s"}}))?;
        let ask = async |octets: &[u8]| finding(&scanners, directory.path(), octets, envelope()).await;
        let ham = rating(ask(&message::clean("ham")).await?);
        assert_eq!((ham.action, ham.threshold), (SpamAction::NoAction, Decimal::whole(15)), "{ham:?}");
        let spam = rating(ask(&message::gtube("spam")).await?);
        assert_eq!((spam.action, spam.score), (SpamAction::Reject, Decimal::whole(15)), "{spam:?}");
        assert_eq!(spam.symbols, ["GTUBE"]);
        // A rule cannot choose the other two.
        for action in SpamAction::ALL {
            if matches!(action, SpamAction::Quarantine | SpamAction::Discard) {
                continue;
            }
            let subject = format!("action: {}", action.name().replace('-', " "));
            assert_eq!(rating(ask(&message::clean(&subject)).await?).action, action);
        }
        let large = rating(ask(&message::large("large", 1_900_000, 1)).await?);
        assert_eq!(large.action, SpamAction::NoAction, "{large:?}");
        assert_eq!(ask(&message::large("too large", 2_200_000, 1)).await?, Finding::TooLarge);
        up(&scanners).await?;
        let view = scanners.view(clock::now()).pop().expect("one scanner");
        assert!(view.version.is_some_and(|version| version.starts_with("rspamd/")));
    }
    Ok(())
}

#[tokio::test]
async fn rspamd_is_told_the_envelope_and_no_stranger_adds_to_it() -> anyhow::Result<()> {
    let directory = TempDir::new()?;
    let rspamd = Rspamd::here(directory.path())?;
    let scanners = scanners(serde_json::json!({"rspamd": {"address": rspamd.address()}}))?;
    let evil = Envelope {
        helo: "x\r\nUser: root\r\nIP: 203.0.113.66".to_owned(),
        sender: "s\r\nPass: all\r\n\r\n@client.example".to_owned(),
        recipients: vec!["r\nRcpt: <third@server.example>@server.example".to_owned()],
        ..envelope()
    };
    for (envelope, id) in [(envelope(), "01ABC-1"), (evil, "01ABC-2")] {
        let envelope = Envelope { id: id.to_owned(), ..envelope };
        rating(finding(&scanners, directory.path(), &message::clean("ham"), envelope).await?);
    }
    let log = rspamd.log();
    let line = |id: &str| log.lines().find(|line| line.contains("task_write_log") && line.contains(id));
    let honest = line("qid: <01ABC-1>").with_context(|| log.clone())?;
    assert!(honest.contains("ip: 192.0.2.7") && honest.contains("from: <sender@client.example>"), "{honest}");
    assert!(honest.contains("rcpts: <recipient@server.example,second@server.example>"), "{honest}");
    let evil = line("qid: <01ABC-2>").with_context(|| log.clone())?;
    assert!(evil.contains("ip: 192.0.2.7") && !evil.contains("user: root"), "{evil}");
    assert!(!evil.contains("third@server.example") && !evil.contains("203.0.113.66"), "{evil}");
    Ok(())
}

#[tokio::test]
async fn a_worker_of_rspamd_that_wants_a_password_gets_it() -> anyhow::Result<()> {
    let directory = TempDir::new()?;
    let rspamd = Rspamd::here(directory.path())?;
    let address = rspamd.controller().context("no controller")?;
    let ask = async |section: serde_json::Value| -> anyhow::Result<Finding> {
        let scanners = scanners(serde_json::json!({ "rspamd": section }))?;
        finding(&scanners, directory.path(), &message::gtube("spam"), envelope()).await
    };
    let with = ask(serde_json::json!({"address": address, "password": Rspamd::PASSWORD})).await?;
    assert_eq!(rating(with).action, SpamAction::Reject);
    for wrong in
        [serde_json::json!({"address": address}), serde_json::json!({"address": address, "password": "x"})]
    {
        let Finding::Failed { reason } = ask(wrong).await? else { unreachable!("the door is open") };
        assert!(reason.contains("HTTP 401") || reason.contains("HTTP 403"), "{reason}");
    }
    Ok(())
}
