//! [`Tags`]: which tags the values in this process have. Invalidating a tag is one store, however
//! many values have it.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};

use parking_lot::Mutex;

use crate::id::Id;

/// The tags of the values that are kept. A tag lives as long as a value that has it.
#[derive(Debug, Default)]
pub(super) struct Tags {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    by_name: HashMap<Box<str>, Weak<TagCell>>,
    /// Counts invalidations.
    epoch: u64,
}

/// One tag, shared by the values that have it.
#[derive(Debug)]
pub(super) struct TagCell {
    is_void: AtomicBool,
    name: Box<str>,
    tags: Weak<Tags>,
}

impl Tags {
    /// To be taken before a reading.
    pub(super) fn epoch(&self) -> u64 {
        self.state.lock().epoch
    }

    /// The cells of a value's tags; `None` when a tag was invalidated since `epoch` was taken.
    pub(super) fn cells(
        self: &Arc<Self>,
        tags: &[(Box<str>, Id)],
        epoch: u64,
    ) -> Option<Box<[Arc<TagCell>]>> {
        if tags.is_empty() {
            return Some(Box::default());
        }
        let mut state = self.state.lock();
        if state.epoch != epoch {
            return None;
        }
        let mut cell = |name: &str| {
            if let Some(cell) = state.by_name.get(name).and_then(Weak::upgrade) {
                return cell;
            }
            let cell = Arc::new(TagCell {
                is_void: AtomicBool::new(false),
                name: name.into(),
                tags: Arc::downgrade(self),
            });
            state.by_name.insert(name.into(), Arc::downgrade(&cell));
            cell
        };
        Some(tags.iter().map(|(name, _)| cell(name)).collect())
    }

    /// Invalidates all values that have the tag.
    pub(super) fn void(&self, tag: &str) {
        let mut state = self.state.lock();
        state.epoch += 1;
        let cell = state.by_name.remove(tag).and_then(|cell| cell.upgrade());
        // Not under the lock: the last one of a cell takes it off the list.
        drop(state);
        if let Some(cell) = cell {
            cell.is_void.store(true, Ordering::Release);
        }
    }

    /// No value that is being read is to be kept.
    pub(super) fn void_all(&self) {
        self.state.lock().epoch += 1;
    }
}

impl TagCell {
    pub(super) fn stands(&self) -> bool {
        !self.is_void.load(Ordering::Acquire)
    }
}

impl Drop for TagCell {
    fn drop(&mut self) {
        let Some(tags) = self.tags.upgrade() else {
            return;
        };
        let mut state = tags.state.lock();
        // Another cell of the same name may stand here already.
        if state
            .by_name
            .get(&self.name)
            .is_some_and(|cell| cell.strong_count() == 0)
        {
            state.by_name.remove(&self.name);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tag(name: &str) -> (Box<str>, Id) {
        (name.into(), Id::new(1))
    }

    #[test]
    fn a_tag_is_void_for_all_that_have_it_and_for_no_other() {
        let tags = Arc::new(Tags::default());
        let one = tags.cells(&[tag("a"), tag("b")], 0).unwrap();
        let two = tags.cells(&[tag("b")], 0).unwrap();
        tags.void("a");
        assert!(!one[0].stands() && one[1].stands() && two[0].stands());
        tags.void("b");
        assert!(!one[1].stands() && !two[0].stands());
        let new = tags.cells(&[tag("b")], tags.epoch()).unwrap();
        assert!(new[0].stands());
    }

    #[test]
    fn what_was_read_before_an_invalidation_gets_no_cells() {
        let tags = Arc::new(Tags::default());
        let epoch = tags.epoch();
        tags.void("a");
        assert!(tags.cells(&[tag("a")], epoch).is_none());
        assert!(tags.cells(&[], epoch).is_some());
    }

    #[test]
    fn a_tag_that_nothing_has_is_forgotten() {
        let tags = Arc::new(Tags::default());
        let cells = tags.cells(&[tag("a")], 0).unwrap();
        assert_eq!(tags.state.lock().by_name.len(), 1);
        drop(cells);
        assert!(tags.state.lock().by_name.is_empty());
    }
}
