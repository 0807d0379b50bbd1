//! `cargo xtask VERB`: everything a developer runs, one file a verb.
//!
//! Each verb does its own set-up, says what it does, and costs nothing when there is nothing to do.

use std::process::ExitCode;

use clap::{Parser, Subcommand};

mod bench;
mod ci;
mod demo;
mod ebpf;
mod interrupt;
mod lab;
mod linker;
mod machine;
mod packages;
mod run;
mod say;
mod setup;
mod soak;
mod stage;
mod step;
mod test;
mod tidy;
mod tmux;

/// Build, test and show the gateway.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask", max_term_width = 100)]
struct Cli {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Install what building and testing need.
    Setup,
    /// Build the eBPF object.
    BuildEbpf,
    /// Set up the demo network and open a shell in it.
    Lab,
    /// Send real mail through the gateway in the demo network and compare with what is expected.
    Demo {
        /// Show the console beside it, in tmux.
        #[arg(long)]
        watch: bool,
    },
    /// Run every test.
    Test,
    /// Format, lint and structure checks, documentation, and every test.
    Ci {
        /// Leave the tests out.
        #[arg(long)]
        checks_only: bool,
    },
    /// Send gigabytes both ways through sessions that the kernel carries, over bad links.
    Soak {
        /// Gigabytes each way, in all.
        #[arg(long, default_value = "8", value_parser = clap::value_parser!(u64).range(1..))]
        gigabytes: u64,
    },
    /// Measure the gateway beside its peers.
    Bench {
        /// What to measure.
        #[arg(value_enum, default_value = "all")]
        family: bench::Family,
        #[command(flatten)]
        options: bench::Options,
    },
    /// Watch the gateway or a peer under load: a flame graph, and what its processes do for one message.
    Profile(bench::profile::Options),
    /// Build the gateway and run it: `cargo xtask run -- run -c FILE`.
    Run {
        /// Do not ask for root: `origin: fixed` on a free port needs none.
        #[arg(long)]
        unprivileged: bool,
        /// Arguments of `gateway`.
        #[arg(last = true, required = true)]
        arguments: Vec<String>,
    },
}

fn main() -> ExitCode {
    let done = match Cli::parse().verb {
        Verb::Setup => setup::all(),
        Verb::BuildEbpf => setup::build_tools().and_then(|()| ebpf::build()),
        Verb::Lab => lab::run(),
        Verb::Demo { watch } => demo::run(watch),
        Verb::Test => test::run(),
        Verb::Ci { checks_only } => ci::run(checks_only),
        Verb::Soak { gigabytes } => soak::run(gigabytes),
        Verb::Bench { family, options } => bench::run(family, &options),
        Verb::Profile(options) => bench::profile::run(&options),
        Verb::Run { unprivileged, arguments } => run::run(unprivileged, &arguments),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            say::failure(&error);
            ExitCode::FAILURE
        }
    }
}
