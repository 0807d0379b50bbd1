//! TLS with servers.

use std::sync::Arc;

use rustls::ServerConfig;

use super::scene::{Scene, limited, play};
use super::server::Script;
use super::trust::{Trust, fingerprint};

fn server(tls: &Arc<ServerConfig>, main: &'static str) -> Scene {
    let script = Script { keywords: &["AUTH PLAIN"], tls: Some(Arc::clone(tls)), ..Script::default() };
    Scene { main, servers: vec![script], ..Scene::default() }
}

#[test]
fn tls_is_used_where_and_as_the_operator_says() -> anyhow::Result<()> {
    let trust = Trust::new()?;
    let at = |main| server(&trust.server, main);
    let (used, unused) = ("STARTTLS\n", "from 127.0.0.1\nEHLO gw.test\nMAIL");
    play(vec![
        ("smtp_tls_security_level = none", at(""), used, unused),
        ("smtp_use_tls = no", at(""), used, unused),
        ("smtp_enforce_tls = yes", at(""), "status=sent", "Cannot start TLS"),
        ("smtp_tls_enforce_peername = no", at("smtp_enforce_tls = yes"), "status=deferred", "status=sent"),
        ("smtp_tls_per_site = inline:{[127.0.0.1]:PORT=NONE}", at(""), used, unused),
        ("smtp_tls_policy_maps = inline:{[127.0.0.1]:PORT=none}", at(""), used, unused),
        ("smtp_tls_protocols = !TLSv1.3", at(""), "(TLS Some(TLSv1_3)", "(TLS Some(TLSv1_2)"),
        (
            "smtp_tls_mandatory_protocols = !TLSv1.3",
            at("smtp_tls_security_level = encrypt"),
            "(TLS Some(TLSv1_3)",
            "(TLS Some(TLSv1_2)",
        ),
        (
            "smtp_tls_exclude_ciphers = AES256, CHACHA20",
            at(""),
            "TLS13_AES_256_GCM_SHA384",
            "TLS13_AES_128_GCM_SHA256",
        ),
        (
            "smtp_tls_mandatory_exclude_ciphers = AES256, CHACHA20",
            at("smtp_tls_security_level = encrypt"),
            "TLS13_AES_256_GCM_SHA384",
            "TLS13_AES_128_GCM_SHA256",
        ),
        ("smtp_tls_ciphers = null", at(""), "status=sent", "`null` is no value of `smtp_tls_ciphers`"),
        (
            "smtp_tls_mandatory_ciphers = null",
            at(""),
            "status=sent",
            "`null` is no value of `smtp_tls_mandatory_ciphers`",
        ),
        ("smtp_tls_loglevel = 1", at(""), "", "TLS connection established"),
        (
            "smtp_tls_note_starttls_offer = yes",
            at("smtp_tls_security_level = none"),
            "",
            "note=StartTlsOffered",
        ),
    ])?;
    let silent = Script { replies: &[("STARTTLS", "")], ..at("").servers.remove(0) };
    // Each grade is the same list.
    let suite = "TLS13_AES_256_GCM_SHA384";
    limited(vec![
        ("smtp_tls_ciphers = high", at(""), "", suite),
        ("smtp_tls_ciphers = export", at(""), "", suite),
        ("smtp_tls_mandatory_ciphers = low", at("smtp_tls_security_level = encrypt"), "", suite),
    ])?;
    limited(vec![(
        "smtp_starttls_timeout = 1s",
        Scene { servers: vec![silent], ..at("smtp_tls_security_level = encrypt") },
        "",
        "timed out while",
    )])
}

#[test]
fn certificates_are_looked_at_as_the_operator_says() -> anyhow::Result<()> {
    const VERIFY: &str = "smtp_tls_security_level = verify\n";
    const NAMED: &str = "smtp_tls_security_level = verify\nsmtp_tls_verify_cert_match = mx.test\n";
    const TRUSTED: &str = "smtp_tls_CAfile = DIR/ca/root.pem\n";
    let trust = Trust::new()?;
    let joined = |a: &str, b: &str| -> &'static str { String::leak(format!("{a}{b}")) };
    let of = |tls, main| Scene { files: vec![("ca/root.pem", trust.authority.clone())], ..server(tls, main) };
    let at = |main| of(&trust.server, main);
    let secure = "smtp_tls_security_level = secure\n";
    let folder = tempfile::tempdir()?;
    let digest = |name| fingerprint(&trust.certificate, name, folder.path());
    let (sha256, sha1) = (digest("sha256")?, digest("sha1")?);
    let listed = |digest: &str| joined("smtp_tls_fingerprint_cert_match = ", digest);
    let level = "smtp_tls_security_level = fingerprint\n";
    let (bad, good) = ("Cannot start TLS", "status=sent");
    play(vec![
        ("smtp_tls_CAfile = DIR/ca/root.pem", at(NAMED), bad, good),
        ("smtp_tls_CApath = DIR/ca", at(NAMED), bad, good),
        ("smtp_tls_verify_cert_match = mx.test", at(joined(VERIFY, TRUSTED)), bad, good),
        ("smtp_tls_secure_cert_match = .test", at(joined(secure, TRUSTED)), bad, good),
        ("smtp_tls_scert_verifydepth = 0", of(&trust.deep, joined(NAMED, TRUSTED)), good, bad),
        (listed(&sha256), at(level), "no certificate is listed", good),
        (
            "smtp_tls_fingerprint_digest = sha1",
            at(joined(level, listed(&sha1))),
            "is no sha256 fingerprint",
            good,
        ),
    ])
}

#[test]
fn the_gateway_shows_its_own_certificate() -> anyhow::Result<()> {
    let trust = Trust::new()?;
    let (certificate, key) = &trust.client;
    let files = vec![
        ("both.pem", format!("{certificate}{key}")),
        ("certificate.pem", certificate.clone()),
        ("key.pem", key.clone()),
    ];
    let at = |main| Scene { files: files.clone(), ..server(&trust.server, main) };
    let (none, one) = ("no certificate", " a certificate of");
    play(vec![
        ("smtp_tls_cert_file = DIR/both.pem", at(""), none, one),
        (
            "smtp_tls_key_file = DIR/key.pem",
            at("smtp_tls_cert_file = DIR/certificate.pem"),
            "no unencrypted private key",
            one,
        ),
        ("smtp_tls_eccert_file = DIR/both.pem", at(""), none, one),
        (
            "smtp_tls_eckey_file = DIR/key.pem",
            at("smtp_tls_eccert_file = DIR/certificate.pem"),
            "no unencrypted private key",
            one,
        ),
        ("smtp_tls_dcert_file = DIR/both.pem", at(""), "status=sent", "the TLS library has no DSA"),
        ("smtp_tls_dkey_file = DIR/both.pem", at(""), "status=sent", "the TLS library has no DSA"),
    ])
}

#[test]
fn a_password_goes_where_tls_is_good_enough_for_it() -> anyhow::Result<()> {
    const LOGIN: &str = "smtp_sasl_auth_enable = yes\nsmtp_sasl_password_maps = static:u:p\n\
        smtp_tls_security_level = encrypt\n";
    const VERIFIED: &str = "smtp_sasl_auth_enable = yes\nsmtp_sasl_password_maps = static:u:p\n\
        smtp_tls_security_level = verify\nsmtp_tls_verify_cert_match = mx.test\nsmtp_tls_CAfile = DIR/root.pem\n";
    let trust = Trust::new()?;
    let at =
        |main| Scene { files: vec![("root.pem", trust.authority.clone())], ..server(&trust.server, main) };
    let none = "offered no compatible";
    play(vec![
        ("smtp_sasl_tls_security_options = noanonymous", at(LOGIN), none, "AUTH PLAIN AHUAcA=="),
        ("smtp_sasl_tls_verified_security_options = noanonymous", at(VERIFIED), none, "AUTH PLAIN AHUAcA=="),
    ])
}

#[test]
fn a_tls_session_is_resumed_while_it_is_young() -> anyhow::Result<()> {
    let trust = Trust::new()?;
    let main = "smtp_connection_cache_on_demand = no\nsmtp_destination_rate_delay = 3s\n";
    let scene = Scene { copies: 2, records: 2, ..server(&trust.server, main) };
    play(vec![("smtp_tls_session_cache_timeout = 1s", scene, "Some(Resumed)", "")])
}

#[test]
fn what_openssl_alone_could_do_is_left_out_with_its_reason() -> anyhow::Result<()> {
    let fixed = "the TLS library has a fixed list of ciphers";
    play(vec![
        ("tls_high_cipherlist = HIGH", Scene::default(), "", fixed),
        ("tls_medium_cipherlist = MEDIUM", Scene::default(), "", fixed),
        ("tls_low_cipherlist = LOW", Scene::default(), "", fixed),
        ("tls_export_cipherlist = EXPORT", Scene::default(), "", fixed),
        ("tls_null_cipherlist = NULL", Scene::default(), "", fixed),
        ("smtp_tls_cipherlist = ALL", Scene::default(), "", "Postfix 2.3 and later do not use it either"),
        ("smtp_tls_session_cache_database = btree:/x", Scene::default(), "", "sessions are kept in memory"),
        ("tls_daemon_random_bytes = 64", Scene::default(), "", "random numbers come from the kernel"),
    ])
}
