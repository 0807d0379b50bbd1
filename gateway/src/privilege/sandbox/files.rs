//! Landlock (`landlock(7)`): files, signals, abstract sockets, TCP ports.

use landlock::{
    ABI, Access as _, AccessFs, AccessNet, NetPort, PathBeneath, PathFd, Ruleset, RulesetAttr as _,
    RulesetCreatedAttr as _, RulesetError, RulesetStatus, Scope,
};
use tracing::debug;

use super::{Enforced, Reach};

/// The rules are those of Linux 6.12; older kernels enforce what they have of them.
const RULES: ABI = ABI::V6;

/// What is allowed in a folder of one's own: regular files and folders, no devices, no sockets,
/// nothing to execute.
fn own() -> landlock::BitFlags<AccessFs> {
    AccessFs::ReadFile
        | AccessFs::ReadDir
        | AccessFs::WriteFile
        | AccessFs::Truncate
        | AccessFs::MakeReg
        | AccessFs::MakeDir
        | AccessFs::RemoveFile
        | AccessFs::RemoveDir
        | AccessFs::Refer
}

/// Restricts the calling thread.
///
/// No port but 0, the kernel's choice, can be bound: listeners are handed over. Which ports may be
/// connected to is not restricted: it is for clients to choose their servers.
pub(super) fn restrict(reach: &Reach) -> Result<Enforced, RulesetError> {
    let mut rules = Ruleset::default()
        .handle_access(AccessFs::from_all(RULES))?
        .handle_access(AccessNet::BindTcp)?
        .scope(Scope::from_all(RULES))?
        .create()?
        .add_rule(NetPort::new(0, AccessNet::BindTcp))?;
    let paths = reach.folders.keys().map(|path| (path, own()));
    let paths = paths.chain(reach.reads.keys().map(|path| (path, AccessFs::ReadFile | AccessFs::ReadDir)));
    for (path, allowed) in paths {
        match PathFd::new(path) {
            // Only folders have entries.
            Ok(fd) if path.is_dir() => rules = rules.add_rule(PathBeneath::new(fd, allowed))?,
            Ok(fd) => {
                rules = rules.add_rule(PathBeneath::new(fd, allowed & AccessFs::from_file(RULES)))?;
            }
            // What is not there needs no rule; whoever needs it says so in its own words.
            Err(error) => debug!(path = %path.display(), %error, "not in the sandbox"),
        }
    }
    Ok(match rules.restrict_self()?.ruleset {
        RulesetStatus::FullyEnforced => Enforced::Fully,
        RulesetStatus::PartiallyEnforced => Enforced::Partly,
        RulesetStatus::NotEnforced => Enforced::SystemCalls,
    })
}
