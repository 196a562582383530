//! A stream: entries in the order of their ids, and the groups that read them.

pub(crate) mod group;
pub(crate) mod id;
mod progress;

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use bytes::Bytes;
use redkit_core::Value;

use self::group::Group;
use self::id::{NewId, StreamId};
use self::progress::Progress;

/// Fields and values, one after the other.
pub(crate) type Fields = Arc<[Bytes]>;

/// Entries per node, and about how many bytes: approximate trimming takes whole nodes only, here
/// as on the server.
const NODE_ENTRIES: usize = 100;
const NODE_BYTES: usize = 4_096;

/// Entries, and what is known of deleted entries.
#[derive(Debug, Clone, Default)]
pub(crate) struct Stream {
    entries: BTreeMap<StreamId, Fields>,
    nodes: VecDeque<Node>,
    last_id: StreamId,
    max_deleted_id: StreamId,
    added: u64,
    pub(crate) groups: BTreeMap<Bytes, Group>,
}

/// Neighbours that the server stores together.
#[derive(Debug, Clone)]
struct Node {
    last: StreamId,
    live: usize,
    /// Deleted entries count as well.
    all: usize,
    bytes: usize,
}

/// Why an entry was not added.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NotAdded {
    /// The last possible id is taken.
    Exhausted,
    /// The id is not greater than the last one.
    TooSmall,
}

/// What to trim away.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Keep {
    /// All but the last so many.
    Newest(usize),
    /// All from this id on.
    From(StreamId),
}

/// How much to trim.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Trimming {
    Exact,
    /// Whole nodes, and at most so many entries.
    Nodes {
        limit: Option<usize>,
    },
}

impl Stream {
    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }

    pub(crate) fn nodes(&self) -> usize {
        self.nodes.len()
    }

    pub(crate) fn last_id(&self) -> StreamId {
        self.last_id
    }

    /// The id of the first entry; 0-0 without one.
    pub(crate) fn first_id(&self) -> StreamId {
        let first = self.entries.first_key_value();
        first.map(|(id, _)| *id).unwrap_or_default()
    }

    /// The id of the last entry that is there.
    pub(crate) fn top(&self) -> Option<StreamId> {
        self.entries.last_key_value().map(|(id, _)| *id)
    }

    pub(crate) fn max_deleted_id(&self) -> StreamId {
        self.max_deleted_id
    }

    /// How many entries were ever added.
    pub(crate) fn added(&self) -> u64 {
        self.added
    }

    pub(crate) fn contains(&self, id: StreamId) -> bool {
        self.entries.contains_key(&id)
    }

    /// An entry as replies show it.
    pub(crate) fn show(&self, id: StreamId) -> Option<Value> {
        self.entries.get(&id).map(|fields| shown(id, fields))
    }

    /// The entries between two ids, both of them included, which must be in order.
    pub(crate) fn range(
        &self,
        start: StreamId,
        stop: StreamId,
    ) -> impl DoubleEndedIterator<Item = Value> + '_ {
        let ordered = (start <= stop).then(|| self.entries.range(start..=stop));
        ordered
            .into_iter()
            .flatten()
            .map(|(id, fields)| shown(*id, fields))
    }

    /// The id that a new entry would get.
    pub(crate) fn next_id(&self, wanted: NewId, now: u64) -> Result<StreamId, NotAdded> {
        let after = self.last_id.next().ok_or(NotAdded::Exhausted)?;
        let id = match wanted {
            NewId::Auto if now > self.last_id.millis => StreamId::new(now, 0),
            NewId::Auto => after,
            NewId::Within(millis) if millis == self.last_id.millis => {
                let sequence = self.last_id.sequence.checked_add(1);
                StreamId::new(millis, sequence.ok_or(NotAdded::TooSmall)?)
            }
            NewId::Within(millis) => StreamId::new(millis, 0),
            NewId::Given(id) => id,
        };
        match id > self.last_id {
            true => Ok(id),
            false => Err(NotAdded::TooSmall),
        }
    }

    /// Adds an entry under an id that [`Stream::next_id`] gave.
    pub(crate) fn append(&mut self, id: StreamId, fields: Fields) {
        let bytes = fields.iter().map(|field| field.len() + 2).sum::<usize>() + 8;
        let room = self.nodes.back_mut().filter(|node| {
            node.all < NODE_ENTRIES && node.bytes.saturating_add(bytes) < NODE_BYTES
        });
        match room {
            Some(node) => {
                node.last = id;
                node.live += 1;
                node.all += 1;
                node.bytes += bytes;
            }
            None => self.nodes.push_back(Node {
                last: id,
                live: 1,
                all: 1,
                bytes,
            }),
        }
        self.entries.insert(id, fields);
        self.last_id = id;
        self.added += 1;
    }

    /// Deletes an entry; says whether it was there.
    pub(crate) fn delete(&mut self, id: StreamId) -> bool {
        let deleted = self.take(id);
        if deleted {
            self.max_deleted_id = self.max_deleted_id.max(id);
        }
        deleted
    }

    /// Trims, and gives the number of entries that went.
    pub(crate) fn trim(&mut self, keep: Keep, trimming: Trimming) -> usize {
        match trimming {
            Trimming::Exact => self.trim_exactly(keep),
            Trimming::Nodes { limit } => self.trim_nodes(keep, limit.unwrap_or(usize::MAX)),
        }
    }

    /// Sets what `XSETID` sets.
    pub(crate) fn set_ids(
        &mut self,
        last: StreamId,
        added: Option<u64>,
        max_deleted: Option<StreamId>,
    ) {
        self.last_id = last;
        self.added = added.unwrap_or(self.added);
        self.max_deleted_id = max_deleted.unwrap_or(self.max_deleted_id);
    }

    /// What a group's counters are computed from.
    pub(crate) fn progress(&self) -> Progress {
        Progress {
            added: self.added,
            len: u64::try_from(self.len()).unwrap_or(u64::MAX),
            first: self.first_id(),
            last: self.last_id,
            max_deleted: self.max_deleted_id,
        }
    }

    /// Hands new entries to a consumer of a group.
    pub(crate) fn deliver(
        &mut self,
        group: &[u8],
        consumer: &Bytes,
        count: usize,
        no_ack: bool,
        now: i64,
    ) -> Vec<Value> {
        let progress = self.progress();
        let Some(group) = self.groups.get_mut(group) else {
            return Vec::new();
        };
        group.seen(consumer, now);
        let Some(from) = group.last_id.next() else {
            return Vec::new();
        };
        let mut delivered = Vec::new();
        for (id, fields) in self.entries.range(from..).take(count) {
            group.advance(*id, progress);
            if !no_ack {
                group.deliver(*id, consumer, now);
            }
            delivered.push(shown(*id, fields));
        }
        delivered
    }

    /// What a consumer was given and has not acknowledged; entries that are gone have no fields.
    pub(crate) fn history(
        &mut self,
        group: &[u8],
        consumer: &Bytes,
        after: StreamId,
        count: usize,
        now: i64,
    ) -> Vec<Value> {
        let Some(group) = self.groups.get_mut(group) else {
            return Vec::new();
        };
        group.seen(consumer, now);
        let Some(from) = after.next() else {
            return Vec::new();
        };
        let mut shown_again = Vec::new();
        for id in group.pending_of(consumer, from, count) {
            shown_again.push(match self.entries.get(&id) {
                Some(fields) => {
                    group.redeliver(id, now);
                    shown(id, fields)
                }
                None => Value::Array(vec![id.to_value(), Value::Nil]),
            });
        }
        shown_again
    }

    /// A rough number of bytes.
    pub(crate) fn weight(&self) -> usize {
        let nodes: usize = self.nodes.iter().map(|node| node.bytes).sum();
        let pending: usize = self.groups.values().map(Group::weight).sum();
        nodes + self.len() * 48 + pending
    }

    /// Removes an entry from its node, and the node with its last one.
    fn take(&mut self, id: StreamId) -> bool {
        if self.entries.remove(&id).is_none() {
            return false;
        }
        let index = self.nodes.partition_point(|node| node.last < id);
        if let Some(node) = self.nodes.get_mut(index) {
            node.live -= 1;
            if node.live == 0 {
                self.nodes.remove(index);
            }
        }
        true
    }

    fn trim_exactly(&mut self, keep: Keep) -> usize {
        let before = self.len();
        while let Some((&first, _)) = self.entries.first_key_value() {
            let stays = match keep {
                Keep::Newest(count) => self.len() <= count,
                Keep::From(id) => first >= id,
            };
            if stays {
                break;
            }
            self.take(first);
        }
        before - self.len()
    }

    fn trim_nodes(&mut self, keep: Keep, limit: usize) -> usize {
        let mut trimmed = 0;
        while let Some(node) = self.nodes.front() {
            let goes = match keep {
                Keep::Newest(count) => self.len() > count && self.len() - node.live >= count,
                Keep::From(id) => node.last < id,
            };
            if !goes || trimmed + node.live > limit {
                break;
            }
            trimmed += node.live;
            for _ in 0..node.live {
                self.entries.pop_first();
            }
            self.nodes.pop_front();
        }
        trimmed
    }
}

fn shown(id: StreamId, fields: &Fields) -> Value {
    let fields = fields.iter().cloned().map(Value::Bulk).collect();
    Value::Array(vec![id.to_value(), Value::Array(fields)])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stream(entries: u64) -> Stream {
        let mut stream = Stream::default();
        for n in 1..=entries {
            stream.append(
                StreamId::new(n, 0),
                Arc::from([Bytes::from("f"), Bytes::from("v")]),
            );
        }
        stream
    }

    #[test]
    fn approximate_trimming_takes_whole_nodes_within_its_limit() {
        let nodes = |limit| Trimming::Nodes { limit };
        let mut stream = stream(1_050);
        assert_eq!(stream.nodes(), 11);
        assert_eq!(stream.trim(Keep::Newest(1_000), nodes(None)), 0);
        assert_eq!(stream.trim(Keep::Newest(900), nodes(None)), 100);
        assert_eq!(stream.trim(Keep::Newest(0), nodes(Some(250))), 200);
        assert_eq!(
            stream.trim(Keep::From(StreamId::new(450, 0)), nodes(None)),
            100
        );
        assert_eq!(
            stream.trim(Keep::From(StreamId::new(450, 0)), Trimming::Exact),
            49
        );
        assert_eq!(stream.first_id(), StreamId::new(450, 0));
        assert_eq!(
            stream.len(),
            stream.nodes.iter().map(|node| node.live).sum::<usize>()
        );
    }

    #[test]
    fn a_node_goes_with_its_last_entry() {
        let mut stream = stream(250);
        for n in 101..=200 {
            assert!(stream.delete(StreamId::new(n, 0)));
        }
        assert!(!stream.delete(StreamId::new(150, 0)));
        assert_eq!((stream.len(), stream.nodes()), (150, 2));
        assert_eq!(
            stream.trim(Keep::Newest(50), Trimming::Nodes { limit: None }),
            100
        );
    }

    #[test]
    fn ids_only_grow() {
        let mut stream = stream(5);
        let next = |stream: &Stream, id| stream.next_id(id, 3).map(|id| id.to_string());
        assert_eq!(next(&stream, NewId::Auto).unwrap(), "5-1");
        assert_eq!(stream.next_id(NewId::Auto, 9), Ok(StreamId::new(9, 0)));
        assert_eq!(next(&stream, NewId::Within(5)).unwrap(), "5-1");
        assert_eq!(next(&stream, NewId::Within(7)).unwrap(), "7-0");
        assert_eq!(next(&stream, NewId::Within(4)), Err(NotAdded::TooSmall));
        stream.set_ids(StreamId::new(5, u64::MAX), None, None);
        assert_eq!(next(&stream, NewId::Within(5)), Err(NotAdded::TooSmall));
        assert_eq!(next(&stream, NewId::Auto).unwrap(), "6-0");
        stream.set_ids(StreamId::MAX, None, None);
        assert_eq!(next(&stream, NewId::Auto), Err(NotAdded::Exhausted));
    }
}
