//! Several scanners side by side: who decides, and what happens when one of them does not answer.

use std::fs;
use std::time::Duration;

use anyhow::Context as _;
use gateway_tests::clamd::Clamd;
use gateway_tests::client::{Client, Reply};
use gateway_tests::gateway::{Gateway, Settings};
use gateway_tests::lab::{Family, Lab};
use gateway_tests::load;
use gateway_tests::message;
use gateway_tests::recorder::{Manners, Recorder};
use gateway_tests::rspamd::Rspamd;
use gateway_tests::spamd::Spamd;
use gateway_tests::wait;
use nix::sys::signal::Signal;

/// A lab whose gateway asks some scanners. Fields are dropped in order, the network last.
struct Bench {
    record: std::cell::RefCell<String>,
    gateway: Gateway,
    server: Recorder,
    lab: Lab,
}

impl Bench {
    /// The lab of scanners that are started already, and a gateway with these settings.
    fn new(lab: Lab, settings: &Settings) -> anyhow::Result<Self> {
        let server = Recorder::start(lab.server(), Family::V4.smtp(), Manners::default())?;
        let gateway = Gateway::start(&lab, settings)?;
        Ok(Self { record: String::new().into(), gateway, server, lab })
    }

    /// The records of messages so far.
    fn records(&self) -> Vec<String> {
        let log = self.gateway.log();
        log.lines().filter(|line| line.contains(" msg=message ")).map(str::to_owned).collect()
    }

    /// Sends one message; returns the reply at its end, and keeps the record.
    fn send(&self, octets: &[u8]) -> anyhow::Result<Reply> {
        let before = self.records().len();
        let mut client = Client::up_to_data(self.lab.client(), Family::V4.smtp())?;
        client.send(octets)?;
        client.send(message::END)?;
        let reply = client.reply_within(Duration::from_secs(60))?;
        let record =
            wait::until(Duration::from_secs(10), "the record", || Ok(self.records().get(before).cloned()))?;
        self.record.replace(record);
        Ok(reply)
    }

    /// Sends one message that is to be answered so; `status` is the begin of the text.
    fn expect(&self, octets: &[u8], code: u16, status: &str) -> anyhow::Result<Reply> {
        let reply = self.send(octets)?;
        assert!(reply.code == code && reply.lines[0].starts_with(status), "{code} {status}: {reply}");
        Ok(reply)
    }

    /// The record of the latest message.
    fn record(&self) -> String {
        self.record.borrow().clone()
    }

    fn status(&self) -> anyhow::Result<String> {
        Ok(self.gateway.control_command("status")?.1)
    }
}

/// A scanner's section in flow style.
fn section(address: &str, more: &str) -> String {
    format!("{{address: '{address}', health-interval: 1s{more}}}")
}

/// A scanner that nobody is.
fn absent(lab: &Lab, more: &str) -> String {
    section(&format!("unix:{}", lab.directory().join("nobody-listens.sock").display()), more)
}

#[test]
fn ham_passes_all_three_and_each_refuses_what_it_finds() -> anyhow::Result<()> {
    let lab = Lab::new()?;
    let (clamd, spamd, rspamd) = (Clamd::start(&lab)?, Spamd::start(&lab)?, Rspamd::start(&lab)?);
    let both = vec![("spamd", section(&spamd.address(), "")), ("rspamd", section(&rspamd.address(), ""))];
    let all = Settings { scan: both, ..Settings::scanning(clamd.address()) };
    let mut bench = Bench::new(lab, &all)?;
    let ham = message::clean("all is well");
    bench.expect(&ham, 250, "")?;
    let record = bench.record();
    assert!(record.contains("verdict=clean") && record.contains("threshold="), "{record}");
    for scanner in ["clamd:clean:", "spamd:no-action:", "rspamd:no-action:"] {
        assert!(record.contains(scanner), "{record}");
    }
    let virus = bench.expect(&message::infected("a virus"), 550, "5.7.1 ")?;
    assert!(virus.contains(message::EICAR_SIGNATURE), "{virus}");
    assert!(bench.record().contains("verdict=infected"));
    bench.expect(&message::gtube("spam"), 550, "5.7.1 ")?;
    let status = bench.status()?;
    for scanner in ["clamd up", "spamd up", "rspamd up"] {
        assert!(status.contains(scanner), "{status}");
    }

    // Each alone, with the same server behind it.
    for (name, address, score) in [("spamd", spamd.address(), "100"), ("rspamd", rspamd.address(), "15")] {
        let alone = Settings { scan: vec![(name, section(&address, ""))], ..Settings::default() };
        bench.gateway.restart(&bench.lab, &alone)?;
        bench.expect(&ham, 250, "")?;
        let reply = bench.expect(&message::gtube("spam"), 550, "5.7.1 ")?;
        assert!(reply.contains(&format!("Spam found ({score}")), "{reply}");
        let record = bench.record();
        assert!(record.contains("verdict=spam") && record.contains("symbols="), "{record}");
        assert!(record.contains("GTUBE"), "{record}");
    }
    assert!(bench.server.messages() == [ham.clone(), ham.clone(), ham], "the server has no spam");

    let recorded = Settings {
        scan: vec![("spamd", section(&spamd.address(), ", on-spam: pass"))],
        ..Settings::default()
    };
    bench.gateway.restart(&bench.lab, &recorded)?;
    bench.expect(&message::gtube("recorded only"), 250, "")?;
    let record = bench.record();
    assert!(record.contains("action=passed verdict=spam"), "{record}");
    Ok(())
}

#[test]
fn each_action_of_rspamd_reaches_the_client_and_the_envelope_reaches_rspamd() -> anyhow::Result<()> {
    let lab = Lab::new()?;
    let rspamd = Rspamd::start(&lab)?;
    let settings = Settings { scan: vec![("rspamd", section(&rspamd.address(), ""))], ..Settings::default() };
    let bench = Bench::new(lab, &settings)?;
    for (action, code, status, verdict) in [
        ("greylist", 451, "4.7.1 ", "suspect"),
        ("soft reject", 451, "4.7.1 ", "suspect"),
        ("add header", 250, "", "suspect"),
        ("rewrite subject", 250, "", "suspect"),
        ("reject", 550, "5.7.1 ", "spam"),
        ("no action", 250, "", "clean"),
    ] {
        bench.expect(&message::clean(&format!("action: {action}")), code, status)?;
        let record = bench.record();
        assert!(record.contains(&format!("verdict={verdict}")), "{action}: {record}");
    }
    assert_eq!(bench.server.messages().len(), 3);
    let metrics = bench.gateway.control_command("status")?.1;
    assert!(metrics.contains("1 greylist") && metrics.contains("1 soft-reject"), "{metrics}");

    let mut client = Client::connect(bench.lab.client(), Family::V4.smtp())?;
    client.expect(220)?;
    client.send(b"EHLO mx%0d%0aUser:root\r\n")?;
    client.expect(250)?;
    for command in [
        &b"MAIL FROM:<\"s User: root\"@client.example>\r\n"[..],
        b"RCPT TO:<one@server.example>\r\n",
        b"RCPT TO:<two@server.example>\r\n",
    ] {
        client.send(command)?;
        client.expect(250)?;
    }
    client.chunk(&message::clean("in one chunk"), true)?;
    client.expect(250)?;
    let log = rspamd.log();
    let line = log.lines().rev().find(|line| line.contains("task_write_log")).with_context(|| log.clone())?;
    assert!(line.contains("rcpts: <one@server.example,two@server.example>"), "{line}");
    assert!(!line.contains("user: root") && !line.contains("qid: <undef>"), "{line}");
    Ok(())
}

#[test]
fn the_first_that_refuses_decides_and_nobody_waits_for_the_others() -> anyhow::Result<()> {
    let lab = Lab::new()?;
    let (clamd, rspamd) = (Clamd::start(&lab)?, Rspamd::start(&lab)?);
    let scan = vec![("rspamd", section(&rspamd.address(), ", deadline: 8s, on-failure: pass"))];
    let bench = Bench::new(lab, &Settings { scan, ..Settings::scanning(clamd.address()) })?;
    let both = [message::gtube("both"), message::eicar().into_bytes()].concat();

    rspamd.signal(Signal::SIGSTOP)?;
    let began = wait::now();
    let reply = bench.expect(&message::infected("while rspamd hangs"), 550, "5.7.1 ")?;
    assert!(reply.contains(message::EICAR_SIGNATURE), "{reply}");
    assert!(began.elapsed() < Duration::from_secs(7), "it waited {:?}", began.elapsed());
    assert!(!bench.record().contains("rspamd"), "{}", bench.record());
    assert!(!bench.status()?.contains(" busy"), "the scan of rspamd is given up: {}", bench.status()?);
    // A slow scanner with `on-failure: pass` costs its own deadline, and no message.
    let began = wait::now();
    bench.expect(&message::clean("while rspamd hangs"), 250, "")?;
    assert!(began.elapsed() >= Duration::from_secs(8));
    assert!(bench.record().contains("rspamd:failed:"), "{}", bench.record());
    rspamd.signal(Signal::SIGCONT)?;

    clamd.signal(Signal::SIGSTOP)?;
    let reply = bench.expect(&both, 550, "5.7.1 ")?;
    assert!(reply.contains("Spam found"), "{reply}");
    clamd.signal(Signal::SIGCONT)?;
    assert_eq!(bench.server.messages().len(), 1);
    Ok(())
}

#[test]
fn a_scanner_that_is_down_has_its_own_policy() -> anyhow::Result<()> {
    let lab = Lab::new()?;
    let clamd = Clamd::start(&lab)?;
    let with = |lab: &Lab, name: &'static str, on_failure: &str| Settings {
        scan: vec![(name, absent(lab, &format!(", on-failure: {on_failure}")))],
        ..Settings::scanning(clamd.address())
    };
    let settings = with(&lab, "spamd", "pass");
    let mut bench = Bench::new(lab, &settings)?;
    let ham = message::clean("one of two looks");
    for name in ["spamd", "rspamd"] {
        bench.gateway.restart(&bench.lab, &with(&bench.lab, name, "pass"))?;
        bench.expect(&ham, 250, "")?;
        let record = bench.record();
        assert!(record.contains("verdict=failed") && record.contains("cannot connect"), "{record}");
        bench.expect(&message::infected("a virus all the same"), 550, "5.7.1 ")?;
        bench.gateway.restart(&bench.lab, &with(&bench.lab, name, "tempfail"))?;
        bench.expect(&ham, 451, "4.7.1 ")?;
        bench.gateway.restart(&bench.lab, &with(&bench.lab, name, "reject"))?;
        bench.expect(&ham, 550, "5.7.1 ")?;
    }
    assert_eq!(bench.server.messages().len(), 2);
    Ok(())
}

#[test]
fn a_scanner_that_fails_again_and_again_is_left_alone_until_it_is_back() -> anyhow::Result<()> {
    let lab = Lab::new()?;
    let mut spamd = Spamd::start(&lab)?;
    let breaker = ", deadline: 5s, circuit-breaker: {failures: 2, pause: 20s, longest-pause: 20s}";
    let scan = vec![("spamd", section(&spamd.address(), breaker))];
    let bench = Bench::new(lab, &Settings { scan, ..Settings::default() })?;
    let ham = message::clean("ham");
    bench.expect(&ham, 250, "")?;
    spamd.signal(Signal::SIGSTOP)?;
    for _ in 0..2 {
        bench.expect(&ham, 451, "4.7.1 ")?;
    }
    let began = wait::now();
    bench.expect(&ham, 451, "4.7.1 ")?;
    assert!(began.elapsed() < Duration::from_millis(4_500), "without a wait, not {:?}", began.elapsed());
    assert!(bench.record().contains("left alone"), "{}", bench.record());
    assert!(bench.status()?.contains("left alone for"), "{}", bench.status()?);
    bench.gateway.wait_for_log("scanner is left alone")?;

    spamd.signal(Signal::SIGKILL)?;
    spamd.stop().ok();
    drop(spamd);
    let _again = Spamd::start(&bench.lab)?;
    // A good check of its health ends the pause.
    wait::until(Duration::from_secs(40), "use of the spamd that is back", || {
        Ok((bench.send(&ham)?.code == 250).then_some(()))
    })?;
    bench.gateway.wait_for_log("scanner is in use again")?;
    assert!(!bench.status()?.contains("left alone"), "{}", bench.status()?);
    bench.expect(&message::gtube("spam"), 550, "5.7.1 ")?;
    Ok(())
}

#[test]
fn messages_too_large_for_a_spam_scanner_pass_unless_configured_otherwise() -> anyhow::Result<()> {
    let lab = Lab::new()?;
    let spamd = Spamd::start(&lab)?;
    let with = |more: &str| Settings {
        scan: vec![("spamd", section(&spamd.address(), &format!(", max-size: 100KiB{more}")))],
        ..Settings::default()
    };
    let mut bench = Bench::new(lab, &with(""))?;
    let large = message::large("too large for spamd", 300_000, 3);
    bench.expect(&large, 250, "")?;
    assert!(bench.record().contains("verdict=too-large"), "{}", bench.record());
    bench.expect(&message::gtube("small"), 550, "5.7.1 ")?;
    bench.gateway.restart(&bench.lab, &with(", on-too-large: reject"))?;
    bench.expect(&large, 552, "5.3.4 ")?;
    Ok(())
}

#[test]
fn on_a_busy_machine_spam_scanners_are_skipped_and_the_record_says_so() -> anyhow::Result<()> {
    let lab = Lab::new()?;
    let (clamd, spamd) = (Clamd::start(&lab)?, Spamd::start(&lab)?);
    let with = |most: &str| Settings {
        scan: vec![("max-load", most.to_owned()), ("spamd", section(&spamd.address(), ""))],
        ..Settings::scanning(clamd.address())
    };
    let mut bench = Bench::new(lab, &with("0.01"))?;
    load::raise_above(0.1)?;
    bench.expect(&message::gtube("nobody looks for spam"), 250, "")?;
    let record = bench.record();
    assert!(record.contains("spamd:skipped(load):0") && record.contains("verdict=clean"), "{record}");
    bench.expect(&message::infected("clamd does look"), 550, "5.7.1 ")?;
    bench.gateway.restart(&bench.lab, &with("10000"))?;
    bench.expect(&message::gtube("spam"), 550, "5.7.1 ")?;
    Ok(())
}

#[test]
fn the_scanners_copy_alone_has_a_header_and_spam_is_kept_for_the_operator() -> anyhow::Result<()> {
    let lab = Lab::new()?;
    let spamd = Spamd::start(&lab)?;
    let settings = Settings {
        scan: vec![("spamd", section(&spamd.address(), ""))],
        spool: vec![("header", "X-Proxy-Spool-Info"), ("leave-on", "[spam]")],
        ..Settings::default()
    };
    let bench = Bench::new(lab, &settings)?;
    let ham = message::clean("first");
    let mut client = Client::up_to_data(bench.lab.client(), Family::V4.smtp())?;
    client.send(&ham)?;
    client.send(message::END)?;
    client.expect(250)?;
    client.begin_data()?;
    let spam = message::gtube("second");
    client.send(&spam)?;
    client.send(message::END)?;
    client.expect(550)?;
    assert!(bench.server.messages() == [ham], "the server's message is as it was sent");
    let mut kept = wait::until(Duration::from_secs(10), "a kept copy", || {
        let names = fs::read_dir(bench.gateway.spool())?.collect::<Result<Vec<_>, _>>()?;
        let kept = |entry: &fs::DirEntry| entry.file_name().to_string_lossy().ends_with("-2.spam.eml");
        Ok(names.into_iter().find(kept).map(|entry| entry.path()))
    })
    .and_then(|path| Ok(fs::read(path)?))?;
    let end = kept.windows(2).position(|window| window == b"\r\n").context("no line")?;
    let message = kept.split_off(end + 2);
    let header = String::from_utf8(kept)?;
    assert!(header.starts_with("X-Proxy-Spool-Info: src=") && header.ends_with(", trns=1\r\n"), "{header}");
    assert!(header.contains(&format!(", ident=, dst={}, ", Family::V4.smtp())), "{header}");
    assert!(message.starts_with(&spam), "the message follows");
    Ok(())
}

#[test]
fn the_threshold_of_the_configuration_decides_what_is_spam() -> anyhow::Result<()> {
    let lab = Lab::new()?;
    let spamd = Spamd::start(&lab)?;
    let with = |threshold: &str| Settings {
        scan: vec![("spamd", section(&spamd.address(), &format!(", threshold: {threshold}")))],
        ..Settings::default()
    };
    let mut bench = Bench::new(lab, &with("2000"))?;
    bench.expect(&message::gtube("a thousand points"), 250, "")?;
    bench.gateway.restart(&bench.lab, &with("900"))?;
    bench.expect(&message::gtube("a thousand points"), 550, "5.7.1 ")?;
    Ok(())
}
