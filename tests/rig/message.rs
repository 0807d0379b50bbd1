//! Messages, as the octets between the go-ahead to DATA and the end of data, without the latter.

use std::fmt::Write as _;

/// What ends a message.
pub const END: &[u8] = b"\r\n.\r\n";

/// The signature the lab's clamd reports for [`eicar`].
pub const EICAR_SIGNATURE: &str = "Eicar-Test-Signature";

/// The harmless file that scanners agreed to report, made of two halves so that no scanner
/// reports this source.
#[must_use]
pub fn eicar() -> String {
    ["X5O!P%@AP[4\\PZX54(P^)7CC)7}$EICAR-", "STANDARD-ANTIVIRUS-TEST-FILE!$H+H*"].concat()
}

/// A message that every spam scanner agreed to find, made of two halves as [`eicar`] is.
#[must_use]
pub fn gtube(subject: &str) -> Vec<u8> {
    let line = ["XJS*C4JDBQADN1.NSBN3*2IDNEN*", "GTUBE-STANDARD-ANTI-UBE-TEST-EMAIL*C.34X"].concat();
    format!("{}\r\n{line}\r\n", header(subject)).into_bytes()
}

fn header(subject: &str) -> String {
    format!(
        "From: Sender <sender@client.example>\r\nTo: Recipient <recipient@server.example>\r\n\
         Subject: {subject}\r\nDate: Fri, 20 Nov 2026 12:00:00 +0000\r\n\
         Message-ID: <{}@client.example>\r\n",
        subject.replace(' ', "-")
    )
}

/// An ordinary message of one short line.
#[must_use]
pub fn clean(subject: &str) -> Vec<u8> {
    format!("{}\r\nNothing to see here.", header(subject)).into_bytes()
}

/// EICAR as a base64 attachment of a multipart message.
#[must_use]
pub fn infected(subject: &str) -> Vec<u8> {
    with_attachment(subject, "eicar.com", eicar().as_bytes())
}

/// A multipart message with a base64 attachment.
#[must_use]
pub fn with_attachment(subject: &str, name: &str, octets: &[u8]) -> Vec<u8> {
    let text = format!(
        "{}MIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=\"part\"\r\n\r\n\
         --part\r\nContent-Type: text/plain\r\n\r\nSee the attachment.\r\n\
         --part\r\nContent-Type: application/octet-stream; name=\"{name}\"\r\n\
         Content-Disposition: attachment; filename=\"{name}\"\r\n\
         Content-Transfer-Encoding: base64\r\n\r\n{}\r\n--part--",
        header(subject),
        base64(octets)
    );
    text.into_bytes()
}

/// A message of about `size` octets of text lines, some of which begin with a dot and are
/// stuffed as RFC 5321 section 4.5.2 says.
#[must_use]
pub fn large(subject: &str, size: usize, seed: u64) -> Vec<u8> {
    let mut message = format!("{}\r\n", header(subject));
    let mut random = Random::new(seed);
    let mut number = 0u64;
    while message.len() < size {
        let dots = if random.below(8) == 0 { ".." } else { "" };
        let filler = "x".repeat(random.below(60));
        write!(message, "{dots}{number} {:016x} {filler}\r\n", random.next()).ok();
        number += 1;
    }
    message.push_str("end");
    message.into_bytes()
}

/// Base64 in lines of 76 characters (RFC 2045 section 6.8).
fn base64(octets: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for (count, group) in octets.chunks(3).enumerate() {
        if count > 0 && count % 19 == 0 {
            text.push_str("\r\n");
        }
        let bits =
            group.iter().fold(0u32, |bits, octet| bits << 8 | u32::from(*octet)) << (8 * (3 - group.len()));
        for place in 0..4 {
            let digit = usize::try_from(bits >> (18 - 6 * place) & 63).unwrap_or(0);
            let letter = ALPHABET.get(digit).copied().unwrap_or(b'=');
            text.push(if place <= group.len() { char::from(letter) } else { '=' });
        }
    }
    text
}

/// Numbers that look random and are the same for the same seed, so that a failure repeats.
#[derive(Clone, Debug)]
pub struct Random(u64);

impl Random {
    /// The sequence of this seed.
    #[must_use]
    pub const fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next number (splitmix64).
    pub const fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ mixed >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ mixed >> 31
    }

    /// A number below `limit`, which is not 0.
    pub fn below(&mut self, limit: usize) -> usize {
        usize::try_from(self.next() % u64::try_from(limit.max(1)).unwrap_or(1)).unwrap_or(0)
    }

    /// Places to cut `length` octets at: rising, on average every `step`.
    pub fn cuts(&mut self, length: usize, step: usize) -> Vec<usize> {
        let mut cuts = Vec::new();
        let mut place = 0;
        loop {
            place += 1 + self.below(2 * step);
            if place >= length {
                return cuts;
            }
            cuts.push(place);
        }
    }
}
