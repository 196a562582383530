//! Sessions on every backend.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod basics;
mod commits;
mod directory;
mod dropped;
mod encryption;
mod fleet;
mod hostile;
mod indexes;
mod inspection;
mod late;
mod processes;
#[cfg(feature = "tower-sessions")]
mod records;
mod revocation;
mod rotation;
mod round_trips;
mod server_calls;
mod simulation;
mod timeouts;
#[cfg(feature = "axum")]
mod tower;
mod two_ids;
mod unanswered;
mod watching;

use redkit_core::Client;
use redkit_session::{Session, SessionSecrets, SessionStore, SessionStoreBuilder, SignIn};
use redkit_testkit::Fixture;
use secrecy::ExposeSecret;

pub(crate) fn secrets() -> SessionSecrets {
    SessionSecrets::new(vec![1; 32], 2, vec![2; 32]).unwrap()
}

pub(crate) fn builder(client: &Client) -> SessionStoreBuilder {
    SessionStore::builder(client, "web", secrets())
}

pub(crate) fn store(fixture: &Fixture) -> SessionStore {
    builder(&fixture.client).build().unwrap()
}

/// A store for many requests at once, on a machine that may be busy: the tests with it are about the outcome
/// and not about the time.
pub(crate) async fn patient_store(fixture: &Fixture) -> SessionStore {
    let config = fixture.config().unwrap();
    let config = config.command_timeout(std::time::Duration::from_secs(60));
    let client = fixture.connect(config).await.unwrap();
    client.breaker().force_closed();
    builder(&client).build().unwrap()
}

/// The text of a session's id.
pub(crate) fn text(session: &Session) -> String {
    session.id().expose().expose_secret().to_owned()
}

/// A stored session of a user.
pub(crate) async fn signed_in(store: &SessionStore, user: &str) -> Session {
    let mut session = store.start().unwrap();
    session.sign_in(SignIn::new(user)).await.unwrap();
    session
}

/// Another request's view of a session.
pub(crate) async fn again(store: &SessionStore, session: &Session) -> Option<Session> {
    store.load(&text(session)).await.unwrap()
}
