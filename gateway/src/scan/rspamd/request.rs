//! What rspamd is told beside the message: header fields of the request. Pure.
//!
//! The values are strangers' texts: here they become visible ASCII, so that none can begin a field
//! of its own.

use std::fmt::Write as _;

use bytes::Bytes;
use http_body_util::Empty;
use hyper::header::{CONTENT_LENGTH, HOST};
use hyper::http::request::Builder;
use hyper::{Method, Request};

use crate::config::file::Secret;
use crate::scan::Envelope;

/// Recipients that rspamd is told of at most.
const RECIPIENTS: usize = 256;

/// Octets of all recipients together; rspamd takes 80 KiB of header fields.
const RECIPIENT_OCTETS: usize = 32 * 1024;

/// Octets of one value: a path has at most 256 (RFC 5321 section 4.5.3.1.3).
const VALUE_LENGTH: usize = 512;

/// The request for a scan of `body`, which has `length` octets.
pub(super) fn check<B>(
    envelope: &Envelope,
    password: Option<&Secret>,
    length: u64,
    body: B,
) -> Option<Request<B>> {
    let mut request = begin(Method::POST, "/checkv2")
        .header(CONTENT_LENGTH, length)
        .header("IP", envelope.client.to_string())
        // Nobody has asked the DNS for it.
        .header("Hostname", "unknown")
        .header("Helo", value(&envelope.helo))
        .header("From", path(&envelope.sender))
        .header("Queue-Id", value(&envelope.id))
        .header("MTA-Name", value(&envelope.gateway));
    let mut octets = 0usize;
    for recipient in envelope.recipients.iter().take(RECIPIENTS) {
        let recipient = path(recipient);
        octets = octets.saturating_add(recipient.len());
        if octets > RECIPIENT_OCTETS {
            break;
        }
        request = request.header("Rcpt", recipient);
    }
    if envelope.authenticated {
        // rspamd asks whether there is a user; who it is stays between client and server.
        request = request.header("User", "authenticated");
    }
    if let Some(password) = password {
        request = request.header("Password", password.reveal());
    }
    request.body(body).ok()
}

/// The request by which rspamd is asked whether it is well.
pub(super) fn ping() -> Option<Request<Empty<Bytes>>> {
    begin(Method::GET, "/ping").body(Empty::new()).ok()
}

fn begin(method: Method, path: &str) -> Builder {
    Request::builder().method(method).uri(path).header(HOST, "rspamd")
}

fn path(path: &str) -> String {
    format!("<{}>", value(path).replace('<', "%3C").replace('>', "%3E"))
}

/// `text` in visible ASCII: everything else as `%` and two hexadecimal digits.
fn value(text: &str) -> String {
    let mut value = String::with_capacity(text.len());
    for octet in text.bytes().take(VALUE_LENGTH) {
        if octet.is_ascii_graphic() {
            value.push(char::from(octet));
        } else {
            // Writing to a `String` cannot fail.
            write!(value, "%{octet:02X}").unwrap_or_default();
        }
    }
    value
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn envelope(helo: &str, sender: &str, recipients: Vec<String>) -> Envelope {
        Envelope {
            id: "01ABC-1".to_owned(),
            client: "192.0.2.7".parse().unwrap(),
            helo: helo.to_owned(),
            sender: sender.to_owned(),
            recipients,
            authenticated: false,
            gateway: "gw.example".to_owned(),
        }
    }

    fn fields(envelope: &Envelope, name: &str) -> Vec<String> {
        let request = check(envelope, None, 5, ()).unwrap();
        request.headers().get_all(name).iter().map(|value| value.to_str().unwrap().to_owned()).collect()
    }

    #[test]
    fn rspamd_is_told_the_envelope() {
        let rcpts = vec!["r@example.net".to_owned(), "s@example.net".to_owned()];
        let mut envelope = envelope("mx.example.org", "", rcpts);
        assert_eq!(fields(&envelope, "ip"), ["192.0.2.7"]);
        assert_eq!(fields(&envelope, "helo"), ["mx.example.org"]);
        assert_eq!(fields(&envelope, "from"), ["<>"]);
        assert_eq!(fields(&envelope, "rcpt"), ["<r@example.net>", "<s@example.net>"]);
        assert_eq!(fields(&envelope, "content-length"), ["5"]);
        assert!(fields(&envelope, "user").is_empty());
        envelope.authenticated = true;
        assert_eq!(fields(&envelope, "user"), ["authenticated"]);
    }

    #[test]
    fn a_stranger_cannot_begin_a_field_of_his_own() {
        let envelope = envelope("x\r\nPass: all", "a\nUser: root\r\n\r\n@b\u{fc}", vec![]);
        assert_eq!(fields(&envelope, "helo"), ["x%0D%0APass:%20all"]);
        assert_eq!(fields(&envelope, "from"), ["<a%0AUser:%20root%0D%0A%0D%0A@b%C3%BC>"]);
        assert!(fields(&envelope, "pass").is_empty() && fields(&envelope, "user").is_empty());
    }

    #[test]
    fn recipients_without_end_are_cut() {
        let many = vec!["r@example.net".to_owned(); 100_000];
        assert_eq!(fields(&envelope("h", "s", many), "rcpt").len(), RECIPIENTS);
        let long = vec!["r".repeat(10_000); 1_000];
        let told = fields(&envelope("h", "s", long), "rcpt");
        assert!(told.iter().map(String::len).sum::<usize>() <= RECIPIENT_OCTETS, "{}", told.len());
    }

    proptest! {
        #[test]
        fn any_text_makes_a_value_of_visible_ascii(text in any::<String>()) {
            let request = check(&envelope(&text, &text, vec![text.clone()]), None, 0, ());
            prop_assert!(request.is_some());
            prop_assert!(value(&text).bytes().all(|octet| octet.is_ascii_graphic()));
        }
    }
}
