//! Reports of flows that no proxy is known to have written down.
//!
//! The kernel's entries are gone when a report is made, so that this is the only place where it
//! stands. A proxy that hangs takes what it was told along when it is killed: the next one is told again.
//! One that stands still for a while has no room for more: it is told later, in the same order, for what it
//! says to have written down is all up to some report.

use std::collections::VecDeque;

use crate::ipc::flow::FlowReport;

/// Messages of reports that are kept; of more the oldest are lost. A few seconds of ends without a
/// proxy at a rate that no machine reaches.
const KEPT: usize = 1_024;

/// Reports, in messages of a few at a time, the oldest first.
#[derive(Debug, Default)]
pub(super) struct Unsettled {
    last: u64,
    /// The ticket of the last report that the proxy was told.
    told: u64,
    messages: VecDeque<(u64, Vec<FlowReport>)>,
}

impl Unsettled {
    /// Keeps reports until they are settled. Returns how many older ones are lost for it.
    pub(super) fn keep(&mut self, flows: Vec<FlowReport>) -> usize {
        self.last = self.last.wrapping_add(1);
        let lost = if self.messages.len() < KEPT { None } else { self.messages.pop_front() };
        self.messages.push_back((self.last, flows));
        lost.map_or(0, |(_, flows)| flows.len())
    }

    /// Those of this ticket are written down, and all before.
    pub(super) fn settle(&mut self, ticket: u64) {
        while self.messages.front().is_some_and(|(first, _)| *first <= ticket) {
            self.messages.pop_front();
        }
    }

    /// What the proxy is to be told next, with its ticket.
    pub(super) fn next(&self) -> Option<(u64, Vec<FlowReport>)> {
        self.messages.iter().find(|(ticket, _)| *ticket > self.told).cloned()
    }

    /// The proxy is told what has this ticket.
    pub(super) const fn tell(&mut self, ticket: u64) {
        self.told = ticket;
    }

    /// Another proxy knows nothing.
    pub(super) const fn begin(&mut self) {
        self.told = 0;
    }

    /// All that is not settled.
    pub(super) fn messages(&self) -> impl Iterator<Item = &(u64, Vec<FlowReport>)> {
        self.messages.iter()
    }

    /// How many reports there are.
    pub(super) fn count(&self) -> usize {
        self.messages.iter().map(|(_, flows)| flows.len()).sum()
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use super::*;
    use crate::intercept::address::{ClientAddr, LocalAddr, OriginalDst, UpstreamAddr};
    use crate::ipc::flow::{FlowEnd, FlowEnds, Traffic};

    fn report() -> FlowReport {
        let address = SocketAddr::from(([192, 0, 2, 1], 25));
        let ends = FlowEnds {
            client: ClientAddr::new(address),
            destination: OriginalDst::new(address),
            upstream: (LocalAddr::new(address), UpstreamAddr::new(address)),
        };
        let (from_client, from_server) = (Traffic::default(), Traffic::default());
        FlowReport { ends, from_client, from_server, end: FlowEnd::Closed }
    }

    fn tickets(unsettled: &Unsettled) -> Vec<u64> {
        unsettled.messages().map(|(ticket, _)| *ticket).collect()
    }

    #[test]
    fn a_report_is_kept_until_it_or_a_later_one_is_settled() {
        let mut unsettled = Unsettled::default();
        assert_eq!((unsettled.keep(vec![report()]), unsettled.keep(vec![report(); 2])), (0, 0));
        assert_eq!((tickets(&unsettled), unsettled.count()), (vec![1, 2], 3));
        unsettled.settle(0);
        unsettled.settle(1);
        assert_eq!(tickets(&unsettled), [2]);
        unsettled.keep(vec![report()]);
        unsettled.settle(3);
        assert_eq!((tickets(&unsettled), unsettled.count()), (vec![], 0));
    }

    #[test]
    fn what_could_not_be_told_is_next_whatever_comes_behind_it_and_another_proxy_is_told_all() {
        let mut unsettled = Unsettled::default();
        let next = |unsettled: &Unsettled| unsettled.next().map(|(ticket, _)| ticket);
        assert_eq!(next(&unsettled), None);
        unsettled.keep(vec![report()]);
        unsettled.tell(1);
        assert_eq!(next(&unsettled), None);
        // There was no room for the second.
        unsettled.keep(vec![report()]);
        unsettled.keep(vec![report()]);
        assert_eq!(next(&unsettled), Some(2));
        unsettled.settle(1);
        assert_eq!(next(&unsettled), Some(2));
        unsettled.tell(2);
        assert_eq!(next(&unsettled), Some(3));
        unsettled.begin();
        assert_eq!(next(&unsettled), Some(2));
    }

    #[test]
    fn without_a_proxy_for_very_long_the_oldest_reports_are_lost() {
        let mut unsettled = Unsettled::default();
        let lost: usize = (0..KEPT + 2).map(|_| unsettled.keep(vec![report(); 3])).sum();
        assert_eq!((lost, unsettled.count()), (6, KEPT * 3));
        assert_eq!(tickets(&unsettled).first(), Some(&3));
    }
}
