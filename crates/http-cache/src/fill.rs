//! Loading for the cache: asking the handler, and judging its answer.

use std::panic::AssertUnwindSafe;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use futures_util::FutureExt;
use http::header::CONTENT_LENGTH;
use http::{Response, StatusCode, response};
use http_body::Body;
use redkit_cache::Loaded;
use tokio::time::{Instant, timeout_at};

use crate::body::{self, CacheBody};
use crate::conditional::add_etag;
use crate::exchange::{Exchange, For, Slot};
use crate::freshness::Lifetime;
use crate::key::{random_id, variant_key};
use crate::look::Context;
use crate::octets::Octets;
use crate::storable::{Why, judge};
use crate::stored::{CachedResponse, Kind, MOST_LINES, Page};
use crate::tags;
use crate::vary::{self, Selected};

/// A response that can be kept, and how.
#[derive(Clone)]
pub(crate) struct Fill {
    pub(crate) page: Page,
    lifetime: Lifetime,
    tags: Vec<Box<str>>,
    names: Vec<String>,
}

/// What is looked up: a target, or one of its variants.
#[derive(Debug, Clone)]
pub(crate) enum Step {
    Primary,
    Variant(Vec<Selected>),
}

impl Step {
    pub(crate) fn selected(&self) -> &[Selected] {
        match self {
            Self::Primary => &[],
            Self::Variant(selected) => selected,
        }
    }
}

/// The handler gave nothing to be kept, and there is something stale.
#[derive(Debug, Clone, Copy, thiserror::Error)]
#[error("the handler gave nothing to be kept")]
pub(crate) struct NotFilled;

/// How long a list of fields is kept at least, for the variants to be found by.
const AN_HOUR: Duration = Duration::from_secs(3600);

/// Asks the handler for the cache. What is not kept goes back to the exchange.
pub(crate) async fn load<B, E>(
    context: Context,
    exchange: Exchange<B, E>,
    step: Step,
    has_stale: bool,
) -> Result<Loaded<CachedResponse>, NotFilled>
where
    B: Body<Data = Bytes>,
{
    let fill = match exchange.take() {
        Slot::Ready(fill) => *fill,
        Slot::Unasked(ask) => {
            let asked = Instant::now();
            let deadline = asked + context.rules.patience;
            let mut answering = ask(For::Cache);
            let (slot, why) = match timeout_at(deadline, &mut answering).await {
                Err(_) => (Slot::Pending(answering), Why::TooSlow),
                Ok(Err(panic)) => (Slot::Panicked(panic), Why::Failed),
                Ok(Ok(Err(error))) => (Slot::Failed(error), Why::Failed),
                Ok(Ok(Ok(response))) => match read(&context, response, asked, deadline).await {
                    Ok(fill) => (Slot::Ready(fill), Why::Failed),
                    Err((slot, why)) => (slot, why),
                },
            };
            match slot {
                Slot::Ready(fill) => *fill,
                slot => {
                    let is_error = is_error(&slot);
                    exchange.put(slot);
                    return match has_stale && is_error {
                        true => Err(NotFilled),
                        false => Ok(pass(&context, why)),
                    };
                }
            }
        }
        // The request went on without the cache.
        slot => {
            exchange.put(slot);
            return Err(NotFilled);
        }
    };
    Ok(place(&context, &exchange, step, fill).await)
}

/// Where what can be kept is kept.
async fn place<B, E>(
    context: &Context,
    exchange: &Exchange<B, E>,
    step: Step,
    mut fill: Fill,
) -> Loaded<CachedResponse>
where
    B: Body<Data = Bytes>,
{
    // Whatever becomes of it in the cache, it is an answer to this request.
    exchange.put(Slot::Ready(Box::new(fill.clone())));
    match step {
        Step::Primary if fill.names.is_empty() => fill.loaded(),
        Step::Primary => {
            let id = random_id();
            keep_variant(context, &id, &mut fill).await;
            // Tagged like the response, so that an invalidation during the load keeps the list from
            // being kept.
            let ttl = fill.lifetime.fresh.saturating_add(fill.lifetime.stale());
            let list = Kind::Varies {
                names: fill.names.clone(),
                id,
            };
            Loaded::new(CachedResponse(list))
                .ttl(ttl.max(AN_HOUR))
                .stale_for(Duration::ZERO)
                .tags(fill.tags)
        }
        Step::Variant(selected) => {
            let known = |name: &String| selected.iter().any(|(known, _)| known == name);
            if fill.names.iter().all(known) {
                fill.page.selected = selected;
                return fill.loaded();
            }
            let names: Vec<_> = selected.into_iter().map(|(name, _)| name).collect();
            let names = vary::union(&names, &fill.names);
            match names {
                Ok(names) => Loaded::new(CachedResponse(Kind::Widen { names })).do_not_cache(),
                Err(why) => pass(context, why),
            }
        }
    }
}

/// Keeps the first variant before the list by which others find it, so that nobody loads it again in
/// between. Until the list is kept nobody knows the id. It is kept only if nothing was invalidated
/// during the load; if something was, nobody ever finds this variant.
async fn keep_variant(context: &Context, id: &str, fill: &mut Fill) {
    let Ok(selected) = vary::select(&fill.names, &context.request.headers) else {
        return;
    };
    let slot = vary::slot(&selected, context.rules.max_variants);
    let key = variant_key(id, slot, &context.target);
    fill.page.selected = selected;
    if let Err(error) = context
        .rules
        .cache
        .set_with(&key[..], fill.clone().loaded())
        .await
    {
        context.failed("a variant cannot be kept", &error);
    }
}

impl Fill {
    fn loaded(self) -> Loaded<CachedResponse> {
        // The shortest time that the cache keeps anything: what is stale from the start.
        let ttl = self.lifetime.fresh.max(Duration::from_millis(1));
        let is_over = self.lifetime.fresh.is_zero() && self.lifetime.stale().is_zero();
        let loaded = Loaded::new(CachedResponse::page(self.page))
            .ttl(ttl)
            .stale_for(self.lifetime.stale())
            .tags(self.tags);
        match is_over {
            true => loaded.do_not_cache(),
            false => loaded,
        }
    }
}

/// Remembers for a while that there is nothing to wait for.
fn pass(context: &Context, why: Why) -> Loaded<CachedResponse> {
    // The head of the next response will not tell what only its body told.
    let heals = !matches!(
        why,
        Why::TooLong | Why::Trailers | Why::BodyFailed | Why::TooSlow
    );
    tracing::debug!(target: "redkit::http_cache", cache = %context.rules.cache.name(), %why, "a response is not kept");
    Loaded::new(CachedResponse(Kind::Pass { heals }))
        .ttl(context.rules.hit_for_miss)
        .stale_for(Duration::ZERO)
}

/// What RFC 5861 calls an error, and what gives no response at all.
fn is_error<B: Body, E>(slot: &Slot<B, E>) -> bool {
    match slot {
        Slot::Answered(response, _) => matches!(
            response.status(),
            StatusCode::INTERNAL_SERVER_ERROR
                | StatusCode::BAD_GATEWAY
                | StatusCode::SERVICE_UNAVAILABLE
                | StatusCode::GATEWAY_TIMEOUT
        ),
        Slot::Failed(_) | Slot::Panicked(_) | Slot::Pending(_) => true,
        Slot::Unasked(_) | Slot::Taken | Slot::Ready(_) => false,
    }
}

/// What can be said of a response before its body is read.
pub(crate) struct Judged {
    lifetime: Lifetime,
    tags: Vec<Box<str>>,
    names: Vec<String>,
}

pub(crate) fn judge_head(
    context: &Context,
    head: &response::Parts,
    now: SystemTime,
) -> Result<Judged, Why> {
    let rules = &context.rules;
    let headers = &head.headers;
    if headers.len() > MOST_LINES {
        return Err(Why::TooLong);
    }
    Ok(Judged {
        lifetime: judge(
            head.status,
            headers,
            context.audience,
            rules.default_ttl,
            now,
        )?,
        names: vary::names(headers)?,
        tags: tags::of(head, rules.tag_header.as_ref())?,
    })
}

async fn read<B, E>(
    context: &Context,
    response: Response<B>,
    asked: Instant,
    deadline: Instant,
) -> Result<Box<Fill>, (Slot<B, E>, Why)>
where
    B: Body<Data = Bytes>,
{
    let (mut head, body) = response.into_parts();
    let now = SystemTime::now();
    let mut judged = match judge_head(context, &head, now) {
        Ok(judged) => judged,
        Err(why) => return Err((answered(head, CacheBody::of_handler(body), why), why)),
    };
    let reading = body::read(body, context.rules.max_body, deadline);
    let body = match AssertUnwindSafe(reading).catch_unwind().await {
        Ok(Ok(body)) => body,
        Ok(Err((why, body))) => return Err((answered(head, body, why), why)),
        Err(panic) => return Err((Slot::Panicked(panic), Why::BodyFailed)),
    };
    if !fits(&head, body.len()) {
        let slot = answered(head, CacheBody::stored(body), Why::BodyFailed);
        return Err((slot, Why::BodyFailed));
    }
    if context.rules.makes_etags && head.status == StatusCode::OK {
        add_etag(&mut head.headers, &body);
    }
    let body = Octets::new(body);
    // What it says may be as old as the request for it.
    judged.lifetime.grow_older(asked.elapsed());
    let now = SystemTime::now();
    let page = Page::new(head.status, head.headers, body, &judged.lifetime, now);
    Ok(Box::new(Fill {
        page,
        lifetime: judged.lifetime,
        tags: judged.tags,
        names: judged.names,
    }))
}

/// Whether a body is as long as its head says: a shorter one is a part (RFC 9111, section 3.3).
fn fits(head: &response::Parts, length: usize) -> bool {
    let mut stated = head.headers.get_all(CONTENT_LENGTH).iter();
    stated.all(|stated| stated.as_bytes() == length.to_string().as_bytes())
}

fn answered<B: Body, E>(head: response::Parts, body: CacheBody<B>, why: Why) -> Slot<B, E> {
    Slot::Answered(Box::new(Response::from_parts(head, body)), why)
}
