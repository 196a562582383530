//! Looking a request up: the target first, and then, where it has variants, the right one.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http::Response;
use http_body::Body;
use redkit_cache::{Error as CacheError, Fetched, Loaded, Source};
use redkit_core::http_layer::LayerBody;

use crate::answer;
use crate::context::Context;
use crate::exchange::{Exchange, Finished};
use crate::fill::Terms;
use crate::key::{random_id, variant_key};
use crate::load::{KeyLevel, NotFilled, SHORTEST_LIST_TTL, Stale, load};
use crate::status::{CacheStatus, Forward};
use crate::storable::Reason;
use crate::stored::{CachedResponse, Kind, Page};
use crate::vary;

/// The result of a look-up.
struct Found {
    cached: Arc<CachedResponse>,
    origin: Origin,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Origin {
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
enum NotFound {
    Unreachable,
    /// It was not looked for any further: only what is stored was asked for.
    NotStored(Forward),
    Failed,
}

enum Lookup {
    Fresh(Arc<CachedResponse>),
    Stale(Arc<CachedResponse>),
    Missing,
}

/// Answers a request from the cache, or by its handler.
pub(crate) async fn respond<B, E>(
    context: Context,
    exchange: Exchange<B, E>,
) -> Result<Response<LayerBody<B>>, E>
where
    B: Body<Data = Bytes, Error: Send> + Send + 'static,
    E: Send + 'static,
{
    let primary = context.audience.primary_key(&context.target);
    let found = find(&context, &exchange, &primary, KeyLevel::Primary).await;
    let (key, found, selected) = match found {
        Ok(found) => match &found.cached.0 {
            Kind::Varies { names, id } => {
                let selected = match vary::select(names, &context.request.headers) {
                    Ok(selected) => selected,
                    Err(why) => return pass(&context, &exchange, Forward::VaryMiss, why).await,
                };
                if let Some(fill) = exchange.take_ready() {
                    // It was this request that found out.
                    let status = context.cache_status(&fill.page, Origin::Loaded, Forward::Miss);
                    context.count(Origin::Loaded);
                    let response = answer::from_page(&context, &fill.page, status);
                    return Ok(response.unwrap_or_else(answer::lost));
                }
                let slot = vary::slot(&selected, context.rules.max_variants);
                let key = variant_key(context.audience, slot, &context.target);
                let level = KeyLevel::Variant {
                    selected: selected.clone(),
                    list: id.as_str().into(),
                };
                let found = find(&context, &exchange, &key, level).await;
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
        Err(NotFound::Unreachable) => {
            return pass(&context, &exchange, Forward::Bypass, Reason::Unreachable).await;
        }
        Err(NotFound::Failed) => return pass(&context, &exchange, missed, Reason::Failed).await,
        Err(NotFound::NotStored(forward)) => {
            let why = match context.is_head() {
                true => Reason::Method,
                false => Reason::NoStore,
            };
            return pass(&context, &exchange, forward, why).await;
        }
    };
    match &found.cached.0 {
        Kind::Page(page) if page.selected == selected => {
            let status = context.cache_status(page, found.origin, missed);
            match answer::from_page(&context, page, status) {
                Some(response) => {
                    context.count(found.origin);
                    Ok(response)
                }
                None => pass(&context, &exchange, missed, Reason::Failed).await,
            }
        }
        // The place is taken by another variant.
        Kind::Page(_) => pass(&context, &exchange, missed, Reason::VaryFull).await,
        Kind::Pass { heals } => {
            let remembered = found.origin == Origin::Hit;
            let response = pass(&context, &exchange, missed, Reason::HitForMiss).await?;
            if remembered && *heals {
                return Ok(forget_hit_for_miss(&context, &key, response).await);
            }
            Ok(response)
        }
        Kind::Widen { names } => {
            if found.origin == Origin::Loaded {
                widen(&context, &primary, names).await;
            }
            pass(&context, &exchange, missed, Reason::Vary).await
        }
        // Not where variants are.
        Kind::Varies { .. } => pass(&context, &exchange, missed, Reason::Vary).await,
    }
}

async fn find<B, E>(
    context: &Context,
    exchange: &Exchange<B, E>,
    key: &[u8],
    level: KeyLevel,
) -> Result<Found, NotFound>
where
    B: Body<Data = Bytes, Error: Send> + Send + 'static,
    E: Send + 'static,
{
    let (stale, forward) = match peek(context, key).await? {
        Lookup::Fresh(cached) | Lookup::Stale(cached) if !level.is_current(&cached) => {
            // Loads that began before the change are not kept.
            if context.may_load() && context.rules.cache.invalidate(key).await.is_err() {
                return Err(NotFound::Unreachable);
            }
            (Stale::default(), Forward::Miss)
        }
        Lookup::Fresh(cached) if !context.wants_newer(&cached) => {
            return Ok(Found {
                cached,
                origin: Origin::Hit,
            });
        }
        Lookup::Fresh(_) => {
            // A page that this client does not want is replaced for all.
            if context.may_load() && context.rules.cache.invalidate(key).await.is_err() {
                return Err(NotFound::Unreachable);
            }
            (Stale::default(), Forward::Request)
        }
        Lookup::Stale(cached) if context.may_use_behind(&cached, &level) => {
            if context.may_load() {
                revalidate(
                    context,
                    exchange,
                    key,
                    level,
                    Stale::new(Arc::clone(&cached)),
                );
            }
            let origin = Origin::Behind;
            return Ok(Found { cached, origin });
        }
        Lookup::Stale(cached) => (Stale::new(cached), Forward::Stale),
        Lookup::Missing => (Stale::default(), Forward::Miss),
    };
    if !context.may_load() {
        return Err(NotFound::NotStored(forward));
    }
    match load_current(context, exchange, key, &level, &stale).await {
        Ok(fetched) => {
            let origin = match fetched.source() {
                Source::Local | Source::Redis => Origin::Hit,
                Source::Stale => Origin::InNeed,
                Source::Shared => Origin::Shared,
                _ => Origin::Loaded,
            };
            let cached = fetched.into_arc();
            if !level.is_current(&cached) {
                return Err(NotFound::Failed);
            }
            // It was kept for its handler to be asked, which failed.
            if origin == Origin::InNeed && !cached.may_be_given_stale(SystemTime::now()) {
                return Err(NotFound::Failed);
            }
            Ok(Found { cached, origin })
        }
        Err(error) => {
            if error.load_error::<NotFilled>().is_none() {
                context.count_failure("a response cannot be loaded", &error);
            }
            Err(NotFound::Failed)
        }
    }
}

/// Loads what is not stored. A load of another request that it waited for may have begun before a change, with the
/// list of that time: what it gives is not for this request, nor for any that comes later.
async fn load_current<B, E>(
    context: &Context,
    exchange: &Exchange<B, E>,
    key: &[u8],
    level: &KeyLevel,
    stale: &Stale,
) -> Result<Fetched<CachedResponse>, CacheError>
where
    B: Body<Data = Bytes, Error: Send> + Send + 'static,
    E: Send + 'static,
{
    let cache = &context.rules.cache;
    let loader = || {
        load(
            context.clone(),
            exchange.clone(),
            level.clone(),
            stale.clone(),
        )
    };
    let fetched = cache.get_or_load(key, loader).await?;
    if level.is_current(&fetched) {
        return Ok(fetched);
    }
    cache.invalidate(key).await?;
    cache.get_or_load(key, loader).await
}

/// Reads the stored page, without loading. One round trip; two when it has tags.
async fn peek(context: &Context, key: &[u8]) -> Result<Lookup, NotFound> {
    match context.rules.cache.peek(key).await {
        Ok(Some(found)) => Ok(match found.source() {
            Source::Stale => Lookup::Stale(found.into_arc()),
            _ => Lookup::Fresh(found.into_arc()),
        }),
        Ok(None) => Ok(Lookup::Missing),
        Err(error) => {
            context.count_failure("the cache cannot be asked", &error);
            Err(NotFound::Unreachable)
        }
    }
}

/// Loads anew in the background what was given away stale; one request per key of this process does.
fn revalidate<B, E>(
    context: &Context,
    exchange: &Exchange<B, E>,
    key: &[u8],
    level: KeyLevel,
    stale: Stale,
) where
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
        let loader = || load(context.clone(), exchange, level, stale);
        if let Err(error) = cache.get_or_load(&key[..], loader).await
            && error.load_error::<NotFilled>().is_none()
        {
            context.count_failure("a response cannot be loaded anew", &error);
        }
        drop(revalidation);
    });
}

/// The handler's answer to this request, which is not kept.
pub(crate) async fn pass<B, E>(
    context: &Context,
    exchange: &Exchange<B, E>,
    forward: Forward,
    why: Reason,
) -> Result<Response<LayerBody<B>>, E>
where
    B: Body<Data = Bytes>,
{
    if context.directives.only_if_cached {
        context.rules.metrics.refused.increment(1);
        return Ok(answer::not_cached(context));
    }
    context.rules.metrics.passed.increment(1);
    match exchange.finish().await? {
        Finished::Response(mut response, known) => {
            let status = CacheStatus::passed(forward, known.unwrap_or(why));
            context.add_cache_status(status, response.headers_mut());
            Ok(response)
        }
        Finished::Ready(fill) => {
            let status = CacheStatus::passed(forward, why);
            Ok(answer::from_page(context, &fill.page, status).unwrap_or_else(answer::lost))
        }
    }
}

/// Forgets that a target's responses are not kept when one comes that could be. The next request
/// loads it.
async fn forget_hit_for_miss<B: Body>(
    context: &Context,
    key: &[u8],
    response: Response<LayerBody<B>>,
) -> Response<LayerBody<B>> {
    let (head, body) = response.into_parts();
    if Terms::of(context, &head, SystemTime::now()).is_ok()
        && let Ok(Lookup::Fresh(cached)) = peek(context, key).await
        && matches!(cached.0, Kind::Pass { heals: true })
        && let Err(error) = context.rules.cache.invalidate(key).await
    {
        context.count_failure("cannot forget that a response is not kept", &error);
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
        .ttl(SHORTEST_LIST_TTL)
        .stale_for(Duration::ZERO);
    if let Err(error) = context.rules.cache.set_with(primary, list).await {
        context.count_failure("cannot keep what a response varies by", &error);
    }
}

impl Context {
    /// Whether something stale may be given away while it is loaded anew. The request goes with the
    /// load then, so it must be sure that it will not be needed.
    fn may_use_behind(&self, cached: &CachedResponse, level: &KeyLevel) -> bool {
        let Kind::Page(page) = &cached.0 else {
            return false;
        };
        page.selected == level.selected()
            && page.may_revalidate_behind(SystemTime::now())
            && page.header_map().is_some()
            && !self.wants_newer(cached)
    }

    fn cache_status(&self, page: &Page, origin: Origin, missed: Forward) -> CacheStatus {
        let left = page.seconds_left(SystemTime::now());
        match origin {
            Origin::Hit | Origin::Behind => CacheStatus::Hit(left),
            Origin::InNeed => CacheStatus::HitInNeed(left),
            Origin::Loaded | Origin::Shared => CacheStatus::Forwarded {
                why: missed,
                collapsed: origin == Origin::Shared,
                detail: None,
            },
        }
    }

    fn count(&self, origin: Origin) {
        let metrics = &self.rules.metrics;
        let counter = match origin {
            Origin::Hit => &metrics.hits,
            Origin::Behind | Origin::InNeed => &metrics.stale,
            Origin::Loaded => &metrics.filled,
            Origin::Shared => &metrics.collapsed,
        };
        counter.increment(1);
    }
}
