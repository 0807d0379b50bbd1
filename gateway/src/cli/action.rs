//! `gateway action`: what the datapath process starts. Not for operators.

use std::process::ExitCode;

use anyhow::Context as _;

use crate::datapath::probe;
use crate::ipc::Channel;
use crate::ipc::channel::take_stdin;
use crate::privilege::{Account, Keep};
use crate::{action, privilege};

/// Arguments of `gateway action`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The account to become, if started as root.
    #[arg(long)]
    account: Option<String>,
}

/// Gives up all power, then runs scripts until the channel on standard input closes.
pub(super) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    // Whatever the gateway was started with is no script's business.
    privilege::resources::close_inherited().context("cannot close what was inherited")?;
    let channel = take_stdin().context("`gateway run` starts this command; it is of no use by itself")?;
    rustix::thread::set_name(c"gateway-action").context("cannot name the process")?;
    nix::unistd::setsid().context("cannot leave the terminal")?;
    let account = args.account.as_deref().map(Account::find).transpose()?;
    privilege::give_up(account.as_ref(), Keep::Nothing, probe::makes_maps)?;
    privilege::resources::limit_scripts()?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async { action::serve(Channel::new(channel)?).await })?;
    Ok(ExitCode::SUCCESS)
}
