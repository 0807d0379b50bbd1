use super::*;
use crate::table::TableSpec;

fn means(level: TlsLevel) -> Means {
    Means { versions: Versions::parse("", level).unwrap(), ciphers: Ciphers::ALL }
}

fn maps(spec: &str) -> Maps {
    Maps::new(vec![spec.parse::<TableSpec>().unwrap().table("").unwrap()])
}

fn policies() -> TlsPolicies {
    TlsPolicies {
        level: TlsLevel::May,
        verify: vec![NameMatch::Hostname],
        secure: vec![NameMatch::NextHop, NameMatch::BelowNextHop],
        fingerprints: Vec::new(),
        digest: FingerprintDigest::Md5,
        optional: means(TlsLevel::May),
        mandatory: means(TlsLevel::Encrypt),
        verify_depth: 9,
        resume: Duration::ZERO,
        maps: Maps::default(),
        per_site: Maps::default(),
    }
}

fn found(policies: &TlsPolicies, keys: &[&str]) -> String {
    let keys: Vec<_> = keys.iter().map(|key| (*key).to_owned()).collect();
    match policies.find(&keys, "mx.b.test", "b.test") {
        Ok(policy) => format!("{:?}", policy.level),
        Err(error) => error.to_string(),
    }
}

fn read(value: &str) -> String {
    match policies().read(value, "mx.b.test", "b.test") {
        Ok(TlsPolicy { level, names, fingerprints, tls12, tls13, ciphers, server_name, .. }) => format!(
            "{level:?} {names:?} {fingerprints:?} {tls12} {tls13} {} {server_name:?}",
            ciphers.names().count()
        ),
        Err(error) => error.to_string(),
    }
}

// Specification section 7.3: attributes once or more than once, braces, and the divider of each level.
#[test]
fn a_policy_is_a_level_and_attributes() {
    let digest = "00112233445566778899AABBCCDDEEFF";
    for (value, expected) in [
        ("none match=x", "None [] [] true true 9 None".to_owned()),
        ("Encrypt", "Encrypt [] [] true true 9 None".to_owned()),
        ("encrypt protocols=>=TLSv1.3, ciphers=high", "Encrypt [] [] false true 9 None".to_owned()),
        ("may protocols=TLSv1.2 exclude=AES128:CHACHA20", "May [] [] true false 3 None".to_owned()),
        ("verify", "Verify [Hostname] [] true true 9 None".to_owned()),
        (
            "secure match=.c.test:nexthop match=d.test servername=hostname",
            "Secure [Below(\"c.test\"), NextHop, Name(\"d.test\")] [] true true 9 Some(\"mx.b.test\")"
                .to_owned(),
        ),
        (
            &format!("fingerprint {{ match = {digest} | {digest} }}"),
            format!("Fingerprint [] [{0}, {0}] true true 9 None", digest.to_ascii_lowercase()),
        ),
    ] {
        assert_eq!(read(value), expected, "{value}");
    }
}

// Specification section 7.3: the last one counts.
#[test]
fn connections_of_a_destination_may_be_closed_behind_each_message() {
    for (value, expected) in [
        ("encrypt", true),
        ("encrypt connection_reuse=no", false),
        ("encrypt connection_reuse=no connection_reuse=yes", true),
    ] {
        let policy = policies().read(value, "mx.b.test", "b.test");
        assert_eq!(policy.map(|policy| policy.reusable).ok(), Some(expected), "{value}");
    }
}

// Specification section 7.3: never degrade silently.
#[test]
fn what_is_not_understood_is_an_error() {
    for (value, expected) in [
        (" ", PolicyError::Empty),
        ("dane", PolicyError::Level("dane".to_owned())),
        ("encrypt high", PolicyError::Pair("high".to_owned())),
        ("encrypt cipher=high", PolicyError::Attribute("cipher".to_owned())),
        ("encrypt ciphers=high ciphers=high", PolicyError::Twice("ciphers")),
        ("encrypt match=a.test", PolicyError::Match),
        ("encrypt ciphers=null", PolicyError::Value { name: "ciphers", value: "null".to_owned() }),
        ("secure tafile=/etc/x", PolicyError::Unsupported("tafile")),
        ("may connection_reuse=on", PolicyError::Value { name: "connection_reuse", value: "on".to_owned() }),
        ("encrypt protocols=SSLv3", TlsError::NoVersion.into()),
        ("encrypt exclude=ALL", TlsError::NoCipher.into()),
        (
            "fingerprint match=00",
            TlsError::Fingerprint { text: "00".to_owned(), digits: 32, by: "md5" }.into(),
        ),
    ] {
        assert_eq!(read(value), expected.to_string(), "{value}");
    }
}

// Specification section 7.3: a plain domain's parents with a dot before them; others exactly.
#[test]
fn the_most_special_key_counts() {
    let table = maps("inline:{a.b.test=none, .b.test=secure, [h.test]:587=encrypt}");
    let policies = TlsPolicies { maps: table, ..policies() };
    for (keys, expected) in [
        (&["a.b.test", ".b.test", ".test"][..], "None"),
        (&["x.b.test", ".b.test", ".test"], "Secure"),
        (&["c.test", ".test"], "May"),
        (&["[h.test]:587"], "Encrypt"),
        (&["[h.test]"], "May"),
    ] {
        assert_eq!(found(&policies, keys), expected, "{keys:?}");
    }
}

// Specification section 7.3, the obsolete table.
#[test]
fn the_strongest_word_of_a_site_counts() {
    for (table, level, expected) in [
        ("inline:{x=MAY}", TlsLevel::Encrypt, "Encrypt"),
        ("inline:{b.test=may}", TlsLevel::None, "May"),
        ("inline:{b.test=MAY}", TlsLevel::Encrypt, "Encrypt"),
        ("inline:{b.test=MAY, mx.b.test=NONE}", TlsLevel::Encrypt, "None"),
        ("inline:{b.test=NONE, mx.b.test=MUST_NOPEERMATCH}", TlsLevel::May, "Encrypt"),
        ("inline:{b.test=MUST, mx.b.test=NONE}", TlsLevel::May, "Verify"),
    ] {
        let policies = TlsPolicies { level, per_site: maps(table), ..policies() };
        assert_eq!(found(&policies, &["b.test", ".test"]), expected);
    }
    let wrong = TlsPolicies { per_site: maps("static:yes"), ..policies() };
    assert!(found(&wrong, &["b.test"]).contains("write NONE"));
    let both = TlsPolicies { maps: maps("static:none"), per_site: maps("static:MUST"), ..policies() };
    assert_eq!(found(&both, &["b.test"]), "None", "the newer table counts");
}
