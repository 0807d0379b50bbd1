//! What is done to messages on their way.

use super::scene::{Scene, play};
use super::server::Script;

/// A message of several parts with octets above 127, for a server that wants none.
fn parts(text: &str) -> Scene {
    let script = Script { keywords: &[], ..Script::default() };
    Scene { servers: vec![script], text: text.to_owned(), eight_bit: true, ..Scene::default() }
}

fn checked(text: &str, rule: &str) -> Scene {
    Scene { text: text.to_owned(), files: vec![("checks", format!("{rule}\n"))], ..Scene::default() }
}

#[test]
fn messages_are_made_fit_for_their_servers() -> anyhow::Result<()> {
    let accent = parts(
        "From: <s@a.test>\nSubject: x\nMIME-Version: 1.0\nContent-Type: text/plain; charset=utf-8\n\n\u{e9}\n",
    );
    let long = Scene { text: "Subject: x\n\nabcdefghijklmnopqrstuvwxyz\n".to_owned(), ..Scene::default() };
    // Only its first three characters are those of a boundary.
    let alike = parts(
        "MIME-Version: 1.0\nContent-Type: multipart/mixed; boundary=abcdef\n\n--abcdef\n\nfirst \u{e9}\n--abcxyz\n\nsecond \u{e9}\n--abcdef--\n",
    );
    let nested = parts(
        "MIME-Version: 1.0\nContent-Type: multipart/mixed; boundary=a\n\n--a\nContent-Type: multipart/mixed; boundary=b\n\n\
         --b\nContent-Type: multipart/mixed; boundary=c\n\n--c\n\n\u{e9}\n--c--\n--b--\n--a--\n",
    );
    play(vec![
        ("disable_mime_output_conversion = yes", accent, "=C3=A9", "\u{e9}"),
        (
            "smtp_line_length_limit = 10",
            long,
            "\nabcdefghijklmnopqrstuvwxyz\n",
            "\nabcdefghij\n klmnopqrs\n tuvwxyz\n",
        ),
        (
            "mime_boundary_length_limit = 3",
            alike,
            "--abcxyz\n\nsecond",
            "--abcxyz\nContent-Transfer-Encoding: quoted-printable\n\nsecond",
        ),
        ("mime_nesting_limit = 2", nested, "status=sent", "status=bounced"),
        (
            "smtp_generic_maps = inline:{s@a.test=out@x.test}",
            Scene::default(),
            "MAIL FROM:<s@a.test>",
            "MAIL FROM:<out@x.test>",
        ),
        (
            "smtp_generic_maps = inline:{s@a.test=out@x.test}",
            Scene::default(),
            "From: <s@a.test>",
            "From: <out@x.test>",
        ),
    ])
}

#[test]
fn each_table_of_checks_sees_its_own_part_of_a_message() -> anyhow::Result<()> {
    let text = "Subject: word\nContent-Type: multipart/mixed; boundary=b\n\n--b\nContent-Type: message/rfc822\n\n\
                Subject: word\n\nword\n--b\nContent-Description: word\n\nword\n--b--\n";
    play(vec![
        (
            "smtp_header_checks = pcre:DIR/checks",
            checked(text, "/^Subject: word/ REPLACE Subject: other"),
            "\nSubject: word\nContent-Type: multipart",
            "\nSubject: other\nContent-Type: multipart",
        ),
        (
            "smtp_mime_header_checks = pcre:DIR/checks",
            checked(text, "/^Content-Description: word/ IGNORE"),
            "Content-Description: word",
            "--b\n\nword\n--b--",
        ),
        (
            "smtp_nested_header_checks = regexp:DIR/checks",
            checked(text, "/^Subject: word/ REPLACE Subject: other"),
            "rfc822\n\nSubject: word",
            "rfc822\n\nSubject: other",
        ),
        (
            "smtp_body_checks = regexp:DIR/checks",
            checked(text, "/^word$/ REPLACE other"),
            "Content-Description: word\n\nword",
            "Content-Description: word\n\nother",
        ),
        // Those are for mail that is taken; Postfix's client has none of them either.
        ("header_checks = pcre:DIR/checks", checked(text, "/./ IGNORE"), "", "`header_checks` is left out"),
        ("body_checks = pcre:DIR/checks", checked(text, "/./ IGNORE"), "", "`body_checks` is left out"),
        (
            "mime_header_checks = pcre:DIR/checks",
            checked(text, "/./ IGNORE"),
            "",
            "`mime_header_checks` is left out",
        ),
        (
            "nested_header_checks = pcre:DIR/checks",
            checked(text, "/./ IGNORE"),
            "",
            "`nested_header_checks` is left out",
        ),
    ])
}

#[test]
fn buffers_are_as_large_as_the_operator_says() -> anyhow::Result<()> {
    let server = Script { replies: &[("MAIL", "sockets")], ..Script::default() };
    // The kernel counts twice what is asked for (socket(7)).
    play(vec![(
        "tcp_windowsize = 5000",
        Scene { servers: vec![server], ..Scene::default() },
        "",
        ",rb10000,",
    )])
}
