//! `gateway import`: configurations of other systems.

use std::fs::File;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context as _;
use clap::Subcommand;

use super::{complain, socket};
use crate::{config, import};

/// Arguments of `gateway import`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(subcommand)]
    from: From,
}

#[derive(Debug, Subcommand)]
enum From {
    /// Print a `gateway.yaml` that does what a smtp-gated.conf says.
    SmtpGated {
        /// The file, mostly /etc/smtp-gated.conf.
        #[arg(value_name = "FILE", required_unless_present = "table")]
        file: Option<PathBuf>,
        /// Print what each option of smtp-gated is here, as Markdown.
        #[arg(long, conflicts_with = "file")]
        table: bool,
    },
    /// Print a `gateway.yaml` that delivers mail as a main.cf of Postfix says.
    #[command(name = "main.cf")]
    MainCf {
        /// The file, mostly /etc/postfix/main.cf.
        #[arg(value_name = "FILE", required_unless_present = "table")]
        file: Option<PathBuf>,
        /// Print what each parameter of Postfix is here, as Markdown.
        #[arg(long, conflicts_with = "file")]
        table: bool,
    },
}

/// Prints the configuration; what an operator should look at goes to standard error.
pub(super) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let (file, table): (_, fn() -> String) = match &args.from {
        From::SmtpGated { file, .. } => (file, import::smtp_gated::table),
        From::MainCf { file, .. } => (file, import::main_cf::table),
    };
    let Some(file) = file else {
        socket::say(&table())?;
        return Ok(ExitCode::SUCCESS);
    };
    let name = file.display().to_string();
    let bytes = File::open(file).and_then(config::bytes_of).with_context(|| format!("cannot read {name}"))?;
    // Old files are often Latin-1: a comment must not keep them from being read.
    let text = String::from_utf8_lossy(&bytes);
    let imported = match &args.from {
        From::SmtpGated { .. } => import::smtp_gated::import(&text, &name)?,
        From::MainCf { .. } => import::main_cf::import(&text, &name)?,
    };
    if !imported.warnings.is_empty() {
        complain(&anyhow::Error::msg(format!("{name}: look at these\n{}", imported.warnings)));
    }
    socket::say(&imported.yaml)?;
    Ok(ExitCode::SUCCESS)
}
