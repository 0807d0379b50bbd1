//! `cargo xtask lab`: the demo network, left up for as long as a shell in it lives.

use std::io::{IsTerminal as _, stdin};

use anyhow::bail;
use gateway_tests::lab::{Family, Lab};

use crate::interrupt::Interrupt;
use crate::stage::Stage;
use crate::tmux::Tmux;
use crate::{ebpf, machine, say, setup, step};

/// Sets everything up, opens shells, and removes everything when they are left.
pub(crate) fn run() -> anyhow::Result<()> {
    prepare()?;
    let interrupt = Interrupt::catch()?;
    let stage = Stage::set(&interrupt)?;
    say::line(&guide());
    if stdin().is_terminal() && machine::find_program("tmux").is_some() {
        tmux(&stage, &interrupt)
    } else {
        say::line("A shell on the client; leave it to remove everything.");
        let mut shell = stage.lab.client().command("bash").arg("--norc").spawn()?;
        interrupt.wait(&mut shell, None).map(|_| ())
    }
}

/// What both `lab` and `demo` need before they start.
pub(crate) fn prepare() -> anyhow::Result<()> {
    if !machine::is_root() {
        bail!("network namespaces and eBPF programs need root: run this again as root");
    }
    Lab::sweep();
    setup::all()?;
    ebpf::build()?;
    step::run("build the gateway", &mut step::cargo(&["build", "--package", "gateway"]))
}

fn guide() -> String {
    let (sink, sink_v6, postfix) = (Family::V4.server(), Family::V6.server(), Family::V4.second_server());
    format!(
        "On the client, for example:\n    \
         swaks --server {sink} --to recipient@server.example\n    \
         swaks --server {sink_v6} --to recipient@server.example\n    \
         swaks --server {postfix} --tls --to recipient@server.example\n    \
         smtp-source -c -s 20 -m 500 {sink}:25"
    )
}

fn tmux(stage: &Stage, interrupt: &Interrupt) -> anyhow::Result<()> {
    let tmux = Tmux::new(&stage.lab);
    let shell = |netns: &gateway_tests::netns::Netns| format!("ip netns exec {} bash --norc", netns.name());
    tmux.open("client", &shell(stage.lab.client()))?;
    tmux.window("router", &shell(stage.lab.router()))?;
    tmux.window("server", &shell(stage.lab.server()))?;
    tmux.window("console", &Tmux::console(&stage.gateway)?)?;
    tmux.attach(interrupt)
}
