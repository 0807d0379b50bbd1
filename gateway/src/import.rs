//! Configurations of other systems, turned into `gateway.yaml`.
//!
//! Pure: text in, text or problems out. What comes out is read by [`crate::config`] like any other
//! file, so nothing here has to be believed.

pub mod main_cf;
pub mod smtp_gated;
mod yaml;

use crate::config::Problems;

/// What an import gives.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Imported {
    /// The text of a `gateway.yaml`.
    pub yaml: String,
    /// What changed its meaning, or has none here.
    pub warnings: Problems,
}
