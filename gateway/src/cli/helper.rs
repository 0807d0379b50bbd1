//! `gateway helper`.

use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Context as _, bail};
use tokio::signal::unix::{SignalKind, signal};

use super::{ConfigArg, check};
use crate::config::Config;
use crate::datapath::probe;
use crate::helper::{self, Sockets};
use crate::privilege::{Account, Keep};
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
    let _logging = telemetry::log::start(&config.log, Some(Arc::clone(&telemetry)))?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot start the runtime")?;
    runtime.block_on(serve(&config, sockets, telemetry))?;
    Ok(ExitCode::SUCCESS)
}

/// Leaves the process no more than questions to connection tracking take.
fn give_up(config: &Config) -> anyhow::Result<()> {
    let account = privilege::user::is_root().then(|| Account::find(&config.user)).transpose()?;
    privilege::give_up(account.as_ref(), Keep::Conntrack, probe::makes_maps)?;
    Ok(())
}

async fn serve(config: &Config, sockets: Sockets, telemetry: Arc<Telemetry>) -> anyhow::Result<()> {
    let (mut terminated, mut interrupted) =
        (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let ticking = telemetry::run(Arc::clone(&telemetry), || 0);
    tokio::select! {
        ran = helper::run(config, sockets, Arc::clone(&telemetry)) => ran?,
        () = ticking => {}
        _ = terminated.recv() => {}
        _ = interrupted.recv() => {}
    }
    Ok(())
}
