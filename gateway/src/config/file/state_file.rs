//! The file that says how the gateway is: `state-file`.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A file that says how the gateway is, for scripts; `gateway status --format` prints the same.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
pub struct StateFile {
    /// The file, rewritten in one step at SIGUSR1; root must be able to write its folder, which is made
    /// where it is missing, below one that is there. Empty (`''`): none.
    pub path: PathBuf,
    /// Mode of the file.
    pub mode: FileMode,
    /// How it is written.
    pub format: StateFormat,
    /// Whether open sessions are listed, with `format: human` and `flat`.
    pub sessions: bool,
}

impl Default for StateFile {
    fn default() -> Self {
        Self { path: PathBuf::new(), mode: FileMode(0o640), format: StateFormat::Human, sessions: true }
    }
}

/// How the state is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum StateFormat {
    /// For people, in the words of smtp-gated.
    Human,
    /// One `key: value` a line, with the keys of smtp-gated.
    Flat,
    /// JSON, as `gateway status --json`.
    Json,
}

/// Mode of a file, in octal notation such as `"0640"`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "String", into = "String")]
#[schemars(with = "String", extend("pattern" = "^0[0-7]{3}$"))]
pub struct FileMode(u32);

impl FileMode {
    /// The mode as chmod(2) wants it.
    #[must_use]
    pub const fn bits(self) -> u32 {
        self.0
    }
}

impl TryFrom<String> for FileMode {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let digits = text.strip_prefix('0').filter(|digits| digits.len() == 3 && !digits.starts_with('+'));
        let mode = digits.and_then(|digits| u32::from_str_radix(digits, 8).ok());
        mode.map(Self).ok_or_else(|| format!("`{text}` is no mode of a file; write for example `\"0640\"`"))
    }
}

impl From<FileMode> for String {
    fn from(FileMode(mode): FileMode) -> Self {
        format!("{mode:04o}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mode_has_four_octal_digits_the_first_a_zero() {
        for (text, mode) in [
            ("0640", Some(0o640)),
            ("0000", Some(0)),
            ("640", None),
            ("0888", None),
            ("0o640", None),
            ("0+64", None),
        ] {
            assert_eq!(FileMode::try_from(text.to_owned()).ok().map(FileMode::bits), mode, "{text}");
        }
        assert_eq!(String::from(FileMode(0o660)), "0660");
    }
}
