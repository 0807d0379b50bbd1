//! One run of the script.

use std::process::Stdio;
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use tokio::process::{Child, Command};
use tokio::time::{sleep, timeout};

use super::environment::{arguments, environment};
use crate::ipc::offender::{End, Errand, Report};

/// How often it is looked whether what a script has left behind has ended.
const LOOK: Duration = Duration::from_millis(100);

/// Runs it until its last process has ended, or kills all of them.
pub(super) async fn run(errand: Errand) -> Report {
    let Errand { script, limit, offender, .. } = errand;
    let mut command = Command::new(&script);
    command.args(arguments(&offender)).env_clear().envs(environment(&offender)).current_dir("/");
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    // A group of its own can be killed as a whole.
    command.process_group(0).kill_on_drop(true);
    let end = match command.spawn() {
        Err(error) => End::Failed { reason: format!("cannot run {}: {error}", script.display()) },
        Ok(mut child) => wait(&mut child, limit).await,
    };
    Report { lock: offender.lock, end }
}

async fn wait(child: &mut Child, limit: Duration) -> End {
    let group = child.id().and_then(|id| i32::try_from(id).ok()).map(Pid::from_raw);
    let mut end = None;
    let whole = async {
        end = Some(match child.wait().await {
            Ok(status) if status.success() => End::Done,
            Ok(status) => End::Failed { reason: format!("it ended with {status}") },
            Err(error) => End::Failed { reason: format!("its end cannot be waited for: {error}") },
        });
        // As long as any of the group is left, its number is nobody else's.
        while group.is_some_and(|group| killpg(group, None) != Err(Errno::ESRCH)) {
            sleep(LOOK).await;
        }
    };
    if timeout(limit, whole).await.is_ok() {
        return end.unwrap_or(End::Done);
    }
    // It may have ended by itself meanwhile.
    if let Some(Err(error)) = group.map(|group| killpg(group, Signal::SIGKILL)) {
        tracing::debug!(%error, "a script that is over its time");
    }
    drop(child.wait().await);
    End::Overdue
}
