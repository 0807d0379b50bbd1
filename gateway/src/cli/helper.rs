//! `gateway helper`.

use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Context as _, bail};
use tokio::signal::unix::{SignalKind, signal};
use tracing::{info, warn};

use super::{ConfigArg, check};
use crate::config::Config;
use crate::datapath::probe;
use crate::helper::{Helper, Sockets};
use crate::privilege::{Account, Keep};
use crate::telemetry::log::Logging;
use crate::telemetry::{self, Telemetry};
use crate::{clock, privilege};

/// Arguments of `gateway helper`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    config: ConfigArg,
}

/// Answers gateways until it is told to stop.
pub(super) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let config = match check::examine(&args.config.config)? {
        Ok((config, _)) => config,
        Err(problems) => bail!("the configuration is refused:\n{problems}"),
    };
    let sockets = Sockets::open(&config)?;
    give_up(&config)?;
    let telemetry = Arc::new(Telemetry::new(&config.log, clock::now(), clock::wall()));
    let logging = telemetry::log::start(&config.log, Some(Arc::clone(&telemetry)))?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot start the runtime")?;
    let reload = |helper: &Helper| reload(&args.config.config, helper, &logging);
    runtime.block_on(serve(&config, sockets, telemetry, reload))?;
    Ok(ExitCode::SUCCESS)
}

/// Leaves the process no more than questions to connection tracking take.
fn give_up(config: &Config) -> anyhow::Result<()> {
    let account = privilege::user::is_root().then(|| Account::find(&config.user)).transpose()?;
    privilege::give_up(account.as_ref(), Keep::Conntrack, probe::makes_maps)?;
    Ok(())
}

/// Reads the file again. One that is refused changes nothing, and why stands in the log.
fn reload(path: &Path, helper: &Helper, logging: &Logging) {
    let put_in_force = || {
        let config = match check::examine(path)? {
            Ok((config, _)) => config,
            Err(problems) => bail!("{problems}"),
        };
        helper.reload(&config)?;
        logging.reload(&config.log)?;
        anyhow::Ok(())
    };
    match put_in_force() {
        Ok(()) => info!(config = %path.display(), "the configuration is in force"),
        Err(error) => warn!(
            config = %path.display(),
            error = format!("{error:#}"),
            "the new configuration is refused; the one before stays in force"
        ),
    }
}

async fn serve(
    config: &Config,
    sockets: Sockets,
    telemetry: Arc<Telemetry>,
    reload: impl Fn(&Helper),
) -> anyhow::Result<()> {
    let (mut terminated, mut interrupted) =
        (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let mut hung_up = signal(SignalKind::hangup())?;
    let helper = Arc::new(Helper::new(config, Arc::clone(&telemetry))?);
    let told = Arc::clone(&helper);
    let reloading = async {
        while hung_up.recv().await.is_some() {
            reload(&told);
        }
    };
    tokio::select! {
        ran = helper.serve(sockets) => ran?,
        () = telemetry::run(telemetry, || 0) => {}
        () = reloading => {}
        _ = terminated.recv() => {}
        _ = interrupted.recv() => {}
    }
    Ok(())
}
