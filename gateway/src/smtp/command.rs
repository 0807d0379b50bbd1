//! One command line, taken apart (RFC 5321 section 4.1.1).
//!
//! Owns the syntax. What is relayed is printed from what was understood, so that a server with
//! other ideas about white space or brackets cannot understand something else.

use super::address::{Path, PathError};
use super::verb::{self, Kind};

/// A command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// EHLO or HELO.
    Hello {
        /// EHLO.
        extended: bool,
        /// The client's name for itself.
        name: String,
    },
    /// MAIL.
    Mail {
        /// Reverse path.
        sender: Path,
        /// ESMTP parameters.
        parameters: Parameters,
    },
    /// RCPT.
    Rcpt {
        /// Forward path.
        recipient: Path,
        /// ESMTP parameters.
        parameters: Parameters,
    },
    /// DATA.
    Data,
    /// BDAT (RFC 3030).
    Bdat {
        /// Octets of the chunk that follows.
        size: u64,
        /// Whether it is the last chunk of its message.
        last: bool,
    },
    /// RSET.
    Rset,
    /// NOOP, with its argument dropped.
    Noop,
    /// QUIT.
    Quit,
    /// STARTTLS.
    StartTls,
    /// AUTH; its argument may be a credential and is neither logged nor shown.
    Auth {
        /// The line's argument.
        argument: Secret,
    },
    /// VRFY, EXPN, ETRN or HELP with the whole argument.
    Query {
        /// Verb in upper case.
        verb: &'static str,
        /// What follows it.
        argument: String,
    },
}

/// Text that never reaches a log.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(pub String);

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("(secret)")
    }
}

/// ESMTP parameters of MAIL or RCPT, in order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Parameters(Vec<String>);

impl Parameters {
    /// The value of `keyword` (upper case), empty where the parameter has none.
    #[must_use]
    pub fn value(&self, keyword: &str) -> Option<&str> {
        self.0.iter().find_map(|parameter| {
            let (name, value) = parameter.split_once('=').unwrap_or((parameter, ""));
            name.eq_ignore_ascii_case(keyword).then_some(value)
        })
    }

    /// Keyword and value of each, in order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, Option<&str>)> {
        self.0.iter().map(|parameter| match parameter.split_once('=') {
            Some((keyword, value)) => (keyword, Some(value)),
            None => (parameter.as_str(), None),
        })
    }

    /// The message size that MAIL announces (RFC 1870).
    #[must_use]
    pub fn size(&self) -> Option<u64> {
        let digits = self.value("SIZE")?;
        let is_number = !digits.is_empty() && digits.bytes().all(|octet| octet.is_ascii_digit());
        // More than can be counted is more than any limit.
        is_number.then(|| digits.parse().unwrap_or(u64::MAX))
    }
}

/// Why a line is not a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CommandError {
    /// No such verb.
    #[error("the verb is unknown")]
    Unknown,
    /// A verb that is never relayed.
    #[error("the verb is not relayed")]
    Forbidden,
    /// Another protocol.
    #[error("this is another protocol")]
    Foreign,
    /// The argument is missing, surplus or malformed.
    #[error("the argument is malformed")]
    Argument,
    /// The path is not taken.
    #[error(transparent)]
    Path(#[from] PathError),
}

impl Command {
    /// Takes a line apart that [`super::line`] has let through.
    ///
    /// # Errors
    ///
    /// [`CommandError`] says what is wrong.
    pub fn parse(line: &[u8]) -> Result<Self, CommandError> {
        let end = line.iter().position(|octet| *octet == b' ' || *octet == b'\t').unwrap_or(line.len());
        let (name, argument) = line.split_at_checked(end).ok_or(CommandError::Unknown)?;
        let argument = argument.trim_ascii();
        let verb = verb::find(name).ok_or(CommandError::Unknown)?;
        match verb.kind {
            Kind::Known => {}
            Kind::Forbidden => return Err(CommandError::Forbidden),
            Kind::Foreign => return Err(CommandError::Foreign),
        }
        match verb.name {
            "EHLO" => hello(true, argument),
            "HELO" => hello(false, argument),
            "MAIL" => {
                let (sender, parameters) = path(argument, b"FROM")?;
                Ok(Self::Mail { sender, parameters })
            }
            "RCPT" => {
                let (recipient, parameters) = path(argument, b"TO")?;
                if recipient.as_str().is_empty() {
                    return Err(CommandError::Argument);
                }
                Ok(Self::Rcpt { recipient, parameters })
            }
            "DATA" => bare(argument, Self::Data),
            "RSET" => bare(argument, Self::Rset),
            "QUIT" => bare(argument, Self::Quit),
            "STARTTLS" => bare(argument, Self::StartTls),
            "NOOP" => Ok(Self::Noop),
            "BDAT" => chunk(argument),
            "AUTH" => match ascii(argument)? {
                "" => Err(CommandError::Argument),
                argument => Ok(Self::Auth { argument: Secret(argument.to_owned()) }),
            },
            _ => Ok(Self::Query { verb: verb.name, argument: utf8(argument)?.to_owned() }),
        }
    }

    /// The verb in upper case.
    #[must_use]
    pub const fn verb(&self) -> &'static str {
        match self {
            Self::Hello { extended: true, .. } => "EHLO",
            Self::Hello { extended: false, .. } => "HELO",
            Self::Mail { .. } => "MAIL",
            Self::Rcpt { .. } => "RCPT",
            Self::Data => "DATA",
            Self::Bdat { .. } => "BDAT",
            Self::Rset => "RSET",
            Self::Noop => "NOOP",
            Self::Quit => "QUIT",
            Self::StartTls => "STARTTLS",
            Self::Auth { .. } => "AUTH",
            Self::Query { verb, .. } => verb,
        }
    }

    /// The line for the server, without CRLF.
    #[must_use]
    pub fn to_line(&self) -> String {
        match self {
            Self::Hello { name, .. } => format!("{} {name}", self.verb()),
            Self::Mail { sender, parameters } => with_parameters("MAIL FROM", sender, parameters),
            Self::Rcpt { recipient, parameters } => with_parameters("RCPT TO", recipient, parameters),
            Self::Bdat { size, last } => format!("BDAT {size}{}", if *last { " LAST" } else { "" }),
            Self::Auth { argument } => format!("AUTH {}", argument.0),
            Self::Query { verb, argument } if !argument.is_empty() => format!("{verb} {argument}"),
            Self::Data | Self::Rset | Self::Noop | Self::Quit | Self::StartTls | Self::Query { .. } => {
                self.verb().to_owned()
            }
        }
    }
}

/// The size of the chunk behind a BDAT line that is refused for another reason, so that its
/// octets can be skipped.
#[must_use]
pub fn chunk_size(line: &[u8]) -> Option<u64> {
    match Command::parse(line) {
        Ok(Command::Bdat { size, .. }) => Some(size),
        _ => None,
    }
}

fn hello(extended: bool, argument: &[u8]) -> Result<Command, CommandError> {
    // A name has no spaces; what follows one is not passed on.
    let name = utf8(argument)?.split_ascii_whitespace().next().ok_or(CommandError::Argument)?;
    Ok(Command::Hello { extended, name: name.to_owned() })
}

fn path(argument: &[u8], preposition: &[u8]) -> Result<(Path, Parameters), CommandError> {
    let (word, rest) = argument.split_at_checked(preposition.len()).ok_or(CommandError::Argument)?;
    if !word.eq_ignore_ascii_case(preposition) {
        return Err(CommandError::Argument);
    }
    // `MAIL FROM : <x>` is malformed but common, and can be read in only one way.
    let rest = rest.trim_ascii_start().strip_prefix(b":").ok_or(CommandError::Argument)?;
    let (path, rest) = Path::parse(rest.trim_ascii_start())?;
    let parameters = utf8(rest)?.split_ascii_whitespace().map(str::to_owned).collect();
    Ok((path, Parameters(parameters)))
}

fn bare(argument: &[u8], command: Command) -> Result<Command, CommandError> {
    if argument.is_empty() { Ok(command) } else { Err(CommandError::Argument) }
}

fn chunk(argument: &[u8]) -> Result<Command, CommandError> {
    let mut words = ascii(argument)?.split_ascii_whitespace();
    let size = words.next().filter(|word| word.bytes().all(|octet| octet.is_ascii_digit()));
    let size = size.and_then(|word| word.parse().ok()).ok_or(CommandError::Argument)?;
    let last = match words.next() {
        None => false,
        Some(word) if word.eq_ignore_ascii_case("LAST") => true,
        Some(_) => return Err(CommandError::Argument),
    };
    if words.next().is_some() {
        return Err(CommandError::Argument);
    }
    Ok(Command::Bdat { size, last })
}

fn ascii(argument: &[u8]) -> Result<&str, CommandError> {
    utf8(argument).ok().filter(|text| text.is_ascii()).ok_or(CommandError::Argument)
}

fn utf8(argument: &[u8]) -> Result<&str, CommandError> {
    std::str::from_utf8(argument).map_err(|_| CommandError::Argument)
}

fn with_parameters(verb: &str, path: &Path, parameters: &Parameters) -> String {
    let behind =
        parameters.0.iter().fold(0, |sum: usize, one| sum.saturating_add(one.len()).saturating_add(1));
    let path = path.as_str();
    // Around the path: a colon and two brackets.
    let length = verb.len().saturating_add(path.len()).saturating_add(behind).saturating_add(3);
    let mut line = String::with_capacity(length);
    for piece in [verb, ":<", path, ">"] {
        line.push_str(piece);
    }
    for parameter in &parameters.0 {
        line.push(' ');
        line.push_str(parameter);
    }
    line
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn relayed(line: &str) -> Result<String, CommandError> {
        Command::parse(line.as_bytes()).map(|command| command.to_line())
    }

    #[test]
    fn what_is_relayed_is_what_was_understood() {
        for (line, expected) in [
            ("mail from:<a@b> size=10", "MAIL FROM:<a@b> size=10"),
            ("MAIL FROM : a@b", "MAIL FROM:<a@b>"),
            ("MAIL  FROM:<>", "MAIL FROM:<>"),
            ("RCPT TO: <a@b>  NOTIFY=NEVER", "RCPT TO:<a@b> NOTIFY=NEVER"),
            ("ehlo  x y", "EHLO x"),
            ("bdat 5 last", "BDAT 5 LAST"),
            ("NOOP whatever", "NOOP"),
            ("VRFY a b", "VRFY a b"),
        ] {
            assert_eq!(relayed(line).as_deref(), Ok(expected));
        }
    }

    #[test]
    fn what_cannot_be_understood_is_not_relayed() {
        for (line, error) in [
            ("", CommandError::Unknown),
            ("FOO", CommandError::Unknown),
            ("XCLIENT ADDR=1.2.3.4", CommandError::Forbidden),
            ("GET / HTTP/1.1", CommandError::Foreign),
            ("STARTTLS foo", CommandError::Argument),
            ("DATA now", CommandError::Argument),
            ("EHLO", CommandError::Argument),
            ("RCPT TO:<>", CommandError::Argument),
            ("MAIL TO:<a@b>", CommandError::Argument),
            ("BDAT", CommandError::Argument),
            ("BDAT -1", CommandError::Argument),
            ("BDAT +5", CommandError::Argument),
            ("BDAT 5 LAST x", CommandError::Argument),
            ("BDAT 99999999999999999999", CommandError::Argument),
            ("MAIL FROM:<@a:b@c>", CommandError::Path(PathError::Route)),
        ] {
            assert_eq!(relayed(line), Err(error), "{line}");
        }
    }

    #[test]
    fn a_credential_does_not_show() {
        let command = Command::parse(b"AUTH PLAIN AGEAYg==").unwrap();
        assert!(!format!("{command:?}").contains("AGEA"));
    }

    proptest! {
        #[test]
        fn any_line_is_taken_or_refused(line in proptest::collection::vec(any::<u8>(), 0..80)) {
            if let Ok(command) = Command::parse(&line) {
                let again = Command::parse(command.to_line().as_bytes());
                prop_assert_eq!(again, Ok(command));
            }
        }
    }
}
