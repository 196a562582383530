//! [`Term`]: the time for which a process leads.

use std::fmt;
use std::sync::{Arc, Weak};
use std::time::Duration;

use tokio::sync::watch;

use super::Role;
use crate::fence::Fence;
use crate::held::Held;

/// The time for which a process leads, for the work of the leader. Cheap to clone.
#[derive(Clone)]
pub struct Term {
    fence: Fence,
    /// The lock, which the term does not hold: its own deadline counts, whatever the leader's task does.
    lock: Weak<Held>,
    resignation: Resignation,
    role: watch::Receiver<Role>,
}

impl Term {
    pub(super) fn new(fence: Fence, lock: Weak<Held>, role: watch::Receiver<Role>) -> Self {
        Self {
            fence,
            lock,
            resignation: Resignation::default(),
            role,
        }
    }

    /// The fence: greater than that of every earlier leader. Send it with every write, to storage that
    /// rejects older ones.
    pub fn fence(&self) -> Fence {
        self.fence
    }

    /// Whether the term is over: the lock was lost, by this process's own clock and whatever other tasks do, or
    /// the work has ended or was stopped.
    pub fn is_over(&self) -> bool {
        let is_held = self.lock.upgrade().is_some_and(|lock| !lock.is_lost());
        !is_held || *self.role.borrow() != Role::Leader(self.fence)
    }

    /// For how long the term certainly goes on from now on, if the lock is not renewed; nothing when it is over.
    pub fn remaining(&self) -> Duration {
        if *self.role.borrow() != Role::Leader(self.fence) {
            return Duration::ZERO;
        }
        let lock = self.lock.upgrade().filter(|lock| !lock.is_lost());
        lock.map_or(Duration::ZERO, |lock| lock.remaining())
    }

    /// Waits until the term is over: the lock was lost, the leader resigned, or the work has ended. The work
    /// itself need not: it is dropped then. For tasks that it has spawned.
    pub async fn lost(&self) {
        let Some(lost) = self.lock.upgrade().map(|lock| lock.lost()) else {
            return;
        };
        let mut role = self.role.clone();
        let leads = Role::Leader(self.fence);
        tokio::select! {
            biased;
            () = lost => {}
            // An error says that the election is gone, and with it the term.
            _ = role.wait_for(|role| *role != leads) => {}
        }
    }

    /// Ends the term: the work is dropped where it awaits next, the lock is given back, and another candidate
    /// follows within one wake-up.
    pub fn resign(&self) {
        self.resignation.give();
    }

    pub(super) async fn is_resigned(&self) {
        self.resignation.is_given().await;
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

/// Whether the leader of one term has resigned. Not by its fence: fences go back when a server forgets them.
#[derive(Clone, Default)]
struct Resignation(Arc<watch::Sender<bool>>);

impl Resignation {
    fn give(&self) {
        self.0.send_replace(true);
    }

    async fn is_given(&self) {
        if self.0.subscribe().wait_for(|given| *given).await.is_err() {
            std::future::pending().await
        }
    }
}
