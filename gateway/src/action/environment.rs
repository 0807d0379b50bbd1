//! What the script is told: the variables and arguments that smtp-gated's has.
//!
//! Texts come from strangers. They are short and end no line; a script must quote them all the same.

use jiff::Timestamp;
use jiff::tz::TimeZone;

use crate::ipc::offender::{Auth, Found, Offender};

/// The whole environment.
pub(super) fn environment(offender: &Offender) -> Vec<(&'static str, String)> {
    let detail_of = |found| {
        if offender.found == found { offender.detail.as_str().to_owned() } else { String::new() }
    };
    let scene = &offender.scene;
    let listener = offender.listener;
    let began = offender.session.began();
    let duration = offender.duration.map_or_else(|| "-1".to_owned(), |span| span.as_secs().to_string());
    vec![
        ("PROXY_NAME", offender.gateway.as_str().to_owned()),
        ("FOUND", offender.found.name().to_owned()),
        ("VIRUS_NAME", detail_of(Found::Virus)),
        ("SPAM_SCORE", detail_of(Found::Spam)),
        ("SOURCE_IP", offender.client.ip().to_string()),
        ("SOURCE_PORT", offender.client.port().to_string()),
        ("TARGET_IP", offender.destination.ip().to_string()),
        ("TARGET_PORT", offender.destination.port().to_string()),
        ("LOCAL_IP", listener.map(|local| local.ip().to_canonical().to_string()).unwrap_or_default()),
        ("LOCAL_PORT", listener.map(|local| local.port().to_string()).unwrap_or_default()),
        ("IDENT", offender.identity.as_ref().map(ToString::to_string).unwrap_or_default()),
        ("IDENT_COUNT", offender.sessions.to_string()),
        ("HELO", scene.helo.as_str().to_owned()),
        ("MAIL_FROM", scene.sender.as_str().to_owned()),
        ("RCPTS_TOTAL", scene.recipients.to_string()),
        ("SIZE", scene.size.to_string()),
        ("TRANSACTION", scene.transaction.to_string()),
        ("AUTH", flags(scene.auth).to_string()),
        // There is no file that a script could read: copies are in memory, or have no name.
        ("SPOOL_NAME", String::new()),
        ("LOCK_FILE", offender.lock.to_string()),
        ("LOCK_DURATION", duration),
        ("TIME", time(began)),
        ("UNIXTIME", began.to_string()),
    ]
}

/// What is found, who did it, its identity, and where it meant to go.
pub(super) fn arguments(offender: &Offender) -> [String; 4] {
    [
        offender.found.name().to_owned(),
        offender.client.ip().to_string(),
        offender.identity.as_ref().map_or_else(|| "-".to_owned(), ToString::to_string),
        offender.destination.ip().to_string(),
    ]
}

/// The bits of `AUTH`.
fn flags(auth: Auth) -> u8 {
    u8::from(auth.offered) | u8::from(auth.accepted) << 1 | u8::from(auth.rejected) << 2
}

/// Local time, as `date(1)` writes it in the C locale.
fn time(seconds: u64) -> String {
    let at = i64::try_from(seconds).ok().and_then(|seconds| Timestamp::from_second(seconds).ok());
    at.map(|at| at.to_zoned(TimeZone::system()).strftime("%a %b %e %H:%M:%S %Y").to_string())
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, SystemTime};

    use super::*;
    use crate::intercept::address::{ClientAddr, OriginalDst};
    use crate::intercept::flow::SessionId;
    use crate::ipc::offender::{Scene, Told};

    fn offender(found: Found, detail: &str) -> Offender {
        let scene = Scene {
            helo: Told::new("client.example"),
            sender: Told::new("a@client.example"),
            recipients: 3,
            size: 68,
            transaction: 2,
            auth: Auth { offered: true, accepted: false, rejected: true },
        };
        Offender {
            gateway: Told::new("gw.example"),
            found,
            detail: Told::new(detail),
            lock: "192.0.2.7".to_owned().try_into().unwrap(),
            duration: None,
            session: SessionId::next(SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000)),
            client: ClientAddr::new("192.0.2.7:1025".parse().unwrap()),
            destination: OriginalDst::new("198.51.100.2:25".parse().unwrap()),
            listener: Some("[::ffff:127.0.0.1]:10025".parse().unwrap()),
            identity: None,
            sessions: 2,
            scene,
        }
    }

    #[test]
    fn the_environment_is_the_documented_one() {
        let told = environment(&offender(Found::Virus, "Eicar"));
        let names: Vec<_> = told.iter().map(|(name, _)| *name).collect();
        let documented = "PROXY_NAME FOUND VIRUS_NAME SPAM_SCORE SOURCE_IP SOURCE_PORT TARGET_IP TARGET_PORT \
                          LOCAL_IP LOCAL_PORT IDENT IDENT_COUNT HELO MAIL_FROM RCPTS_TOTAL SIZE TRANSACTION AUTH \
                          SPOOL_NAME LOCK_FILE LOCK_DURATION TIME UNIXTIME";
        assert_eq!(names, documented.split_whitespace().collect::<Vec<_>>());
        let value =
            |name: &str| told.iter().find(|(known, _)| *known == name).map(|(_, value)| value.as_str());
        assert_eq!(
            (value("FOUND"), value("VIRUS_NAME"), value("SPAM_SCORE")),
            (Some("VIRUS"), Some("Eicar"), Some(""))
        );
        assert_eq!((value("LOCAL_IP"), value("LOCAL_PORT")), (Some("127.0.0.1"), Some("10025")));
        assert_eq!((value("LOCK_DURATION"), value("UNIXTIME")), (Some("-1"), Some("1700000000")));
        assert_eq!((value("AUTH"), value("TRANSACTION")), (Some("5"), Some("2")));
        assert!(value("TIME").is_some_and(|time| time.contains("Nov 1") && time.ends_with(" 2023")));
    }

    #[test]
    fn the_arguments_are_those_of_smtp_gated() {
        let score = offender(Found::Spam, "7.5");
        assert_eq!(arguments(&score), ["SPAM", "192.0.2.7", "-", "198.51.100.2"]);
        assert!(environment(&score).contains(&("SPAM_SCORE", "7.5".to_owned())));
    }
}
