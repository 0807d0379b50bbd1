//! SCRAM-SHA-256 (RFC 5802, RFC 7677) without channel binding.
//!
//! User names and passwords go as they are: SASLprep changes nothing in printable ASCII.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use hmac::{Hmac, KeyInit as _, Mac as _};
use pbkdf2::pbkdf2_hmac;
use sha2::{Digest as _, Sha256};

use super::{Login, SaslError};

/// RFC 7677 section 4 asks servers for at least 4096.
const FEWEST_ITERATIONS: u32 = 4_096;
/// More would let a server keep a core busy for seconds.
const MOST_ITERATIONS: u32 = 1_000_000;

/// The client's side of one exchange.
pub(super) struct Scram {
    password: String,
    /// The header that says: no channel binding (RFC 5802 section 7, gs2-header).
    header: String,
    /// The client's first message without its header.
    first_bare: String,
    nonce: String,
    state: State,
}

enum State {
    /// The server's first message is waited for.
    First,
    /// The server's signature is waited for; this is what it must be.
    Final([u8; 32]),
    /// The server knows the password's verifier.
    Proved,
}

impl fmt::Debug for Scram {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Scram").finish_non_exhaustive()
    }
}

impl Scram {
    pub(super) fn new(login: &Login) -> Self {
        let name = saslname(&login.username);
        Self {
            password: login.password.clone(),
            header: if login.authzid { format!("n,a={name},") } else { "n,,".to_owned() },
            first_bare: format!("n={name},r={}", login.nonce),
            nonce: login.nonce.clone(),
            state: State::First,
        }
    }

    pub(super) fn first(&self) -> Vec<u8> {
        format!("{}{}", self.header, self.first_bare).into_bytes()
    }

    pub(super) fn respond(&mut self, challenge: &[u8]) -> Result<Vec<u8>, SaslError> {
        let challenge = std::str::from_utf8(challenge).map_err(|_| SaslError::Challenge)?;
        match self.state {
            State::First => self.prove(challenge),
            State::Final(signature) => {
                let claimed = challenge.strip_prefix("v=").and_then(|value| value.split(',').next());
                if claimed.and_then(|value| BASE64.decode(value).ok()).as_deref()
                    != Some(signature.as_slice())
                {
                    return Err(SaslError::Server);
                }
                self.state = State::Proved;
                Ok(Vec::new())
            }
            State::Proved => Err(SaslError::Challenge),
        }
    }

    pub(super) const fn is_proved(&self) -> bool {
        matches!(self.state, State::Proved)
    }

    /// Answers the server's first message with the proof of the password.
    fn prove(&mut self, server_first: &str) -> Result<Vec<u8>, SaslError> {
        let mut attributes = server_first.split(',');
        let mut attribute =
            |name| attributes.next().and_then(|text| text.strip_prefix(name)).ok_or(SaslError::Challenge);
        let nonce = attribute("r=")?;
        let salt = BASE64.decode(attribute("s=")?).map_err(|_| SaslError::Challenge)?;
        let iterations = attribute("i=")?.parse::<u32>().map_err(|_| SaslError::Challenge)?;
        // The nonce goes on where the client's ends, or an old exchange is being played again.
        if nonce.strip_prefix(self.nonce.as_str()).is_none_or(str::is_empty) || salt.is_empty() {
            return Err(SaslError::Challenge);
        }
        if !(FEWEST_ITERATIONS..=MOST_ITERATIONS).contains(&iterations) {
            return Err(SaslError::Iterations);
        }
        let without_proof = format!("c={},r={nonce}", BASE64.encode(&self.header));
        let message = format!("{},{server_first},{without_proof}", self.first_bare);

        let mut salted = [0; 32];
        pbkdf2_hmac::<Sha256>(self.password.as_bytes(), &salt, iterations, &mut salted);
        let client_key = hmac(&salted, b"Client Key");
        let stored_key: [u8; 32] = Sha256::digest(client_key).into();
        let signature = hmac(&stored_key, message.as_bytes());
        let proof: Vec<u8> = client_key.iter().zip(signature).map(|(key, signed)| key ^ signed).collect();
        self.state = State::Final(hmac(&hmac(&salted, b"Server Key"), message.as_bytes()));
        Ok(format!("{without_proof},p={}", BASE64.encode(proof)).into_bytes())
    }
}

fn hmac(key: &[u8; 32], message: &[u8]) -> [u8; 32] {
    // HMAC takes keys of any length: the error cannot happen.
    Hmac::<Sha256>::new_from_slice(key).map_or([0; 32], |mut mac| {
        mac.update(message);
        mac.finalize().into_bytes().into()
    })
}

/// A name in which `=` and `,` are escaped (RFC 5802 section 5.1).
fn saslname(name: &str) -> String {
    name.replace('=', "=3D").replace(',', "=2C")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::smtp::client::sasl::{MechanismFilter, SecurityOptions};

    fn scram(username: &str) -> Scram {
        let none = SecurityOptions::default();
        Scram::new(&Login {
            username: username.to_owned(),
            password: "pencil".to_owned(),
            authzid: false,
            nonce: "rOprNGfwEbeRWgbNEkqO".to_owned(),
            filter: MechanismFilter::default(),
            clear: none,
            tls: none,
            verified: none,
        })
    }

    const SERVER_FIRST: &str =
        "r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096";

    #[test]
    fn the_exchange_is_that_of_rfc_7677() {
        let mut scram = scram("user");
        assert_eq!(scram.first(), b"n,,n=user,r=rOprNGfwEbeRWgbNEkqO");
        let proof = scram.respond(SERVER_FIRST.as_bytes()).unwrap();
        assert_eq!(
            String::from_utf8_lossy(&proof),
            "c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ="
        );
        assert!(!scram.is_proved());
        assert_eq!(scram.respond(b"v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=").unwrap(), b"");
        assert!(scram.is_proved());
        assert_eq!(scram.respond(b""), Err(SaslError::Challenge));
    }

    #[test]
    fn a_server_without_the_verifier_is_found_out() {
        let mut scram = scram("user");
        scram.respond(SERVER_FIRST.as_bytes()).unwrap();
        let wrong = b"v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G5=";
        assert_eq!(scram.respond(wrong), Err(SaslError::Server));
        assert!(!scram.is_proved());
    }

    #[test]
    fn a_first_message_that_does_not_go_on_from_the_clients_nonce_is_no_challenge() {
        for (server_first, error) in [
            (SERVER_FIRST.replace("rOpr", "sOpr"), SaslError::Challenge),
            ("r=rOprNGfwEbeRWgbNEkqO,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096".to_owned(), SaslError::Challenge),
            (SERVER_FIRST.replace("i=4096", "i=1"), SaslError::Iterations),
            (SERVER_FIRST.replace("i=4096", "i=4000000000"), SaslError::Iterations),
            (SERVER_FIRST.replace("i=4096", "i=x"), SaslError::Challenge),
            (SERVER_FIRST.replace("W22ZaJ0SNY7soEsUEjb6gQ==", ""), SaslError::Challenge),
            (format!("m=ext,{SERVER_FIRST}"), SaslError::Challenge),
            (String::new(), SaslError::Challenge),
        ] {
            assert_eq!(scram("user").respond(server_first.as_bytes()), Err(error), "{server_first}");
        }
    }

    #[test]
    fn a_name_is_escaped() {
        assert_eq!(scram("a=b,c").first(), b"n,,n=a=3Db=2Cc,r=rOprNGfwEbeRWgbNEkqO");
    }
}
