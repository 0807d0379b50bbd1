//! Commands of a transaction as they go over the wire: MAIL, RCPT and XFORWARD with their parameters.

use std::borrow::Cow;
use std::net::IpAddr;

use super::path::{quoted, unicode, unitext};
use super::{Delivery, Encoding, Features, Origin, Rules};
use crate::smtp::envelope::{Recipient, Ret};
use crate::smtp::xtext::xtext;

/// Octets of an XFORWARD line without its CRLF.
const XFORWARD_LINE: usize = 510;

/// What decides how addresses and parameters are written.
#[derive(Clone, Copy, Debug)]
pub(super) struct Style {
    /// SMTPUTF8 is asked for.
    pub(super) smtputf8: bool,
    /// The text becomes 7-bit on the way, so that its size is not known.
    pub(super) downgrade: bool,
    /// `AUTH=<>` is sent.
    pub(super) dummy_auth: bool,
}

pub(super) fn mail(delivery: &Delivery, features: &Features, rules: &Rules, style: Style) -> String {
    let mut line = format!("MAIL FROM:<{}>", path(&delivery.sender, rules, style));
    if features.size && !style.downgrade {
        line.push_str(&format!(" SIZE={}", delivery.size));
    }
    if features.eight_bit_mime {
        match delivery.encoding {
            Encoding::EightBit => line.push_str(" BODY=8BITMIME"),
            Encoding::SevenBit => line.push_str(" BODY=7BIT"),
            Encoding::Unknown => {}
        }
    }
    if features.dsn {
        if let Some(envelope_id) = &delivery.envelope_id {
            line.push_str(&format!(" ENVID={}", xtext(envelope_id)));
        }
        match delivery.ret {
            Some(Ret::Full) => line.push_str(" RET=FULL"),
            Some(Ret::Hdrs) => line.push_str(" RET=HDRS"),
            None => {}
        }
    }
    if style.smtputf8 {
        line.push_str(" SMTPUTF8");
    }
    if style.dummy_auth {
        line.push_str(" AUTH=<>");
    }
    line
}

pub(super) fn rcpt(recipient: &Recipient, features: &Features, rules: &Rules, style: Style) -> String {
    let mut line = format!("RCPT TO:<{}>", path(&recipient.address, rules, style));
    if features.dsn {
        line.push_str(&orcpt(recipient, style));
        if let Some(notify) = recipient.notify {
            let wanted = [(notify.success, "SUCCESS"), (notify.failure, "FAILURE"), (notify.delay, "DELAY")];
            let words: Vec<&str> =
                wanted.into_iter().filter(|(wants, _)| *wants).map(|(_, word)| word).collect();
            let words = if words.is_empty() { "NEVER".to_owned() } else { words.join(",") };
            line.push_str(&format!(" NOTIFY={words}"));
        }
    }
    line
}

/// The original recipient (RFC 3461 section 4.2).
fn orcpt(recipient: &Recipient, style: Style) -> String {
    let given = recipient.original.as_deref().and_then(|original| original.split_once(';'));
    let Some((kind, address)) = given else { return String::new() };
    // RFC 6533 section 3: UTF-8 as it is goes to servers only that take SMTPUTF8.
    if kind.eq_ignore_ascii_case("utf-8") {
        let address = if style.smtputf8 { unitext(address) } else { xtext_of_utf8(address) };
        return format!(" ORCPT=utf-8;{address}");
    }
    format!(" ORCPT={};{}", xtext(kind), xtext(address))
}

/// `utf-8-addr-xtext` (RFC 6533 section 3): whatever is not plain ASCII as `\x{H}`.
fn xtext_of_utf8(address: &str) -> String {
    let mut out = String::with_capacity(address.len());
    for character in unitext(address).chars() {
        if character.is_ascii() {
            out.push(character);
        } else {
            unicode(&mut out, character);
        }
    }
    out
}

fn path<'a>(address: &'a str, rules: &Rules, style: Style) -> Cow<'a, str> {
    if rules.quote_envelope { quoted(address, style.smtputf8) } else { Cow::Borrowed(address) }
}

/// The XFORWARD lines for what is known and announced, as many as it takes; most often two.
pub(super) fn xforward(origin: &Origin, features: &Features) -> Vec<String> {
    let address = origin.address.map(|address| match address {
        IpAddr::V4(address) => address.to_string(),
        IpAddr::V6(address) => format!("IPV6:{address}"),
    });
    let source = origin.local.map(|local| if local { "LOCAL" } else { "REMOTE" }.to_owned());
    let client = [
        ("NAME", origin.name.clone()),
        ("ADDR", address),
        ("PORT", origin.port.map(|port| port.to_string())),
    ];
    let session = [
        ("PROTO", origin.protocol.clone()),
        ("HELO", origin.hello.clone()),
        ("IDENT", origin.ident.clone()),
        ("SOURCE", source),
    ];
    let mut lines = Vec::new();
    for group in [client.as_slice(), session.as_slice()] {
        let mut line = String::new();
        for (name, value) in group {
            let announced = features.xforward.iter().any(|attribute| attribute == name);
            let Some(value) = value.as_deref().filter(|value| announced && !value.is_empty()) else {
                continue;
            };
            let attribute = format!(" {name}={}", xtext(value));
            if attribute.len().saturating_add(VERB.len()) > XFORWARD_LINE {
                continue;
            }
            if line.len().saturating_add(attribute.len()) > XFORWARD_LINE {
                lines.push(std::mem::take(&mut line));
            }
            if line.is_empty() {
                line.push_str(VERB);
            }
            line.push_str(&attribute);
        }
        if !line.is_empty() {
            lines.push(line);
        }
    }
    lines
}

const VERB: &str = "XFORWARD";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::smtp::client::tests::{delivery, rules};
    use crate::smtp::envelope::Notify;

    const PLAIN: Style = Style { smtputf8: false, downgrade: false, dummy_auth: false };

    fn everything() -> Features {
        Features { eight_bit_mime: true, smtputf8: true, dsn: true, size: true, ..Features::default() }
    }

    #[test]
    fn mail_has_a_parameter_for_what_is_announced_and_known() {
        let plain = Features::default();
        let mut message = delivery(&["a@b.test"]);
        message.encoding = Encoding::EightBit;
        message.envelope_id = Some("a b+c".to_owned());
        message.ret = Some(Ret::Hdrs);
        assert_eq!(mail(&message, &plain, &rules(), PLAIN), "MAIL FROM:<sender@a.test>");
        assert_eq!(
            mail(&message, &everything(), &rules(), PLAIN),
            "MAIL FROM:<sender@a.test> SIZE=1000 BODY=8BITMIME ENVID=a+20b+2Bc RET=HDRS"
        );
        message.encoding = Encoding::SevenBit;
        message.ret = Some(Ret::Full);
        message.envelope_id = None;
        message.sender.clear();
        let all = Style { smtputf8: true, downgrade: true, dummy_auth: true };
        assert_eq!(
            mail(&message, &everything(), &rules(), all),
            "MAIL FROM:<> BODY=7BIT RET=FULL SMTPUTF8 AUTH=<>"
        );
        message.encoding = Encoding::Unknown;
        let eight = Features { eight_bit_mime: true, ..Features::default() };
        assert_eq!(mail(&message, &eight, &rules(), PLAIN), "MAIL FROM:<>");
    }

    #[test]
    fn rcpt_carries_what_reports_need_to_servers_that_make_them() {
        let mut recipient = delivery(&["a@b.test"]).recipients.remove(0);
        recipient.original = Some("rfc822;old+x@b.test".to_owned());
        let line = |recipient: &Recipient, style| rcpt(recipient, &everything(), &rules(), style);
        assert_eq!(rcpt(&recipient, &Features::default(), &rules(), PLAIN), "RCPT TO:<a@b.test>");
        assert_eq!(line(&recipient, PLAIN), "RCPT TO:<a@b.test> ORCPT=rfc822;old+2Bx@b.test");
        recipient.original = Some("rfc822;first=@b.test".to_owned());
        recipient.notify = Some(Notify::default());
        assert_eq!(line(&recipient, PLAIN), "RCPT TO:<a@b.test> ORCPT=rfc822;first+3D@b.test NOTIFY=NEVER");
        recipient.notify = Some(Notify { success: true, failure: true, delay: true });
        recipient.original = Some("utf-8;j\u{f6}@b.test".to_owned());
        assert_eq!(
            line(&recipient, PLAIN),
            "RCPT TO:<a@b.test> ORCPT=utf-8;j\\x{F6}@b.test NOTIFY=SUCCESS,FAILURE,DELAY"
        );
        assert!(line(&recipient, Style { smtputf8: true, ..PLAIN }).contains("ORCPT=utf-8;j\u{f6}@b.test"));
    }

    #[test]
    fn addresses_are_quoted_unless_the_operator_says_no() {
        let recipient = delivery(&["john..doe@b.test"]).recipients.remove(0);
        let none = Features::default();
        assert_eq!(rcpt(&recipient, &none, &rules(), PLAIN), "RCPT TO:<\"john..doe\"@b.test>");
        let raw = Rules { quote_envelope: false, ..rules() };
        assert_eq!(rcpt(&recipient, &none, &raw, PLAIN), "RCPT TO:<john..doe@b.test>");
    }

    #[test]
    fn xforward_says_what_is_known_to_those_who_ask() {
        let origin = Origin {
            name: Some("client.test".to_owned()),
            address: Some("2001:db8::1".parse().unwrap()),
            port: Some(40_000),
            protocol: Some("ESMTP".to_owned()),
            hello: Some("me + you".to_owned()),
            ident: None,
            local: Some(false),
        };
        let announced = |words: &[&str]| Features {
            xforward: words.iter().map(|word| (*word).to_owned()).collect(),
            ..Features::default()
        };
        assert_eq!(
            xforward(&origin, &announced(&["NAME", "ADDR", "PORT", "PROTO", "HELO", "IDENT", "SOURCE"])),
            [
                "XFORWARD NAME=client.test ADDR=IPV6:2001:db8::1 PORT=40000",
                "XFORWARD PROTO=ESMTP HELO=me+20+2B+20you SOURCE=REMOTE"
            ]
        );
        assert_eq!(xforward(&origin, &announced(&["HELO"])), ["XFORWARD HELO=me+20+2B+20you"]);
        assert!(xforward(&origin, &announced(&[])).is_empty());
        let endless = Origin { hello: Some("x".repeat(600)), ..origin };
        assert_eq!(xforward(&endless, &announced(&["PROTO", "HELO"])), ["XFORWARD PROTO=ESMTP"]);
    }
}
