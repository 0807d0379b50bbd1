//! Whether a name or an address is filtered out (`filters`).

use crate::config::file::{Filter, Filters};
use crate::outcome::Cause;
use crate::smtp::command::Command;

/// What `filters` find wrong with a command, if anything.
#[must_use]
pub fn offence(filters: &Filters, command: &Command) -> Option<Cause> {
    let (filter, text, cause): (&Filter, &str, Cause) = match command {
        Command::Hello { name, .. } => (&filters.helo, name, Cause::RegexHelo),
        Command::Mail { sender, .. } => (&filters.mail, sender.as_str(), Cause::RegexMailFrom),
        Command::Rcpt { recipient, .. } => (&filters.rcpt, recipient.as_str(), Cause::RegexRcptTo),
        Command::Data
        | Command::Bdat { .. }
        | Command::Rset
        | Command::Noop
        | Command::Quit
        | Command::StartTls
        | Command::Auth { .. }
        | Command::Query { .. } => return None,
    };
    keeps_out(filter, text).then_some(cause)
}

/// Whether `filter` keeps `text` out: none of `enforce` matches it, or one of `reject` does.
#[must_use]
pub fn keeps_out(filter: &Filter, text: &str) -> bool {
    let enforced = filter.enforce.is_empty() || filter.enforce.iter().any(|pattern| pattern.matches(text));
    !enforced || filter.reject.iter().any(|pattern| pattern.matches(text))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config;

    fn filter(rules: &str) -> Filter {
        let text = format!(
            "origin: fixed\nlisten: ['127.0.0.1:2525']\nfixed-server: 127.0.0.1:25\nfilters: {{mail: {rules}}}\n"
        );
        config::parse(&text, "test").unwrap().filters.mail
    }

    #[test]
    fn one_of_enforce_must_match_and_none_of_reject() {
        let filter = filter("{enforce: ['@a\\.test$', '^$'], reject: ['^root@', '(?i)^ADMIN@']}");
        for (text, out) in [
            ("joe@a.test", false),
            ("", false),
            ("joe@b.test", true),
            ("root@a.test", true),
            ("admin@a.test", true),
            ("Root@a.test", false),
        ] {
            assert_eq!(keeps_out(&filter, text), out, "{text}");
        }
        assert!(!keeps_out(&Filter::default(), "anything"));
    }
}
