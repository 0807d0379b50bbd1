//! The file: how it is opened, what its tables are, and which release may read it.

use std::io;
use std::path::Path;
use std::time::Duration;

use rusqlite::{Connection, ErrorCode, OpenFlags};

use super::{Error, FILE, Table};
use crate::folder::Folder;

/// What `PRAGMA user_version` says of the tables below. Whoever changes one raises it, and brings
/// older files to it in [`open`].
pub(in crate::store) const VERSION: i64 = 1;
/// `PRAGMA application_id`: "SMGW".
const APPLICATION: i64 = 0x534d_4757;
/// How long a writer waits for one of another process.
const BUSY: Duration = Duration::from_secs(1);
/// The name of a file that was moved away because it is damaged; the next one takes its place.
const DAMAGED: &str = "state.db.damaged";

/// What clients have used, which is added up.
const USAGE: &str = "
    CREATE TABLE IF NOT EXISTS quota_usage (
        client TEXT NOT NULL,
        counter TEXT NOT NULL,
        period INTEGER NOT NULL,
        start INTEGER NOT NULL,
        amount INTEGER NOT NULL,
        PRIMARY KEY (client, counter, period, start)
    ) STRICT, WITHOUT ROWID;
";

/// The statements that make all tables. Tables may be added within a version: releases that do not
/// know one leave it alone.
fn tables() -> String {
    let rows = Table::ALL.map(|table| {
        format!(
            "CREATE TABLE IF NOT EXISTS {} (key TEXT NOT NULL PRIMARY KEY, value TEXT NOT NULL) \
             STRICT, WITHOUT ROWID;\n",
            table.name()
        )
    });
    USAGE.to_owned() + &rows.concat()
}

/// Opens the file in `folder`, or makes it.
pub(in crate::store) fn open(folder: &Path) -> Result<Connection, Error> {
    // Nobody else may plant a link there, or read what is known of clients.
    let folder = Folder::open(folder)?;
    let path = folder.path().join(FILE);
    let failed = |source| failure(&path, source);
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE
        | OpenFlags::SQLITE_OPEN_CREATE
        | OpenFlags::SQLITE_OPEN_NOFOLLOW
        | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let mut file = Connection::open_with_flags(&path, flags).map_err(failed)?;
    file.busy_timeout(BUSY).map_err(failed)?;
    // Made in one transaction: the other process of an upgrade sees all tables or none.
    let making = file.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate).map_err(failed)?;
    let application: i64 = making.query_row("PRAGMA application_id", (), |row| row.get(0)).map_err(failed)?;
    let version: i64 = making.query_row("PRAGMA user_version", (), |row| row.get(0)).map_err(failed)?;
    let objects: i64 =
        making.query_row("SELECT count(*) FROM sqlite_schema", (), |row| row.get(0)).map_err(failed)?;
    match (application, version) {
        (0, 0) if objects == 0 => {
            making.pragma_update(None, "application_id", APPLICATION).map_err(failed)?;
            making.pragma_update(None, "user_version", VERSION).map_err(failed)?;
        }
        (APPLICATION, VERSION) => {}
        (APPLICATION, found) => return Err(Error::Newer { path, found }),
        _ => return Err(Error::Foreign(path)),
    }
    making.execute_batch(&tables()).map_err(failed)?;
    making.commit().map_err(failed)?;
    // A crash of the process loses nothing that was committed; one of the machine may lose the
    // last commits, never the file (sqlite.org, "PRAGMA synchronous").
    let mode: String = file.query_row("PRAGMA journal_mode = WAL", (), |row| row.get(0)).map_err(failed)?;
    if mode != "wal" {
        tracing::debug!(mode, "the file system allows no write-ahead log");
    }
    file.pragma_update(None, "synchronous", "NORMAL").map_err(failed)?;
    let check: String = file.query_row("PRAGMA quick_check(1)", (), |row| row.get(0)).map_err(failed)?;
    if check != "ok" {
        return Err(Error::Damaged { path, detail: check });
    }
    Ok(file)
}

/// What SQLite's error means for the file.
pub(super) fn failure(path: &Path, source: rusqlite::Error) -> Error {
    let path = path.to_owned();
    match source.sqlite_error_code() {
        Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => {
            Error::Damaged { path, detail: source.to_string() }
        }
        _ => Error::Database { path, source },
    }
}

/// Moves a damaged file away, with the files that SQLite keeps beside it.
pub(super) fn move_aside(folder: &Path) -> io::Result<()> {
    for suffix in ["-wal", "-shm", ""] {
        let moved = std::fs::rename(
            folder.join(format!("{FILE}{suffix}")),
            folder.join(format!("{DAMAGED}{suffix}")),
        );
        match moved {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            Ok(()) | Err(_) => {}
        }
    }
    Ok(())
}

/// Where [`move_aside`] moves it.
pub(super) fn aside(folder: &Path) -> std::path::PathBuf {
    folder.join(DAMAGED)
}
