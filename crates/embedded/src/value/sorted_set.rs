//! A sorted set: scores by member, and members in the order of (score, member) with ranks.

use std::cmp::Ordering;

use bytes::Bytes;
use indexmap::IndexMap;

/// Items per chunk of the order. Moving half of a chunk in memory is cheap beside an allocation,
/// and a million members still make only a few thousand chunks to sum up for a rank.
const CHUNK: usize = 512;

/// Members with scores.
#[derive(Debug, Clone, Default)]
pub(crate) struct SortedSet {
    scores: IndexMap<Bytes, f64>,
    /// Chunks in order, none of them empty, each sorted.
    chunks: Vec<Vec<Ranked>>,
}

#[derive(Debug, Clone)]
struct Ranked {
    score: f64,
    member: Bytes,
}

impl SortedSet {
    pub(crate) fn len(&self) -> usize {
        self.scores.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.scores.is_empty()
    }

    pub(crate) fn score(&self, member: &[u8]) -> Option<f64> {
        self.scores.get(member).copied()
    }

    /// The `index`th member in no particular order that stays stable for scans: removals move
    /// members only towards the front.
    pub(crate) fn at_slot(&self, index: usize) -> Option<(&Bytes, f64)> {
        let (member, score) = self.scores.get_index(index)?;
        Some((member, *score))
    }

    /// Sets a member's score and gives the score that it had.
    pub(crate) fn insert(&mut self, member: Bytes, score: f64) -> Option<f64> {
        // The server stores integral scores as integers, where -0 is 0.
        let score = match score == 0.0 {
            true => 0.0,
            false => score,
        };
        let previous = self.scores.insert(member.clone(), score);
        match previous {
            Some(previous) if previous == score => return Some(previous),
            Some(previous) => self.unlink(previous, &member),
            None => {}
        }
        self.link(Ranked { score, member });
        previous
    }

    pub(crate) fn remove(&mut self, member: &[u8]) -> Option<f64> {
        let score = self.scores.swap_remove(member)?;
        self.unlink(score, member);
        Some(score)
    }

    /// The number of members before this one.
    pub(crate) fn rank(&self, member: &[u8]) -> Option<usize> {
        let score = self.score(member)?;
        Some(self.lower_bound(|item| compare(item, score, member) == Ordering::Less))
    }

    /// How many members, from the first on, satisfy `before`, which must hold for a prefix of the
    /// order only.
    pub(crate) fn count_while(&self, before: impl Fn(f64, &[u8]) -> bool) -> usize {
        self.lower_bound(|item| before(item.score, &item.member))
    }

    /// The members in order, from a rank on.
    pub(crate) fn iter_from(
        &self,
        rank: usize,
    ) -> impl DoubleEndedIterator<Item = (&Bytes, f64)> + '_ {
        let (chunk, offset) = self.locate(rank);
        let head = self.chunks.get(chunk).and_then(|c| c.get(offset..));
        let tail = self.chunks.get(chunk.saturating_add(1)..);
        head.unwrap_or_default()
            .iter()
            .chain(tail.unwrap_or_default().iter().flatten())
            .map(|item| (&item.member, item.score))
    }

    /// The members of lower rank than `rank`, from the highest down.
    pub(crate) fn iter_down_from(&self, rank: usize) -> impl Iterator<Item = (&Bytes, f64)> + '_ {
        let (chunk, offset) = self.locate(rank);
        let head = self.chunks.get(chunk).and_then(|c| c.get(..offset));
        let before = self.chunks.get(..chunk);
        head.unwrap_or_default()
            .iter()
            .rev()
            .chain(
                before
                    .unwrap_or_default()
                    .iter()
                    .rev()
                    .flat_map(|c| c.iter().rev()),
            )
            .map(|item| (&item.member, item.score))
    }

    pub(crate) fn iter(&self) -> impl DoubleEndedIterator<Item = (&Bytes, f64)> + '_ {
        self.chunks
            .iter()
            .flatten()
            .map(|item| (&item.member, item.score))
    }

    fn locate(&self, rank: usize) -> (usize, usize) {
        let mut left = rank;
        for (index, chunk) in self.chunks.iter().enumerate() {
            if left < chunk.len() {
                return (index, left);
            }
            left -= chunk.len();
        }
        (self.chunks.len(), 0)
    }

    fn lower_bound(&self, before: impl Fn(&Ranked) -> bool) -> usize {
        let chunk = self.chunk_of(&before);
        let preceding: usize = self.chunks.iter().take(chunk).map(Vec::len).sum();
        let within = self.chunks.get(chunk).map(|c| c.partition_point(&before));
        preceding + within.unwrap_or(0)
    }

    /// The first chunk whose last item is not `before`.
    fn chunk_of(&self, before: impl Fn(&Ranked) -> bool) -> usize {
        self.chunks
            .partition_point(|chunk| chunk.last().is_some_and(&before))
    }

    fn link(&mut self, item: Ranked) {
        let before = |other: &Ranked| compare(other, item.score, &item.member) == Ordering::Less;
        // What is greater than everything belongs into the last chunk.
        let index = self
            .chunk_of(before)
            .min(self.chunks.len().saturating_sub(1));
        let Some(chunk) = self.chunks.get_mut(index) else {
            self.chunks.push(vec![item]);
            return;
        };
        let at = chunk.partition_point(before);
        chunk.insert(at, item);
        if chunk.len() > CHUNK {
            let upper = chunk.split_off(CHUNK / 2);
            self.chunks.insert(index + 1, upper);
        }
    }

    fn unlink(&mut self, score: f64, member: &[u8]) {
        let before = |other: &Ranked| compare(other, score, member) == Ordering::Less;
        let index = self.chunk_of(before);
        let Some(chunk) = self.chunks.get_mut(index) else {
            return;
        };
        let at = chunk.partition_point(before);
        if chunk.get(at).is_some_and(|found| found.member == member) {
            chunk.remove(at);
        }
        let left = chunk.len();
        if left == 0 {
            self.chunks.remove(index);
        } else if left < CHUNK / 8 {
            self.merge_with_next(index);
        }
    }

    /// Keeps the number of chunks in proportion after many removals.
    fn merge_with_next(&mut self, index: usize) {
        let next = index + 1;
        let fits = match (self.chunks.get(index), self.chunks.get(next)) {
            (Some(a), Some(b)) => a.len() + b.len() <= CHUNK / 2,
            _ => false,
        };
        if fits {
            let upper = self.chunks.remove(next);
            if let Some(chunk) = self.chunks.get_mut(index) {
                chunk.extend(upper);
            }
        }
    }
}

impl FromIterator<(Bytes, f64)> for SortedSet {
    fn from_iter<I: IntoIterator<Item = (Bytes, f64)>>(items: I) -> Self {
        let mut set = Self::default();
        for (member, score) in items {
            set.insert(member, score);
        }
        set
    }
}

fn compare(item: &Ranked, score: f64, member: &[u8]) -> Ordering {
    // Neither NaN nor -0 is ever stored, so the total order is the numeric one.
    item.score
        .total_cmp(&score)
        .then_with(|| item.member.as_ref().cmp(member))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    fn reference(model: &BTreeMap<Vec<u8>, i32>) -> Vec<(Vec<u8>, i32)> {
        let mut items: Vec<_> = model.iter().map(|(m, s)| (m.clone(), *s)).collect();
        items.sort_by(|a, b| (a.1, &a.0).cmp(&(b.1, &b.0)));
        items
    }

    proptest! {
        #[test]
        fn order_and_ranks_are_those_of_a_sorted_list(
            operations in proptest::collection::vec((0_u16..800, proptest::option::weighted(0.7, -5_i32..5)), 1..3000)
        ) {
            let mut set = SortedSet::default();
            let mut model = BTreeMap::new();
            for (member, score) in operations {
                let member = member.to_string().into_bytes();
                match score {
                    Some(score) => {
                        set.insert(Bytes::from(member.clone()), f64::from(score));
                        model.insert(member, score);
                    }
                    None => {
                        prop_assert_eq!(set.remove(&member).is_some(), model.remove(&member).is_some());
                    }
                }
            }
            let expected = reference(&model);
            let forward: Vec<_> = set.iter().map(|(m, _)| m.to_vec()).collect();
            prop_assert_eq!(&forward, &expected.iter().map(|(m, _)| m.clone()).collect::<Vec<_>>());
            for (rank, (member, _)) in expected.iter().enumerate().step_by(37) {
                prop_assert_eq!(set.rank(member), Some(rank));
                let next = set.iter_from(rank).next().map(|(m, _)| m.to_vec());
                prop_assert_eq!(next.as_deref(), Some(member.as_slice()));
                let below = set.iter_down_from(rank).next().map(|(m, _)| m.to_vec());
                prop_assert_eq!(below, rank.checked_sub(1).map(|r| expected[r].0.clone()));
            }
        }
    }

    #[test]
    fn a_negative_zero_is_zero() {
        let mut set = SortedSet::default();
        set.insert(Bytes::from("m"), -0.0);
        assert!(set.score(b"m").unwrap().is_sign_positive());
    }
}
