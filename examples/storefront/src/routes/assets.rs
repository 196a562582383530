//! What pages refer to: the script, and the guides of the patterns.

use axum::extract::Path;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};

use crate::pages;
use crate::refusal::Refusal;

/// The guides by their names.
const GUIDES: [(&str, &str); 6] = [
    (
        "cache",
        include_str!("../../../../docs/guarantees/cache.md"),
    ),
    ("core", include_str!("../../../../docs/security.md")),
    ("lock", include_str!("../../../../docs/guarantees/lock.md")),
    (
        "pubsub",
        include_str!("../../../../docs/guarantees/pubsub.md"),
    ),
    (
        "ratelimit",
        include_str!("../../../../docs/guarantees/ratelimit.md"),
    ),
    (
        "session",
        include_str!("../../../../docs/guarantees/session.md"),
    ),
];

/// What a page does in a browser with scripts. Everything but the news that come by themselves works without.
pub(super) async fn script() -> Response {
    let script = include_str!("../../assets/shop.js");
    ([(CONTENT_TYPE, "text/javascript; charset=utf-8")], script).into_response()
}

pub(super) async fn guide(Path(name): Path<String>) -> Result<Response, Refusal> {
    let guide = GUIDES.iter().find(|(known, _)| *known == name);
    let (_, text) = guide.ok_or_else(|| Refusal::not_found("There is no guide of this name."))?;
    Ok(pages::guide(text).into_response())
}
