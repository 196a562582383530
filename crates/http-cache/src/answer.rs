//! Responses made from what is stored.

use bytes::Bytes;
use http::header::{
    AGE, CACHE_CONTROL, CONTENT_ENCODING, CONTENT_LANGUAGE, CONTENT_LENGTH, CONTENT_RANGE,
    CONTENT_TYPE,
};
use http::{HeaderValue, Response, StatusCode};
use http_body::Body;

use crate::body::CacheBody;
use crate::conditional::is_unchanged;
use crate::look::Context;
use crate::status::Told;
use crate::stored::Page;

/// The stored response, or 304 when the client has it. `None` when what is stored is damaged.
pub(crate) fn from_page<B: Body<Data = Bytes>>(
    context: &Context,
    page: &Page,
    told: Told,
) -> Option<Response<CacheBody<B>>> {
    let (request, now) = (&context.request, std::time::SystemTime::now());
    let mut headers = page.header_map()?;
    let status = StatusCode::from_u16(page.status).ok()?;
    if matches!(told, Told::Hit(_) | Told::HitInNeed(_)) {
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
        context.rules.numbers.not_modified.increment(1);
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
    let mut response = Response::new(CacheBody::stored(body));
    *response.status_mut() = status;
    *response.headers_mut() = headers;
    context.tell(told, response.headers_mut());
    Some(response)
}

/// It may only come from the cache, and is not there (RFC 9111, section 5.2.1.7).
pub(crate) fn not_cached<B: Body<Data = Bytes>>(context: &Context) -> Response<CacheBody<B>> {
    let mut response = Response::new(CacheBody::stored(Bytes::new()));
    *response.status_mut() = StatusCode::GATEWAY_TIMEOUT;
    let no_store = HeaderValue::from_static("no-store");
    response.headers_mut().insert(CACHE_CONTROL, no_store);
    context.tell(Told::NotCached, response.headers_mut());
    response
}

/// The handler's answer was lost with the task that it ran in: the runtime ends.
pub(crate) fn lost<B: Body<Data = Bytes>>() -> Response<CacheBody<B>> {
    let mut response = Response::new(CacheBody::stored(Bytes::new()));
    *response.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
    response
}
