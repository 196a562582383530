//! A [tower](https://docs.rs/tower) layer for HTTP services, such as those of axum: requests with the header
//! `Idempotency-Key` are carried out once, as in
//! [draft-ietf-httpapi-idempotency-key-header](https://datatracker.ietf.org/doc/draft-ietf-httpapi-idempotency-key-header/).
//!
//! ```
//! # use std::sync::Arc;
//! # use redkit_core::{Client, ClientConfig};
//! # use redkit_embedded::Embedded;
//! use redkit_lock::IdempotentExecution;
//! use redkit_lock::tower::IdempotencyLayer;
//!
//! # #[derive(Clone)] struct Account(String);
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let client = Client::from_backend(Arc::new(Embedded::new()), &ClientConfig::default())?;
//! let payments = IdempotentExecution::builder(&client, "payments").build()?;
//!
//! // Keys belong to the caller who chose them: here, what the authentication before has found out.
//! let layer = IdempotencyLayer::new(&payments, |request| {
//!     Some(request.extensions.get::<Account>()?.0.clone())
//! })
//! .required(true);
//! # let _ = layer; Ok(()) }
//! ```
//!
//! `axum::Router::layer` takes it as it is. With the feature `axum` a request to a nested router is known by its
//! whole path, of which the router below sees a part.
//!
//! | a request with the key | is answered |
//! |---|---|
//! | the first | by the service; the answer is kept |
//! | again, the same method, path and body | with the kept answer and `Idempotent-Replayed: true` |
//! | again, while the first is under way | 409 with `Retry-After` |
//! | again, with another method, path or body | 422 |
//! | after an answer of 5xx, 408, 425 or 429 | by the service: such answers are not kept |
//! | after an answer that was too large to be kept, or broke while it was read (502) | 409 without `Retry-After`: it was carried out |
//! | without a scope, with one over 255 bytes, or with a key that is empty, over 255 bytes, or there twice | 400 |
//! | with a body over [`max_body_bytes`](IdempotencyLayer::max_body_bytes) | 413 |
//! | while Redis cannot be asked | 503, or by the service without protection ([`on_outage`](IdempotencyLayer::on_outage)) |
//!
//! An answer is kept only once outer layers have done what belongs to it ([`BeforeKept`]): where the layer of
//! `redkit-session` outside of this one cannot save what the service has changed in its session, the answer is not kept, and
//! neither is an answer that tells of a session that could not be changed (409), so that the next request with the key
//! is carried out.
//!
//! [`BeforeKept`]: redkit_core::http_layer::BeforeKept
//!
//! Refusals are `application/problem+json` (RFC 9457). The request's body is read whole before the service sees
//! it, and the answer's before the client does: this is not for uploads and streams.
//!
//! The service runs in a task of the layer, in the span of `tracing` that is the caller's then (values that a caller has
//! set for its own task, such as those of `tokio::task_local!`, are not seen there; extensions of the request are), so that a client that goes away does not keep the answer from
//! being kept: its next attempt finds it. The task ends when the layer and all its services are dropped, and
//! at the latest with [`run_at_most`](crate::IdempotentExecutionBuilder::run_at_most).

mod answer;
mod key;
mod layer;
mod service;
mod stored;

pub use layer::{IdempotencyLayer, OnOutage};
pub use redkit_core::http_layer::LayerBody;
pub use service::IdempotencyService;
