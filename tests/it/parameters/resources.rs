//! How much, how many, and how long.

use super::scene::{Scene, limited, play};
use super::server::Script;

fn server(main: &'static str, replies: &'static [(&'static str, &'static str)]) -> Scene {
    Scene { main, servers: vec![Script { replies, ..Script::default() }], ..Scene::default() }
}

#[test]
fn every_step_has_its_time_limit() -> anyhow::Result<()> {
    let silent = |replies| server("", replies);
    let greeting = |relay, greeting| Scene {
        relay,
        servers: vec![Script { greeting, ..Script::default() }],
        ..Scene::default()
    };
    let full = Scene { servers: vec![Script { full: true, ..Script::default() }], ..Scene::default() };
    let forwarding =
        Script { keywords: &["XFORWARD NAME"], replies: &[("XFORWARD", "")], ..Script::default() };
    let forwarding =
        Scene { main: "smtp_send_xforward_command = yes", servers: vec![forwarding], ..Scene::default() };
    let long = Scene {
        text: format!("Subject: x\n\n{}", "a line of a message that nobody reads\n".repeat(400_000)),
        ..silent(&[("DATA", "stall")])
    };
    limited(vec![
        ("smtp_connect_timeout = 1s", full, "", "timed out"),
        ("smtp_helo_timeout = 1s", greeting("[127.0.0.1]:PORT", ""), "", "initial server greeting"),
        ("lmtp_lhlo_timeout = 1s", greeting("lmtp:[127.0.0.1]:PORT", ""), "", "initial server greeting"),
        ("smtp_xforward_timeout = 1s", forwarding, "", "timed out while sending XFORWARD"),
        ("smtp_mail_timeout = 1s", silent(&[("MAIL", "")]), "", "timed out while sending MAIL FROM"),
        ("smtp_rcpt_timeout = 1s", silent(&[("RCPT", "")]), "", "timed out while sending RCPT TO"),
        ("smtp_data_init_timeout = 1s", silent(&[("DATA", "")]), "", "timed out while sending DATA command"),
        ("smtp_data_xfer_timeout = 1s", long, "", "timed out while sending message body"),
        ("smtp_data_done_timeout = 1s", silent(&[(".", "")]), "", "timed out while sending end of data"),
        (
            "smtp_quit_timeout = 1s",
            server("smtp_skip_quit_response = no", &[("QUIT", "")]),
            "",
            "QUIT\n(pause)\n(end)",
        ),
    ])
}

#[test]
fn an_old_connection_is_asked_for_no_longer_than_a_server_may_take() -> anyhow::Result<()> {
    let main = "smtp_connection_cache_destinations = 127.0.0.1\nsmtp_destination_concurrency_limit = 1";
    let scene = Scene { copies: 2, records: 2, ..server(main, &[("RSET", "")]) };
    play(vec![("smtp_rset_timeout = 1s", scene, "RSET\n(long pause)", "RSET\n(pause)")])
}

#[test]
fn deliveries_are_as_many_and_as_large_as_the_operator_says() -> anyhow::Result<()> {
    let two = |main| Scene { copies: 2, records: 2, ..server(main, &[("MAIL", "meet")]) };
    let both = Scene { recipients: &["r1@b.test", "r2@b.test"], records: 2, ..Scene::default() };
    let (one, each) = ("RCPT TO:<r1@b.test>\nRCPT TO:<r2@b.test>", "RCPT TO:<r1@b.test>\nDATA");
    play(vec![
        ("smtp_destination_concurrency_limit = 1", two(""), "(together)", "(alone)"),
        ("default_destination_concurrency_limit = 1", two(""), "(together)", "(alone)"),
        ("initial_destination_concurrency = 1", two(""), "(together)", "(alone)"),
        ("smtp_destination_recipient_limit = 1", both.clone(), one, each),
        ("default_destination_recipient_limit = 1", both, one, each),
    ])
}

#[test]
fn a_destination_gets_its_deliveries_at_the_pace_of_the_operator() -> anyhow::Result<()> {
    let two = || Scene { copies: 2, records: 2, ..server("", &[("MAIL", "meet")]) };
    let main = "smtp_connection_cache_destinations = 127.0.0.1\nsmtp_connection_cache_time_limit = 30s";
    let kept = || Scene { copies: 2, records: 2, ..server(main, &[]) };
    let pause = "(pause)\nRSET";
    play(vec![
        ("smtp_destination_rate_delay = 1s", two(), "(together)", "(alone)"),
        ("smtp_destination_rate_delay = 1s", kept(), "", pause),
        ("default_destination_rate_delay = 1s", kept(), "", pause),
    ])
}

#[test]
fn a_destination_gets_more_or_fewer_deliveries_by_how_it_does() -> anyhow::Result<()> {
    let growing = Scene {
        copies: 4,
        records: 4,
        ..server("initial_destination_concurrency = 1", &[("MAIL", "meet later")])
    };
    // Of three deliveries two fail. The first failure always takes a place away; the next does when each counts whole.
    let script = Script { busy: 2, replies: &[("MAIL", "meet later")], ..Script::default() };
    let shrinking = Scene {
        main: "initial_destination_concurrency = 3\n\
            default_destination_concurrency_positive_feedback = 0.01\n\
            default_destination_concurrency_failed_cohort_limit = 10",
        servers: vec![script],
        copies: 5,
        records: 5,
        ..Scene::default()
    };
    let script = Script { greeting: "421 4.7.0 no", ..Script::default() };
    let dead = Scene {
        main: "initial_destination_concurrency = 1",
        servers: vec![script],
        copies: 3,
        records: 3,
        ..Scene::default()
    };
    play(vec![
        ("default_destination_concurrency_positive_feedback = 0.01", growing, "(together)", "(alone)"),
        ("default_destination_concurrency_negative_feedback = 0.01", shrinking, "(alone)", "(together)"),
        (
            "default_destination_concurrency_failed_cohort_limit = 10",
            dead,
            "delivery temporarily suspended",
            // A session behind another.
            "(end)\n== session",
        ),
    ])
}

#[test]
fn connections_are_kept_where_the_operator_wants_it() -> anyhow::Result<()> {
    let main = "smtp_connection_cache_on_demand = no\nsmtp_destination_concurrency_limit = 1";
    let two = |main| Scene { copies: 2, records: 2, ..server(main, &[]) };
    play(vec![
        ("smtp_connection_cache_destinations = 127.0.0.1", two(main), "", "RSET"),
        ("lmtp_cache_connection = no", two(""), "", "it was replaced by `lmtp_connection_cache_on_demand`"),
        (
            "connection_cache_protocol_timeout = 1s",
            two(""),
            "",
            "connections are kept in the process that uses them",
        ),
    ])
}

#[test]
fn what_is_about_worker_processes_is_left_out_with_its_reason() -> anyhow::Result<()> {
    let reason = "there are no worker processes here";
    play(vec![
        ("daemon_timeout = 1h", Scene::default(), "", reason),
        ("ipc_timeout = 1h", Scene::default(), "", reason),
        ("max_idle = 10s", Scene::default(), "", reason),
        ("max_use = 10", Scene::default(), "", reason),
        ("process_id = 1", Scene::default(), "status=sent", "`process_id` cannot be set"),
        ("process_name = x", Scene::default(), "status=sent", "`process_name` cannot be set"),
        ("config_directory = /etc/x", Scene::default(), "", "the file is named on the command line"),
        ("syslog_facility = local0", Scene::default(), "", "records have the facility `mail`"),
        ("syslog_name = x", Scene::default(), "", "records begin with `gateway`"),
    ])
}
