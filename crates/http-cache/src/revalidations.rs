//! [`Revalidations`]: which keys this process loads anew in the background.

use std::collections::HashSet;
use std::sync::Arc;

use parking_lot::Mutex;

#[derive(Debug, Default)]
pub(crate) struct Revalidations {
    keys: Mutex<HashSet<Box<[u8]>>>,
}

/// A key is being loaded anew until this is dropped.
#[derive(Debug)]
pub(crate) struct Revalidation {
    all: Arc<Revalidations>,
    key: Box<[u8]>,
}

impl Revalidations {
    /// `None` when this process loads the key anew already.
    pub(crate) fn begin(self: &Arc<Self>, key: &[u8]) -> Option<Revalidation> {
        self.keys.lock().insert(key.into()).then(|| Revalidation {
            all: Arc::clone(self),
            key: key.into(),
        })
    }
}

impl Drop for Revalidation {
    fn drop(&mut self) {
        self.all.keys.lock().remove(&self.key);
    }
}
