//! A [tower](https://docs.rs/tower) layer that keeps the responses of an HTTP service, such as an
//! axum router: a shared cache in front of its handlers, on top of a [`Cache`](redkit_cache::Cache).
//!
//! ```
//! # use std::sync::Arc;
//! # use redkit_core::{Client, ClientConfig};
//! # use redkit_embedded::Embedded;
//! use std::time::Duration;
//!
//! use axum::Router;
//! use axum::routing::get;
//! use redkit_cache::Cache;
//! use redkit_http_cache::ResponseCacheLayer;
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let client = Client::from_backend(Arc::new(Embedded::new()), &ClientConfig::default())?;
//! let pages = Cache::builder(&client, "pages")
//!     .ttl(Duration::from_secs(60))
//!     .stale_for(Duration::from_secs(60))
//!     .build()?;
//! let layer = ResponseCacheLayer::builder(&pages).make_etags(true).build()?;
//!
//! let products = async || ([("cache-control", "public, s-maxage=60, stale-while-revalidate=30")], "…");
//! let routes: Router = Router::new().route("/products", get(products)).layer(layer);
//! # let _ = routes; Ok(()) }
//! ```
//!
//! Handlers say by their headers what may be kept; what says nothing is not kept. However many
//! clients ask for a page at once, in however many processes, one request reaches the handler. Its
//! response is what the cache's guarantees are about: nothing that was read before an invalidation is
//! kept after it. Whatever fails in the cache, the request goes to the handler.
//!
//! # What it honours
//!
//! It is a shared cache by a subset of [RFC 9111](https://www.rfc-editor.org/rfc/rfc9111).
//!
//! | | |
//! |---|---|
//! | methods | GET; HEAD is answered from a kept GET, and not kept. A request with a body, `Range`, `If-Match`, `If-Unmodified-Since`, `If-Range` or `Upgrade` passes |
//! | status | 200; 203, 204, 300, 301, 308, 404, 405, 410, 414 and 501 with explicit freshness; no other |
//! | freshness (4.2) | `s-maxage`, `max-age`, `Expires` − `Date`, in this order; without one, [`default_ttl`](ResponseCacheBuilder::default_ttl); less `Age` (of several the first; one that is no number is ignored, 5.1) and what has passed since `Date`, or since the handler answered where there is none; the time that a handler takes to answer counts for a response with `Age`, which has come through another cache, and for no other (4.2.3 has it count for all, as a cache that is not at the origin must). A time that cannot be read, or is given twice and differs, is 0 |
//! | `CDN-Cache-Control` ([RFC 9213](https://www.rfc-editor.org/rfc/rfc9213)) | takes the place of `Cache-Control` and `Expires` where it says anything; one that cannot be read forbids to keep the response |
//! | not kept | `no-store`, `private` and `no-cache`, also with fields named; a `Cache-Control` whose quotes do not match, or with something in it that is no directive (`private; max-age=0`); more than 1000 lines of headers; `Set-Cookie`; `Vary: *`; `text/event-stream`; 206; a body longer than [`max_body`](ResponseCacheBuilder::max_body), shorter than its `Content-Length`, with trailers, or that fails: all of these go through as they come |
//! | `Authorization` (3.5) | answers are kept with `public`, an `s-maxage` that can be read, or `must-revalidate` only, and apart from those to requests without. A request with it is never given what was kept for one without: that is more than the RFC asks |
//! | `Vary` (4.1) | variants by up to eight fields of 1 KiB together, [`max_variants`](ResponseCacheBuilder::max_variants) places for each target and kind of request. A variant has one place, by a hash of its fields: of two that share one, the later passes while the first is fresh, though others are free; clients can aim at a place. A request with more than one line of a field passes. White space next to `,`, `;` and `=`, and case, in `Accept-Encoding`, `Accept-Language` and `Accept-Charset` do not count, nor does such white space in `Accept`, nor the order in `Accept-Encoding`; other fields are compared byte by byte. Where `Vary` names `Cookie` or `Authorization`, requests that have one pass: it is not kept |
//! | stale (RFC 5861) | `stale-while-revalidate`: given at once, one request in the fleet loads it anew. `stale-if-error`: given when the handler answers 500, 502, 503 or 504, fails, panics or takes too long. Never with `must-revalidate` or `proxy-revalidate`. Both count with `s-maxage` as well, from which RFC 9111 (5.2.2.10) would infer that nothing stale may be given: to say it explicitly weighs more |
//! | validation (4.3) | a response with `ETag` or `Last-Modified` stays for the cache's [`stale_for`](redkit_cache::CacheBuilder::stale_for) after its time. When it may not be given any more, its handler is asked with `If-None-Match` and `If-Modified-Since`; after a 304 it is fresh again, with the newer headers. Without `stale_for` it is loaded anew |
//! | conditions | `If-None-Match`, compared weakly; without it `If-Modified-Since`: 304. A handler that is asked for the cache does not see them |
//! | request's `Cache-Control` (5.2.1) | `only-if-cached` (504), but not for requests that pass before the cache is looked at: by method, `Range`, a key or `skip`. `no-cache`, `no-store`, `max-age`, `min-fresh` and `Pragma` only with [`honour_requests`](ResponseCacheBuilder::honour_requests); `max-stale` never |
//! | changes (4.4) | a request with any method but GET, HEAD, OPTIONS and TRACE that is answered with 2xx or 3xx removes what is kept of its target, and of `Location` and `Content-Location` on the same origin |
//! | told | `Age`, but not to the client for whom the handler was asked, unless the response came from another cache; [`Cache-Status`](https://www.rfc-editor.org/rfc/rfc9211); `Date` where it is missing |
//! | not stored | what belongs to one connection (RFC 9110, 7.6.1): `Connection` and what it names, `Keep-Alive`, `Transfer-Encoding`, … |
//!
//! Not honoured: validation of `no-cache` responses before each use (they are not kept);
//! heuristic freshness; parts of responses; `must-understand`, `immutable`, `no-transform`, and
//! `Surrogate-Control`; `Pragma` in responses; `Location` that is relative to the path. Extensions of a response are not kept.
//!
//! # Keys
//!
//! A response is kept under the authority (of the URI, or `Host`), the path and the query, as they are:
//! `?a&b` is not `?b&a`. With the feature `axum`, nested routers see the whole path; without it, put
//! the layer outside of `nest`. A `Host` that is no authority, that is there twice, or that is not
//! the URI's authority, passes. **Whatever else a handler's answer depends on must be in `Vary` or in
//! a [`key`](ResponseCacheBuilder::key)**: `X-Forwarded-Host`, `X-Forwarded-Proto` (the scheme is not
//! in the key), `X-Api-Key`, a header that overrides the method, a client's address, a session that
//! another layer put into the extensions. A URI that is rewritten between the router and the layer is
//! not seen: use a key.
//!
//! **The likeliest leak are cookies**: requests with `Cookie` share what says `max-age` without
//! `private` or `Vary: Cookie`. A handler that answers by a session must say one of them.
//!
//! Put the layer inside of those that check who may have a
//! page, and outside of those that measure what a handler bears.
//!
//! # Waiting
//!
//! A response that may be kept is read whole, up to the bound, before its first byte is given.
//! A handler that takes longer than 0.9 of the cache's
//! [`load_timeout`](redkit_cache::CacheBuilder::load_timeout) is waited for by its own client alone, and
//! dropped with it; until then a handler that was asked for the cache is not stopped when the client
//! goes away. Those who came meanwhile wait until the load is given up, as they do for a body that
//! turns out too long, and ask the handler themselves. So do those who waited for a page whose time was over
//! when it came: its `Age` or `Date` says so, or its body took longer than the page may be kept. A handler that takes long
//! to answer makes its page no older: those who waited for it are given it.
//!
//! That a target's responses are not to be kept is remembered for
//! [`hit_for_miss`](ResponseCacheBuilder::hit_for_miss): until then nobody waits for another's. It is
//! forgotten as soon as a response comes that could be kept, so whoever has one refused does not
//! keep it from the others. Not so where the handler was too slow, the body too long, failed or had
//! trailers, or a variant's fields are too many together with those known: that stays until its time is up, and of a
//! page that was over when it came for 2 s at most. Nothing is remembered in place of a fresh page that a client
//! [did not want](ResponseCacheBuilder::honour_requests).
//!
//! A change is told to Redis though its client goes away once the handler has answered.
//!
//! # Cost
//!
//! A hit is one round trip, with `Vary` two, with tags one more for each; none with an
//! [`L1`](redkit_cache::L1) (weighed by [`CachedResponse::size`]). While Redis cannot be asked all requests go
//! to the handler, each by itself, and changes remove nothing: what was kept is there when Redis is
//! back, until its time is up. Where Redis answers reads but refuses scripts, requests go through the
//! cache's own bound, [`max_bypass_loads`](redkit_cache::CacheBuilder::max_bypass_loads).
//!
//! # Removing
//!
//! By [`CacheTags`] and [`invalidate_tag`](redkit_cache::Cache::invalidate_tag), by target with
//! [`ResponseCacheLayer::invalidate`], all by [`clear`](redkit_cache::Cache::clear).

// docs.rs says which feature an item needs.
#![cfg_attr(docsrs, feature(doc_cfg))]

mod answer;
mod builder;
mod conditional;
mod context;
mod directives;
mod error;
mod exchange;
mod fill;
mod freshness;
mod invalidate;
mod key;
mod layer;
mod list;
mod load;
mod lookup;
mod metrics;
mod prolong;
mod revalidations;
mod rules;
mod service;
mod status;
mod storable;
mod stored;
mod tags;
mod validators;
mod vary;

pub use builder::ResponseCacheBuilder;
pub use error::Error;
pub use layer::ResponseCacheLayer;
pub use redkit_core::http_layer::LayerBody;
pub use service::ResponseCacheService;
pub use stored::CachedResponse;
pub use tags::CacheTags;
