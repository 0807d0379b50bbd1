//! The operator's script for locks: what it finds around it, and what it cannot do to the gateway.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, ensure};
use gateway_tests::clamd::Clamd;
use gateway_tests::client::Client;
use gateway_tests::gateway::{Gateway, Settings, binary};
use gateway_tests::lab::{Family, Lab};
use gateway_tests::message::{self, END};
use gateway_tests::recorder::{Manners, Recorder};
use gateway_tests::wait;
use nix::unistd::User;

use crate::quarantine::lock;

/// An account that every Debian has, and that is not the proxy's.
const ACCOUNT: &str = "daemon";
const LONG: Duration = Duration::from_secs(60);

/// A folder of the script's, and the script in it.
struct Script {
    folder: PathBuf,
}

impl Script {
    /// A script that makes a folder of its own for each run, and then does `text`; `$d` is its folder.
    fn new(lab: &Lab, text: &str) -> anyhow::Result<Self> {
        let folder = lab.directory().join("script");
        fs::create_dir(&folder)?;
        fs::set_permissions(&folder, fs::Permissions::from_mode(0o777))?;
        let script = Self { folder };
        let begin =
            format!("#!/bin/sh\nPATH=/usr/bin:/bin\nd={}/run.$$\nmkdir $d\n", script.folder.display());
        fs::write(script.path(), format!("{begin}{text}\n"))?;
        fs::set_permissions(script.path(), fs::Permissions::from_mode(0o755))?;
        Ok(script)
    }

    fn path(&self) -> PathBuf {
        // A shell would take it apart.
        self.folder.join("on lock $(id); script")
    }

    /// The folders of those that run or have run.
    fn runs(&self) -> anyhow::Result<Vec<PathBuf>> {
        let entries = fs::read_dir(&self.folder)?.collect::<Result<Vec<_>, _>>()?;
        let runs = entries.iter().filter(|entry| entry.file_name().to_string_lossy().starts_with("run."));
        Ok(runs.map(fs::DirEntry::path).collect())
    }

    /// The folders with a file of this name in them, once there are that many.
    fn wait_for(&self, name: &str, count: usize) -> anyhow::Result<Vec<PathBuf>> {
        wait::until(LONG, "runs of the script", || {
            let runs: Vec<_> = self.runs()?.into_iter().filter(|run| run.join(name).exists()).collect();
            Ok((runs.len() >= count).then_some(runs))
        })
    }

    fn section(&self, keys: &str) -> String {
        format!("on-lock: {{script: '{}', user: {ACCOUNT}, {keys}}}\n", self.path().display())
    }
}

/// A line of a file in `/proc` that begins with `name`, from behind that on.
fn field(text: &str, name: &str) -> anyhow::Result<String> {
    let line = text.lines().find_map(|line| line.strip_prefix(name));
    Ok(line.with_context(|| format!("no {name} in {text}"))?.trim().to_owned())
}

fn read(run: &Path, name: &str) -> anyhow::Result<String> {
    Ok(String::from_utf8_lossy(&fs::read(run.join(name))?).into_owned())
}

/// A gateway whose filter keeps `spammer@` out and locks for it, with these sections more.
pub(crate) fn filtering(lab: &Lab, more: &str) -> anyhow::Result<Gateway> {
    Gateway::start(lab, &Settings { more: filters(more), ..Settings::default() })
}

/// Its sections.
pub(crate) fn filters(more: &str) -> String {
    format!(
        "locks: {{lock-on: [regex], action: reject}}\nfilters: {{mail: {{reject: ['^spammer@']}}}}\n{more}"
    )
}

/// Offends in a session of its own, and reads the refusal.
pub(crate) fn offend(lab: &Lab) -> anyhow::Result<()> {
    let (mut client, _) = Client::greeted(lab.client(), Family::V4.smtp())?;
    client.send(b"MAIL FROM:<spammer@client.example>\r\n")?;
    client.expect(550).map(drop)
}

/// What of `/proc/PID` the script keeps.
const KEEP: &str = "for f in environ cmdline status stat limits; do cat /proc/$$/$f > $d/$f; done\n\
                    (exec > $d/fd; ls -l /proc/$$/fd); readlink /proc/$$/cwd > $d/cwd; : > $d/complete";

#[test]
fn a_script_has_the_documented_environment_an_account_of_its_own_and_nothing_else() -> anyhow::Result<()> {
    let lab = Lab::new()?;
    let (clamd, script) = (Clamd::start(&lab)?, Script::new(&lab, KEEP)?);
    let _server = Recorder::start(lab.server(), Family::V4.smtp(), Manners::default())?;
    // The gateway is started with a descriptor and with variables that are nobody's business.
    let wrapper = lab.directory().join("wrapper");
    fs::write(&wrapper, format!("#!/bin/sh\nexec 9</etc/passwd\nexec {} \"$@\"\n", binary()?.display()))?;
    fs::set_permissions(&wrapper, fs::Permissions::from_mode(0o755))?;
    let more = format!("locks: {{lock-on: [virus], for: 1h}}\n{}", script.section("time-limit: 30s"));
    let settings = Settings { more, ..Settings::scanning(clamd.address()) };
    let gateway = Gateway::start_binary(&wrapper, &lab, &settings, &[("SECRET", "of root"), ("IFS", "x")])?;
    let inherited = fs::read_link(format!("/proc/{}/fd/9", gateway.daemon().pid()))?;
    ensure!(inherited == Path::new("/etc/passwd"), "{}", inherited.display());

    let mut parallel = Client::up_to_data(lab.client(), Family::V4.smtp())?;
    let mut client = Client::up_to_data(lab.client(), Family::V4.smtp())?;
    client.send(&message::infected("for the script"))?;
    client.send(END)?;
    client.expect(550)?;
    // The second one meets the lock: that is no lock more.
    parallel.send(&message::infected("once more"))?;
    parallel.send(END)?;
    parallel.reply()?;
    let run = script.wait_for("complete", 1)?.remove(0);

    let environ = read(&run, "environ")?;
    let variables: Vec<_> = environ.split_terminator('\0').filter_map(|text| text.split_once('=')).collect();
    let names: Vec<_> = variables.iter().map(|(name, _)| *name).collect();
    let documented = "PROXY_NAME FOUND VIRUS_NAME SPAM_SCORE SOURCE_IP SOURCE_PORT TARGET_IP TARGET_PORT LOCAL_IP \
                      LOCAL_PORT IDENT IDENT_COUNT HELO MAIL_FROM RCPTS_TOTAL SIZE TRANSACTION AUTH SPOOL_NAME \
                      LOCK_FILE LOCK_DURATION TIME UNIXTIME";
    let mut sorted: Vec<_> = documented.split_whitespace().collect();
    let mut found = names.clone();
    sorted.sort_unstable();
    found.sort_unstable();
    assert_eq!(found, sorted, "{environ}");
    let value =
        |wanted: &str| variables.iter().find(|(name, _)| *name == wanted).map_or("", |(_, value)| value);
    for (name, expected) in [
        ("PROXY_NAME", "gateway.example"),
        ("FOUND", "VIRUS"),
        ("SOURCE_IP", "192.0.2.2"),
        ("TARGET_IP", "198.51.100.2"),
        ("TARGET_PORT", "25"),
        ("LOCAL_IP", "127.0.0.1"),
        ("LOCAL_PORT", "10025"),
        ("IDENT_COUNT", "2"),
        ("HELO", "client.example"),
        ("MAIL_FROM", "sender@client.example"),
        ("RCPTS_TOTAL", "1"),
        ("TRANSACTION", "1"),
        ("AUTH", "0"),
        ("LOCK_FILE", "192.0.2.2"),
        ("LOCK_DURATION", "3600"),
    ] {
        assert_eq!(value(name), expected, "{name}");
    }
    assert!(value("VIRUS_NAME").contains(message::EICAR_SIGNATURE), "{environ}");
    assert!(value("SIZE").parse::<u64>()? > 68 && value("SOURCE_PORT").parse::<u16>()? > 0, "{environ}");
    let started = fs::metadata(script.path())?.modified()?.duration_since(std::time::UNIX_EPOCH)?.as_secs();
    assert!((started..started + 600).contains(&value("UNIXTIME").parse()?), "{environ}");
    let cmdline = read(&run, "cmdline")?;
    let arguments: Vec<_> = cmdline.split_terminator('\0').skip(2).collect();
    assert_eq!(arguments, ["VIRUS", "192.0.2.2", "-", "198.51.100.2"]);

    // Who it is, and what it may.
    let status = read(&run, "status")?;
    let account = User::from_name(ACCOUNT)?.context("no such account")?;
    assert_eq!(field(&status, "Uid:")?, vec![account.uid.to_string(); 4].join("\t"));
    assert_eq!(field(&status, "Gid:")?, vec![account.gid.to_string(); 4].join("\t"));
    assert!(!field(&status, "Groups:")?.split(' ').any(|group| group == "0"), "{status}");
    for set in ["CapInh:", "CapPrm:", "CapEff:", "CapBnd:", "CapAmb:"] {
        assert_eq!(field(&status, set)?, "0000000000000000", "{set}");
    }
    assert_eq!(field(&status, "NoNewPrivs:")?, "1");
    // The three standard descriptors are empty, and the shell itself has opened the script.
    let descriptors = read(&run, "fd")?;
    let open: Vec<_> =
        descriptors.lines().filter_map(|line| line.split_once(" -> ")).map(|(_, to)| to).collect();
    let script_itself = script.path().display().to_string();
    assert_eq!(open.iter().filter(|to| **to == "/dev/null").count(), 3, "{descriptors}");
    assert!(open.iter().all(|to| *to == "/dev/null" || *to == script_itself), "{descriptors}");
    assert_eq!(read(&run, "cwd")?, "/\n");
    // Group and session, and no terminal (proc_pid_stat(5), fields 5 to 7).
    let stat = read(&run, "stat")?;
    let (_, fields) = stat.rsplit_once(") ").context("no name")?;
    let fields: Vec<i32> = fields.split(' ').skip(1).take(4).map(str::parse).collect::<Result<_, _>>()?;
    let [parent, group, session, terminal] = fields[..] else { anyhow::bail!("{stat}") };
    assert_eq!((parent, terminal), (session, 0), "its parent leads the session");
    assert_ne!(group, session);
    let limits = read(&run, "limits")?;
    assert!(field(&limits, "Max open files")?.starts_with("1024 "), "{limits}");

    gateway.wait_for_log("hook=script outcome=done")?;
    // The next lock is the next run: there was none in between.
    lock(&gateway, &["remove", "192.0.2.2"])?;
    let mut client = Client::up_to_data(lab.client(), Family::V4.smtp())?;
    client.send(&message::infected("again"))?;
    client.send(END)?;
    client.expect(550)?;
    script.wait_for("complete", 2)?;
    assert_eq!(script.runs()?.len(), 2, "once for each lock");
    Ok(())
}

#[test]
fn a_script_that_hangs_is_killed_with_its_children_and_holds_nobody_up() -> anyhow::Result<()> {
    let lab = Lab::new()?;
    let script = Script::new(&lab, "sleep 600 &\necho $! > $d/child; : > $d/complete; wait")?;
    let _server = Recorder::start(lab.server(), Family::V4.smtp(), Manners::default())?;
    let gateway = filtering(&lab, &script.section("time-limit: 5s"))?;
    offend(&lab)?;
    let run = script.wait_for("complete", 1)?.remove(0);
    let child = read(&run, "child")?;
    ensure!(Path::new(&format!("/proc/{}", child.trim())).exists(), "it does not hang");
    // While it hangs, others are served.
    lock(&gateway, &["remove", "192.0.2.2"])?;
    let (mut client, _) = Client::greeted(lab.client(), Family::V4.smtp())?;
    client.envelope("")?;
    gateway.wait_for_log("hook=script outcome=overdue")?;
    wait::until(LONG, "the end of what the script has started", || {
        let stat = fs::read_to_string(format!("/proc/{}/stat", child.trim()));
        Ok((!stat.is_ok_and(|stat| !stat.contains(") Z "))).then_some(()))
    })?;
    gateway.wait_for_log("kind=hook")?;
    Ok(())
}

#[test]
fn of_many_locks_at_once_each_has_its_run_and_no_more_run_together_than_may() -> anyhow::Result<()> {
    const LOCKS: usize = 10;
    let lab = Lab::new()?;
    let gate = lab.directory().join("gate");
    let text = format!("while [ ! -e {} ]; do sleep 0.1; done; : > $d/complete", gate.display());
    let script = Script::new(&lab, &text)?;
    let _server = Recorder::start(lab.server(), Family::V4.smtp(), Manners::default())?;
    let gateway = filtering(&lab, &script.section("time-limit: 5m, at-once: 2"))?;
    for _ in 0..LOCKS {
        offend(&lab)?;
        lock(&gateway, &["remove", "192.0.2.2"])?;
    }
    wait::until(LONG, "two runs", || Ok((script.runs()?.len() >= 2).then_some(())))?;
    std::thread::sleep(Duration::from_secs(1));
    assert_eq!(script.runs()?.len(), 2);
    fs::write(&gate, "")?;
    script.wait_for("complete", LOCKS)?;
    wait::until(LONG, "word of each run", || {
        let told = gateway.log().matches("hook=script outcome=done").count();
        Ok((told == LOCKS).then_some(()))
    })
}

#[test]
fn a_script_that_cannot_be_run_is_told_and_one_without_its_account_keeps_the_gateway_from_starting()
-> anyhow::Result<()> {
    let lab = Lab::new()?;
    let _server = Recorder::start(lab.server(), Family::V4.smtp(), Manners::default())?;
    let section = |user: &str| format!("on-lock: {{script: /no/such/script, user: {user}}}\n");
    let gateway = filtering(&lab, &section(ACCOUNT))?;
    offend(&lab)?;
    gateway.wait_for_log("hook=script outcome=failed")?;
    let line = gateway.wait_for_log("kind=hook")?;
    ensure!(line.contains("cannot run /no/such/script"), "{line}");
    drop(gateway);

    let error = filtering(&lab, &section("no-such-account")).err().context("it has started")?;
    let error = format!("{error:#}");
    ensure!(error.contains("`on-lock.user`") && error.contains("useradd --system"), "{error}");
    Ok(())
}
