use std::time::UNIX_EPOCH;

use base64::Engine as _;
use proptest::prelude::*;
use ring::signature::{Ed25519KeyPair, KeyPair as _};

use rustls::pki_types::pem::PemObject as _;

use super::*;
use crate::config;

/// A key of RFC 8463 section A.2, in PKCS #8.
const ED25519: &str = "-----BEGIN PRIVATE KEY-----\n\
    MC4CAQAwBQYDK2VwBCIEIJ1hsZ3v/VpguoRK9JLsLMREScVpezJpGXA7rAMcrn9g\n\
    -----END PRIVATE KEY-----\n";

fn made(entries: &str) -> Result<Signers, (usize, KeyError)> {
    let base = "origin: fixed\nfixed-server: 192.0.2.1:25\ndelivery:\n  dkim:\n";
    let section = config::parse(&format!("{base}{entries}"), "test").unwrap().delivery.dkim;
    Signers::new(&section, |path| match path.to_str() {
        Some("/ed") => Ok(ED25519.into()),
        _ => Ok(b"-----BEGIN CERTIFICATE-----".to_vec()),
    })
}

fn signed(signers: &Arc<Signers>, client: Option<&str>, pieces: &[&[u8]]) -> Result<String, Unsigned> {
    let client = client.map(|client| client.parse().unwrap());
    let mut pass = Arc::clone(signers).begin(client);
    for piece in pieces {
        pass.octets(piece);
    }
    let wall = UNIX_EPOCH.checked_add(Duration::from_secs(1_528_637_909)).unwrap();
    pass.finish(wall).map(|fields| String::from_utf8(fields).unwrap())
}

const MESSAGE: &str = "From: Joe SixPack <joe@football.example.com>\r\nTo: Suzie Q <suzie@shopping.example.net>\r\n\
    Subject: Is dinner ready?\r\nX-Other: 1\r\n\r\nHi.\r\n\r\nWe lost the game.  Are you hungry yet?\r\n\r\nJoe.\r\n";

// RFC 8463 section A.3 has the same body and key.
#[test]
fn a_signature_holds_over_what_it_lists() {
    let signers = made(
        "  - {domain: football.example.com, selector: brisbane, key: /ed, expiry: 2d, headers: [From, To, Subject, Date], \
         oversign: [From, Subject]}\n",
    );
    let fields = signed(&Arc::new(signers.unwrap()), None, &[MESSAGE.as_bytes()]).unwrap();
    let flat = fields.replace("\r\n\t", " ");
    for part in [
        "DKIM-Signature: v=1; a=ed25519-sha256; s=brisbane; d=football.example.com; c=relaxed/relaxed; ",
        "; t=1528637909; x=1528810709; ",
        "h=From:From:To:Subject:Subject;",
    ] {
        assert!(flat.contains(part), "{flat}");
    }
    assert!(flat.replace(' ', "").contains("bh=2jUSOH9NhtVGCQWNr9BrIAPreKQjO6Sn7XIkfJVOzv8=;"), "{flat}");
    // What is signed, written by hand.
    let (field, signature) = flat.trim_end().rsplit_once("b=").unwrap();
    let input = format!(
        "from:Joe SixPack <joe@football.example.com>\r\nto:Suzie Q <suzie@shopping.example.net>\r\n\
         subject:Is dinner ready?\r\n{}b=;",
        field.replace("DKIM-Signature: ", "dkim-signature:")
    );
    let digest = ring::digest::digest(&ring::digest::SHA256, input.as_bytes());
    let key = rustls::pki_types::PrivateKeyDer::from_pem_slice(ED25519.as_bytes()).unwrap();
    let pair = Ed25519KeyPair::from_pkcs8_maybe_unchecked(key.secret_der()).unwrap();
    let public =
        ring::signature::UnparsedPublicKey::new(&ring::signature::ED25519, pair.public_key().as_ref());
    let signature: String = signature.trim_end_matches(';').split(' ').collect();
    let signature = base64::engine::general_purpose::STANDARD.decode(signature).unwrap();
    public.verify(digest.as_ref(), &signature).unwrap();
}

#[test]
fn keys_sign_for_the_domains_and_clients_that_are_named() {
    let signers = made(
        "  - {domain: a.test, selector: e, key: /ed}\n  - {domain: a.test, selector: r, key: /ed}\n\
         \x20 - {domain: b.test, selector: s, key: /ed, domains: [b.test, .c.test], client: [192.0.2.0/24]}\n\
         \x20 - {domain: d.test, selector: o, key: /ed, domains: ['*']}\n",
    );
    let signers = Arc::new(signers.unwrap());
    let by =
        |from: &str, client| match signed(&signers, client, &[format!("From: {from}\r\n\r\n").as_bytes()]) {
            Ok(fields) => {
                let selectors = fields.match_indices(" s=").map(|(at, _)| &fields[at + 3..at + 4]);
                selectors.collect::<String>()
            }
            Err(error) => error.to_string(),
        };
    let not_ours = Unsigned::NotOurs.to_string();
    let (inside, outside) = (Some("192.0.2.7"), Some("198.51.100.7"));
    for (from, client, expected) in [
        ("x@A.test", inside, "er"),
        ("x@www.a.test", outside, "er"),
        ("x@b.test", inside, "s"),
        ("x@b.test", None, "s"),
        ("x@b.test", outside, not_ours.as_str()),
        ("x@www.b.test", outside, "o"),
        ("x@www.c.test", inside, "s"),
        ("x@c.test", inside, "o"),
        ("x@nota.test", outside, "o"),
    ] {
        assert_eq!(by(from, client), expected, "{from} {client:?}");
    }
}

#[test]
fn what_cannot_be_signed_says_why() {
    let signers = Arc::new(made("  - {domain: a.test, selector: s, key: /ed}\n").unwrap());
    let long = format!("From: x@a.test\r\nX: {}\r\n\r\n", "y".repeat(300 * 1024));
    for (text, expected) in [
        ("From: x@b.test\r\n\r\n", Unsigned::NotOurs),
        ("To: x@a.test\r\n\r\n", Unsigned::NoSender),
        ("\r\nFrom: x@a.test\r\n", Unsigned::NoSender),
        ("From: x@a.test\r\nno field\r\n\r\n", Unsigned::Malformed),
        (&long, Unsigned::TooLong),
        ("", Unsigned::NoSender),
    ] {
        assert_eq!(signed(&signers, None, &[text.as_bytes()]).unwrap_err(), expected);
    }
    assert!(signed(&signers, None, &[b"From: x@a.test\r\n"]).is_ok(), "no body is one, too");
}

#[test]
fn a_file_without_a_usable_key_is_told() {
    let why = |entries: &str| {
        made(entries).map(|_| ()).map_err(|(number, error)| format!("{number} {error}")).unwrap_err()
    };
    let first = "  - {domain: a.test, selector: s, key: /ed}\n";
    let none = why(&format!("{first}  - {{domain: a.test, selector: t, key: /none}}\n"));
    assert_eq!(none, "1 holds no private key in PEM form that is open to whoever reads the file");
    let curve = rcgen::KeyPair::generate().unwrap().serialize_pem();
    let error = key::read(curve.as_bytes()).map(|_| ()).unwrap_err();
    assert!(error.to_string().starts_with("its key cannot sign mail ("), "{error}");
}

proptest! {
    #[test]
    fn pieces_make_no_difference(
        header in proptest::collection::vec("[A-C]: [a \t]{0,5}(\r\n [b ]{1,3})?", 0..4),
        body in proptest::collection::vec("[ab \t]{0,5}", 0..6),
        cuts in proptest::collection::vec(0..200usize, 0..4),
        relaxed in any::<bool>(),
    ) {
        let way = if relaxed { "relaxed/relaxed" } else { "simple/simple" };
        let entry = format!(
            "  - {{domain: a.test, selector: s, key: /ed, headers: [From, A, B], canonicalization: {way}}}\n"
        );
        let signers = Arc::new(made(&entry).unwrap());
        let lines = |lines: &[String]| lines.iter().map(|line| format!("{line}\r\n")).collect::<String>();
        let text = format!("{}From: x@a.test\r\n\r\n{}", lines(&header), lines(&body));
        let mut cuts: Vec<_> = cuts.iter().map(|cut| *cut.min(&text.len())).collect();
        cuts.sort_unstable();
        let mut pieces = Vec::new();
        let mut from = 0;
        for cut in cuts.into_iter().chain([text.len()]) {
            pieces.push(&text.as_bytes()[from..cut]);
            from = cut;
        }
        prop_assert_eq!(signed(&signers, None, &pieces), signed(&signers, None, &[text.as_bytes()]));
    }
}
