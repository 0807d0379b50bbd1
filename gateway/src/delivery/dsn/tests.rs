use super::*;

const CONTENT: &[u8] =
    b"From: a@sender.test\r\nMessage-ID:\r\n <1@sender.test>\r\nSubject: gr\xfc\xdfe\r\n\r\nbody \xe4\r\n";

fn recipient(address: &str, notify: Option<NotifyOn>) -> Recipient {
    Recipient { address: address.to_owned(), original: Some(format!("rfc822;orig-{address}")), notify }
}

fn envelope(recipients: Vec<Recipient>) -> Envelope {
    Envelope {
        arrived: 1_700_000_000_000,
        sender: "a@sender.test".to_owned(),
        recipients,
        body: Body::EightBitMime,
        envid: Some("id+1".to_owned()),
        ..Envelope::default()
    }
}

fn told(recipient: &Recipient) -> Told<'_> {
    Told {
        recipient,
        action: Action::Failed,
        status: Status::permanent(1, 1),
        remote: Some("mx.rcpt.test"),
        diagnostic: Some("550 5.1.1 no such user"),
        reason: "host mx.rcpt.test[192.0.2.1] said: 550 5.1.1 no such user (in reply to RCPT TO command)",
    }
}

const HOST: Host<'_> =
    Host { name: "gw.example.net", size_limit: 50_000, lifetime: Duration::from_secs(5 * 86_400) };

fn now() -> SystemTime {
    SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(1_700_000_600)).unwrap()
}

fn report(kind: Kind, envelope: &Envelope, content: &[u8], host: Host<'_>) -> Option<Report> {
    let original = Original { id: "0000000000042", envelope, content, whole: true };
    let told: Vec<_> = envelope.recipients.iter().map(told).collect();
    compose(host, Reader::Sender, kind, original, &told, now())
}

fn text(report: &Report) -> String {
    String::from_utf8_lossy(&report.content).replace("\r\n", "\n")
}

// Specification section 18, structure; RFC 3464 section 2, RFC 6522.
#[test]
fn a_failure_report_has_three_parts() {
    let envelope = envelope(vec![recipient("b@rcpt.test", None)]);
    let report = report(Kind::Failure, &envelope, CONTENT, HOST).unwrap();
    assert_eq!(
        (report.recipient.as_str(), report.body, report.smtputf8),
        ("a@sender.test", Body::EightBitMime, false)
    );
    let shown = text(&report).replace('\u{fffd}', "?");
    insta::assert_snapshot!(shown, @r#"
    Date: Tue, 14 Nov 2023 22:23:20 +0000
    From: Mail delivery <MAILER-DAEMON@gw.example.net>
    Subject: Your mail could not be delivered
    To: a@sender.test
    Auto-Submitted: auto-replied
    Message-ID: <0000000000042.1700000600.gw.example.net.dsn@gw.example.net>
    In-Reply-To: <1@sender.test>
    References: <1@sender.test>
    MIME-Version: 1.0
    Content-Type: multipart/report; report-type=delivery-status;
     boundary="0000000000042.1700000600/gw.example.net"
    Content-Transfer-Encoding: 8bit

    This report has parts in MIME.

    --0000000000042.1700000600/gw.example.net
    Content-Description: Notification
    Content-Type: text/plain; charset=us-ascii

    This is a report of the mail gateway gw.example.net.

    Your message could not be delivered to the recipients below. It is returned
    in the last part of this mail, or its header alone if it is long.

    Who needs help may send this report to the postmaster.

    <b@rcpt.test>: host mx.rcpt.test[192.0.2.1] said: 550 5.1.1 no such user (in
     reply to RCPT TO command)

    --0000000000042.1700000600/gw.example.net
    Content-Description: Delivery report
    Content-Type: message/delivery-status

    Reporting-MTA: dns; gw.example.net
    Original-Envelope-Id: id+1
    X-Gateway-Queue-ID: 0000000000042
    X-Gateway-Sender: rfc822; a@sender.test
    Arrival-Date: Tue, 14 Nov 2023 22:13:20 +0000

    Final-Recipient: rfc822; b@rcpt.test
    Original-Recipient: rfc822; orig-b@rcpt.test
    Action: failed
    Status: 5.1.1
    Remote-MTA: dns; mx.rcpt.test
    Diagnostic-Code: smtp; 550 5.1.1 no such user

    --0000000000042.1700000600/gw.example.net
    Content-Description: Undelivered message
    Content-Type: message/rfc822
    Content-Transfer-Encoding: 8bit

    Return-Path: <a@sender.test>
    From: a@sender.test
    Message-ID:
     <1@sender.test>
    Subject: gr??e

    body ?

    --0000000000042.1700000600/gw.example.net--
    "#);
    let returned = memchr::memmem::find(&report.content, CONTENT);
    assert!(returned.is_some(), "octet for octet");
}

// Specification section 18: NOTIFY.
#[test]
fn only_those_are_named_whose_sender_wants_it() {
    let on = |success, failure, delay| Some(NotifyOn { success, failure, delay });
    let until = now();
    for (notify, failure, delay, success) in [
        (None, true, true, false),
        (Some(NotifyOn::NEVER), false, false, false),
        (on(true, false, false), false, false, true),
        (on(false, true, false), true, false, false),
        (on(false, false, true), false, true, false),
    ] {
        let found = [Kind::Failure, Kind::Delay { until }, Kind::Success].map(|kind| is_wanted(notify, kind));
        assert_eq!(found, [failure, delay, success], "{notify:?}");
    }
    let both =
        envelope(vec![recipient("b@rcpt.test", Some(NotifyOn::NEVER)), recipient("c@rcpt.test", None)]);
    let text = text(&report(Kind::Failure, &both, CONTENT, HOST).unwrap());
    assert!(text.contains("<c@rcpt.test>: host") && !text.contains("b@rcpt.test"));
    let nobody = envelope(vec![recipient("b@rcpt.test", Some(NotifyOn::NEVER))]);
    assert_eq!(report(Kind::Failure, &nobody, CONTENT, HOST), None);
}

// Specification section 18: no report on a report.
#[test]
fn an_empty_sender_is_told_nothing() {
    let envelope = Envelope { sender: String::new(), ..envelope(vec![recipient("b@rcpt.test", None)]) };
    assert_eq!(report(Kind::Failure, &envelope, CONTENT, HOST), None);
}

// Specification section 18: RET and bounce_size_limit; RFC 3461 section 4.3.
#[test]
fn a_message_is_returned_whole_or_only_its_header() {
    let until = now();
    for (kind, ret, limit, whole) in [
        (Kind::Failure, None, 50_000, true),
        (Kind::Failure, Some(Ret::Full), 50_000, true),
        (Kind::Failure, Some(Ret::Hdrs), 50_000, false),
        (Kind::Failure, Some(Ret::Full), CONTENT.len() - 1, false),
        (Kind::Delay { until }, Some(Ret::Full), 50_000, false),
        (Kind::Success, Some(Ret::Full), 50_000, false),
    ] {
        let all = Some(NotifyOn { success: true, failure: true, delay: true });
        let envelope = Envelope { ret, ..envelope(vec![recipient("b@rcpt.test", all)]) };
        let host = Host { size_limit: limit, ..HOST };
        let text = text(&report(kind, &envelope, CONTENT, host).unwrap());
        let types = ["message/rfc822", "text/rfc822-headers"].map(|name| text.contains(name));
        assert_eq!((types, text.contains("body")), ([whole, !whole], whole), "{kind:?} {ret:?} {limit}");
    }
    let long = envelope(vec![recipient("b@rcpt.test", None)]);
    let original = Original { id: "1", envelope: &long, content: CONTENT, whole: false };
    let report =
        compose(HOST, Reader::Sender, Kind::Failure, original, &[told(&long.recipients[0])], now()).unwrap();
    assert!(!text(&report).contains("message/rfc822"), "not all of it is here");
}

// Specification section 18: the postmaster gets the headers of bounces, and double bounces.
#[test]
fn the_postmaster_reads_everything_but_the_body() {
    let envelope = Envelope {
        sender: String::new(),
        ret: Some(Ret::Full),
        ..envelope(vec![recipient("b@rcpt.test", Some(NotifyOn::NEVER))])
    };
    let original = Original { id: "1", envelope: &envelope, content: CONTENT, whole: true };
    let told = [told(&envelope.recipients[0])];
    let reader = Reader::Postmaster("postmaster@gw.example.net");
    let report = compose(HOST, reader, Kind::Failure, original, &told, now()).unwrap();
    let text = text(&report);
    assert_eq!(report.recipient, "postmaster@gw.example.net");
    for part in [
        "\nTo: postmaster@gw.example.net\n",
        "\nSubject: Postmaster copy: ",
        "auto-generated",
        "<b@rcpt.test>: host",
    ] {
        assert!(text.contains(part), "{part}");
    }
    assert!(text.contains("text/rfc822-headers") && !text.contains("body"));
}

// RFC 6533.
#[test]
fn addresses_in_utf8_have_types_of_their_own() {
    let envelope = Envelope { smtputf8: true, ..envelope(vec![recipient("j\u{f6}@rcpt.test", None)]) };
    let report = report(Kind::Failure, &envelope, "Subject: \u{f6}\r\n\r\n".as_bytes(), HOST).unwrap();
    let text = text(&report);
    for part in
        ["message/global-delivery-status", "message/global\n", "Final-Recipient: utf-8; j\u{f6}@rcpt.test"]
    {
        assert!(text.contains(part), "{part}");
    }
    assert!(report.smtputf8);
}

/// Whatever servers say, and whatever stands in envelopes.
#[test]
fn nobody_writes_a_field_or_a_part_into_a_report() {
    let odd = Recipient::new("b@rcpt.test\r\nX-Evil: 1");
    let envelope = Envelope { envid: Some("x\r\n\r\n--0000000000042".to_owned()), ..envelope(vec![odd]) };
    let mut told = told(&envelope.recipients[0]);
    let long = format!("550 {}\r\nX-Evil: 1\u{1b}", "word ".repeat(500));
    let endless = "x".repeat(5_000);
    told.diagnostic = Some(&long);
    told.reason = &endless;
    let content = b"Subject: x\r\n\r\n--0000000000042.1700000600/gw.example.net\r\n";
    let original = Original { id: "0000000000042", envelope: &envelope, content, whole: true };
    let report = compose(HOST, Reader::Sender, Kind::Failure, original, &[told], now()).unwrap();
    let text = text(&report);
    assert!(!text.lines().any(|line| line.starts_with("X-Evil")), "{text}");
    assert!(text.lines().all(|line| line.len() <= 998));
    let boundary = "--0000000000042.1700000600/gw.example.net=";
    let dividers = text.lines().filter(|line| *line == boundary || *line == format!("{boundary}--"));
    assert_eq!(dividers.count(), 4);
}
