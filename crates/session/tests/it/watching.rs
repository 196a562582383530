//! `Session::revoked`, for connections that outlive their request.

use std::time::Duration;

use redkit_session::{OnLimit, Session, SessionEnd, SignIn};
use redkit_testkit::{FaultyBackend, Fixture, Injection, Rule};
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout};

use crate::{again, builder, signed_in, store};

/// A watcher that stands.
async fn watch(session: &Session) -> JoinHandle<SessionEnd> {
    let watch = tokio::spawn(session.revoked());
    tokio::time::sleep(Duration::from_millis(700)).await;
    assert!(!watch.is_finished());
    watch
}

/// Far below the time after which a watcher asks by itself.
async fn end_of(watch: JoinHandle<SessionEnd>) -> SessionEnd {
    let end = timeout(Duration::from_secs(5), watch).await;
    end.expect("it was not woken").unwrap()
}

redkit_testkit::suite! {
    async fn every_way_to_end_a_session_wakes_its_watchers(fixture: Fixture) {
        let store = builder(&fixture.client)
            .revocation_bound(Duration::from_secs(600))
            .max_sessions(4, OnLimit::EndOldest)
            .build()
            .unwrap();
        let own = signed_in(&store, "user-7").await;
        // A sign-out, also with the id from before a rotation.
        let mut session = signed_in(&store, "user-7").await;
        let (one, two) = (watch(&session).await, tokio::spawn(own.revoked()));
        session.delete().await.unwrap();
        assert_eq!(end_of(one).await, SessionEnd::Ended);
        let mut session = signed_in(&store, "user-7").await;
        let mut old = again(&store, &session).await.unwrap();
        session.rotate().await.unwrap();
        let watched = watch(&session).await;
        old = again(&store, &old).await.unwrap();
        assert!(old.delete().await.unwrap());
        assert_eq!(end_of(watched).await, SessionEnd::Ended);
        assert!(again(&store, &session).await.is_none());
        // Revoked by its handle.
        let session = signed_in(&store, "user-7").await;
        let watched = watch(&session).await;
        assert!(store.revoke("user-7", &session.handle()).await.unwrap());
        assert_eq!(end_of(watched).await, SessionEnd::Ended);
        // Among the others.
        let session = signed_in(&store, "user-7").await;
        let watched = watch(&session).await;
        own.revoke_others().await.unwrap();
        assert_eq!(end_of(watched).await, SessionEnd::Ended);
        // By the limit: the oldest of five.
        let old = signed_in(&store, "user-8").await;
        let watched = watch(&old).await;
        for _ in 0..4 {
            signed_in(&store, "user-8").await;
        }
        assert_eq!(end_of(watched).await, SessionEnd::Ended);
        // Without a user.
        let mut anonymous = store.create().await.unwrap();
        let watched = watch(&anonymous).await;
        anonymous.delete().await.unwrap();
        assert_eq!(end_of(watched).await, SessionEnd::Ended);
        // With all of the user's; it outlived everything so far.
        assert!(!two.is_finished());
        store.revoke_all("user-7").await.unwrap();
        assert_eq!(end_of(two).await, SessionEnd::Ended);
    }

    async fn a_watcher_follows_a_rotation_of_the_same_user_only(fixture: Fixture) {
        let store = builder(&fixture.client)
            .revocation_bound(Duration::from_secs(600))
            .rotation_grace(Duration::from_secs(2))
            .build()
            .unwrap();
        let mut session = store.create().await.unwrap();
        let anonymous = watch(&session).await;
        session.sign_in(SignIn::new("user-7")).await.unwrap();
        assert_eq!(end_of(anonymous).await, SessionEnd::Replaced);
        let watched = watch(&session).await;
        session.rotate().await.unwrap();
        session.sign_in(SignIn::new("user-7")).await.unwrap();
        tokio::time::sleep(Duration::from_millis(2_500)).await;
        assert!(!watched.is_finished());
        session.sign_in(SignIn::new("user-8")).await.unwrap();
        assert_eq!(end_of(watched).await, SessionEnd::Replaced);
        let watched = watch(&session).await;
        session.delete().await.unwrap();
        assert_eq!(end_of(watched).await, SessionEnd::Ended);
    }

    async fn a_watcher_outlives_a_change_of_password(fixture: Fixture) {
        let store = store(&fixture);
        let mut session = signed_in(&store, "user-7").await;
        // The first of them to ask ends the old id, and the second one follows all the same.
        let (watched, second) = (watch(&session).await, watch(&session).await);
        session.rotate().await.unwrap();
        session.revoke_others().await.unwrap();
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert!(!watched.is_finished() && !second.is_finished());
        store.revoke_all("user-7").await.unwrap();
        assert_eq!(end_of(watched).await, SessionEnd::Ended);
        assert_eq!(end_of(second).await, SessionEnd::Ended);
    }

    #[paused]
    async fn a_watched_session_ends_by_its_idle_timeout(fixture: Fixture) {
        let store = store(&fixture);
        let session = signed_in(&store, "user-7").await;
        let begun = Instant::now();
        let watched = tokio::spawn(session.revoked());
        // A request comes after 20 minutes.
        tokio::time::sleep(Duration::from_secs(20 * 60)).await;
        again(&store, &session).await.unwrap();
        assert_eq!(watched.await.unwrap(), SessionEnd::Ended);
        let lived = begun.elapsed();
        let expected = Duration::from_secs(50 * 60);
        assert!(lived >= expected && lived < expected + Duration::from_secs(1), "{lived:?}");
    }

    #[paused]
    async fn a_session_that_is_not_stored_is_never_revoked(fixture: Fixture) {
        let session = store(&fixture).start().unwrap();
        let waited = timeout(Duration::from_secs(86_400), session.revoked()).await;
        assert!(waited.is_err());
    }
}

#[tokio::test(start_paused = true)]
async fn without_wake_ups_a_revocation_is_noticed_within_half_the_bound() {
    let backend = FaultyBackend::embedded();
    backend.add(Rule::new(Injection::NotSent).on_name("SUBSCRIBE"));
    let store = builder(&backend.client()).build().unwrap();
    let session = signed_in(&store, "user-7").await;
    backend.forget();
    let watched = tokio::spawn(session.revoked());
    tokio::time::sleep(Duration::from_secs(100)).await;
    // It asks within its bound, and not many times a second.
    let asked = backend.count("EVALSHA");
    assert!((7..=20).contains(&asked), "{asked}");
    assert!(!watched.is_finished());
    store.revoke_all("user-7").await.unwrap();
    let revoked = Instant::now();
    assert_eq!(watched.await.unwrap(), SessionEnd::Ended);
    assert!(
        revoked.elapsed() <= Duration::from_secs(15),
        "{:?}",
        revoked.elapsed()
    );
}

#[tokio::test(start_paused = true)]
async fn without_redis_a_watcher_ends_within_its_bound() {
    let backend = FaultyBackend::embedded();
    let store = builder(&backend.client()).build().unwrap();
    let session = signed_in(&store, "user-7").await;
    let watched = tokio::spawn(session.revoked());
    tokio::time::sleep(Duration::from_secs(100)).await;
    assert!(!watched.is_finished());
    // The last answer came at most half a bound before.
    backend.set(Rule::new(Injection::NotSent));
    let cut = Instant::now();
    assert_eq!(watched.await.unwrap(), SessionEnd::Unconfirmed);
    let waited = cut.elapsed();
    assert!(
        waited >= Duration::from_secs(15) && waited <= Duration::from_secs(30),
        "{waited:?}"
    );
}
