//! Rows of what clients have used.

use std::collections::HashMap;

use rusqlite::types::Type;
use rusqlite::{Connection, Row, params};

use super::Total;
use crate::policy::quota::Entry;
use crate::store::pending::Forgotten;

/// All of it. A row that makes no sense is told of and left out.
pub(in crate::store) fn load(file: &Connection) -> rusqlite::Result<Vec<(Entry, u64)>> {
    let mut select = file.prepare("SELECT client, counter, period, start, amount FROM quota_usage")?;
    let mut rows = select.query(())?;
    let mut usage = Vec::new();
    while let Some(row) = rows.next()? {
        match read(row) {
            Ok(entry) => usage.push(entry),
            Err(error) => tracing::debug!(%error, "a row of the state store"),
        }
    }
    Ok(usage)
}

fn read(row: &Row<'_>) -> rusqlite::Result<(Entry, u64)> {
    let bad = |column, text: &str| {
        let error = format!("`{text}` makes no sense").into();
        rusqlite::Error::FromSqlConversionFailure(column, Type::Text, error)
    };
    let (client, counter): (String, String) = (row.get(0)?, row.get(1)?);
    let entry = Entry {
        client: client.clone().try_into().map_err(|_| bad(0, &client))?,
        counter: counter.parse().map_err(|_| bad(1, &counter))?,
        period: number(row, 2)?,
        start: number(row, 3)?,
    };
    Ok((entry, number(row, 4)?))
}

/// SQLite has no numbers beyond 2^63; below 0 there is nothing here.
fn number(row: &Row<'_>, column: usize) -> rusqlite::Result<u64> {
    row.get::<_, i64>(column).map(|number| u64::try_from(number).unwrap_or(0))
}

fn integer(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// Adds amounts to what is there, whoever has put it there.
pub(super) fn add(file: &Connection, usage: &HashMap<Entry, u64>) -> rusqlite::Result<Vec<Total>> {
    // An amount stays an integer: a sum beyond 2^63 would become a fraction.
    let mut upsert = file.prepare_cached(
        "INSERT INTO quota_usage (client, counter, period, start, amount) VALUES (?1, ?2, ?3, ?4, ?5)
         ON CONFLICT DO UPDATE SET amount = min(amount, 0x3fffffffffffffff) + min(excluded.amount, 0x3fffffffffffffff)
         RETURNING amount",
    )?;
    let mut totals = Vec::with_capacity(usage.len());
    for (entry, added) in usage {
        let values = params![
            entry.client.to_string(),
            entry.counter.to_string(),
            integer(entry.period),
            integer(entry.start),
            integer(*added)
        ];
        let total = upsert.query_row(values, |row| number(row, 0))?;
        totals.push(Total { entry: entry.clone(), added: *added, total });
    }
    Ok(totals)
}

pub(super) fn forget(file: &Connection, forgotten: &Forgotten) -> rusqlite::Result<()> {
    if forgotten.all {
        file.execute("DELETE FROM quota_usage", ())?;
    }
    for client in &forgotten.clients {
        file.prepare_cached("DELETE FROM quota_usage WHERE client = ?1")?.execute([client.to_string()])?;
    }
    Ok(())
}

/// Removes what counts no longer at `now`, in seconds since 1970.
pub(super) fn sweep(file: &Connection, now: u64) -> rusqlite::Result<()> {
    file.execute("DELETE FROM quota_usage WHERE start + 2 * period <= ?1", [integer(now)])?;
    Ok(())
}
