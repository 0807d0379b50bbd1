//! smtp-gated.conf(1) becomes `gateway.yaml`.
//!
//! What the file leaves out has smtp-gated's default, which is not always the gateway's: such
//! values are written out. Behaviour that was a fault is not carried over.

mod convert;
mod option;
mod read;

use std::fmt::Write as _;

use super::{Imported, Told};
use crate::config::Problems;
use option::{Here, OPTIONS};

/// Converts the text of a configuration of smtp-gated; `name` is how messages call the file.
///
/// # Errors
///
/// All lines that smtp-gated would not take, or that nothing can be made of.
pub fn import(text: &str, name: &str) -> Result<Imported, Told> {
    let mut problems = Problems::new(name);
    let given = read::read(text, &mut problems);
    let yaml = convert::convert(&given, text, &mut problems);
    Imported::new(yaml, vec![problems])
}

const TABLE: &str = "\
# From smtp-gated.conf to `gateway.yaml`

Made by `gateway import smtp-gated --table`. `gateway import smtp-gated FILE` converts a file.

| option of smtp-gated | key of the gateway |
| --- | --- |
";

/// What each option of smtp-gated is here, as Markdown.
#[must_use]
pub fn table() -> String {
    let mut text = TABLE.to_owned();
    for option in OPTIONS {
        let here = match option.here {
            Here::Keys(keys) => keys.iter().map(|key| format!("`{key}`")).collect::<Vec<_>>().join(", "),
            Here::Alias(newer) => format!("older name of `{newer}`"),
            Here::Nothing(why) => format!("none: {why}"),
        };
        // Writing to a `String` cannot fail.
        writeln!(text, "| `{}` | {here} |", option.name).unwrap_or_default();
    }
    text
}
