//! For servers that need something else than others.

use std::time::Duration;

use super::scene::{Row, Scene, limited, play};
use super::server::Script;

fn server(script: Script) -> Scene {
    Scene { servers: vec![script], ..Scene::default() }
}

fn greeting(greeting: &'static str) -> Scene {
    server(Script { greeting, ..Script::default() })
}

fn lmtp(keywords: &'static [&'static str]) -> Scene {
    Scene {
        relay: "lmtp:[127.0.0.1]:PORT",
        ..server(Script { greeting: "220 mx.test LMTP", keywords, ..Script::default() })
    }
}

#[test]
fn servers_are_greeted_as_they_can_bear_it() -> anyhow::Result<()> {
    let mangled = || greeting("220 ****************");
    play(vec![
        ("smtp_always_send_ehlo = no", greeting("220 mx.test hello"), "EHLO gw.test", "HELO gw.test"),
        ("smtp_never_send_ehlo = yes", Scene::default(), "EHLO gw.test", "HELO gw.test"),
        ("smtp_skip_5xx_greeting = no", greeting("554 5.3.2 no"), "status=deferred", "status=bounced"),
        ("smtp_skip_4xx_greeting = no", greeting("421 4.3.2 no"), "", "is obsolete and left out"),
        ("smtp_pix_workarounds =", mangled(), "HELO gw.test", "EHLO gw.test"),
        ("smtp_pix_workaround_maps = inline:{127.0.0.1=}", mangled(), "HELO gw.test", "EHLO gw.test"),
        ("smtp_helo_name = me.test", Scene::default(), "EHLO gw.test", "EHLO me.test"),
        ("myhostname = host.test", Scene::default(), "EHLO gw.test", "EHLO host.test"),
        ("lmtp_lhlo_name = me.test", lmtp(&[]), "LHLO gw.test", "LHLO me.test"),
    ])
}

#[test]
fn the_dot_waits_for_a_pix_firewall_with_old_mail() -> anyhow::Result<()> {
    let mangled = |main| Scene { main, ..greeting("220 ****************") };
    play(vec![(
        "smtp_pix_workaround_delay_time = 1s",
        mangled("smtp_pix_workaround_threshold_time = 0"),
        "(long pause)\n.\n",
        "(pause)\n.\n",
    )])?;
    // Without it the dot waits for nothing but a slow machine.
    limited(vec![(
        "smtp_pix_workaround_threshold_time = 1h",
        Scene { age: Duration::from_secs(3_700), ..mangled("smtp_pix_workaround_delay_time = 1s") },
        "",
        "(pause)\n.\n",
    )])?;
    play(vec![(
        "smtp_pix_workaround_threshold_time = 1h",
        Scene { age: Duration::from_secs(600), ..mangled("") },
        "(long pause)\n.\n",
        "\ntext\n.\n",
    )])
}

#[test]
fn extensions_are_overlooked() -> anyhow::Result<()> {
    let (with_size, bare) = ("MAIL FROM:<s@a.test> SIZE=", "MAIL FROM:<s@a.test>\n");
    let lmtp = || lmtp(&["SIZE", "8BITMIME"]);
    play(vec![
        ("smtp_discard_ehlo_keywords = dsn, Size", Scene::default(), with_size, bare),
        (
            "smtp_discard_ehlo_keyword_address_maps = inline:{127.0.0.1=size}",
            Scene::default(),
            with_size,
            bare,
        ),
        ("lmtp_discard_lhlo_keywords = size", lmtp(), with_size, bare),
        ("lmtp_discard_lhlo_keyword_address_maps = inline:{127.0.0.1=size}", lmtp(), with_size, bare),
    ])
}

#[test]
fn what_servers_say_is_read_and_told_as_the_operator_wants() -> anyhow::Result<()> {
    let says = |replies| server(Script { replies, ..Script::default() });
    let grey = || says(&[("RCPT", "550 5.7.1 greylisted, come again")]);
    let never = || says(&[("RCPT", "451 4.7.1 never for you")]);
    let (kept, returned) = ("status=deferred", "status=bounced");
    let soften = "{ {/^5(\\.7\\.1 .*greylisted.*)/ 4$$1} }";
    let joined = |a: &str, b: &str| -> &'static str { String::leak(format!("{a}{b}")) };
    let lmtp_grey =
        Scene { relay: "lmtp:[127.0.0.1]:PORT", ..says(&[("RCPT", "550 5.7.1 greylisted, come again")]) };
    play(vec![
        ("smtp_reply_filter = pcre:{ {/^550 5(.*greylisted.*)/ 450 4$$1} }", grey(), returned, kept),
        // Not even a reply without it.
        ("smtp_reply_filter = pcre:{ {/^220(mx.*)/ 220 $$1} }", greeting("220mx.test"), kept, "status=sent"),
        (joined("smtp_delivery_status_filter = pcre:", soften), grey(), returned, kept),
        (joined("default_delivery_status_filter = pcre:", soften), grey(), returned, kept),
        (joined("lmtp_delivery_status_filter = pcre:", soften), lmtp_grey, returned, kept),
        (
            "smtp_delivery_status_filter = pcre:{ {/^4(\\.7\\.1 .*never for you.*)/ 5$$1} }",
            never(),
            kept,
            returned,
        ),
    ])?;
    // No failure is made of a success.
    limited(vec![(
        "smtp_delivery_status_filter = pcre:{ {/^2(.*)/ 5$$1} }",
        Scene::default(),
        "",
        "status=sent",
    )])
}

#[test]
fn quit_and_quotes_are_left_out() -> anyhow::Result<()> {
    let lingers = server(Script { replies: &[("QUIT", "linger")], ..Script::default() });
    let dots = Scene { recipients: &["a..b@b.test"], ..Scene::default() };
    play(vec![
        ("smtp_skip_quit_response = no", lingers, "QUIT\n(end)", "QUIT\n(waits)"),
        ("smtp_quote_rfc821_envelope = no", dots, "RCPT TO:<\"a..b\"@b.test>", "RCPT TO:<a..b@b.test>"),
    ])
}

#[test]
fn a_content_filter_hears_of_the_client() -> anyhow::Result<()> {
    let filter = server(Script { keywords: &["XFORWARD NAME ADDR"], ..Script::default() });
    let name = "XFORWARD NAME=client.test ADDR=192.0.2.7";
    let rows: Vec<Row> = vec![("smtp_send_xforward_command = yes", filter, "", name)];
    play(rows)
}
