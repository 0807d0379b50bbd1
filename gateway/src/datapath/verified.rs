//! How much of the kernel's verifier the programs take.
//!
//! The verifier gives up after a million instructions, and older kernels follow more of them than new
//! ones: the programs stay far below, and a change that doubles what they take is noticed at once.

use gateway_common::name;

/// Instructions that Linux 6.18 followed when they were last recorded here, asked by a process with the capabilities
/// of the gateway.
pub const RECORDED: [(&str, u32); 2] = [(name::PROGRAM, 57_624), (name::EGRESS_PROGRAM, 7_296)];

/// Instructions that the running kernel followed; absent where it does not say (before 5.16).
pub type Verified = [(&'static str, Option<u32>); 2];

/// The programs that take more than twice as much as recorded.
pub fn doubled(verified: &Verified) -> impl Iterator<Item = &'static str> {
    verified.iter().zip(RECORDED).filter_map(|((name, followed), (_, recorded))| {
        followed.is_some_and(|followed| followed > recorded.saturating_mul(2)).then_some(*name)
    })
}

/// For people: each program with its number.
#[must_use]
pub fn shown(verified: &Verified) -> String {
    let each = verified.iter().filter_map(|(name, followed)| Some(format!("{name} {}", (*followed)?)));
    each.collect::<Vec<_>>().join(", ")
}
