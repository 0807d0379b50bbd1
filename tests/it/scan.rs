//! Spool and scan against a real clamd, over UNIX and TCP sockets.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use gateway::clock;
use gateway::config::file::{Clamd as Config, Scan, ScannerAddress, Spool};
use gateway::config::units::{ByteCount, Span};
use gateway::outcome::Finding;
use gateway::scan::{Exempt, ScanJob, ScannerState, ScannerView, Scanners};
use gateway::spool::{BLOCK, SpoolCopy, Spooler};
use gateway_tests::clamd::Clamd;
use gateway_tests::message::{self, EICAR_SIGNATURE};
use nix::sys::signal::Signal;
use tempfile::TempDir;
use tokio::time::{sleep, timeout};

const LONG: Duration = Duration::from_secs(30);

/// One clamd, a spool, and the scanners that use them.
struct Bench {
    clamd: Clamd,
    spooler: Spooler,
    _directory: TempDir,
}

impl Bench {
    fn new() -> anyhow::Result<Self> {
        let directory = TempDir::new()?;
        let clamd = Clamd::here(directory.path(), "1M")?;
        Ok(Self { clamd, spooler: spooler(directory.path())?, _directory: directory })
    }

    /// Scanners for each of its addresses.
    fn scanners(&self) -> anyhow::Result<Vec<Scanners>> {
        self.clamd.addresses().into_iter().map(|address| scanners(address, |_| {})).collect()
    }

    /// The verdict on a message that arrives in pieces of `size`.
    async fn verdict(&self, scanners: &Scanners, bytes: &[u8], size: usize) -> anyhow::Result<Finding> {
        let mut copy = self.spooler.begin()?;
        let mut job = scanners.start(copy.reader(), Exempt::default());
        for piece in bytes.chunks(size) {
            copy.append(piece).await?;
        }
        copy.finish().await?;
        Ok(finding(&mut job, clock::now() + LONG).await)
    }
}

fn spooler(directory: &Path) -> anyhow::Result<Spooler> {
    Ok(Spooler::open(&Spool {
        directory: directory.join("spool"),
        memory: ByteCount::kib(128),
        min_free: ByteCount::new(0),
        ..Spool::default()
    })?)
}

fn scanners(address: String, change: impl FnOnce(&mut Config)) -> anyhow::Result<Scanners> {
    let address = ScannerAddress::try_from(address).map_err(anyhow::Error::msg)?;
    let mut config: Config =
        serde_json::from_value(serde_json::json!({ "address": String::from(address), "concurrency": 4 }))?;
    config.health_interval = Span::seconds(1);
    change(&mut config);
    Ok(Scanners::new(&Scan { clamd: Some(config), ..Scan::default() }))
}

fn view(scanners: &Scanners) -> ScannerView {
    scanners.view(clock::now()).pop().expect("one scanner")
}

/// Waits until the scanner's view is as wanted.
async fn seen(scanners: &Scanners, wanted: impl Fn(&ScannerView) -> bool) -> anyhow::Result<ScannerView> {
    let look = async {
        loop {
            let view = view(scanners);
            if wanted(&view) {
                return view;
            }
            sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(LONG, look).await.with_context(|| format!("last seen: {:?}", view(scanners)))
}

/// The only result of a job.
async fn finding(job: &mut ScanJob, deadline: Instant) -> Finding {
    job.next(deadline).await.expect("a result").finding
}

fn infected() -> Finding {
    Finding::Infected { signature: format!("{EICAR_SIGNATURE}.UNOFFICIAL") }
}

fn reason(verdict: Finding) -> String {
    let Finding::Failed { reason } = verdict else { unreachable!("not a failure: {verdict:?}") };
    reason
}

#[tokio::test]
async fn verdicts_are_clamds_over_both_kinds_of_socket() -> anyhow::Result<()> {
    let bench = Bench::new()?;
    for scanners in bench.scanners()? {
        for (message, verdict) in [
            (Vec::new(), Finding::Clean),
            (message::clean("clean"), Finding::Clean),
            (message::large("large", 900_000, 1), Finding::Clean),
            (message::eicar().into_bytes(), infected()),
            (message::infected("mime"), infected()),
            ([message::large("behind", 700_000, 2), message::eicar().into_bytes()].concat(), infected()),
        ] {
            for size in [1_000, 1 << 20] {
                assert_eq!(bench.verdict(&scanners, &message, size).await?, verdict);
            }
        }
        let view = seen(&scanners, |view| view.state == ScannerState::Up).await?;
        assert!(view.version.as_deref().is_some_and(|version| version.starts_with("ClamAV ")), "{view:?}");
        assert_eq!((view.busy, view.waiting, view.concurrency), (0, 0, 4));
        assert_eq!(view.last_error, None);
    }
    Ok(())
}

#[tokio::test]
async fn without_a_scanner_nothing_is_scanned() -> anyhow::Result<()> {
    let directory = TempDir::new()?;
    let copy = spooler(directory.path())?.begin()?;
    let mut job = Scanners::new(&Scan::default()).start(copy.reader(), Exempt::default());
    assert_eq!(job.next(clock::now()).await, None);
    Ok(())
}

#[tokio::test]
async fn a_virus_is_found_wherever_the_stream_is_cut() -> anyhow::Result<()> {
    let bench = Bench::new()?;
    let eicar = message::eicar().into_bytes();
    for scanners in bench.scanners()? {
        for before in 0..=eicar.len() {
            let mut bytes = vec![b'.'; BLOCK - before];
            bytes.extend(&eicar);
            assert_eq!(bench.verdict(&scanners, &bytes, 7_919).await?, infected(), "{before} before the cut");
        }
    }
    Ok(())
}

#[tokio::test]
async fn more_than_clamd_takes_is_too_large_and_not_an_infection() -> anyhow::Result<()> {
    let bench = Bench::new()?;
    for scanners in bench.scanners()? {
        for length in [1_100_000, 8_000_000] {
            let bytes = message::large("large", length, 3);
            assert_eq!(bench.verdict(&scanners, &bytes, 50_000).await?, Finding::TooLarge);
        }
        assert_eq!(bench.verdict(&scanners, b"next", 10).await?, Finding::Clean);
    }
    Ok(())
}

#[tokio::test]
async fn more_than_max_size_is_too_large_before_its_end_and_leaves_clamd_alone() -> anyhow::Result<()> {
    let bench = Bench::new()?;
    let scanners = scanners(bench.clamd.address(), |config| config.max_size = ByteCount::kib(300))?;
    let mut copy = bench.spooler.begin()?;
    let mut job = scanners.start(copy.reader(), Exempt::default());
    copy.append(&vec![b'x'; 200 * 1024]).await?;
    seen(&scanners, |view| view.busy == 1).await?;
    copy.append(&vec![b'x'; 200 * 1024]).await?;
    assert_eq!(finding(&mut job, clock::now() + LONG).await, Finding::TooLarge);
    seen(&scanners, |view| view.busy == 0).await?;

    for (length, verdict) in [(300 * 1024, Finding::Clean), (300 * 1024 + 1, Finding::TooLarge)] {
        assert_eq!(bench.verdict(&scanners, &vec![b'x'; length], 4_000).await?, verdict);
    }
    Ok(())
}

#[tokio::test]
async fn an_absent_clamd_is_a_failure_at_once() -> anyhow::Result<()> {
    let mut bench = Bench::new()?;
    let addresses = bench.clamd.addresses();
    bench.clamd.stop()?;
    for address in addresses {
        let scanners = scanners(address, |_| {})?;
        let mut copy = bench.spooler.begin()?;
        copy.append(b"mail").await?;
        copy.finish().await?;
        let began = clock::now();
        let reason =
            reason(finding(&mut scanners.start(copy.reader(), Exempt::default()), began + LONG).await);
        assert!(clock::now() - began < Duration::from_secs(2));
        assert!(reason.starts_with("cannot connect: "), "{reason}");
        let view = seen(&scanners, |view| view.state == ScannerState::Down).await?;
        assert!(view.last_error.is_some() && view.version.is_none(), "{view:?}");
    }
    Ok(())
}

#[tokio::test]
async fn a_hung_clamd_is_a_failure_at_the_deadline_and_serves_again_after() -> anyhow::Result<()> {
    let bench = Bench::new()?;
    for scanners in bench.scanners()? {
        seen(&scanners, |view| view.state == ScannerState::Up).await?;
        bench.clamd.signal(Signal::SIGSTOP)?;
        for bytes in [vec![b'x'; 100], vec![b'x'; 900_000]] {
            let mut copy = bench.spooler.begin()?;
            let mut job = scanners.start(copy.reader(), Exempt::default());
            timeout(Duration::from_secs(2), copy.append(&bytes)).await.context("the client is held up")??;
            copy.finish().await?;
            let began = clock::now();
            let reason = reason(finding(&mut job, began + Duration::from_secs(1)).await);
            let lasted = clock::now() - began;
            assert!(lasted >= Duration::from_secs(1) && lasted < Duration::from_secs(2), "{lasted:?}");
            assert!(reason.starts_with("deadline passed while "), "{reason}");
        }
        seen(&scanners, |view| view.state == ScannerState::Down && view.busy == 0).await?;
        bench.clamd.signal(Signal::SIGCONT)?;
        seen(&scanners, |view| view.state == ScannerState::Up).await?;
        assert_eq!(bench.verdict(&scanners, b"mail", 10).await?, Finding::Clean);
    }
    Ok(())
}

#[tokio::test]
async fn a_clamd_killed_in_the_middle_is_a_failure() -> anyhow::Result<()> {
    for kind in [0, 1] {
        let bench = Bench::new()?;
        let scanners = bench.scanners()?.swap_remove(kind);
        let mut copy = bench.spooler.begin()?;
        let mut job = scanners.start(copy.reader(), Exempt::default());
        copy.append(&vec![b'x'; 300_000]).await?;
        seen(&scanners, |view| view.busy == 1).await?;
        bench.clamd.signal(Signal::SIGKILL)?;
        copy.append(&vec![b'x'; 300_000]).await?;
        copy.finish().await?;
        let reason = reason(finding(&mut job, clock::now() + LONG).await);
        assert!(!reason.contains("deadline"), "{reason}");
        assert_eq!(job.next(clock::now()).await, None, "there is one result");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn twenty_messages_share_four_places() -> anyhow::Result<()> {
    let bench = Bench::new()?;
    for scanners in bench.scanners()? {
        let mut scans: Vec<(SpoolCopy, ScanJob, Finding)> = Vec::new();
        for number in 0..20 {
            let mut copy = bench.spooler.begin()?;
            let job = scanners.start(copy.reader(), Exempt::default());
            let mut bytes = message::large("one of many", 20_000 * (number + 1), 4);
            let verdict = if number % 3 == 0 { infected() } else { Finding::Clean };
            if number % 3 == 0 {
                bytes.extend(message::eicar().into_bytes());
            }
            copy.append(&bytes).await?;
            scans.push((copy, job, verdict));
        }
        bench.clamd.signal(Signal::SIGSTOP)?;
        for (copy, ..) in &mut scans {
            copy.finish().await?;
        }
        seen(&scanners, |view| view.busy == 4 && view.waiting > 0).await?;
        bench.clamd.signal(Signal::SIGCONT)?;
        for (_, job, expected) in &mut scans {
            assert_eq!(finding(job, clock::now() + LONG).await, *expected);
            assert!(view_busy(&scanners) <= 4);
        }
        assert_eq!(view_busy(&scanners), 0);
    }
    Ok(())
}

#[tokio::test]
async fn a_scan_given_up_frees_its_place_and_clamd_goes_on() -> anyhow::Result<()> {
    let bench = Bench::new()?;
    for scanners in bench.scanners()? {
        for keep_copy in [true, false] {
            let mut copy = bench.spooler.begin()?;
            let mut job = scanners.start(copy.reader(), Exempt::default());
            copy.append(&vec![b'x'; 200_000]).await?;
            seen(&scanners, |view| view.busy == 1).await?;
            if keep_copy {
                drop(job);
            } else {
                drop(copy);
                let reason = reason(finding(&mut job, clock::now() + LONG).await);
                assert_eq!(reason, "the message was given up before its end");
            }
            seen(&scanners, |view| view.busy == 0).await?;
            assert_eq!(bench.verdict(&scanners, b"next", 10).await?, Finding::Clean);
        }
    }
    Ok(())
}

#[tokio::test]
async fn a_message_that_drips_in_holds_no_place_and_is_scanned_whole() -> anyhow::Result<()> {
    let bench = Bench::new()?;
    let scanners = scanners(bench.clamd.address(), |_| {})?;
    let (head, tail) = (vec![b'.'; BLOCK - 30], message::eicar().into_bytes());
    let mut copy = bench.spooler.begin()?;
    let mut job = scanners.start(copy.reader(), Exempt::default());
    copy.append(&head).await?;
    let (first, rest) = tail.split_at(40);
    copy.append(first).await?;
    seen(&scanners, |view| view.busy == 1).await?;
    seen(&scanners, |view| view.busy == 0).await?;
    copy.append(rest).await?;
    copy.finish().await?;
    assert_eq!(finding(&mut job, clock::now() + LONG).await, infected());
    Ok(())
}

#[tokio::test]
async fn messages_that_never_end_leave_places_for_those_that_do() -> anyhow::Result<()> {
    let bench = Bench::new()?;
    let scanners = scanners(bench.clamd.address(), |_| {})?;
    let mut endless = Vec::new();
    for _ in 0..10 {
        let mut copy = bench.spooler.begin()?;
        let job = scanners.start(copy.reader(), Exempt::default());
        copy.append(&vec![b'x'; 100_000]).await?;
        endless.push((copy, job));
    }
    seen(&scanners, |view| view.busy == 2).await?;
    let began = clock::now();
    assert_eq!(bench.verdict(&scanners, &message::infected("honest"), 100).await?, infected());
    assert!(clock::now() - began < Duration::from_secs(1));
    Ok(())
}

#[tokio::test]
async fn a_health_check_that_hangs_is_not_begun_again_beside_itself() -> anyhow::Result<()> {
    let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    let scanners = scanners(format!("tcp:{}", silent.local_addr()?), |_| {})?;
    let (_first, _) = timeout(LONG, silent.accept()).await??;
    let view = seen(&scanners, |view| view.state == ScannerState::Down).await?;
    assert_eq!(view.last_error.as_deref(), Some("no answer within 5 s"));
    // The next checks were due one and seven seconds later.
    assert!(timeout(Duration::from_secs(8), silent.accept()).await.is_err());
    Ok(())
}

fn view_busy(scanners: &Scanners) -> usize {
    view(scanners).busy
}
