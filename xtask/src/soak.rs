//! `cargo xtask soak`: gigabytes both ways at once through sessions that the kernel carries, over
//! links that lose, double, hold and reorder packets; every octet is compared.
//!
//! These are the lab's own tests with more octets.

use anyhow::bail;

use crate::{ebpf, machine, setup, step};

/// Says to the tests how many octets pass each way through one session.
const OCTETS: &str = "GATEWAY_SOAK_OCTETS";
/// Sessions among which they are divided: kinds of links, families, and source addresses.
const SESSIONS: u64 = 4 * 2 * 2;

/// Runs the tests with so many gigabytes each way.
pub(crate) fn run(gigabytes: u64) -> anyhow::Result<()> {
    if !machine::is_root() {
        bail!("the lab makes network namespaces and loads an eBPF program: run `cargo xtask soak` as root");
    }
    setup::all()?;
    ebpf::build()?;
    let octets = gigabytes.saturating_mul(1_000_000_000) / SESSIONS;
    let mut tests = step::cargo(&["test", "--release", "--package", "gateway-tests", "--test", "it"]);
    tests.args(["--", "--test-threads", "1", "--nocapture", "handoff::impaired"]);
    step::run(&format!("{gigabytes} GB each way over bad links"), tests.env(OCTETS, octets.to_string()))
}
