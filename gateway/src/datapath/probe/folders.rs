//! The folders in which the proxy keeps copies of messages, mail and what it remembers of clients.

use std::fs::{self, Metadata};
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use nix::sys::statfs::{TMPFS_MAGIC, statfs};

use super::{Finding, State};
use crate::config::file::Config;
use crate::config::units::ByteCount;
use crate::folder;
use crate::privilege::{Account, user};

/// Mode bits of a folder that let others in.
const OTHERS: u32 = 0o077;

/// A folder, and what it is for.
#[derive(Clone, Copy, Debug)]
struct Kind<'c> {
    /// Such as `spool`.
    name: &'static str,
    /// Where the configuration names it.
    key: &'static str,
    path: &'c Path,
    /// What must stay free in it, and what becomes of mail otherwise.
    min_free: Option<(ByteCount, &'static str)>,
    /// What it means when it cannot be used.
    without: &'static str,
    /// How bad that is where it is not there, and where it is not as it should be.
    absent: State,
    wrong: State,
    /// What is in it has been promised.
    lasting: bool,
}

/// Looks at all of them.
pub(super) fn examine(config: &Config) -> Vec<Finding> {
    let owner = if user::is_root() {
        // An account that is not there is told of in its own place.
        let Ok(account) = Account::find(&config.user) else { return Vec::new() };
        account.uid()
    } else {
        nix::unistd::getuid().as_raw()
    };
    let spool = &config.spool.directory;
    let look = |kind: Kind<'_>| look_at(kind, &config.user, owner, spool);
    let mut findings = look(Kind {
        name: "spool",
        key: "spool.directory",
        path: spool,
        min_free: Some((config.spool.min_free, "messages to be scanned are answered with 452")),
        without: "copies of messages cannot be kept elsewhere but in the temporary folder, and that only in place of \
                  the default one",
        absent: State::Look,
        wrong: State::Missing,
        lasting: false,
    });
    if let Some(path) = &config.queue.directory {
        findings.extend(look(Kind {
            name: "queue",
            key: "queue.directory",
            path,
            min_free: Some((config.queue.min_free, "mail is answered with 452")),
            without: "the gateway does not start without its queue",
            absent: State::Missing,
            wrong: State::Missing,
            lasting: true,
        }));
    }
    findings.extend(look(Kind {
        name: "state",
        key: "state-directory",
        path: &config.state_directory,
        min_free: None,
        without: "quotas and locks are lost with the process",
        absent: State::Look,
        wrong: State::Look,
        lasting: true,
    }));
    findings
}

fn look_at(kind: Kind<'_>, account: &str, owner: u32, spool: &Path) -> Vec<Finding> {
    let Kind { name, key, path, without, absent, .. } = kind;
    let shown = path.display();
    let found = match fs::metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound && user::is_root() && is_made(path, spool) => {
            return vec![Finding::fine(format!("the {name} folder {shown} will be made"))];
        }
        Err(error) => {
            let advice = format!("run `install -d -m 0700 -o {account} {shown}`; {without}");
            return vec![Finding {
                state: absent,
                what: format!("the {name} folder {shown}: {error}"),
                advice,
            }];
        }
        Ok(found) => found,
    };
    let wrong = if !found.is_dir() {
        Some((format!("{shown} is no folder"), format!("name another one in `{key}`")))
    } else if found.uid() != owner {
        let what = format!("the {name} folder {shown} belongs to user {}, not {owner}", found.uid());
        Some((what, format!("run `chown {account} {shown}`")))
    } else if found.mode() & OTHERS != 0 {
        let what =
            format!("the {name} folder {shown} is open to others (mode {:04o})", found.mode() & 0o7777);
        Some((what, format!("run `chmod 0700 {shown}`")))
    } else {
        None
    };
    match wrong {
        Some((what, advice)) => vec![Finding { state: kind.wrong, what, advice }],
        None => usable(kind, &found, spool),
    }
}

/// Whether the gateway makes a folder that is not there: in a folder that is, or that it makes before.
fn is_made(path: &Path, spool: &Path) -> bool {
    path.parent().is_some_and(|parent| parent.is_dir() || (parent == spool && is_made(spool, spool)))
}

/// What there is to say of the file system of a folder that is as it should be.
fn usable(kind: Kind<'_>, found: &Metadata, spool: &Path) -> Vec<Finding> {
    let Kind { name, key, path, min_free, lasting, .. } = kind;
    let shown = path.display();
    let mut what = format!("the {name} folder {shown}");
    let mut findings = Vec::new();
    match folder::free(path) {
        Ok(free) => {
            let shown_free = ByteCount::mib(free >> 20);
            what.push_str(&format!(", {shown_free} free"));
            if let Some((wanted, otherwise)) = min_free.filter(|(wanted, _)| free < wanted.bytes()) {
                findings.push(Finding::look(
                    format!("the {name} folder {shown} has {shown_free} free"),
                    format!("{otherwise} until {wanted} are: make room, or lower `min-free` beside `{key}`"),
                ));
            }
        }
        Err(error) => findings.push(Finding::look(
            format!("the {name} folder {shown} does not say how much is free: {error}"),
            "see what is mounted there",
        )),
    }
    let shared = path != spool && fs::metadata(spool).is_ok_and(|spool| spool.dev() == found.dev());
    if shared {
        what.push_str(", on the file system of the spool");
    }
    let memory = statfs(path).is_ok_and(|is| is.filesystem_type() == TMPFS_MAGIC);
    if lasting && memory {
        findings.push(Finding::look(
            format!("the {name} folder {shown} is in memory"),
            format!("what is in it is lost with the machine: name one on a disk in `{key}`"),
        ));
    }
    findings.insert(0, Finding::fine(what));
    findings
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt as _, chown};

    use super::*;
    use crate::config::file::{Queue, Spool};

    /// The account of this test's folders.
    fn account() -> &'static str {
        if user::is_root() { "nobody" } else { "" }
    }

    fn folder(mode: u32) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        if user::is_root() {
            chown(folder.path(), Some(Account::find("nobody").unwrap().uid()), None).unwrap();
        }
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(mode)).unwrap();
        folder
    }

    fn config(spool: &Path, queue: Option<&Path>, state: &Path) -> Config {
        Config {
            user: account().to_owned(),
            spool: Spool { directory: spool.to_owned(), ..Spool::default() },
            queue: Queue { directory: queue.map(Path::to_owned), ..Queue::default() },
            state_directory: state.to_owned(),
            ..Config::default()
        }
    }

    /// The findings about the folder at `path`.
    fn about(config: &Config, path: &Path) -> Vec<(State, String)> {
        let findings = examine(config).into_iter().filter(|finding| {
            finding.what.contains(&path.display().to_string()) && !finding.what.ends_with("is in memory")
        });
        findings.map(|finding| (finding.state, finding.what)).collect()
    }

    #[test]
    fn folders_as_they_should_be_are_told_with_what_is_free() {
        let (spool, queue, state) = (folder(0o700), folder(0o700), folder(0o700));
        let config = config(spool.path(), Some(queue.path()), state.path());
        for path in [spool.path(), queue.path(), state.path()] {
            let found = about(&config, path);
            assert!(found.iter().all(|(found, _)| *found != State::Missing), "{found:?}");
            assert!(found[0].1.contains("MiB free") || found[0].1.contains("GiB free"), "{found:?}");
        }
        assert!(about(&config, queue.path())[0].1.ends_with("on the file system of the spool"));
    }

    #[test]
    fn a_folder_of_another_or_open_to_others_is_missing_unless_it_can_be_gone_without() {
        let (open, state) = (folder(0o750), folder(0o750));
        let config = config(open.path(), Some(open.path()), state.path());
        let found: Vec<_> = about(&config, open.path()).into_iter().map(|(found, _)| found).collect();
        assert_eq!(found, [State::Missing, State::Missing]);
        assert_eq!(about(&config, state.path())[0].0, State::Look);
        if user::is_root() {
            chown(open.path(), Some(0), None).unwrap();
            assert!(about(&config, open.path())[0].1.contains("belongs to user 0"));
        }
    }

    #[test]
    fn a_queue_without_a_folder_or_without_room_is_told() {
        let (spool, state) = (folder(0o700), folder(0o700));
        let file = spool.path().join("file");
        fs::write(&file, "").unwrap();
        let nowhere = spool.path().join("there/is/none");
        for path in [&file, &nowhere] {
            let config = config(spool.path(), Some(path), state.path());
            assert_eq!(about(&config, path)[0].0, State::Missing, "{}", path.display());
        }
        let mut full = config(spool.path(), Some(spool.path()), state.path());
        full.queue.min_free = ByteCount::new(u64::MAX);
        let found = about(&full, spool.path());
        assert!(found.iter().any(|(found, what)| *found == State::Look && what.starts_with("the queue")));
    }

    #[test]
    fn what_the_gateway_makes_is_not_missing() {
        let parent = folder(0o700);
        let (spool, state) = (parent.path().join("spool"), parent.path().join("state"));
        let queue = spool.join("queue");
        let config = config(&spool, Some(&queue), &state);
        // Without root nobody makes folders before the gateway starts.
        let made = if user::is_root() { State::Fine } else { State::Look };
        assert_eq!(about(&config, &state)[0].0, made);
        let missing = if user::is_root() { State::Fine } else { State::Missing };
        assert_eq!(about(&config, &queue)[0].0, missing);
    }
}
