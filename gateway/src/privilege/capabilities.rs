//! The capability sets of a thread (`capabilities(7)`).
//!
//! Owns the order in which they are narrowed, and the reading of `/proc/thread-self/status` that
//! proves it.

use std::fs;
use std::io;

use rustix::io::Errno;
use rustix::thread::{CapabilitiesSecureBits, CapabilitySet, CapabilitySets};

use super::{Error, Keep, step};

/// The capabilities that stay.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kept(CapabilitySet);

impl From<Keep> for Kept {
    fn from(keep: Keep) -> Self {
        Self(match keep {
            Keep::Nothing => CapabilitySet::empty(),
            Keep::TransparentSockets => CapabilitySet::NET_RAW,
            Keep::Conntrack => CapabilitySet::NET_ADMIN,
        })
    }
}

impl Kept {
    /// What loads programs and sets up routes and sockets (`BPF`, `NET_*`), what makes files for
    /// another account, and what starts, stops and changes a process of another account. `PERFMON`
    /// is not among them: it would relax what the verifier asks of the program.
    pub(super) fn datapath() -> Self {
        Self(DATAPATH.iter().fold(CapabilitySet::empty(), |all, (one, _)| all.union(*one)))
    }
}

/// What the datapath process needs, and the names of `capabilities(7)`.
const DATAPATH: [(CapabilitySet, &str); 11] = [
    (CapabilitySet::BPF, "CAP_BPF"),
    (CapabilitySet::NET_ADMIN, "CAP_NET_ADMIN"),
    (CapabilitySet::NET_RAW, "CAP_NET_RAW"),
    (CapabilitySet::NET_BIND_SERVICE, "CAP_NET_BIND_SERVICE"),
    (CapabilitySet::SETUID, "CAP_SETUID"),
    (CapabilitySet::SETGID, "CAP_SETGID"),
    (CapabilitySet::SETPCAP, "CAP_SETPCAP"),
    (CapabilitySet::KILL, "CAP_KILL"),
    (CapabilitySet::CHOWN, "CAP_CHOWN"),
    // For folders and files of other accounts that an operator names; not missed where they are
    // root's own.
    (CapabilitySet::DAC_OVERRIDE, ""),
    (CapabilitySet::FOWNER, ""),
];

/// The names of those capabilities of the datapath process that this process lacks.
///
/// # Errors
///
/// When the kernel does not say what it has.
pub fn missing() -> Result<Vec<&'static str>, Error> {
    let has = step("read the capabilities", rustix::thread::capabilities(None))?.permitted;
    let lacks = |(one, name): &(CapabilitySet, &'static str)| {
        (!name.is_empty() && !has.contains(*one)).then_some(*name)
    };
    Ok(DATAPATH.iter().filter_map(lacks).collect())
}

/// The bits by which a user id of 0 means nothing any more, each locked.
const SECURE_BITS: CapabilitiesSecureBits = CapabilitiesSecureBits::NO_ROOT
    .union(CapabilitiesSecureBits::NO_ROOT_LOCKED)
    .union(CapabilitiesSecureBits::NO_SETUID_FIXUP)
    .union(CapabilitiesSecureBits::NO_SETUID_FIXUP_LOCKED)
    .union(CapabilitiesSecureBits::KEEP_CAPS_LOCKED)
    .union(CapabilitiesSecureBits::NO_CAP_AMBIENT_RAISE)
    .union(CapabilitiesSecureBits::NO_CAP_AMBIENT_RAISE_LOCKED);

/// Whether the thread may change its bounding set and secure bits. Without `CAP_SETPCAP` it may
/// not, and then `no_new_privs` alone keeps the bounding set from ever mattering.
pub(super) fn may_set() -> Result<bool, Error> {
    let sets = step("read the capabilities", rustix::thread::capabilities(None))?;
    Ok(sets.effective.contains(CapabilitySet::SETPCAP))
}

/// Takes the meaning from user id 0, irrevocably.
pub(super) fn lock_secure_bits() -> Result<(), Error> {
    step("lock the secure bits", rustix::thread::set_capabilities_secure_bits(SECURE_BITS))
}

/// Takes from the bounding set whatever does not stay, also capabilities that are newer than this
/// program.
pub(super) fn narrow_bounding_set(kept: Kept) -> Result<(), Error> {
    for number in 0..u64::BITS {
        let capability = CapabilitySet::from_bits_retain(1 << number);
        match rustix::thread::capability_is_in_bounding_set(capability) {
            Ok(true) if !kept.0.contains(capability) => step(
                "narrow the bounding set",
                rustix::thread::remove_capability_from_bounding_set(capability),
            )?,
            Ok(_) => {}
            // Past the last capability the kernel knows.
            Err(Errno::INVAL) => break,
            Err(error) => return step("read the bounding set", Err(error)),
        }
    }
    Ok(())
}

/// Leaves the thread no more than `kept`, and no more than it has.
pub(super) fn narrow(kept: Kept) -> Result<(), Error> {
    let had = step("read the capabilities", rustix::thread::capabilities(None))?;
    let stays = had.permitted.intersection(kept.0);
    let sets = CapabilitySets { effective: stays, permitted: stays, inheritable: CapabilitySet::empty() };
    // A capability that is not inheritable cannot be ambient: the kernel takes it away here too.
    step("drop the capabilities", rustix::thread::set_capabilities(None, sets))
}

/// Reads back what the kernel says of this thread; of its bounding set only where that could be
/// narrowed.
pub(super) fn prove(kept: Kept, bounded: bool) -> Result<(), Error> {
    let mut sets = vec!["CapInh:", "CapPrm:", "CapEff:", "CapAmb:"];
    if bounded {
        sets.push("CapBnd:");
    }
    let status = step("read /proc/thread-self/status", fs::read_to_string("/proc/thread-self/status"))?;
    excess(&status, &sets, kept)
        .ok_or_else(|| Error::Step {
            step: "find the capabilities in /proc/thread-self/status",
            source: io::Error::from(io::ErrorKind::InvalidData),
        })?
        .map_or(Ok(()), |line| Err(Error::StillPowerful(line)))
}

/// The line of `status`, one of `sets`, that shows more than `kept`; `Some(None)` where there is none, `None`
/// where the lines are missing.
fn excess(status: &str, sets: &[&str], kept: Kept) -> Option<Option<String>> {
    let field = |name: &str| status.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
    if field("NoNewPrivs:")? != "1" {
        return Some(Some("NoNewPrivs is not set".to_owned()));
    }
    for name in sets {
        let text = field(name)?;
        let set = CapabilitySet::from_bits_retain(u64::from_str_radix(text, 16).ok()?);
        if !kept.0.contains(set) {
            return Some(Some(format!("{name} {text}")));
        }
    }
    Some(None)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SETS: [&str; 5] = ["CapInh:", "CapPrm:", "CapEff:", "CapBnd:", "CapAmb:"];
    const HARMLESS: &str = "Name:\tgateway\nCapInh:\t0000000000000000\nCapPrm:\t0000000000002000\n\
        CapEff:\t0000000000002000\nCapBnd:\t0000000000002000\nCapAmb:\t0000000000000000\nNoNewPrivs:\t1\n";

    #[test]
    fn net_raw_is_no_excess_where_it_is_kept_and_one_where_it_is_not() {
        assert_eq!(excess(HARMLESS, &SETS, Keep::TransparentSockets.into()), Some(None));
        let line = excess(HARMLESS, &SETS, Keep::Nothing.into());
        assert_eq!(line, Some(Some("CapPrm: 0000000000002000".to_owned())));
    }

    #[test]
    fn each_set_counts_and_so_does_no_new_privs() {
        for set in SETS {
            let (before, after) = HARMLESS.split_once(&format!("{set}\t")).unwrap();
            let status = format!("{before}{set}\t{}{}", "0000000000001000", after.get(16..).unwrap());
            let line = excess(&status, &SETS, Keep::TransparentSockets.into());
            assert_eq!(line, Some(Some(format!("{set} 0000000000001000"))));
        }
        let status = HARMLESS.replace("NoNewPrivs:\t1", "NoNewPrivs:\t0");
        assert!(excess(&status, &SETS, Keep::TransparentSockets.into()).unwrap().is_some());
    }

    #[test]
    fn a_status_that_does_not_say_proves_nothing() {
        assert_eq!(excess("Name:\tgateway\nNoNewPrivs:\t1\n", &SETS, Keep::Nothing.into()), None);
        assert_eq!(excess("", &SETS, Keep::Nothing.into()), None);
    }
}
