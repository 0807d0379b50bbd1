//! Amounts in Redis, to which several gateways add.
//!
//! One hash for each client and window, which expires with it; a field for each counter. Whoever adds
//! to a client reads all of its counters in the same round trip: a gateway knows what the others have
//! counted as soon as it has counted something itself.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::time::Duration;

use super::link::Link;
use crate::config::file;
use crate::policy::quota::{Client, Counter, Entry, Quota};
use crate::store::pending::{Batch, Forgotten};
use crate::store::writer::Backend;
use crate::store::{Contents, Error, News, Total};

/// Amounts in one round trip, so that none of them takes long after an outage.
const TOGETHER: usize = 1_000;
/// Seconds that a hash outlives its windows, for gateways whose clocks differ.
const SPARE: u64 = 60;

/// What several gateways count together.
pub(in crate::store) struct Amounts {
    link: Link,
}

/// Where the counters of a client in a window are.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Hash {
    client: Client,
    period: u64,
    start: u64,
}

impl Hash {
    fn of(entry: &Entry) -> Self {
        Self { client: entry.client.clone(), period: entry.period, start: entry.start }
    }

    /// The window before.
    fn before(&self) -> Self {
        Self { start: self.start.saturating_sub(self.period), ..self.clone() }
    }

    fn entry(&self, counter: Counter) -> Entry {
        Entry { client: self.client.clone(), counter, period: self.period, start: self.start }
    }
}

impl Amounts {
    pub(in crate::store) const fn new(server: file::Redis) -> Self {
        Self { link: Link::new(server) }
    }

    fn key(&self, hash: &Hash) -> String {
        format!("{}quota:{}:{}:{}", self.link.prefix(), hash.period, hash.start, hash.client)
    }

    /// Adds what one round trip takes, and learns how its clients stand.
    fn add(&mut self, usage: &HashMap<Entry, u64>) -> Result<Vec<Total>, Error> {
        let mut hashes: HashSet<Hash> = HashSet::new();
        // All or nothing. When the answer is lost, what was added is added again: nobody gets more
        // than his share by that.
        let mut pipeline = redis::pipe();
        pipeline.atomic();
        for (entry, amount) in usage {
            let hash = Hash::of(entry);
            let amount = i64::try_from(*amount).unwrap_or(i64::MAX >> 16);
            pipeline.hincr(self.key(&hash), entry.counter.to_string(), amount).ignore();
            hashes.insert(hash);
        }
        for hash in &hashes {
            let life = hash.period.saturating_mul(2).saturating_add(SPARE);
            pipeline.expire(self.key(hash), i64::try_from(life).unwrap_or(i64::MAX >> 16)).ignore();
        }
        let before: Vec<Hash> = hashes.iter().map(Hash::before).collect();
        let hashes: Vec<Hash> =
            before.into_iter().chain(hashes).collect::<HashSet<_>>().into_iter().collect();
        for hash in &hashes {
            pipeline.hgetall(self.key(hash));
        }
        let answers: Vec<BTreeMap<String, i64>> = self.link.query(&pipeline)?;
        let mut totals = Vec::new();
        for (hash, fields) in hashes.iter().zip(answers) {
            // What is not there was forgotten by another gateway, or never was.
            let known = Quota::ALL.map(Counter::Quota).map(|counter| (counter, 0));
            let told = fields.into_iter().filter_map(|(counter, total)| {
                Some((counter.parse().ok()?, u64::try_from(total).unwrap_or(0)))
            });
            for (counter, total) in known.into_iter().chain(told).collect::<BTreeMap<_, _>>() {
                let entry = hash.entry(counter);
                let added = usage.get(&entry).copied().unwrap_or(0);
                totals.push(Total { entry, added, total });
            }
        }
        Ok(totals)
    }

    fn forget(&mut self, forgotten: &Forgotten) -> Result<(), Error> {
        if !forgotten.all && forgotten.clients.is_empty() {
            return Ok(());
        }
        let prefix = format!("{}quota:", self.link.prefix());
        let mut cursor: u64 = 0;
        loop {
            let mut scan = redis::pipe();
            scan.cmd("SCAN").arg(cursor).arg("MATCH").arg(format!("{prefix}*")).arg("COUNT").arg(TOGETHER);
            let ((next, mut keys),): ((u64, Vec<String>),) = self.link.query(&scan)?;
            keys.retain(|key| {
                // Behind the prefix are period, beginning and client.
                let client = key.strip_prefix(&prefix).and_then(|rest| rest.splitn(3, ':').nth(2));
                let client = client.and_then(|client| Client::try_from(client.to_owned()).ok());
                forgotten.all || client.is_some_and(|client| forgotten.clients.contains(&client))
            });
            if !keys.is_empty() {
                let mut remove = redis::pipe();
                remove.del(keys).ignore();
                self.link.query::<()>(&remove)?;
            }
            cursor = next;
            if cursor == 0 {
                return Ok(());
            }
        }
    }
}

impl Backend for Amounts {
    /// Others wait for these numbers.
    const GATHER: Duration = Duration::from_millis(10);

    fn begin(&mut self) -> Result<Contents, Error> {
        let mut ping = redis::pipe();
        ping.cmd("PING").ignore();
        self.link.query::<()>(&ping)?;
        Ok(Contents::default())
    }

    fn write(&mut self, batch: &mut Batch) -> Result<Vec<News>, Error> {
        if batch.is_empty() {
            // Only to see whether it is back.
            return self.begin().map(|_| Vec::new());
        }
        self.forget(&batch.forgotten)?;
        batch.forgotten = Forgotten::default();
        let mut news = Vec::new();
        while !batch.usage.is_empty() {
            let some: HashMap<Entry, u64> =
                batch.usage.iter().take(TOGETHER).map(|(entry, amount)| (entry.clone(), *amount)).collect();
            let totals = self.add(&some)?;
            batch.usage.retain(|entry, _| !some.contains_key(entry));
            news.push(News::Usage { totals, epoch: batch.epoch });
        }
        Ok(news)
    }

    fn lost(&self, error: &Error) {
        tracing::warn!(%error, "Redis is lost; this gateway counts for itself until it is back");
    }

    fn back(&self) {
        tracing::info!("Redis is back; what was counted meanwhile is added there");
    }
}
