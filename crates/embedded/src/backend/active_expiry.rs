//! Active expiry: removes keys in the millisecond in which they expire, also while no command comes, so
//! that near caches hear of it.

use std::sync::Weak;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::sleep;

use super::Shared;

/// Goes on until the engine is gone.
pub(super) async fn run(shared: Weak<Shared>, mut next_expiry: watch::Receiver<Option<i64>>) {
    loop {
        let Some(engine) = shared.upgrade() else {
            return;
        };
        let now = engine.engine.lock().with_state(|state| {
            state.tick();
            state.remove_expired();
            state.settle();
            state.db.now()
        });
        drop(engine);
        let wait = next_expiry.borrow_and_update().map(|at| {
            // A key is there to its last millisecond.
            let millis = at.saturating_add(1).saturating_sub(now);
            Duration::from_millis(u64::try_from(millis).unwrap_or(0))
        });
        let changed = match wait {
            None => next_expiry.changed().await,
            Some(wait) => tokio::select! {
                changed = next_expiry.changed() => changed,
                () = sleep(wait) => Ok(()),
            },
        };
        if changed.is_err() {
            return;
        }
    }
}
