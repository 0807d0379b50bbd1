//! The proxy process is kept from what it does not need, whoever runs code in it.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use gateway_tests::client::Client;
use gateway_tests::gateway::{Gateway, Settings};
use gateway_tests::lab::{Family, Lab};
use gateway_tests::possessed::Possessed;
use gateway_tests::recorder::{Manners, Recorder};
use nix::libc;

const PROCESS: &str = "process:\n  sandbox: ";

fn settings(sandbox: &str) -> Settings {
    Settings { more: format!("{PROCESS}{sandbox}\n"), ..Settings::default() }
}

fn denied(errno: i32) -> i64 {
    -i64::from(errno)
}

fn wide(value: i32) -> u64 {
    u64::from(value.unsigned_abs())
}

/// Opens a file in the possessed process.
fn open(proxy: &mut Possessed, path: &str, flags: i32) -> anyhow::Result<i64> {
    let path = proxy.text(path)?;
    proxy.call(libc::SYS_openat, &[i64::from(libc::AT_FDCWD).cast_unsigned(), path, wide(flags), 0o600])
}

#[test]
fn an_attacker_in_the_proxy_reaches_no_file_no_packet_and_no_program() -> anyhow::Result<()> {
    let lab = Lab::new()?;
    let _server = Recorder::start(lab.server(), Family::V4.smtp(), Manners::default())?;
    let gateway = Gateway::start(&lab, &settings("require"))?;
    gateway.wait_for_log("enforced=fully")?;
    let outside = lab.directory().join("outside");
    fs::write(&outside, "x")?;
    fs::set_permissions(&outside, fs::Permissions::from_mode(0o666))?;
    let datapath = u64::try_from(gateway.serving().as_raw())?;
    let mut proxy = Possessed::seize(gateway.proxy()?)?;
    let (eacces, eperm) = (denied(libc::EACCES), denied(libc::EPERM));

    let own = gateway.spool().join("attack").display().to_string();
    assert!(open(&mut proxy, &own, libc::O_RDWR | libc::O_CREAT)? >= 0);
    for path in ["/etc/passwd", "/proc/self/maps", "/dev/null", &outside.display().to_string()] {
        assert_eq!(open(&mut proxy, path, libc::O_RDONLY)?, eacces, "{path}");
    }
    assert_eq!(open(&mut proxy, "/tmp/attack", libc::O_RDWR | libc::O_CREAT)?, eacces);

    // It has CAP_NET_RAW.
    for family in [libc::AF_INET, libc::AF_INET6, libc::AF_PACKET] {
        assert_eq!(proxy.call(libc::SYS_socket, &[wide(family), wide(libc::SOCK_RAW), 0])?, eperm);
    }
    let udp = proxy.call(libc::SYS_socket, &[wide(libc::AF_INET), wide(libc::SOCK_DGRAM), 0])?;
    assert!(udp >= 0, "{udp}");

    let shell = proxy.text("/bin/sh")?;
    let writable_code = wide(libc::PROT_READ | libc::PROT_WRITE | libc::PROT_EXEC);
    for (name, call, arguments) in [
        ("execve", libc::SYS_execve, vec![shell, 0, 0]),
        ("fork", libc::SYS_clone, vec![wide(libc::SIGCHLD)]),
        (
            "mmap",
            libc::SYS_mmap,
            vec![0, 4096, writable_code, wide(libc::MAP_PRIVATE | libc::MAP_ANON), u64::MAX],
        ),
        ("kill", libc::SYS_kill, vec![datapath, 0]),
        ("ptrace", libc::SYS_ptrace, vec![wide(16), datapath]),
        ("bpf", libc::SYS_bpf, vec![0, shell, 64]),
        ("unshare", libc::SYS_unshare, vec![wide(libc::CLONE_NEWUSER)]),
        ("io_uring_setup", libc::SYS_io_uring_setup, vec![1, shell]),
        ("perf_event_open", libc::SYS_perf_event_open, vec![shell, 0, 0, u64::MAX]),
        ("userfaultfd", libc::SYS_userfaultfd, vec![1]),
        ("setuid", libc::SYS_setuid, vec![0]),
        ("listen", libc::SYS_listen, vec![u64::try_from(udp)?, 1]),
        ("prctl", libc::SYS_prctl, vec![wide(libc::PR_SET_DUMPABLE), 1]),
    ] {
        assert_eq!(proxy.call(call, &arguments)?, eperm, "{name}");
    }
    assert_eq!(proxy.call(libc::SYS_clone3, &[shell, 64])?, denied(libc::ENOSYS));
    drop(proxy);

    // The process has come to no harm.
    let (mut client, _) = Client::greeted(lab.client(), Family::V4.smtp())?;
    client.begin_data()?;
    Ok(())
}

#[test]
fn the_same_is_possible_without_the_sandbox() -> anyhow::Result<()> {
    let lab = Lab::new()?;
    let gateway = Gateway::start(&lab, &settings("off"))?;
    gateway.wait_for_log("enforced=off")?;
    let mut proxy = Possessed::seize(gateway.proxy()?)?;
    assert!(open(&mut proxy, "/etc/passwd", libc::O_RDONLY)? >= 0);
    let packets = [wide(libc::AF_PACKET), wide(libc::SOCK_RAW), 0];
    assert!(proxy.call(libc::SYS_socket, &packets)? >= 0);
    Ok(())
}

#[test]
fn without_a_word_about_it_every_thread_of_the_proxy_is_in_it() -> anyhow::Result<()> {
    let lab = Lab::new()?;
    let gateway = Gateway::start(&lab, &Settings::default())?;
    gateway.wait_for_log("enforced=fully")?;
    let tasks = fs::read_dir(format!("/proc/{}/task", gateway.proxy()?))?;
    let tasks = tasks.map(|task| fs::read_to_string(task?.path().join("status")));
    let tasks = tasks.collect::<Result<Vec<_>, _>>()?;
    assert!(tasks.len() > 1, "{}", tasks.len());
    for status in tasks {
        assert!(status.contains("\nSeccomp:\t2\n") && status.contains("\nNoNewPrivs:\t1\n"), "{status}");
    }
    Ok(())
}

#[test]
fn a_reload_that_needs_another_folder_is_refused_and_says_what_to_do() -> anyhow::Result<()> {
    let lab = Lab::new()?;
    let keeping = Settings { spool: vec![("leave-on", "[error]")], ..settings("require") };
    let mut gateway = Gateway::start(&lab, &keeping)?;
    let yaml = fs::read_to_string(lab.directory().join("gateway/gateway.yaml"))?;
    let spool = gateway.spool().display().to_string();
    gateway.write_config(&yaml.replace(&spool, &format!("{spool}2")))?;
    let (reloaded, said) = gateway.control_command("reload")?;
    assert!(!reloaded && said.contains("spool2") && said.contains("gateway upgrade"), "{said}");
    gateway.write_config(&yaml)?;
    let (reloaded, said) = gateway.control_command("reload")?;
    assert!(reloaded, "{said}");
    gateway.stop()
}
