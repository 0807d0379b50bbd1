//! `gateway check`.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context as _;

use super::{ConfigArg, socket, system};
use crate::config::{self, Config, Problems};
use crate::delivery::dkim::KeyError;
use crate::delivery::settings::{self, Disk, SettingsError};

/// Arguments of `gateway check`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    config: ConfigArg,
    /// Files to check instead of the one of `--config`.
    #[arg(value_name = "FILE", conflicts_with = "config")]
    files: Vec<PathBuf>,
    /// Print one JSON object a file.
    #[arg(long)]
    json: bool,
    /// Look too whether this machine can run the gateway so; ask as root, as the gateway will be.
    #[arg(long)]
    system: bool,
}

/// Checks a configuration.
pub(super) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let one = [args.config.config.clone()];
    let files = if args.files.is_empty() { one.as_slice() } else { args.files.as_slice() };
    let mut all_good = true;
    for path in files {
        let (problems, config) = match examine(path)? {
            Ok((config, warnings)) => (warnings, Some(config)),
            Err(problems) => (problems, None),
        };
        let good = config.is_some();
        all_good &= good;
        socket::say(&if args.json { json(&problems, good)? } else { plain(&problems, good) })?;
        if let Some(config) = config.filter(|_| args.system) {
            all_good &= system::examine(&config, args.json)?;
        }
    }
    Ok(if all_good { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Reads and checks the file at `path`.
pub(super) fn examine(path: &Path) -> anyhow::Result<Result<(Config, Problems), Problems>> {
    let name = path.display().to_string();
    let bytes = File::open(path).and_then(config::bytes_of).with_context(|| format!("cannot read {name}"))?;
    let examined = config::examine(&bytes, &name);
    let faults = examined.as_ref().map_or_else(|_| Vec::new(), |(config, _)| unusable_keys(config));
    if faults.is_empty() {
        return Ok(examined);
    }
    Ok(Err(config::blame(&String::from_utf8_lossy(&bytes), &name, &faults)))
}

/// Keys that cannot sign. Whether the gateway's account may read them, others than root cannot see.
fn unusable_keys(config: &Config) -> Vec<(String, String)> {
    let is_mine = |error: &SettingsError| matches!(error, SettingsError::Dkim { error: KeyError::Read(error), .. } if error.kind() == io::ErrorKind::PermissionDenied);
    let faults = settings::unusable_keys(config, &Disk).into_iter().filter(|(_, error)| !is_mine(error));
    faults.map(|(key, error)| (key, error.to_string())).collect()
}

fn plain(problems: &Problems, good: bool) -> String {
    let name = &problems.file;
    match (good, problems.is_empty()) {
        (true, true) => format!("{name}: good\n"),
        (true, false) => format!("{problems}\n{name}: good, with warnings\n"),
        (false, _) => format!("{problems}\n{name}: refused\n"),
    }
}

fn json(problems: &Problems, good: bool) -> anyhow::Result<String> {
    let mut object = serde_json::to_value(problems)?;
    if let Some(fields) = object.as_object_mut() {
        fields.insert("good".to_owned(), good.into());
    }
    Ok(format!("{object}\n"))
}
