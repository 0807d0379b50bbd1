//! The Sender Policy Framework, asked of a real name server.

use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::time::Duration;

use gateway::clock;
use gateway::config::file::{Dns, Log, Spf};
use gateway::dns::Resolver;
use gateway::outcome::{Spf as Finding, SpfIdentity, SpfResult};
use gateway::session::checks::spf::SenderPolicy;
use gateway::session::checks::{Check as _, Found, Subject};
use gateway::smtp::question::{Question, Ruling};
use gateway::smtp::refusal::Refusal;
use gateway::telemetry::Telemetry;
use gateway_tests::client::Client;
use gateway_tests::gateway::{Gateway, Settings};
use gateway_tests::lab::{Family, Lab};
use gateway_tests::message::{self, END};
use gateway_tests::nsd::{Nsd, Zone};
use gateway_tests::recorder::{Manners, Recorder};
use serde_json::json;

use crate::subject::subject;

const SOON: Duration = Duration::from_secs(20);

/// The policies of all tests. A client of the lab has 192.0.2.2 or 2001:db8:1::2, the router
/// 198.51.100.1 towards the server.
const POLICIES: &str = "\
client TXT \"v=spf1 ip4:192.0.2.2 ip6:2001:db8:1::/64 -all\"
client A 192.0.2.2
client MX 10 relay.client
relay.client A 192.0.2.2
relay.client AAAA 2001:db8:1::2
router TXT \"v=spf1 ip4:198.51.100.1 -all\"
nobody TXT \"v=spf1 -all exp=why.nobody.example\"
why.nobody TXT \"%{i} is not ours, says %{r}: see http://%{o}/\" \"%{l}\"
control TXT \"v=spf1 -all exp=why.control.example\"
why.control TXT \"two\\010lines\"
twice TXT \"v=spf1 -all exp=why.twice.example\"
why.twice TXT \"one\"
why.twice TXT \"another\"
forward TXT \"v=spf1 redirect=nobody.example\"
soft TXT \"v=spf1 ~all\"
open TXT \"v=spf1 ?all\"
silent TXT \"v=spf1 ip4:203.0.113.1\"
unrelated TXT \"google-site-verification=0123456789abcdef\"
misspelt TXT \"v=spf1 ipv4:192.0.2.2 -all\"
doubled TXT \"v=spf1 -all\"
doubled TXT \"v=spf1 ip4:192.0.2.2 -all\"
split TXT \"v=spf1 ip4:192.0\" \".2.2 -all\"
by-a TXT \"v=spf1 a:relay.client.example -all\"
by-a-net TXT \"v=spf1 a:relay.client.example/24//64 -all\"
by-mx TXT \"v=spf1 mx:client.example -all\"
by-include TXT \"v=spf1 include:nobody.example include:client.example -all\"
by-include-exp TXT \"v=spf1 include:nobody.example -all\"
include-of-none TXT \"v=spf1 include:unrelated.example -all\"
redirect-to-none TXT \"v=spf1 redirect=unrelated.example\"
by-exists TXT \"v=spf1 exists:%{ir}.%{v}.%{l}.list.by-exists.example -all\"
2.2.0.192.in-addr.bob.list.by-exists A 127.0.0.2
by-ptr TXT \"v=spf1 ptr:client.example -all\"
by-name TXT \"v=spf1 exists:%{p}.names.example -all\"
relay.client.example.names A 127.0.0.2
helo TXT \"v=spf1 a:%{h} -all\"
loop TXT \"v=spf1 include:loop.example -all\"
void TXT \"v=spf1 a:v1.example a:v2.example a:v3.example -all\"
two-void TXT \"v=spf1 a:v1.example a:v2.example a:relay.client.example -all\"
ten TXT \"v=spf1 a:s a:s a:s a:s a:s a:s a:s a:s a:s a:relay.client.example -all\"
eleven TXT \"v=spf1 a:s a:s a:s a:s a:s a:s a:s a:s a:s a:s a:relay.client.example -all\"
broken TXT \"v=spf1 include:servfail.example -all\"
before-broken TXT \"v=spf1 ip4:192.0.2.2 include:servfail.example -all\"
xn--bcher-kva TXT \"v=spf1 -all\"";

const ZONES: [Zone; 5] = [
    Zone { name: "example", records: Some(POLICIES) },
    // No data: SERVFAIL.
    Zone { name: "servfail.example", records: None },
    Zone { name: "s", records: Some("@ A 203.0.113.1") },
    Zone {
        name: "2.0.192.in-addr.arpa",
        records: Some("2 PTR forged.nobody.example.\n2 PTR relay.client.example."),
    },
    Zone { name: "0.1.0.0.2.ip6.arpa", records: Some("") },
];

/// Where the name server listens: an address of the server's host.
fn name_server() -> SocketAddr {
    SocketAddr::new(Family::V4.server(), 5353)
}

fn settings(spf: &str, more: &str) -> Settings {
    let server = name_server();
    let more = format!(
        "dns:\n  servers: ['{server}']\n  timeout: 1s\n  attempts: 1\n\
         spf: {{{spf}, exempt: [], deadline: 4s}}\n{more}"
    );
    Settings { more, ..Settings::default() }
}

/// The reply to MAIL of `sender`, on a session of its own that says `helo`.
fn mail(lab: &Lab, sender: &str) -> anyhow::Result<(Client, gateway_tests::client::Reply)> {
    let (mut client, _) = Client::greeted(lab.client(), Family::V4.smtp())?;
    client.send(format!("MAIL FROM:<{sender}>\r\n").as_bytes())?;
    let reply = client.reply_within(SOON)?;
    Ok((client, reply))
}

#[test]
fn mail_of_a_domain_that_does_not_know_the_client_is_refused_with_its_explanation() -> anyhow::Result<()> {
    let lab = Lab::new()?;
    let _nsd = Nsd::start(lab.server(), name_server(), lab.directory(), &ZONES)?;
    let server = Recorder::start(lab.server(), Family::V4.smtp(), Manners::default())?;
    let gateway = Gateway::start(&lab, &settings("check: incoming", ""))?;
    let (mut client, reply) = mail(&lab, "bob@nobody.example")?;
    let expected = "5.7.23 gateway.example SPF: 192.0.2.2 may not send mail of nobody.example; nobody.example \
                    says: 192.0.2.2 is not ours, says gateway.example: see http://nobody.example/bob";
    assert_eq!((reply.code, reply.lines.as_slice()), (550, &[expected.to_owned()][..]));
    let told = gateway.wait_for_log("domain=nobody.example")?;
    assert!(told.contains("result=fail") && told.contains("refused=true"), "{told}");

    // The session goes on, and its next sender is looked up anew.
    client.envelope("")?;
    client.send(b"DATA\r\n")?;
    client.expect(354)?;
    client.send(&[message::clean("hello").as_slice(), END].concat())?;
    client.expect(250)?;
    client.send(b"QUIT\r\n")?;
    client.expect(221)?;
    let record = gateway.wait_for_log("msg=message")?;
    assert!(record.contains("spf=pass") && record.contains("spf_identity=mailfrom"), "{record}");
    let seen = server.wait_closed(SOON)?;
    assert_eq!(seen[0].commands("MAIL"), 1);
    Ok(())
}

#[test]
fn the_address_that_is_checked_is_the_one_of_the_configuration() -> anyhow::Result<()> {
    let lab = Lab::new()?;
    let _nsd = Nsd::start(lab.server(), name_server(), lab.directory(), &ZONES)?;
    let _server = Recorder::start(lab.server(), Family::V4.smtp(), Manners::default())?;
    let outgoing = Settings { source_address: "gateway", ..settings("check: outgoing", "") };
    let mut gateway = Gateway::start(&lab, &outgoing)?;
    assert_eq!(mail(&lab, "a@router.example")?.1.code, 250);
    assert_eq!(mail(&lab, "a@client.example")?.1.code, 550);

    gateway.restart(&lab, &settings("check: fixed, fixed-address: 198.51.100.1", ""))?;
    assert_eq!(mail(&lab, "a@router.example")?.1.code, 250);
    assert_eq!(mail(&lab, "a@client.example")?.1.code, 550);

    gateway.restart(&lab, &settings("check: incoming, log-only: true", ""))?;
    assert_eq!(mail(&lab, "a@nobody.example")?.1.code, 250);
    let told = gateway.wait_for_log("domain=nobody.example")?;
    assert!(told.contains("result=fail") && told.contains("refused=false"), "{told}");
    Ok(())
}

#[test]
fn clients_that_the_server_knows_send_any_domain_with_auth_skip() -> anyhow::Result<()> {
    let lab = Lab::new()?;
    let _nsd = Nsd::start(lab.server(), name_server(), lab.directory(), &ZONES)?;
    let mut manners = Manners::default();
    manners.keywords.push("AUTH PLAIN".to_owned());
    let _server = Recorder::start(lab.server(), Family::V4.smtp(), manners)?;
    let _gateway = Gateway::start(&lab, &settings("check: incoming", "auth:\n  skip: [spf]\n"))?;
    assert_eq!(mail(&lab, "bob@nobody.example")?.1.code, 550);
    let (mut client, _) = Client::greeted(lab.client(), Family::V4.smtp())?;
    client.send(b"AUTH PLAIN AGJvYgBzZWNyZXQ=\r\n")?;
    client.expect(235)?;
    client.send(b"MAIL FROM:<bob@nobody.example>\r\n")?;
    client.expect(250)?;
    Ok(())
}

#[test]
fn with_a_silent_name_server_mail_passes_or_is_tried_again_as_configured() -> anyhow::Result<()> {
    let lab = Lab::new()?;
    let _silent = lab.server().enter(|| UdpSocket::bind(name_server()))??;
    let _server = Recorder::start(lab.server(), Family::V4.smtp(), Manners::default())?;
    let mut gateway = Gateway::start(&lab, &settings("check: incoming", ""))?;
    assert_eq!(mail(&lab, "bob@nobody.example")?.1.code, 250);
    gateway.wait_for_log("dns")?;
    gateway.restart(&lab, &settings("check: incoming, on-temperror: tempfail", ""))?;
    let (mut client, reply) = mail(&lab, "bob@nobody.example")?;
    assert!(reply.code == 451 && reply.contains("4.7.24"), "{reply}");
    client.send(b"NOOP\r\n")?;
    client.expect(250)?;
    Ok(())
}

/// Who sends what from where.
#[derive(Clone, Copy)]
struct Sent<'a> {
    from: &'a str,
    sender: &'a str,
    helo: &'a str,
}

/// What is found and ruled with `check: incoming` and these further keys.
async fn judged(nsd: &Nsd, sent: Sent<'_>, keys: serde_json::Value) -> anyhow::Result<(Finding, Ruling)> {
    let mut spf = json!({"check": "incoming", "exempt": [], "deadline": "15s"});
    for (key, value) in keys.as_object().into_iter().flatten() {
        spf[key] = value.clone();
    }
    let spf: Spf = serde_json::from_value(spf)?;
    let dns = Dns { servers: vec![nsd.address()], ..Dns::default() };
    let telemetry = Arc::new(Telemetry::new(&Log::default(), clock::now(), clock::wall()));
    let (name, resolver) = ("gw.example".to_owned(), Arc::new(Resolver::new(&dns)?));
    let policy = SenderPolicy::new(spf, name, true, resolver, telemetry);
    let question = Question::Mail { sender: sent.sender.to_owned(), size: None };
    let subject = Subject { helo: sent.helo.to_owned(), ..subject(sent.from) };
    let answer = policy.rule(&question, &subject).await;
    let Some(Found::Spf(finding)) = answer.found else { anyhow::bail!("nothing was asked") };
    Ok((finding, answer.ruling))
}

async fn found(nsd: &Nsd, from: &str, sender: &str) -> anyhow::Result<Finding> {
    let sent = Sent { from, sender, helo: "relay.client.example" };
    Ok(judged(nsd, sent, json!({})).await?.0)
}

#[tokio::test]
async fn policies_are_evaluated_as_the_standard_says() -> anyhow::Result<()> {
    use SpfResult::{Fail, Neutral, None, Pass, PermError, SoftFail, TempError};
    let directory = tempfile::TempDir::new()?;
    let nsd = Nsd::here(directory.path(), &ZONES)?;
    for (from, sender, result) in [
        ("192.0.2.2", "bob@client.example", Pass),
        ("2001:db8:1::99", "bob@client.example", Pass),
        ("192.0.2.3", "bob@client.example", Fail),
        ("192.0.2.2", "bob@NOBODY.Example", Fail),
        ("192.0.2.2", "bob@forward.example", Fail),
        ("192.0.2.2", "bob@soft.example", SoftFail),
        ("192.0.2.2", "bob@open.example", Neutral),
        ("192.0.2.2", "bob@silent.example", Neutral),
        ("192.0.2.2", "bob@unrelated.example", None),
        ("192.0.2.2", "bob@missing.example", None),
        ("192.0.2.2", "bob@[192.0.2.2]", None),
        ("192.0.2.2", "bob@localhost", None),
        ("192.0.2.2", "bob@b\u{fc}cher.example", Fail),
        ("192.0.2.2", "bob@misspelt.example", PermError),
        ("192.0.2.2", "bob@doubled.example", PermError),
        ("192.0.2.2", "bob@split.example", Pass),
        ("192.0.2.2", "bob@by-a.example", Pass),
        ("2001:db8:1::2", "bob@by-a.example", Pass),
        ("2001:db8:1::3", "bob@by-a.example", Fail),
        ("192.0.2.77", "bob@by-a-net.example", Pass),
        ("2001:db8:1::77", "bob@by-a-net.example", Pass),
        ("2001:db8:2::77", "bob@by-a-net.example", Fail),
        ("192.0.2.2", "bob@by-mx.example", Pass),
        ("192.0.2.3", "bob@by-mx.example", Fail),
        ("192.0.2.2", "bob@by-include.example", Pass),
        ("192.0.2.3", "bob@by-include.example", Fail),
        ("192.0.2.2", "bob@include-of-none.example", PermError),
        ("192.0.2.2", "bob@redirect-to-none.example", PermError),
        ("192.0.2.2", "bob@by-exists.example", Pass),
        ("192.0.2.2", "eve@by-exists.example", Fail),
        ("192.0.2.2", "bob@by-ptr.example", Pass),
        ("192.0.2.3", "bob@by-ptr.example", Fail),
        ("192.0.2.2", "bob@by-name.example", Pass),
        ("192.0.2.2", "bob@helo.example", Pass),
        ("192.0.2.2", "bob@loop.example", PermError),
        ("192.0.2.2", "bob@void.example", PermError),
        ("192.0.2.2", "bob@two-void.example", Pass),
        ("192.0.2.2", "bob@ten.example", Pass),
        ("192.0.2.2", "bob@eleven.example", PermError),
        ("192.0.2.2", "bob@servfail.example", TempError),
        ("192.0.2.2", "bob@broken.example", TempError),
        ("192.0.2.2", "bob@before-broken.example", Pass),
    ] {
        let finding = found(&nsd, from, sender).await?;
        assert_eq!(finding.result, result, "{from} {sender}: {finding:?}");
    }
    Ok(())
}

#[tokio::test]
async fn explanations_are_the_domains_own_printable_and_single() -> anyhow::Result<()> {
    let directory = tempfile::TempDir::new()?;
    let nsd = Nsd::here(directory.path(), &ZONES)?;
    let nobody = "192.0.2.2 is not ours, says gw.example: see http://nobody.example/bob";
    for (sender, explanation) in [
        ("bob@nobody.example", Some(nobody)),
        // That of the record which decides, about the sender's domain.
        (
            "bob@forward.example",
            Some("192.0.2.2 is not ours, says gw.example: see http://forward.example/bob"),
        ),
        ("bob@by-include-exp.example", None),
        ("bob@control.example", None),
        ("bob@twice.example", None),
        ("\"b\u{1b}[2J\"@nobody.example", None),
    ] {
        let finding = found(&nsd, "192.0.2.2", sender).await?;
        assert_eq!(finding.result, SpfResult::Fail, "{sender}");
        assert_eq!(finding.explanation.as_deref(), explanation, "{sender}");
    }
    Ok(())
}

#[tokio::test]
async fn bounces_are_checked_by_their_helo_name() -> anyhow::Result<()> {
    let directory = tempfile::TempDir::new()?;
    let nsd = Nsd::here(directory.path(), &ZONES)?;
    for (helo, result) in [
        ("nobody.example", SpfResult::Fail),
        ("client.example", SpfResult::Pass),
        ("localhost", SpfResult::None),
        ("[192.0.2.2]", SpfResult::None),
    ] {
        let sent = Sent { from: "192.0.2.2", sender: "", helo };
        let (finding, _) = judged(&nsd, sent, json!({})).await?;
        assert_eq!((finding.identity, finding.result), (SpfIdentity::Helo, result), "{helo}");
    }
    Ok(())
}

#[tokio::test]
async fn without_an_answer_of_the_dns_the_configuration_rules() -> anyhow::Result<()> {
    let directory = tempfile::TempDir::new()?;
    let nsd = Nsd::here(directory.path(), &ZONES)?;
    let sent = Sent { from: "192.0.2.2", sender: "bob@servfail.example", helo: "x" };
    let later = Ruling::Refuse(Refusal::SpfTempError);
    for (keys, expected) in [
        (json!({}), Ruling::Pass),
        (json!({"on-temperror": "tempfail"}), later),
        (json!({"on-temperror": "tempfail", "log-only": true}), Ruling::Pass),
    ] {
        let (finding, ruling) = judged(&nsd, sent, keys.clone()).await?;
        assert_eq!((finding.result, ruling), (SpfResult::TempError, expected), "{keys}");
    }
    Ok(())
}
