//! Giving up power, for good.
//!
//! Owns how a process becomes an account of its own with no capability but the one it was left,
//! and the proof that there is no way back. Never decides who needs what: the caller says.

use std::io;

use rustix::process::DumpableBehavior;

pub mod capabilities;
pub mod resources;
pub mod sandbox;
pub mod user;

pub use user::Account;

use capabilities::Kept;

/// What a process may still do after [`give_up`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keep {
    /// Nothing that needs a capability.
    Nothing,
    /// Sockets bound to foreign addresses, and packet marks: `CAP_NET_RAW`
    /// (`ip(7)`, `IP_TRANSPARENT`; `socket(7)`, `SO_MARK`).
    TransparentSockets,
    /// Questions to connection tracking: `CAP_NET_ADMIN` (`nfnetlink.c`).
    Conntrack,
}

/// Leaves a process that started as root no more than the datapath process needs.
///
/// It, and whatever it starts, can load no modules, mount nothing, use no raw devices, trace
/// nobody, set no clock. Called before any thread.
///
/// # Errors
///
/// When a step fails.
pub fn narrow() -> Result<(), Error> {
    if capabilities::may_set()? {
        capabilities::narrow_bounding_set(Kept::datapath())?;
    }
    capabilities::narrow(Kept::datapath())?;
    step("forbid new privileges", rustix::thread::set_no_new_privs(true))
}

/// Why power could not be given up. The process must end: it may be half way.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The account cannot be used.
    #[error(transparent)]
    Account(#[from] user::Error),
    /// Started as root without an account to become.
    #[error("started as root without an account to change to")]
    NoAccount,
    /// A step failed.
    #[error("cannot {step}")]
    Step {
        /// What was tried.
        step: &'static str,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// A step seemed to succeed, and the proof found that it had not.
    #[error("power was not given up: {0}")]
    StillPowerful(String),
}

/// The steps after which every process has to prove that it is harmless, as an error's context.
fn step<T, E: Into<io::Error>>(step: &'static str, done: Result<T, E>) -> Result<T, Error> {
    done.map_err(|source| Error::Step { step, source: source.into() })
}

/// Becomes `account` (only where started as root), keeps what `keep` says, and proves it.
///
/// Capabilities belong to threads, so this is called before any thread and any runtime is there,
/// and before the process holds descriptors worth having. [`sandbox::enter`], which would forbid the
/// calls made here, comes behind it.
///
/// `makes_maps` tries to make an eBPF map that unprivileged processes never may; it must fail.
///
/// # Errors
///
/// When a step fails or the proof does; the process must then end.
pub fn give_up(
    account: Option<&Account>,
    keep: Keep,
    makes_maps: impl FnOnce() -> bool,
) -> Result<(), Error> {
    let kept = Kept::from(keep);
    let root = user::is_root();
    let account = match (root, account) {
        (true, None) => return Err(Error::NoAccount),
        (true, account) => account,
        (false, _) => None,
    };
    let bounded = capabilities::may_set()?;
    if bounded {
        capabilities::lock_secure_bits()?;
        capabilities::narrow_bounding_set(kept)?;
    }
    if let Some(account) = account {
        account.assume()?;
    }
    capabilities::narrow(kept)?;
    step("forbid new privileges", rustix::thread::set_no_new_privs(true))?;
    step(
        "forbid core files and tracing",
        rustix::process::set_dumpable_behavior(DumpableBehavior::NotDumpable),
    )?;

    capabilities::prove(kept, bounded)?;
    if user::can_become_root() {
        return Err(Error::StillPowerful("the process can become root again".to_owned()));
    }
    if makes_maps() {
        return Err(Error::StillPowerful("the process can make eBPF maps".to_owned()));
    }
    Ok(())
}
