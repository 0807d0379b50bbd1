//! The JSON Schema of the configuration.

use super::file::Config;

/// The JSON Schema of `gateway.yaml`, for editors and for other programs that write one.
#[must_use]
pub fn schema() -> String {
    let mut text = format!("{:#}", schemars::schema_for!(Config).as_value());
    text.push('\n');
    text
}
