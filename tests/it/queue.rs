//! Mail in the queue, and the gateway that delivers it to real servers.

use std::collections::BTreeSet;
use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::chown;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::Context as _;
use gateway::clock;
use gateway::config::units::ByteCount;
use gateway::queue::{Envelope, Queue, QueueId, Recipient, Summary, Target};
use gateway_tests::gateway::{Gateway, Settings};
use gateway_tests::lab::{Family, Lab};
use gateway_tests::nsd::{Nsd, Zone};
use gateway_tests::postfix::{self, Postfix};
use gateway_tests::scripted::Scripted;
use gateway_tests::sink::Sink;
use gateway_tests::{process, wait};
use nix::unistd::User;

mod differential;
mod disk;
mod killed;
mod stuck;

/// How long anything may take.
const SOON: Duration = Duration::from_secs(90);

fn folder(lab: &Lab) -> PathBuf {
    lab.directory().join("gateway/queue")
}

/// A gateway with a queue, and mail that is tried again after a second.
fn settings(lab: &Lab, delivery: &str, more: &str) -> Settings {
    let folder = folder(lab);
    let more = format!(
        "queue:\n  directory: {}\n  min-free: 1MiB\n\
         delivery:\n  schedule: {{minimal-backoff-time: 1s, maximal-backoff-time: 1s}}\n{delivery}{more}",
        folder.display()
    );
    Settings { more, log: vec![("addresses", "full")], ..Settings::default() }
}

fn server(port: u16) -> SocketAddr {
    SocketAddr::new(Family::V4.server(), port)
}

fn envelope(target: Target, recipients: &[&str]) -> Envelope {
    Envelope {
        arrived: clock::wall_millis(),
        sender: "s@a.example".to_owned(),
        recipients: recipients.iter().map(|address| Recipient::new(*address)).collect(),
        target,
        ..Envelope::default()
    }
}

fn text(id: &str) -> String {
    format!(
        "From: <s@a.example>\r\nSubject: x\r\nMessage-ID: <{id}>\r\n\r\n.\r\n..\r\n.dot\r\nthe end of {id}.\r\n"
    )
}

/// Puts mail into the queue of a gateway that does not run, as its account would.
fn fill(lab: &Lab, mail: Vec<(Envelope, String)>) -> anyhow::Result<Vec<QueueId>> {
    fill_at(&folder(lab), mail)
}

/// The same in a folder of this path.
fn fill_at(folder: &Path, mail: Vec<(Envelope, String)>) -> anyhow::Result<Vec<QueueId>> {
    fs::create_dir_all(folder.parent().context("no parent")?)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let queue = Queue::open(folder, ByteCount::new(0))?;
    let ids = runtime.block_on(async {
        let accepted = mail.into_iter().map(|(envelope, text)| {
            let queue = queue.clone();
            tokio::spawn(async move { queue.accept(envelope, vec![text.into()]).await })
        });
        let mut ids = Vec::new();
        for accepted in accepted.collect::<Vec<_>>() {
            ids.push(accepted.await??);
        }
        anyhow::Ok(ids)
    })?;
    drop(queue);
    drop(runtime);
    let account = User::from_name("nobody")?.context("no account `nobody`")?;
    let (user, group) = (Some(account.uid.as_raw()), Some(account.gid.as_raw()));
    for entry in fs::read_dir(folder)? {
        chown(entry?.path(), user, group)?;
    }
    chown(folder, user, group)?;
    Ok(ids)
}

/// What is in the queue of a gateway that does not run.
fn left(lab: &Lab) -> anyhow::Result<Vec<Summary>> {
    left_in(lab, &folder(lab))
}

/// The same of one elsewhere.
fn left_in(lab: &Lab, folder: &Path) -> anyhow::Result<Vec<Summary>> {
    let copy = lab.directory().join(format!("left-{}", clock::monotonic()));
    fs::create_dir(&copy)?;
    fs::set_permissions(&copy, std::os::unix::fs::PermissionsExt::from_mode(0o700))?;
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        fs::copy(entry.path(), copy.join(entry.file_name()))?;
    }
    let queue = Queue::open(&copy, ByteCount::new(0))?;
    Ok(queue.list(None, usize::MAX))
}

/// Waits until a gateway has handed everything on.
fn wait_until_empty(gateway: &Gateway) -> anyhow::Result<()> {
    wait::until(SOON, "an empty queue", || {
        let (done, said) = gateway.control_command("queue list --json")?;
        let list: serde_json::Value = serde_json::from_str(&said).unwrap_or_default();
        Ok((done && list["messages"].as_array().is_some_and(Vec::is_empty)).then_some(()))
    })
    .with_context(|| gateway.daemon().log_tail())
}

/// Waits for a line of the gateway's log about a recipient.
fn record(gateway: &Gateway, recipient: &str, status: &str) -> anyhow::Result<String> {
    let (recipient, status) = (format!("to={recipient}"), format!("status={status}"));
    wait::until(SOON, &format!("{recipient} {status}"), || {
        let log = gateway.log();
        let line = log.lines().find(|line| line.contains(&recipient) && line.contains(&status));
        Ok(line.map(ToOwned::to_owned))
    })
    .with_context(|| gateway.daemon().log_tail())
}

/// Changes a letter of what is in the queue.
fn damage(folder: &Path, text: &str) -> anyhow::Result<()> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        let mut octets = fs::read(&path)?;
        let at = octets.windows(text.len()).position(|window| window == text.as_bytes());
        if let Some(octet) = at.and_then(|at| octets.get_mut(at)) {
            *octet ^= 0x20;
            return Ok(fs::write(&path, octets)?);
        }
    }
    anyhow::bail!("`{text}` is nowhere in {}", folder.display())
}

#[test]
fn damaged_mail_is_held_and_the_postmaster_hears_of_it() -> anyhow::Result<()> {
    let lab = Lab::new()?;
    let server = server(2525);
    let sink = Sink::at(lab.server(), server, lab.directory())?;
    let relay = Target::Relay(format!("[{}]:{}", server.ip(), server.port()));
    // What is damaged at the end of all was never whole; those behind it show that it was.
    let names = ["m0", "m1", "m2"];
    let mail = names.map(|name| (envelope(relay.clone(), &["r@b.example"]), text(name)));
    let ids = fill(&lab, mail.to_vec())?;
    let (id, name) = ids.iter().zip(names).min().context("no mail")?;
    damage(&folder(&lab), &format!("the end of {name}."))?;
    let classes = "  trouble-shooting: {notify-classes: [data]}\n";
    let mut gateway = Gateway::start(&lab, &settings(&lab, classes, ""))?;
    let notice = sink.wait_for("of the class `data`")?;
    let id = id.to_string();
    anyhow::ensure!(notice.contains(&id) && notice.contains("Gateway SMTP client: errors from"), "{notice}");
    let (_, shown) = gateway.control_command_with("queue", &["list"])?;
    let line = shown.lines().find(|line| line.starts_with(&id)).unwrap_or_default();
    anyhow::ensure!(line.ends_with("damaged") && shown.contains("1 held (1 damaged)"), "{shown}");
    let whole = format!("Message-ID: <{name}>");
    assert!(!sink.messages()?.iter().any(|message| message.contains(&whole)), "it was delivered");
    gateway.stop()
}

#[test]
fn it_is_said_for_whom_mail_waits_for_how_long_and_why() -> anyhow::Result<()> {
    let lab = Lab::new()?;
    let address = Family::V4.server();
    let (refused, busy) = (Target::Original(server(2_598)), Target::Relay(format!("[{address}]:2599")));
    let script = &[("connect", "421 4.3.2 come back tomorrow")];
    let _busy = Scripted::start(lab.server(), server(2_599), script)?;
    let old = |target: &Target| {
        let new = envelope(target.clone(), &["r1@b.example", "r2@c.example"]);
        Envelope { arrived: new.arrived.saturating_sub(1_000_000), ..new }
    };
    let mail = [old(&refused), old(&refused), old(&busy), envelope(refused.clone(), &["r3@b.example"])];
    let mail = mail.into_iter().enumerate().map(|(number, envelope)| (envelope, text(&number.to_string())));
    let ids = fill(&lab, mail.collect())?;
    // Else a notice of the busy server would wait for it, too.
    let quiet = "  trouble-shooting: {notify-classes: []}\n";
    let mut gateway = Gateway::start(&lab, &settings(&lab, quiet, ""))?;
    let rows = wait::until(SOON, "reasons of both", || {
        let (done, said) = gateway.control_command("queue destinations --json")?;
        anyhow::ensure!(done, "{said}");
        let list: serde_json::Value = serde_json::from_str(&said)?;
        let rows = list["destinations"].as_array().cloned().unwrap_or_default();
        Ok(rows.iter().all(|row| row["reason"].is_string()).then_some(rows))
    })?;
    let [many, one] = <[_; 2]>::try_from(rows).map_err(|rows| anyhow::anyhow!("{rows:?}"))?;
    let counted = |row: &serde_json::Value| {
        let ages: Vec<_> =
            row["ages"].as_array().into_iter().flatten().filter_map(|age| age.as_u64()).collect();
        (row["destination"].as_str().map(ToOwned::to_owned), row["recipients"].as_u64(), ages)
    };
    assert_eq!(
        counted(&many),
        (Some(format!("[{address}]:2598")), Some(5), vec![1, 2, 0, 0, 0, 0]),
        "{many}"
    );
    assert_eq!(counted(&one), (Some(format!("[{address}]:2599")), Some(2), vec![0, 1, 0, 0, 0, 0]), "{one}");
    let reason = |row: &serde_json::Value| row["reason"].as_str().unwrap_or_default().to_owned();
    assert!(reason(&many).contains("Connection refused"), "{many}");
    assert!(reason(&one).contains("come back tomorrow"), "{one}");
    let (_, table) = gateway.control_command("queue destinations")?;
    assert!(table.starts_with("DESTINATION") && table.contains("come back tomorrow"), "{table}");
    let id = ids.get(2).context("no third message")?.to_string();
    let (_, shown) = gateway.control_command_with("queue show", &[&id])?;
    assert!(shown.contains("reason ") && shown.contains("come back tomorrow"), "{shown}");
    // What is listed is what `flush` takes.
    let sink = Sink::at(lab.server(), server(2_598), lab.directory())?;
    let name = format!("[{address}]:2598");
    let (done, said) = gateway.control_command_with("queue flush", &[&name])?;
    anyhow::ensure!(done, "{said}");
    wait::until(SOON, "the mail of one destination", || Ok((sink.messages()?.len() == 3).then_some(())))?;
    gateway.stop()
}

#[test]
fn mail_that_cannot_be_read_for_want_of_descriptors_is_read_when_there_are_some() -> anyhow::Result<()> {
    let lab = Lab::new()?;
    let sink = Sink::at(lab.server(), server(2_600), lab.directory())?;
    let target = Target::Original(server(2_600));
    let left = lab.directory().join("left");
    fill_at(&left, vec![(envelope(target, &["r@b.example"]), text("found@a.example"))])?;
    // Generations of the queue are named by the second.
    std::thread::sleep(Duration::from_millis(1_100));
    let mut gateway = Gateway::start(&lab, &settings(&lab, "", ""))?;
    // One is left for the list of files or a lock, none for the segment behind it.
    let proxy = gateway.proxy()?;
    let numbers = fs::read_dir(format!("/proc/{proxy}/fd"))?;
    let numbers = numbers.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<u64>().ok());
    let open: BTreeSet<u64> = numbers.collect();
    let most = (0..).find(|number| !open.contains(number)).context("no number is free")? + 1;
    let limit = |most: &str| {
        // As the account of the process, which may: root of a container may not.
        let mut command = Command::new("setpriv");
        command.args(["--reuid=nobody", "--regid=nogroup", "--clear-groups", "prlimit"]);
        process::done(command.args(["--pid", &proxy.to_string(), &format!("--nofile={most}:")])).map(drop)
    };
    limit(&most.to_string())?;
    // As what a process leaves that died.
    for entry in fs::read_dir(&left)? {
        let entry = entry?;
        fs::rename(entry.path(), folder(&lab).join(entry.file_name()))?;
    }
    // Longer than it takes until the folder is looked at.
    std::thread::sleep(Duration::from_secs(11));
    assert_eq!(sink.messages()?.len(), 0);
    limit("1024")?;
    sink.wait_for("the end of found@a.example.")?;
    wait_until_empty(&gateway)?;
    gateway.stop()
}

#[test]
fn mail_in_the_queue_is_delivered_and_leaves_it() -> anyhow::Result<()> {
    let lab = Lab::new()?;
    let sink = Sink::at(lab.server(), server(2_600), lab.directory())?;
    let target = Target::Original(server(2_600));
    let recipients = ["r1@b.example", "r2@c.example", "two words@b.example"];
    fill(&lab, vec![(envelope(target, &recipients), text("one@a.example"))])?;
    let mut gateway = Gateway::start(&lab, &settings(&lab, "", ""))?;
    let message = sink.wait_for("the end of one@a.example.")?;
    assert!(message.contains("\n.\n..\n.dot\n"), "{message}");
    for recipient in ["r1@b.example", "r2@c.example", "\"two words\"@b.example"] {
        assert!(message.contains(&format!("<{recipient}>")), "{message}");
    }
    let line = record(&gateway, "r1@b.example", "sent")?;
    let relay = format!("relay={0}[{0}]:2600", Family::V4.server());
    for part in [relay.as_str(), "delays=", "dsn=2.0.0", "reason=\"250 2.0.0 Ok\""] {
        assert!(line.contains(part), "{line}");
    }
    record(&gateway, "r2@c.example", "sent")?;
    gateway.stop()?;
    assert_eq!(left(&lab)?, []);
    assert_eq!(sink.messages()?.len(), 1, "once");
    Ok(())
}

#[test]
fn mail_for_a_server_that_is_away_is_tried_again_until_it_is_back() -> anyhow::Result<()> {
    let lab = Lab::new()?;
    let target = Target::Relay(format!("[{}]:2600", Family::V4.server()));
    fill(&lab, vec![(envelope(target, &["r@b.example"]), text("late@a.example"))])?;
    let mut gateway = Gateway::start(&lab, &settings(&lab, "", ""))?;
    let line = record(&gateway, "r@b.example", "deferred")?;
    assert!(line.contains("dsn=4.4.1") && line.contains("Connection refused"), "{line}");
    assert!(line.contains("relay=none"), "{line}");
    let sink = Sink::at(lab.server(), server(2_600), lab.directory())?;
    sink.wait_for("the end of late@a.example.")?;
    record(&gateway, "r@b.example", "sent")?;
    gateway.stop()?;
    assert_eq!(left(&lab)?, []);
    Ok(())
}

/// The domain of the sender, whose mail exchanger gets the reports.
const ZONES: [Zone; 1] = [Zone { name: "a.example", records: Some("@ MX 10 mx\nmx A 198.51.100.2") }];

#[test]
fn the_sender_of_refused_mail_gets_a_report_that_programs_can_read() -> anyhow::Result<()> {
    let lab = Lab::new()?;
    let name_server = server(5_353);
    let _nsd = Nsd::start(lab.server(), name_server, lab.directory(), &ZONES)?;
    let _refusing = Sink::with(lab.server(), server(2_601), lab.directory(), &["-f", "rcpt"])?;
    let sender = Sink::start(&lab, Family::V4)?;
    let target = Target::Original(server(2_601));
    fill(&lab, vec![(envelope(target, &["r1@b.example", "r2@b.example"]), text("lost@a.example"))])?;
    let dns = format!("dns: {{servers: ['{name_server}'], timeout: 2s, attempts: 2}}\n");
    let mut gateway = Gateway::start(&lab, &settings(&lab, "", &dns))?;
    let report = sender.wait_for("multipart/report")?;
    // What the sink adds is not part of it.
    let at = report.find("\nDate: ").context("no report")?;
    let file = lab.directory().join("report.eml");
    fs::write(&file, report.get(at + 1..).unwrap_or_default())?;
    let parsed = parsed(&file)?;
    for part in [
        "to s@a.example",
        "type multipart/report delivery-status",
        "Auto-Submitted auto-replied",
        "Final-Recipient rfc822; r1@b.example",
        "Final-Recipient rfc822; r2@b.example",
        "Action failed",
        "Status 5.3.0",
        "Diagnostic-Code smtp; 500 5.3.0 Error: command failed",
        "original <lost@a.example>",
        "Return-Path <s@a.example>",
    ] {
        assert!(parsed.contains(part), "{part}:\n{parsed}\n{report}");
    }
    record(&gateway, "r1@b.example", "bounced")?;
    record(&gateway, "s@a.example", "sent")?;
    gateway.stop()?;
    assert_eq!(left(&lab)?, []);
    Ok(())
}

/// A report as Python's library understands it.
fn parsed(file: &Path) -> anyhow::Result<String> {
    const PROGRAM: &str = "
import email, sys
m = email.message_from_file(open(sys.argv[1]))
print('to', m['To']); print('type', m.get_content_type(), m.get_param('report-type'))
print('Auto-Submitted', m['Auto-Submitted'])
text, status, original = m.get_payload()
for block in status.get_payload():
    for name, value in block.items(): print(name, value)
inner = original.get_payload(0)
print('original', inner['Message-ID']); print('Return-Path', inner['Return-Path'])
";
    let output = Command::new("python3").args(["-c", PROGRAM]).arg(file).output()?;
    let text = [output.stdout, output.stderr].concat();
    Ok(String::from_utf8_lossy(&text).into_owned())
}

#[test]
fn an_operator_sees_mail_in_the_queue_and_says_what_becomes_of_it() -> anyhow::Result<()> {
    let lab = Lab::new()?;
    let target = Target::Original(server(2_600));
    let mail = ["one", "two", "three"]
        .map(|name| (envelope(target.clone(), &["r@b.example"]), text(&format!("{name}@a.example"))));
    let ids = fill(&lab, mail.to_vec())?;
    let mut gateway = Gateway::start(&lab, &settings(&lab, "", ""))?;
    let ask = |command: &str, arguments: &[&str]| -> anyhow::Result<String> {
        let (done, said) = gateway.control_command_with(&format!("queue {command}"), arguments)?;
        anyhow::ensure!(done, "queue {command} {arguments:?}: {said}");
        Ok(said)
    };
    let [one, two, three] =
        ids.iter().map(ToString::to_string).collect::<Vec<_>>().try_into().unwrap_or_default();
    // All three were taken at once; the list is in the order of their names.
    let second = ids.iter().copied().collect::<BTreeSet<_>>().into_iter().nth(1).context("no second")?;
    assert_eq!(ask("hold", &["--all"])?, "3 messages\n");
    let list: serde_json::Value = serde_json::from_str(&ask("list", &["--json"])?)?;
    assert_eq!(
        (&list["held"], &list["messages"][1]["id"]),
        (&3.into(), &second.to_string().into()),
        "{list}"
    );
    assert!(ask("show", &[&one])?.contains("sender     <s@a.example>"));
    assert!(ask("cat", &[&one])?.contains("\r\n.dot\r\nthe end of one@a.example.\r\n"));
    assert_eq!(ask("delete", &[&one])?, "1 message\n");
    // Nobody listens where it should go; elsewhere somebody does.
    let sink = Sink::at(lab.server(), server(2_601), lab.directory())?;
    let relay = format!("[{}]:2601", Family::V4.server());
    let renamed = ask("requeue", &[&two, "--relay", &relay])?;
    assert!(renamed.starts_with("1 message: ") && !renamed.contains(&two), "{renamed}");
    sink.wait_for("the end of two@a.example.")?;
    assert_eq!(ask("release", &[&three])?, "1 message\n");
    record(&gateway, "r@b.example", "deferred")?;
    let late = Sink::at(lab.server(), server(2_600), lab.directory())?;
    // It is deferred for a second at a time: how many wait in this moment is chance.
    ask("flush", &[&format!("[{}]:2600", Family::V4.server())])?;
    late.wait_for("the end of three@a.example.")?;
    assert!(!gateway.control_command_with("queue show", &[&one])?.0, "it was thrown away");
    gateway.stop()?;
    assert_eq!(left(&lab)?, []);
    assert_eq!(sink.messages()?.len() + late.messages()?.len(), 2);
    Ok(())
}

#[test]
fn a_destination_that_hangs_holds_no_other() -> anyhow::Result<()> {
    let lab = Lab::new()?;
    // Connections wait in its backlog; nobody ever takes them.
    let _silent = lab.server().listen(server(2_598))?;
    let sink = Sink::at(lab.server(), server(2_600), lab.directory())?;
    let mut mail = Vec::new();
    for number in 0..200 {
        let stuck = envelope(Target::Original(server(2_598)), &["stuck@b.example"]);
        mail.push((stuck, text(&format!("stuck{number}@a.example"))));
    }
    for number in 0..60 {
        let passed = envelope(Target::Original(server(2_600)), &["passed@c.example"]);
        mail.push((passed, text(&format!("passed{number}@a.example"))));
    }
    fill(&lab, mail)?;
    let mut gateway = Gateway::start(&lab, &settings(&lab, "", ""))?;
    wait::until(SOON, "all mail for the other destination", || {
        Ok((sink.messages()?.len() == 60).then_some(()))
    })
    .with_context(|| gateway.daemon().log_tail())?;
    assert!(!gateway.log().contains("to=stuck@b.example"), "none of them has ended");
    gateway.stop()?;
    assert_eq!(left(&lab)?.len(), 200, "what was cut off is still there");
    Ok(())
}

/// Mail for one server, one message behind the other, and the uses of connections that the records tell of.
fn uses(lab: &Lab, target: &Target, count: u32, settings: &Settings) -> anyhow::Result<(Vec<u32>, String)> {
    let mail = (0..count)
        .map(|number| (envelope(target.clone(), &["r@b.example"]), text(&format!("f{number}@a.example"))));
    fill(lab, mail.collect())?;
    let mut gateway = Gateway::start(lab, settings)?;
    let uses = wait::until(SOON, "all records", || {
        let log = gateway.log();
        let lines = log.lines().filter(|line| line.contains("status=sent"));
        // The first is not said.
        let number = |line: &str| {
            let number =
                line.split_once("conn_use=").and_then(|(_, rest)| rest.split(' ').next()?.parse().ok());
            number.unwrap_or(1)
        };
        let uses: Vec<u32> = lines.map(number).collect();
        Ok((uses.len() == usize::try_from(count)?).then_some(uses))
    })
    .with_context(|| gateway.daemon().log_tail())?;
    gateway.stop()?;
    assert_eq!(left(lab)?, []);
    fs::remove_dir_all(folder(lab))?;
    Ok((uses, gateway.log()))
}

#[test]
fn mail_that_follows_mail_takes_its_connection() -> anyhow::Result<()> {
    let lab = Lab::new()?;
    let sink = Sink::at(lab.server(), server(2_600), lab.directory())?;
    let lmtp = Sink::with(lab.server(), server(2_624), lab.directory(), &["-L"])?;
    let smtp = Target::Relay(format!("[{}]:2600", Family::V4.server()));
    let target = Target::Relay(format!("lmtp:[{}]:2624", Family::V4.server()));
    let name = Family::V4.server();
    // One behind the other.
    let one = "default-destination-concurrency-limit: 1, connection-cache-time-limit: 1h";
    let listed = format!("connection-cache-on-demand: false, connection-cache-destinations: ['{name}']");
    let always: Vec<u32> = (1..=6).collect();
    for (resources, target, expected) in [
        (listed.clone(), &smtp, always.clone()),
        (listed.clone(), &target, always),
        ("connection-cache-on-demand: false".to_owned(), &smtp, vec![1; 6]),
        (format!("{listed}, connection-reuse-count-limit: 2"), &smtp, vec![1, 2, 1, 2, 1, 2]),
        // Two seconds lie between them.
        (format!("{listed}, connection-reuse-time-limit: 1s, destination-rate-delay: 2s"), &smtp, vec![1; 6]),
    ] {
        let settings = settings(&lab, &format!("  resources: {{{one}, {resources}}}\n"), "");
        assert_eq!(uses(&lab, target, 6, &settings)?.0, expected, "{resources}");
    }
    // How many wait when a delivery begins is chance; that there are some is not.
    let (uses, _) = uses(&lab, &smtp, 20, &settings(&lab, &format!("  resources: {{{one}}}\n"), ""))?;
    assert!(uses.iter().any(|use_| *use_ > 2), "{uses:?}");
    assert_eq!((sink.messages()?.len(), lmtp.messages()?.len()), (44, 6));
    Ok(())
}

// Nobody waits for another attempt because a server takes no more mail over one connection.
#[test]
fn a_server_that_ends_a_kept_connection_gets_the_mail_over_a_new_one() -> anyhow::Result<()> {
    let lab = Lab::new()?;
    let _server = Scripted::start(
        lab.server(),
        server(2_600),
        &[("again MAIL", "421 4.7.0 One message for each connection")],
    )?;
    let resources = format!(
        "  resources: {{default-destination-concurrency-limit: 1, connection-cache-time-limit: 1h, \
         connection-cache-destinations: ['{}']}}\n",
        Family::V4.server()
    );
    let target = Target::Relay(format!("[{}]:2600", Family::V4.server()));
    assert_eq!(uses(&lab, &target, 4, &settings(&lab, &resources, ""))?.0, [1; 4]);
    Ok(())
}

#[test]
fn a_connection_under_tls_is_kept_for_mail_that_asks_for_no_more() -> anyhow::Result<()> {
    let lab = Lab::new()?;
    let address = Family::V4.second_smtp();
    let postfix = Postfix::start(lab.server(), address, lab.directory())?;
    let target = Target::Relay(format!("[{}]:{}", address.ip(), address.port()));
    let fingerprint = postfix::fingerprint(postfix.certificate())?;
    let one = format!(
        "  resources: {{default-destination-concurrency-limit: 1, connection-cache-time-limit: 1h, \
         connection-cache-destinations: ['{}']}}\n",
        address.ip()
    );
    for (policy, expected, handshakes) in [
        ("encrypt".to_owned(), vec![1, 2, 3, 4], 1),
        (format!("fingerprint match={fingerprint}"), vec![1, 2, 3, 4], 1),
        ("encrypt connection_reuse=no".to_owned(), vec![1; 4], 4),
    ] {
        let starttls =
            format!("  starttls: {{tls-policy-maps: ['static:{policy}'], tls-loglevel: 1}}\n{one}");
        let (uses, log) = uses(&lab, &target, 4, &settings(&lab, &starttls, ""))?;
        let made = log.matches("TLS connection established").count();
        assert_eq!((uses, made), (expected, handshakes), "{policy}");
    }
    Ok(())
}

#[test]
fn an_idle_connection_is_closed_in_time() -> anyhow::Result<()> {
    let lab = Lab::new()?;
    let sink = Sink::at(lab.server(), server(2_600), lab.directory())?;
    let target = Target::Original(server(2_600));
    let destination = Family::V4.server();
    for (limit, stays) in [("1s", false), ("1h", true)] {
        fill(&lab, vec![(envelope(target.clone(), &["r@b.example"]), text(&format!("{limit}@a.example")))])?;
        let resources = format!(
            "  resources: {{connection-cache-destinations: ['{destination}'], connection-cache-time-limit: {limit}}}\n"
        );
        let mut gateway = Gateway::start(&lab, &settings(&lab, &resources, ""))?;
        sink.wait_for(&format!("the end of {limit}@a.example."))?;
        record(&gateway, "r@b.example", "sent")?;
        let is_open = || {
            let sockets = lab.server().command("ss").args(["-Htn", "state", "established"]).output()?;
            anyhow::Ok(String::from_utf8_lossy(&sockets.stdout).contains(":2600 "))
        };
        if stays {
            assert!(is_open()?, "it is kept");
        } else {
            wait::until(SOON, "end of the connection", || Ok((!is_open()?).then_some(())))?;
        }
        gateway.stop()?;
        fs::remove_dir_all(folder(&lab))?;
    }
    Ok(())
}
