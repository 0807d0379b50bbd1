//! main.cf of Postfix becomes `gateway.yaml`: what smtp(8) and lmtp(8) deliver by.
//!
//! What the file leaves out has the gateway's defaults, which are Postfix's own of today.

mod convert;
mod expand;
mod parameter;
mod read;
mod value;

use std::fmt::Write as _;

use super::Imported;
use crate::config::Problems;
use parameter::{Here, PARAMETERS};

/// Converts the text of a main.cf; `name` is how messages call the file.
///
/// # Errors
///
/// All lines that Postfix would not take, or that the gateway cannot do as they say.
pub fn import(text: &str, name: &str) -> Result<Imported, Problems> {
    let mut problems = Problems::new(name);
    let definitions = read::read(text, &mut problems);
    let yaml = convert::convert(definitions, text, &mut problems);
    problems.sort();
    if problems.has_errors() { Err(problems) } else { Ok(Imported { yaml, warnings: problems }) }
}

const TABLE: &str = "\
# From main.cf to `gateway.yaml`

Made by `gateway import main.cf --table`. `gateway import main.cf FILE` converts a file.

Parameters of smtp(8) and lmtp(8). `lmtp_…` is what `smtp_…` is, under `delivery.lmtp`; what it does not set is as for SMTP.

| parameter | default | key of the gateway |
| --- | --- | --- |
";

/// What each parameter is here, as Markdown.
#[must_use]
pub fn table() -> String {
    let mut text = TABLE.to_owned();
    for parameter in PARAMETERS {
        let here = match parameter.here {
            Here::Key(key) => format!("`{key}`"),
            Here::Older(key) => format!("`{key}`; there is something newer"),
            Here::Alias(newer) => format!("older name of `{newer}`"),
            Here::TlsLevel => "part of `delivery.starttls.tls-security-level`".to_owned(),
            Here::Obsolete(why) | Here::Nothing(why) => format!("none: {why}"),
            Here::Never(why) => format!("none, as with `no`: {why}"),
            Here::Impossible(why) => format!("refused: {why}"),
            Here::ReadOnly => "none: it cannot be set".to_owned(),
        };
        let default = match parameter.default {
            None => "found out at start".to_owned(),
            Some("") => "empty".to_owned(),
            Some(default) => format!("`{default}`"),
        };
        // Writing to a `String` cannot fail.
        writeln!(text, "| `{}` | {default} | {here} |", parameter.name).unwrap_or_default();
    }
    text
}
