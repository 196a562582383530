//! A [tower](https://docs.rs/tower) layer that gives each request its session, such as for axum.
//!
//! ```
//! # use redkit_core::{Client, ClientConfig};
//! # use redkit_embedded::Embedded;
//! use redkit_session::tower::{SameSite, SessionLayer};
//! use redkit_session::{SessionSecrets, SessionStore};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let client = Client::from_backend(std::sync::Arc::new(Embedded::new()), &ClientConfig::default())?;
//! let secrets = SessionSecrets::new(vec![1; 32], 1, vec![2; 32])?; // yours: random, and kept secret
//! let sessions = SessionStore::builder(&client, "web", secrets).build()?;
//! let layer = SessionLayer::builder(&sessions)
//!     .cookie_name("session") // the browser has it as `__Host-session`
//!     .same_site(SameSite::Lax)
//!     .exempt(|request| request.uri.path() == "/webhooks/payments")
//!     .build()?;
//! # let _ = layer; Ok(()) }
//! ```
//!
//! With axum (feature `axum`), handlers take a [`CurrentSession`]:
//!
//! ```
//! # #[cfg(feature = "axum")] mod handlers {
//! use redkit_session::tower::CurrentSession;
//! use redkit_session::{Error, SignIn};
//!
//! async fn sign_in(session: CurrentSession) -> Result<&'static str, Error> {
//!     // After the password was checked.
//!     session.sign_in(SignIn::new("user-7").device("Firefox on Linux")).await?;
//!     Ok("welcome")
//! }
//!
//! async fn add_to_cart(session: CurrentSession) -> Result<String, Error> {
//!     let items = session.get::<u32>("items").await?.unwrap_or(0) + 1;
//!     session.insert("items", &items).await?;
//!     Ok(format!("{items} items"))
//! }
//! # }
//! ```
//!
//! # What happens with a request
//! 1. An unsafe request (not `GET`, `HEAD`, `OPTIONS` or `TRACE`; a WebSocket's handshake too) that a page of
//!    another origin has made is answered with 403: by `Sec-Fetch-Site`, and by `Origin` where that is
//!    missing. See [`SessionLayerBuilder::trust_origin`] and [`exempt`](SessionLayerBuilder::exempt).
//! 2. The request gets a [`CurrentSession`], among its extensions, and nothing is sent to Redis. The first call
//!    on it loads the session, whether a handler or another layer makes it; there is one load per request.
//! 3. Sign-in, rotation and sign-out take effect at once. Changes of entries are kept, and sent in one round
//!    trip once the service has answered, before the answer's head goes out. An answer with a status of 500
//!    and above discards them. Changes that are made while the body is streamed are not sent by
//!    themselves: see [`CurrentSession::commit`].
//! 4. An answer that sets a cookie has `Cache-Control: no-store`; one that came of a session has `Vary`.
//!
//! A request that never writes stores nothing, and one that does not ask for its session costs no round trip.
//! An id that loads no session (it ended, or was never issued) is an anonymous request, and never becomes a
//! session's. Two different cookies of the name are no cookie. A cookie is removed by a sign-out, and where it can be
//! no id; not where its session is merely not there, since another request may just have set it anew.
//!
//! Errors of the service itself (`Result::Err`) carry no cookie: below the layer they must be made answers, as
//! axum's `HandleErrorLayer` does.
//!
//! Below this layer, `IdempotencyLayer` of `redkit-lock` keeps an answer only once the changes of the session are saved:
//! where they cannot be, or the client has gone away and does not get its new id, the next request with the key is
//! carried out. A sign-in or a rotation during which the client goes away is given up, there and wherever else a task of its own
//! runs the handler, and the client keeps its id, where Redis can be told within the
//! [grace](crate::SessionStoreBuilder::rotation_grace). The answers of the table that follows are not kept. What a handler
//! has done besides, it should be able to do twice, or the session is changed by [`CurrentSession::commit`] before it.
//!
//! # When something fails
//!
//! | what | answer |
//! |---|---|
//! | Redis cannot be asked | 503, also when the handler went on without the session. [`OnOutage::Anonymous`] lets such requests be anonymous, without taking their cookie |
//! | the session ended, or another request gave it a new id, before the changes were sent | 409: the changes are not made |
//! | anything else, such as a session over its size | 500 |
//!
//! All of them are `application/problem+json` (RFC 9457).

mod answer;
mod builder;
mod cookie;
mod cross_site;
mod current;
mod layer;
mod metrics;
mod service;
mod transport;

#[cfg(feature = "axum")]
mod extract;

pub use builder::{OnOutage, SessionLayerBuilder};
pub use cookie::SameSite;
pub use current::CurrentSession;
#[cfg(feature = "axum")]
pub use extract::NoSessionLayer;
pub use layer::SessionLayer;
pub use redkit_core::http_layer::LayerBody;
pub use service::SessionService;
