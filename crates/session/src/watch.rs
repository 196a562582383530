//! [`Session::revoked`]: the end of a session, for connections that outlive their request.

use std::time::Duration;

use redkit_core::Client;
use redkit_core::coordination::{Wake, WakeUp};
use tokio::time::{Instant, sleep_until, timeout_at};

use crate::keys::SessionKeys;
use crate::record::{Over, followed};
use crate::scripts;
use crate::session::Session;
use crate::store::SessionStore;

/// Why a connection is to end, from [`Session::revoked`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum SessionEnd {
    /// The session has ended: it was revoked or deleted, or is past a timeout.
    Ended,
    /// The session goes on under another id as another user's, as that of a user who was not known before, or
    /// without one.
    Replaced,
    /// Redis could not be asked for as long as
    /// [`revocation_bound`](crate::SessionStoreBuilder::revocation_bound): the session may have ended.
    Unconfirmed,
}

impl Session {
    /// Waits for the end of the session, for connections that outlive their request, such as server-sent
    /// events and WebSockets: close the connection when it resolves.
    ///
    /// Whoever ends the session wakes it: a sign-out, a revocation of one, others or all, the limit of
    /// sessions. A rotation of the same user's session is followed, while its old id loads
    /// ([`rotation_grace`](crate::SessionStoreBuilder::rotation_grace)); a sign-in of another user ends it. Watching
    /// does not use the session, which therefore ends by its idle timeout when no request comes.
    ///
    /// Wake-ups can be lost with the network. So it asks besides, and resolves at most
    /// [`revocation_bound`](crate::SessionStoreBuilder::revocation_bound) after the session has ended,
    /// whatever the network does: when Redis could not be asked for so long, with
    /// [`SessionEnd::Unconfirmed`]. All watchers of a process share one subscription.
    ///
    /// It never resolves for a session that is not stored, which nobody can revoke.
    ///
    /// ```
    /// # use redkit_session::Session;
    /// # async fn next_event() -> String { String::new() }
    /// # async fn send(_: String) {}
    /// async fn stream(session: &Session) {
    ///     let mut revoked = std::pin::pin!(session.revoked());
    ///     loop {
    ///         tokio::select! {
    ///             end = &mut revoked => return tracing::info!(?end, "the stream ends"),
    ///             event = next_event() => send(event).await,
    ///         }
    ///     }
    /// }
    /// ```
    pub fn revoked(&self) -> impl Future<Output = SessionEnd> + Send + 'static + use<> {
        let watch = self.record().map(|record| Watch {
            store: self.store.clone(),
            name: match record.user_hash.is_empty() {
                true => self.keys.hash().to_owned(),
                false => record.user_hash.to_string(),
            },
            keys: self.keys.clone(),
        });
        async move {
            match watch {
                Some(watch) => watch.end().await,
                None => std::future::pending().await,
            }
        }
    }
}

struct Watch {
    store: SessionStore,
    /// What announcements name: the hash of the user, or of the id without one.
    name: String,
    keys: SessionKeys,
}

impl Watch {
    async fn end(mut self) -> SessionEnd {
        let client: Client = self.store.inner().client.clone();
        let bound = self.store.inner().settings.revocation_bound;
        // When the last question was sent that was answered.
        let mut answered = Instant::now();
        let channel = self.store.inner().names.channel.clone();
        let name = std::mem::take(&mut self.name);
        let mut waiter = client.waiter(channel, name, Wake::All).await;
        loop {
            let deadline = answered + bound;
            let asked = Instant::now();
            let mut left = Duration::MAX;
            match timeout_at(deadline, scripts::watch(&client, &self.keys)).await {
                Ok(Ok(Ok(watched))) => {
                    answered = asked;
                    if let Some(successor) = followed(&watched.successor) {
                        let names = &self.store.inner().names;
                        self.keys = names.of_hash(self.keys.tag(), successor);
                        continue;
                    } else if !watched.successor.is_empty() {
                        return SessionEnd::Replaced;
                    }
                    left = watched.left;
                }
                Ok(Ok(Err(Over::Rotated))) => return SessionEnd::Replaced,
                Ok(Ok(Err(_))) => return SessionEnd::Ended,
                Ok(Err(error)) => {
                    tracing::debug!(target: "redkit::session", %error, "a watched session could not be asked for")
                }
                Err(_) => return SessionEnd::Unconfirmed,
            }
            if Instant::now() >= answered + bound {
                return SessionEnd::Unconfirmed;
            }
            // Asked twice within the bound, and not in a loop where every question fails at once.
            let next = (answered + bound / 2).max(asked + bound / 8);
            let next = next
                .min(answered + bound)
                .min(asked + left.saturating_add(AFTER).min(bound));
            let woken = waiter.wait(next.saturating_duration_since(Instant::now()));
            if woken.await == WakeUp::Look {
                // Without a subscription it looks many times a second: that would be too much to ask for
                // thousands of connections.
                sleep_until((asked + bound / 4).min(next)).await;
            }
        }
    }
}

/// So long after its expiry a session is asked for, which is rounded to milliseconds.
const AFTER: Duration = Duration::from_millis(2);
