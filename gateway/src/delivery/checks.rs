//! What operators have done to header fields and lines of messages on their way out
//! (header_checks(5), as smtp(8) carries it out).
//!
//! Owns the actions. They change what is sent, never where it goes or whether: actions that would are
//! left out, and told.

use std::borrow::Cow;
use std::fmt;

use crate::mime::{Class, is_field};
use crate::table::Maps;

/// Most characters of a field or line that a note repeats.
const SHOWN: usize = 200;

/// The operator's tables.
#[derive(Clone, Debug, Default)]
pub struct Checks {
    /// For fields of the message itself (`header-checks`).
    pub header: Maps,
    /// For fields about parts (`mime-header-checks`).
    pub mime_header: Maps,
    /// For fields of messages within the message (`nested-header-checks`).
    pub nested_header: Maps,
    /// For lines of bodies, those that divide parts among them (`body-checks`).
    pub body: Maps,
}

/// What is done with a field or a line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Edit<'t> {
    /// It is sent as it is.
    Keep,
    /// It is left out.
    Drop,
    /// This is sent in its place.
    Replace(Cow<'t, [u8]>),
    /// This is sent before it.
    Prepend(Cow<'t, [u8]>),
}

/// What the log says of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Note {
    action: &'static str,
    what: &'static str,
    text: String,
    argument: String,
}

impl fmt::Display for Note {
    /// `action: header TEXT: ARGUMENT`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {} {}", self.action, self.what, self.text)?;
        if self.argument.is_empty() { Ok(()) } else { write!(f, ": {}", self.argument) }
    }
}

impl Checks {
    /// Whether there is nothing to do.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.header.is_empty()
            && self.mime_header.is_empty()
            && self.nested_header.is_empty()
            && self.body.is_empty()
    }

    /// What is done with a field, its folded lines divided by LF. How many notes there are is the sender's
    /// choice: whoever writes them to the log counts.
    #[must_use]
    pub fn field(&self, class: Class, text: &[u8]) -> (Edit<'_>, Option<Note>) {
        let maps = match class {
            Class::Primary => &self.header,
            Class::Mime => &self.mime_header,
            Class::Nested => &self.nested_header,
        };
        apply(maps, "header", text)
    }

    /// What is done with a line of a body.
    #[must_use]
    pub fn line(&self, text: &[u8]) -> (Edit<'_>, Option<Note>) {
        apply(&self.body, "body", text)
    }
}

fn apply<'m>(maps: &'m Maps, what: &'static str, text: &[u8]) -> (Edit<'m>, Option<Note>) {
    let Some(found) = maps.find(text) else { return (Edit::Keep, None) };
    let split = found.iter().position(u8::is_ascii_whitespace).unwrap_or(found.len());
    let word = found.get(..split).unwrap_or_default().to_ascii_uppercase();
    let argument = found.get(split..).unwrap_or_default().trim_ascii().to_vec();
    let note =
        |action, argument: &[u8]| Some(Note { action, what, text: shown(text), argument: shown(argument) });
    let unusable = |problem: &str| {
        let argument = format!("`{}`: {problem}", String::from_utf8_lossy(&found));
        (Edit::Keep, note("warning", argument.as_bytes()))
    };
    // What stands in a header must be a field, or it would end the header.
    let fits = !argument.is_empty() && (what != "header" || is_field(&argument));
    match word.as_slice() {
        b"DUNNO" | b"OK" => (Edit::Keep, None),
        b"IGNORE" => (Edit::Drop, None),
        b"STRIP" => (Edit::Drop, note("strip", &argument)),
        b"INFO" => (Edit::Keep, note("info", &argument)),
        b"WARN" => (Edit::Keep, note("warning", &argument)),
        b"REPLACE" | b"PREPEND" if !fits => unusable("the text is no `name: value`"),
        b"REPLACE" => {
            let note = note("replace", &argument);
            (Edit::Replace(Cow::Owned(argument)), note)
        }
        b"PREPEND" => {
            let note = note("prepend", &argument);
            (Edit::Prepend(Cow::Owned(argument)), note)
        }
        b"BCC" | b"DISCARD" | b"FILTER" | b"HOLD" | b"PASS" | b"REDIRECT" | b"REJECT" => {
            unusable("not supported on delivery")
        }
        _ => unusable("no such action"),
    }
}

/// What a note shows: one line, not too long, nothing that steers a terminal.
fn shown(text: &[u8]) -> String {
    let text = String::from_utf8_lossy(text);
    text.chars().take(SHOWN).map(|c| if c.is_control() { ' ' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::table::TableSpec;

    fn maps(rules: &str) -> Maps {
        let spec: TableSpec = "pcre:/etc/checks".parse().unwrap();
        Maps::new(vec![spec.table(rules).unwrap()])
    }

    fn seen((edit, note): (Edit<'_>, Option<Note>)) -> (String, String) {
        let text = |text: &[u8]| String::from_utf8_lossy(text).into_owned();
        let edit = match edit {
            Edit::Keep => "keep".to_owned(),
            Edit::Drop => "drop".to_owned(),
            Edit::Replace(with) => format!("replace {}", text(&with)),
            Edit::Prepend(with) => format!("prepend {}", text(&with)),
        };
        (edit, note.map(|note| note.to_string()).unwrap_or_default())
    }

    // Specification section 10, actions at delivery time.
    #[test]
    fn each_action_does_what_it_says_and_no_more() {
        let rules = "/^A:/ ignore\n/^B:/ STRIP why\n/^C: (.*)/ REPLACE X-C: $1\n/^D:/ PREPEND X-D: 1\n/^E:/ INFO why\n\
            /^F:/ WARN\n/^G:/ DUNNO\n/^H:/ OK\n/^I:/ REPLACE no field\n/^J:/ REJECT go away\n/^K:/ NONSENSE\n/^L:/ REPLACE\n";
        let checks = Checks { header: maps(rules), ..Checks::default() };
        for (field, edit, note) in [
            ("A: 1", "drop", ""),
            ("B: 1", "drop", "strip: header B: 1: why"),
            ("C: 1\n 2", "replace X-C: 1\n 2", "replace: header C: 1  2: X-C: 1  2"),
            ("D: 1", "prepend X-D: 1", "prepend: header D: 1: X-D: 1"),
            ("E: 1", "keep", "info: header E: 1: why"),
            ("F: 1", "keep", "warning: header F: 1"),
            ("G: 1", "keep", ""),
            ("H: 1", "keep", ""),
            ("I: 1", "keep", "warning: header I: 1: `REPLACE no field`: the text is no `name: value`"),
            ("J: 1", "keep", "warning: header J: 1: `REJECT go away`: not supported on delivery"),
            ("K: 1", "keep", "warning: header K: 1: `NONSENSE`: no such action"),
            ("L: 1", "keep", "warning: header L: 1: `REPLACE`: the text is no `name: value`"),
            ("M: 1", "keep", ""),
        ] {
            let found = seen(checks.field(Class::Primary, field.as_bytes()));
            assert_eq!(found, (edit.to_owned(), note.to_owned()), "{field}");
        }
    }

    // Specification section 10: classes do not inherit from each other.
    #[test]
    fn each_class_has_tables_of_its_own() {
        let checks = Checks {
            header: maps("/^X:/ REPLACE X: primary"),
            mime_header: maps("/^X:/ REPLACE X: mime"),
            nested_header: maps("/^X:/ REPLACE X: nested"),
            body: maps("/^X:/ REPLACE body"),
        };
        for (class, expected) in
            [(Class::Primary, "primary"), (Class::Mime, "mime"), (Class::Nested, "nested")]
        {
            assert_eq!(seen(checks.field(class, b"x: 1")).0, format!("replace X: {expected}"));
        }
        assert_eq!(
            seen(checks.line(b"x: 1")),
            ("replace body".to_owned(), "replace: body x: 1: body".to_owned())
        );
        assert!(!checks.is_empty() && Checks::default().is_empty());
    }

    #[test]
    fn notes_are_short_and_hold_nothing_that_steers_a_terminal() {
        let checks = Checks { body: maps("/./ WARN \u{1b}[2J"), ..Checks::default() };
        let (_, note) = seen(checks.line("\u{1b}]x\u{7}".repeat(1_000).as_bytes()));
        assert!(note.len() < 300 && !note.chars().any(char::is_control), "{note}");
    }
}
