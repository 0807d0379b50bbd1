//! Ordered lists of networks, where the first match counts, as tries, where the longest prefix
//! counts.

use std::collections::HashSet;

use ipnet::IpNet;

/// The entries of a trie that finds for each address what the first network of a list said that
/// held it.
pub(crate) struct FirstMatch<T> {
    entries: Vec<(IpNet, T)>,
    present: HashSet<IpNet>,
}

impl<T> Default for FirstMatch<T> {
    fn default() -> Self {
        Self { entries: Vec::new(), present: HashSet::new() }
    }
}

impl<T> FirstMatch<T> {
    /// Adds the list's next network, unless it is inside one that is there.
    pub(crate) fn insert(&mut self, network: IpNet, what: T) {
        let network = network.trunc();
        let mut holders = std::iter::successors(Some(network), IpNet::supernet);
        if holders.any(|holder| self.present.contains(&holder)) {
            return;
        }
        self.present.insert(network);
        self.entries.push((network, what));
    }

    /// How many entries there are.
    pub(crate) const fn len(&self) -> usize {
        self.entries.len()
    }

    /// The entries, in the order of the list.
    pub(crate) fn into_entries(self) -> Vec<(IpNet, T)> {
        self.entries
    }
}
