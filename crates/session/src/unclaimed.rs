//! [`Unclaimed`]: a session whose id nobody has yet, and what becomes of it when nobody ever will.

use std::sync::Arc;
use std::time::Duration;

use redkit_core::coordination::Release;
use redkit_core::{Client, Invocation, Tally, Value};
use tokio::time::Instant;

use crate::error::Error;
use crate::indexes::{self, UNDONE_FOR};
use crate::keys::SessionKeys;
use crate::scripts;
use crate::store::SessionStore;

/// A session that is stored, or about to be, and whose id nobody has yet. When it is dropped, the session ends in the
/// background, and the client has the id again that it had before.
pub(crate) struct Unclaimed {
    client: Client,
    end: Invocation,
    /// Takes it out of its indexes, once it has ended.
    forget: Vec<Invocation>,
    /// Gives the client back the session whose place it was to take.
    give_back: Option<Invocation>,
    /// For how long the old session is there to be given back.
    grace: Duration,
    /// Counts what could not be done in the background.
    given_up: Arc<Tally>,
    /// What Redis is told in the background once the caller has the id. Before that, the session may still be taken
    /// back.
    later: Vec<Release>,
    is_over: bool,
    /// Nothing is to be done when it is dropped.
    is_done: bool,
}

impl Unclaimed {
    pub(crate) fn new(
        store: &SessionStore,
        keys: &SessionKeys,
        lineage: &str,
        indexes: &str,
    ) -> Self {
        let inner = store.inner();
        Self {
            client: inner.client.clone(),
            end: scripts::end_call(keys, "", lineage),
            forget: indexes::forget_calls(&inner.names.keyspace, indexes, keys),
            give_back: None,
            grace: inner.settings.grace,
            given_up: inner.metrics.given_up.clone(),
            later: Vec::new(),
            is_over: false,
            is_done: false,
        }
    }

    /// From here on the old session, which was copied at this revision, may be in its grace, and is what the client has.
    pub(crate) fn takes_the_place_of(&mut self, old: &SessionKeys, mark: &str, copied: u64) {
        self.give_back = Some(scripts::give_back_call(old, mark, copied));
    }

    /// Tells Redis this in the background, for up to a minute from when the caller has the id; never, where the session
    /// is taken back before.
    pub(crate) fn leave_for_later(&mut self, release: Release) {
        self.later.push(release);
    }

    /// The caller has the id.
    pub(crate) fn claimed(mut self) {
        self.is_done = true;
        let until = Instant::now() + UNDONE_FOR;
        for release in self.later.drain(..) {
            self.client.release_later(release.until(until));
        }
    }

    /// Ends the session, and then takes it out of its indexes.
    ///
    /// # Errors
    /// [`Error::Core`]: it is ended later, or by its idle timeout; until then an index finds it, and it counts as one of
    /// its user's.
    pub(crate) async fn discard(self) -> Result<(), Error> {
        match self.client.eval::<Value>(self.end.clone()).await {
            Ok(_) => {
                self.forget().await;
                Ok(())
            }
            // The guard goes on.
            Err(error) => {
                tracing::warn!(target: "redkit::session", %error, "a session that nobody has the id of is yet to end");
                Err(error.into())
            }
        }
    }

    /// Discards the session for an error that the caller gets, whether it can be ended now or not.
    pub(crate) async fn discard_for(self, error: Error) -> Error {
        drop(self.discard().await);
        error
    }

    /// Takes a session that was not stored, or has ended, out of its indexes.
    pub(crate) async fn forget(mut self) {
        self.is_over = true;
        for call in &self.forget {
            if let Err(error) = self.client.eval::<i64>(call.clone()).await {
                tracing::debug!(target: "redkit::session", %error, "an index keeps a session that has ended until its deadline");
            }
        }
        self.is_done = true;
    }
}

impl Drop for Unclaimed {
    fn drop(&mut self) {
        let now = Instant::now();
        let forget = std::mem::take(&mut self.forget);
        match (self.is_done, self.is_over) {
            (true, _) => {}
            (false, true) => {
                let release = Release::new(forget).until(now + UNDONE_FOR);
                self.client.release_later(release);
            }
            (false, false) => {
                let calls = std::iter::once(self.end.clone())
                    .chain(self.give_back.take())
                    .chain(forget);
                // As long as the old session can be given back, which may be longer than a minute.
                let until = now + UNDONE_FOR.max(self.grace);
                let release = Release::new(calls).patiently_until(until);
                let release = release.counted_by(Arc::clone(&self.given_up));
                self.client.release_later(release);
            }
        }
    }
}
