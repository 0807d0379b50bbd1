//! The rules, each in a thread of its own: they hold for that thread alone.

use std::fs::{self, File};
use std::io::{self, ErrorKind, Read as _, Write as _};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::os::unix::net::{UnixListener, UnixStream};
use std::process::Command;
use std::thread;

use nix::sys::socket::{AddressFamily, SockFlag, SockType, socket};
use nix::unistd::Pid;
use rustix::io::Errno;
use tempfile::TempDir;

use super::*;

/// What `act` gives in a thread that is in the sandbox.
fn inside<T: Send + 'static>(reach: Reach, act: impl FnOnce() -> T + Send + 'static) -> T {
    let thread = thread::spawn(move || {
        rustix::thread::set_no_new_privs(true).unwrap();
        assert_eq!(enter(&reach, Sandbox::Require).unwrap(), Enforced::Fully);
        act()
    });
    thread.join().unwrap()
}

fn nothing() -> Reach {
    Reach::default()
}

fn kind<T>(done: io::Result<T>) -> Option<ErrorKind> {
    done.err().map(|error| error.kind())
}

const DENIED: Option<ErrorKind> = Some(ErrorKind::PermissionDenied);

#[test]
fn only_named_files_can_be_opened_and_only_in_their_folders_made() {
    let home = TempDir::new().unwrap();
    let (own, read, other) = (home.path().join("own"), home.path().join("read"), home.path().join("other"));
    for folder in [&own, &read, &other] {
        fs::create_dir(folder).unwrap();
        fs::write(folder.join("file"), "old").unwrap();
    }
    let mut reach = nothing();
    reach.makes_files_in(&own);
    reach.reads(&read);
    inside(reach, move || {
        let file = own.join("new");
        File::create(&file).unwrap().write_all(b"text").unwrap();
        fs::rename(&file, own.join("renamed")).unwrap();
        fs::create_dir(own.join("folder")).unwrap();
        fs::rename(own.join("renamed"), own.join("folder/moved")).unwrap();
        assert_eq!(fs::read(own.join("folder/moved")).unwrap(), b"text");
        fs::write(own.join("file"), "shorter").unwrap();
        fs::remove_file(own.join("file")).unwrap();
        assert_eq!(fs::read_dir(&own).unwrap().count(), 1);

        assert_eq!(fs::read(read.join("file")).unwrap(), b"old");
        assert_eq!(kind(fs::write(read.join("file"), "new")), DENIED);
        assert_eq!(kind(fs::remove_file(read.join("file"))), DENIED);
        assert_eq!(kind(File::create(read.join("more"))), DENIED);

        assert_eq!(kind(fs::read(other.join("file"))), DENIED);
        assert_eq!(kind(fs::read_dir(&other)), DENIED);
        for path in ["/etc/passwd", "/etc/shadow", "/proc/self/environ", "/proc/1/status", "/dev/null"] {
            assert_eq!(kind(File::open(path)), DENIED, "{path}");
        }
        assert_eq!(kind(std::os::unix::fs::symlink("/etc/passwd", own.join("link"))), DENIED);
        assert_eq!(kind(UnixListener::bind(own.join("socket"))), DENIED);
    });
}

#[test]
fn no_program_can_be_started_and_no_process_made() {
    let started = inside(nothing(), || kind(Command::new("/bin/true").status()));
    assert_eq!(started, DENIED);
}

#[test]
fn no_packets_can_be_seen_or_made_and_nobody_can_listen() {
    inside(nothing(), || {
        for (family, kind) in [
            (AddressFamily::Inet, SockType::Raw),
            (AddressFamily::Inet6, SockType::Raw),
            (AddressFamily::Packet, SockType::Raw),
            (AddressFamily::Packet, SockType::Datagram),
            (AddressFamily::Netlink, SockType::Raw),
            (AddressFamily::Vsock, SockType::Stream),
        ] {
            let made = socket(family, kind, SockFlag::SOCK_CLOEXEC, None);
            assert_eq!(made.err(), Some(nix::errno::Errno::EPERM), "{family:?} {kind:?}");
        }
        assert_eq!(kind(TcpListener::bind("127.0.0.1:0")), DENIED);
        let port = socket2::SockAddr::from(std::net::SocketAddr::from(([127, 0, 0, 1], 2525)));
        let bound = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
        assert_eq!(kind(bound.bind(&port)), DENIED);
    });
}

#[test]
fn the_power_of_root_is_out_of_reach_even_for_root() {
    inside(nothing(), || {
        let eperm = nix::errno::Errno::EPERM;
        assert_eq!(nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNET), Err(eperm));
        assert_eq!(nix::sys::signal::kill(Pid::this(), None), Err(eperm));
        let mounted = nix::mount::mount(
            None::<&str>,
            "/",
            None::<&str>,
            nix::mount::MsFlags::MS_BIND | nix::mount::MsFlags::MS_REMOUNT,
            None::<&str>,
        );
        assert_eq!(mounted, Err(eperm));
        assert_eq!(nix::unistd::chroot("/"), Err(eperm));
        assert_eq!(rustix::thread::set_no_new_privs(true), Err(Errno::PERM));
        assert!(!crate::datapath::probe::makes_maps());
    });
}

#[test]
fn what_a_session_needs_goes_on() {
    let home = TempDir::new().unwrap();
    let path = home.path().join("scanner.sock");
    let (scanner, server) = (UnixListener::bind(&path).unwrap(), TcpListener::bind("127.0.0.1:0").unwrap());
    let address = server.local_addr().unwrap();
    inside(nothing(), move || {
        // A listener that was handed over, sockets with a name, and threads.
        let mut client = TcpStream::connect(address).unwrap();
        let (mut accepted, _) = server.accept().unwrap();
        client.write_all(b"x").unwrap();
        thread::spawn(move || accepted.read_exact(&mut [0]).unwrap()).join().unwrap();
        UnixStream::connect(&path).unwrap();
        scanner.accept().unwrap();
        let dns = UdpSocket::bind("127.0.0.1:0").unwrap();
        dns.send_to(b"?", address).unwrap();
        assert!(nix::unistd::pipe().is_ok());
        assert!(thread::available_parallelism().is_ok());
    });
}

#[test]
fn switched_off_it_changes_nothing() {
    let read = thread::spawn(|| {
        assert_eq!(enter(&nothing(), Sandbox::Off).unwrap(), Enforced::Off);
        kind(File::open("/etc/passwd"))
    });
    assert_eq!(read.join().unwrap(), None);
}

#[test]
fn who_needs_the_machines_addresses_may_ask_for_them() {
    let reach = Reach { interfaces: true, ..nothing() };
    assert!(inside(reach, || nix::ifaddrs::getifaddrs().is_ok()));
    assert!(inside(nothing(), || nix::ifaddrs::getifaddrs().is_err()));
}

#[test]
fn a_reach_lacks_what_is_elsewhere_or_was_exchanged() {
    let home = TempDir::new().unwrap();
    let at = |name: &str| home.path().join(name);
    for folder in ["spool", "spool/inner", "spool2", "tables"] {
        fs::create_dir(at(folder)).unwrap();
    }
    fs::write(at("resolvers"), "old").unwrap();
    let mut own = nothing();
    own.makes_files_in(&at("spool"));
    own.reads(&at("tables"));
    own.reads(&at("resolvers"));
    let writes = |folder: &str| {
        let mut reach = nothing();
        reach.makes_files_in(&at(folder));
        own.lacks(&reach).map(Path::to_owned)
    };
    let reads = |path: &str| {
        let mut reach = nothing();
        reach.reads(&at(path));
        own.lacks(&reach).map(Path::to_owned)
    };
    assert_eq!((writes("spool"), writes("spool/inner"), writes("spool/later")), (None, None, None));
    for other in ["", "spool2", "tables"] {
        assert_eq!(writes(other), Some(at(other)));
    }
    fs::write(at("tables/new"), "").unwrap();
    assert_eq!((reads("tables/new"), reads("spool/inner"), reads("resolvers")), (None, None, None));
    assert_eq!((reads("spool2"), reads("missing")), (Some(at("spool2")), None));
    // Written anew under another name, and given the old one.
    fs::write(at("newer"), "new").unwrap();
    fs::rename(at("newer"), at("resolvers")).unwrap();
    assert_eq!(reads("resolvers"), Some(at("resolvers")));
}
