//! Looking a request up: the target first, and then, where it has variants, the right one.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http::Response;
use http_body::Body;
use redkit_cache::{Error as CacheError, Fetched, Source};
use redkit_core::http_layer::LayerBody;

use crate::answer;
use crate::context::Context;
use crate::exchange::{Exchange, Finished};
use crate::fill::Terms;
use crate::key::variant_key;
use crate::load::{FoundList, KeyLevel, NotFilled, Stale, load};
use crate::prolong::prolong_list;
use crate::status::{CacheStatus, Forward};
use crate::storable::Reason;
use crate::stored::{CachedResponse, Kind, List, Page};
use crate::vary;

/// The result of a look-up.
struct Found {
    cached: Fetched<CachedResponse>,
    origin: Origin,
    /// Why the handler was asked, if it was.
    forward: Forward,
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
    /// The list of fields is not the one any more by which it was looked for.
    OtherList,
    Failed(Forward),
}

enum Lookup {
    Fresh(Fetched<CachedResponse>),
    Stale(Fetched<CachedResponse>),
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
    let primary: Arc<[u8]> = context.audience.primary_key(&context.target).into();
    let mut is_again = false;
    let (key, found, selected) = loop {
        let found = find(&context, &exchange, &primary, &KeyLevel::Primary).await;
        let Found {
            cached, forward, ..
        } = match found {
            Ok(found) if matches!(found.cached.0, Kind::Varies(_)) => found,
            found => break (primary.to_vec(), found, Vec::new()),
        };
        let list = FoundList {
            key: Arc::clone(&primary),
            cached,
        };
        let selected = vary::select(list.names(), &context.request.headers);
        let selected = match selected {
            Ok(selected) => selected,
            Err(why) => return pass(&context, &exchange, Forward::VaryMiss, why).await,
        };
        if let Some(fill) = exchange.take_ready() {
            // It was this request that found out.
            let status = context.cache_status(&fill.page, Origin::Loaded, forward);
            context.count(Origin::Loaded);
            let response = answer::from_page(&context, &fill.page, status);
            return Ok(response.unwrap_or_else(answer::lost));
        }
        let slot = vary::slot(&selected, context.rules.max_variants);
        let key = variant_key(context.audience, slot, &context.target);
        let level = KeyLevel::Variant {
            selected: selected.clone(),
            list,
        };
        match find(&context, &exchange, &key, &level).await {
            // There was a change meanwhile, or this process had not heard of it.
            Err(NotFound::OtherList) if !is_again => is_again = true,
            found => {
                if let Ok(found) = &found
                    && found.origin == Origin::Loaded
                {
                    prolong_list(&context, &level, &found.cached);
                }
                break (key, found, selected);
            }
        }
    };
    let found = match found {
        Ok(found) => found,
        Err(NotFound::Unreachable) => {
            return pass(&context, &exchange, Forward::Bypass, Reason::Unreachable).await;
        }
        Err(NotFound::OtherList) => {
            return pass(&context, &exchange, Forward::VaryMiss, Reason::Failed).await;
        }
        Err(NotFound::Failed(forward)) => {
            return pass(&context, &exchange, forward, Reason::Failed).await;
        }
        Err(NotFound::NotStored(forward)) => {
            let why = match context.is_head() {
                true => Reason::Method,
                false => Reason::NoStore,
            };
            return pass(&context, &exchange, forward, why).await;
        }
    };
    let forward = found.forward;
    match &found.cached.0 {
        Kind::Page(page) if page.selected == selected => {
            let status = context.cache_status(page, found.origin, forward);
            match answer::from_page(&context, page, status) {
                Some(response) => {
                    context.count(found.origin);
                    Ok(response)
                }
                None => pass(&context, &exchange, forward, Reason::Failed).await,
            }
        }
        // The place is taken by another variant.
        Kind::Page(_) => pass(&context, &exchange, forward, Reason::VaryFull).await,
        Kind::Pass { heals, .. } => {
            let remembered = found.origin == Origin::Hit;
            let response = pass(&context, &exchange, forward, Reason::HitForMiss).await?;
            if remembered && *heals {
                return Ok(forget_hit_for_miss(&context, &key, &found.cached, response).await);
            }
            Ok(response)
        }
        Kind::Widen { names } => {
            if found.origin == Origin::Loaded {
                widen(&context, &primary, names).await;
            }
            pass(&context, &exchange, forward, Reason::Vary).await
        }
        // Not where variants are.
        Kind::Varies(_) => pass(&context, &exchange, forward, Reason::Vary).await,
    }
}

async fn find<B, E>(
    context: &Context,
    exchange: &Exchange<B, E>,
    key: &[u8],
    level: &KeyLevel,
) -> Result<Found, NotFound>
where
    B: Body<Data = Bytes, Error: Send> + Send + 'static,
    E: Send + 'static,
{
    let missed = match level {
        KeyLevel::Primary => Forward::Miss,
        KeyLevel::Variant { .. } => Forward::VaryMiss,
    };
    let mut unwanted = None;
    let cache = &context.rules.cache;
    let mut looked = lookup(context, cache.peek(key).await)?;
    if let Lookup::Fresh(cached) = &looked
        && cached.source() == Source::Local
        && context.wants_newer(cached)
    {
        // Redis may have had another for a while, of which this process was not told. Other clients are given the one that
        // is kept here until Redis has answered.
        looked = lookup(context, cache.peek_in_redis(key).await)?;
    }
    let (stale, forward) = match looked {
        Lookup::Fresh(cached) | Lookup::Stale(cached) if !level.is_current(&cached) => {
            if context.may_load() {
                remove_outdated(context, key, level, &cached).await?;
            }
            (Stale::default(), missed)
        }
        Lookup::Fresh(cached) if !context.wants_newer(&cached) => {
            return Ok(Found {
                cached,
                origin: Origin::Hit,
                forward: missed,
            });
        }
        Lookup::Fresh(cached) => {
            // A page that this client does not want is replaced for all, once there is another.
            let stale = Stale::unwanted(cached.clone());
            unwanted = Some(cached);
            (stale, Forward::Request)
        }
        Lookup::Stale(cached) if context.may_use_behind(&cached, level) => {
            if context.may_load() {
                let (level, stale) = (level.clone(), Stale::new(cached.clone()));
                revalidate(context, exchange, key, level, stale);
            }
            return Ok(Found {
                cached,
                origin: Origin::Behind,
                forward: Forward::Stale,
            });
        }
        Lookup::Stale(cached) => (Stale::new(cached), Forward::Stale),
        Lookup::Missing => (Stale::default(), missed),
    };
    if !context.may_load() {
        return Err(NotFound::NotStored(forward));
    }
    let loader = || {
        load(
            context.clone(),
            exchange.clone(),
            level.clone(),
            stale.clone(),
        )
    };
    let failed = |error: CacheError| {
        if error.load_error::<NotFilled>().is_none() {
            context.count_failure("a response cannot be loaded", &error);
        }
        NotFound::Failed(forward)
    };
    let mut loaded = match &unwanted {
        Some(unwanted) => cache.reload(key, unwanted, loader).await,
        None => cache.get_or_load(key, loader).await,
    };
    if let Err(error) = &loaded
        && error.load_error::<NotFilled>().is_some()
        && exchange.is_unasked()
    {
        // It was the load of another, which had no answer for all: that of a page that it would rather give stale, or
        // of a list that it finds removed.
        loaded = cache.get_or_load(key, loader).await;
    }
    let mut cached = loaded.map_err(failed)?;
    if !level.is_current(&cached) {
        // A load of another request that this one waited for began before a change, with the list of that time: what it
        // gives is not for this request, nor for any that comes later.
        remove_outdated(context, key, level, &cached).await?;
        cached = cache.get_or_load(key, loader).await.map_err(failed)?;
    }
    let origin = match cached.source() {
        Source::Local | Source::Redis => Origin::Hit,
        Source::Stale => Origin::InNeed,
        Source::Shared => Origin::Shared,
        _ => Origin::Loaded,
    };
    // A stale one was kept for its handler to be asked, which failed.
    let may_be_given = origin != Origin::InNeed || cached.may_be_given_stale(SystemTime::now());
    match level.is_current(&cached) && may_be_given {
        true => Ok(Found {
            cached,
            origin,
            forward,
        }),
        false => Err(NotFound::Failed(forward)),
    }
}

/// Removes what was kept with another list than the one by which it was looked for, and nothing that has taken its
/// place. That other list may be the newer one: then it is this request that has to look again.
async fn remove_outdated(
    context: &Context,
    key: &[u8],
    level: &KeyLevel,
    outdated: &Fetched<CachedResponse>,
) -> Result<(), NotFound> {
    let cache = &context.rules.cache;
    if let KeyLevel::Variant { list, .. } = level {
        match lookup(context, cache.peek_in_redis(&list.key[..]).await)? {
            Lookup::Fresh(there) if matches!(&there.0, Kind::Varies(its) if its.id == list.id()) => {
            }
            Lookup::Fresh(_) | Lookup::Stale(_) | Lookup::Missing => {
                return Err(NotFound::OtherList);
            }
        }
    }
    match cache.invalidate_seen(key, outdated).await {
        Ok(_) => Ok(()),
        Err(error) => {
            context.count_failure("what is out of date cannot be removed", &error);
            Err(NotFound::Unreachable)
        }
    }
}

/// Turns the outcome of a look at the cache into that of the look-up.
fn lookup(
    context: &Context,
    peeked: Result<Option<Fetched<CachedResponse>>, CacheError>,
) -> Result<Lookup, NotFound> {
    match peeked {
        Ok(Some(found)) => Ok(match found.source() {
            Source::Stale => Lookup::Stale(found),
            _ => Lookup::Fresh(found),
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
        let loader = || load(context.clone(), exchange, level.clone(), stale);
        match cache.get_or_load(&key[..], loader).await {
            Ok(loaded) if loaded.source() == Source::Loaded => {
                prolong_list(&context, &level, &loaded);
            }
            Err(error) if error.load_error::<NotFilled>().is_none() => {
                context.count_failure("a response cannot be loaded anew", &error);
            }
            Ok(_) | Err(_) => {}
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
            let why = match why {
                Reason::HitForMiss if fill.terms.lifetime.is_over() => Reason::TooSlow,
                why => why,
            };
            let status = CacheStatus::passed(forward, why);
            Ok(answer::from_page(context, &fill.page, status).unwrap_or_else(answer::lost))
        }
    }
}

/// Forgets that a target's responses are not kept when one comes that could be. The next request
/// loads it, unless another has by then.
async fn forget_hit_for_miss<B: Body>(
    context: &Context,
    key: &[u8],
    mark: &Fetched<CachedResponse>,
    response: Response<LayerBody<B>>,
) -> Response<LayerBody<B>> {
    let (head, body) = response.into_parts();
    if Terms::of(context, &head, SystemTime::now()).is_ok()
        && let Err(error) = context.rules.cache.invalidate_seen(key, mark).await
    {
        context.count_failure("cannot forget that a response is not kept", &error);
    }
    Response::from_parts(head, body)
}

/// Keeps a longer list of fields for a target. Its variants are loaded anew.
async fn widen(context: &Context, primary: &[u8], names: &[String]) {
    // The first of its variants that is loaded has it kept longer where need be.
    let cache = &context.rules.cache;
    let list = List::new(names.to_vec()).loaded(Duration::ZERO, cache);
    if let Err(error) = cache.set_with(primary, list).await {
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

    fn cache_status(&self, page: &Page, origin: Origin, forward: Forward) -> CacheStatus {
        let left = page.seconds_left(SystemTime::now());
        match origin {
            Origin::Hit | Origin::Behind => CacheStatus::Hit(left),
            Origin::InNeed => CacheStatus::HitInNeed(left),
            Origin::Loaded | Origin::Shared => CacheStatus::Forwarded {
                why: forward,
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
