//! The thread that writes.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use rusqlite::{Connection, TransactionBehavior};
use tokio::sync::mpsc;

use super::pending::{Batch, Queue};
use super::{Contents, Error, FILE, Health, News, Table, Total, schema, set, usage};
use crate::clock;

/// How long changes are gathered before they are written: what a crash of the process may lose.
const GATHER: Duration = Duration::from_millis(200);
/// How long a file that cannot be used is left alone.
const RETRY: Duration = Duration::from_secs(5);
/// How often usage that counts no longer is removed.
const SWEEP: Duration = Duration::from_secs(60);

pub(super) struct Writer {
    folder: PathBuf,
    file: Option<Connection>,
    /// The file was read.
    read: bool,
    queue: Arc<Queue>,
    health: Arc<Mutex<Health>>,
    news: mpsc::UnboundedSender<News>,
    /// Its trouble was logged.
    told: bool,
    swept: Instant,
}

impl Writer {
    pub(super) fn new(
        folder: &Path,
        queue: Arc<Queue>,
        health: Arc<Mutex<Health>>,
        news: mpsc::UnboundedSender<News>,
    ) -> Self {
        let folder = folder.to_owned();
        Self { folder, file: None, read: false, queue, health, news, told: false, swept: clock::now() }
    }

    /// Opens the file and reads it.
    pub(super) fn begin(&mut self) -> Contents {
        self.open()
            .unwrap_or_else(|error| {
                self.fail(&error);
                None
            })
            .unwrap_or_default()
    }

    /// Opens the file; one that is damaged makes room for a new one. Gives what is in it where that
    /// is not known yet.
    fn open(&mut self) -> Result<Option<Contents>, Error> {
        let file = match schema::open(&self.folder) {
            Err(error @ Error::Damaged { .. }) => {
                self.replace(&error)?;
                schema::open(&self.folder)
            }
            opened => opened,
        }?;
        let failed = |source| schema::failure(&self.folder.join(FILE), source);
        let contents = if self.read { None } else { Some(load(&file).map_err(failed)?) };
        self.read = true;
        self.file = Some(file);
        Ok(contents)
    }

    fn replace(&self, error: &Error) -> Result<(), Error> {
        if let Err(failed) = schema::move_aside(&self.folder) {
            let detail = format!("{error}; it cannot be moved away: {failed}");
            return Err(Error::Damaged { path: self.folder.join(FILE), detail });
        }
        tracing::warn!(
            %error,
            moved_to = %schema::aside(&self.folder).display(),
            "the state store was damaged; a new one was begun, without what was in it"
        );
        Ok(())
    }

    /// Writes what is said, until the store is dropped.
    pub(super) fn run(mut self) {
        loop {
            if self.told {
                self.rest();
            } else if !self.queue.wait() {
                self.queue.gather(GATHER);
            }
            let (batch, flushes) = self.queue.take();
            match self.write(&batch) {
                Ok(totals) => self.recover(totals, batch.epoch),
                Err(error) => {
                    self.queue.put_back(batch);
                    self.fail(&error);
                }
            }
            // Who waits is told, whether it was written or tried in vain.
            drop(flushes);
            if self.queue.is_closed() {
                return;
            }
        }
    }

    /// Leaves a file that cannot be used alone for a while; nobody waits for it meanwhile.
    fn rest(&self) {
        let mut left = RETRY;
        while !left.is_zero() && !self.queue.is_closed() {
            let step = left.min(GATHER);
            std::thread::sleep(step);
            left = left.saturating_sub(step);
            self.queue.release();
        }
    }

    fn write(&mut self, batch: &Batch) -> Result<Vec<Total>, Error> {
        if self.file.is_none()
            && let Some(contents) = self.open()?
        {
            // Nobody listens once the process ends.
            self.news.send(News::Contents(contents)).ok();
        }
        let Some(file) = self.file.as_mut().filter(|_| !batch.is_empty()) else { return Ok(Vec::new()) };
        let sweep = clock::now().saturating_duration_since(self.swept) >= SWEEP;
        let written = commit(file, batch, sweep);
        if sweep {
            self.swept = clock::now();
        }
        written.map_err(|source| {
            let error = schema::failure(&self.folder.join(FILE), source);
            if matches!(error, Error::Damaged { .. }) {
                // Opened anew it is looked at as a whole.
                self.file = None;
            }
            error
        })
    }

    fn fail(&mut self, error: &Error) {
        set(&self.health, Health::MemoryOnly { reason: error.to_string() });
        if !std::mem::replace(&mut self.told, true) {
            tracing::warn!(%error, "the state store cannot be used; what it is for goes on in memory only");
        }
    }

    fn recover(&mut self, totals: Vec<Total>, epoch: u64) {
        if std::mem::take(&mut self.told) {
            set(&self.health, Health::Kept);
            tracing::info!("the state store is written again");
        }
        if !totals.is_empty() {
            self.news.send(News::Usage { totals, epoch }).ok();
        }
    }
}

fn load(file: &Connection) -> rusqlite::Result<Contents> {
    let mut contents = Contents { usage: usage::load(file)?, ..Contents::default() };
    for table in Table::ALL {
        let mut select = file.prepare(&format!("SELECT key, value FROM {}", table.name()))?;
        let rows = select.query_map((), |row| Ok((row.get(0)?, row.get(1)?)))?;
        contents.rows.insert(table, rows.collect::<rusqlite::Result<_>>()?);
    }
    Ok(contents)
}

pub(super) fn commit(file: &mut Connection, batch: &Batch, sweep: bool) -> rusqlite::Result<Vec<Total>> {
    let writing = file.transaction_with_behavior(TransactionBehavior::Immediate)?;
    for table in &batch.cleared {
        writing.execute(&format!("DELETE FROM {}", table.name()), ())?;
    }
    for ((table, key), value) in &batch.rows {
        let table = table.name();
        match value {
            Some(value) => writing
                .prepare_cached(&format!("INSERT OR REPLACE INTO {table} (key, value) VALUES (?1, ?2)"))?
                .execute([key, value])?,
            None => writing.prepare_cached(&format!("DELETE FROM {table} WHERE key = ?1"))?.execute([key])?,
        };
    }
    usage::forget(&writing, &batch.forgotten)?;
    let totals = usage::add(&writing, &batch.usage)?;
    if sweep {
        let now = clock::wall().duration_since(std::time::UNIX_EPOCH).map_or(0, |since| since.as_secs());
        usage::sweep(&writing, now)?;
    }
    writing.commit()?;
    Ok(totals)
}
