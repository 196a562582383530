//! [`Votes`]: what most nodes of a cluster see.

use super::slots::SlotMap;

/// Which views of the cluster its nodes have, and how many have each.
#[derive(Default)]
pub(super) struct Votes(Vec<(SlotMap, usize)>);

impl Votes {
    /// Counts a view; gives how many share it.
    pub(super) fn add(&mut self, map: SlotMap) -> usize {
        if let Some((_, votes)) = self.0.iter_mut().find(|(known, _)| *known == map) {
            *votes += 1;
            return *votes;
        }
        self.0.push((map, 1));
        1
    }

    pub(super) fn winner(self) -> Option<SlotMap> {
        self.0
            .into_iter()
            .max_by_key(|(_, votes)| *votes)
            .map(|(map, _)| map)
    }
}
