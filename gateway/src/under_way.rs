//! What is under way, counted and waited for.
//!
//! Everything that is under way holds a [`Place`]. No lock, no polling: the last place that is given
//! back ends the wait.

use std::convert::Infallible;

use tokio::sync::mpsc;

/// A place among what is under way, given back when dropped.
#[derive(Clone, Debug)]
pub struct Place(#[expect(dead_code, reason = "held, never sent on")] mpsc::Sender<Infallible>);

/// The places that are taken.
#[derive(Clone, Debug)]
pub struct UnderWay(mpsc::WeakSender<Infallible>);

/// The end of everything that is under way.
#[derive(Debug)]
pub struct Over(mpsc::Receiver<Infallible>);

/// The first place, from which all others are cloned, how many there are, and the end of all.
#[must_use]
pub fn places() -> (Place, UnderWay, Over) {
    let (place, over) = mpsc::channel(1);
    let under_way = UnderWay(place.downgrade());
    (Place(place), under_way, Over(over))
}

impl UnderWay {
    /// How many places are taken.
    #[must_use]
    pub fn count(&self) -> u64 {
        u64::try_from(self.0.strong_count()).unwrap_or(u64::MAX)
    }
}

impl Over {
    /// Returns when no place is taken any more.
    pub async fn wait(&mut self) {
        while self.0.recv().await.is_some() {}
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::timeout;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn it_is_over_with_the_last_place_and_not_before() {
        let (place, under_way, mut over) = places();
        let second = place.clone();
        assert_eq!(under_way.count(), 2);
        drop(place);
        let mut over = Box::pin(over.wait());
        assert!(timeout(Duration::from_secs(1), over.as_mut()).await.is_err());
        drop(second);
        over.await;
        assert_eq!(under_way.count(), 0);
    }
}
