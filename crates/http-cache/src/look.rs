//! Looking a request up: the target first, and then, where it has variants, the right one.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http::request::Parts;
use http::{HeaderMap, Method, Response};
use http_body::Body;
use redkit_cache::{Error as CacheError, Loaded, Source};

use crate::answer;
use crate::body::CacheBody;
use crate::directives::Directives;
use crate::exchange::{Exchange, Finished};
use crate::fill::{self, Step, judge_head, load};
use crate::key::{Audience, random_id, variant_key};
use crate::layer::Rules;
use crate::status::{Forward, Told};
use crate::storable::Why;
use crate::stored::{CachedResponse, Kind, Page};
use crate::vary;

/// A request that may be answered from the cache.
#[derive(Clone)]
pub(crate) struct Context {
    pub(crate) rules: Arc<Rules>,
    /// Its head.
    pub(crate) request: Arc<Parts>,
    pub(crate) target: Arc<[u8]>,
    pub(crate) audience: Audience,
    pub(crate) directives: Directives,
}

/// What was found.
struct Found {
    cached: Arc<CachedResponse>,
    how: How,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum How {
    Hit,
    /// While it is loaded anew.
    Behind,
    /// Because loading anew failed.
    InNeed,
    /// This request asked the handler.
    Loaded,
    /// Another one did.
    Shared,
}

/// Why nothing was found.
enum Lost {
    Unreachable,
    /// It was not looked for any further: only what is stored was asked for.
    NotStored(Forward),
    Failed,
}

enum Peeked {
    Fresh(Arc<CachedResponse>),
    Stale(Arc<CachedResponse>),
    Missing,
}

/// Answers a request from the cache, or by its handler.
pub(crate) async fn respond<B, E>(
    context: Context,
    exchange: Exchange<B, E>,
) -> Result<Response<CacheBody<B>>, E>
where
    B: Body<Data = Bytes, Error: Send> + Send + 'static,
    E: Send + 'static,
{
    let primary = context.audience.primary_key(&context.target);
    let found = look(&context, &exchange, &primary, Step::Primary).await;
    let (key, found, selected) = match found {
        Ok(found) => match &found.cached.0 {
            Kind::Varies { names, id } => {
                let selected = match vary::select(names, &context.request.headers) {
                    Ok(selected) => selected,
                    Err(why) => return pass(&context, &exchange, Forward::VaryMiss, why).await,
                };
                if let Some(fill) = exchange.take_ready() {
                    // It was this request that found out.
                    let told = context.told(&fill.page, How::Loaded, Forward::Miss);
                    context.count(How::Loaded);
                    let response = answer::from_page(&context, &fill.page, told);
                    return Ok(response.unwrap_or_else(answer::lost));
                }
                let slot = vary::slot(&selected, context.rules.max_variants);
                let key = variant_key(id, slot, &context.target);
                let step = Step::Variant(selected.clone());
                let found = look(&context, &exchange, &key, step).await;
                (key, found, selected)
            }
            _ => (primary.clone(), Ok(found), Vec::new()),
        },
        lost => (primary.clone(), lost, Vec::new()),
    };
    let missed = match selected.is_empty() {
        true => Forward::Miss,
        false => Forward::VaryMiss,
    };
    let found = match found {
        Ok(found) => found,
        Err(Lost::Unreachable) => {
            return pass(&context, &exchange, Forward::Bypass, Why::Unreachable).await;
        }
        Err(Lost::Failed) => return pass(&context, &exchange, missed, Why::Failed).await,
        Err(Lost::NotStored(forward)) => {
            let why = match context.is_head() {
                true => Why::Method,
                false => Why::NoStore,
            };
            return pass(&context, &exchange, forward, why).await;
        }
    };
    match &found.cached.0 {
        Kind::Page(page) if page.selected == selected => {
            let told = context.told(page, found.how, missed);
            match answer::from_page(&context, page, told) {
                Some(response) => {
                    context.count(found.how);
                    Ok(response)
                }
                None => pass(&context, &exchange, missed, Why::Failed).await,
            }
        }
        // The place is taken by another variant.
        Kind::Page(_) => pass(&context, &exchange, missed, Why::VaryFull).await,
        Kind::Pass { heals } => {
            let remembered = found.how == How::Hit;
            let response = pass(&context, &exchange, missed, Why::HitForMiss).await?;
            if remembered && *heals {
                return Ok(heal(&context, &key, response).await);
            }
            Ok(response)
        }
        Kind::Widen { names } => {
            if found.how == How::Loaded {
                widen(&context, &primary, names).await;
            }
            pass(&context, &exchange, missed, Why::Vary).await
        }
        // Not where variants are.
        Kind::Varies { .. } => pass(&context, &exchange, missed, Why::Vary).await,
    }
}

async fn look<B, E>(
    context: &Context,
    exchange: &Exchange<B, E>,
    key: &[u8],
    step: Step,
) -> Result<Found, Lost>
where
    B: Body<Data = Bytes, Error: Send> + Send + 'static,
    E: Send + 'static,
{
    let (has_stale, forward) = match peek(context, key).await? {
        Peeked::Fresh(cached) if !context.wants_anew(&cached) => {
            return Ok(Found {
                cached,
                how: How::Hit,
            });
        }
        Peeked::Fresh(_) => {
            // What this client does not want is replaced for all.
            if context.may_load() && context.rules.cache.invalidate(key).await.is_err() {
                return Err(Lost::Unreachable);
            }
            (false, Forward::Request)
        }
        Peeked::Stale(cached) if context.may_use_behind(&cached, &step) => {
            if context.may_load() {
                revalidate(context, exchange, key, step);
            }
            let how = How::Behind;
            return Ok(Found { cached, how });
        }
        Peeked::Stale(_) => (true, Forward::Stale),
        Peeked::Missing => (false, Forward::Miss),
    };
    if !context.may_load() {
        return Err(Lost::NotStored(forward));
    }
    let loader = || load(context.clone(), exchange.clone(), step, has_stale);
    match context.rules.cache.get_or_load(key, loader).await {
        Ok(fetched) => {
            let how = match fetched.source() {
                Source::Local | Source::Redis => How::Hit,
                Source::Stale => How::InNeed,
                Source::Shared => How::Shared,
                _ => How::Loaded,
            };
            let cached = fetched.into_arc();
            Ok(Found { cached, how })
        }
        Err(error) => {
            if error.load_error::<fill::NotFilled>().is_none() {
                context.failed("a response cannot be loaded", &error);
            }
            Err(Lost::Failed)
        }
    }
}

/// What is stored, without loading. One round trip; two when it has tags.
async fn peek(context: &Context, key: &[u8]) -> Result<Peeked, Lost> {
    match context.rules.cache.peek(key).await {
        Ok(Some(found)) => Ok(match found.source() {
            Source::Stale => Peeked::Stale(found.into_arc()),
            _ => Peeked::Fresh(found.into_arc()),
        }),
        Ok(None) => Ok(Peeked::Missing),
        Err(error) => {
            context.failed("the cache cannot be asked", &error);
            Err(Lost::Unreachable)
        }
    }
}

/// Loads anew in the background what was given away stale; one request per key of this process does.
fn revalidate<B, E>(context: &Context, exchange: &Exchange<B, E>, key: &[u8], step: Step)
where
    B: Body<Data = Bytes, Error: Send> + Send + 'static,
    E: Send + 'static,
{
    let Some(revalidation) = context.rules.revalidations.begin(key) else {
        return;
    };
    let (context, exchange, key) = (context.clone(), exchange.clone(), key.to_vec());
    let cache = context.rules.cache.clone();
    let tasks = cache.clone();
    tasks.spawn(async move {
        let loader = || load(context.clone(), exchange, step, true);
        if let Err(error) = cache.get_or_load(&key[..], loader).await
            && error.load_error::<fill::NotFilled>().is_none()
        {
            context.failed("a response cannot be loaded anew", &error);
        }
        drop(revalidation);
    });
}

/// The handler's answer to this request, which is not kept.
pub(crate) async fn pass<B, E>(
    context: &Context,
    exchange: &Exchange<B, E>,
    forward: Forward,
    why: Why,
) -> Result<Response<CacheBody<B>>, E>
where
    B: Body<Data = Bytes>,
{
    if context.directives.only_if_cached {
        context.rules.numbers.refused.increment(1);
        return Ok(answer::not_cached(context));
    }
    context.rules.numbers.passed.increment(1);
    match exchange.finish().await? {
        Finished::Response(mut response, known) => {
            let told = Told::passed(forward, known.unwrap_or(why));
            context.tell(told, response.headers_mut());
            Ok(response)
        }
        Finished::Ready(fill) => {
            let told = Told::passed(forward, why);
            Ok(answer::from_page(context, &fill.page, told).unwrap_or_else(answer::lost))
        }
    }
}

/// Forgets that a target's responses are not kept when one comes that could be. The next request
/// loads it.
async fn heal<B: Body>(
    context: &Context,
    key: &[u8],
    response: Response<CacheBody<B>>,
) -> Response<CacheBody<B>> {
    let (head, body) = response.into_parts();
    if judge_head(context, &head, SystemTime::now()).is_ok()
        && let Ok(Peeked::Fresh(cached)) = peek(context, key).await
        && matches!(cached.0, Kind::Pass { heals: true })
        && let Err(error) = context.rules.cache.invalidate(key).await
    {
        context.failed("cannot forget that a response is not kept", &error);
    }
    Response::from_parts(head, body)
}

/// Keeps a longer list of fields for a target. Its variants are loaded anew.
async fn widen(context: &Context, primary: &[u8], names: &[String]) {
    let list = Kind::Varies {
        names: names.to_vec(),
        id: random_id(),
    };
    let list = Loaded::new(CachedResponse(list))
        .ttl(Duration::from_secs(3600))
        .stale_for(Duration::ZERO);
    if let Err(error) = context.rules.cache.set_with(primary, list).await {
        context.failed("cannot keep what a response varies by", &error);
    }
}

impl Context {
    pub(crate) fn is_head(&self) -> bool {
        self.request.method == Method::HEAD
    }

    pub(crate) fn tell(&self, told: Told, headers: &mut HeaderMap) {
        if self.rules.tells {
            told.add(self.rules.cache.name(), headers);
        }
    }

    /// The cache is an optimisation: what fails in it is counted, and the request goes on.
    pub(crate) fn failed(&self, what: &'static str, error: &CacheError) {
        self.rules.numbers.errors.increment(1);
        tracing::debug!(target: "redkit::http_cache", cache = %self.rules.cache.name(), %error, "{what}");
    }

    /// Whether the handler may be asked for the cache.
    fn may_load(&self) -> bool {
        !(self.is_head() || self.directives.only_if_cached || self.directives.no_store)
    }

    /// Whether the client wants something newer (RFC 9111, section 5.2.1).
    fn wants_anew(&self, cached: &CachedResponse) -> bool {
        let Kind::Page(page) = &cached.0 else {
            return false;
        };
        let (asked, now) = (&self.directives, SystemTime::now());
        let too_old = |limit: u64| page.age(now) > Duration::from_secs(limit);
        let too_short =
            |least: u64| page.seconds_left(now) < i64::try_from(least).unwrap_or(i64::MAX);
        asked.no_cache
            || asked.max_age == Some(0)
            || asked.max_age.is_some_and(too_old)
            || asked.min_fresh.is_some_and(too_short)
    }

    /// Whether something stale may be given away while it is loaded anew. The request goes with the
    /// load then, so it must be sure that it will not be needed.
    fn may_use_behind(&self, cached: &CachedResponse, step: &Step) -> bool {
        let Kind::Page(page) = &cached.0 else {
            return false;
        };
        page.selected == step.selected()
            && page.may_revalidate_behind(SystemTime::now())
            && page.header_map().is_some()
            && !self.wants_anew(cached)
    }

    fn told(&self, page: &Page, how: How, missed: Forward) -> Told {
        let left = page.seconds_left(SystemTime::now());
        match how {
            How::Hit | How::Behind => Told::Hit(left),
            How::InNeed => Told::HitInNeed(left),
            How::Loaded | How::Shared => Told::Forwarded {
                why: missed,
                collapsed: how == How::Shared,
                detail: None,
            },
        }
    }

    fn count(&self, how: How) {
        let numbers = &self.rules.numbers;
        let counter = match how {
            How::Hit => &numbers.hits,
            How::Behind | How::InNeed => &numbers.stale,
            How::Loaded => &numbers.filled,
            How::Shared => &numbers.collapsed,
        };
        counter.increment(1);
    }
}
