//! The file of one gateway.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rusqlite::{Connection, TransactionBehavior};

use super::pending::Batch;
use super::writer::Backend;
use super::{Contents, Error, FILE, News, Progress, Table, Total};
use crate::clock;

pub(super) mod schema;
pub(super) mod usage;

/// How often usage that counts no longer is removed.
const SWEEP: Duration = Duration::from_secs(60);

/// An SQLite file.
pub(super) struct Sqlite {
    folder: PathBuf,
    file: Option<Connection>,
    /// The file was read.
    read: bool,
    /// What nobody was told of yet.
    contents: Option<Contents>,
    swept: Instant,
    /// How far reading has come.
    progress: Progress,
}

impl Sqlite {
    pub(super) fn new(folder: &Path, progress: Progress) -> Self {
        let folder = folder.to_owned();
        Self { folder, file: None, read: false, contents: None, swept: clock::now(), progress }
    }

    /// Opens the file, and reads it the first time; one that is damaged makes room for a new one.
    fn open(&mut self) -> Result<(), Error> {
        let file = match schema::open(&self.folder) {
            Err(error @ Error::Damaged { .. }) => {
                self.replace(&error)?;
                schema::open(&self.folder)
            }
            opened => opened,
        }?;
        let failed = |source| schema::failure(&self.folder.join(FILE), source);
        if !self.read {
            self.contents = Some(load(&file, &self.progress).map_err(failed)?);
            self.read = true;
        }
        self.file = Some(file);
        Ok(())
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
}

impl Backend for Sqlite {
    const GATHER: Duration = Duration::from_millis(200);

    fn begin(&mut self) -> Result<Contents, Error> {
        self.open()?;
        Ok(self.contents.take().unwrap_or_default())
    }

    fn write(&mut self, batch: &mut Batch) -> Result<Vec<News>, Error> {
        if self.file.is_none() {
            self.open()?;
        }
        let told = |contents: Option<Contents>| contents.map(News::Contents).into_iter().collect::<Vec<_>>();
        let Some(file) = self.file.as_mut().filter(|_| !batch.is_empty()) else {
            return Ok(told(self.contents.take()));
        };
        let sweep = clock::now().saturating_duration_since(self.swept) >= SWEEP;
        let written = commit(file, batch, sweep);
        if sweep {
            self.swept = clock::now();
        }
        let totals = written.map_err(|source| {
            let error = schema::failure(&self.folder.join(FILE), source);
            if matches!(error, Error::Damaged { .. }) {
                // Opened anew it is looked at as a whole.
                self.file = None;
            }
            error
        })?;
        let mut news = told(self.contents.take());
        if !totals.is_empty() {
            news.push(News::Usage { totals, epoch: batch.epoch });
        }
        Ok(news)
    }

    fn lost(&self, error: &Error) {
        tracing::warn!(%error, "the state store cannot be used; what it is for goes on in memory only");
    }

    fn back(&self) {
        tracing::info!("the state store is written again");
    }
}

fn load(file: &Connection, progress: &Progress) -> rusqlite::Result<Contents> {
    let progress = progress.clone();
    let mut contents = Contents { usage: usage::load(file)?, progress, ..Contents::default() };
    for table in Table::ALL {
        let mut select = file.prepare(&format!("SELECT key, value FROM {}", table.name()))?;
        let rows = select.query_map((), |row| {
            contents.progress.step();
            Ok((row.get(0)?, row.get(1)?))
        })?;
        let rows = rows.collect::<rusqlite::Result<_>>()?;
        contents.rows.insert(table, rows);
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
