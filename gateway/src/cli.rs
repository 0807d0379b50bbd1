//! The command line: one file a command.
//!
//! Owns arguments and exit codes: 0 done, 1 failed, 2 wrong usage. Never decides anything that a
//! request over the control socket could decide.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

mod action;
mod check;
mod clients;
mod config;
mod helper;
mod import;
mod lock;
mod proxy;
mod queue;
mod quota;
mod reload;
mod run;
mod sessions;
mod socket;
mod status;
mod stop;
mod system;
mod table;
mod top;
mod upgrade;

/// A transparent SMTP gateway: intercepts, inspects and scans mail on its way.
#[derive(Debug, Parser)]
#[command(name = "gateway", version, max_term_width = 100)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the gateway.
    Run(run::Args),
    /// Check a configuration, or whether this machine can run the gateway.
    Check(check::Args),
    /// Show how the running gateway is.
    Status(status::Args),
    /// List the open sessions, or end some.
    Sessions(sessions::Args),
    /// Hold clients off for a time.
    Lock(lock::Args),
    /// List the clients that the kernel counts.
    Clients(clients::Args),
    /// Show what clients have used of their quotas, and change what they may.
    Quota(quota::Args),
    /// Show mail in the queue, and say what becomes of it.
    Queue(queue::Args),
    /// Watch the running gateway.
    Top(top::Args),
    /// Have the running gateway read its configuration again.
    Reload(reload::Args),
    /// Turn the configuration of another system into one of the gateway.
    Import(import::Args),
    /// Have a new release take over from the running gateway; open sessions go on.
    Upgrade(upgrade::Args),
    /// Stop the running gateway, and let sessions that the kernel carries go on or end.
    Stop(stop::Args),
    /// On a router, tell gateways where the flows were meant to go that it redirects to them.
    Helper(helper::Args),
    /// Show the configuration in force, its schema or its reference.
    Config(config::Args),
    /// Serve flows; `run` starts this.
    #[command(hide = true)]
    Proxy(proxy::Args),
    /// Run the script of `on-lock`; `run` starts this.
    #[command(hide = true)]
    Action(action::Args),
}

/// Where the configuration is.
#[derive(Debug, clap::Args)]
struct ConfigArg {
    /// The configuration file.
    #[arg(short, long, value_name = "FILE", default_value = "/etc/gateway/gateway.yaml")]
    config: PathBuf,
}

/// Runs the command that the arguments name.
#[must_use]
pub fn main() -> ExitCode {
    let done = match Cli::parse().command {
        Command::Run(args) => run::run(&args),
        Command::Check(args) => check::run(&args),
        Command::Status(args) => status::run(&args),
        Command::Sessions(args) => sessions::run(&args),
        Command::Lock(args) => lock::run(&args),
        Command::Clients(args) => clients::run(&args),
        Command::Quota(args) => quota::run(&args),
        Command::Queue(args) => queue::run(&args),
        Command::Top(args) => top::run(&args),
        Command::Reload(args) => reload::run(&args),
        Command::Stop(args) => stop::run(&args),
        Command::Import(args) => import::run(&args),
        Command::Upgrade(args) => upgrade::run(args),
        Command::Helper(args) => helper::run(&args),
        Command::Proxy(args) => proxy::run(&args),
        Command::Action(args) => action::run(&args),
        Command::Config(args) => config::run(&args),
    };
    match done {
        Ok(code) => code,
        Err(error) => {
            complain(&error);
            ExitCode::FAILURE
        }
    }
}

#[expect(clippy::print_stderr, reason = "this is where a command tells its user what is wrong")]
fn complain(error: &anyhow::Error) {
    eprintln!("gateway: {error:#}");
}
