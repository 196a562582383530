//! [`Registry`]: the guards that are held now, for whoever looks at the program.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;

/// The guards of a purpose that are held in this process: of each what is shown of it. Clones share it.
#[derive(Clone)]
pub(crate) struct Registry<T> {
    entries: Arc<Entries<T>>,
}

struct Entries<T> {
    held: Mutex<HashMap<u64, T>>,
    last_id: AtomicU64,
}

/// A guard's entry in the [`Registry`], which the guard takes out when it is dropped.
pub(crate) struct Registered<T> {
    entries: Arc<Entries<T>>,
    id: u64,
}

impl<T: Clone> Registry<T> {
    pub(crate) fn add(&self, shown: T) -> Registered<T> {
        let id = self.entries.last_id.fetch_add(1, Ordering::Relaxed);
        self.entries.held.lock().insert(id, shown);
        Registered {
            entries: Arc::clone(&self.entries),
            id,
        }
    }

    pub(crate) fn count(&self) -> usize {
        self.entries.held.lock().len()
    }

    /// At most so many of them.
    pub(crate) fn some(&self, limit: usize) -> Vec<T> {
        let held = self.entries.held.lock();
        held.values().take(limit).cloned().collect()
    }
}

impl<T> Default for Registry<T> {
    fn default() -> Self {
        Self {
            entries: Arc::new(Entries {
                held: Mutex::default(),
                last_id: AtomicU64::new(0),
            }),
        }
    }
}

impl<T> Drop for Registered<T> {
    fn drop(&mut self) {
        self.entries.held.lock().remove(&self.id);
    }
}

impl<T> fmt::Debug for Registered<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Registered")
    }
}
