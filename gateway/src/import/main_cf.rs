//! main.cf of Postfix becomes `gateway.yaml`: what smtp(8) and lmtp(8) deliver by.
//!
//! What the file leaves out has the gateway's defaults, which are Postfix's own of today.

mod convert;
mod expand;
mod parameter;
mod read;
mod services;
mod value;

use std::fmt::Write as _;

use super::{Imported, Told};
use crate::config::Problems;
use parameter::{Here, PARAMETERS};

/// A file.
#[derive(Clone, Copy, Debug)]
pub struct Source<'s> {
    /// How messages call it; a name that ends with `master.cf` says what is in it.
    pub name: &'s str,
    /// Its text.
    pub text: &'s str,
}

/// Converts files: what a later one sets counts, and what a master.cf sets for its services `smtp` and `lmtp` in any case.
///
/// # Errors
///
/// All lines that Postfix would not take, or that the gateway cannot do as they say.
pub fn import(sources: &[Source<'_>]) -> Result<Imported, Told> {
    let mut problems: Vec<_> = sources.iter().map(|source| Problems::new(source.name)).collect();
    let (mut definitions, mut of_services) = (Vec::new(), Vec::new());
    for (file, (source, problems)) in sources.iter().zip(&mut problems).enumerate() {
        if source.name.ends_with("master.cf") {
            of_services.extend(services::read(source.text, file, problems));
        } else {
            definitions.extend(read::read(source.text, file, problems));
        }
    }
    definitions.append(&mut of_services);
    let yaml = convert::convert(definitions, sources, &mut problems);
    Imported::new(yaml, problems)
}

const TABLE: &str = "\
# From main.cf to `gateway.yaml`

Made by `gateway import main.cf --table`. `gateway import main.cf FILE…` converts files:
what a later one sets counts, and what a master.cf sets for its services `smtp` and `lmtp`.

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
            Here::Noted(key, remark) => format!("`{key}`; {remark}"),
            Here::Older(key) => format!("`{key}`; there is something newer"),
            Here::Alias(newer) => format!("older name of `{newer}`"),
            Here::General(own) => format!("that of `{own}`, where this and its mirror are not set"),
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
