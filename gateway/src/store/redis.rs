//! Redis, or a server that speaks its protocol: what several gateways have together.

mod amounts;
mod link;
mod rows;

pub(super) use amounts::Amounts;
pub(super) use rows::Rows;
