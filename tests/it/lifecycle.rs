//! What becomes of flows, and of the router, when a process of the gateway dies, starts or stops.

use std::fs;
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::os::unix::fs::PermissionsExt as _;
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use gateway_tests::clamd::Clamd;
use gateway_tests::client::Client;
use gateway_tests::gateway::{self, Gateway, Settings};
use gateway_tests::lab::{Family, LAN, Lab};
use gateway_tests::message;
use gateway_tests::process::{self, Daemon};
use gateway_tests::recorder::{Manners, Recorder};
use gateway_tests::wait;
use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, User};

/// A gateway that shows itself to the server, so that the server's view tells who carried a flow.
fn visible() -> Settings {
    Settings { source_address: "gateway", ..Settings::default() }
}

/// Kills the proxy until the pause before its next start is long enough to look at; returns when
/// the gateway has noticed the last death.
fn keep_proxy_down(gateway: &Gateway) -> anyhow::Result<()> {
    let count = |what: &str| gateway.log().matches(what).count();
    // Pauses are 0.2, 0.4, 0.8, 1.6 and 3.2 seconds.
    for deaths in 1..=5 {
        wait::until(Duration::from_secs(10), "start of the proxy", || {
            Ok((count("msg=intercepting") == deaths).then_some(()))
        })?;
        kill(gateway.proxy()?, Signal::SIGKILL)?;
        wait::until(Duration::from_secs(1), "notice of the death", || {
            Ok((count("the proxy process died") == deaths).then_some(()))
        })?;
    }
    Ok(())
}

/// Opens a flow and says whom the server sees; `None`: nobody accepts within a second, or the
/// flow does not arrive.
fn carrier(lab: &Lab, server: &Recorder, family: Family) -> anyhow::Result<Option<IpAddr>> {
    let target = family.smtp();
    let before = server.connections().len();
    let connected = lab.client().enter(|| TcpStream::connect_timeout(&target, Duration::from_secs(1)))?;
    let Ok(_flow) = connected else { return Ok(None) };
    let arrived = wait::until(Duration::from_secs(2), "arrival of the flow", || {
        Ok(server.connections().get(before).map(|connection| connection.peer))
    });
    Ok(arrived.ok())
}

#[test]
fn new_flows_pass_while_the_proxy_is_dead_and_are_inspected_again_after() -> anyhow::Result<()> {
    let lab = Lab::new()?;
    for family in [Family::V4, Family::V6] {
        let server = Recorder::start(lab.server(), family.smtp(), Manners::default())?;
        let mut gateway = Gateway::start(&lab, &visible())?;
        assert_eq!(carrier(&lab, &server, family)?, Some(family.router()));
        keep_proxy_down(&gateway)?;
        assert_eq!(carrier(&lab, &server, family)?, Some(family.client()));
        wait::until(Duration::from_secs(10), "restart of the proxy", || {
            Ok((gateway.log().matches("msg=intercepting").count() == 6).then_some(()))
        })?;
        assert_eq!(carrier(&lab, &server, family)?, Some(family.router()));
        gateway.stop()?;
    }
    Ok(())
}

#[test]
fn new_flows_are_dropped_while_the_proxy_is_dead_where_the_operator_says_so() -> anyhow::Result<()> {
    let lab = Lab::new()?;
    let server = Recorder::start(lab.server(), Family::V4.smtp(), Manners::default())?;
    let gateway = Gateway::start(&lab, &Settings { intercept: vec![("when-down", "drop")], ..visible() })?;
    keep_proxy_down(&gateway)?;
    let seen = server.connections().len();
    assert_eq!(carrier(&lab, &server, Family::V4)?, None);
    assert_eq!(server.connections().len(), seen);
    wait::until(Duration::from_secs(10), "restart of the proxy", || {
        Ok((carrier(&lab, &server, Family::V4)? == Some(Family::V4.router())).then_some(()))
    })
}

#[test]
fn a_proxy_that_hangs_is_replaced() -> anyhow::Result<()> {
    let lab = Lab::new()?;
    let server = Recorder::start(lab.server(), Family::V4.smtp(), Manners::default())?;
    let gateway = Gateway::start(&lab, &visible())?;
    let hung = gateway.proxy()?;
    kill(hung, Signal::SIGSTOP)?;
    gateway.wait_for_log("it was silent for")?;
    wait::until(Duration::from_secs(10), "restart of the proxy", || {
        Ok((gateway.log().matches("msg=intercepting").count() == 2).then_some(()))
    })?;
    assert_ne!(gateway.proxy()?, hung);
    assert_eq!(carrier(&lab, &server, Family::V4)?, Some(Family::V4.router()));
    Ok(())
}

#[test]
fn a_machine_that_stood_still_costs_no_proxy_and_no_session() -> anyhow::Result<()> {
    let lab = Lab::new()?;
    let server = Recorder::start(lab.server(), Family::V4.smtp(), Manners::default())?;
    let mut gateway = Gateway::start(&lab, &visible())?;
    let mut client = Client::up_to_data(lab.client(), Family::V4.smtp())?;
    let both = [gateway.serving(), gateway.proxy()?];
    // As in a snapshot of a virtual machine: time goes on, processes do not.
    for pid in both {
        kill(pid, Signal::SIGSTOP)?;
    }
    thread::sleep(Duration::from_secs(4));
    for pid in both {
        kill(pid, Signal::SIGCONT)?;
    }
    thread::sleep(Duration::from_secs(2));
    assert_eq!(gateway.proxy()?, both[1]);
    client.send(b"text\r\n.\r\n")?;
    client.expect(250)?;
    drop(client);
    assert_eq!(server.messages().len(), 1);
    gateway.stop()
}

#[test]
fn a_session_that_ends_while_the_datapath_process_hangs_leaves_its_record_all_the_same() -> anyhow::Result<()>
{
    let lab = Lab::new()?;
    let server = Recorder::start(lab.server(), Family::V4.smtp(), Manners::default())?;
    let gateway = Gateway::start(&lab, &visible())?;
    let (datapath, proxy) = (gateway.serving(), gateway.proxy()?);
    let records = || gateway.log().lines().filter(|line| line.contains("msg=session ")).count();
    // What the kernel noted of a flow, only the datapath process can tell.
    kill(datapath, Signal::SIGSTOP)?;
    for sessions in [1, 2] {
        let mut client = Client::up_to_data(lab.client(), Family::V4.smtp())?;
        client.send(message::END)?;
        client.expect(250)?;
        client.send(b"QUIT\r\n")?;
        client.expect(221)?;
        let found =
            wait::until(Duration::from_secs(3), "the record", || Ok((records() == sessions).then_some(())));
        if found.is_err() {
            kill(datapath, Signal::SIGCONT)?;
        }
        found?;
    }
    kill(datapath, Signal::SIGCONT)?;
    assert_eq!(carrier(&lab, &server, Family::V4)?, Some(Family::V4.router()));
    assert_eq!(gateway.proxy()?, proxy);
    Ok(())
}

/// Lets everything out.
const OPERATORS_FILTER: &str = "filter add dev lan0 egress protocol all u32 match u32 0 0 flowid 1:1";

/// What a gateway could leave behind on the router.
fn traces(lab: &Lab) -> anyhow::Result<String> {
    let router = lab.router();
    let tc = |what: &[&str]| process::done(router.command("tc").args(what));
    let mut traces = vec![
        router.ip("-4 rule")?,
        router.ip("-6 rule")?,
        router.ip("-4 route show table all")?,
        router.ip("-6 route show table all")?,
        tc(&["qdisc", "show"])?,
    ];
    for interface in [LAN, gateway_tests::lab::WAN] {
        traces.push(tc(&["filter", "show", "dev", interface, "ingress"])?);
        traces.push(tc(&["filter", "show", "dev", interface, "egress"])?);
    }
    let pins = fs::read_dir(router.pins()).into_iter().flatten().flatten();
    traces.extend(pins.map(|pin| pin.path().display().to_string()));
    // The kernel makes link-local addresses in its own time.
    Ok(traces.join("\n").lines().filter(|line| !line.contains("fe80:")).collect::<Vec<_>>().join("\n"))
}

#[test]
fn stop_and_start_leave_nothing_and_take_nothing_of_others() -> anyhow::Result<()> {
    for attach in ["tcx", "clsact"] {
        let lab = Lab::new()?;
        // What an operator may have in the very same places.
        lab.router().ip("rule add priority 1025 fwmark 9 lookup 2525")?;
        lab.router().ip("route add unreachable 203.0.113.0/24 table 2525")?;
        for arguments in ["qdisc add dev lan0 clsact", OPERATORS_FILTER] {
            process::done(lab.router().command("tc").args(arguments.split_whitespace()))?;
        }
        let before = traces(&lab)?;
        for _ in 0..2 {
            let mut gateway =
                Gateway::start(&lab, &Settings { intercept: vec![("attach", attach)], ..visible() })?;
            let during = traces(&lab)?;
            ensure!(during.contains("fwmark 0x2500/0xff00 lookup 2525"), "no rule in\n{during}");
            let control = gateway.control();
            ensure!(control.exists(), "no control socket");
            gateway.stop()?;
            assert_eq!(traces(&lab)?, before, "{attach}");
            assert!(!control.exists());
        }
    }
    Ok(())
}

#[test]
fn what_a_killed_gateway_left_is_gone_after_the_next_one() -> anyhow::Result<()> {
    for attach in ["tcx", "clsact"] {
        let lab = Lab::new()?;
        let server = Recorder::start(lab.server(), Family::V4.smtp(), Manners::default())?;
        let before = traces(&lab)?;
        let marked = vec![
            ("attach", attach),
            ("routing", "{ mark: 0x1000, own-mark: 0x2000, mask: 0xf000, table: 77 }"),
        ];
        let killed = Gateway::start(&lab, &Settings { intercept: marked, ..visible() })?;
        kill(killed.daemon().pid(), Signal::SIGKILL)?;
        // The proxy is gone with it, and the router forwards.
        wait::until(Duration::from_secs(5), "plain forwarding", || {
            Ok((carrier(&lab, &server, Family::V4)? == Some(Family::V4.client())).then_some(()))
        })?;
        drop(killed);
        let mut gateway = Gateway::start(&lab, &visible())?;
        assert_eq!(carrier(&lab, &server, Family::V4)?, Some(Family::V4.router()));
        ensure!(!traces(&lab)?.contains("lookup 77"), "the old rule is still there");
        gateway.stop()?;
        assert_eq!(traces(&lab)?, before, "{attach}");
    }
    Ok(())
}

#[test]
fn open_sessions_end_in_good_order_when_the_gateway_stops() -> anyhow::Result<()> {
    let lab = Lab::new()?;
    let server = Recorder::start(lab.server(), Family::V4.smtp(), Manners::default())?;
    let mut gateway = Gateway::start(&lab, &visible())?;
    let mut client = Client::up_to_data(lab.client(), Family::V4.smtp())?;
    client.send(b"Subject: half\r\n\r\nfirst half\r\n")?;
    gateway.daemon().signal(Signal::SIGTERM)?;
    gateway.wait_for_log("open sessions may end")?;
    // Nothing new is taken any more, and what there is goes on.
    assert_eq!(carrier(&lab, &server, Family::V4)?, Some(Family::V4.client()));
    client.send(b"second half\r\n.\r\n")?;
    client.expect(250)?;
    drop(client);
    gateway.stop()?;
    assert_eq!(server.messages().len(), 1);
    Ok(())
}

#[test]
fn a_second_gateway_is_refused_and_the_first_goes_on() -> anyhow::Result<()> {
    let lab = Lab::new()?;
    let server = Recorder::start(lab.server(), Family::V4.smtp(), Manners::default())?;
    let gateway = Gateway::start(&lab, &visible())?;
    let config = lab.directory().join("second.yaml");
    let control = lab.directory().join("second.sock");
    fs::write(
        &config,
        format!(
            "user: nobody\nlisten: [127.0.0.1:2525]\nintercept: {{ interfaces: [{LAN}] }}\n\
             spool: {{ directory: {} }}\ncontrol: {{ socket: {} }}\n",
            gateway.spool().display(),
            control.display()
        ),
    )?;
    let binary = gateway::binary()?;
    let mut second = lab.router().command(binary.to_str().context("a path that is not text")?);
    let output = second.args(["run", "-c"]).arg(&config).output()?;
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success());
    assert!(said.contains("another gateway steers flows in this network namespace"), "{said}");
    assert!(!control.exists());
    assert_eq!(carrier(&lab, &server, Family::V4)?, Some(Family::V4.router()));
    Ok(())
}

#[test]
fn an_interface_is_followed_when_it_loses_its_name_and_gets_it_back() -> anyhow::Result<()> {
    let lab = Lab::new()?;
    let server = Recorder::start(lab.server(), Family::V4.smtp(), Manners::default())?;
    let gateway = Gateway::start(&lab, &visible())?;
    let rename = |from: &str, to: &str| {
        lab.router().ip(&format!("link set {from} down"))?;
        lab.router().ip(&format!("link set {from} name {to}"))?;
        lab.router().ip(&format!("link set {to} up"))
    };
    rename(LAN, "other0")?;
    gateway.wait_for_log("msg=detached")?;
    // A cable that was just plugged in carries nothing for up to a second (`net/core/link_watch.c`), on a busy
    // machine for longer.
    let until_seen = |peer: IpAddr, what: &str| {
        wait::until(Duration::from_secs(30), what, || {
            Ok((carrier(&lab, &server, Family::V4)? == Some(peer)).then_some(()))
        })
    };
    until_seen(Family::V4.client(), "a flow that passes the interface of another name")?;
    rename("other0", LAN)?;
    until_seen(Family::V4.router(), "interception on the new interface")
}

#[test]
fn a_reload_moves_lanes_and_ports_in_the_kernel() -> anyhow::Result<()> {
    let lab = Lab::new()?;
    let server = Recorder::start(lab.server(), Family::V4.smtp(), Manners::default())?;
    let gateway = Gateway::start(&lab, &visible())?;
    let reload = |settings: Settings| -> anyhow::Result<Option<IpAddr>> {
        let count = || gateway.log().matches("the configuration is in force").count();
        let before = count();
        gateway.write_settings(&settings)?;
        gateway.hang_up()?;
        wait::until(Duration::from_secs(10), "reload", || Ok((count() > before).then_some(())))?;
        carrier(&lab, &server, Family::V4)
    };
    let lane = |rule| Settings { lanes: vec![rule], ..visible() };
    assert_eq!(reload(visible())?, Some(Family::V4.router()));
    assert_eq!(reload(lane("{client: [192.0.2.0/24], lane: bypass}"))?, Some(Family::V4.client()));
    assert_eq!(reload(lane("{server: [198.51.100.2], lane: block}"))?, None);
    let elsewhere = Settings { intercept: vec![("ports", "[587]")], ..visible() };
    reload(elsewhere)?;
    // A port that is given up is held until it is known that no flow needs it.
    wait::until(Duration::from_secs(10), "a flow to a port that is no longer intercepted", || {
        Ok((carrier(&lab, &server, Family::V4)? == Some(Family::V4.client())).then_some(()))
    })?;
    assert_eq!(reload(visible())?, Some(Family::V4.router()));
    Ok(())
}

/// The value of a line of `/proc/PID/task/TID/status` for each thread.
fn of_each_thread(pid: Pid, field: &str) -> anyhow::Result<Vec<String>> {
    let mut values = Vec::new();
    for thread in fs::read_dir(format!("/proc/{pid}/task"))? {
        let status = fs::read_to_string(thread?.path().join("status"))?;
        let value = status.lines().find_map(|line| line.strip_prefix(field));
        values.push(value.with_context(|| format!("no {field}"))?.trim().to_owned());
    }
    Ok(values)
}

#[test]
fn every_thread_of_the_proxy_has_no_capability_but_the_one_it_needs() -> anyhow::Result<()> {
    // CAP_NET_RAW is bit 13.
    for (source_address, allowed) in [("preserve", "0000000000002000"), ("gateway", "0000000000000000")] {
        let lab = Lab::new()?;
        let gateway = Gateway::start(&lab, &Settings { source_address, ..Settings::default() })?;
        let proxy = gateway.proxy()?;
        let none = "0000000000000000";
        for (field, wanted) in [
            ("CapPrm:", allowed),
            ("CapEff:", allowed),
            ("CapBnd:", allowed),
            ("CapInh:", none),
            ("CapAmb:", none),
        ] {
            let values = of_each_thread(proxy, field)?;
            assert!(values.len() > 1, "the runtime's threads are missing");
            assert!(values.iter().all(|value| value == wanted), "{source_address}: {field} {values:?}");
        }
        let nobody = User::from_name("nobody")?.context("no account `nobody`")?;
        let ids = format!("{0}\t{0}\t{0}\t{0}", nobody.uid);
        assert!(of_each_thread(proxy, "Uid:")?.iter().all(|value| *value == ids));
        assert!(of_each_thread(proxy, "NoNewPrivs:")?.iter().all(|value| value == "1"));
        // A descriptor of a map, program or link is power over the datapath (`bpf(2)`).
        let descriptors: Vec<_> = fs::read_dir(format!("/proc/{proxy}/fd"))?
            // One that is closed in the meantime is none of those that stay.
            .filter_map(|entry| fs::read_link(entry.ok()?.path()).ok())
            .collect();
        assert!(descriptors.len() > 3, "{descriptors:?}");
        assert!(!descriptors.iter().any(|link| link.to_string_lossy().contains("bpf")), "{descriptors:?}");
    }
    Ok(())
}

/// Runs a gateway that is told where it listens, which server it has and which scanner, and no
/// more, by a shell command that ends in `exec`; sees that it passes a message and stops a virus.
fn run_with_three_keys(prelude: &str) -> anyhow::Result<()> {
    let lab = Lab::new()?;
    let clamd = Clamd::start(&lab)?;
    let server = Recorder::start(lab.server(), Family::V4.smtp(), Manners::default())?;
    // The account need not be able to reach the folder in which the binary was built.
    let binary = lab.directory().join("gateway-binary");
    fs::copy(gateway::binary()?, &binary)?;
    fs::set_permissions(&binary, fs::Permissions::from_mode(0o755))?;
    let temporary = lab.directory().join("tmp");
    fs::create_dir(&temporary)?;
    fs::set_permissions(&temporary, fs::Permissions::from_mode(0o1777))?;
    let listen: SocketAddr = "192.0.2.1:2525".parse()?;
    let config = lab.directory().join("fixed.yaml");
    let scan = format!("scan:\n  clamd:\n    address: {}\n", clamd.address());
    let server_key = format!("fixed-server: \"{}\"\n", Family::V4.smtp());
    fs::write(&config, format!("origin: fixed\nlisten: [\"{listen}\"]\n{server_key}{scan}"))?;
    // The namespace brings a view of the file system of its own: the machine's folders stay as they are.
    let script = format!("{prelude} {} run -c {}", binary.display(), config.display());
    let mut command = lab.router().command("sh");
    command.args(["-ec", &script]).env("TMPDIR", &temporary);
    let mut gateway = Daemon::start("fixed", lab.directory(), &mut command)?;
    gateway.wait_until(Duration::from_secs(15), |daemon| daemon.log().contains("intercepting"))?;
    for (octets, code) in [(message::infected("fixed"), 550), (message::large("fixed", 600_000, 6), 250)] {
        let mut client = Client::up_to_data(lab.client(), listen)?;
        client.send(&octets)?;
        client.send(message::END)?;
        client.expect(code).with_context(|| gateway.log_tail())?;
    }
    assert_eq!(server.messages().len(), 1);
    ensure!(gateway.stop()?.success(), "it did not end in good order");
    Ok(())
}

#[test]
fn a_fixed_gateway_runs_without_root_and_without_folders_made_for_it() -> anyhow::Result<()> {
    run_with_three_keys(
        "mount -t tmpfs none /var/spool; mount -t tmpfs none /run;
         exec setpriv --reuid=nobody --regid=nogroup --clear-groups --inh-caps=-all --",
    )
}

#[test]
fn a_fixed_gateway_runs_as_root_without_an_account_of_its_own() -> anyhow::Result<()> {
    run_with_three_keys(
        "mount -t tmpfs none /var/spool; mount -t tmpfs none /run; grep -v ^gateway: /etc/passwd >$TMPDIR/passwd;
         mount --bind $TMPDIR/passwd /etc/passwd; exec",
    )
}
