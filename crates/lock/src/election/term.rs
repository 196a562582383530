//! [`Term`]: the time for which a process leads.

use std::fmt;
use std::sync::Arc;

use tokio::sync::watch;

use super::Role;
use crate::fence::Fence;

/// The time for which a process leads, for the work of the leader. Cheap to clone.
#[derive(Clone)]
pub struct Term {
    fence: Fence,
    resignation: Resignation,
    role: watch::Receiver<Role>,
}

impl Term {
    pub(super) fn new(fence: Fence, resignation: Resignation, role: watch::Receiver<Role>) -> Self {
        Self {
            fence,
            resignation,
            role,
        }
    }

    /// The fence: greater than that of every earlier leader. Send it with every write, to storage that
    /// rejects older ones.
    pub fn fence(&self) -> Fence {
        self.fence
    }

    /// Whether the term is over.
    pub fn is_over(&self) -> bool {
        *self.role.borrow() != Role::Leader(self.fence)
    }

    /// Waits until the term is over: the lock was lost, the leader resigned, or the work has ended. The work
    /// itself need not: it is dropped then. For tasks that it has spawned.
    pub async fn lost(&self) {
        let mut role = self.role.clone();
        let leads = Role::Leader(self.fence);
        // An error says that the election is gone, and with it the term.
        let _ = role.wait_for(|role| *role != leads).await;
    }

    /// Ends the term: the work is dropped where it awaits next, the lock is given back, and another candidate
    /// follows within one wake-up.
    pub fn resign(&self) {
        self.resignation.of(self.fence);
    }
}

impl fmt::Debug for Term {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Term")
            .field("fence", &self.fence)
            .field("is_over", &self.is_over())
            .finish_non_exhaustive()
    }
}

/// The term that was resigned last, by its fence.
#[derive(Clone)]
pub(super) struct Resignation(Arc<watch::Sender<Fence>>);

impl Default for Resignation {
    fn default() -> Self {
        Self(Arc::new(watch::Sender::new(Fence::new(0))))
    }
}

impl Resignation {
    /// The leader of this term, or one before, resigns.
    pub(super) fn of(&self, fence: Fence) {
        self.0.send_if_modified(|last| {
            let is_newer = *last < fence;
            *last = fence.max(*last);
            is_newer
        });
    }

    pub(super) async fn waits_for(&self, fence: Fence) {
        let mut resigned = self.0.subscribe();
        if resigned.wait_for(|last| *last >= fence).await.is_err() {
            std::future::pending().await
        }
    }
}
