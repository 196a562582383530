//! [`Fill`]: a response that can be kept, and how.

use std::time::{Duration, SystemTime};

use http::{HeaderMap, StatusCode, response};
use redkit_cache::Loaded;

use crate::context::Context;
use crate::freshness::Lifetime;
use crate::storable::{Reason, judge};
use crate::stored::{CachedResponse, MOST_LINES, Page};
use crate::tags;
use crate::vary;

#[derive(Clone)]
pub(crate) struct Fill {
    pub(crate) page: Page,
    pub(crate) terms: Terms,
}

/// On which terms a response may be kept, by its head.
#[derive(Clone)]
pub(crate) struct Terms {
    pub(crate) lifetime: Lifetime,
    pub(crate) tags: Vec<Box<str>>,
    /// The fields that it varies by.
    pub(crate) names: Vec<String>,
}

impl Terms {
    pub(crate) fn of(
        context: &Context,
        head: &response::Parts,
        now: SystemTime,
    ) -> Result<Self, Reason> {
        let tags = tags::of(head, context.rules.tag_header.as_ref())?;
        Self::of_headers(context, head.status, &head.headers, tags, now)
    }

    pub(crate) fn of_headers(
        context: &Context,
        status: StatusCode,
        headers: &HeaderMap,
        tags: Vec<Box<str>>,
        now: SystemTime,
    ) -> Result<Self, Reason> {
        if headers.len() > MOST_LINES {
            return Err(Reason::TooLong);
        }
        let default_ttl = context.rules.default_ttl;
        Ok(Self {
            lifetime: judge(status, headers, context.audience, default_ttl, now)?,
            names: vary::names(headers)?,
            tags,
        })
    }
}

impl Fill {
    /// The page as the cache takes it; with validators it stays for a while after it may be given.
    pub(crate) fn loaded(self, context: &Context) -> Loaded<CachedResponse> {
        let (fresh, stale_for) = self.kept_for(context);
        // The shortest time that the cache keeps anything: what is stale from the start.
        let ttl = fresh.max(Duration::from_millis(1));
        Loaded::new(CachedResponse::page(self.page))
            .ttl(ttl)
            .stale_for(stale_for)
            .tags(self.terms.tags)
    }

    /// For how long the page is kept as a fresh one, and after that as a stale one.
    pub(crate) fn kept_for(&self, context: &Context) -> (Duration, Duration) {
        self.page.kept_for(context.rules.kept_for_validation())
    }
}
