//! Debian's Postfix and the gateway as clients of the same servers: the same becomes of each recipient, with the
//! same status and the same record.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::Duration;

use anyhow::Context as _;
use gateway::queue::Target;
use gateway_tests::client::Client;
use gateway_tests::gateway::{Gateway, Settings};
use gateway_tests::lab::{Family, Lab};
use gateway_tests::postfix::Postfix;
use gateway_tests::scripted::{CLOSE, HANG, Script, Scripted};
use gateway_tests::wait;

use super::{envelope, fill, server, settings};

const SOON: Duration = Duration::from_secs(120);

/// Nobody listens.
const NOBODY: Script = &[("nobody", "")];

/// The servers. What both clients write of them is the same but for the size of a message, see [`sizeless`].
const CASES: &[Script] = &[
    &[],
    NOBODY,
    &[("EHLO", "502 5.5.2 what?")],
    &[("EHLO", "250-scripted.example\r\n250-PIPELINING\r\n250-SIZE\r\n250 DSN")],
    &[("connect", "220-two lines\r\n220 of greeting")],
    &[("connect", "554 go away")],
    &[("connect", "554 5.7.1 go away")],
    &[("connect", "421 4.3.2 not now")],
    &[("connect", CLOSE)],
    &[("connect", HANG)],
    &[("EHLO", "421 4.3.2 closing")],
    &[("EHLO", "502 what?"), ("HELO", "550 5.7.1 I know you")],
    &[("EHLO", CLOSE)],
    &[("EHLO", HANG)],
    &[("MAIL", "450 not now")],
    &[("MAIL", "451 4.7.1 greylisted")],
    &[("MAIL", "550 5.7.1 I do not like you")],
    &[("MAIL", "550-5.7.1 I do not\r\n550 5.7.1 like you")],
    &[("MAIL", "421 4.4.5 too busy")],
    &[("MAIL", CLOSE)],
    &[("MAIL", HANG)],
    &[("RCPT TO:<r1", "450 4.2.0 mailbox is full")],
    &[("RCPT TO:<r1", "550 5.1.1 who is that?")],
    &[("RCPT TO:<r2", "452 4.5.3 too many")],
    &[("RCPT TO:<r2", "552 5.2.2 over quota")],
    &[("RCPT", "550 5.1.1 nobody is here")],
    &[("EHLO", "250-x.example\r\n250 PIPELINING"), ("RCPT", "550 5.1.1 nobody is here")],
    &[("EHLO", "250-x.example\r\n250 PIPELINING"), ("RCPT TO:<r1", "450 4.2.0 not now")],
    &[("RCPT TO:<r1", "421 4.3.2 closing")],
    &[("RCPT TO:<r2", CLOSE)],
    &[("RCPT TO:<r2", "550 4.2.1 the two numbers differ")],
    &[("DATA", "451 4.3.0 no disk")],
    &[("DATA", "554 5.7.1 not your text")],
    &[("DATA", CLOSE)],
    &[(".", "451 4.3.0 no disk")],
    &[(".", "554 5.7.1 spam")],
    &[(".", "554 no number")],
    &[(".", "250 no number")],
    &[(".", CLOSE)],
    &[(".", HANG)],
    &[("EHLO", "250-scripted.example\r\n250 SIZE 10")],
    &[("EHLO", "250-scripted.example\r\n250 STARTTLS")],
    &[("QUIT", "500 5.5.1 stay")],
    &[("QUIT", CLOSE)],
];

fn port(number: usize) -> u16 {
    2_700 + u16::try_from(number).unwrap_or_default()
}

fn recipient(place: usize, number: usize) -> String {
    format!("r{place}@c{number}.example")
}

/// The client of the lab sends mail for all servers to a Postfix beside it.
fn by_postfix(lab: &Lab) -> anyhow::Result<Postfix> {
    let here = std::net::SocketAddr::new(Family::V4.client(), 25);
    let mut transports = String::new();
    for number in 0..CASES.len() {
        write!(transports, "{{c{number}.example = smtp:[{}]:{}}} ", Family::V4.server(), port(number))?;
    }
    let main = format!(
        "transport_maps = inline:{{{transports}}}\ndefault_transport = smtp\ninet_protocols = ipv4\n\
         smtp_helo_timeout = 15s\nsmtp_mail_timeout = 15s\nsmtp_data_done_timeout = 15s\n\
         minimal_backoff_time = 1h\nmaximal_backoff_time = 1h\nsmtp_tls_security_level = none\n\
         disable_dns_lookups = yes\n"
    );
    let master = "smtp unix - - n - 50 smtp\nerror unix - - n - - error\nretry unix - - n - - error\n";
    let postfix = Postfix::start_services(lab.client(), here, lab.directory(), &main, master)?;
    let mut client = Client::connect(lab.client(), here)?;
    client.expect(220)?;
    client.send(b"EHLO client.example\r\n")?;
    client.expect(250)?;
    for number in 0..CASES.len() {
        let commands = ["MAIL FROM:<>".to_owned()]
            .into_iter()
            .chain([1, 2].map(|place| format!("RCPT TO:<{}>", recipient(place, number))));
        for command in commands {
            client.send(format!("{command}\r\n").as_bytes())?;
            client.expect(250)?;
        }
        client.send(b"DATA\r\n")?;
        client.expect(354)?;
        client.send(b"From: <s@a.example>\r\nSubject: x\r\n\r\ntext\r\n.\r\n")?;
        client.expect(250)?;
    }
    Ok(postfix)
}

/// The same mail in the gateway's queue.
fn by_gateway(lab: &Lab) -> anyhow::Result<Gateway> {
    let mail = (0..CASES.len()).map(|number| {
        let [first, second] = [1, 2].map(|place| recipient(place, number));
        let mut envelope = envelope(Target::Original(server(port(number))), &[&first, &second]);
        envelope.sender = String::new();
        (envelope, "From: <s@a.example>\r\nSubject: x\r\n\r\ntext\r\n".to_owned())
    });
    fill(lab, mail.collect())?;
    let limits = "  resources: {helo-timeout: 15s, mail-timeout: 15s, data-done-timeout: 15s}\n";
    let settings = settings(lab, limits, "");
    let settings = Settings { more: settings.more.replace("time: 1s", "time: 1h"), ..settings };
    Gateway::start(lab, &settings)
}

/// The records of a log of Postfix, by recipient.
fn records_of_postfix(log: &str) -> BTreeMap<String, String> {
    log.lines()
        .filter_map(|line| {
            let (_, rest) = line.split_once("to=<")?;
            let (to, rest) = rest.split_once(">, ")?;
            let field = |name: &str| rest.split_once(name)?.1.split(", ").next().map(str::to_owned);
            let (relay, dsn) = (field("relay=")?, field("dsn=")?);
            let (status, reason) = rest.split_once("status=")?.1.split_once(" (")?;
            let reason = reason.strip_suffix(')')?;
            Some((to.to_owned(), format!("relay={relay} dsn={dsn} status={status} {reason}")))
        })
        .collect()
}

/// Those of the gateway's.
fn records_of_gateway(log: &str) -> BTreeMap<String, String> {
    log.lines()
        .filter(|line| line.contains("msg=delivery "))
        .filter_map(|line| {
            let field = |name: &str| line.split_once(name)?.1.split(' ').next().map(str::to_owned);
            let (to, relay, dsn, status) =
                (field(" to=")?, field(" relay=")?, field(" dsn=")?, field(" status=")?);
            let reason = line.split_once(" reason=")?.1;
            let reason = reason.trim_matches('"').replace("\\\"", "\"");
            Some((to, format!("relay={relay} dsn={dsn} status={status} {reason}")))
        })
        .collect()
}

/// A record without the size of the message: Postfix took it itself and put a field on top, the gateway's stands in
/// the queue as the test has put it there.
fn sizeless(record: &str) -> String {
    let Some((before, after)) = record.split_once("message size ") else { return record.to_owned() };
    format!("{before}message size N{}", after.trim_start_matches(|c: char| c.is_ascii_digit()))
}

#[test]
fn what_becomes_of_mail_is_what_becomes_of_it_with_postfix() -> anyhow::Result<()> {
    let lab = Lab::new()?;
    let mut servers = Vec::new();
    for (number, script) in CASES.iter().enumerate() {
        if *script != NOBODY {
            servers.push(Scripted::start(lab.server(), server(port(number)), script)?);
        }
    }
    let postfix = by_postfix(&lab)?;
    let mut gateway = by_gateway(&lab)?;
    let all = CASES.len() * 2;
    let (theirs, ours) = wait::until(SOON, "all records", || {
        let both = (records_of_postfix(&postfix.log()), records_of_gateway(&gateway.log()));
        Ok((both.0.len() == all && both.1.len() == all).then_some(both))
    })
    .with_context(|| format!("{}\n{}", postfix.log(), gateway.daemon().log_tail()))?;
    gateway.stop()?;
    let mut wrong = String::new();
    for (number, script) in CASES.iter().enumerate() {
        for place in [1, 2] {
            let to = recipient(place, number);
            let (theirs, ours) = (sizeless(&theirs[&to]), sizeless(&ours[&to]));
            if ours != theirs {
                writeln!(wrong, "{script:?} r{place}\n  Postfix {theirs}\n  gateway {ours}")?;
            }
        }
    }
    assert!(wrong.is_empty(), "\n{wrong}");
    drop(servers);
    Ok(())
}
