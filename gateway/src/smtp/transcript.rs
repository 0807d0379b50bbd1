//! What was said in a session, for those who are to find out what went wrong in it.
//!
//! Owns what of it may be told: commands and replies, but neither texts of messages nor what AUTH proves; and how much
//! of it: the beginning and the latest lines.

use std::fmt::Write as _;

use super::reply::Reply;

/// Octets of a line that are kept.
const LONGEST_LINE: usize = 200;
/// Octets of all lines.
const MOST: usize = 4 * 1024;
/// Octets of the first lines, which stay: who the other side says it is.
const BEGINNING: usize = 512;

/// The verbs of commands, by which a line behind AUTH is known to be one and no secret.
const VERBS: &[&str] = &[
    "EHLO", "HELO", "LHLO", "MAIL", "RCPT", "DATA", "BDAT", "RSET", "NOOP", "QUIT", "STARTTLS", "VRFY",
    "EXPN", "ETRN", "HELP", "XCLIENT", "XFORWARD",
];

/// Who said a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// The other side.
    In,
    /// The gateway.
    Out,
}

impl Way {
    const fn mark(self) -> &'static str {
        match self {
            Self::In => "In:  ",
            Self::Out => "Out: ",
        }
    }
}

/// The lines of a session.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Transcript {
    text: String,
    /// Where lines are left out, and how many.
    gap: usize,
    left_out: usize,
    /// AUTH has begun: what is no command is a secret.
    in_auth: bool,
}

impl Transcript {
    /// A command line, or a line in the place of one; without what AUTH says in it or behind it.
    pub fn command(&mut self, way: Way, line: &[u8]) {
        let line = String::from_utf8_lossy(line);
        let mut words = line.split_ascii_whitespace();
        let verb = words.next().unwrap_or_default();
        if verb.eq_ignore_ascii_case("AUTH") {
            self.in_auth = true;
            let mechanism = words.next().unwrap_or_default();
            let rest = if words.next().is_some() { " (not shown)" } else { "" };
            return self.push(way, &format!("AUTH {mechanism}{rest}"));
        }
        if VERBS.iter().any(|known| known.eq_ignore_ascii_case(verb)) {
            self.in_auth = false;
        }
        self.push(way, if self.in_auth { "(not shown)" } else { &line });
    }

    /// A line of a reply.
    pub fn line(&mut self, way: Way, line: &[u8]) {
        self.push(way, &String::from_utf8_lossy(line));
    }

    /// A reply.
    pub fn reply(&mut self, way: Way, reply: &Reply) {
        let last = reply.lines().len().saturating_sub(1);
        for (number, line) in reply.lines().iter().enumerate() {
            let separator = if number == last { ' ' } else { '-' };
            let text = String::from_utf8_lossy(line);
            self.push(way, &format!("{}{separator}{text}", reply.code()));
        }
    }

    /// The lines, and one that says how many are missing.
    #[must_use]
    pub fn lines(&self) -> Vec<String> {
        let (beginning, rest) = self.text.split_at_checked(self.gap).unwrap_or(("", &self.text));
        let gap = (self.left_out > 0).then(|| format!("({} lines are left out)", self.left_out));
        beginning.lines().map(str::to_owned).chain(gap).chain(rest.lines().map(str::to_owned)).collect()
    }

    fn push(&mut self, way: Way, line: &str) {
        let room = line.floor_char_boundary(LONGEST_LINE);
        let (shown, rest) = line.split_at_checked(room).unwrap_or((line, ""));
        let end = if rest.is_empty() { "" } else { "..." };
        // A line feed in it would make two of it. Writing to a `String` cannot fail.
        writeln!(self.text, "{}{}{end}", way.mark(), shown.replace(['\r', '\n'], " ")).unwrap_or_default();
        if self.text.len() > MOST {
            self.shorten();
        }
    }

    /// Leaves out lines behind the first ones, up to a quarter of all.
    fn shorten(&mut self) {
        if self.left_out == 0 {
            self.gap = self.end_of_line(BEGINNING);
        }
        let end = self.end_of_line(self.gap.saturating_add(MOST / 4));
        let gone = self.text.get(self.gap..end).unwrap_or_default();
        self.left_out = self.left_out.saturating_add(gone.lines().count());
        self.text.drain(self.gap..end);
    }

    /// The end of the line that the octet at `from` is in.
    fn end_of_line(&self, from: usize) -> usize {
        let rest = self.text.as_bytes().get(from..).unwrap_or_default();
        let line = memchr::memchr(b'\n', rest).map_or(rest.len(), |end| end.saturating_add(1));
        from.saturating_add(line).min(self.text.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(commands: &[&str]) -> Vec<String> {
        let mut transcript = Transcript::default();
        commands.iter().for_each(|line| transcript.command(Way::In, line.as_bytes()));
        transcript.lines()
    }

    #[test]
    fn what_auth_proves_is_not_told() {
        let told =
            of(&["EHLO c", "auth plain AHUAcA==", "NOOP", "AUTH LOGIN", "dQ==", "cA==", "*", "QUIT", "x"]);
        let expected = [
            "EHLO c",
            "AUTH plain (not shown)",
            "NOOP",
            "AUTH LOGIN",
            "(not shown)",
            "(not shown)",
            "(not shown)",
            "QUIT",
            "x",
        ];
        assert_eq!(told, expected.map(|line| format!("In:  {line}")));
        let secrets = ["AHUAcA", "dQ==", "cA=="];
        assert!(!secrets.iter().any(|secret| told.concat().contains(secret)));
    }

    #[test]
    fn a_long_session_keeps_its_beginning_and_its_end() {
        let mut transcript = Transcript::default();
        for number in 0..10_000 {
            transcript.command(Way::Out, format!("RCPT TO:<{number}@b.test>{}", "é".repeat(500)).as_bytes());
            transcript.line(Way::In, format!("250 {number}").as_bytes());
            assert!(transcript.text.len() <= MOST, "{}", transcript.text.len());
        }
        let lines = transcript.lines();
        assert!(lines.iter().all(|line| line.len() <= LONGEST_LINE + 10), "{lines:?}");
        assert!(lines.first().unwrap().starts_with("Out: RCPT TO:<0@b.test>") && lines[1] == "In:  250 0");
        assert_eq!(lines.last().unwrap(), "In:  250 9999");
        let gap = lines.iter().find(|line| line.ends_with("lines are left out)")).unwrap();
        let left_out: usize = gap.trim_start_matches('(').split(' ').next().unwrap().parse().unwrap();
        assert_eq!(left_out + lines.len() - 1, 20_000);
    }

    #[test]
    fn a_line_stays_one_line() {
        assert_eq!(of(&["a\r\nOut: 250 b"]), ["In:  a  Out: 250 b"]);
    }
}
