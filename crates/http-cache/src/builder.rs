//! [`ResponseCacheBuilder`]: a layer's settings, checked when it is built.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use http::HeaderName;
use http::request::Parts;
use http::uri::Authority;
use redkit_cache::Cache;
use redkit_core::ConfigError;

use crate::error::Error;
use crate::layer::ResponseCacheLayer;
use crate::metrics::Metrics;
use crate::rules::{RequestFn, Rules};
use crate::stored::{CachedResponse, MOST_JITTER};

/// Settings of a [`ResponseCacheLayer`], from [`ResponseCacheLayer::builder`].
#[must_use = "it does nothing until `build`"]
#[derive(Clone)]
pub struct ResponseCacheBuilder {
    cache: Cache<CachedResponse>,
    key: Option<RequestFn<Option<Vec<u8>>>>,
    authority: Option<String>,
    skip: Option<RequestFn<bool>>,
    default_ttl: Option<Duration>,
    max_body: usize,
    max_variants: u64,
    hit_for_miss: Duration,
    tag_header: Option<String>,
    makes_etags: bool,
    adds_cache_status: bool,
    honours_requests: bool,
}

impl ResponseCacheBuilder {
    pub(crate) fn new(cache: &Cache<CachedResponse>) -> Self {
        Self {
            cache: cache.clone(),
            key: None,
            authority: None,
            skip: None,
            default_ttl: None,
            max_body: 1024 * 1024,
            max_variants: 64,
            hit_for_miss: Duration::from_secs(10),
            tag_header: None,
            makes_etags: false,
            adds_cache_status: true,
            honours_requests: false,
        }
    }

    /// How long a response with status 200 is fresh that does not say so itself. It is not applied
    /// to answers to requests with `Cookie` or `Authorization`. Default: such responses are not kept.
    ///
    /// Say it only where **every** handler behind the layer answers all clients the same: a page
    /// that depends on the client's address, say, and does not forbid it, would be given to others.
    pub fn default_ttl(mut self, ttl: Duration) -> Self {
        self.default_ttl = Some(ttl);
        self
    }

    /// The longest body that is kept, in bytes. A longer one goes through; no more than this and
    /// one frame of it is ever held. Default: 1 MiB.
    pub fn max_body(mut self, bytes: usize) -> Self {
        self.max_body = bytes;
        self
    }

    /// How many variants of a target are kept at most, by what `Vary` names, for each of the kinds of requests that do
    /// not share: with `Authorization`, with a cookie where there is a [`default_ttl`](Self::default_ttl), and others.
    /// Default: 64.
    pub fn max_variants(mut self, variants: u64) -> Self {
        self.max_variants = variants;
        self
    }

    /// How long it is remembered that a target's responses are not to be kept, so that nobody waits
    /// for another's; of a page that was over when it came at most 2 s. Default: 10 s.
    pub fn hit_for_miss(mut self, time: Duration) -> Self {
        self.hit_for_miss = time;
        self
    }

    /// The resource that a request names, in place of authority, path and query; `None` lets it pass. What it
    /// leaves out, handlers must not depend on, unless they name it in `Vary`. It is asked for
    /// requests that change something as well, so that these remove what they make out of date.
    pub fn key(mut self, key: impl Fn(&Parts) -> Option<Vec<u8>> + Send + Sync + 'static) -> Self {
        self.key = Some(Arc::new(key));
        self
    }

    /// The authority in all keys, whatever requests say. Without it every `Host` that a client makes
    /// up has responses of its own. Say it where handlers do not look at it.
    pub fn authority(mut self, authority: impl Into<String>) -> Self {
        self.authority = Some(authority.into());
        self
    }

    /// Lets requests pass for which `skip` says so.
    pub fn skip(mut self, skip: impl Fn(&Parts) -> bool + Send + Sync + 'static) -> Self {
        self.skip = Some(Arc::new(skip));
        self
    }

    /// Takes tags from this header of responses as well, such as `cache-tag` or `surrogate-key`,
    /// with commas or spaces between. It stays in the response. Default: from
    /// [`CacheTags`](crate::CacheTags) only.
    pub fn tag_header(mut self, name: impl Into<String>) -> Self {
        self.tag_header = Some(name.into());
        self
    }

    /// Whether responses with status 200 and no `ETag` are given one when they are kept. Default: no.
    pub fn make_etags(mut self, makes: bool) -> Self {
        self.makes_etags = makes;
        self
    }

    /// Whether responses carry `Cache-Status`. Default: yes.
    pub fn cache_status(mut self, adds_cache_status: bool) -> Self {
        self.adds_cache_status = adds_cache_status;
        self
    }

    /// Whether what clients say in `Cache-Control` counts: `no-cache`, `no-store`, `max-age`,
    /// `min-fresh`, and `Pragma`. Default: no, since with it any client can have any handler asked by
    /// every request. `only-if-cached` always counts: it asks for less.
    ///
    /// A page that a client does not want stays for the others until the handler has given one that can be kept. While
    /// the handler fails (`stale-if-error`'s failures), the client is given the page that it did not want, without having
    /// said that it takes a stale one. Processes with an [`L1`](redkit_cache::L1) give other clients the page of before until
    /// its time there is up.
    pub fn honour_requests(mut self, honours: bool) -> Self {
        self.honours_requests = honours;
        self
    }

    /// Builds the layer. Nothing is sent. The cache may have a
    /// [`ttl_jitter`](redkit_cache::CacheBuilder::ttl_jitter) of up to 0.9.
    ///
    /// # Errors
    /// [`Error::Config`] with the setting that cannot work.
    pub fn build(self) -> Result<ResponseCacheLayer, Error> {
        const MOST: Duration = Duration::from_secs(10 * 365 * 24 * 3600);
        let ms = Duration::from_millis(1);
        if self.default_ttl.is_some_and(|ttl| ttl < ms || ttl > MOST) {
            return wrong(
                "default_ttl",
                "it is under 1 ms or over 10 years",
                "give a time between",
            );
        }
        if self.max_body == 0 || self.max_body > 256 * 1024 * 1024 {
            return wrong(
                "max_body",
                "it is zero or over 256 MiB",
                "give a size such as 1 MiB",
            );
        }
        if self.max_variants == 0 || self.max_variants > 65_536 {
            let fix = "give a number such as 64";
            return wrong("max_variants", "it is zero or over 65536", fix);
        }
        let hour = Duration::from_secs(3600);
        if self.hit_for_miss < Duration::from_millis(100) || self.hit_for_miss > hour {
            return wrong(
                "hit_for_miss",
                "it is under 100 ms or over an hour",
                "10s is usual",
            );
        }
        if self.key.is_some() && self.authority.is_some() {
            let fix = "leave one out";
            return wrong(
                "authority",
                "the layer has a `key` of its own, which does without",
                fix,
            );
        }
        let authority = match self.authority.as_deref().map(Authority::try_from) {
            None => None,
            Some(Ok(authority)) if !authority.as_str().contains('@') => Some(authority),
            Some(_) => return wrong("authority", "it is none", "write it like shop.example"),
        };
        let tag_header = match self.tag_header.as_deref().map(HeaderName::try_from) {
            None => None,
            Some(Ok(name)) => Some(name),
            Some(Err(_)) => {
                return wrong(
                    "tag_header",
                    "it is no name of a header",
                    "write it like cache-tag",
                );
            }
        };
        refuse_refreshing(&self.cache)?;
        if self.cache.ttl_jitter() > MOST_JITTER {
            let problem =
                "the cache's is over 0.9: lists of variants would be gone before their variants";
            return wrong("ttl_jitter", problem, "give a share such as 0.1");
        }
        Ok(ResponseCacheLayer::new(Rules {
            metrics: Metrics::new(self.cache.name()),
            handler_timeout: self.cache.load_timeout().mul_f64(0.9),
            cache: self.cache,
            key: self.key,
            authority,
            skip: self.skip,
            default_ttl: self.default_ttl,
            max_body: self.max_body,
            max_variants: self.max_variants,
            hit_for_miss: self.hit_for_miss,
            tag_header,
            makes_etags: self.makes_etags,
            adds_cache_status: self.adds_cache_status,
            honours_requests: self.honours_requests,
            revalidations: Arc::default(),
        }))
    }
}

impl fmt::Debug for ResponseCacheBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ResponseCacheBuilder")
            .field("cache", &self.cache)
            .finish_non_exhaustive()
    }
}

/// With these a load may outlive the request that began it, or begin before it is needed: the
/// request would be gone with it.
fn refuse_refreshing(cache: &Cache<CachedResponse>) -> Result<(), Error> {
    let problem = "a response cache cannot load for somebody else than who waits";
    let stale = "leave it out of the cache; handlers say `stale-while-revalidate`";
    if cache.soft_timeout().is_some() {
        let fix = "leave it out of the cache; handlers say `stale-if-error`";
        return wrong("soft_timeout", problem, fix);
    }
    if cache.refresh_ahead().is_some() {
        return wrong("refresh_ahead", problem, stale);
    }
    if cache.refresh_early().is_some() {
        return wrong("refresh_early", problem, stale);
    }
    Ok(())
}

fn wrong<T>(field: &'static str, problem: &'static str, fix: &'static str) -> Result<T, Error> {
    Err(ConfigError::new(field, problem, fix).into())
}
