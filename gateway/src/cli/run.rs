//! `gateway run`.

use std::process::ExitCode;

use super::ConfigArg;

/// Arguments of `gateway run`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    config: ConfigArg,
}

/// Runs the gateway until it is told to stop.
pub(super) fn run(args: Args) -> anyhow::Result<ExitCode> {
    anyhow::bail!("cannot run {} yet", args.config.config.display())
}
