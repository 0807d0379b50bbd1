//! How a table is named: `type:name`.

use std::fmt;
use std::path::Path;
use std::str::FromStr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::cidr::Networks;
use super::exact::Exact;
use super::line::{Line, inline, logical};
use super::pattern::{Dialect, Patterns};
use super::{Form, Table, TableProblems};

/// A type of tables.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A file of keys and values.
    Texthash,
    /// Keys and values in braces.
    Inline,
    /// One value.
    Static,
    /// Networks.
    Cidr,
    /// Extended regular expressions.
    Regexp,
    /// Regular expressions in Perl's notation.
    Pcre,
}

const KINDS: &[(&str, Kind)] = &[
    ("texthash", Kind::Texthash),
    ("inline", Kind::Inline),
    ("static", Kind::Static),
    ("cidr", Kind::Cidr),
    ("regexp", Kind::Regexp),
    ("pcre", Kind::Pcre),
];

/// Types of Postfix that are made from the text that `texthash` reads itself.
const INDEXED: &[&str] = &["hash", "btree", "dbm", "sdbm", "lmdb", "cdb"];

/// A table as it is named, such as `texthash:/etc/gateway/generic`, `inline:{a.test=b.test}` or
/// `pcre:/etc/gateway/checks`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "String", into = "String")]
#[schemars(with = "String")]
pub struct TableSpec {
    kind: Kind,
    name: String,
}

/// What cannot name a table.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SpecError {
    /// No type, or one that is not known.
    #[error("`{0}` is no table; write `TYPE:NAME` with one of texthash, inline, static, cidr, regexp, pcre")]
    Kind(String),
    /// An index over a text file.
    #[error("`{0}` is read from its text; write `texthash:{1}`")]
    Indexed(String, String),
    /// A file that has no absolute path.
    #[error("`{0}` is no absolute path; write one, or the table itself in braces")]
    Path(String),
}

impl TableSpec {
    /// The file to be read for it; `None`: it is all here.
    #[must_use]
    pub fn file(&self) -> Option<&Path> {
        let needs_file = match self.kind {
            Kind::Texthash => true,
            Kind::Inline | Kind::Static => false,
            Kind::Cidr | Kind::Regexp | Kind::Pcre => !self.name.starts_with('{'),
        };
        needs_file.then(|| Path::new(&self.name))
    }

    /// Its type.
    #[must_use]
    pub const fn kind(&self) -> Kind {
        self.kind
    }

    /// The table; `text` is what its file holds.
    ///
    /// # Errors
    ///
    /// All lines that are wrong.
    pub fn table(&self, text: &str) -> Result<Table, TableProblems> {
        let name = self.file().map_or_else(|| self.to_string(), |file| file.display().to_string());
        let patterns = |dialect| Patterns::read(self.lines(text, &name)?, dialect, &name);
        Ok(Table(match self.kind {
            Kind::Texthash => Form::Exact(Exact::texthash(text, &name)?),
            Kind::Inline => Form::Exact(Exact::inline(&self.name, &name)?),
            Kind::Static => Form::Static(self.name.clone()),
            Kind::Cidr => Form::Networks(Networks::read(self.lines(text, &name)?, &name)?),
            Kind::Regexp => Form::Patterns(patterns(Dialect::Regexp)?),
            Kind::Pcre => Form::Patterns(patterns(Dialect::Pcre)?),
        }))
    }

    fn lines(&self, text: &str, name: &str) -> Result<Vec<Line>, TableProblems> {
        if self.file().is_some() {
            return Ok(logical(text));
        }
        let mut problems = TableProblems::new(name);
        let members = inline(&self.name).unwrap_or_else(|| {
            problems.add(1, "this is no list in braces; write `{ {one line}, {another} }`");
            Vec::new()
        });
        problems.or(members.into_iter().map(|text| Line { number: 1, text }).collect())
    }
}

impl FromStr for TableSpec {
    type Err = SpecError;

    fn from_str(text: &str) -> Result<Self, SpecError> {
        let bad = || SpecError::Kind(text.to_owned());
        let (word, name) = text.trim().split_once(':').ok_or_else(bad)?;
        if INDEXED.contains(&word) {
            return Err(SpecError::Indexed(text.to_owned(), name.to_owned()));
        }
        let (_, kind) = KINDS.iter().find(|(known, _)| *known == word).ok_or_else(bad)?;
        let spec = Self { kind: *kind, name: name.trim().to_owned() };
        match spec.file() {
            Some(path) if !path.is_absolute() => Err(SpecError::Path(spec.name)),
            _ => Ok(spec),
        }
    }
}

impl fmt::Display for TableSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let word = KINDS.iter().find(|(_, kind)| *kind == self.kind).map_or("", |(word, _)| word);
        write!(f, "{word}:{}", self.name)
    }
}

impl From<TableSpec> for String {
    fn from(spec: TableSpec) -> Self {
        spec.to_string()
    }
}

impl TryFrom<String> for TableSpec {
    type Error = SpecError;

    fn try_from(text: String) -> Result<Self, SpecError> {
        text.parse()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // Specification section 19 and issue 5: inline, or from files.
    #[test]
    fn tables_by_their_names() {
        for (spec, file, text, key, value) in [
            ("texthash:/etc/t", Some("/etc/t"), "a b", "a", Some("b")),
            ("inline:{a=b}", None, "", "a", Some("b")),
            ("static:b c", None, "", "any", Some("b c")),
            ("cidr:/etc/t", Some("/etc/t"), "10.0.0.0/8 b", "10.1.1.1", Some("b")),
            ("cidr:{ {10.0.0.0/8 b} }", None, "", "10.1.1.1", Some("b")),
            ("regexp:/etc/t", Some("/etc/t"), "/a+/ b", "caa", Some("b")),
            ("pcre:{ {/(a+)/ $1} }", None, "", "caa", Some("aa")),
            ("texthash:/etc/t", Some("/etc/t"), "", "a", None),
        ] {
            let spec: TableSpec = spec.parse().unwrap();
            assert_eq!(spec.file(), file.map(Path::new), "{spec}");
            let table = spec.table(text).unwrap();
            assert_eq!(table.find(key.as_bytes()).as_deref(), value.map(str::as_bytes), "{spec}");
            assert_eq!(spec.to_string().parse(), Ok(spec));
        }
    }

    #[test]
    fn what_is_no_table_is_told() {
        let error = |text: &str| text.parse::<TableSpec>().unwrap_err().to_string();
        assert!(error("hash:/etc/t").ends_with("write `texthash:/etc/t`"));
        assert!(error("ldap:/etc/t").contains("texthash, inline"));
        assert!(error("/etc/t").contains("TYPE:NAME"));
        assert!(error("texthash:t").contains("absolute path"));
        assert!("cidr:{ {x y}".parse::<TableSpec>().unwrap().table("").is_err());
    }
}
