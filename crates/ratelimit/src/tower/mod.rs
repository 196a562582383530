//! A [tower](https://docs.rs/tower) layer for HTTP services, such as those of axum and tonic.
//!
//! ```
//! # use std::sync::Arc;
//! # use redkit_core::{Client, ClientConfig};
//! # use redkit_embedded::Embedded;
//! use redkit_ratelimit::tower::{ClientAddress, RateLimitLayer};
//! use redkit_ratelimit::{OnOutage, Policy, Quota, RateLimiter};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let client = Client::from_backend(Arc::new(Embedded::new()), &ClientConfig::default())?;
//! let limiter = RateLimiter::builder(&client, "api")
//!     .policy(Policy::gcra(Quota::per_minute(100).burst(20)))
//!     .on_outage(OnOutage::Open)
//!     .build()?;
//! let logins = RateLimiter::builder(&client, "logins")
//!     .policy(Policy::sliding_log(Quota::per_hour(10)))
//!     .on_outage(OnOutage::Closed)
//!     .build()?;
//!
//! // Clients are told apart by address; behind a load balancer by what it says of them.
//! let addresses = ClientAddress::new().trusting(["10.0.0.0/8"])?;
//! let layer = RateLimitLayer::new(&limiter, addresses)
//!     .route("/login", &logins)
//!     .skip(|request| request.uri.path() == "/health");
//! # let _ = layer; Ok(()) }
//! ```
//!
//! With axum, `app.layer(layer)` is served with the addresses of its peers, which a plain
//! `axum::serve(listener, app)` does not hand on (each request is then answered with 500, and the log
//! says this):
//!
//! ```
//! # #[cfg(feature = "axum")]
//! # async fn serve(layer: redkit_ratelimit::tower::RateLimitLayer) -> std::io::Result<()> {
//! use std::net::SocketAddr;
//!
//! let app = axum::Router::new()
//!     .route("/", axum::routing::get(|| async { "hello" }))
//!     .layer(layer);
//! let listener = tokio::net::TcpListener::bind("127.0.0.1:3000").await?;
//! axum::serve(listener, app.into_make_service_with_connect_info::<SocketAddr>()).await
//! # }
//! ```
//!
//! Every answer carries what the limits say:
//!
//! | header | of | |
//! |---|---|---|
//! | `RateLimit-Policy: "api";q=100;w=60` | every limit | [draft-ietf-httpapi-ratelimit-headers-11](https://datatracker.ietf.org/doc/draft-ietf-httpapi-ratelimit-headers/11/) |
//! | `RateLimit: "api";r=19;t=1` | every limit | the same; `t` is when there are more units: of a rate the next one, of a denied call when it makes sense again (limits that allowed it have no `t`), otherwise when all are back |
//! | `X-RateLimit-Limit`, `-Remaining`, `-Reset` | the limit that binds | the reset in seconds from now |
//! | `Retry-After` | a denied call | whole seconds, rounded up, never 0 |
//!
//! A denied call is answered with 429 and `application/problem+json` (RFC 9457), of the draft's type
//! `quota-exceeded`; a gRPC call with the status `RESOURCE_EXHAUSTED` and
//! `grpc-retry-pushback-ms`. Where the server cannot be asked and the limiter says
//! [`OnOutage::Error`](crate::OnOutage::Error), it is 503, or `UNAVAILABLE`.
//!
//! A call that a [leaky bucket](crate::Algorithm::Leaky) lets through later waits in the layer until
//! then.

mod address;
mod answer;
mod forwarded;
mod headers;
mod key;
mod layer;
mod service;

#[cfg(feature = "axum")]
mod extract;

pub use address::ClientAddress;
#[cfg(feature = "axum")]
pub use extract::NotLimited;
pub use key::{ByExtension, ByHeader, ForAll, KeyExtractor};
pub use layer::{OnMissingKey, RateLimitLayer};
pub use redkit_core::http_layer::LayerBody;
pub use service::RateLimitService;
