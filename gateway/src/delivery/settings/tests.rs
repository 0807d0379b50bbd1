use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use super::*;
use crate::clock;
use crate::config;
use crate::delivery::connection::{Detail, Remote, Target};
use crate::delivery::route::Server;
use crate::smtp::client::{PixWorkarounds, Report, Status};

/// Files that a test has made up.
#[derive(Default)]
struct Made(BTreeMap<PathBuf, Vec<u8>>);

impl Made {
    fn with(mut self, path: &str, text: &str) -> Self {
        self.0.insert(path.into(), text.as_bytes().to_vec());
        self
    }
}

impl Files for Made {
    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        self.0.get(path).cloned().ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn mode(&self, path: &Path) -> io::Result<u32> {
        self.read(path).map(|text| if text.starts_with(b"open") { 0o644 } else { 0o640 })
    }

    fn list(&self, folder: &Path) -> io::Result<Vec<PathBuf>> {
        Ok(self.0.keys().filter(|path| path.parent() == Some(folder)).cloned().collect())
    }
}

fn made(yaml: &str, protocol: Protocol, files: &Made) -> Result<Settings, SettingsError> {
    let delivery = config::parse(yaml, "test.yaml").unwrap().delivery;
    let addresses = ["127.0.0.1", "192.0.2.1", "2001:db8::1"].map(|address| address.parse().unwrap());
    let host = Host { name: "gw.test", addresses: &addresses };
    Settings::new(&delivery, protocol, host, Duration::from_secs(30), files)
}

fn settings(yaml: &str, protocol: Protocol) -> Settings {
    made(yaml, protocol, &Made::default()).unwrap()
}

/// How a server is spoken with: `mx.b.test` at that address.
fn target(settings: &Settings, next_hop: &str, address: &str, sender: &str) -> Result<Target, Report> {
    let protocol = settings.rules.protocol;
    let next_hop = Destination::parse(next_hop, protocol).unwrap();
    let server = Server {
        host: "mx.b.test".to_owned(),
        address: address.parse().unwrap(),
        port: next_hop.port().unwrap_or_default(),
        preference: 10,
        best: true,
    };
    let server = next_hop.port().map(|_| &server);
    settings.target(Visit {
        next_hop: &next_hop,
        server,
        sender,
        random: [1; 18],
        now: clock::now(),
        is_here: |_| true,
    })
}

fn level(settings: &Settings, next_hop: &str) -> String {
    match target(settings, next_hop, "192.0.2.9", "") {
        Ok(target) => format!("{:?} {}", target.terms.tls, target.tls.is_some()),
        Err(report) => format!("{} {}", report.status, report.reason),
    }
}

// Specification sections 15 and 17.3, with the defaults of today.
#[test]
fn without_a_key_the_policies_have_their_own_defaults() {
    let Settings { rules, lookup, route, attempt, limits, retry, rewriting, .. } =
        settings("", Protocol::Smtp);
    assert_eq!(format!("{rules:?}"), format!("{:?}", Rules::new(Protocol::Smtp, "gw.test")));
    assert_eq!(lookup, LookupPolicy::default());
    let own = ["127.0.0.1", "192.0.2.1", "2001:db8::1"].map(|address| address.parse().unwrap()).into();
    assert_eq!(route, RoutePolicy { own, ..RoutePolicy::default() });
    assert_eq!(attempt, AttemptPolicy::default());
    assert_eq!((&limits.concurrency, limits.recipients), (&Concurrency::default(), 50));
    assert_eq!((retry, limits.dead), (Retry::default(), retry.minimal_backoff));
    assert_eq!(rewriting.limits, mime::Limits::default());
    assert!(!rewriting.is_needed());
}

// Issue 5: `lmtp` inherits from `smtp` and overrides.
#[test]
fn lmtp_has_what_smtp_has_unless_it_says_otherwise() {
    let yaml = "delivery:\n  resources: { helo-timeout: 10s, mail-timeout: 20s, destination-recipient-limit: 7 }\n  \
        miscellaneous: { fallback-relay: ['[f.test]:587'], disable-dns-lookups: true, inet-protocols: [ipv6] }\n  \
        lmtp:\n    resources: { helo-timeout: 30s }\n    \
        miscellaneous: { disable-dns-lookups: false, helo-name: l.test }\n";
    let (smtp, lmtp) = (settings(yaml, Protocol::Smtp), settings(yaml, Protocol::Lmtp));
    let seconds = |settings: &Settings| {
        [settings.rules.timeouts.hello.as_secs(), settings.rules.timeouts.mail.as_secs()]
    };
    assert_eq!((seconds(&smtp), seconds(&lmtp)), ([10, 20], [30, 20]));
    assert_eq!((smtp.rules.hello.as_str(), lmtp.rules.hello.as_str()), ("gw.test", "l.test"));
    let sources = |lookup: LookupPolicy| (lookup.mx, lookup.dns, lookup.native, lookup.ipv4, lookup.ipv6);
    assert_eq!(sources(smtp.lookup), (false, false, true, false, true));
    assert_eq!(sources(lmtp.lookup), (true, true, false, false, true));
    assert_eq!((smtp.limits.recipients, lmtp.limits.recipients), (7, 7));
    assert_eq!(smtp.attempt.fallback_relay[0].to_string(), "[f.test]:587");
}

// The parameters `smtp_discard_ehlo_keyword_address_maps` and `smtp_pix_workaround_maps`.
#[test]
fn servers_have_what_their_addresses_say() {
    let yaml = "delivery:\n  compatibility:\n    discard-ehlo-keywords: [dsn]\n    \
        discard-ehlo-keyword-address-maps: ['cidr:/t/discard']\n    \
        pix-workarounds: [disable_esmtp]\n    pix-workaround-maps: ['inline:{192.0.2.2=Delay_DotCRLF, 192.0.2.3=}']\n";
    let files = Made::default().with("/t/discard", "192.0.2.2 pipelining, silent-discard\n");
    let settings = made(yaml, Protocol::Smtp, &files).unwrap();
    let of = |address| {
        let terms = target(&settings, "b.test", address, "").unwrap().terms;
        (terms.discard, terms.pix)
    };
    let pix = |disable_esmtp, delay_dotcrlf| PixWorkarounds { disable_esmtp, delay_dotcrlf };
    assert_eq!(of("192.0.2.1"), (Discard::new(["dsn"]), pix(true, false)));
    assert_eq!(of("192.0.2.2"), (Discard::new(["pipelining", "silent-discard"]), pix(false, true)));
    assert_eq!(of("192.0.2.3").1, pix(false, false));
}

// Specification sections 7.1 and 7.3.
#[test]
fn destinations_have_the_tls_that_tables_say() {
    let yaml = "delivery:\n  starttls:\n    tls-security-level: may\n    tls-policy-maps: \
        ['inline:{b.test=encrypt, .c.test=none, [h.test]:587=nonsense, /run/lmtp=encrypt}']\n";
    let smtp = settings(yaml, Protocol::Smtp);
    for (next_hop, expected) in [
        ("a.test", "May true"),
        ("b.test", "Encrypt true"),
        ("x.c.test", "None false"),
        (
            "[h.test]:587",
            "4.7.5 [h.test]:587: `nonsense` is no TLS level; write none, may, encrypt, fingerprint, verify or secure",
        ),
    ] {
        assert_eq!(level(&smtp, next_hop), expected, "{next_hop}");
    }
    let lmtp = settings(yaml, Protocol::Lmtp);
    assert_eq!(level(&lmtp, "unix:/run/other"), "None false", "there is nothing to protect");
    assert_eq!(level(&lmtp, "unix:/run/lmtp"), "Encrypt true");
    assert_eq!(level(&lmtp, "inet:a.test"), "May true");
}

// Specification section 8.
#[test]
fn a_refused_password_is_not_tried_again() {
    let yaml = "delivery:\n  sasl:\n    sasl-auth-enable: true\n    sasl-auth-cache: true\n    \
        sasl-password-maps: ['texthash:/t/passwords']\n    sender-dependent-authentication: true\n    \
        sasl-security-options: [noanonymous]\n  starttls: { sasl-tls-security-options: [noplaintext] }\n";
    let files = Made::default().with("/t/passwords", "[b.test]:587 user:secret\na@s.test sender:word\n");
    let settings = made(yaml, Protocol::Smtp, &files).unwrap();
    let login =
        |sender| target(&settings, "[b.test]:587", "192.0.2.1", sender).map(|target| target.terms.login);
    assert_eq!(login("a@s.test").unwrap().unwrap().username, "sender");
    let user = login("").unwrap().unwrap();
    assert_eq!((user.username.as_str(), user.password.as_str()), ("user", "secret"));
    assert!(!user.clear.noplaintext && user.tls.noplaintext && user.verified.noplaintext);
    assert!(target(&settings, "b.test", "192.0.2.1", "").unwrap().terms.login.is_none());
    let said = Report::new(Status::permanent(7, 8), "no");
    settings.password_refused("mx.b.test", &user, &said, clock::now());
    let report = login("").unwrap_err();
    assert_eq!(report.status.to_string(), "4.7.8");
    assert_eq!(report.reason, "SASL [CACHED] authentication failed; server mx.b.test[192.0.2.1] said: no");
    assert!(login("a@s.test").unwrap().is_some());
}

// The parameters `smtp_bind_address`, `inet_interfaces`, `tcp_windowsize` and `lmtp_tcp_port`.
#[test]
fn connections_come_from_where_the_operator_says() {
    let remote = |yaml: &str, address| match target(&settings(yaml, Protocol::Smtp), "b.test", address, "")
        .unwrap()
        .remote
    {
        Remote::Tcp { address, source, window, .. } => format!("{address} {source:?} {window:?}"),
        Remote::Unix(path) => path.display().to_string(),
    };
    let misc = |keys: &str| format!("delivery:\n  miscellaneous: {{ {keys} }}\n");
    for (keys, address, expected) in [
        ("", "192.0.2.9", "192.0.2.9:25 None None"),
        ("bind-address: 192.0.2.1", "192.0.2.9", "192.0.2.9:25 Some(192.0.2.1) None"),
        ("bind-address: 192.0.2.1", "2001:db8::9", "[2001:db8::9]:25 None None"),
        ("bind-address6: '2001:db8::1'", "2001:db8::9", "[2001:db8::9]:25 Some(2001:db8::1) None"),
        ("inet-interfaces: [192.0.2.7, '::1']", "192.0.2.9", "192.0.2.9:25 Some(192.0.2.7) None"),
        ("inet-interfaces: [192.0.2.7, '::1']", "2001:db8::9", "[2001:db8::9]:25 None None"),
        ("inet-interfaces: [192.0.2.7, 192.0.2.8]", "192.0.2.9", "192.0.2.9:25 None None"),
        ("tcp-port: 2525", "192.0.2.9", "192.0.2.9:2525 None None"),
    ] {
        assert_eq!(remote(&misc(keys), address), expected, "{keys}");
    }
    let window = "delivery:\n  compatibility: { tcp-windowsize: 4096 }\n";
    assert_eq!(remote(window, "192.0.2.9"), "192.0.2.9:25 None Some(4096)");
    let own = |keys: &str| settings(&misc(keys), Protocol::Smtp).route.own.len();
    assert_eq!(own("inet-interfaces: [loopback-only]"), 1);
    assert_eq!(own("inet-interfaces: [192.0.2.7], proxy-interfaces: [198.51.100.1]"), 2);
}

// The parameters `debug_peer_list`, `smtp_tls_loglevel` and `smtp_tls_note_starttls_offer`.
#[test]
fn more_is_told_of_those_who_are_listed() {
    let detail = |yaml: &str, next_hop| {
        target(&settings(yaml, Protocol::Smtp), next_hop, "192.0.2.9", "").unwrap().detail
    };
    assert_eq!(detail("", "b.test"), Detail::default());
    let tls = "delivery:\n  starttls: { tls-loglevel: 1, tls-note-starttls-offer: true }\n";
    assert_eq!(detail(tls, "b.test"), Detail { handshakes: true, offers: true, ..Detail::default() });
    for (list, next_hop, is) in [
        ("[b.test]", "a.b.test", true),
        ("[b.test]", "notb.example", true),
        ("[c.test]", "a.c.test", true),
        ("[c.test]", "notc.test", false),
        ("[192.0.2.0/24]", "d.test", true),
        ("[192.0.2.8]", "d.test", false),
    ] {
        let yaml = format!("delivery:\n  trouble-shooting: {{ debug-peer-list: {list} }}\n");
        assert_eq!(detail(&yaml, next_hop).stages, is, "{list} {next_hop}");
    }
}

#[test]
fn what_is_wrong_with_a_file_is_told_with_its_name() {
    let files = Made::default().with("/t/ca", "nothing").with("/t/checks", "/(/ WARN\n");
    for (yaml, expected) in [
        ("compatibility: { header-checks: ['pcre:/t/none'] }", "/t/none cannot be read"),
        ("compatibility: { header-checks: ['pcre:/t/checks'] }", "/t/checks:1: "),
        ("starttls: { tls-cafile: /t/ca }", "/t/ca: no certificates in PEM form"),
        ("starttls: { tls-cert-file: /t/ca }", "/t/ca: no certificates in PEM form"),
    ] {
        let error = made(&format!("delivery:\n  {yaml}\n"), Protocol::Smtp, &files).unwrap_err().to_string();
        assert!(error.starts_with(expected), "{error}");
    }
    assert!(made("delivery:\n  starttls: { tls-capath: /t }\n", Protocol::Smtp, &files).is_ok());
}
