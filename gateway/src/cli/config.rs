//! `gateway config`: the configuration in force, and what may stand in one.

use std::process::ExitCode;

use clap::Subcommand;

use super::{ConfigArg, check, socket};
use crate::config::{self, Config};

/// Arguments of `gateway config`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Print the configuration with every key, those left out at their defaults.
    Show {
        #[command(flatten)]
        config: ConfigArg,
        /// Print the defaults and read no file.
        #[arg(long)]
        defaults: bool,
    },
    /// Print the JSON Schema of the configuration, for editors.
    Schema,
    /// Print the reference of all keys as Markdown.
    Reference,
}

/// Prints what was asked for.
pub(super) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let text = match &args.what {
        What::Show { defaults: true, .. } => config::to_yaml(&Config::default()),
        What::Show { config, defaults: false } => match check::examine(&config.config)? {
            Ok((config, _)) => config::to_yaml(&config),
            Err(problems) => return Err(problems.into()),
        },
        What::Schema => config::schema(),
        What::Reference => config::reference(),
    };
    socket::say(&text)?;
    Ok(ExitCode::SUCCESS)
}
