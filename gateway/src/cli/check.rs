//! `gateway check`.

use std::process::ExitCode;

use super::ConfigArg;

/// Arguments of `gateway check`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    config: ConfigArg,
}

/// Checks a configuration.
pub(super) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    anyhow::bail!("cannot check {} yet", args.config.config.display())
}
