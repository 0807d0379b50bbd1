//! SASL (RFC 4422): with which mechanism a client proves who it is, and what it answers to challenges.
//!
//! Owns mechanisms; base64 and AUTH are the exchange's (`auth`). Randomness is an argument.

use std::fmt;

use hmac::{Hmac, KeyInit as _, Mac as _};
use md5::Md5;

mod scram;

use scram::Scram;

/// Why a mechanism cannot go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SaslError {
    /// The challenge is not what the mechanism expects.
    #[error("the challenge makes no sense")]
    Challenge,
    /// The server wants the password to be stretched more often than is reasonable, or hardly at all.
    #[error("the number of iterations is out of range")]
    Iterations,
    /// The server does not know the password's verifier.
    #[error("the server did not prove who it is")]
    Server,
    /// A user name or password holds what the mechanism cannot carry.
    #[error("user name or password holds a NUL")]
    Nul,
}

/// Which properties mechanisms must have (`sasl-security-options`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SecurityOptions {
    /// None that shows the password to whoever listens.
    pub noplaintext: bool,
    /// None that an attacker in the middle can use.
    pub noactive: bool,
    /// None whose exchange lets passwords be guessed by whoever listened.
    pub nodictionary: bool,
    /// None without a user name. No mechanism here is.
    pub noanonymous: bool,
    /// Only those by which the server proves who it is.
    pub mutual_auth: bool,
}

/// Names of mechanisms, in upper case or not; with `!` those that are not used. The first that fits decides.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MechanismFilter(Vec<(bool, String)>);

impl MechanismFilter {
    /// A filter of such words; an empty one passes all.
    pub fn new<'a>(words: impl IntoIterator<Item = &'a str>) -> Self {
        let split = |word: &'a str| match word.strip_prefix('!') {
            Some(name) => (false, name.to_ascii_uppercase()),
            None => (true, word.to_ascii_uppercase()),
        };
        Self(words.into_iter().map(split).collect())
    }

    fn passes(&self, name: &str) -> bool {
        self.0.is_empty() || self.0.iter().find(|(_, word)| word == name).is_some_and(|(passes, _)| *passes)
    }
}

/// A user and what he may be proved with.
#[derive(Clone, PartialEq, Eq)]
pub struct Login {
    /// The user.
    pub username: String,
    /// His password.
    pub password: String,
    /// The user is also sent as the one to act for (`send-cyrus-sasl-authzid`).
    pub authzid: bool,
    /// Printable ASCII without comma, at least 18 octets of randomness (RFC 5802 section 5.1).
    pub nonce: String,
    /// Which mechanisms are used at all.
    pub filter: MechanismFilter,
    /// What holds in clear text.
    pub clear: SecurityOptions,
    /// What holds under TLS.
    pub tls: SecurityOptions,
    /// What holds under TLS with a certificate that matched.
    pub verified: SecurityOptions,
}

impl fmt::Debug for Login {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Login").field("username", &self.username).finish_non_exhaustive()
    }
}

/// A mechanism that is spoken here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mechanism {
    /// RFC 7677.
    ScramSha256,
    /// RFC 2195.
    CramMd5,
    /// RFC 4616.
    Plain,
    /// Never specified; like PLAIN, in two steps.
    Login,
}

impl Mechanism {
    /// All of them, the strongest first.
    const ALL: [Self; 4] = [Self::ScramSha256, Self::CramMd5, Self::Plain, Self::Login];

    /// Its name in AUTH.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::ScramSha256 => "SCRAM-SHA-256",
            Self::CramMd5 => "CRAM-MD5",
            Self::Plain => "PLAIN",
            Self::Login => "LOGIN",
        }
    }

    /// The strongest mechanism that is offered and allowed.
    #[must_use]
    pub fn choose(offered: &[String], filter: &MechanismFilter, options: SecurityOptions) -> Option<Self> {
        Self::ALL.into_iter().find(|mechanism| {
            let name = mechanism.name();
            offered.iter().any(|offer| offer == name) && filter.passes(name) && mechanism.has(options)
        })
    }

    /// Whether it has these properties. An exchange of SCRAM can be guessed at by whoever listened, too.
    const fn has(self, options: SecurityOptions) -> bool {
        match self {
            Self::ScramSha256 => !options.nodictionary,
            Self::CramMd5 => !options.nodictionary && !options.noactive && !options.mutual_auth,
            Self::Plain | Self::Login => {
                !options.noplaintext && !options.nodictionary && !options.noactive && !options.mutual_auth
            }
        }
    }
}

/// One run of a mechanism.
#[derive(Debug)]
pub struct Attempt(Step);

#[derive(Debug)]
enum Step {
    Plain(Vec<u8>),
    Username(Login),
    Password(Login),
    Cram(Login),
    Scram(Box<Scram>),
    Done,
}

impl Attempt {
    /// Begins.
    ///
    /// # Errors
    ///
    /// [`SaslError::Nul`].
    pub fn new(mechanism: Mechanism, login: &Login) -> Result<Self, SaslError> {
        if login.username.contains('\0') || login.password.contains('\0') {
            return Err(SaslError::Nul);
        }
        Ok(Self(match mechanism {
            Mechanism::ScramSha256 => Step::Scram(Box::new(Scram::new(login))),
            Mechanism::CramMd5 => Step::Cram(login.clone()),
            Mechanism::Plain => Step::Plain(plain(login)),
            Mechanism::Login => Step::Username(login.clone()),
        }))
    }

    /// What is said first; `None` when the server speaks first.
    #[must_use]
    pub fn initial(&self) -> Option<Vec<u8>> {
        match &self.0 {
            Step::Plain(message) => Some(message.clone()),
            Step::Scram(scram) => Some(scram.first()),
            Step::Username(_) | Step::Password(_) | Step::Cram(_) | Step::Done => None,
        }
    }

    /// What was said first has been sent.
    pub fn begun(&mut self) {
        if matches!(self.0, Step::Plain(_)) {
            self.0 = Step::Done;
        }
    }

    /// The answer to a challenge.
    ///
    /// # Errors
    ///
    /// [`SaslError`]: the attempt is to be given up.
    pub fn respond(&mut self, challenge: &[u8]) -> Result<Vec<u8>, SaslError> {
        let (next, answer) = match std::mem::replace(&mut self.0, Step::Done) {
            Step::Username(login) => {
                let answer = login.username.clone().into_bytes();
                (Step::Password(login), answer)
            }
            Step::Password(login) => (Step::Done, login.password.into_bytes()),
            Step::Cram(login) => (Step::Done, cram(&login, challenge)),
            Step::Scram(mut scram) => {
                let answer = scram.respond(challenge)?;
                (Step::Scram(scram), answer)
            }
            Step::Plain(_) | Step::Done => return Err(SaslError::Challenge),
        };
        self.0 = next;
        Ok(answer)
    }

    /// The server says that all is well.
    ///
    /// # Errors
    ///
    /// [`SaslError::Server`] when it has not proved what the mechanism makes it prove.
    pub fn accept(&self) -> Result<(), SaslError> {
        match &self.0 {
            Step::Scram(scram) if !scram.is_proved() => Err(SaslError::Server),
            Step::Scram(_)
            | Step::Plain(_)
            | Step::Username(_)
            | Step::Password(_)
            | Step::Cram(_)
            | Step::Done => Ok(()),
        }
    }
}

fn plain(login: &Login) -> Vec<u8> {
    let authzid = if login.authzid { login.username.as_str() } else { "" };
    format!("{authzid}\0{}\0{}", login.username, login.password).into_bytes()
}

fn cram(login: &Login, challenge: &[u8]) -> Vec<u8> {
    // HMAC takes keys of any length: the error cannot happen, and an empty answer is refused.
    let Ok(mut mac) = Hmac::<Md5>::new_from_slice(login.password.as_bytes()) else { return Vec::new() };
    mac.update(challenge);
    let digest = mac.finalize().into_bytes();
    let hex: String = digest.iter().map(|octet| format!("{octet:02x}")).collect();
    format!("{} {hex}", login.username).into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn login(username: &str, password: &str) -> Login {
        Login {
            username: username.to_owned(),
            password: password.to_owned(),
            authzid: false,
            nonce: "rOprNGfwEbeRWgbNEkqO".to_owned(),
            filter: MechanismFilter::default(),
            clear: SecurityOptions::default(),
            tls: SecurityOptions::default(),
            verified: SecurityOptions::default(),
        }
    }

    fn attempt(mechanism: Mechanism, username: &str, password: &str) -> Attempt {
        Attempt::new(mechanism, &login(username, password)).unwrap()
    }

    #[test]
    fn plain_is_the_exchange_of_rfc_4616() {
        let tim = attempt(Mechanism::Plain, "tim", "tanstaaftanstaaf");
        assert_eq!(tim.initial().unwrap(), b"\0tim\0tanstaaftanstaaf");
        let acting = Login { authzid: true, ..login("tim", "x") };
        assert_eq!(Attempt::new(Mechanism::Plain, &acting).unwrap().initial().unwrap(), b"tim\0tim\0x");
        assert_eq!(Attempt::new(Mechanism::Plain, &login("t\0m", "x")).unwrap_err(), SaslError::Nul);
    }

    #[test]
    fn plain_without_an_initial_response_answers_nothing_but_an_empty_challenge() {
        let mut begun = attempt(Mechanism::Plain, "tim", "x");
        begun.begun();
        assert_eq!(begun.respond(b""), Err(SaslError::Challenge));
    }

    #[test]
    fn login_says_name_and_password_once() {
        let mut attempt = attempt(Mechanism::Login, "tim", "secret");
        assert_eq!(attempt.initial(), None);
        assert_eq!(attempt.respond(b"Username:").unwrap(), b"tim");
        assert_eq!(attempt.respond(b"Password:").unwrap(), b"secret");
        assert_eq!(attempt.respond(b"Password:"), Err(SaslError::Challenge));
    }

    #[test]
    fn cram_md5_is_the_exchange_of_rfc_2195() {
        let mut attempt = attempt(Mechanism::CramMd5, "tim", "tanstaaftanstaaf");
        let challenge = b"<1896.697170952@postoffice.reston.mci.net>";
        assert_eq!(attempt.respond(challenge).unwrap(), b"tim b913a602c7eda7a495b4e6e7334d3890");
    }

    #[test]
    fn the_strongest_mechanism_that_is_offered_and_allowed_is_used() {
        let all = ["LOGIN", "PLAIN", "CRAM-MD5", "SCRAM-SHA-256", "GSSAPI"].map(str::to_owned);
        let none = SecurityOptions::default();
        let words = |words: &[&'static str]| MechanismFilter::new(words.iter().copied());
        let cases: [(&[String], MechanismFilter, SecurityOptions, Option<Mechanism>); 11] = [
            (&all, words(&[]), none, Some(Mechanism::ScramSha256)),
            (&all[..3], words(&[]), none, Some(Mechanism::CramMd5)),
            (&all[..2], words(&[]), none, Some(Mechanism::Plain)),
            (&all[..1], words(&[]), none, Some(Mechanism::Login)),
            (&all[4..], words(&[]), none, None),
            (&all, words(&["plain"]), none, Some(Mechanism::Plain)),
            (&all, words(&["!scram-sha-256", "cram-md5", "login"]), none, Some(Mechanism::CramMd5)),
            (&all[..2], words(&[]), SecurityOptions { noplaintext: true, ..none }, None),
            (&all[..3], words(&[]), SecurityOptions { noactive: true, ..none }, None),
            (&all, words(&[]), SecurityOptions { nodictionary: true, ..none }, None),
            (&all, words(&[]), SecurityOptions { mutual_auth: true, ..none }, Some(Mechanism::ScramSha256)),
        ];
        for (offered, filter, options, expected) in cases {
            assert_eq!(
                Mechanism::choose(offered, &filter, options),
                expected,
                "{offered:?} {filter:?} {options:?}"
            );
        }
    }

    #[test]
    fn a_login_does_not_show_its_password() {
        let shown =
            format!("{:?} {:?}", login("tim", "hunter2"), attempt(Mechanism::Login, "tim", "hunter2"));
        assert!(!shown.contains("hunter2"), "{shown}");
    }
}
