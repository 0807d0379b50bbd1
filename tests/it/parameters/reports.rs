//! What operators and senders are told.

use std::time::Duration;

use super::names::Name;
use super::scene::{Scene, limited, play};
use super::server::Script;

/// Mail that is refused, and its report, which is not.
fn refused(main: &'static str) -> Scene {
    let replies = &[("RCPT TO:<r@b.test>", "550 5.1.1 no such user")];
    Scene {
        main,
        servers: vec![Script { replies, ..Script::default() }],
        // The refusal, the report, and the copy of it.
        records: 3,
        ..Scene::default()
    }
}

#[test]
fn the_postmaster_hears_of_what_he_wants_to() -> anyhow::Result<()> {
    let (usual, other) = ("RCPT TO:<postmaster@gw.test>", "RCPT TO:<boss@x.test>");
    limited(vec![("notify_classes = bounce", refused(""), "", usual)])?;
    play(vec![
        ("error_notice_recipient = boss@x.test", refused("notify_classes = bounce"), usual, other),
        (
            "internal_mail_filter_classes = bounce",
            Scene::default(),
            "",
            "mail that the gateway makes itself is not scanned",
        ),
        ("non_smtpd_milters = inet:127.0.0.1:1", Scene::default(), "", "there are no milters here"),
    ])
}

/// Notices of deliveries from `s@a.test`; notices themselves come from another sender, of whom servers take all.
#[test]
fn the_postmaster_reads_what_was_said_when_something_went_wrong() -> anyhow::Result<()> {
    const NOTICE: &str = "\nSubject: Gateway SMTP client: errors from 127.0.0.1[127.0.0.1]:";
    const LOGIN: &str = "smtp_sasl_auth_enable = yes\nsmtp_sasl_password_maps = inline:{s@a.test=u:p}\n\
        smtp_sender_dependent_authentication = yes\nsmtp_sasl_security_options = noanonymous";
    let at = |main, records, reply: &'static [(&'static str, &'static str)]| {
        let script = Script { keywords: &["AUTH PLAIN"], replies: reply, ..Script::default() };
        Scene { main, records, servers: vec![script], ..Scene::default() }
    };
    // Records: of the mail, of its report where it is returned, of the notice.
    let odd = || at(LOGIN, 3, &[("MAIL FROM:<s@a.test>", "501 5.5.4 what")]);
    let full = || at("", 2, &[("MAIL FROM:<s@a.test>", "452 4.3.1 no room")]);
    let wrong = || at(LOGIN, 2, &[("AUTH", "535 5.7.8 wrong password")]);
    let unusable = Scene {
        main: "smtp_tls_policy_maps = inline:{[127.0.0.1]:PORT=nonsense}\nlmtp_tls_policy_maps =",
        ..at("", 1, &[])
    };
    limited(vec![
        ("notify_classes = protocol", odd(), "", NOTICE),
        (
            "notify_classes = protocol",
            odd(),
            "",
            "\nThis is a notice of the mail gateway gw.test, of the class `protocol`.",
        ),
        ("notify_classes = protocol", odd(), "", "\n Out: AUTH PLAIN (not shown)\n In:  235 2.7.0 welcome\n"),
        ("notify_classes = protocol", odd(), "", "\n Out: MAIL FROM:<s@a.test>\n In:  501 5.5.4 what\n"),
        ("notify_classes = resource", full(), "", "\n In:  452 4.3.1 no room\n"),
        (
            "notify_classes = software",
            wrong(),
            "",
            "\n Out: AUTH PLAIN (not shown)\n In:  535 5.7.8 wrong password\n",
        ),
        ("notify_classes = software", unusable, "", "fault=software"),
    ])?;
    // Who does not ask for it hears nothing, and nobody hears of a report or a notice.
    let silent = |parameter, scene: Scene| -> anyhow::Result<()> {
        let told = scene.told(parameter)?;
        anyhow::ensure!(!told.contains("notice to the postmaster"), "{parameter}: {told}");
        Ok(())
    };
    silent("notify_classes = policy, data, resource, software", Scene { records: 2, ..odd() })?;
    silent("notify_classes = protocol, software", Scene { records: 1, ..full() })?;
    let replies = &[("MAIL", "501 5.5.4 what")];
    for sender in ["", "Double-Bounce@gw.test"] {
        silent("notify_classes = protocol", Scene { sender, ..at("", 1, replies) })?;
    }
    Ok(())
}

#[test]
fn one_server_is_worth_one_notice_an_hour() -> anyhow::Result<()> {
    let script = Script { replies: &[("MAIL FROM:<s@a.test>", "452 4.3.1 no room")], ..Script::default() };
    // Six deferred, and one notice.
    let many = Scene { copies: 6, records: 7, servers: vec![script], ..Scene::default() };
    let told = many.told("")?;
    assert_eq!(told.matches("notice to the postmaster").count(), 1, "{told}");
    assert_eq!(told.matches("\nSubject: Gateway SMTP client: errors from").count(), 1, "{told}");
    Ok(())
}

#[test]
fn a_session_that_is_listed_is_told_in_detail() -> anyhow::Result<()> {
    let step = "step of a delivery";
    let listed = Scene { main: "debug_peer_list = 127.0.0.0/8", ..Scene::default() };
    play(vec![
        ("debug_peer_list = 127.0.0.0/8", Scene::default(), "", step),
        ("debug_peer_level = 1", listed, step, ""),
    ])
}

#[test]
fn delays_have_as_many_digits_as_the_operator_wants() -> anyhow::Result<()> {
    let old = Scene { age: Duration::from_millis(1_500), ..Scene::default() };
    let told = old.told("delay_logging_resolution_limit = 0")?;
    let delays = told.split_once(" delays=").and_then(|(_, rest)| rest.split(' ').next());
    assert!(delays.is_some_and(|delays| !delays.contains('.')), "{told}");
    Ok(())
}

#[test]
fn an_lmtp_server_may_count_as_the_last_one() -> anyhow::Result<()> {
    const SENDER: &[Name] = &[("a.test", "MX", "10 mx1.test"), ("mx1.test", "A", "127.0.0.1")];
    let scene = Scene {
        main: "smtp_tcp_port = PORT",
        relay: "lmtp:[127.0.0.1]:PORT",
        names: SENDER,
        asks_for_success: true,
        records: 2,
        ..Scene::default()
    };
    play(vec![("lmtp_assume_final = yes", scene, "Action: relayed", "Action: delivered")])
}

#[test]
fn mail_is_tried_for_as_long_as_the_operator_says() -> anyhow::Result<()> {
    let busy = |main| {
        let script = Script { greeting: "421 4.7.0 no", ..Script::default() };
        Scene { main, servers: vec![script], ..Scene::default() }
    };
    let nobody = Scene { sender: "", ..busy("") };
    let old = Scene { age: Duration::from_secs(7_200), ..busy("") };
    let large = Scene { records: 2, ..refused("") };
    play(vec![
        ("maximal_queue_lifetime = 0", busy(""), "", "kind=failure"),
        ("bounce_queue_lifetime = 0", nobody, "", "a report that nobody takes is thrown away"),
        ("delay_warning_time = 1h", old, "", "kind=delay"),
        (
            "bounce_size_limit = 10",
            large,
            "Content-Type: message/rfc822",
            "Content-Type: text/rfc822-headers",
        ),
    ])?;
    // Without the parameter, the second attempt would be 300 s later, or as much later as the message is old.
    let again = |main| Scene { records: 3, ..busy(main) };
    let old = Scene { age: Duration::from_secs(3_600), ..again("minimal_backoff_time = 1s") };
    limited(vec![
        ("minimal_backoff_time = 1s", again(""), "", "status=deferred"),
        ("maximal_backoff_time = 1s", old, "", "status=deferred"),
    ])
}

#[test]
fn where_documentation_lies_does_not_matter() -> anyhow::Result<()> {
    play(vec![
        ("html_directory = /x", Scene::default(), "", "it names documentation"),
        ("readme_directory = /x", Scene::default(), "", "it names documentation"),
    ])
}
