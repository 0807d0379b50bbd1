//! What a session counts for the operator.
#![expect(clippy::wildcard_enum_match_arm, reason = "a refusal not named is no ceiling")]

use super::refusal::Refusal;

/// Counts since they were last taken.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Replies that the client was given, by first digit of their code: 2, 3, 4, 5.
    pub replies: [u64; 4],
    /// Those among them that the gateway made itself.
    pub own_replies: [u64; 4],
    /// Octets behind STARTTLS that came before its reply and were thrown away.
    pub injected_octets: u64,
    /// Command lines longer than `limits.command-line`.
    pub long_lines: u64,
    /// Recipients refused because of `limits.recipients`.
    pub recipients: u64,
    /// Messages refused because of `limits.message-size`.
    pub large_messages: u64,
    /// `limits.hard-errors` was reached.
    pub hard_errors: u64,
    /// `limits.takeover-commands` was reached.
    pub takeover_ends: u64,
    /// Commands refused because of `auth.require`.
    pub auth_required: u64,
}

impl Tally {
    /// Counts a ceiling or a rule that makes the gateway refuse a command or a message.
    pub(super) fn refused(&mut self, refusal: &Refusal) {
        let ceiling = match refusal {
            Refusal::LineTooLong => &mut self.long_lines,
            Refusal::TooManyRecipients => &mut self.recipients,
            Refusal::MessageTooLarge => &mut self.large_messages,
            Refusal::TooManyErrors => &mut self.hard_errors,
            Refusal::AuthRequired => &mut self.auth_required,
            _ => return,
        };
        *ceiling = ceiling.saturating_add(1);
    }
}

/// Counts a reply by its class.
pub(super) fn count(classes: &mut [u64; 4], code: u16) {
    let class = usize::from(code / 100).checked_sub(2).and_then(|class| classes.get_mut(class));
    if let Some(class) = class {
        *class = class.saturating_add(1);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use crate::clock;
    use crate::config::Config;
    use crate::smtp::exchange::{Exchange, Rules};
    use crate::smtp::tally::Tally;

    fn exchange(change: impl FnOnce(&mut Config)) -> Exchange {
        let mut config = Config::default();
        change(&mut config);
        let mut exchange =
            Exchange::new(Arc::new(Rules::new(&config, "gw.example".to_owned())), clock::now());
        exchange.connected(clock::now());
        exchange
    }

    fn client(exchange: &mut Exchange, octets: &str) {
        exchange.client_buffer().extend_from_slice(octets.as_bytes());
        exchange.client_received(clock::now());
    }

    fn server(exchange: &mut Exchange, octets: &str) {
        exchange.server_buffer().extend_from_slice(octets.as_bytes());
        exchange.server_received(clock::now());
    }

    #[test]
    fn replies_are_counted_by_class_and_maker_and_only_once() {
        let mut exchange = exchange(|_| {});
        server(&mut exchange, "220 server\r\n");
        client(&mut exchange, "EHLO a\r\n");
        server(&mut exchange, "250-server\r\n250 SIZE\r\n");
        client(&mut exchange, "NONSENSE\r\nMAIL FROM:<a@b.test>\r\n");
        server(&mut exchange, "451 4.3.0 later\r\n");
        let tally = exchange.take_tally();
        assert_eq!(tally.replies, [2, 0, 1, 1]);
        assert_eq!(tally.own_replies, [0, 0, 0, 1]);
        assert_eq!(exchange.take_tally(), Tally::default());
    }

    #[test]
    fn ceilings_are_counted() {
        let mut exchange = exchange(|config| {
            config.limits.recipients = 1;
            config.limits.hard_errors = 2;
            config.limits.message_size = crate::config::units::ByteCount::new(10);
        });
        server(&mut exchange, "220 server\r\n");
        client(&mut exchange, "EHLO a\r\n");
        server(&mut exchange, "250-server\r\n250 SIZE\r\n");
        client(&mut exchange, "MAIL FROM:<a@b.test> SIZE=11\r\n");
        client(&mut exchange, "MAIL FROM:<a@b.test>\r\n");
        server(&mut exchange, "250 ok\r\n");
        client(&mut exchange, "RCPT TO:<a@b.test>\r\n");
        server(&mut exchange, "250 ok\r\n");
        client(&mut exchange, "RCPT TO:<b@b.test>\r\n");
        client(&mut exchange, &format!("{}\r\n", "x".repeat(100_000)));
        client(&mut exchange, "NONSENSE\r\n");
        let tally = exchange.take_tally();
        assert_eq!(
            (tally.large_messages, tally.recipients, tally.long_lines, tally.hard_errors),
            (1, 1, 1, 1)
        );
    }

    #[test]
    fn octets_behind_starttls_are_counted() {
        let mut exchange = exchange(|_| {});
        server(&mut exchange, "220 server\r\n");
        client(&mut exchange, "EHLO a\r\n");
        server(&mut exchange, "250-server\r\n250 STARTTLS\r\n");
        client(&mut exchange, "STARTTLS\r\nRSET\r\n");
        server(&mut exchange, "220 go ahead\r\n");
        assert_eq!(exchange.take_tally().injected_octets, 6);
    }
}
