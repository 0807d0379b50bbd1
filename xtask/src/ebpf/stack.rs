//! How often the kernel program writes to its stack where packets at full speed pass (`ARCHITECTURE.md`, rule 10).
//!
//! Counted in the object that was built, function by function, since the compiler decides what lies on the stack. A store
//! through a register that holds an address of the stack is not seen: it comes with others that are.

use std::collections::BTreeMap;
use std::fs;

use anyhow::{Context as _, ensure};
use object::{Object as _, ObjectSection as _, ObjectSymbol as _, SymbolKind};

use crate::say;

/// Writes to the stack, all functions but [`COLD`] together, when they were last recorded here. Fewer are welcome, and are
/// recorded in their turn.
const RECORDED: usize = 63;

/// Modules and functions that few packets meet: those that open or close a connection, errors, events, refusals.
const COLD: [&str; 10] = [
    "Here::note",
    "counter::tell",
    "gateway_listener",
    "icmp",
    "ingress::log",
    "knows_cookie",
    "quarantine",
    "read_options",
    "refuse",
    "translate::catch",
];

/// Octets of an instruction (RFC 9669); one with a constant of 64 bits has twice as many.
const LENGTH: usize = 8;
const LOAD_CONSTANT: u8 = 0x18;
/// The lowest three bits of an instruction's first octet: what kind it is.
const KIND: u8 = 0x07;
/// A constant is stored.
const STORE: u8 = 0x02;
/// A register is stored, or something is changed in one step.
const STORE_REGISTER: u8 = 0x03;
/// The register with the address of the stack, in the lower half of the second octet for what is written to.
const STACK: u8 = 10;

/// Fails when the object that was built writes to the stack more often than recorded.
pub(crate) fn check() -> anyhow::Result<()> {
    let bytes = fs::read(super::object()).context("cannot read the eBPF object")?;
    let hot = hot(&bytes)?;
    let count: usize = hot.values().sum();
    let list: Vec<_> = hot.iter().map(|(name, count)| format!("{count:6} {name}")).collect();
    ensure!(
        count <= RECORDED,
        "the kernel program writes to its stack {count} times where packets at full speed pass, {RECORDED} are \
         recorded (rule 10 of ARCHITECTURE.md); in\n{}\nPut what it needs into maps, or record the new number in {}",
        list.join("\n"),
        file!()
    );
    let told = if count < RECORDED { ": record it" } else { "" };
    say::fine(&format!("{count} writes to the stack of the kernel program, {RECORDED} recorded{told}"));
    Ok(())
}

/// The functions that are not [`COLD`] and write to the stack, with how often they do.
fn hot(bytes: &[u8]) -> anyhow::Result<BTreeMap<String, usize>> {
    let object = object::File::parse(bytes).context("the eBPF object")?;
    let mut counts = BTreeMap::new();
    let mut functions = 0;
    for symbol in object.symbols().filter(|symbol| symbol.kind() == SymbolKind::Text && symbol.size() > 0) {
        let name = symbol.name().context("a function without a name")?;
        let section = symbol.section_index().context("a function without a section")?;
        let section = object.section_by_index(section)?;
        let code = section.data_range(symbol.address(), symbol.size())?;
        let code = code.with_context(|| format!("{name} is not in its section"))?;
        functions += 1;
        let count = writes(code);
        if count > 0 && !COLD.iter().any(|cold| is_in(name, cold)) {
            counts.insert(name.to_owned(), count);
        }
    }
    ensure!(functions > COLD.len(), "the eBPF object has {functions} functions only");
    Ok(counts)
}

/// Whether a symbol is `path` or in it, which is mangled as RFC 2603 has it: each part behind its length.
fn is_in(symbol: &str, path: &str) -> bool {
    let mangled: String = path.split("::").map(|part| format!("{}{part}", part.len())).collect();
    symbol == path || symbol.contains(&mangled)
}

/// How many instructions of a function write to the stack.
fn writes(code: &[u8]) -> usize {
    let mut count = 0;
    let mut instructions = code.chunks_exact(LENGTH);
    while let Some([operation, registers, ..]) = instructions.next() {
        if *operation == LOAD_CONSTANT {
            // The rest of the constant.
            instructions.next();
        } else if matches!(operation & KIND, STORE | STORE_REGISTER) && registers & 0x0f == STACK {
            count += 1;
        }
    }
    count
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_to_the_stack_is_told_from_the_rest() {
        let code = [
            // *(u64 *)(r10 - 8) = 0, *(u32 *)(r10 - 16) = r1, lock *(u64 *)(r10 - 8) += r1
            [0x7a, 0x0a, 0xf8, 0xff, 0, 0, 0, 0],
            [0x63, 0x1a, 0xf0, 0xff, 0, 0, 0, 0],
            [0xdb, 0x1a, 0xf8, 0xff, 0, 0, 0, 0],
            // *(u64 *)(r1 + 8) = r10, r2 = *(u64 *)(r10 - 8), r10 is read and never written to
            [0x7b, 0xa1, 0x08, 0, 0, 0, 0, 0],
            [0x79, 0xa2, 0xf8, 0xff, 0, 0, 0, 0],
            // A constant, the second half of which looks like a store.
            [0x18, 0x01, 0, 0, 0x7a, 0x0a, 0, 0],
            [0x7a, 0x0a, 0, 0, 0, 0, 0, 0],
            [0x95, 0, 0, 0, 0, 0, 0, 0],
        ];
        assert_eq!(writes(code.as_flattened()), 3);
    }

    #[test]
    fn what_is_cold_is_told_by_mangled_names() {
        let symbol = |rest: &str| format!("_RNvNtCsir8SwzFwth_12gateway_ebpf{rest}");
        assert!(is_in(&symbol("4icmp5quote"), "icmp"));
        assert!(is_in(&symbol("7ingress3log"), "ingress::log"));
        assert!(!is_in(&symbol("7ingress5judge"), "ingress::log"));
        assert!(!is_in(&symbol("9translate7forward"), "translate::catch"));
        assert!(is_in("gateway_listener", "gateway_listener"));
    }
}
