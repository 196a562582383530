//! Server-side sessions on Redis: ids that only the client has, timeouts on the server's clock, changes
//! that do not overwrite each other, lists and revocation of a user's sessions, and one round trip for
//! each of them, on a cluster too.
//!
//! ```
//! use redkit_session::{SessionSecrets, SessionStore, SignIn};
//! use secrecy::ExposeSecret;
//!
//! # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let config = redkit_core::ClientConfig::from_url("embedded://")?;
//! # let backend = std::sync::Arc::new(redkit_embedded::Embedded::new());
//! # let client = redkit_core::Client::from_backend(backend, &config)?;
//! let secrets = SessionSecrets::new(vec![1; 32], 1, vec![2; 32])?; // yours: random, and kept secret
//! let sessions = SessionStore::builder(&client, "web", secrets).build()?;
//!
//! let mut session = sessions.start()?; // nothing is stored yet
//! session.sign_in(SignIn::new("user-7").device("Firefox on Linux")).await?;
//! let cookie = session.id().expose();
//!
//! // A later request:
//! let mut session = sessions.load(cookie.expose_secret()).await?.expect("it is there");
//! session.insert("theme", "dark")?;
//! session.commit().await?;
//! # Ok(()) }
//! ```
//!
//! # What it promises
//! `docs/guarantees/session.md` lists every promise with the test that fails when it is broken,
//! `docs/security.md` how it stands to OWASP's verification standard.
//!
//! # What is stored, and where
//! An id carries a *bucket tag*: 14 bits of a keyed hash of its user, random while there is none. All keys
//! of a bucket share a slot, so the session, the list of its user's sessions and the mark that revokes them
//! are read in one step (`docs/keyspace.md`). A sign-in moves a session to the bucket of its user.
//!
//! Revoking all sessions of a user gives the user a new *generation*, a random name. A session of another
//! generation is over, whatever else is stored of it.
//!
//! # Features
//! - `tower`: the layer `redkit_session::tower` that gives HTTP requests their sessions; `axum`: what handlers
//!   of axum take.
//! - `tower-sessions`: a store for the crate of that name, as `redkit_session::tower_sessions`.

// docs.rs says which feature an item needs.
#![cfg_attr(docsrs, feature(doc_cfg))]

mod builder;
mod directory;
mod entry;
mod error;
mod id;
mod indexes;
mod inspect;
mod keys;
mod record;
mod reencode;
mod rotation;
mod scripts;
mod secrets;
mod session;
mod sign_in;
mod stats;
mod store;
#[cfg(feature = "tower")]
pub mod tower;
#[cfg(feature = "tower-sessions")]
pub mod tower_sessions;
mod unclaimed;
mod user;
mod watch;

pub use builder::{Lifetime, OnLimit, SessionStoreBuilder};
pub use directory::{ListedSession, SessionDirectory, SessionPages};
pub use error::Error;
pub use id::SessionId;
pub use secrets::SessionSecrets;
pub use session::Session;
pub use sign_in::SignIn;
pub use store::{SessionHandle, SessionInfo, SessionStore};
pub use watch::SessionEnd;
