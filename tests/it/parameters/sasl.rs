//! Passwords for servers.

use super::scene::{Scene, play};
use super::server::Script;

/// A server that takes passwords; nothing is encrypted.
fn server(main: &'static str) -> Scene {
    let script = Script { keywords: &["AUTH PLAIN CRAM-MD5"], ..Script::default() };
    Scene { main, servers: vec![script], ..Scene::default() }
}

fn refusing(main: &'static str) -> Scene {
    let replies = &[("AUTH", "535 5.7.8 no")];
    let script = Script { keywords: &["AUTH PLAIN"], replies, ..Script::default() };
    Scene { main, servers: vec![script], ..Scene::default() }
}

/// `AUTH PLAIN` with the user `u` and the password `p`.
const PLAIN: &str = "AUTH PLAIN AHUAcA==";

#[test]
fn passwords_are_sent_as_the_operator_says() -> anyhow::Result<()> {
    let only_plain = || {
        let script = Script { keywords: &["AUTH PLAIN"], ..Script::default() };
        Scene {
            servers: vec![script],
            ..server("smtp_sasl_auth_enable = yes\nsmtp_sasl_password_maps = static:u:p")
        }
    };
    play(vec![
        (
            "smtp_sasl_auth_enable = yes",
            server("smtp_sasl_password_maps = static:u:p\nsmtp_sasl_mechanism_filter = cram-md5"),
            "",
            "AUTH CRAM-MD5",
        ),
        (
            "smtp_sasl_password_maps = inline:{[127.0.0.1]:PORT=u:p}",
            server(
                "smtp_sasl_auth_enable = yes\nsmtp_sasl_security_options = noanonymous\nsmtp_sasl_mechanism_filter = plain",
            ),
            "",
            PLAIN,
        ),
        ("smtp_sasl_security_options = noanonymous", only_plain(), "offered no compatible", PLAIN),
        (
            "smtp_sasl_mechanism_filter = !cram-md5, plain",
            server(
                "smtp_sasl_auth_enable = yes\nsmtp_sasl_password_maps = static:u:p\nsmtp_sasl_security_options = noanonymous",
            ),
            "AUTH CRAM-MD5",
            PLAIN,
        ),
        (
            "smtp_sender_dependent_authentication = yes",
            server(
                "smtp_sasl_auth_enable = yes\nsmtp_sasl_password_maps = inline:{s@a.test=u:p}\n\
                 smtp_sasl_security_options =\nsmtp_sasl_mechanism_filter = plain",
            ),
            "",
            PLAIN,
        ),
        (
            "send_cyrus_sasl_authzid = yes",
            server(
                "smtp_sasl_auth_enable = yes\nsmtp_sasl_password_maps = static:u:p\nsmtp_sasl_security_options =\n\
                 smtp_sasl_mechanism_filter = plain",
            ),
            PLAIN,
            "AUTH PLAIN dQB1AHA=",
        ),
        (
            "smtp_sasl_type = cyrus",
            server(""),
            "",
            "`smtp_sasl_type` is left out: the mechanisms are built in",
        ),
        (
            "smtp_sasl_path = smtpd",
            server(""),
            "",
            "`smtp_sasl_path` is left out: the mechanisms are built in",
        ),
    ])
}

#[test]
fn a_refused_password_is_remembered_and_returns_no_mail() -> anyhow::Result<()> {
    const LOGIN: &str = "smtp_sasl_auth_enable = yes\nsmtp_sasl_password_maps = static:u:p\n\
        smtp_sasl_security_options = noanonymous\nminimal_backoff_time = 3s\nmaximal_backoff_time = 3s\nnotify_classes = bounce\n";
    const CACHED: &str = "smtp_sasl_auth_enable = yes\nsmtp_sasl_password_maps = static:u:p\n\
        smtp_sasl_security_options = noanonymous\nminimal_backoff_time = 3s\nmaximal_backoff_time = 3s\n\
        notify_classes = bounce\nsmtp_sasl_auth_cache_name = proxy:btree:/var/lib/postfix/sasl\n";
    let twice = |main| Scene { records: 2, ..refusing(main) };
    play(vec![
        ("smtp_sasl_auth_cache_name = proxy:btree:/var/lib/postfix/sasl", twice(LOGIN), "", "SASL [CACHED]"),
        ("smtp_sasl_auth_cache_time = 1s", twice(CACHED), "SASL [CACHED]", ""),
        ("smtp_sasl_auth_soft_bounce = no", refusing(LOGIN), "status=deferred", "status=bounced"),
    ])
}
