//! [`CachedResponse`]: what lies in the cache.

use std::fmt;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use http::header::{CONTENT_LENGTH, ETAG, LAST_MODIFIED};
use http::{HeaderMap, StatusCode};
use redkit_cache::{Cache, Loaded};
use redkit_core::http_layer::{Octets, StoredHeaders, remove_hop_by_hop};
use serde::{Deserialize, Serialize};

use crate::freshness::Lifetime;
use crate::key::random_id;
use crate::validators::Validators;
use crate::vary::Selected;

/// The type of the [`Cache`](redkit_cache::Cache) of a
/// [`ResponseCacheLayer`](crate::ResponseCacheLayer): a response, or what is known of a target that
/// has several or none to keep. Programs do not look into it.
#[derive(Clone, Serialize, Deserialize)]
#[serde(transparent)]
pub struct CachedResponse(pub(crate) Kind);

#[derive(Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Kind {
    Page(Page),
    /// The target has variants.
    Varies(List),
    /// Its responses are not to be kept: a request that finds this asks the handler. `heals` when the next
    /// response may tell otherwise.
    Pass {
        heals: bool,
        /// Of a variant the id of its list: see [`Page::list`].
        #[serde(default)]
        list: Box<str>,
    },
    /// A variant turned out to depend on more fields than were known. Never stored.
    Widen {
        names: Vec<String>,
    },
}

/// The fields by which a target's variants are told apart.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct List {
    pub(crate) names: Vec<String>,
    /// What lies at the places of variants names it.
    pub(crate) id: String,
    /// The tags of the response that the list was learnt from.
    #[serde(default)]
    tags: Vec<Box<str>>,
    /// Until when it is kept at least, by the clock of the process that stored it; zero when that is not known.
    #[serde(default)]
    kept_until_ms: u64,
}

/// How long a list is kept at least, for the variants to be found by.
const SHORTEST_LIST_TTL: Duration = Duration::from_secs(3600);

impl List {
    pub(crate) fn new(names: Vec<String>) -> Self {
        Self {
            names,
            id: random_id(),
            tags: Vec::new(),
            kept_until_ms: 0,
        }
    }

    pub(crate) fn with_tags(self, tags: Vec<Box<str>>) -> Self {
        Self { tags, ..self }
    }

    /// The list as the cache takes it, for variants that are kept for so long. It is kept for twice that time at least,
    /// so that it is not prolonged with every variant that is loaded.
    pub(crate) fn loaded(
        mut self,
        variants: Duration,
        cache: &Cache<CachedResponse>,
    ) -> Loaded<CachedResponse> {
        let shortest = variants.saturating_mul(2).max(SHORTEST_LIST_TTL);
        let until = SystemTime::now().checked_add(shortest);
        let until = until.and_then(|until| until.duration_since(UNIX_EPOCH).ok());
        self.kept_until_ms = until.map_or(u64::MAX, ms);
        let tags = self.tags.clone();
        Loaded::new(CachedResponse(Kind::Varies(self)))
            .ttl(ttl_of_at_least(shortest, cache.ttl_jitter()))
            .stale_for(Duration::ZERO)
            .tags(tags)
    }

    /// Whether it is there as long as a variant that is kept for so long from now on.
    pub(crate) fn outlives(&self, variant: Duration) -> bool {
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        let left = self
            .kept_until_ms
            .saturating_sub(ms(now.unwrap_or_default()));
        Duration::from_millis(left) >= variant
    }
}

/// The time to live of an entry that stays for `shortest` however much of its time `jitter` takes off.
fn ttl_of_at_least(shortest: Duration, jitter: f64) -> Duration {
    // Times are kept in whole milliseconds, rounded down.
    let least = shortest.saturating_add(Duration::from_millis(1));
    let seconds = least.as_secs_f64() / (1.0 - jitter.min(MOST_JITTER));
    Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX)
}

/// The largest share of their times that a cache of responses may take off at random: with more, lists of fields could not
/// outlive the variants that are found by them.
pub(crate) const MOST_JITTER: f64 = 0.9;

/// A response.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct Page {
    pub(crate) status: u16,
    headers: StoredHeaders,
    pub(crate) body: Octets,
    /// The fields that a request must have to get it.
    pub(crate) selected: Vec<Selected>,
    /// By the clock of the process that stored it, which is the only one that HTTP has.
    stored_at_ms: u64,
    age_ms: u64,
    fresh_ms: u64,
    while_revalidating_ms: u64,
    /// For how long after it was fresh it may be given at all. It stays longer where its handler can
    /// be asked whether it has changed.
    stale_ms: u64,
    /// Its `ETag` is the layer's, of which the handler knows nothing.
    pub(crate) has_made_etag: bool,
    /// Kept where the handler can be asked again: that answer need not name them.
    pub(crate) tags: Vec<Box<str>>,
    /// Of a variant the id of the list by which it was found. Where there is another list by now, something has
    /// removed the one, and what was kept with it is out of date.
    #[serde(default)]
    pub(crate) list: Box<str>,
}

impl CachedResponse {
    pub(crate) fn page(page: Page) -> Self {
        Self(Kind::Page(page))
    }

    /// Whether it may be given though it is no longer fresh.
    pub(crate) fn may_be_given_stale(&self, now: SystemTime) -> bool {
        match &self.0 {
            Kind::Page(page) => page.may_be_given_stale(now),
            Kind::Varies(_) | Kind::Pass { .. } | Kind::Widen { .. } => false,
        }
    }

    /// About how many bytes it takes: for [`L1::weighted`](redkit_cache::L1::weighted).
    pub fn size(&self) -> usize {
        match &self.0 {
            Kind::Page(page) => {
                let headers: usize = page.headers.sizes().map(|size| size + ENTRY).sum();
                let tags: usize = page.tags.iter().map(|tag| tag.len() + ENTRY).sum();
                headers + tags + page.body.bytes().len() + ENTRY
            }
            Kind::Varies(list) => (list.names.len() + list.tags.len() + 1) * ENTRY,
            Kind::Widen { names } => (names.len() + 1) * ENTRY,
            Kind::Pass { .. } => ENTRY,
        }
    }
}

/// A response with more lines of headers is not stored.
pub(crate) const MOST_LINES: usize = 1000;

/// The memory of lists and pointers, roughly.
const ENTRY: usize = 64;

impl fmt::Debug for CachedResponse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Kind::Page(page) => write!(f, "CachedResponse({}, {:?})", page.status, page.body),
            Kind::Varies(list) => write!(f, "CachedResponse(varies by {:?})", list.names),
            Kind::Pass { .. } => f.write_str("CachedResponse(not kept)"),
            Kind::Widen { names } => write!(f, "CachedResponse(varies by {names:?} as well)"),
        }
    }
}

impl Page {
    pub(crate) fn new(
        status: StatusCode,
        mut headers: HeaderMap,
        body: Octets,
        lifetime: &Lifetime,
        now: SystemTime,
    ) -> Self {
        remove_hop_by_hop(&mut headers);
        // It follows from the body.
        headers.remove(CONTENT_LENGTH);
        Self {
            status: status.as_u16(),
            headers: StoredHeaders::new(&headers),
            body,
            selected: Vec::new(),
            stored_at_ms: ms(now.duration_since(UNIX_EPOCH).unwrap_or_default()),
            age_ms: ms(lifetime.age),
            fresh_ms: ms(lifetime.fresh),
            while_revalidating_ms: ms(lifetime.while_revalidating),
            stale_ms: ms(lifetime.stale()),
            has_made_etag: false,
            tags: Vec::new(),
            list: Box::default(),
        }
    }

    pub(crate) fn with_tags(mut self, tags: &[Box<str>]) -> Self {
        if self.has_validators() {
            self.tags = tags.to_vec();
        }
        self
    }

    /// By which the handler can be asked whether it has changed.
    pub(crate) fn validators(&self) -> Validators {
        let validators = self.header_map().map(|headers| Validators::of(&headers));
        let validators = validators.unwrap_or_default();
        match self.has_made_etag {
            true => validators.without_etag(),
            false => validators,
        }
    }

    /// For how long it is kept as a fresh one, and after that as a stale one: with validators it stays for a while after it
    /// may be given.
    pub(crate) fn kept_for(&self, for_validation: Duration) -> (Duration, Duration) {
        let (fresh, stale) = (
            Duration::from_millis(self.fresh_ms),
            Duration::from_millis(self.stale_ms),
        );
        match self.has_validators() {
            true => (fresh, stale.max(for_validation)),
            false => (fresh, stale),
        }
    }

    pub(crate) fn has_validators(&self) -> bool {
        self.headers.contains(&LAST_MODIFIED)
            || (self.headers.contains(&ETAG) && !self.has_made_etag)
    }

    /// `None` when what was stored is no header: nobody but us writes there, and still.
    pub(crate) fn header_map(&self) -> Option<HeaderMap> {
        self.headers.header_map()
    }

    pub(crate) fn age(&self, now: SystemTime) -> Duration {
        Duration::from_millis(self.age_ms).saturating_add(self.resident(now))
    }

    /// How long it stays fresh; negative when it no longer is.
    pub(crate) fn seconds_left(&self, now: SystemTime) -> i64 {
        let seconds = |time: Duration| i64::try_from(time.as_secs()).unwrap_or(i64::MAX);
        let (fresh, resident) = (Duration::from_millis(self.fresh_ms), self.resident(now));
        match fresh.checked_sub(resident) {
            Some(left) => seconds(left),
            None => -seconds(resident.saturating_sub(fresh)),
        }
    }

    /// Whether it may be given away stale while it is loaded anew.
    pub(crate) fn may_revalidate_behind(&self, now: SystemTime) -> bool {
        let limit = self.fresh_ms.saturating_add(self.while_revalidating_ms);
        self.while_revalidating_ms > 0 && ms(self.resident(now)) <= limit
    }

    fn may_be_given_stale(&self, now: SystemTime) -> bool {
        ms(self.resident(now)) <= self.fresh_ms.saturating_add(self.stale_ms)
    }

    fn resident(&self, now: SystemTime) -> Duration {
        let now = now.duration_since(UNIX_EPOCH).unwrap_or_default();
        now.saturating_sub(Duration::from_millis(self.stored_at_ms))
    }
}

fn ms(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use http::{HeaderName, HeaderValue};

    use super::*;

    fn page(lines: &[(&'static str, &[u8])]) -> Page {
        let mut headers = HeaderMap::new();
        for (name, value) in lines {
            headers.append(*name, HeaderValue::from_bytes(value).unwrap());
        }
        let lifetime = Lifetime {
            age: Duration::from_secs(5),
            fresh: Duration::from_secs(60),
            while_revalidating: Duration::from_secs(10),
            if_error: Duration::ZERO,
        };
        let body = Octets::new(Bytes::from_static(b"\xff"));
        Page::new(StatusCode::OK, headers, body, &lifetime, now())
    }

    fn now() -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(1_000_000_000)
    }

    #[test]
    fn what_belongs_to_the_connection_is_not_stored() {
        let page = page(&[
            ("connection", b"close, X-Hop"),
            ("x-hop", b"1"),
            ("keep-alive", b"timeout=5"),
            ("transfer-encoding", b"chunked"),
            ("content-length", b"7"),
            ("x-odd", b"\xff\xfe"),
            ("link", b"<a>"),
            ("link", b"<b>"),
        ]);
        let json = serde_json::to_string(&CachedResponse::page(page)).unwrap();
        let back: CachedResponse = serde_json::from_str(&json).unwrap();
        let Kind::Page(page) = back.0 else {
            panic!("it is a page");
        };
        let headers = page.header_map().unwrap();
        let mut names: Vec<_> = headers.keys().map(HeaderName::as_str).collect();
        names.sort_unstable();
        assert_eq!(names, ["link", "x-odd"]);
        assert_eq!(headers["x-odd"].as_bytes(), b"\xff\xfe");
        assert_eq!(headers.get_all("link").iter().count(), 2);
        assert_eq!(page.body.bytes(), &b"\xff"[..]);
    }

    #[test]
    fn a_page_grows_older() {
        let page = page(&[]);
        let after = |seconds| now() + Duration::from_secs(seconds);
        assert_eq!(page.age(after(7)), Duration::from_secs(12));
        assert_eq!(page.seconds_left(after(7)), 53);
        assert_eq!(page.seconds_left(after(63)), -3);
        assert!(page.may_revalidate_behind(after(70)));
        assert!(!page.may_revalidate_behind(after(71)));
        // A clock that runs behind makes it no older than it was.
        let before = now() - Duration::from_secs(9);
        assert_eq!(page.age(before), Duration::from_secs(5));
    }
}
