//! `gateway proxy`: what the datapath process starts. Not for operators.

use std::process::ExitCode;

use anyhow::Context as _;
use nix::sys::signal::{SigSet, Signal};

use crate::datapath::probe;
use crate::ipc::channel::take_stdin;
use crate::privilege::{Account, Keep};
use crate::{daemon, privilege};

/// Arguments of `gateway proxy`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The account to become, if started as root.
    #[arg(long)]
    account: Option<String>,
    /// Its first group, if not its own.
    #[arg(long, requires = "account", default_value = "")]
    group: String,
    /// Keep what sockets with foreign addresses need.
    #[arg(long)]
    transparent_sockets: bool,
}

/// Gives up all power, then serves flows until the channel on standard input closes.
pub(super) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let channel = take_stdin().context("`gateway run` starts this command; it is of no use by itself")?;
    // `ps` shall not call it by the name it was started under, /proc/self/exe.
    rustix::thread::set_name(c"gateway-proxy").context("cannot name the process")?;
    leave_signals_to_parent()?;
    let find = |name| Account::find(name)?.with_group(&args.group);
    let account = args.account.as_deref().map(find).transpose()?;
    let keep = if args.transparent_sockets { Keep::TransparentSockets } else { Keep::Nothing };
    privilege::give_up(account.as_ref(), keep, probe::makes_maps)?;
    // After the change of account, which takes this back. Without its parent, steered flows reach
    // this process no more, and the next parent must find its addresses free.
    rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL))
        .context("cannot tie the process to its parent")?;
    daemon::run(channel)?;
    Ok(ExitCode::SUCCESS)
}

/// This process ends when its parent says so over the channel, or ends itself. A signal
/// to all processes of a service or a terminal is for the parent, which drains this one.
fn leave_signals_to_parent() -> anyhow::Result<()> {
    let signals = [Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP];
    signals.into_iter().collect::<SigSet>().thread_block().context("cannot block signals")?;
    Ok(())
}
