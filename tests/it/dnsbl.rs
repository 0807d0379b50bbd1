//! Block lists, asked of a real name server.

use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::time::Duration;

use gateway::clock;
use gateway::config::file::{Dns, Dnsbl, Log};
use gateway::dns::Resolver;
use gateway::session::checks::dnsbl::BlockLists;
use gateway::session::checks::{Check as _, Subject};
use gateway::smtp::question::{Question, Ruling};
use gateway::smtp::refusal::Refusal;
use gateway::telemetry::Telemetry;
use gateway_tests::client::Client;
use gateway_tests::gateway::{Gateway, Settings};
use gateway_tests::lab::{Family, Lab};
use gateway_tests::nsd::{Nsd, Zone};
use gateway_tests::recorder::{Manners, Recorder};
use serde_json::json;

use crate::subject::subject;

const SOON: Duration = Duration::from_secs(20);

const ZONES: [Zone; 9] = [
    Zone {
        name: "bl.example",
        records: Some(
            "2.2.0.192 A 127.0.0.2\n\
             2.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.1.0.0.0.8.b.d.0.1.0.0.2 A 127.0.0.2",
        ),
    },
    Zone { name: "second.example", records: Some("2.2.0.192 A 127.0.0.10") },
    Zone { name: "welcome.example", records: Some("2.2.0.192 A 127.0.0.2") },
    Zone {
        name: "why.example",
        records: Some(
            "2.2.0.192 A 127.0.0.2\n2.2.0.192 TXT \"Sends spam, see http://why.example/192.0.2.2\"",
        ),
    },
    Zone {
        name: "rude.example",
        records: Some("2.2.0.192 A 127.0.0.2\n2.2.0.192 TXT \"\\027[2J\\013\\010250 Ok\""),
    },
    Zone { name: "empty.example", records: Some("") },
    Zone { name: "sold.example", records: Some("* A 203.0.113.1") },
    Zone { name: "refusing.example", records: Some("* A 127.255.255.254") },
    Zone { name: "broken.example", records: None },
];

/// Where the name server listens: an address of the server's host.
fn name_server() -> SocketAddr {
    SocketAddr::new(Family::V4.server(), 5353)
}

fn settings(lists: &str, more: &str) -> Settings {
    let more = format!(
        "dns:\n  servers: ['{}']\n  timeout: 1s\n  attempts: 1\ndnsbl:\n{lists}{more}",
        name_server()
    );
    Settings { more, ..Settings::default() }
}

#[test]
fn a_listed_client_reads_554_first_and_its_server_sees_nothing() -> anyhow::Result<()> {
    let lab = Lab::new()?;
    let mut nsd = Nsd::start(lab.server(), name_server(), lab.directory(), &ZONES)?;
    let server = Recorder::start(lab.server(), Family::V4.smtp(), Manners::default())?;
    let gateway = Gateway::start(&lab, &settings("  zones: [{zone: bl.example}]\n", ""))?;
    for family in [Family::V4, Family::V6] {
        let mut client = Client::connect(lab.client(), family.smtp())?;
        let reply = client.reply_within(SOON)?;
        assert_eq!(reply.code, 554, "{reply}");
        assert!(reply.contains("5.7.1 gateway.example Your address is listed by bl.example"), "{reply}");
        client.send(b"HELO client.example\r\n")?;
        client.expect(503)?;
        client.send(b"MAIL FROM:<a@client.example>\r\n")?;
        client.expect(503)?;
        client.send(b"QUIT\r\n")?;
        client.expect(221)?;
    }
    gateway.wait_for_log("bl.example")?;
    nsd.stop()?;
    let mut client = Client::connect(lab.client(), Family::V4.smtp())?;
    assert_eq!(client.reply_within(SOON)?.code, 554, "from the cache");
    assert!(server.connections().is_empty());
    Ok(())
}

#[test]
fn the_reason_of_a_list_is_in_the_reply_and_the_lists_are_in_the_record() -> anyhow::Result<()> {
    let lab = Lab::new()?;
    let _nsd = Nsd::start(lab.server(), name_server(), lab.directory(), &ZONES)?;
    let _server = Recorder::start(lab.server(), Family::V4.smtp(), Manners::default())?;
    let lists = "  zones: [{zone: why.example}, {zone: rude.example}, {zone: welcome.example, weight: -1}]\n";
    let gateway = Gateway::start(&lab, &settings(lists, ""))?;
    let mut client = Client::connect(lab.client(), Family::V4.smtp())?;
    let reply = client.reply_within(SOON)?;
    // Of words that are no printable ASCII nothing is shown.
    let expected = "5.7.1 gateway.example Your address is listed by \
                    why.example (Sends spam, see http://why.example/192.0.2.2), rude.example";
    assert_eq!((reply.code, reply.lines.concat().as_str()), (554, expected));
    client.send(b"QUIT\r\n")?;
    client.expect(221)?;
    gateway.wait_for_log("listed=why.example,rude.example,welcome.example")?;
    Ok(())
}

#[test]
fn with_auth_skip_a_listed_client_is_greeted_and_refused_at_mail() -> anyhow::Result<()> {
    let lab = Lab::new()?;
    let _nsd = Nsd::start(lab.server(), name_server(), lab.directory(), &ZONES)?;
    let mut manners = Manners { refuses: Some("nobody".to_owned()), ..Manners::default() };
    manners.keywords.push("AUTH PLAIN".to_owned());
    let server = Recorder::start(lab.server(), Family::V4.smtp(), manners)?;
    let settings = settings("  zones: [{zone: bl.example}]\n", "auth:\n  skip: [dnsbl]\n");
    let _gateway = Gateway::start(&lab, &settings)?;
    let (mut client, _) = Client::greeted(lab.client(), Family::V4.smtp())?;
    client.send(b"MAIL FROM:<a@client.example>\r\n")?;
    let reply = client.reply_within(SOON)?;
    assert_eq!(reply.code, 550, "{reply}");
    drop(client);
    let seen = server.wait_closed(SOON)?;
    assert_eq!(seen[0].commands("MAIL"), 0);

    // One whom the server knows is spared; one whose password it refuses is not.
    for (password, answer, code) in [("nobodyXX", 535, 550), ("AGJvYgBzZWNyZXQ=", 235, 250)] {
        let (mut client, _) = Client::greeted(lab.client(), Family::V4.smtp())?;
        client.send(format!("AUTH PLAIN {password}\r\n").as_bytes())?;
        client.expect(answer)?;
        client.send(b"MAIL FROM:<a@client.example>\r\n")?;
        let reply = client.reply_within(SOON)?;
        assert_eq!(reply.code, code, "{reply}");
    }
    Ok(())
}

/// How long a greeting takes with these lists on a name server that never answers.
fn greeted_after(lists: &str) -> anyhow::Result<Duration> {
    let lab = Lab::new()?;
    let _silent = lab.server().enter(|| UdpSocket::bind(name_server()))??;
    let _server = Recorder::start(lab.server(), Family::V4.smtp(), Manners::default())?;
    let gateway = Gateway::start(&lab, &settings(lists, ""))?;
    let started = clock::now();
    let mut client = Client::connect(lab.client(), Family::V4.smtp())?;
    assert_eq!(client.reply_within(SOON)?.code, 220);
    let took = started.elapsed();
    gateway.wait_for_log("dns")?;
    Ok(took)
}

#[test]
fn mail_passes_when_the_name_server_is_silent_and_lists_are_asked_side_by_side() -> anyhow::Result<()> {
    // One after the other they would take a second each.
    let zones: Vec<_> = (0..20).map(|number| format!("{{zone: list{number}.example}}")).collect();
    let took = greeted_after(&format!("  zones: [{}]\n  deadline: 9s\n", zones.join(", ")))?;
    assert!(took < Duration::from_secs(8), "{took:?}");
    Ok(())
}

/// What is ruled on 192.0.2.2 as it connects, or at MAIL.
async fn ruling(
    nsd: &Nsd,
    question: Question,
    authenticated: bool,
    dnsbl: serde_json::Value,
) -> anyhow::Result<Ruling> {
    let dnsbl: Dnsbl = serde_json::from_value(dnsbl)?;
    let dns = Dns { servers: vec![nsd.address()], ..Dns::default() };
    let telemetry = Arc::new(Telemetry::new(&Log::default(), clock::now(), clock::wall()));
    let spare_authenticated = question != Question::Connect;
    let lists = BlockLists::new(dnsbl, spare_authenticated, Arc::new(Resolver::new(&dns)?), telemetry);
    let subject = Subject { authenticated, ..subject("192.0.2.2") };
    Ok(lists.rule(&question, &subject).await.ruling)
}

#[tokio::test]
async fn weights_add_up_over_lists_that_work_and_no_others() -> anyhow::Result<()> {
    let directory = tempfile::TempDir::new()?;
    let nsd = Nsd::here(directory.path(), &ZONES)?;
    let refused = |lists: &str| Ruling::Takeover(Refusal::Listed { lists: lists.to_owned() });
    for (dnsbl, expected) in [
        (json!({"zones": [{"zone": "empty.example"}]}), Ruling::Pass),
        (json!({"zones": [{"zone": "sold.example"}]}), Ruling::Pass),
        (json!({"zones": [{"zone": "refusing.example"}]}), Ruling::Pass),
        (json!({"zones": [{"zone": "broken.example"}]}), Ruling::Pass),
        (json!({"zones": [{"zone": "elsewhere.example"}]}), Ruling::Pass),
        (json!({"zones": [{"zone": "broken.example"}, {"zone": "bl.example"}]}), refused("bl.example")),
        (json!({"zones": [{"zone": "bl.example", "families": "ipv6"}]}), Ruling::Pass),
        (json!({"zones": [{"zone": "second.example", "answers": ["127.0.0.2"]}]}), Ruling::Pass),
        (json!({"zones": [{"zone": "bl.example"}], "exempt": ["192.0.2.0/24"]}), Ruling::Pass),
        (
            json!({"zones": [{"zone": "bl.example"}, {"zone": "second.example"}], "reject-at": 2}),
            refused("bl.example, second.example"),
        ),
        (
            json!({"zones": [{"zone": "bl.example"}, {"zone": "second.example"},
                          {"zone": "welcome.example", "weight": -1}], "reject-at": 2}),
            Ruling::Pass,
        ),
    ] {
        assert_eq!(ruling(&nsd, Question::Connect, false, dnsbl.clone()).await?, expected, "{dnsbl}");
    }
    Ok(())
}

#[tokio::test]
async fn a_client_whose_auth_the_server_accepted_is_spared() -> anyhow::Result<()> {
    let directory = tempfile::TempDir::new()?;
    let nsd = Nsd::here(directory.path(), &ZONES)?;
    let lists = json!({"zones": [{"zone": "bl.example"}]});
    let mail = || Question::Mail { sender: "a@client.example".to_owned(), size: None };
    assert_eq!(ruling(&nsd, mail(), true, lists.clone()).await?, Ruling::Pass);
    let refused = Ruling::Takeover(Refusal::SenderListed { lists: "bl.example".to_owned() });
    assert_eq!(ruling(&nsd, mail(), false, lists).await?, refused);
    Ok(())
}
