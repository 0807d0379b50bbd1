//! `origin: remote-udp` and `origin: remote`: the gateway is no router, and asks the one that redirects
//! flows to it, where `gateway helper` answers.

use std::net::{SocketAddr, UdpSocket};
use std::process::Stdio;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::Context as _;
use gateway::lookup::{Answer, Nonce, Question, Wire, sealed};
use gateway_tests::client::Client;
use gateway_tests::gateway::{Gateway, Settings};
use gateway_tests::helper::Helper;
use gateway_tests::lab::{Family, Lab};
use gateway_tests::recorder::{Manners, Recorder};
use gateway_tests::{message, process, wait};
use serde_json::json;

use crate::quarantine::lock;

const SECRET: &str = "a secret that both machines know";
/// The gateway, on a machine beside the servers.
const GATEWAY: &str = "198.51.100.3:10025";
const HELPER: &str = "198.51.100.1:114";
/// Another port that a helper may have.
const OTHER_HELPER: &str = "198.51.100.1:1114";
const PLAIN: &str = "format: smtp-gated, secret: '0x01020304', port: 1114";

/// A way to ask.
struct Way {
    origin: &'static str,
    helper: &'static str,
    /// The keys of `lookup` that both sides have.
    common: String,
}

fn sealed() -> Way {
    Way { origin: "remote-udp", helper: HELPER, common: format!("secret: {SECRET}") }
}

fn plain() -> Way {
    Way { origin: "remote-udp", helper: OTHER_HELPER, common: PLAIN.to_owned() }
}

fn line() -> Way {
    Way { origin: "remote", helper: OTHER_HELPER, common: "format: smtp-gated, port: 1114".to_owned() }
}

impl Way {
    /// A gateway that asks with these further keys of `lookup`.
    fn gateway(
        &self,
        lab: &Lab,
        keys: &str,
        limits: Vec<(&'static str, &'static str)>,
    ) -> anyhow::Result<Gateway> {
        self.gateway_with(lab, keys, limits, "")
    }

    /// The same with further sections.
    fn gateway_with(
        &self,
        lab: &Lab,
        keys: &str,
        limits: Vec<(&'static str, &'static str)>,
        sections: &str,
    ) -> anyhow::Result<Gateway> {
        let settings = Settings {
            origin: self.origin,
            source_address: "gateway",
            limits,
            more: format!(
                "listen: ['{GATEWAY}']\nlookup: {{ {}, {keys} }}\nnat-header: {{ type: generic }}\n{sections}",
                self.common
            ),
            ..Settings::default()
        };
        Gateway::start_inside(lab.server(), lab, &settings)
    }

    fn helper(&self, lab: &Lab) -> anyhow::Result<Helper> {
        self.helper_for(lab, "198.51.100.3, 198.51.100.2")
    }

    fn helper_for(&self, lab: &Lab, allowed: &str) -> anyhow::Result<Helper> {
        Helper::start(lab, &self.sections(allowed))
    }

    /// What the helper is told.
    fn sections(&self, allowed: &str) -> String {
        format!(
            "lookup: {{ {} }}\nhelper: {{ listen: ['{}'], allow: [{allowed}], ident: true }}\n",
            self.common, self.helper
        )
    }
}

/// Redirects flows to port 25 that match `which` to the gateway, and may hide where they come from.
fn redirect(lab: &Lab, which: &str, hide: bool) -> anyhow::Result<()> {
    let masquerade = if hide { "ip daddr 198.51.100.3 tcp dport 10025 masquerade" } else { "counter" };
    let rules = format!(
        "add table ip gateway; \
         add chain ip gateway prerouting {{ type nat hook prerouting priority dstnat; }}; \
         add rule ip gateway prerouting {which} tcp dport 25 dnat to {GATEWAY}; \
         add chain ip gateway postrouting {{ type nat hook postrouting priority srcnat; }}; \
         add rule ip gateway postrouting {masquerade}"
    );
    process::done(lab.router().command("nft").arg(rules).stdin(Stdio::null()))?;
    Ok(())
}

fn deliver(lab: &Lab) -> anyhow::Result<()> {
    let mut client = Client::up_to_data(lab.client(), Family::V4.smtp())?;
    client.send(&message::clean("looked up"))?;
    client.send(message::END)?;
    client.expect(250)?;
    client.send(b"QUIT\r\n")?;
    client.expect(221)?;
    Ok(())
}

#[test]
fn the_router_tells_where_a_hidden_client_wanted_to_go_and_who_it_is() -> anyhow::Result<()> {
    for way in [sealed(), plain(), line()] {
        let lab = Lab::new()?;
        let server = Recorder::start(lab.server(), Family::V4.smtp(), Manners::default())?;
        let _helper = way.helper(&lab)?;
        let _gateway = way.gateway(&lab, "routers: [198.51.100.1]", Vec::new())?;
        redirect(&lab, "iifname lan0", true)?;
        deliver(&lab)?;
        let messages = server.messages();
        let text = String::from_utf8_lossy(&messages[0]);
        let head = text.lines().next().unwrap_or_default();
        assert!(head.starts_with("X-Nat-Received: from [198.51.100.1]:"), "{}: {head}", way.common);
        assert!(head.ends_with(" [ident 192.0.2.2]"), "{}: {head}", way.common);
    }
    Ok(())
}

#[test]
fn a_router_that_hides_nobody_is_asked_by_its_own_address() -> anyhow::Result<()> {
    for way in [sealed(), plain()] {
        let lab = Lab::new()?;
        let server = Recorder::start(lab.server(), Family::V4.smtp(), Manners::default())?;
        let _helper = way.helper(&lab)?;
        let _gateway = way.gateway(&lab, "server: 198.51.100.1", Vec::new())?;
        redirect(&lab, "iifname lan0", false)?;
        deliver(&lab)?;
        let messages = server.messages();
        let text = String::from_utf8_lossy(&messages[0]);
        let head = text.lines().next().unwrap_or_default();
        assert!(head.starts_with("X-Nat-Received: from [192.0.2.2]:"), "{}: {head}", way.common);
        assert!(head.ends_with(" [ident-empty]"), "{}: {head}", way.common);
    }
    Ok(())
}

#[test]
fn sessions_are_limited_for_each_client_behind_the_router() -> anyhow::Result<()> {
    let lab = Lab::new()?;
    let _server = Recorder::start(lab.server(), Family::V4.smtp(), Manners::default())?;
    let way = sealed();
    let _helper = way.helper(&lab)?;
    let gateway = way.gateway(&lab, "tries: 5", vec![("sessions-per-identity", "2")])?;
    redirect(&lab, "iifname lan0", true)?;
    let mut open = Vec::new();
    for _ in 0..2 {
        open.push(Client::greeted(lab.client(), Family::V4.smtp())?);
    }
    let mut third = Client::connect(lab.client(), Family::V4.smtp())?;
    let reply = third.expect(421)?;
    assert!(reply.contains("Too many connections from you"), "{reply}");
    gateway.wait_for_log("too many open sessions of this identity")?;
    // Another client behind the same address.
    lab.client().ip("address add 192.0.2.9/24 dev eth0")?;
    lab.client().ip("route replace 198.51.100.0/24 via 192.0.2.1 src 192.0.2.9")?;
    open.push(Client::greeted(lab.client(), Family::V4.smtp())?);
    Ok(())
}

#[test]
fn a_client_behind_the_router_that_opens_too_much_is_locked_and_its_neighbour_is_not() -> anyhow::Result<()> {
    let lab = Lab::new()?;
    let _server = Recorder::start(lab.server(), Family::V4.smtp(), Manners::default())?;
    let way = sealed();
    let _helper = way.helper(&lab)?;
    let locks = "locks: { lock-on: [max-ident], action: reject, for: 1h }\n";
    let gateway = way.gateway_with(&lab, "tries: 5", vec![("sessions-per-identity", "1")], locks)?;
    redirect(&lab, "iifname lan0", true)?;
    let (open, _) = Client::greeted(lab.client(), Family::V4.smtp())?;
    let reply = Client::connect(lab.client(), Family::V4.smtp())?.expect(421)?;
    assert!(reply.contains("Too many connections from you"), "{reply}");
    drop(open);
    // The limit lets it in again, and the lock does not.
    let held_off = wait::until(Duration::from_secs(20), "the lock", || {
        let reply = Client::connect(lab.client(), Family::V4.smtp())?.expect(421)?;
        Ok(reply.contains("No SMTP service for you now").then_some(()))
    });
    held_off?;
    let list = lock(&gateway, &["list"])?;
    let line = list.lines().find(|line| line.contains("max-ident")).unwrap_or_default();
    assert!(line.contains("192.0.2.2"), "{list}");
    // Another client behind the same address.
    lab.client().ip("address add 192.0.2.9/24 dev eth0")?;
    lab.client().ip("route replace 198.51.100.0/24 via 192.0.2.1 src 192.0.2.9")?;
    Client::greeted(lab.client(), Family::V4.smtp())?;
    Ok(())
}

#[test]
fn where_addresses_are_locked_all_behind_one_are() -> anyhow::Result<()> {
    let lab = Lab::new()?;
    let _server = Recorder::start(lab.server(), Family::V4.smtp(), Manners::default())?;
    let way = sealed();
    let _helper = way.helper(&lab)?;
    let sections = "locks: { lock-on: [regex], action: reject, for: 1h, key: address }\n\
                    filters: { mail: { reject: ['^spammer@'] } }\n";
    let gateway = way.gateway_with(&lab, "tries: 5", Vec::new(), sections)?;
    redirect(&lab, "iifname lan0", true)?;
    let (mut client, _) = Client::greeted(lab.client(), Family::V4.smtp())?;
    client.send(b"MAIL FROM:<spammer@client.example>\r\n")?;
    client.expect(550)?;
    let list = lock(&gateway, &["list"])?;
    assert!(list.lines().any(|line| line.starts_with("198.51.100.1 ") && line.contains("regex")), "{list}");
    lab.client().ip("address add 192.0.2.9/24 dev eth0")?;
    lab.client().ip("route replace 198.51.100.0/24 via 192.0.2.1 src 192.0.2.9")?;
    let reply = Client::connect(lab.client(), Family::V4.smtp())?.expect(421)?;
    assert!(reply.contains("No SMTP service for you now"), "{reply}");
    Ok(())
}

#[test]
fn without_an_answer_clients_are_told_to_come_back_later() -> anyhow::Result<()> {
    for (way, what) in [(sealed(), "nobody"), (plain(), "nobody"), (line(), "nobody"), (sealed(), "stranger")]
    {
        let lab = Lab::new()?;
        let _helper = if what == "stranger" { Some(way.helper_for(&lab, "192.0.2.77")?) } else { None };
        let gateway = way.gateway(&lab, "server: 198.51.100.1, tries: 2, deadline: 300ms", Vec::new())?;
        redirect(&lab, "iifname lan0", true)?;
        let mut client = Client::connect(lab.client(), Family::V4.smtp())?;
        let reply = client.expect(421)?;
        assert!(reply.contains("4.4.3 gateway.example Lookup timeout"), "{what}: {reply}");
        gateway.wait_for_log("198.51.100.1 does not answer")?;
    }
    Ok(())
}

/// Answers each question rightly, from the port that was asked or from the one beside it.
fn answers(
    lab: &Lab,
    from_asked: &'static AtomicBool,
    questions: &'static AtomicUsize,
) -> anyhow::Result<()> {
    let lookup = json!({"format": "smtp-gated", "secret": "0x01020304"});
    let wire = Wire::of(&serde_json::from_value(lookup)?).context("no secret")?;
    let beside: SocketAddr = "198.51.100.1:1115".parse()?;
    let asked = lab.router().enter(|| UdpSocket::bind(OTHER_HELPER))??;
    let beside = lab.router().enter(|| UdpSocket::bind(beside))??;
    std::thread::spawn(move || -> anyhow::Result<()> {
        let found = Answer::Found { destination: Family::V4.smtp(), identity: None };
        let mut room = [0; 512];
        loop {
            let (length, asker) = asked.recv_from(&mut room)?;
            let question = wire.asked(&room[..length])?;
            questions.fetch_add(1, Ordering::SeqCst);
            let answer = wire.answer(&question, &found, gateway::clock::wall_millis())?;
            let from = if from_asked.load(Ordering::SeqCst) { &asked } else { &beside };
            from.send_to(&answer, asker)?;
        }
    });
    Ok(())
}

#[test]
fn an_answer_from_elsewhere_is_not_heard_and_questions_are_repeated_as_configured() -> anyhow::Result<()> {
    static FROM_ASKED: AtomicBool = AtomicBool::new(false);
    static QUESTIONS: AtomicUsize = AtomicUsize::new(0);
    let lab = Lab::new()?;
    let _server = Recorder::start(lab.server(), Family::V4.smtp(), Manners::default())?;
    answers(&lab, &FROM_ASKED, &QUESTIONS)?;
    let _gateway = plain().gateway(&lab, "server: 198.51.100.1, tries: 5, deadline: 500ms", Vec::new())?;
    redirect(&lab, "iifname lan0", true)?;
    let mut client = Client::connect(lab.client(), Family::V4.smtp())?;
    let connected = wait::now();
    let reply = client.expect(421)?;
    assert!(reply.contains("Lookup timeout"), "{reply}");
    assert_eq!(QUESTIONS.load(Ordering::SeqCst), 5);
    // With the deadline of the defaults it would be 15 s.
    assert!(connected.elapsed() < Duration::from_secs(12), "{:?}", connected.elapsed());
    FROM_ASKED.store(true, Ordering::SeqCst);
    Client::greeted(lab.client(), Family::V4.smtp())?;
    Ok(())
}

#[test]
fn a_helper_with_another_secret_is_not_heard_and_says_so() -> anyhow::Result<()> {
    let other = Way { common: "secret: another secret than the gateway has".to_owned(), ..sealed() };
    let other_number = Way { common: PLAIN.replace("0x01020304", "0x01020305"), ..plain() };
    for (way, other) in [(sealed(), other), (plain(), other_number)] {
        let lab = Lab::new()?;
        let helper = other.helper(&lab)?;
        let _gateway = way.gateway(&lab, "server: 198.51.100.1, tries: 1, deadline: 500ms", Vec::new())?;
        redirect(&lab, "iifname lan0", true)?;
        let mut client = Client::connect(lab.client(), Family::V4.smtp())?;
        client.expect(421)?;
        helper.daemon().wait_for_log(Duration::from_secs(10), "another secret")?;
    }
    Ok(())
}

#[test]
fn whoever_is_no_router_is_not_asked() -> anyhow::Result<()> {
    let lab = Lab::new()?;
    let gateway = plain().gateway(&lab, "routers: [198.51.100.1]", Vec::new())?;
    // It could answer itself, and name any server.
    let mut client = Client::connect(lab.client(), GATEWAY.parse()?)?;
    assert_eq!(client.rest(Duration::from_secs(20))?, b"");
    gateway.wait_for_log("192.0.2.2 is not one of lookup.routers")?;
    Ok(())
}

#[test]
fn a_gateway_whose_own_connections_are_redirected_to_it_makes_no_loop() -> anyhow::Result<()> {
    // A line comes from the listener's address, so that only the gateway can see that it is its own.
    let unknown = "has redirected no flow of 198.51.100.1";
    for (way, why) in
        [(sealed(), unknown), (plain(), unknown), (line(), "from 198.51.100.2, came back to it")]
    {
        let lab = Lab::new()?;
        let _helper = way.helper(&lab)?;
        let gateway = way.gateway(&lab, "server: 198.51.100.1", Vec::new())?;
        // Whatever the router forwards, also what the gateway sends to servers.
        redirect(&lab, "", true)?;
        let mut client = Client::connect(lab.client(), "203.0.113.5:25".parse()?)?;
        client.expect(421)?;
        gateway.wait_for_log(why)?;
    }
    Ok(())
}

#[test]
fn the_helper_answers_a_recorded_question_once_and_has_one_capability() -> anyhow::Result<()> {
    let lab = Lab::new()?;
    let helper = sealed().helper(&lab)?;
    let wire = Wire::Sealed(sealed::Key::new(SECRET).ok_or_else(|| anyhow::anyhow!("no key"))?);
    let question = Question { client: "198.51.100.1:40000".parse()?, gateway: GATEWAY.parse()? };
    let nonce = Nonce([9; 16]);
    let wall = gateway::clock::wall_millis();
    let ask = |wall| wire.ask(question, nonce, wall);
    let socket = lab.server().enter(|| UdpSocket::bind("198.51.100.2:0"))??;
    socket.connect(HELPER.parse::<SocketAddr>()?)?;
    socket.set_read_timeout(Some(Duration::from_secs(20)))?;
    let mut room = [0; 512];
    socket.send(&ask(wall)?)?;
    let length = socket.recv(&mut room)?;
    let answer = wire.answered(&room[..length], question, &[nonce])?;
    assert_eq!(answer, Answer::Unknown);
    // A recording, an old one, and a last one that shows that the helper has read them all.
    socket.send(&ask(wall)?)?;
    socket.send(&ask(wall - 60_000)?)?;
    socket.send(&[0; 182])?;
    let last = Nonce([10; 16]);
    socket.send(&wire.ask(question, last, wall)?)?;
    let length = socket.recv(&mut room)?;
    wire.answered(&room[..length], question, &[last])?;

    let pid = helper.daemon().pid();
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    // CAP_NET_ADMIN is number 12.
    for set in ["CapPrm:\t0000000000001000", "CapEff:\t0000000000001000", "CapBnd:\t0000000000001000"] {
        assert!(status.contains(set), "{status}");
    }
    assert!(!status.contains("Uid:\t0"), "{status}");
    Ok(())
}

#[test]
fn the_helper_reads_its_configuration_again_and_keeps_the_old_one_when_the_new_one_is_bad()
-> anyhow::Result<()> {
    let lab = Lab::new()?;
    let way = sealed();
    let helper = way.helper_for(&lab, "192.0.2.77")?;
    let wire = Wire::Sealed(sealed::Key::new(SECRET).ok_or_else(|| anyhow::anyhow!("no key"))?);
    let question = Question { client: "198.51.100.1:40000".parse()?, gateway: GATEWAY.parse()? };
    let socket = lab.server().enter(|| UdpSocket::bind("198.51.100.2:0"))??;
    socket.connect(HELPER.parse::<SocketAddr>()?)?;
    socket.set_read_timeout(Some(Duration::from_secs(20)))?;
    let answered = |number: u8| {
        let nonce = Nonce([number; 16]);
        socket.send(&wire.ask(question, nonce, gateway::clock::wall_millis())?)?;
        let mut room = [0; 512];
        let length = socket.recv(&mut room)?;
        anyhow::Ok(wire.answered(&room[..length], question, &[nonce])?)
    };
    socket.send(&wire.ask(question, Nonce([1; 16]), gateway::clock::wall_millis())?)?;
    helper.daemon().wait_for_log(Duration::from_secs(20), "not in helper.allow")?;

    let good = way.sections("198.51.100.2");
    helper.reload(&good, "the configuration is in force")?;
    answered(2)?;
    helper.reload("helper: { allow: [nonsense] }\n", "the new configuration is refused")?;
    helper.daemon().wait_for_log(Duration::from_secs(20), "nonsense")?;
    answered(3)?;
    helper.reload(&good.replace(HELPER, "198.51.100.1:115"), "`helper.listen` takes effect at start only")?;
    answered(4)?;
    Ok(())
}
