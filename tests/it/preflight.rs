//! What `gateway check --system` says of the machine a gateway shall run on.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Duration;

use anyhow::Context as _;
use gateway_tests::client::Client;
use gateway_tests::gateway;
use gateway_tests::lab::{Family, LAN, Lab};
use gateway_tests::netns::Netns;
use gateway_tests::recorder::{Manners, Recorder};

/// A command that runs the gateway's binary in a namespace.
fn gateway_in(netns: &Netns, arguments: &[&str], config: &Path) -> anyhow::Result<Command> {
    let binary = gateway::binary()?;
    let mut command = netns.command(binary.to_str().context("a path that is not text")?);
    command.args(arguments).arg("-c").arg(config);
    Ok(command)
}

/// Writes a configuration with a spool folder and a control socket of the lab's own.
fn config(lab: &Lab, yaml: &str) -> anyhow::Result<PathBuf> {
    let path = lab.directory().join("preflight.yaml");
    let home = lab.directory().display();
    let common = format!(
        "spool: {{ directory: {home}/spool }}\nstate-directory: {home}/state\ncontrol: {{ socket: {home}/preflight.sock }}\n"
    );
    fs::write(&path, format!("user: nobody\n{common}{yaml}"))?;
    Ok(path)
}

fn check(lab: &Lab, config: &Path) -> anyhow::Result<(bool, String)> {
    let Output { status, stdout, stderr } =
        gateway_in(lab.router(), &["check", "--system"], config)?.output()?;
    Ok((status.success(), String::from_utf8_lossy(&[stdout, stderr].concat()).into_owned()))
}

#[test]
fn a_router_that_has_all_is_told_so() -> anyhow::Result<()> {
    let lab = Lab::new()?;
    let config = config(&lab, &format!("intercept: {{ interfaces: [{LAN}] }}\n"))?;
    let (good, said) = check(&lab, &config)?;
    assert!(good, "{said}");
    for line in
        ["the eBPF program loads and passes its self-test", "clients behind lan0", "this machine: good"]
    {
        assert!(said.contains(line), "no `{line}` in\n{said}");
    }
    assert!(!said.contains("missing"), "{said}");
    Ok(())
}

#[test]
fn a_router_that_lacks_something_is_told_what_and_what_to_do() -> anyhow::Result<()> {
    let lab = Lab::new()?;
    let queue = lab.directory().join("queue");
    let sections = format!(
        "intercept: {{ interfaces: [{LAN}, nosuch0] }}\nqueue: {{ directory: {} }}\n",
        queue.display()
    );
    let config = config(&lab, &sections)?;
    fs::create_dir(lab.directory().join("spool"))?;
    fs::create_dir(&queue)?;
    lab.router().sysctl("ipv4/ip_forward", "0")?;
    lab.router().sysctl(&format!("ipv4/conf/{LAN}/src_valid_mark"), "1")?;
    let (good, said) = check(&lab, &config)?;
    assert!(!good, "{said}");
    for line in [
        "look    no interface matches `nosuch0`",
        "look    net.ipv4.ip_forward is off",
        "sysctl -w net.ipv4.ip_forward=1",
        "missing net.ipv4.conf.lan0.src_valid_mark is on",
        "belongs to user 0",
        "run `chown nobody ",
        &format!("missing the queue folder {} belongs to user 0", queue.display()),
    ] {
        assert!(said.contains(line), "no `{line}` in\n{said}");
    }
    Ok(())
}

#[test]
fn steered_packets_are_martians_where_marks_count_in_the_source_check() -> anyhow::Result<()> {
    // What `check --system` warns of, so that the day this changes is noticed.
    let lab = Lab::new()?;
    let _server = Recorder::start(lab.server(), Family::V4.smtp(), Manners::default())?;
    let _gateway = gateway::Gateway::start(&lab, &gateway::Settings::default())?;
    assert!(Client::greeted(lab.client(), Family::V4.smtp()).is_ok());
    lab.router().sysctl(&format!("ipv4/conf/{LAN}/src_valid_mark"), "1")?;
    let target = Family::V4.smtp();
    let connect = || std::net::TcpStream::connect_timeout(&target, Duration::from_secs(2));
    assert!(lab.client().enter(connect)?.is_err());
    Ok(())
}
