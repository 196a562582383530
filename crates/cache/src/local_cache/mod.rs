//! [`Level`]: the values that this process keeps, and the rules by which they may be served.
//!
//! A value is served only while its own time lasts, no message has said that it changed, and the
//! level is *trusted*: the watch over the changes ([`watch`]) has lately compared its place among
//! them with Redis. A value that was read from Redis is kept only when nothing has happened to its
//! key since before the reading began ([`Ticket`]).

mod log;
mod tags;
mod watch;

use std::sync::Arc;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use redkit_core::{Client, ToArg};
use tokio::time::Instant;
use tokio_util::task::AbortOnDropHandle;

use self::tags::{TagCell, Tags};
use self::watch::Watch;
use crate::entry::{Hit, Life};
use crate::id::Id;
use crate::l1::{L1, Weigh};
use crate::names::{Meaning, Names};

/// Keys are spread over so many epochs.
const STRIPES: usize = 256;

/// See the [module](self).
pub(crate) struct LocalCache<V> {
    shared: Arc<Shared<V>>,
    client: Client,
    meta_ms: u64,
    is_tracked: bool,
    watch: OnceLock<AbortOnDropHandle<()>>,
}

/// The state that the watch shares with the local cache.
struct Shared<V> {
    values: moka::sync::Cache<Box<[u8]>, Arc<Slot<V>>>,
    names: Names,
    /// Counts what happened to the keys of a stripe. Under its lock values are put in and taken
    /// out, so that nothing happens in between.
    epochs: Box<[Mutex<u64>]>,
    /// Counts the times that everything was thrown away.
    generation: AtomicU64,
    tags: Arc<Tags>,
    origin: Instant,
    /// Nanoseconds after `origin` up to which values may be served.
    trusted_until: AtomicU64,
    ttl: Duration,
    bound: Duration,
    capacity: u64,
    weigher: Option<Arc<Weigh<V>>>,
}

/// One value.
struct Slot<V> {
    id: Id,
    value: Option<Arc<V>>,
    ttl: Duration,
    cost: Duration,
    /// When it is not fresh any more.
    fresh_until: Instant,
    /// When it is not kept here any more, which may be before.
    expires_at: Instant,
    generation: u64,
    tags: Box<[Arc<TagCell>]>,
    weight: u32,
}

/// The local cache's state when a reading from Redis begins.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ticket {
    stripe: usize,
    epoch: u64,
    generation: u64,
    tags: u64,
}

impl<V: Send + Sync + 'static> LocalCache<V> {
    pub(crate) fn new(l1: L1<V>, client: &Client, names: &Names, meta_ms: u64) -> Self {
        let mut builder = moka::sync::Cache::builder().max_capacity(l1.capacity);
        if l1.weigher.is_some() {
            builder = builder.weigher(|_, slot: &Arc<Slot<V>>| slot.weight);
        }
        let shared = Shared {
            values: builder.build(),
            names: names.clone(),
            epochs: (0..STRIPES).map(|_| Mutex::new(0)).collect(),
            generation: AtomicU64::new(0),
            tags: Arc::default(),
            origin: Instant::now(),
            trusted_until: AtomicU64::new(0),
            ttl: l1.ttl,
            bound: l1.bound,
            capacity: l1.capacity,
            weigher: l1.weigher,
        };
        Self {
            shared: Arc::new(shared),
            client: client.clone(),
            meta_ms,
            is_tracked: l1.is_tracked,
            watch: OnceLock::new(),
        }
    }

    /// The value of a key, if it may be served.
    #[inline]
    pub(crate) fn get(&self, key: &[u8]) -> Option<Hit<V>> {
        let now = Instant::now();
        let shared = &*self.shared;
        if !shared.is_trusted(now) {
            self.start();
            return None;
        }
        let slot = shared.values.get(key)?;
        let stands = slot.expires_at > now
            && slot.generation == shared.generation.load(Ordering::Acquire)
            && slot.tags.iter().all(|tag| tag.stands());
        stands.then(|| Hit {
            id: slot.id,
            value: slot.value.clone(),
            life: Life {
                ttl: slot.ttl,
                left: slot.fresh_until - now,
                cost: slot.cost,
            },
            tags: Vec::new(),
        })
    }

    /// Taken before a reading from Redis begins.
    pub(crate) fn ticket(&self, key: &[u8]) -> Ticket {
        let shared = &*self.shared;
        let stripe = stripe_of(key);
        // The generation before the epoch: who throws everything away goes the other way round.
        let generation = shared.generation.load(Ordering::Acquire);
        Ticket {
            stripe,
            epoch: shared.epochs.get(stripe).map_or(0, |epoch| *epoch.lock()),
            generation,
            tags: shared.tags.epoch(),
        }
    }

    /// Keeps what was read, unless something has happened to it since.
    pub(crate) fn put(&self, key: &[u8], ticket: Ticket, hit: &Hit<V>) {
        let now = Instant::now();
        let shared = &*self.shared;
        let weight = match (&shared.weigher, &hit.value) {
            (Some(weigh), Some(value)) => weigh(key, value),
            _ => 1,
        };
        if u64::from(weight) > shared.capacity {
            // It would be there until the local cache next tidies up.
            return;
        }
        let Some(tags) = shared.tags.cells(&hit.tags, ticket.tags) else {
            return;
        };
        let slot = Slot {
            id: hit.id,
            value: hit.value.clone(),
            ttl: hit.life.ttl,
            cost: hit.life.cost,
            fresh_until: now + hit.life.left,
            expires_at: now + hit.life.left.min(shared.ttl),
            generation: ticket.generation,
            tags,
            weight,
        };
        let Some(epoch) = shared.epochs.get(ticket.stripe) else {
            return;
        };
        let epoch = epoch.lock();
        if *epoch == ticket.epoch && shared.generation.load(Ordering::Acquire) == ticket.generation
        {
            shared.values.insert(key.into(), Arc::new(slot));
        }
    }

    /// Something happened to a key: this process's own doing, which needs no message.
    pub(crate) fn remove(&self, key: &[u8]) {
        self.shared.remove(key);
    }

    /// The same for one entry of a key: another that is kept stays. What is read of the key now is not put in.
    pub(crate) fn remove_seen(&self, key: &[u8], seen: Id) {
        let shared = &*self.shared;
        if let Some(epoch) = shared.epochs.get(stripe_of(key)) {
            let mut epoch = epoch.lock();
            *epoch += 1;
            if shared.values.get(key).is_some_and(|slot| slot.id == seen) {
                shared.values.invalidate(key);
            }
        }
    }

    pub(crate) fn remove_tag(&self, tag: &str) {
        self.shared.tags.void(tag);
    }

    pub(crate) fn clear(&self) {
        self.shared.clear();
    }

    /// How many values there are, more or less.
    pub(crate) fn len(&self) -> u64 {
        self.shared.values.entry_count()
    }

    #[cold]
    fn start(&self) {
        self.watch.get_or_init(|| {
            let watch = Watch {
                client: self.client.clone(),
                shared: Arc::clone(&self.shared),
                meta_ms: self.meta_ms,
                is_tracked: self.is_tracked,
            };
            AbortOnDropHandle::new(tokio::spawn(watch.run()))
        });
    }
}

impl<V: Send + Sync + 'static> Shared<V> {
    fn is_trusted(&self, now: Instant) -> bool {
        let elapsed = nanos(now.saturating_duration_since(self.origin));
        elapsed < self.trusted_until.load(Ordering::Acquire)
    }

    /// Values may be served until the bound has passed after `asked`: then the place among the
    /// changes was right.
    fn trust(&self, asked: Instant) {
        let until = (asked + self.bound).saturating_duration_since(self.origin);
        self.trusted_until.store(nanos(until), Ordering::Release);
    }

    fn distrust(&self) {
        self.trusted_until.store(0, Ordering::Release);
    }

    fn remove(&self, key: &[u8]) {
        if let Some(epoch) = self.epochs.get(stripe_of(key)) {
            let mut epoch = epoch.lock();
            *epoch += 1;
            self.values.invalidate(key);
        }
    }

    /// The same for the full key that a message names.
    fn remove_entry(&self, key: &Bytes) {
        match self.names.entries.parse(key) {
            Some((key, None)) => self.remove(&key),
            // Not a message of ours; who knows what it stands for.
            _ => self.clear(),
        }
    }

    /// A server says that a key is another.
    fn changed(&self, key: &[u8]) {
        match self.names.meaning(key) {
            Meaning::Entry(key) => self.remove(&key),
            Meaning::Tag(tag) => self.tags.void(&tag),
            Meaning::All => self.clear(),
            Meaning::Nothing => {}
        }
    }

    fn clear(&self) {
        // From here on nothing that is there is served, and nothing that was read before is put in.
        self.generation.fetch_add(1, Ordering::AcqRel);
        self.tags.void_all();
        self.values.invalidate_all();
    }
}

/// The bytes of a user key, without an allocation per call.
pub(crate) fn with_bytes<K: ToArg, R>(key: &K, use_it: impl FnOnce(&[u8]) -> R) -> R {
    thread_local! {
        static SCRATCH: std::cell::Cell<Vec<u8>> = const { std::cell::Cell::new(Vec::new()) };
    }
    let mut bytes = SCRATCH.take();
    bytes.clear();
    key.write_to(&mut bytes);
    let result = use_it(&bytes);
    // A key of megabytes is not worth keeping.
    if bytes.capacity() <= 64 * 1024 {
        SCRATCH.set(bytes);
    }
    result
}

fn stripe_of(key: &[u8]) -> usize {
    usize::from(redkit_core::slot(key)) % STRIPES
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use redkit_core::ClientConfig;
    use redkit_embedded::Embedded;

    use super::*;

    fn local() -> LocalCache<u64> {
        let engine = Arc::new(Embedded::new());
        let client = Client::from_backend(engine, &ClientConfig::default()).unwrap();
        let names = Names::new(&client, "numbers").unwrap();
        let local = LocalCache::new(L1::entries(10), &client, &names, 3_600_000);
        local.shared.trust(Instant::now());
        local
    }

    fn hit(tags: &[(&str, u64)]) -> Hit<u64> {
        Hit {
            id: Id::new(1),
            value: Some(Arc::new(7)),
            life: Life {
                ttl: Duration::from_secs(60),
                left: Duration::from_secs(60),
                cost: Duration::ZERO,
            },
            tags: tags
                .iter()
                .map(|(tag, id)| ((*tag).into(), Id::new(*id)))
                .collect(),
        }
    }

    #[tokio::test]
    async fn what_was_read_before_a_change_was_heard_is_not_put_in_after_it() {
        let local = local();
        local.put(b"k", local.ticket(b"k"), &hit(&[]));
        assert!(local.get(b"k").is_some());
        fn told(local: &LocalCache<u64>, key: fn(&Names) -> redkit_core::Key) {
            let key = key(&local.shared.names);
            local.shared.changed(key.as_bytes());
        }
        let changes: [fn(&LocalCache<u64>); 6] = [
            |local| local.remove(b"k"),
            |local| local.remove_tag("t"),
            |local| local.clear(),
            |local| told(local, |names| names.entries.key("k")),
            |local| told(local, |names| names.of_tag("t")),
            |local| told(local, |names| names.generation.clone()),
        ];
        for change in changes {
            let ticket = local.ticket(b"k");
            change(&local);
            local.put(b"k", ticket, &hit(&[("t", 1)]));
            assert!(local.get(b"k").is_none());
            local.put(b"k", local.ticket(b"k"), &hit(&[("t", 1)]));
            assert!(local.get(b"k").is_some());
            change(&local);
            assert!(local.get(b"k").is_none());
        }
    }

    #[tokio::test]
    async fn the_removal_of_one_entry_leaves_another_and_lets_in_nothing_from_before() {
        let local = local();
        local.put(b"k", local.ticket(b"k"), &hit(&[]));
        let ticket = local.ticket(b"k");
        local.remove_seen(b"k", Id::new(2));
        assert!(local.get(b"k").is_some(), "another entry stays");
        local.remove(b"k");
        local.put(b"k", ticket, &hit(&[]));
        assert!(local.get(b"k").is_none());
        let ticket = local.ticket(b"k");
        local.remove_seen(b"k", Id::new(2));
        local.put(b"k", ticket, &hit(&[]));
        assert!(local.get(b"k").is_none(), "it was read before");
        local.put(b"k", local.ticket(b"k"), &hit(&[]));
        local.remove_seen(b"k", Id::new(1));
        assert!(local.get(b"k").is_none(), "this one was seen");
    }

    #[tokio::test(start_paused = true)]
    async fn trust_and_values_end_with_their_times() {
        let local = local();
        local.put(b"k", local.ticket(b"k"), &hit(&[]));
        let bound = local.shared.bound;
        tokio::time::advance(bound - Duration::from_millis(1)).await;
        assert!(local.get(b"k").is_some());
        tokio::time::advance(Duration::from_millis(2)).await;
        // Not by `get`, which would start the watch: that begins with nothing.
        assert!(!local.shared.is_trusted(Instant::now()));
        tokio::time::advance(Duration::from_secs(55)).await;
        local.shared.trust(Instant::now());
        assert!(local.get(b"k").is_some());
        tokio::time::advance(Duration::from_secs(6)).await;
        local.shared.trust(Instant::now());
        assert!(local.get(b"k").is_none(), "its own time is up");
    }

    #[test]
    fn the_scratch_holds_one_key_at_a_time() {
        let length = with_bytes(&"outer", |outer| {
            with_bytes(&"in", |inner| (outer.len(), inner.len()))
        });
        assert_eq!(length, (5, 2));
    }
}
