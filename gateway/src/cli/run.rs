//! `gateway run`.

use std::process::ExitCode;

use anyhow::Context as _;

use super::ConfigArg;
use crate::datapath::source::Source;
use crate::{datapath, privilege, telemetry};

/// Arguments of `gateway run`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    config: ConfigArg,
}

/// Runs the gateway until it is told to stop.
pub(super) fn run(args: &Args) -> anyhow::Result<ExitCode> {
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
    runtime.block_on(datapath::run(source, logging))?;
    Ok(ExitCode::SUCCESS)
}
