//! Loading for the cache: asking the handler, judging its answer, and choosing the entry for it.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use futures_util::FutureExt;
use http::header::{AGE, CONTENT_LENGTH, ETAG};
use http::{HeaderMap, Response, StatusCode, response};
use http_body::Body;
use redkit_cache::{Fetched, Loaded};
use redkit_core::http_layer::{LayerBody, Octets, read_whole};
use tokio::time::{Instant, timeout_at};

use crate::answer;
use crate::conditional::add_etag;
use crate::context::Context;
use crate::exchange::{AskedFor, Exchange, State};
use crate::fill::{Fill, Terms};
use crate::freshness::add_date;
use crate::key::variant_key;
use crate::storable::Reason;
use crate::stored::{CachedResponse, Kind, List, Page};
use crate::tags;
use crate::vary::{self, Selected};

/// Which of the two keys of a response is looked up.
#[derive(Debug, Clone)]
pub(crate) enum KeyLevel {
    /// The target's.
    Primary,
    /// That of one of its variants, by the id of the list that names the fields.
    Variant {
        selected: Vec<Selected>,
        list: FoundList,
    },
}

/// The list of fields by which a variant is looked up, as it was found.
#[derive(Debug, Clone)]
pub(crate) struct FoundList {
    /// The target's key.
    pub(crate) key: Arc<[u8]>,
    pub(crate) cached: Fetched<CachedResponse>,
}

impl FoundList {
    pub(crate) fn list(&self) -> Option<&List> {
        match &self.cached.0 {
            Kind::Varies(list) => Some(list),
            _ => None,
        }
    }

    pub(crate) fn names(&self) -> &[String] {
        self.list().map_or(&[], |list| &list.names)
    }

    pub(crate) fn id(&self) -> &str {
        self.list().map_or("", |list| &list.id)
    }
}

impl KeyLevel {
    pub(crate) fn selected(&self) -> &[Selected] {
        match self {
            Self::Primary => &[],
            Self::Variant { selected, .. } => selected,
        }
    }

    /// The id of a variant's list.
    pub(crate) fn list(&self) -> &str {
        match self {
            Self::Primary => "",
            Self::Variant { list, .. } => list.id(),
        }
    }

    /// Whether this was kept since the list was made: what was kept with another list counts for nobody.
    pub(crate) fn is_current(&self, cached: &CachedResponse) -> bool {
        match (self, &cached.0) {
            (
                Self::Variant { list, .. },
                Kind::Page(Page { list: its, .. }) | Kind::Pass { list: its, .. },
            ) => **its == *list.id(),
            _ => true,
        }
    }
}

/// The handler gave nothing to be kept, and there is a stale response that may be given.
#[derive(Debug, Clone, Copy, thiserror::Error)]
#[error("the handler gave nothing to be kept")]
pub(crate) struct NotFilled;

/// An entry that is stale or that the request does not want, and whether it may be given when the handler fails.
#[derive(Clone, Default)]
pub(crate) struct Stale {
    cached: Option<Fetched<CachedResponse>>,
    may_be_given: bool,
    /// Other clients are given it all the while.
    is_fresh: bool,
}

impl Stale {
    pub(crate) fn new(cached: Fetched<CachedResponse>) -> Self {
        Self {
            may_be_given: cached.may_be_given_stale(SystemTime::now()),
            cached: Some(cached),
            is_fresh: false,
        }
    }

    /// A fresh entry that this request does not want.
    pub(crate) fn unwanted(cached: Fetched<CachedResponse>) -> Self {
        Self {
            is_fresh: true,
            ..Self::new(cached)
        }
    }

    /// The page that the handler can be asked about: the one that this request would be given.
    fn page(&self, level: &KeyLevel) -> Option<&Page> {
        match &self.cached.as_ref()?.0 {
            Kind::Page(page) if page.selected == level.selected() => Some(page),
            _ => None,
        }
    }
}

/// Asks the handler for the cache, about the stale page where there is one. A response that is not
/// kept goes back to the exchange.
pub(crate) async fn load<B, E>(
    context: Context,
    exchange: Exchange<B, E>,
    level: KeyLevel,
    stale: Stale,
) -> Result<Loaded<CachedResponse>, NotFilled>
where
    B: Body<Data = Bytes>,
{
    let fill = match exchange.take() {
        State::Ready(fill) => *fill,
        State::Unasked(ask) => {
            let asked = Instant::now();
            let deadline = asked + context.rules.handler_timeout;
            let page = stale.page(&level);
            let validators = page.map(Page::validators).unwrap_or_default();
            // Only then a 304 is about the page.
            let page = page.filter(|_| !validators.is_empty());
            let mut answering = ask(AskedFor::Cache(validators));
            let (state, reason) = match timeout_at(deadline, &mut answering).await {
                Err(_) => (State::Pending(answering, page.cloned()), Reason::TooSlow),
                Ok(Err(panic)) => (State::Panicked(panic), Reason::Failed),
                Ok(Ok(Err(error))) => (State::Failed(error), Reason::Failed),
                Ok(Ok(Ok(response))) => {
                    let filled = match page {
                        Some(page) if response.status() == StatusCode::NOT_MODIFIED => {
                            validate(&context, page, response, asked)
                        }
                        _ => read(&context, response, asked, deadline).await,
                    };
                    match filled {
                        Ok(fill) => (State::Ready(fill), Reason::Failed),
                        Err(not_kept) => not_kept,
                    }
                }
            };
            match state {
                State::Ready(fill) => *fill,
                state => {
                    let is_error = is_error(&state);
                    exchange.put(state);
                    return match stale.may_be_given && is_error {
                        true => Err(NotFilled),
                        false => Ok(hit_for_miss(&context, &level, reason, stale.is_fresh)),
                    };
                }
            }
        }
        // The request went on without the cache.
        state => {
            exchange.put(state);
            return Err(NotFilled);
        }
    };
    Ok(choose_entry(&context, &exchange, level, fill, stale.is_fresh).await)
}

/// The record at the key that was looked up: the page, or the fields by which it is found.
async fn choose_entry<B, E>(
    context: &Context,
    exchange: &Exchange<B, E>,
    level: KeyLevel,
    mut fill: Fill,
    is_in_place: bool,
) -> Loaded<CachedResponse>
where
    B: Body<Data = Bytes>,
{
    // Whatever becomes of it in the cache, it is an answer to this request.
    exchange.put(State::Ready(Box::new(fill.clone())));
    if fill.terms.lifetime.is_over() {
        // The next head alone would look as if its response could be kept. It may come in time, too.
        let ttl = context.rules.hit_for_miss.min(SLOW_FOR);
        return hit_for_miss(context, &level, Reason::TooSlow, is_in_place).ttl(ttl);
    }
    match level {
        KeyLevel::Primary if fill.terms.names.is_empty() => fill.loaded(context),
        KeyLevel::Primary => {
            // Tagged like the response, so that an invalidation during the load keeps the list from
            // being kept.
            let list = List::new(fill.terms.names.clone()).with_tags(fill.terms.tags.clone());
            keep_variant(context, &list.id, &mut fill).await;
            let (fresh, stale) = fill.kept_for(context);
            list.loaded(fresh.saturating_add(stale), &context.rules.cache)
        }
        KeyLevel::Variant { selected, list } => {
            let known = |name: &String| selected.iter().any(|(known, _)| known == name);
            if fill.terms.names.iter().all(known) {
                fill.page.selected = selected;
                fill.page.list = list.id().into();
                return fill.loaded(context);
            }
            let names: Vec<_> = selected.iter().map(|(name, _)| name.clone()).collect();
            match vary::union(&names, &fill.terms.names) {
                Ok(names) => Loaded::new(CachedResponse(Kind::Widen { names })).do_not_cache(),
                Err(reason) => {
                    let level = KeyLevel::Variant { selected, list };
                    hit_for_miss(context, &level, reason, is_in_place)
                }
            }
        }
    }
}

/// Keeps the first variant before the list by which others find it, so that nobody loads it again in
/// between. Until the list is kept nobody knows the id. The list is kept only if nothing was
/// invalidated during the load; otherwise nobody ever finds this variant.
async fn keep_variant(context: &Context, id: &str, fill: &mut Fill) {
    let Ok(selected) = vary::select(&fill.terms.names, &context.request.headers) else {
        return;
    };
    let slot = vary::slot(&selected, context.rules.max_variants);
    let key = variant_key(context.audience, slot, &context.target);
    fill.page.selected = selected;
    fill.page.list = id.into();
    let kept = context
        .rules
        .cache
        .set_with(&key[..], fill.clone().loaded(context));
    if let Err(error) = kept.await {
        context.count_failure("a variant cannot be kept", &error);
    }
}

/// For how long nobody waits for a page that was over when it arrived.
const SLOW_FOR: Duration = Duration::from_secs(2);

/// Remembers for a while that there is nothing to wait for; not where a page is in place that other clients are given.
fn hit_for_miss(
    context: &Context,
    level: &KeyLevel,
    reason: Reason,
    is_in_place: bool,
) -> Loaded<CachedResponse> {
    // The head of the next response will not tell what only its body told, or what it takes together with the fields of
    // other variants.
    let heals = match reason {
        Reason::TooLong | Reason::Trailers | Reason::BodyFailed | Reason::TooSlow => false,
        Reason::VaryTooLong => matches!(level, KeyLevel::Primary),
        _ => true,
    };
    let list = level.list().into();
    tracing::debug!(target: "redkit::http_cache", cache = %context.rules.cache.name(), %reason, "a response is not kept");
    let mark = Loaded::new(CachedResponse(Kind::Pass { heals, list }))
        .ttl(context.rules.hit_for_miss)
        .stale_for(Duration::ZERO);
    match is_in_place {
        true => mark.do_not_cache(),
        false => mark,
    }
}

/// A failure by RFC 5861, or no response at all.
fn is_error<B: Body, E>(state: &State<B, E>) -> bool {
    match state {
        State::Answered(response, _) => matches!(
            response.status(),
            StatusCode::INTERNAL_SERVER_ERROR
                | StatusCode::BAD_GATEWAY
                | StatusCode::SERVICE_UNAVAILABLE
                | StatusCode::GATEWAY_TIMEOUT
        ),
        State::Failed(_) | State::Panicked(_) | State::Pending(..) => true,
        State::Unasked(_) | State::Taken | State::Ready(_) => false,
    }
}

type Filled<B, E> = Result<Box<Fill>, (State<B, E>, Reason)>;

/// Keeps a stale page anew that its handler confirms.
#[expect(
    clippy::result_large_err,
    reason = "what is not kept goes on to its client by value"
)]
fn validate<B, E>(
    context: &Context,
    page: &Page,
    response: Response<B>,
    asked: Instant,
) -> Filled<B, E>
where
    B: Body<Data = Bytes>,
{
    let (newer, _) = response.into_parts();
    let made = made_at(&newer.headers, asked);
    // A 304 need not name the tags again.
    let tags = tags::of(&newer, context.rules.tag_header.as_ref());
    let tags = tags.and_then(|tags| tags::union(&page.tags, tags));
    let has_made_etag = page.has_made_etag && !newer.headers.contains_key(ETAG);
    let (mut head, body) = answer::confirmed(page, newer).into_parts();
    let now = SystemTime::now();
    let terms =
        tags.and_then(|tags| Terms::of_headers(context, head.status, &head.headers, tags, now));
    let mut terms = match terms {
        Ok(terms) => terms,
        Err(reason) => return Err((answered(head, body, reason), reason)),
    };
    terms.lifetime.grow_older(made.elapsed());
    add_date(&mut head.headers, now);
    let body = page.body.clone();
    let mut page = Page::new(head.status, head.headers, body, &terms.lifetime, now);
    page.has_made_etag = has_made_etag;
    let page = page.with_tags(&terms.tags);
    Ok(Box::new(Fill { page, terms }))
}

async fn read<B, E>(
    context: &Context,
    response: Response<B>,
    asked: Instant,
    deadline: Instant,
) -> Filled<B, E>
where
    B: Body<Data = Bytes>,
{
    let (mut head, body) = response.into_parts();
    let made = made_at(&head.headers, asked);
    let received = SystemTime::now();
    let mut terms = match Terms::of(context, &head, received) {
        Ok(terms) => terms,
        Err(reason) => return Err((answered(head, LayerBody::of_service(body), reason), reason)),
    };
    let reading = read_whole(body, context.rules.max_body, Some(deadline));
    let body = match AssertUnwindSafe(reading).catch_unwind().await {
        Ok(Ok(body)) => body,
        Ok(Err((why, body))) => {
            let reason = Reason::from(why);
            return Err((answered(head, body, reason), reason));
        }
        Err(panic) => return Err((State::Panicked(panic), Reason::BodyFailed)),
    };
    if !fits(&head, body.len()) {
        let state = answered(head, LayerBody::of_layer(body), Reason::BodyFailed);
        return Err((state, Reason::BodyFailed));
    }
    let makes_etag = context.rules.makes_etags && head.status == StatusCode::OK;
    let has_made_etag = makes_etag && add_etag(&mut head.headers, &body);
    add_date(&mut head.headers, received);
    let body = Octets::new(body);
    terms.lifetime.grow_older(made.elapsed());
    let now = SystemTime::now();
    let mut page = Page::new(head.status, head.headers, body, &terms.lifetime, now);
    page.has_made_etag = has_made_etag;
    let page = page.with_tags(&terms.tags);
    Ok(Box::new(Fill { page, terms }))
}

/// When a response, whose head has just come, was made at the earliest. RFC 9111 (4.2.3) adds the time that a request takes to
/// its response's age because a cache cannot know when the origin made it; this layer is at the origin, and does: a handler
/// makes its response when it answers, so a slow one's is no older, and those who waited for it can be given it. One
/// with an `Age` has come through another cache, and may be older by as long as that was asked.
fn made_at(headers: &HeaderMap, asked: Instant) -> Instant {
    match headers.contains_key(AGE) {
        true => asked,
        false => Instant::now(),
    }
}

/// Whether a body is as long as its head says: a shorter one is a part (RFC 9111, section 3.3).
fn fits(head: &response::Parts, length: usize) -> bool {
    let mut stated = head.headers.get_all(CONTENT_LENGTH).iter();
    stated.all(|stated| stated.as_bytes() == length.to_string().as_bytes())
}

fn answered<B: Body, E>(head: response::Parts, body: LayerBody<B>, reason: Reason) -> State<B, E> {
    State::Answered(Box::new(Response::from_parts(head, body)), reason)
}
