//! Idle and absolute timeouts, and entries that expire: to the millisecond, on a paused clock.

use std::time::Duration;

use redkit_core::Command;
use redkit_session::{Error, Lifetime, SignIn};
use redkit_testkit::Fixture;
use tokio::time::advance;

use crate::round_trips::keys_of;
use crate::{again, builder, signed_in, store};

const SECOND: Duration = Duration::from_secs(1);
const MILLI: Duration = Duration::from_millis(1);
const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3_600);

/// Keys expire in whole milliseconds.
fn is_close(actual: Duration, expected: Duration) -> bool {
    actual >= expected && actual < expected + MILLI
}

redkit_testkit::suite! {
    #[paused]
    async fn an_unused_session_ends_with_its_idle_timeout(fixture: Fixture) {
        let store = builder(&fixture.client).idle_timeout(10 * MINUTE).build().unwrap();
        let session = store.create().await.unwrap();
        // Loads within the granularity do not touch it.
        advance(MINUTE).await;
        assert!(again(&store, &session).await.is_some());
        advance(9 * MINUTE - 2 * MILLI).await;
        assert_eq!(session.ttl().await.unwrap().as_millis(), 2);
        advance(4 * MILLI).await;
        assert!(again(&store, &session).await.is_none());
    }

    #[paused]
    async fn a_used_session_lives_until_its_absolute_timeout(fixture: Fixture) {
        let store = builder(&fixture.client)
            .idle_timeout(10 * MINUTE)
            .absolute_timeout(HOUR)
            .build()
            .unwrap();
        let mut session = store.create().await.unwrap();
        for _ in 0..11 {
            advance(5 * MINUTE).await;
            assert!(again(&store, &session).await.is_some());
        }
        let left = session.ttl().await.unwrap();
        assert_eq!(left, session.extend(HOUR).await.unwrap());
        assert!(left <= 5 * MINUTE && left > 5 * MINUTE - 2 * MILLI, "{left:?}");
        // Nor does its key live any longer.
        for key in keys_of(&fixture).await {
            let kept: u64 = fixture.client.call(Command::new("PTTL").key(&key)).await.unwrap();
            assert!(kept <= 5 * 60_000 + 1, "{kept}");
        }
        advance(left - 2 * MILLI).await;
        let mut late = again(&store, &session).await.unwrap();
        advance(4 * MILLI).await;
        assert!(again(&store, &session).await.is_none());
        late.insert("a", &1).unwrap();
        assert!(matches!(late.commit().await, Err(Error::Gone)));
    }

    // The key's own expiry would do: this shows the check in the scripts, on which a key whose expiry was
    // lost depends.
    async fn the_absolute_timeout_holds_without_the_keys_expiry(fixture: Fixture) {
        let store = builder(&fixture.client)
            .idle_timeout(Duration::from_millis(300))
            .absolute_timeout(Duration::from_millis(300))
            .touch_granularity(Duration::ZERO)
            .build()
            .unwrap();
        let mut session = signed_in(&store, "user-7").await;
        let keys: Vec<redkit_core::Key> = crate::round_trips::keys_of(&fixture).await;
        for key in keys {
            let _: i64 = fixture.client.call(Command::new("PERSIST").key(&key)).await.unwrap();
        }
        tokio::time::sleep(Duration::from_millis(400)).await;
        session.insert("a", &1).unwrap();
        assert!(matches!(session.commit().await, Err(Error::Gone)));
        assert!(again(&store, &session).await.is_none());
    }

    async fn an_extension_and_a_load_give_a_lost_expiry_back(fixture: Fixture) {
        let store = store(&fixture);
        let mut session = signed_in(&store, "user-7").await;
        for extends in [true, false] {
            let keys: Vec<redkit_core::Key> = crate::round_trips::keys_of(&fixture).await;
            for key in keys {
                let _: i64 = fixture.client.call(Command::new("PERSIST").key(&key)).await.unwrap();
            }
            if extends {
                let left = session.extend(MINUTE).await.unwrap();
                assert!(left > 30 * MINUTE && left < 32 * MINUTE, "{left:?}");
            } else {
                again(&store, &session).await.unwrap();
            }
            let left = session.ttl().await.unwrap();
            assert!(left > 29 * MINUTE && left < 32 * MINUTE, "{left:?}");
            let keys = crate::round_trips::keys_of(&fixture).await;
            let key = keys.iter().find(|key| key.to_string().contains("}:session:")).unwrap();
            let ttl: i64 = fixture.client.call(Command::new("PTTL").key(key)).await.unwrap();
            assert!(ttl > 0, "{ttl}");
        }
    }

    #[paused]
    async fn entries_that_have_expired_need_no_room(fixture: Fixture) {
        let store = builder(&fixture.client).max_bytes(100).build().unwrap();
        let mut session = store.create().await.unwrap();
        session.insert_for("a", &"x".repeat(70), MINUTE).unwrap();
        session.commit().await.unwrap();
        let mut session = again(&store, &session).await.unwrap();
        tokio::time::advance(MINUTE / 2).await;
        session.insert("b", &"x".repeat(70)).unwrap();
        assert!(matches!(session.commit().await, Err(Error::TooLarge { .. })));
        tokio::time::advance(MINUTE).await;
        session.commit().await.unwrap();
        let mut session = again(&store, &session).await.unwrap();
        assert!(!session.contains("a") && session.contains("b"));
        session.insert("c", &"x".repeat(70)).unwrap();
        assert!(matches!(session.commit().await, Err(Error::TooLarge { .. })));
    }

    #[paused]
    async fn a_touch_is_throttled(fixture: Fixture) {
        let store = builder(&fixture.client)
            .idle_timeout(10 * MINUTE)
            .touch_granularity(MINUTE)
            .build()
            .unwrap();
        let session = signed_in(&store, "user-7").await;
        let seen = |store: redkit_session::SessionStore| async move {
            store.sessions_of("user-7").await.unwrap()[0].last_seen
        };
        let first = seen(store.clone()).await;
        advance(MINUTE - SECOND).await;
        again(&store, &session).await.unwrap();
        assert!(is_close(session.ttl().await.unwrap(), 9 * MINUTE + SECOND));
        assert_eq!(seen(store.clone()).await, first);
        advance(2 * SECOND).await;
        again(&store, &session).await.unwrap();
        assert!(is_close(session.ttl().await.unwrap(), 10 * MINUTE));
        assert_eq!(seen(store.clone()).await, first + MINUTE + SECOND);
        // Looking at the time left is no use.
        advance(5 * MINUTE).await;
        assert!(is_close(session.ttl().await.unwrap(), 5 * MINUTE));
    }

    #[paused]
    async fn a_remembered_device_has_timeouts_of_its_own(fixture: Fixture) {
        let store = builder(&fixture.client).build().unwrap();
        let mut remembered = store.start().unwrap();
        let month = 30 * 24 * HOUR;
        let sign_in = SignIn::new("user-7").lifetime(Lifetime::new(7 * 24 * HOUR, month));
        remembered.sign_in(sign_in).await.unwrap();
        let usual = signed_in(&store, "user-7").await;
        advance(9 * HOUR).await;
        assert!(again(&store, &usual).await.is_none());
        let loaded = again(&store, &remembered).await.unwrap();
        assert_eq!(loaded.ends_at().unwrap(), loaded.created_at().unwrap() + month);
        // Also after a rotation, which gains no time.
        let ends = remembered.ends_at();
        remembered.rotate().await.unwrap();
        assert_eq!(remembered.ends_at(), ends);
        assert_eq!(remembered.ttl().await.unwrap().as_secs(), 7 * 24 * 3_600);
    }

    #[paused]
    async fn an_entry_with_its_own_expiry_ends_before_the_session(fixture: Fixture) {
        let store = builder(&fixture.client).build().unwrap();
        let mut session = store.start().unwrap();
        session.insert_for("may-pay", &true, 5 * MINUTE).unwrap();
        session.insert("cart", &1).unwrap();
        session.commit().await.unwrap();
        advance(5 * MINUTE - MILLI).await;
        let loaded = again(&store, &session).await.unwrap();
        assert!(loaded.contains("may-pay"));
        advance(2 * MILLI).await;
        // Also in a handle that was loaded before.
        assert!(!loaded.contains("may-pay") && !session.contains("may-pay"));
        assert_eq!(loaded.get::<bool>("may-pay").unwrap(), None);
        let mut loaded = again(&store, &session).await.unwrap();
        assert!(!loaded.contains("may-pay") && loaded.contains("cart"));
        // The next load that touches the session takes it away.
        loaded.insert("cart", &2).unwrap();
        loaded.commit().await.unwrap();
        advance(2 * MINUTE).await;
        again(&store, &session).await.unwrap();
        assert_eq!(crate::round_trips::fields_of(&fixture).await, ["cart"]);
    }

    #[paused]
    async fn an_entry_keeps_its_expiry_through_a_rotation(fixture: Fixture) {
        let store = builder(&fixture.client).build().unwrap();
        let mut session = store.start().unwrap();
        session.insert_for("may-pay", &true, 5 * MINUTE).unwrap();
        session.commit().await.unwrap();
        advance(3 * MINUTE).await;
        session.sign_in(SignIn::new("user-7")).await.unwrap();
        advance(2 * MINUTE - SECOND).await;
        assert!(again(&store, &session).await.unwrap().contains("may-pay"));
        advance(2 * SECOND).await;
        assert!(!again(&store, &session).await.unwrap().contains("may-pay"));
    }

    #[paused]
    async fn nothing_is_left_of_sessions_that_ran_out(fixture: Fixture) {
        let store = builder(&fixture.client).build().unwrap();
        for number in 0..50 {
            signed_in(&store, &format!("user-{number}")).await;
        }
        assert!(!crate::round_trips::keys_of(&fixture).await.is_empty());
        advance(31 * MINUTE).await;
        assert_eq!(crate::round_trips::keys_of(&fixture).await, []);
    }
}
