//! ESMTP parameters of MAIL and RCPT (RFC 1870, 3030, 3461, 6152, 6531).

use crate::queue::{Body, NotifyOn, Recipient, Ret};
use crate::smtp::command::{CommandError, Parameters};
use crate::smtp::refusal::Refusal;
use crate::smtp::xtext;

/// Longest ENVID (RFC 3461 section 4.4).
const LONGEST_ENVID: usize = 100;
/// Longest ORCPT (RFC 3461 section 4.2).
const LONGEST_ORCPT: usize = 500;

/// What MAIL says beside the reverse-path.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct MailParameters {
    pub(super) size: Option<u64>,
    pub(super) body: Body,
    pub(super) smtputf8: bool,
    pub(super) ret: Option<Ret>,
    pub(super) envid: Option<String>,
}

/// Reads the parameters of MAIL.
pub(super) fn mail(parameters: &Parameters) -> Result<MailParameters, Refusal> {
    let mut read = MailParameters::default();
    let mut seen = Vec::new();
    for (keyword, value) in parameters.iter() {
        let keyword = once(keyword, &mut seen)?;
        match (keyword.as_str(), value) {
            ("SIZE", Some(_)) => read.size = Some(parameters.size().ok_or_else(malformed)?),
            ("BODY", Some(value)) => read.body = body(value)?,
            ("SMTPUTF8", None) => read.smtputf8 = true,
            ("RET", Some(value)) => read.ret = Some(ret(value)?),
            ("ENVID", Some(value)) => read.envid = Some(decoded(value, LONGEST_ENVID)?),
            ("SIZE" | "BODY" | "SMTPUTF8" | "RET" | "ENVID", _) => return Err(malformed()),
            _ => return Err(Refusal::UnknownParameter),
        }
    }
    Ok(read)
}

/// Reads the parameters of RCPT.
pub(super) fn recipient(address: String, parameters: &Parameters) -> Result<Recipient, Refusal> {
    let mut read = Recipient::new(address);
    let mut seen = Vec::new();
    for (keyword, value) in parameters.iter() {
        let keyword = once(keyword, &mut seen)?;
        match (keyword.as_str(), value) {
            ("NOTIFY", Some(value)) => read.notify = Some(notify(value)?),
            ("ORCPT", Some(value)) => read.original = Some(original(value)?),
            ("NOTIFY" | "ORCPT", None) => return Err(malformed()),
            _ => return Err(Refusal::UnknownParameter),
        }
    }
    Ok(read)
}

/// The keyword in upper case, unless it came before.
fn once(keyword: &str, seen: &mut Vec<String>) -> Result<String, Refusal> {
    let keyword = keyword.to_ascii_uppercase();
    if seen.contains(&keyword) {
        return Err(malformed());
    }
    seen.push(keyword.clone());
    Ok(keyword)
}

fn body(value: &str) -> Result<Body, Refusal> {
    [("7BIT", Body::SevenBit), ("8BITMIME", Body::EightBitMime), ("BINARYMIME", Body::BinaryMime)]
        .into_iter()
        .find_map(|(name, body)| name.eq_ignore_ascii_case(value).then_some(body))
        .ok_or_else(malformed)
}

fn ret(value: &str) -> Result<Ret, Refusal> {
    [("FULL", Ret::Full), ("HDRS", Ret::Hdrs)]
        .into_iter()
        .find_map(|(name, ret)| name.eq_ignore_ascii_case(value).then_some(ret))
        .ok_or_else(malformed)
}

fn notify(value: &str) -> Result<NotifyOn, Refusal> {
    if value.eq_ignore_ascii_case("NEVER") {
        return Ok(NotifyOn::NEVER);
    }
    let mut notify = NotifyOn::NEVER;
    for word in value.split(',') {
        match word.to_ascii_uppercase().as_str() {
            "SUCCESS" => notify.success = true,
            "FAILURE" => notify.failure = true,
            "DELAY" => notify.delay = true,
            _ => return Err(malformed()),
        }
    }
    Ok(notify)
}

/// `type;address`, decoded (RFC 3461 section 4.2; RFC 6533 section 3 for `utf-8`).
fn original(value: &str) -> Result<String, Refusal> {
    let (kind, address) = value.split_once(';').ok_or_else(malformed)?;
    let is_atom = |octet: u8| octet.is_ascii_alphanumeric() || octet == b'-';
    if kind.is_empty() || !kind.bytes().all(is_atom) || value.len() > LONGEST_ORCPT {
        return Err(malformed());
    }
    let address = if kind.eq_ignore_ascii_case("utf-8") {
        xtext::utf8_address(address).ok_or_else(malformed)?
    } else {
        decoded(address, LONGEST_ORCPT)?
    };
    if address.is_empty() || address.chars().any(char::is_control) {
        return Err(malformed());
    }
    Ok(format!("{kind};{address}"))
}

fn decoded(value: &str, longest: usize) -> Result<String, Refusal> {
    let text = xtext::decoded(value).filter(|text| text.len() <= longest);
    text.filter(|text| !text.chars().any(char::is_control)).ok_or_else(malformed)
}

const fn malformed() -> Refusal {
    Refusal::Command(CommandError::Argument)
}
