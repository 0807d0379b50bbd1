//! `gateway import`: configurations of other systems.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context as _;
use clap::Subcommand;

use super::{complain, socket};
use crate::import::main_cf::Source;
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
        /// The files, mostly /etc/postfix/main.cf; later ones count, and a master.cf for its services `smtp` and `lmtp`.
        #[arg(value_name = "FILE", required_unless_present = "table")]
        files: Vec<PathBuf>,
        /// Print what each parameter of Postfix is here, as Markdown.
        #[arg(long, conflicts_with = "files")]
        table: bool,
    },
}

/// Prints the configuration; what an operator should look at goes to standard error.
pub(super) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let imported = match &args.from {
        From::SmtpGated { file: Some(file), .. } => {
            let (name, text) = read(file)?;
            import::smtp_gated::import(&text, &name)?
        }
        From::MainCf { files, .. } if !files.is_empty() => {
            let files = files.iter().map(|file| read(file)).collect::<anyhow::Result<Vec<_>>>()?;
            let sources: Vec<_> = files.iter().map(|(name, text)| Source { name, text }).collect();
            import::main_cf::import(&sources)?
        }
        From::SmtpGated { .. } => return table(&import::smtp_gated::table()),
        From::MainCf { .. } => return table(&import::main_cf::table()),
    };
    if !imported.warnings.is_empty() {
        complain(&anyhow::Error::msg(format!("look at these\n{}", imported.warnings)));
    }
    socket::say(&imported.yaml)?;
    Ok(ExitCode::SUCCESS)
}

fn table(text: &str) -> anyhow::Result<ExitCode> {
    socket::say(text)?;
    Ok(ExitCode::SUCCESS)
}

/// A file's name, and its text.
fn read(file: &Path) -> anyhow::Result<(String, String)> {
    let name = file.display().to_string();
    let bytes = File::open(file).and_then(config::bytes_of).with_context(|| format!("cannot read {name}"))?;
    // Old files are often Latin-1: a comment must not keep them from being read.
    Ok((name, String::from_utf8_lossy(&bytes).into_owned()))
}
