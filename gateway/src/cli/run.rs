//! `gateway run`.

use std::os::fd::OwnedFd;
use std::process::ExitCode;

use anyhow::Context as _;

use super::ConfigArg;
use crate::datapath::source::Source;
use crate::datapath::takeover::predecessor;
use crate::{datapath, privilege, telemetry};

/// Arguments of `gateway run`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    config: ConfigArg,
    /// Take over from the gateway that starts this, by the channel on standard input.
    #[arg(long, hide = true)]
    take_over: bool,
}

/// Runs the gateway until it is told to stop, or another one has taken over.
pub(super) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let mut channel = args.take_over.then(predecessor::arrive).transpose()?;
    let ran = serve(args, &mut channel);
    if let (Err(error), Some(channel)) = (&ran, channel) {
        // It is still there if the start did not come as far as to greet the other process.
        predecessor::refuse(&channel, format!("{error:#}"));
    }
    ran?;
    Ok(ExitCode::SUCCESS)
}

fn serve(args: &Args, channel: &mut Option<OwnedFd>) -> anyhow::Result<()> {
    // The kernel is not touched before the configuration is known to be good.
    let source = Source::read(&args.config.config)?;
    // Limits and capabilities before the log, which starts a thread: threads keep what they had.
    datapath::raise_descriptor_limit();
    privilege::resources::set_priority(&source.config.process)?;
    // Without it, sessions that the kernel carries end with the gateway: `run` says so.
    datapath::pin::mount().ok();
    privilege::narrow()?;
    let logging = telemetry::log::start(&source.config.log, None)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot start the runtime")?;
    match channel.take() {
        Some(channel) => runtime.block_on(datapath::succeed(source, logging, channel))?,
        None => runtime.block_on(datapath::run(source, logging))?,
    }
    Ok(())
}
