//! Responses made from what is stored.

use bytes::Bytes;
use http::header::{
    AGE, CACHE_CONTROL, CONTENT_ENCODING, CONTENT_LANGUAGE, CONTENT_LENGTH, CONTENT_RANGE,
    CONTENT_TYPE,
};
use http::{HeaderValue, Response, StatusCode, response};
use http_body::Body;
use redkit_core::http_layer::LayerBody;

use crate::conditional::is_unchanged;
use crate::context::Context;
use crate::status::CacheStatus;
use crate::stored::Page;
use crate::validators::refresh;

/// The stored response, or 304 when the client has it. `None` when what is stored is damaged.
pub(crate) fn from_page<B: Body<Data = Bytes>>(
    context: &Context,
    page: &Page,
    cache_status: CacheStatus,
) -> Option<Response<LayerBody<B>>> {
    let (request, now) = (&context.request, std::time::SystemTime::now());
    let mut headers = page.header_map()?;
    let status = StatusCode::from_u16(page.status).ok()?;
    // A page that this very request loaded has an age only if it came from another cache. It has grown older since.
    if !cache_status.is_own_answer() || headers.contains_key(AGE) {
        headers.insert(AGE, page.age(now).as_secs().into());
    }
    let unchanged = status == StatusCode::OK && is_unchanged(&request.headers, &headers);
    let (status, body) = if unchanged {
        for name in [
            CONTENT_TYPE,
            CONTENT_ENCODING,
            CONTENT_LANGUAGE,
            CONTENT_RANGE,
        ] {
            headers.remove(name);
        }
        context.rules.metrics.not_modified.increment(1);
        (StatusCode::NOT_MODIFIED, Bytes::new())
    } else {
        let body = page.body.bytes();
        if status != StatusCode::NO_CONTENT {
            headers.insert(CONTENT_LENGTH, body.len().into());
        }
        match context.is_head() {
            true => (status, Bytes::new()),
            false => (status, body.clone()),
        }
    };
    let mut response = Response::new(LayerBody::of_layer(body));
    *response.status_mut() = status;
    *response.headers_mut() = headers;
    context.add_cache_status(cache_status, response.headers_mut());
    Some(response)
}

/// A stale page after a 304 of its handler, with the newer headers (RFC 9111, section 4.3.4). A handler
/// that confirms a page which it was not asked about leaves none to give.
pub(crate) fn confirmed<B: Body<Data = Bytes>>(
    page: &Page,
    mut newer: response::Parts,
) -> Response<LayerBody<B>> {
    let is_about_it = page.validators().are_confirmed_by(&newer.headers);
    let body = match page.header_map().filter(|_| is_about_it) {
        Some(mut headers) => {
            refresh(&mut headers, &newer.headers);
            newer.status = StatusCode::from_u16(page.status).unwrap_or(StatusCode::OK);
            newer.headers = headers;
            page.body.bytes().clone()
        }
        None => {
            newer.status = StatusCode::BAD_GATEWAY;
            newer.headers.clear();
            Bytes::new()
        }
    };
    Response::from_parts(newer, LayerBody::of_layer(body))
}

/// It may only come from the cache, and is not there (RFC 9111, section 5.2.1.7).
pub(crate) fn not_cached<B: Body<Data = Bytes>>(context: &Context) -> Response<LayerBody<B>> {
    let mut response = Response::new(LayerBody::of_layer(Bytes::new()));
    *response.status_mut() = StatusCode::GATEWAY_TIMEOUT;
    let no_store = HeaderValue::from_static("no-store");
    response.headers_mut().insert(CACHE_CONTROL, no_store);
    context.add_cache_status(CacheStatus::NotCached, response.headers_mut());
    response
}

/// The handler's answer was lost with the task that it ran in: the runtime ends.
pub(crate) fn lost<B: Body<Data = Bytes>>() -> Response<LayerBody<B>> {
    let mut response = Response::new(LayerBody::of_layer(Bytes::new()));
    *response.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
    response
}
