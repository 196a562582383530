//! [`Tasks`]: the loads of a cache. Dropping it ends them.

use parking_lot::Mutex;
use tokio::task::JoinSet;

#[derive(Debug, Default)]
pub(crate) struct Tasks {
    running: Mutex<JoinSet<()>>,
}

impl Tasks {
    pub(crate) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        let mut running = self.running.lock();
        // Tasks that have ended are taken off here, so that the set stays as small as its life.
        while running.try_join_next().is_some() {}
        running.spawn(task);
    }
}
