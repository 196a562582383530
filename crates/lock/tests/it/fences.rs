//! Fences grow, whatever is lost, and storage that compares them takes no writes of older holders.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use redkit_core::Command;
use redkit_lock::{Error, Fence, FencedRegister};
use redkit_testkit::Fixture;

use crate::{key_of, manager};

fn now() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    u64::try_from(now.as_micros()).unwrap()
}

redkit_testkit::suite! {
    async fn every_holder_has_a_greater_fence(fixture: Fixture) {
        let locks = manager(&fixture.client);
        let mut last = Fence::new(0);
        for _ in 0..20 {
            let guard = locks.try_acquire("k").await.unwrap();
            assert!(guard.fence() > last);
            last = guard.fence();
            guard.extend().await.unwrap();
            assert_eq!(guard.fence(), last, "a renewal has no fence of its own");
            guard.release().await.unwrap();
        }
    }

    /// What a failover leaves that lost the last writes: an older state, or none.
    async fn fences_grow_though_the_server_lost_what_it_knew(fixture: Fixture) {
        let locks = manager(&fixture.client);
        let client = &fixture.client;
        let (lock, record) = (key_of(client, "k", ""), key_of(client, "k", ":fence"));
        let first = locks.try_acquire("k").await.unwrap().fence();
        crate::eventually("it is free", async || locks.inspect("k").await.unwrap().is_none()).await;
        let mut holders = vec![first];
        for lost in ["both", "the record goes back", "the record is damaged"] {
            let guard = locks.try_acquire("k").await.unwrap();
            holders.push(guard.fence());
            client.call::<i64>(Command::new("DEL").key(&lock)).await.unwrap();
            let change = match lost {
                "both" => Command::new("DEL").key(&record),
                "the record goes back" => Command::new("SET").key(&record).arg(first),
                _ => Command::new("SET").key(&record).arg("x"),
            };
            client.call::<redkit_core::Value>(change).await.unwrap();
            let next = locks.try_acquire("k").await.unwrap();
            assert!(next.fence() > guard.fence(), "{lost}");
            holders.push(next.fence());
            next.release().await.unwrap();
            assert!(!guard.release().await.unwrap());
        }
        assert!(holders.is_sorted_by(|one, two| one < two), "{holders:?}");
    }

    async fn a_fence_is_no_less_than_the_servers_time_and_outgrows_a_clock_that_went_back(fixture: Fixture) {
        let locks = manager(&fixture.client);
        let guard = locks.try_acquire("k").await.unwrap();
        let hour = 3_600_000_000;
        assert!(guard.fence().get() > now() - hour, "{:?}", guard.fence());
        guard.release().await.unwrap();
        // The clock was an hour ahead when the last holder came.
        let ahead = now() + hour;
        let set = Command::new("SET").key(key_of(&fixture.client, "k", ":fence")).arg(ahead);
        fixture.client.call::<()>(set).await.unwrap();
        let guard = locks.try_acquire("k").await.unwrap();
        assert_eq!(guard.fence().get(), ahead + 1);
    }

    async fn a_register_takes_no_writes_of_older_holders(fixture: Fixture) {
        let register = FencedRegister::new(&fixture.client, "stock").unwrap();
        assert!(register.read::<u32>("k").await.unwrap().is_none());
        let fence = Fence::new;
        register.write("k", fence(10), &1).await.unwrap();
        register.write("k", fence(10), &2).await.unwrap(); // the same holder
        for old in [0, 2, 9] {
            let error = register.write("k", fence(old), &3).await.unwrap_err();
            assert!(matches!(error, Error::Fenced { newer } if newer == fence(10)), "{error:?}");
            assert!(!error.is_retryable());
        }
        register.announce("k", fence(100)).await.unwrap();
        assert!(register.write("k", fence(99), &3).await.is_err());
        assert!(register.announce("k", fence(99)).await.is_err());
        let read = register.read::<u32>("k").await.unwrap().unwrap();
        assert_eq!((read.fence, read.value), (fence(100), 2));
        // Numbers beyond the 53 bits of Lua's.
        let large = (1 << 60) + 1;
        register.write("k", fence(large), &4).await.unwrap();
        assert!(register.write("k", fence(large - 1), &5).await.is_err());
        register.write("k", fence(u64::MAX), &6).await.unwrap();
        assert_eq!(register.read::<u32>("k").await.unwrap().unwrap().fence, fence(u64::MAX));
        assert!(matches!(register.write("", fence(1), &1).await, Err(Error::EmptyKey)));
    }

    async fn a_deleted_value_takes_no_writes_of_older_holders(fixture: Fixture) {
        let register = FencedRegister::new(&fixture.client, "stock").unwrap();
        let (fence, day) = (Fence::new, Duration::from_secs(86_400));
        let key = fixture.client.key("fenced:stock:{k}");
        let expires = async || -> i64 {
            fixture.client.call(Command::new("PTTL").key(&key)).await.unwrap()
        };
        register.write("k", fence(10), &1).await.unwrap();
        let error = register.delete("k", fence(9), day).await.unwrap_err();
        assert!(matches!(error, Error::Fenced { newer } if newer == fence(10)), "{error:?}");
        assert_eq!(register.read::<u32>("k").await.unwrap().unwrap().value, 1);
        register.delete("k", fence(11), day).await.unwrap();
        assert!(register.read::<u32>("k").await.unwrap().is_none());
        let left = expires().await;
        assert!((86_000_000..=86_400_000).contains(&left), "{left}");
        // Of a holder from before the deletion, and from before it was deleted at all.
        for old in [1, 10] {
            let error = register.write("k", fence(old), &2).await.unwrap_err();
            assert!(matches!(error, Error::Fenced { newer } if newer == fence(11)), "{error:?}");
        }
        // The holder that deleted it, and the next, may write; then it is kept for good.
        register.write("k", fence(11), &3).await.unwrap();
        assert_eq!(expires().await, -1);
        register.delete("k", fence(12), day).await.unwrap();
        register.announce("k", fence(13)).await.unwrap();
        assert_eq!(expires().await, -1);
        assert!(register.write("k", fence(12), &4).await.is_err());
        // Where nothing is, the fence is remembered all the same.
        register.delete("none", fence(5), day).await.unwrap();
        assert!(register.write("none", fence(4), &1).await.is_err());
        for time in [Duration::ZERO, Duration::from_millis(999), 400 * day] {
            let error = register.delete("k", fence(14), time).await.unwrap_err();
            assert!(error.to_string().contains("remember_for"), "{error}");
        }
    }

    #[paused]
    async fn the_fence_of_a_deleted_value_is_forgotten_after_its_time(fixture: Fixture) {
        let register = FencedRegister::new(&fixture.client, "stock").unwrap();
        register.write("k", Fence::new(10), &1).await.unwrap();
        register.delete("k", Fence::new(10), Duration::from_secs(60)).await.unwrap();
        tokio::time::sleep(Duration::from_secs(59)).await;
        assert!(register.write("k", Fence::new(9), &2).await.is_err());
        tokio::time::sleep(Duration::from_secs(2)).await;
        let key = fixture.client.key("fenced:stock:{k}");
        assert!(!crate::exists(&fixture.client, key).await, "nothing is left");
    }

    #[paused]
    async fn the_record_of_a_fence_runs_out_and_fences_go_on_with_the_clock(fixture: Fixture) {
        let locks = crate::builder(&fixture.client).fence_ttl(Duration::from_secs(60)).build().unwrap();
        let first = locks.try_acquire("k").await.unwrap();
        let fence = first.fence();
        first.release().await.unwrap();
        tokio::time::sleep(Duration::from_secs(61)).await;
        let record = key_of(&fixture.client, "k", ":fence");
        assert!(!crate::exists(&fixture.client, record).await);
        let next = locks.try_acquire("k").await.unwrap();
        assert!(next.fence().get() >= fence.get() + 61_000_000);
    }
}

#[tokio::test]
async fn a_register_is_read_at_the_master() {
    let backend = redkit_testkit::FaultyBackend::embedded();
    let register = FencedRegister::new(&backend.client(), "stock").unwrap();
    register.write("k", Fence::new(1), &1).await.unwrap();
    assert!(register.read::<u32>("k").await.unwrap().is_some());
    let reads = |seen: &Command| seen.name() == "HMGET";
    let reads: Vec<_> = backend.seen().into_iter().filter(reads).collect();
    assert!(!reads.is_empty() && reads.iter().all(Command::is_from_master));
}
