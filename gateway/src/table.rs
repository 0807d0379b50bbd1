//! Look-up tables: keys to values, as an operator writes them.
//!
//! Owns the formats: `texthash`, `inline`, `static`, `cidr`, `regexp` and `pcre`, in Postfix's notation
//! (texthash(5), cidr_table(5), regexp_table(5), pcre_table(5)). Opens no files, and does not know what keys mean.
//! Expressions are those of the linear engine: time grows with the text, whatever the pattern.
#![warn(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

mod cidr;
mod exact;
mod line;
mod pattern;
mod spec;

use std::borrow::Cow;
use std::fmt;

use cidr::Networks;
use exact::Exact;
use pattern::Patterns;

pub use spec::{Kind, SpecError, TableSpec};

/// Most problems of one table that are told.
const MOST_PROBLEMS: usize = 20;

/// A table in memory.
#[derive(Clone, Debug)]
pub struct Table(Form);

#[derive(Clone, Debug)]
enum Form {
    /// The same value for every key.
    Static(String),
    /// A value for each key, in any case.
    Exact(Exact),
    /// Values for what matches patterns.
    Patterns(Patterns),
    /// Values for networks of addresses.
    Networks(Networks),
}

impl Table {
    /// The value for `key`: a string of octets, or an address.
    #[must_use]
    pub fn find(&self, key: &[u8]) -> Option<Cow<'_, [u8]>> {
        match &self.0 {
            Form::Static(value) => Some(Cow::Borrowed(value.as_bytes())),
            Form::Exact(exact) => exact.find(key).map(|value| Cow::Borrowed(value.as_bytes())),
            Form::Patterns(patterns) => patterns.find(key),
            Form::Networks(networks) => networks.find(key).map(|value| Cow::Borrowed(value.as_bytes())),
        }
    }

    /// Whether it has values for keys, and not for what keys are made of: only then it makes sense to
    /// ask for parts of a key, such as the domain of an address.
    #[must_use]
    pub const fn is_exact(&self) -> bool {
        matches!(self.0, Form::Exact(_))
    }
}

/// Tables that are asked one behind the other.
#[derive(Clone, Debug, Default)]
pub struct Maps(Vec<Table>);

impl Maps {
    /// The tables in the order in which they are asked.
    #[must_use]
    pub const fn new(tables: Vec<Table>) -> Self {
        Self(tables)
    }

    /// Whether there is no table.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The first value for `key`.
    #[must_use]
    pub fn find(&self, key: &[u8]) -> Option<Cow<'_, [u8]>> {
        self.0.iter().find_map(|table| table.find(key))
    }

    /// The first value for `key`, as text; octets that are no UTF-8 are replaced.
    #[must_use]
    pub fn text(&self, key: &str) -> Option<String> {
        self.find(key.as_bytes()).map(|value| String::from_utf8_lossy(&value).into_owned())
    }

    /// The first of `keys` that has a value, by its place, and the value. Tables of patterns, networks and
    /// static tables are asked for the first key only.
    #[must_use]
    pub fn first_of(&self, keys: &[&str]) -> Option<(usize, String)> {
        keys.iter().enumerate().find_map(|(number, key)| {
            let mut asked = self.0.iter().filter(|table| number == 0 || table.is_exact());
            let found = asked.find_map(|table| table.find(key.as_bytes()));
            found.map(|value| (number, String::from_utf8_lossy(&value).into_owned()))
        })
    }
}

/// What is wrong with a table: for the operator.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TableProblems {
    /// The table as it was named.
    pub name: String,
    /// Lines, from 1, and what is wrong with each; not more than 20.
    pub list: Vec<(usize, String)>,
    /// Whether there are more.
    pub more: bool,
}

impl TableProblems {
    fn new(name: &str) -> Self {
        Self { name: name.to_owned(), list: Vec::new(), more: false }
    }

    fn add(&mut self, line: usize, message: impl Into<String>) {
        if self.list.len() < MOST_PROBLEMS {
            self.list.push((line, message.into()));
        } else {
            self.more = true;
        }
    }

    fn or<T>(self, value: T) -> Result<T, Self> {
        if self.list.is_empty() { Ok(value) } else { Err(self) }
    }
}

impl fmt::Display for TableProblems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (number, (line, message)) in self.list.iter().enumerate() {
            let end = if number == 0 { "" } else { "\n" };
            write!(f, "{end}{}:{line}: {message}", self.name)?;
        }
        if self.more {
            write!(f, "\n{}: there are more problems; correct these first", self.name)
        } else {
            Ok(())
        }
    }
}

impl std::error::Error for TableProblems {}
