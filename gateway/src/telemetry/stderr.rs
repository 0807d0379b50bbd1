//! Standard error, through a thread of its own: whoever reads it slowly holds up no mail.

use std::io::{self, Write};
use std::sync::mpsc::{self, Receiver, SyncSender};
use std::thread;
use std::time::Duration;

use super::fields::Entry;
use super::log::Sink;
use crate::config::file::LogFormat;

/// Lines that wait at most.
const QUEUE: usize = 4_096;
/// How long the first line of a batch waits for others. Waking a thread and a system call for each
/// line took a sixth of what a short message costs in all.
const GATHER: Duration = Duration::from_millis(10);
/// Octets that are written at once: more would let lines of another process come between in a pipe
/// (`PIPE_BUF`, pipe(7)).
const BATCH: usize = 4_096;

/// How long the end of the process waits.
const FLUSH: Duration = Duration::from_secs(1);

/// What is on its way to the thread.
#[derive(Debug)]
enum Item {
    Line(String),
    Flush(mpsc::Sender<()>),
}

/// The thread's end that lines go in at; cheap to clone.
#[derive(Clone, Debug)]
pub(super) struct Writer(SyncSender<Item>);

impl Writer {
    /// Starts the thread.
    pub(super) fn start() -> io::Result<Self> {
        let (sender, items) = mpsc::sync_channel(QUEUE);
        let work = move || write_all(&items, &mut io::stderr());
        thread::Builder::new().name("log".to_owned()).spawn(work)?;
        Ok(Self(sender))
    }

    /// Waits a moment until the lines on their way are written.
    pub(super) fn flush(&self) {
        let (done, wait) = mpsc::channel();
        if self.0.try_send(Item::Flush(done)).is_ok() {
            // A reader that has not come back after a second does not come back.
            wait.recv_timeout(FLUSH).unwrap_or_default();
        }
    }

    /// Entries in this format go to standard error.
    pub(super) const fn sink(self, format: LogFormat) -> Stderr {
        Stderr { writer: self, format }
    }
}

/// Standard error as a place for entries.
#[derive(Debug)]
pub(super) struct Stderr {
    writer: Writer,
    format: LogFormat,
}

impl Sink for Stderr {
    fn write(&self, entry: &Entry) -> bool {
        let mut line = entry.line(self.format);
        line.push('\n');
        self.writer.0.try_send(Item::Line(line)).is_ok()
    }
}

/// Writes what comes until nobody is left who sends; what comes together is written together.
fn write_all(items: &Receiver<Item>, to: &mut impl Write) {
    let mut batch = Vec::with_capacity(BATCH);
    while let Ok(first) = items.recv() {
        if matches!(first, Item::Line(_)) {
            thread::sleep(GATHER);
        }
        for item in std::iter::once(first).chain(items.try_iter()) {
            match item {
                Item::Line(line) => {
                    if batch.len() + line.len() > BATCH {
                        write(&mut batch, to);
                    }
                    batch.extend_from_slice(line.as_bytes());
                }
                Item::Flush(done) => {
                    write(&mut batch, to);
                    done.send(()).unwrap_or_default();
                }
            }
        }
        write(&mut batch, to);
    }
}

fn write(batch: &mut Vec<u8>, to: &mut impl Write) {
    // There is nobody to tell that standard error is closed.
    to.write_all(batch).unwrap_or_default();
    batch.clear();
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every call of `write`.
    #[derive(Default)]
    struct Calls(Vec<Vec<u8>>);

    impl Write for Calls {
        fn write(&mut self, octets: &[u8]) -> io::Result<usize> {
            self.0.push(octets.to_vec());
            Ok(octets.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn written(lines: impl Iterator<Item = String>) -> Vec<Vec<u8>> {
        let (sender, items) = mpsc::channel();
        lines.for_each(|line| sender.send(Item::Line(line)).unwrap());
        drop(sender);
        let mut calls = Calls::default();
        write_all(&items, &mut calls);
        calls.0.retain(|call| !call.is_empty());
        calls.0
    }

    #[test]
    fn lines_that_wait_are_written_together_and_never_torn() {
        let lines = || (0..1_000).map(|number| format!("line {number:04} of the log\n"));
        let calls = written(lines());
        assert_eq!(calls.concat(), lines().collect::<String>().into_bytes());
        assert!(calls.len() < 10, "{} calls", calls.len());
        assert!(calls.iter().all(|call| call.len() <= BATCH && call.ends_with(b"\n")));
    }

    #[test]
    fn a_line_longer_than_a_batch_is_written_by_itself() {
        let long = "x".repeat(3 * BATCH) + "\n";
        let calls = written(["short\n".to_owned(), long.clone(), "short\n".to_owned()].into_iter());
        assert_eq!(calls, [b"short\n".to_vec(), long.into_bytes(), b"short\n".to_vec()]);
    }

    #[test]
    fn a_flush_is_answered_when_the_lines_before_it_are_written() {
        let (sender, items) = mpsc::channel();
        let (done, wait) = mpsc::channel();
        sender.send(Item::Line("last words\n".to_owned())).unwrap();
        sender.send(Item::Flush(done)).unwrap();
        drop(sender);
        let mut calls = Calls::default();
        write_all(&items, &mut calls);
        assert_eq!(calls.0.first(), Some(&b"last words\n".to_vec()));
        assert!(wait.recv().is_ok());
    }
}
