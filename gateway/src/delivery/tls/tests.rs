//! Handshakes with a real TLS server, in memory.

use std::io::{self, Read as _, Write as _};

use rcgen::{
    BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, PublicKeyData as _, date_time_ymd,
};
use rustls::pki_types::{PrivatePkcs8KeyDer, ServerName};
use rustls::{ClientConnection, HandshakeKind, ProtocolVersion, ServerConfig, ServerConnection};
use sha2::{Digest as _, Sha256};

use super::*;
use crate::config::file::delivery::FingerprintDigest;

/// An authority, and servers whose certificates it signs.
struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pem: String,
}

struct Server {
    config: Arc<ServerConfig>,
    certificate: CertificateDer<'static>,
    key: Vec<u8>,
}

impl Authority {
    fn new(name: &str) -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, name);
        let key = KeyPair::generate().unwrap();
        let pem = params.self_signed(&key).unwrap().pem();
        Self { issuer: Issuer::new(params, key), pem }
    }

    fn server(&self, names: &[&str]) -> Server {
        self.server_with(names, |_| {})
    }

    fn server_with(&self, names: &[&str], change: impl FnOnce(&mut CertificateParams)) -> Server {
        let mut params =
            CertificateParams::new(names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>()).unwrap();
        change(&mut params);
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        Server::new(certificate.der().clone(), &key)
    }
}

impl Server {
    fn new(certificate: CertificateDer<'static>, key: &KeyPair) -> Self {
        let private = PrivatePkcs8KeyDer::from(key.serialize_der()).into();
        let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![certificate.clone()], private)
            .unwrap();
        Self { config: Arc::new(config), certificate, key: key.subject_public_key_info() }
    }

    fn self_signed(names: &[&str]) -> Self {
        let params =
            CertificateParams::new(names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>()).unwrap();
        let key = KeyPair::generate().unwrap();
        let certificate = params.self_signed(&key).unwrap();
        Self::new(certificate.der().clone(), &key)
    }
}

/// Shakes hands as a client that is at `mx.b.test`, of the next hop `b.test`.
fn shake(client: &TlsClient, policy: &TlsPolicy, server: &Server) -> Result<ClientConnection, String> {
    let config = client.config(policy, "mx.b.test", "b.test").map_err(|error| error.to_string())?;
    let name = ServerName::try_from("mx.b.test").unwrap();
    let mut ours = ClientConnection::new(config, name).unwrap();
    let mut theirs = ServerConnection::new(Arc::clone(&server.config)).unwrap();
    // The last octet shows that both sides took the handshake for done.
    theirs.writer().write_all(b"!").unwrap();
    for _ in 0..10 {
        let mut wire = Vec::new();
        while ours.wants_write() {
            ours.write_tls(&mut wire).unwrap();
        }
        let mut wire = io::Cursor::new(wire);
        while theirs.read_tls(&mut wire).unwrap() > 0 {
            theirs.process_new_packets().map_err(|error| format!("server: {error}"))?;
        }
        let mut wire = Vec::new();
        while theirs.wants_write() {
            theirs.write_tls(&mut wire).unwrap();
        }
        let mut wire = io::Cursor::new(wire);
        while ours.read_tls(&mut wire).unwrap() > 0 {
            ours.process_new_packets().map_err(|error| error.to_string())?;
        }
        if ours.reader().read(&mut [0]).is_ok_and(|read| read == 1) {
            return Ok(ours);
        }
    }
    Err("the handshake does not end".to_owned())
}

fn names(words: &[&str]) -> Vec<NameMatch> {
    words.iter().map(|word| NameMatch::from(*word)).collect()
}

#[test]
fn verify_and_secure_want_a_trusted_certificate_with_a_name_that_is_listed() {
    let authority = Authority::new("authority");
    let client = TlsClient::new(authority.pem.as_bytes()).unwrap();
    let verify = TlsPolicy::new(TlsLevel::Verify);
    let secure = TlsPolicy::new(TlsLevel::Secure);
    let listed = |words: &[&str]| TlsPolicy { names: names(words), ..TlsPolicy::new(TlsLevel::Secure) };
    for (policy, certificate, matches) in [
        (&verify, "mx.b.test", true),
        (&verify, "MX.B.test", true),
        (&verify, "*.b.test", true),
        (&verify, "b.test", false),
        (&verify, "*.test", false),
        (&verify, "mx.evil.test", false),
        (&secure, "b.test", true),
        (&secure, "mx.b.test", true),
        (&secure, "deep.mx.b.test", true),
        (&secure, "*.b.test", true),
        (&secure, "notb.test", false),
        (&secure, "b.test.evil.test", false),
        (&secure, "*.test", false),
        (&listed(&["hostname"]), "mx.b.test", true),
        (&listed(&["Other.test", ".c.test"]), "other.test", true),
        (&listed(&["other.test", ".c.test"]), "x.c.test", true),
        (&listed(&["other.test", ".c.test"]), "c.test", false),
        (&listed(&["other.test", ".c.test"]), "mx.b.test", false),
    ] {
        let shaken = shake(&client, policy, &authority.server(&[certificate]));
        assert_eq!(shaken.is_ok(), matches, "{certificate} for {:?}: {:?}", policy.names, shaken.err());
    }
}

#[test]
fn a_certificate_that_is_not_trusted_is_none_at_the_levels_that_ask() {
    let authority = Authority::new("authority");
    let client = TlsClient::new(authority.pem.as_bytes()).unwrap();
    let expired =
        authority.server_with(&["mx.b.test"], |params| params.not_after = date_time_ymd(2020, 1, 1));
    let early = authority.server_with(&["mx.b.test"], |params| params.not_before = date_time_ymd(2200, 1, 1));
    let stranger = Authority::new("stranger").server(&["mx.b.test"]);
    let alone = Server::self_signed(&["mx.b.test"]);
    for (server, error) in [
        (&expired, "invalid peer certificate: Expired"),
        (&early, "invalid peer certificate: NotValidYet"),
        (&stranger, "invalid peer certificate: UnknownIssuer"),
        (&alone, "invalid peer certificate: UnknownIssuer"),
    ] {
        let shaken = shake(&client, &TlsPolicy::new(TlsLevel::Verify), server);
        assert_eq!(shaken.err().as_deref(), Some(error));
        for level in [TlsLevel::May, TlsLevel::Encrypt] {
            assert!(
                shake(&client, &TlsPolicy::new(level), server).is_ok(),
                "{level:?} asks for no certificate"
            );
        }
    }
}

#[test]
fn a_fingerprint_is_that_of_the_certificate_or_of_its_key_and_nothing_else_counts() {
    let client = TlsClient::new(b"").unwrap();
    let server = Server::self_signed(&["elsewhere.test"]);
    let hex =
        |octets: &[u8]| Sha256::digest(octets).iter().map(|octet| format!("{octet:02X}")).collect::<Vec<_>>();
    let policy = |digits: String| TlsPolicy {
        fingerprints: vec![Fingerprint::parse(&digits, FingerprintDigest::Sha256).unwrap()],
        ..TlsPolicy::new(TlsLevel::Fingerprint)
    };
    assert!(shake(&client, &policy(hex(&server.certificate).join(":")), &server).is_ok());
    assert!(shake(&client, &policy(hex(&server.key).concat().to_ascii_lowercase()), &server).is_ok());
    let other = Server::self_signed(&["elsewhere.test"]);
    assert!(shake(&client, &policy(hex(&other.certificate).concat()), &server).is_err());
}

#[test]
fn what_no_server_could_meet_is_an_error_and_not_a_weaker_demand() {
    let client = TlsClient::new(b"").unwrap();
    let server = Server::self_signed(&["mx.b.test"]);
    for (policy, error) in [
        (
            TlsPolicy::new(TlsLevel::Fingerprint),
            "at the level fingerprint nothing is listed that a certificate could match",
        ),
        (
            TlsPolicy { names: Vec::new(), ..TlsPolicy::new(TlsLevel::Secure) },
            "at the level secure nothing is listed that a certificate could match",
        ),
        (
            TlsPolicy { tls12: false, tls13: false, ..TlsPolicy::new(TlsLevel::May) },
            "no TLS version that may be used",
        ),
        (TlsPolicy::new(TlsLevel::Verify), "invalid peer certificate: UnknownIssuer"),
    ] {
        assert_eq!(shake(&client, &policy, &server).err().as_deref(), Some(error));
    }
    assert!(TlsClient::new(b"no certificate").is_err());
}

#[test]
fn only_the_versions_that_may_be_used_are() {
    let authority = Authority::new("authority");
    let client = TlsClient::new(authority.pem.as_bytes()).unwrap();
    let server = authority.server(&["mx.b.test"]);
    let version = |policy: &TlsPolicy| shake(&client, policy, &server).unwrap().protocol_version();
    let all = TlsPolicy::new(TlsLevel::Verify);
    assert_eq!(version(&all), Some(ProtocolVersion::TLSv1_3));
    let old = TlsPolicy { tls13: false, ..all };
    assert_eq!(version(&old), Some(ProtocolVersion::TLSv1_2));
}

#[test]
fn a_session_is_resumed_only_where_the_same_was_demanded() {
    let authority = Authority::new("authority");
    let client = TlsClient::new(authority.pem.as_bytes()).unwrap();
    let server = authority.server(&["mx.b.test"]);
    let kind = |policy: &TlsPolicy| shake(&client, policy, &server).unwrap().handshake_kind();
    let (may, verify) = (TlsPolicy::new(TlsLevel::May), TlsPolicy::new(TlsLevel::Verify));
    assert_eq!(kind(&may), Some(HandshakeKind::Full));
    assert_eq!(kind(&may), Some(HandshakeKind::Resumed));
    assert_eq!(
        kind(&verify),
        Some(HandshakeKind::Full),
        "nobody looked at the certificate of the other session"
    );
    assert_eq!(kind(&verify), Some(HandshakeKind::Resumed));
    let brief = TlsPolicy { resume: Duration::from_nanos(1), ..may.clone() };
    assert_eq!(kind(&brief), Some(HandshakeKind::Full));
    assert_eq!(kind(&brief), Some(HandshakeKind::Full), "the session is too old");
    let never = TlsPolicy { resume: Duration::ZERO, ..may };
    assert_eq!(kind(&never), Some(HandshakeKind::Full));
    assert_eq!(kind(&never), Some(HandshakeKind::Full));
}

#[test]
fn a_key_of_another_certificate_is_no_identity() {
    let authority = Authority::new("authority");
    let (one, other) = (KeyPair::generate().unwrap(), KeyPair::generate().unwrap());
    let params = CertificateParams::new(vec!["gw.test".to_owned()]).unwrap();
    let pem = params.signed_by(&one, &authority.issuer).unwrap().pem();
    let identity = |key: &str| TlsClient::new(b"").unwrap().with_identity(pem.as_bytes(), key.as_bytes());
    assert!(identity(&one.serialize_pem()).is_ok());
    assert!(matches!(identity(&other.serialize_pem()), Err(TlsError::Library(_))));
    assert!(matches!(identity("nothing"), Err(TlsError::Key)));
}

#[test]
fn only_the_ciphers_that_are_left_are_used() {
    let authority = Authority::new("authority");
    let client = TlsClient::new(authority.pem.as_bytes()).unwrap();
    let server = authority.server(&["mx.b.test"]);
    let suite = |words: &str| {
        let (ciphers, _) = Ciphers::ALL.without([words]).unwrap();
        let policy = TlsPolicy { ciphers, ..TlsPolicy::new(TlsLevel::Verify) };
        shake(&client, &policy, &server).map(|shaken| shaken.negotiated_cipher_suite().unwrap().suite())
    };
    assert_eq!(suite(""), Ok(rustls::CipherSuite::TLS13_AES_256_GCM_SHA384));
    assert_eq!(suite("AES"), Ok(rustls::CipherSuite::TLS13_CHACHA20_POLY1305_SHA256));
    let (ciphers, _) = Ciphers::ALL.without(["kECDHE"]).unwrap();
    let policy = TlsPolicy { ciphers, tls13: false, ..TlsPolicy::new(TlsLevel::Encrypt) };
    assert_eq!(shake(&client, &policy, &server).err().as_deref(), Some("no cipher suite that may be used"));
}
