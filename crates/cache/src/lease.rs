//! [`Lease`]: the right to load a key, among all processes.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use redkit_core::coordination::{self, LeaseConfig, LeaseRenewal};
use redkit_core::{Invocation, Key};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::time::Instant;

use crate::entry::millis;
use crate::error::Error;
use crate::id::LeaseToken;
use crate::names::EntryKeys;
use crate::scripts::{self, Have};
use crate::store::Store;

/// A lease that this process holds. The client renews it until it is given back or dropped, or as much
/// time has passed as a load may take; then it ends by itself.
pub(crate) struct Lease<V> {
    store: Arc<Store<V>>,
    pub(crate) keys: EntryKeys,
    pub(crate) token: LeaseToken,
    have: Have,
    renewed: coordination::Lease,
}

/// How the lease of a load or a write is renewed.
struct EntryLease {
    key: Key,
    token: LeaseToken,
}

impl LeaseRenewal for EntryLease {
    fn renew(&self, ttl: Duration) -> Invocation {
        scripts::renew(&self.key, self.token, millis(ttl).max(1))
    }
}

impl<V: Serialize + DeserializeOwned + Send + Sync + 'static> Lease<V> {
    /// The lease that a call sent at `sent` took, with what its caller already has.
    pub(crate) fn hold(
        store: &Arc<Store<V>>,
        keys: &EntryKeys,
        have: Have,
        token: LeaseToken,
        sent: Instant,
    ) -> Self {
        let ttl = store.settings.lease;
        // A write has no timeout but the writer's own: other processes are not to wait for it for ever.
        // A value that a loader gives at the last moment can still be written.
        let longest = store.settings.load_timeout.saturating_add(ttl);
        let config = LeaseConfig::new(ttl).hold_at_most(longest);
        let renewal = EntryLease {
            key: keys.lease.clone(),
            token,
        };
        Self {
            store: Arc::clone(store),
            keys: keys.clone(),
            token,
            have,
            renewed: store.client.lease(renewal, config, sent),
        }
    }

    /// Gives the lease back; the next one may load.
    pub(crate) async fn release(self) {
        self.end(Duration::ZERO, &[]).await;
    }

    /// Gives it back after the source had no value, and that is not kept: then an entry that is there
    /// must not stay either.
    pub(crate) async fn release_without_value(self) {
        if self.have == Have::Nothing {
            return self.release().await;
        }
        if let Err(error) = self.store.invalidate(&self.keys).await {
            self.store.cannot_keep(&error);
        }
    }

    /// Gives it back after a load that failed: callers that have a stale value leave the source alone
    /// for a while, and callers that wait are told of the error.
    pub(crate) async fn fail(self, error: &Error) {
        let rest = match self.have {
            Have::Nothing => Duration::ZERO,
            Have::Stale | Have::Fresh | Have::Unwanted => self.store.settings.retry_after,
        };
        let raw = match (error, &self.store.errors) {
            (Error::Load(error), Some(codec)) => {
                let key = self.keys.entry.as_bytes();
                codec.encode(error, self.store.client.codec(), key)
            }
            _ => Bytes::new(),
        };
        self.end(rest, &raw).await;
    }

    async fn end(self, rest: Duration, error: &[u8]) {
        self.renewed.end();
        let released = self.store.release(&self.keys, self.token, rest, error);
        if let Err(error) = released.await {
            // It ends by itself.
            tracing::debug!(target: "redkit::cache", cache = %self.store.name, %error, "lease not released");
        }
    }
}

#[cfg(test)]
mod tests {
    use redkit_core::{Client, ClientConfig, Command, Value};
    use redkit_embedded::Embedded;

    use super::*;
    use crate::id::Id;
    use crate::names::Names;
    use crate::scripts::{Broadcast, LookUp, LookUpReply, Rejected};

    struct World {
        client: Client,
        names: Names,
        keys: EntryKeys,
    }

    impl World {
        fn new() -> Self {
            let engine = Arc::new(Embedded::new());
            let client = Client::from_backend(engine, &ClientConfig::default()).unwrap();
            let names = Names::new(&client, "numbers").unwrap();
            let keys = names.of_entry("k").unwrap();
            Self {
                client,
                names,
                keys,
            }
        }

        async fn run(&self, script: Invocation) -> Value {
            self.client.eval(script).await.unwrap()
        }

        fn look_up(&self, token: LeaseToken) -> Invocation {
            self.look_up_after(token, None, None)
        }

        fn look_up_after(
            &self,
            token: LeaseToken,
            unanswered: Option<LeaseToken>,
            awaited: Option<LeaseToken>,
        ) -> Invocation {
            let look_up = LookUp {
                keys: &self.keys,
                rejected: Rejected::None,
                have: Have::Nothing,
                awaited,
            };
            scripts::look_up(&look_up, token, unanswered, 60_000)
        }

        fn release(&self, token: LeaseToken, rest_ms: u64, error: &[u8]) -> Invocation {
            scripts::release(&self.keys, &self.names, token, rest_ms, error, 60_000)
        }

        fn begin_write(&self, token: LeaseToken) -> Invocation {
            self.begin_write_for(token, 60_000)
        }

        fn begin_write_for(&self, token: LeaseToken, lease_ms: u64) -> Invocation {
            let broadcast = Broadcast::No;
            scripts::begin_write(&self.keys, &self.names, token, lease_ms, broadcast, 60_000)
        }

        fn end_write(&self, ended: Option<LeaseToken>) -> Invocation {
            scripts::invalidate(&self.keys, &self.names, ended, None, Broadcast::No, 60_000)
        }

        async fn is_free(&self) -> bool {
            let reply = self.run(self.look_up(LeaseToken::new(0x99))).await;
            scripts::looked_up(reply).unwrap() == LookUpReply::Leased
        }

        async fn kind(&self) -> char {
            let get = Command::new("GET").key(&self.keys.lease);
            let lease: String = self.client.call(get).await.unwrap();
            lease.chars().next().unwrap()
        }
    }

    #[tokio::test]
    async fn a_repeated_call_does_not_forget_waiting_callers() {
        let (ours, theirs) = (LeaseToken::new(1), LeaseToken::new(2));
        for (begin, kind) in [
            (World::look_up as fn(&World, LeaseToken) -> Invocation, 'L'),
            (World::begin_write, 'W'),
        ] {
            let world = World::new();
            world.run(begin(&world, ours)).await;
            assert_eq!(world.kind().await, kind.to_ascii_lowercase());
            world.run(world.look_up(theirs)).await;
            assert_eq!(world.kind().await, kind, "a caller waits");
            world.run(begin(&world, ours)).await;
            assert_eq!(world.kind().await, kind, "and still does");
        }
    }

    #[tokio::test]
    async fn the_rest_of_a_source_is_not_renewed() {
        let world = World::new();
        let token = LeaseToken::new(1);
        world.run(world.look_up(token)).await;
        let renew = || scripts::renew(&world.keys.lease, token, 60_000);
        assert_eq!(world.run(renew()).await, Value::Int(1));
        world.run(world.release(token, 1000, &[])).await;
        assert_eq!(world.kind().await, 'c');
        assert_eq!(world.run(renew()).await, Value::Int(0));
        let ask = Command::new("PTTL").key(&world.keys.lease);
        let left: i64 = world.client.call(ask).await.unwrap();
        assert!(left <= 1000, "{left} ms");
    }

    #[tokio::test]
    async fn a_caller_that_waited_for_a_failed_load_gets_its_error_and_others_may_load() {
        let (ours, theirs, newcomer) = (LeaseToken::new(1), LeaseToken::new(2), LeaseToken::new(3));
        let error = b"\0 {\r\n";
        for rest_ms in [0, 60_000] {
            let world = World::new();
            world.run(world.look_up(ours)).await;
            let taken = scripts::looked_up(world.run(world.look_up(theirs)).await).unwrap();
            assert!(
                matches!(taken, LookUpReply::Taken(_, Some(by)) if by == ours),
                "{taken:?}"
            );
            world.run(world.release(ours, rest_ms, error)).await;
            // The message was lost, or is on its way.
            let after = world
                .run(world.look_up_after(theirs, None, Some(ours)))
                .await;
            let failed = LookUpReply::Failed(Bytes::from_static(error));
            assert_eq!(scripts::looked_up(after).unwrap(), failed);
            let after = world
                .run(world.look_up_after(newcomer, None, Some(theirs)))
                .await;
            assert_eq!(scripts::looked_up(after).unwrap(), LookUpReply::Leased);
        }
        let world = World::new();
        world.run(world.look_up(ours)).await;
        world.run(world.release(ours, 0, error)).await;
        let exists = Command::new("EXISTS").key(&world.keys.lease);
        let exists: bool = world.client.call(exists).await.unwrap();
        assert!(!exists, "no caller waits for it");
    }

    #[tokio::test]
    async fn a_look_up_that_arrives_late_takes_no_lease_for_a_load_that_lost_it() {
        let world = World::new();
        let (lost, asked) = (LeaseToken::new(1), LeaseToken::new(2));
        let ask = |token, unanswered| world.look_up_after(token, unanswered, None);
        // The first arrives, and its reply does not.
        world.run(ask(lost, None)).await;
        let leased = world.run(ask(asked, Some(lost))).await;
        assert_eq!(scripts::looked_up(leased).unwrap(), LookUpReply::Leased);
        let invalidate = world.end_write(None);
        world.run(invalidate).await;
        // It arrives once more.
        world.run(ask(lost, None)).await;
        let renewed = world.run(scripts::renew(&world.keys.lease, asked, 60_000));
        assert_eq!(renewed.await, Value::Int(0), "the load is not to be kept");
        for one in [ask(lost, None), world.begin_write(lost)] {
            assert!(!one.by_hash().is_idempotent(), "it is not repeated");
        }
    }

    #[tokio::test]
    async fn the_lease_of_contested_writes_ends_with_the_last_of_them() {
        let (a, b) = (LeaseToken::new(0x1), LeaseToken::new(0x12));
        let world = World::new();
        for (first, last) in [(a, b), (b, a)] {
            assert_eq!(world.run(world.begin_write(a)).await, Value::Int(1));
            // The second one's reply was lost, and it asks again.
            for _ in 0..2 {
                assert_eq!(world.run(world.begin_write(b)).await, Value::Int(0));
            }
            for ended in [None, Some(first), Some(first), None] {
                world.run(world.end_write(ended)).await;
                assert!(!world.is_free().await, "{ended:?}");
            }
            let waits = world.kind().await;
            assert_eq!(waits, 'W', "the reader will be woken");
            world.run(world.end_write(Some(last))).await;
            assert!(world.is_free().await);
            world.run(world.end_write(None)).await;
        }
        // After an invalidation a write's value is not kept, and readers do not load before the write has ended.
        world.run(world.begin_write(a)).await;
        world.run(world.end_write(None)).await;
        assert!(!world.is_free().await);
        assert_eq!(world.run(world.release(a, 0, &[])).await, Value::Int(0));
        world.run(world.end_write(Some(a))).await;
        assert!(world.is_free().await);
    }

    #[tokio::test]
    async fn the_removal_of_one_entry_leaves_another_with_its_lease_as_it_is() {
        let world = World::new();
        let load = LeaseToken::new(1);
        let put = async |text: &str| {
            let set = Command::new("SET").key(&world.keys.entry).arg(text);
            world.client.call::<()>(set).await.unwrap();
        };
        let get = async |key: &Key| -> Option<String> {
            let get = Command::new("GET").key(key);
            world.client.call(get).await.unwrap()
        };
        let remove = async |id| {
            let (only, broadcast) = (Some(Id::new(id)), Broadcast::WithinScript);
            let remove =
                scripts::invalidate(&world.keys, &world.names, None, only, broadcast, 60_000);
            world.run(remove).await
        };
        let lease = &world.keys.lease;
        for begin in [
            world.look_up(load),
            world.begin_write(load),
            world.begin_write(LeaseToken::new(2)),
        ] {
            world.run(begin).await;
            put("rk1 9f3c 1 60000 0 0 - v - -\n7").await;
            let before = get(lease).await;
            assert!(before.is_some());
            assert_eq!(remove(0x9f3).await, Value::Int(0));
            assert_eq!(get(lease).await, before);
            assert!(get(&world.keys.entry).await.is_some());
            let told = Command::new("EXISTS").key(&world.names.meta);
            let told: bool = world.client.call(told).await.unwrap();
            assert!(!told, "no other process is told");
            if before.is_some_and(|lease| lease.starts_with('l')) {
                put("").await;
                assert_eq!(remove(0x9f3c).await, Value::Int(0), "there is no entry");
                assert!(get(lease).await.is_some());
                world.run(world.end_write(None)).await;
            }
        }
        put("rk1 9f3c 1 60000 0 0 - v - -\n7").await;
        assert_eq!(remove(0x9f3c).await, Value::Int(1));
        assert!(get(&world.keys.entry).await.is_none());
        assert!(
            get(lease)
                .await
                .is_some_and(|it| it.starts_with("wcontested")),
            "writes that are under way are waited for"
        );
        world.run(world.end_write(Some(load))).await;
        world.run(world.end_write(Some(LeaseToken::new(2)))).await;
        world.run(world.look_up(load)).await;
        put("rk1 9f3c 1 60000 0 0 - v - -\n7").await;
        assert_eq!(remove(0x9f3c).await, Value::Int(1));
        assert!(get(lease).await.is_none(), "a load of before goes with it");
    }

    #[tokio::test(start_paused = true)]
    async fn a_contested_write_counts_for_its_own_time_only_which_is_renewed() {
        let world = World::new();
        let write = async |number, lease_ms| {
            let begin = world.begin_write_for(LeaseToken::new(number), lease_ms);
            world.run(begin).await;
        };
        let renew = async |number| {
            let token = LeaseToken::new(number);
            world
                .run(scripts::renew(&world.keys.lease, token, 1_000))
                .await
        };
        let pass = |ms| tokio::time::sleep(Duration::from_millis(ms));
        // The writer of this dies.
        write(1, 1_000).await;
        for number in 2..5 {
            pass(300).await;
            write(number, 1_000).await;
            assert!(!world.is_free().await);
            world
                .run(world.end_write(Some(LeaseToken::new(number))))
                .await;
            assert!(!world.is_free().await);
        }
        pass(300).await;
        assert!(world.is_free().await, "the dead one's time is over");
        world.run(world.end_write(None)).await;

        // A shorter lease of another process does not shorten the longer one, which is renewed.
        write(6, 1_000).await;
        write(7, 100).await;
        for _ in 0..3 {
            pass(700).await;
            assert!(!world.is_free().await);
            assert_eq!(renew(6).await, Value::Int(1));
            assert_eq!(renew(7).await, Value::Int(0), "this one had run out");
        }
        pass(1_100).await;
        assert!(world.is_free().await);
    }

    #[tokio::test]
    async fn a_hundred_writes_at_once_are_told_apart_and_more_are_waited_for_together() {
        let world = World::new();
        let tokens: Vec<_> = (1..=300).map(LeaseToken::new).collect();
        for token in &tokens {
            world.run(world.begin_write_for(*token, 600_000)).await;
        }
        let length = Command::new("STRLEN").key(&world.keys.lease);
        let length: u64 = world.client.call(length).await.unwrap();
        assert!(length < 2_500, "{length}");
        for token in tokens {
            world.run(world.end_write(Some(token))).await;
        }
        assert!(!world.is_free().await, "not all of them had a name");
    }

    #[tokio::test]
    async fn no_repeated_call_brings_a_generation_back() {
        let world = World::new();
        let (tag, generation) = (world.names.of_tag("t"), &world.names.generation);
        let get = async |key: &Key| -> String {
            let get = Command::new("GET").key(key);
            world.client.call(get).await.unwrap()
        };
        let open = || scripts::open_tag(&tag, 60_000);
        let repeated = open();
        world.run(repeated.clone()).await;
        let first = get(&tag).await;
        world.run(repeated.clone()).await;
        assert_eq!(get(&tag).await, first, "it is kept as long as it is there");
        let remove = Command::new("UNLINK").key(&tag);
        world.client.call::<i64>(remove).await.unwrap();
        tokio::time::sleep(Duration::from_millis(2)).await;
        world.run(repeated).await;
        assert_ne!(get(&tag).await, first);

        let clear = || scripts::clear(&world.names, Broadcast::No, 60_000);
        let repeated = clear();
        let mut seen = std::collections::HashSet::new();
        for call in [repeated.clone(), clear(), repeated.clone(), repeated] {
            tokio::time::sleep(Duration::from_millis(2)).await;
            world.run(call).await;
            let now = get(generation).await;
            assert!(
                Id::parse(&now).is_some_and(|id| id.to_string() == now),
                "{now}"
            );
            assert!(seen.insert(now));
        }
    }

    #[tokio::test]
    async fn the_lease_of_a_load_from_before_a_clearing_is_free() {
        let world = World::new();
        let load = |number, generation| LeaseToken {
            generation: Some(Id::new(generation)),
            ..LeaseToken::new(number)
        };
        let (old, same, new) = (load(1, 7), load(2, 7), load(3, 8));
        world.run(world.look_up(old)).await;
        let taken = scripts::looked_up(world.run(world.look_up(same)).await).unwrap();
        assert!(
            matches!(taken, LookUpReply::Taken(_, Some(by)) if by == old),
            "{taken:?}"
        );
        let leased = world.run(world.look_up(new)).await;
        assert_eq!(scripts::looked_up(leased).unwrap(), LookUpReply::Leased);
        assert_eq!(world.kind().await, 'L', "the waiting caller will be woken");
        let renewed = world.run(scripts::renew(&world.keys.lease, old, 60_000));
        assert_eq!(
            renewed.await,
            Value::Int(0),
            "the obsolete load has lost it"
        );
        // Whatever the generation, a write is waited for.
        world.run(world.begin_write(LeaseToken::new(4))).await;
        for token in [old, new] {
            let taken = scripts::looked_up(world.run(world.look_up(token)).await).unwrap();
            assert!(matches!(taken, LookUpReply::Taken(..)), "{taken:?}");
        }
    }
}
