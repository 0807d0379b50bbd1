//! Amounts in Redis, to which several gateways add.
//!
//! One hash for each client and window, which expires with it; a field for each counter. Whoever adds
//! to a client reads all of its counters in the same round trip: a gateway knows what the others have
//! counted as soon as it has counted something itself.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::time::Duration;

use redis::{Connection, ConnectionAddr, ConnectionInfo, Pipeline, RedisConnectionInfo};

use super::pending::{Batch, Forgotten};
use super::writer::Backend;
use super::{Contents, Error, News, Total};
use crate::config::file::{Redis as Settings, ScannerAddress};
use crate::policy::quota::{Client, Counter, Entry, Quota};

/// Until Redis has accepted a connection, and until it has answered.
const PATIENCE: Duration = Duration::from_secs(2);
/// Amounts in one round trip, so that none of them takes long after an outage.
const TOGETHER: usize = 1_000;
/// Seconds that a hash outlives its windows, for gateways whose clocks differ.
const SPARE: u64 = 60;

/// A Redis server.
pub(super) struct Redis {
    settings: Settings,
    connection: Option<Connection>,
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

impl Redis {
    pub(super) const fn new(settings: Settings) -> Self {
        Self { settings, connection: None }
    }

    fn failed(&self, source: redis::RedisError) -> Error {
        Error::Redis { address: String::from(self.settings.address.clone()), source }
    }

    fn connect(&self) -> redis::RedisResult<Connection> {
        let address = match &self.settings.address.0 {
            ScannerAddress::Tcp(address) => ConnectionAddr::Tcp(address.ip().to_string(), address.port()),
            ScannerAddress::Unix(path) => ConnectionAddr::Unix(path.clone()),
        };
        let mut login = RedisConnectionInfo::default().set_db(self.settings.database.into());
        if !self.settings.user.is_empty() {
            login = login.set_username(&self.settings.user);
        }
        if let Some(password) = &self.settings.password {
            login = login.set_password(password.reveal());
        }
        let info: ConnectionInfo = redis::IntoConnectionInfo::into_connection_info(address)?;
        let connection =
            redis::Client::open(info.set_redis_settings(login))?.get_connection_with_timeout(PATIENCE)?;
        connection.set_read_timeout(Some(PATIENCE))?;
        connection.set_write_timeout(Some(PATIENCE))?;
        Ok(connection)
    }

    fn key(&self, hash: &Hash) -> String {
        format!("{}quota:{}:{}:{}", self.settings.prefix, hash.period, hash.start, hash.client)
    }

    /// Carries out one round trip; a connection that fails is not used again.
    fn query<T: redis::FromRedisValue>(&mut self, pipeline: &Pipeline) -> Result<T, Error> {
        let mut connection = match self.connection.take() {
            Some(connection) => connection,
            None => self.connect().map_err(|error| self.failed(error))?,
        };
        let answer = pipeline.query(&mut connection).map_err(|error| self.failed(error))?;
        self.connection = Some(connection);
        Ok(answer)
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
        let answers: Vec<BTreeMap<String, i64>> = self.query(&pipeline)?;
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
        let prefix = format!("{}quota:", self.settings.prefix);
        let mut cursor: u64 = 0;
        loop {
            let mut scan = redis::pipe();
            scan.cmd("SCAN").arg(cursor).arg("MATCH").arg(format!("{prefix}*")).arg("COUNT").arg(TOGETHER);
            let ((next, mut keys),): ((u64, Vec<String>),) = self.query(&scan)?;
            keys.retain(|key| {
                // Behind the prefix are period, beginning and client.
                let client = key.strip_prefix(&prefix).and_then(|rest| rest.splitn(3, ':').nth(2));
                let client = client.and_then(|client| Client::try_from(client.to_owned()).ok());
                forgotten.all || client.is_some_and(|client| forgotten.clients.contains(&client))
            });
            if !keys.is_empty() {
                let mut remove = redis::pipe();
                remove.del(keys).ignore();
                self.query::<()>(&remove)?;
            }
            cursor = next;
            if cursor == 0 {
                return Ok(());
            }
        }
    }
}

impl Backend for Redis {
    /// Others wait for these numbers.
    const GATHER: Duration = Duration::from_millis(10);

    fn begin(&mut self) -> Result<Contents, Error> {
        let mut ping = redis::pipe();
        ping.cmd("PING").ignore();
        self.query::<()>(&ping)?;
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
