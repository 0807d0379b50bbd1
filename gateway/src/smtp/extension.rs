//! What a server offers in its EHLO reply, and what of it the client may see
//! (RFC 5321 section 4.1.1.1).
//!
//! The gateway lets an extension through only when it understands what the extension does to
//! the protocol. Others are hidden by removing their line.

use bytes::Bytes;

use super::reply::Reply;

/// What the server offers and the client was shown.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Offers {
    /// Commands may be sent in groups (RFC 2920).
    pub pipelining: bool,
    /// BDAT (RFC 3030).
    pub chunking: bool,
    /// STARTTLS (RFC 3207).
    pub starttls: bool,
    /// Internationalized addresses (RFC 6531).
    pub smtputf8: bool,
    /// AUTH (RFC 4954).
    pub auth: bool,
}

/// Keeps the lines of a positive EHLO reply whose keywords, in upper case, are `allowed`.
///
/// With a `size_limit` other than 0, SIZE shows the smaller of both limits (RFC 1870).
#[must_use]
pub fn filter(reply: &Reply, allowed: impl Fn(&str) -> bool, size_limit: u64) -> (Reply, Offers) {
    let mut offers = Offers::default();
    let mut lines = Vec::with_capacity(reply.lines().len());
    let mut all = reply.lines().iter();
    // The first line is the server's name and greeting, not a keyword.
    lines.extend(all.next().cloned());
    for line in all {
        let text = String::from_utf8_lossy(line);
        // `AUTH=LOGIN` is an old spelling that some clients still need.
        let keyword = text.split([' ', '=']).next().unwrap_or_default().to_ascii_uppercase();
        if !allowed(&keyword) {
            continue;
        }
        match keyword.as_str() {
            "PIPELINING" => offers.pipelining = true,
            "CHUNKING" => offers.chunking = true,
            "STARTTLS" => offers.starttls = true,
            "SMTPUTF8" => offers.smtputf8 = true,
            "AUTH" => offers.auth = true,
            "SIZE" if size_limit != 0 => {
                lines.push(smaller_size(&text, size_limit));
                continue;
            }
            _ => {}
        }
        lines.push(line.clone());
    }
    (Reply::with_lines(reply.code(), lines), offers)
}

fn smaller_size(line: &str, limit: u64) -> Bytes {
    let servers = line.split_ascii_whitespace().nth(1).and_then(|size| size.parse::<u64>().ok());
    let size = servers.filter(|size| *size != 0).map_or(limit, |size| size.min(limit));
    Bytes::from(format!("SIZE {size}"))
}

#[cfg(test)]
mod tests {
    use bytes::BytesMut;

    use super::*;

    fn filtered(lines: &[&'static str], allowed: &[&str], limit: u64) -> (String, Offers) {
        let reply =
            Reply::with_lines(250, lines.iter().map(|line| Bytes::from_static(line.as_bytes())).collect());
        let (reply, offers) = filter(&reply, |keyword| allowed.contains(&keyword), limit);
        let mut out = BytesMut::new();
        reply.encode(&mut out);
        (String::from_utf8_lossy(&out).into_owned(), offers)
    }

    #[test]
    fn a_hidden_last_line_leaves_a_complete_reply() {
        let (wire, offers) = filtered(&["mx", "pipelining", "XEXCH50", "CHUNKING"], &["PIPELINING"], 0);
        assert_eq!(wire, "250-mx\r\n250 pipelining\r\n");
        assert_eq!(offers, Offers { pipelining: true, ..Offers::default() });
    }

    #[test]
    fn size_shows_the_smaller_limit() {
        assert_eq!(filtered(&["mx", "SIZE 100"], &["SIZE"], 50).0, "250-mx\r\n250 SIZE 50\r\n");
        assert_eq!(filtered(&["mx", "SIZE 0"], &["SIZE"], 50).0, "250-mx\r\n250 SIZE 50\r\n");
        assert_eq!(filtered(&["mx", "SIZE 20"], &["SIZE"], 50).0, "250-mx\r\n250 SIZE 20\r\n");
        assert_eq!(filtered(&["mx", "SIZE 100"], &["SIZE"], 0).0, "250-mx\r\n250 SIZE 100\r\n");
    }
}
