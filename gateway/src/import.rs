//! Configurations of other systems, turned into `gateway.yaml`.
//!
//! Pure: text in, text or problems out. What comes out is read by [`crate::config`] like any other
//! file, so nothing here has to be believed.

pub mod main_cf;
pub mod smtp_gated;
mod yaml;

use std::fmt;

use crate::config::Problems;

/// What an import gives.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Imported {
    /// The text of a `gateway.yaml`.
    pub yaml: String,
    /// What changed its meaning, or has none here.
    pub warnings: Told,
}

impl Imported {
    fn new(yaml: String, mut problems: Vec<Problems>) -> Result<Self, Told> {
        problems.retain(|problems| !problems.is_empty());
        problems.iter_mut().for_each(Problems::sort);
        let refused = problems.iter().any(Problems::has_errors);
        let told = Told(problems);
        if refused { Err(told) } else { Ok(Self { yaml, warnings: told }) }
    }
}

/// What there is to tell of each file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Told(Vec<Problems>);

impl Told {
    /// Whether it is nothing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl fmt::Display for Told {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (position, problems) in self.0.iter().enumerate() {
            if position > 0 {
                writeln!(f)?;
            }
            write!(f, "{problems}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Told {}
