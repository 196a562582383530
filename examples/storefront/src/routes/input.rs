//! What a request says, checked. Each refusal says what was expected, and what came instead.

use axum::Form;
use axum::Json;
use axum::extract::rejection::{PathRejection, QueryRejection};
use axum::extract::{FromRequest, Path, Query, Request};
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::format::Format;
use crate::model::{Cents, Id, PageNumber};
use crate::refusal::Refusal;

/// The query of a list. Any other parameter is no concern of ours.
#[derive(Debug, Deserialize)]
pub(super) struct Paging {
    page: Option<String>,
}

/// The id of a `what` in the path.
pub(super) fn id(what: &str, path: Result<Path<String>, PathRejection>) -> Result<Id, Refusal> {
    let Path(text) = path.map_err(|rejection| Refusal::bad_request(rejection.body_text()))?;
    text.parse().map_err(|_| {
        Refusal::bad_request(format!(
            "The id of a {what} is a whole number from 1 to {}, such as 17; this is none: {}",
            u32::MAX,
            excerpt(&text)
        ))
    })
}

/// The page of a list; the first one when the query does not say.
pub(super) fn page(query: Result<Query<Paging>, QueryRejection>) -> Result<PageNumber, Refusal> {
    let Query(paging) = query.map_err(|rejection| Refusal::bad_request(rejection.body_text()))?;
    let Some(text) = paging.page else {
        return Ok(PageNumber::FIRST);
    };
    text.parse().map_err(|_| {
        let text = excerpt(&text);
        Refusal::bad_request(format!(
            "A page is a whole number from 1; this is none: {text}"
        ))
    })
}

/// The request with all of its body read, which must not be longer than `limit`. A longer one is
/// read too, within reason: a server that answers and closes while the other side still writes may take its
/// own answer off the wire.
pub(super) async fn whole(request: Request, limit: usize) -> Result<Request, Refusal> {
    const PATIENCE: usize = 1 << 20;
    let (parts, body) = request.into_parts();
    match axum::body::to_bytes(body, PATIENCE).await {
        Ok(body) if body.len() <= limit => Ok(Request::from_parts(parts, body.into())),
        _ => Err(Refusal::new(
            StatusCode::PAYLOAD_TOO_LARGE,
            format!("The body is longer than {limit} bytes, or broke off."),
        )),
    }
}

/// The price in a request's body, and the format that the body had.
pub(super) async fn price(request: Request) -> Result<(Cents, Format), Refusal> {
    #[derive(Deserialize)]
    struct FormBody {
        price: String,
    }
    #[derive(Deserialize)]
    struct JsonBody {
        price_cents: Cents,
    }
    let kind = request.headers().get(CONTENT_TYPE);
    let kind = kind.and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    match kind.split(';').next().unwrap_or_default().trim() {
        "application/x-www-form-urlencoded" => {
            let Form(FormBody { price }) = Form::from_request(request, &())
                .await
                .map_err(|rejection| Refusal::new(rejection.status(), rejection.body_text()))?;
            let cents = price.parse().map_err(|_| {
                let highest = Cents::MAX / 100;
                let price = excerpt(&price);
                Refusal::bad_request(format!(
                    "A price is an amount in euros from 0.01 to {highest}.00, such as 12.50; \
                     this is none: {price}"
                ))
            })?;
            Ok((cents, Format::Html))
        }
        "application/json" => {
            let Json(JsonBody { price_cents }) = Json::from_request(request, &())
                .await
                .map_err(|rejection| Refusal::new(rejection.status(), rejection.body_text()))?;
            Ok((price_cents, Format::Json))
        }
        _ => Err(Refusal::new(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "Send the price as a form (price=12.50) or as JSON ({\"price_cents\":1250}).",
        )),
    }
}

/// The fields of a form.
pub(super) struct Fields<T>(pub(super) T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for Fields<T> {
    type Rejection = Refusal;

    async fn from_request(request: Request, state: &S) -> Result<Self, Refusal> {
        let Form(fields) = Form::from_request(request, state)
            .await
            .map_err(|rejection| Refusal::new(rejection.status(), rejection.body_text()))?;
        Ok(Self(fields))
    }
}

/// The start of a text from outside, for a message: an address may be 64 KiB long.
fn excerpt(text: &str) -> String {
    let mut start: String = text.chars().take(40).collect();
    if start.len() < text.len() {
        start.push('…');
    }
    format!("“{start}”")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_input_is_shown_in_part() {
        assert_eq!(excerpt("abc"), "“abc”");
        assert_eq!(excerpt(&"ü".repeat(1000)), format!("“{}…”", "ü".repeat(40)));
    }
}
