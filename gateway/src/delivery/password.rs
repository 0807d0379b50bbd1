//! With which user and password the gateway proves to a server who it is (`sasl-password-maps`), and which of them
//! servers have refused.
//!
//! Owns the keys of the tables and the list of refused passwords; nothing is sent here, and nothing logged.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use ring::digest::{SHA256, digest};

use crate::smtp::client::Status;
use crate::smtp::client::sasl::{Login, MechanismFilter, SecurityOptions};
use crate::table::Maps;

/// Refused passwords that are kept in mind.
const MOST_REFUSED: usize = 10_000;
/// Random octets of a nonce.
const NONCE: usize = 18;

/// The operator's passwords, and what may be done with them.
#[derive(Clone, Debug, Default)]
pub struct Passwords {
    /// The tables.
    pub maps: Maps,
    /// The sender of a message is looked up first (`sender-dependent-authentication`).
    pub by_sender: bool,
    /// The user is also sent as the one to act for (`send-cyrus-sasl-authzid`).
    pub authzid: bool,
    /// Which mechanisms are used at all (`sasl-mechanism-filter`).
    pub filter: MechanismFilter,
    /// What holds in clear text (`sasl-security-options`).
    pub clear: SecurityOptions,
    /// What holds under TLS (`sasl-tls-security-options`).
    pub tls: SecurityOptions,
    /// What holds under TLS with a certificate that matched (`sasl-tls-verified-security-options`).
    pub verified: SecurityOptions,
}

impl Passwords {
    /// Who the gateway is for `host`, a server of the next hop with these `keys`, with mail from `sender`;
    /// `None`: nobody. A password is never that of a parent domain. `random` are octets that nobody can foretell.
    #[must_use]
    pub fn login(&self, sender: &str, host: &str, keys: &[String], random: [u8; NONCE]) -> Option<Login> {
        let of_next_hop =
            || keys.iter().filter(|key| !key.starts_with('.')).find_map(|key| self.maps.text(key));
        let entry = self.of_sender(sender).or_else(|| self.maps.text(host)).or_else(of_next_hop)?;
        let (username, password) = entry.split_once(':').unwrap_or((&entry, ""));
        if username.is_empty() {
            return None;
        }
        Some(Login {
            username: username.to_owned(),
            password: password.to_owned(),
            authzid: self.authzid,
            nonce: random.iter().map(|octet| format!("{octet:02x}")).collect(),
            filter: self.filter.clone(),
            clear: self.clear,
            tls: self.tls,
            verified: self.verified,
        })
    }

    /// The whole address, then its domain.
    fn of_sender(&self, sender: &str) -> Option<String> {
        let domain = sender.rsplit_once('@').map(|(_, domain)| domain).filter(|_| self.by_sender)?;
        self.maps.first_of(&[sender, &format!("@{domain}")]).map(|(_, entry)| entry)
    }
}

/// What a server said of a password.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The status of its reply.
    pub status: Status,
    /// Its text.
    pub text: String,
}

struct Refused {
    password: [u8; 32],
    at: Instant,
    refusal: Refusal,
}

/// Passwords that servers have refused for good, so that accounts are not locked for trying them again
/// (`sasl-auth-cache`).
pub struct RefusedPasswords {
    /// How long they are kept in mind; zero: none is.
    lifetime: Duration,
    by_account: Mutex<HashMap<(String, String), Refused>>,
}

impl fmt::Debug for RefusedPasswords {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RefusedPasswords").field("lifetime", &self.lifetime).finish_non_exhaustive()
    }
}

impl RefusedPasswords {
    /// An empty list; zero: it stays empty.
    #[must_use]
    pub fn new(lifetime: Duration) -> Self {
        Self { lifetime, by_account: Mutex::default() }
    }

    /// A server has refused a login with 535.
    pub fn note(&self, host: &str, login: &Login, refusal: Refusal, now: Instant) {
        if self.lifetime.is_zero() {
            return;
        }
        let mut by_account = self.by_account.lock().unwrap_or_else(PoisonError::into_inner);
        if by_account.len() >= MOST_REFUSED {
            by_account.retain(|_, refused| now.saturating_duration_since(refused.at) < self.lifetime);
        }
        if by_account.len() < MOST_REFUSED {
            let refused = Refused { password: hashed(host, login), at: now, refusal };
            by_account.insert((host.to_owned(), login.username.clone()), refused);
        }
    }

    /// What a server said of this login, if it was lately and the password is still the same.
    #[must_use]
    pub fn find(&self, host: &str, login: &Login, now: Instant) -> Option<Refusal> {
        let mut by_account = self.by_account.lock().unwrap_or_else(PoisonError::into_inner);
        let account = (host.to_owned(), login.username.clone());
        let refused = by_account.get(&account)?;
        let is_fresh = now.saturating_duration_since(refused.at) < self.lifetime;
        if is_fresh && refused.password == hashed(host, login) {
            return Some(refused.refusal.clone());
        }
        by_account.remove(&account);
        None
    }
}

/// Not the password itself: what memory holds may be written to a core file.
fn hashed(host: &str, login: &Login) -> [u8; 32] {
    let text = format!("{host}\0{}\0{}", login.username, login.password);
    let mut out = [0; 32];
    out.copy_from_slice(digest(&SHA256, text.as_bytes()).as_ref());
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock;
    use crate::table::TableSpec;

    fn passwords(spec: &str, by_sender: bool) -> Passwords {
        let maps = Maps::new(vec![spec.parse::<TableSpec>().unwrap().table("").unwrap()]);
        Passwords { maps, by_sender, ..Passwords::default() }
    }

    fn found(passwords: &Passwords, sender: &str) -> Option<(String, String)> {
        let keys = ["[b.test]", "[b.test]:25", ".test"].map(str::to_owned);
        let login = passwords.login(sender, "mx.b.test", &keys, [7; NONCE]);
        login.map(|login| (login.username, login.password))
    }

    // The parameter `smtp_sasl_password_maps`: by sender, then by server, then by destination as written.
    #[test]
    fn passwords_are_found_by_sender_then_by_server_then_by_destination() {
        let all = "inline:{a@s.test=s:1, @s.test=d:2, mx.b.test=h:3, [b.test]:25=n:4}";
        for (spec, by_sender, sender, expected) in [
            (all, true, "a@s.test", Some(("s", "1"))),
            (all, true, "b@s.test", Some(("d", "2"))),
            (all, true, "", Some(("h", "3"))),
            (all, false, "a@s.test", Some(("h", "3"))),
            ("inline:{[b.test]:25=n:4:5}", false, "", Some(("n", "4:5"))),
            ("inline:{[b.test]:25=n}", false, "", Some(("n", ""))),
            ("inline:{mx.b.test=:x}", false, "", None),
            ("inline:{[b.test]=n:4}", false, "", Some(("n", "4"))),
            ("inline:{b.test=n:4}", false, "", None),
            ("inline:{.test=n:4}", false, "", None),
        ] {
            let expected = expected.map(|(user, password)| (user.to_owned(), password.to_owned()));
            assert_eq!(found(&passwords(spec, by_sender), sender), expected, "{spec} {sender}");
        }
    }

    #[test]
    fn a_nonce_has_no_comma_and_all_of_its_randomness() {
        let login = passwords("static:u:p", false).login("", "h", &["n".to_owned()], [0xab; NONCE]).unwrap();
        assert_eq!(login.nonce, "ab".repeat(NONCE));
    }

    // Specification section 8: a changed password invalidates.
    #[test]
    fn a_refused_password_is_not_tried_again_until_it_changes_or_time_has_passed() {
        let now = clock::now();
        let hour = Duration::from_secs(3_600);
        let refused = RefusedPasswords::new(hour);
        let login =
            |spec: &str| passwords(spec, false).login("", "h", &["n".to_owned()], [0; NONCE]).unwrap();
        let (old, new) = (login("static:u:old"), login("static:u:new"));
        let refusal = Refusal { status: Status::permanent(7, 8), text: "no".to_owned() };
        assert_eq!(refused.find("h", &old, now), None);
        refused.note("h", &old, refusal.clone(), now);
        assert_eq!(refused.find("h", &old, now), Some(refusal.clone()));
        assert_eq!(refused.find("other", &old, now), None);
        assert_eq!(refused.find("h", &login("static:v:old"), now), None);
        assert_eq!(refused.find("h", &new, now), None, "it has changed");
        assert_eq!(refused.find("h", &old, now), None, "and is forgotten with it");
        refused.note("h", &old, refusal.clone(), now);
        assert_eq!(refused.find("h", &old, now + hour), None);
        let never = RefusedPasswords::new(Duration::ZERO);
        never.note("h", &old, refusal, now);
        assert_eq!(never.find("h", &old, now), None);
        assert!(!format!("{refused:?}").contains("old"));
    }
}
