//! What is counted of scans: results and times, by scanner.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::metrics::{Family, Sample, millis};
use crate::outcome::{Finding, Scanner, Verdict};

/// Upper bounds of the buckets, in milliseconds.
const BUCKETS: [u64; 9] = [5, 20, 50, 100, 250, 1_000, 5_000, 30_000, 120_000];

/// The results of all scanners.
#[derive(Debug, Default)]
pub(super) struct Scans {
    results: [[AtomicU64; Finding::NAMES.len()]; Scanner::ALL.len()],
    times: [Histogram; Scanner::ALL.len()],
}

impl Scans {
    /// Counts what the scanners said of one message.
    pub(super) fn count(&self, verdict: &Verdict) {
        for result in &verdict.results {
            let scanner = result.scanner as usize;
            if let Some(name) = Finding::NAMES.iter().position(|name| *name == result.finding.name()) {
                self.results[scanner][name].fetch_add(1, Ordering::Relaxed);
            }
            match &result.finding {
                Finding::Clean | Finding::Infected { .. } | Finding::Rated(_) => {
                    self.times[scanner].count(result.time);
                }
                Finding::TooLarge | Finding::Skipped { .. } | Finding::Failed { .. } => {}
            }
        }
    }

    /// The results by scanner; of scanners that never had one, none.
    pub(super) fn results(&self) -> Family {
        let name = "gateway_scans_total";
        let mut samples = Vec::new();
        for (scanner, row) in Scanner::ALL.iter().zip(&self.results) {
            for (result, cell) in Finding::NAMES.iter().zip(row) {
                let labels = [("scanner", scanner.name()), ("result", result)];
                samples.push(Sample::new(name, &labels, cell.load(Ordering::Relaxed)));
            }
        }
        Family::new(name, "Scans, by scanner and what came of them.", samples)
    }

    /// The times by scanner.
    pub(super) fn times(&self) -> impl Iterator<Item = (Scanner, &Histogram)> {
        Scanner::ALL.into_iter().zip(&self.times)
    }
}

/// Times by bucket.
#[derive(Debug, Default)]
pub(super) struct Histogram {
    buckets: [AtomicU64; BUCKETS.len()],
    count: AtomicU64,
    millis: AtomicU64,
}

impl Histogram {
    pub(super) fn count(&self, time: Duration) {
        let millis = millis(time);
        if let Some(bucket) = BUCKETS.iter().position(|bound| millis <= *bound) {
            self.buckets[bucket].fetch_add(1, Ordering::Relaxed);
        }
        self.count.fetch_add(1, Ordering::Relaxed);
        self.millis.fetch_add(millis, Ordering::Relaxed);
    }

    /// The times by bucket, their number and their sum in milliseconds.
    pub(super) fn read(&self) -> (Vec<(u64, u64)>, u64, u64) {
        let read = |cell: &AtomicU64| cell.load(Ordering::Relaxed);
        let buckets: Vec<_> = BUCKETS.into_iter().zip(self.buckets.iter().map(read)).collect();
        // Taken later than the buckets, so never smaller than their sum.
        (buckets, read(&self.count), read(&self.millis))
    }
}
