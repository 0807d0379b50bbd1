//! Rows in Redis that several gateways keep: each has its own, and learns what the others change.
//!
//! A hash has what each row is now, behind its version; a sorted set has the rows in the order in which
//! they were changed, so that whoever has read up to a place asks for what comes behind it, and who
//! begins anew reads all of them in the same way. There is one entry for each row however often it
//! changes. A version that is not later than the one there changes nothing, whoever comes with it: two
//! gateways that were apart come to the same rows. A row stays for as long as a gateway that was away may come
//! back with what it took the place of. What is written here by others is checked for its
//! length in Redis and for its sense by the owner. Whether a version makes sense, and what is over, is judged by the
//! server's clock, which is the same for all: one gateway without the right time takes no others' rows away.

use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use redis::Pipeline;

use super::link::Link;
use crate::clock;
use crate::config::file;
use crate::store::pending::Batch;
use crate::store::shared::{Replica, SharedRow};
use crate::store::writer::Backend;
use crate::store::{Contents, Error, News, Progress};

/// How soon a gateway learns what another one has changed.
const POLL: Duration = Duration::from_millis(500);
/// The same while it has not read all rows.
const NEXT: Duration = Duration::from_millis(20);
/// Rows in one round trip.
const TOGETHER: usize = 1_000;
/// Round trips in one go, so that whoever waits for a change to be written is told.
const STEPS: usize = 100;
/// How long a start may take for the rows of other gateways; the rest of them comes while it serves.
const START: Duration = Duration::from_secs(5);
/// Octets of a row's name, and of what it is.
const LONGEST: (usize, usize) = (200, 4_096);
/// Rows in Redis at most: twice what a gateway holds, for those that are gone are there for a while.
const MOST: usize = 2_000_000;
/// A version that is further in the future does not count: one of a clock that is wrong. Milliseconds.
const AHEAD: u64 = 24 * 60 * 60 * 1000;
/// How often rows are removed that are over.
const SWEEP: Duration = Duration::from_secs(60);

/// Keys: rows, order, state. Arguments: a mark, the place behind which is read, how many rows, the two
/// lengths. Answer: the mark of these rows, the last place, what time it is (in milliseconds since 1970), then
/// place, name and row of each.
const READ: &str = r"
redis.call('HSETNX', KEYS[3], 'mark', ARGV[1])
local state = redis.call('HMGET', KEYS[3], 'mark', 'place')
local last = tonumber(state[2] or '0')
if not last or last ~= last or last < 0 or last > 9007199254740991 then
  return redis.error_reply('ERR ' .. KEYS[3] .. ' has no place that makes sense')
end
last = string.format('%.0f', last)
local answer = {string.sub(state[1], 1, 100), last, redis.call('TIME')[1] .. '000'}
local list = redis.call('ZRANGEBYSCORE', KEYS[2], '(' .. ARGV[2], last, 'WITHSCORES', 'LIMIT', 0, ARGV[3])
for i = 1, #list, 2 do
  local name, row = list[i], ''
  if #name > tonumber(ARGV[4]) then
    name = ''
  elseif redis.call('HSTRLEN', KEYS[1], name) <= tonumber(ARGV[5]) then
    row = redis.call('HGET', KEYS[1], name) or ''
  end
  answer[#answer + 1] = list[i + 1]
  answer[#answer + 1] = name
  answer[#answer + 1] = row
end
return answer
";

/// Keys: rows, order, ends, state. Arguments: a mark, the last version that makes sense here, how far ahead of the
/// server's clock one may be, how many rows there may be, the longest row, for how many seconds others may come back
/// with what never ends, then name, version, end (or nothing) and row of each. Answer: how many found no room.
const WRITE: &str = r"
redis.call('HSETNX', KEYS[4], 'mark', ARGV[1])
local time = tonumber(redis.call('TIME')[1])
local latest = math.max(tonumber(ARGV[2]), time * 1000 + tonumber(ARGV[3]))
local full = 0
for i = 7, #ARGV, 4 do
  local name, version, over, row = ARGV[i], tonumber(ARGV[i + 1]), ARGV[i + 2], ARGV[i + 3]
  local length, old, before = redis.call('HSTRLEN', KEYS[1], name), false, 0
  if length > 0 and length <= tonumber(ARGV[5]) then
    old = redis.call('HGET', KEYS[1], name)
    before = tonumber(string.match(old, '^(%d+) ') or '0')
    if before > latest then before = 0 end
  end
  if length == 0 and redis.call('HLEN', KEYS[1]) >= tonumber(ARGV[4]) then
    full = full + 1
  elseif version >= before and (row ~= old or not redis.call('ZSCORE', KEYS[2], name)) then
    if over ~= '' and length > 0 then
      local ends = tonumber(redis.call('ZSCORE', KEYS[3], name) or time + tonumber(ARGV[6]))
      over = string.format('%.0f', math.max(tonumber(over), ends))
    end
    redis.call('HSET', KEYS[1], name, row)
    redis.call('ZADD', KEYS[2], redis.call('HINCRBY', KEYS[4], 'place', 1), name)
    if over == '' then redis.call('ZREM', KEYS[3], name) else redis.call('ZADD', KEYS[3], over, name) end
  end
end
return full
";

/// Keys: rows, order, ends. Argument: how many. Answer: how many were over.
const FORGET: &str = r"
local over = redis.call('ZRANGEBYSCORE', KEYS[3], '-inf', redis.call('TIME')[1], 'LIMIT', 0, ARGV[1])
for _, name in ipairs(over) do
  redis.call('HDEL', KEYS[1], name)
  redis.call('ZREM', KEYS[2], name)
  redis.call('ZREM', KEYS[3], name)
end
return #over
";

/// How far the rows were read.
#[derive(Debug, Default)]
struct Place {
    /// Which rows: those of a Redis that was emptied have another mark.
    mark: String,
    last: u64,
    /// All were read once.
    whole: bool,
}

/// What came of a round trip.
struct Page {
    mark: String,
    /// The last place of all.
    end: u64,
    /// The last place of these rows.
    last: u64,
    rows: Vec<SharedRow>,
    /// Rows that make no sense.
    odd: u64,
}

impl Page {
    /// Reads the answer of [`READ`] about what is `behind` a place, when it is `here` so many milliseconds since 1970.
    fn read(answer: Vec<Vec<u8>>, behind: u64, here: u64) -> Self {
        let mut answer = answer.into_iter().map(|text| String::from_utf8(text).unwrap_or_default());
        let (mark, end) = (answer.next().unwrap_or_default(), place(&answer.next().unwrap_or_default()));
        let time = answer.next().and_then(|time| time.parse().ok()).unwrap_or(0);
        // By either clock: that of this machine may not have been set yet.
        let latest = latest(here.max(time));
        let mut page = Self { mark, end, last: behind, rows: Vec::new(), odd: 0 };
        while let (Some(at), Some(name), Some(row)) = (answer.next(), answer.next(), answer.next()) {
            page.last = page.last.max(place(&at));
            match SharedRow::read(name, &row).filter(|row| row.version <= latest) {
                Some(row) => page.rows.push(row),
                None => page.odd = page.odd.saturating_add(1),
            }
        }
        page
    }
}

/// Rows of `owner` in Redis.
pub(in crate::store) struct Rows {
    link: Link,
    owner: Weak<dyn Replica>,
    progress: Progress,
    /// How often rows may have been marked.
    marks: u64,
    /// `None`: they are to be read from the beginning.
    place: Option<Place>,
    swept: Instant,
}

impl Rows {
    pub(in crate::store) fn new(server: file::Redis, owner: Weak<dyn Replica>, progress: Progress) -> Self {
        Self { link: Link::new(server), owner, progress, marks: 0, place: None, swept: clock::now() }
    }

    /// What rows are marked with that have no mark. Never the same: rows that were marked before may be gone.
    fn mark(&mut self) -> String {
        self.marks = self.marks.wrapping_add(1);
        format!("{}-{}-{}", clock::wall_millis(), std::process::id(), self.marks)
    }

    fn key(&self, what: &str) -> String {
        format!("{}locks{what}", self.link.prefix())
    }

    fn script(&self, script: &str, keys: &[&str]) -> Pipeline {
        let mut pipeline = redis::pipe();
        pipeline.cmd("EVAL").arg(script).arg(keys.len());
        for what in keys {
            pipeline.arg(self.key(what));
        }
        pipeline
    }

    /// Writes what others have not been told, and reads what they have changed; true: that was all.
    fn step(&mut self) -> Result<bool, Error> {
        let Some(owner) = self.owner.upgrade() else { return Ok(true) };
        if owner.again() {
            self.place = None;
        }
        // After an error nobody knows what Redis has: it may be another one, or a copy that is behind.
        let mut place = self.place.take().unwrap_or_else(|| {
            owner.begin();
            Place::default()
        });
        let told = self.tell(&owner)?;
        let page = self.read(place.last)?;
        if place.mark.is_empty() {
            place.mark = page.mark;
        } else if place.mark != page.mark || page.end < place.last {
            return Ok(false);
        }
        let more = page.last > place.last;
        place.last = page.last;
        owner.merge(page.rows, page.odd);
        let complete = !more && !place.whole;
        if complete {
            place.whole = true;
            owner.complete();
        }
        self.place = Some(place);
        self.progress.step();
        Ok(!told && !more && !complete)
    }

    /// Writes some of what others have not been told; says whether there was any.
    fn tell(&mut self, owner: &Arc<dyn Replica>) -> Result<bool, Error> {
        let rows = owner.untold(TOGETHER);
        if rows.is_empty() {
            return Ok(false);
        }
        let mut pipeline = self.script(WRITE, &["", ":order", ":ends", ":state"]);
        pipeline.arg(self.mark()).arg(latest(clock::wall_millis())).arg(AHEAD).arg(MOST).arg(LONGEST.1);
        pipeline.arg(owner.kept_at_most().as_secs());
        for SharedRow { name, version, end, value } in &rows {
            pipeline.arg(name).arg(version).arg(end.map_or_else(String::new, |end| end.to_string()));
            pipeline.arg(format!("{version} {}", value.as_deref().unwrap_or_default()));
        }
        let (full,): (u64,) = self.link.query(&pipeline)?;
        owner.told(&rows, full);
        Ok(true)
    }

    fn read(&mut self, behind: u64) -> Result<Page, Error> {
        let mut pipeline = self.script(READ, &["", ":order", ":state"]);
        pipeline.arg(self.mark()).arg(behind).arg(TOGETHER).arg(LONGEST.0).arg(LONGEST.1);
        let (answer,): (Vec<Vec<u8>>,) = self.link.query(&pipeline)?;
        Ok(Page::read(answer, behind, clock::wall_millis()))
    }

    /// Has rows removed that are over, now and then.
    fn sweep(&mut self) -> Result<(), Error> {
        if clock::now().saturating_duration_since(self.swept) < SWEEP {
            return Ok(());
        }
        let mut pipeline = self.script(FORGET, &["", ":order", ":ends"]);
        pipeline.arg(TOGETHER);
        let (over,): (usize,) = self.link.query(&pipeline)?;
        if over < TOGETHER {
            self.swept = clock::now();
        }
        Ok(())
    }
}

/// The last version that makes sense at a time in milliseconds since 1970.
const fn latest(time: u64) -> u64 {
    time.saturating_add(AHEAD)
}

/// Redis writes places as numbers with a fraction, which these have not.
fn place(text: &str) -> u64 {
    text.parse().unwrap_or(0)
}

impl Backend for Rows {
    /// Others wait for it.
    const GATHER: Duration = Duration::from_millis(10);

    fn poll(&self) -> Option<Duration> {
        Some(if self.place.as_ref().is_some_and(|place| place.whole) { POLL } else { NEXT })
    }

    fn begin(&mut self) -> Result<Contents, Error> {
        let began = clock::now();
        while !self.step()? && clock::now().saturating_duration_since(began) < START {}
        Ok(Contents::default())
    }

    fn write(&mut self, _: &mut Batch) -> Result<Vec<News>, Error> {
        for _ in 0..STEPS {
            if self.step()? {
                break;
            }
        }
        self.sweep()?;
        Ok(Vec::new())
    }

    fn lost(&self, error: &Error) {
        tracing::warn!(
            %error,
            "locks are not shared with other gateways until Redis is back; those that are known go on"
        );
    }

    fn back(&self) {
        tracing::info!("locks are shared with other gateways again");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An answer at `time` with a row for each version.
    fn answer(time: u64, versions: &[u64]) -> Vec<Vec<u8>> {
        let mut answer = vec!["mark".to_owned(), versions.len().to_string(), time.to_string()];
        for (place, version) in (1..).zip(versions) {
            let place: u64 = place;
            answer.extend([place.to_string(), format!("lock:{place}"), format!("{version} true")]);
        }
        answer.into_iter().map(String::into_bytes).collect()
    }

    #[test]
    fn versions_make_sense_by_the_clock_of_redis_where_that_of_the_machine_is_not_set() {
        let (now, day) = (1_800_000_000_000, AHEAD);
        let versions = [now - 9 * day, now - 1, now, now + day, now + day + 1];
        for here in [0, now - 3 * day, now] {
            let page = Page::read(answer(now, &versions), 0, here);
            assert_eq!((page.rows.len(), page.odd, page.last), (4, 1, 5), "{here}");
        }
        // Nor do all others go wrong with the server's.
        let page = Page::read(answer(0, &versions), 0, now);
        assert_eq!((page.rows.len(), page.odd), (4, 1));
    }

    #[test]
    fn an_answer_that_makes_no_sense_is_no_row() {
        for odd in [vec![], vec![b"mark".to_vec()], vec![vec![255]; 9], answer(1, &[1])[..5].to_vec()] {
            let page = Page::read(odd, 7, 5);
            assert_eq!((page.rows.len(), page.last), (0, 7));
        }
    }
}
