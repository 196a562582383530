//! Requests that change one session at once.

use std::sync::Arc;
use std::time::Duration;

use redkit_session::{Error, SignIn};
use redkit_testkit::{FaultyBackend, Fixture, Injection, Rule};
use tokio::task::JoinSet;

use crate::{again, patient_store, signed_in, store, text};

redkit_testkit::suite! {
    #[multi_thread]
    async fn a_thousand_requests_that_change_different_entries_all_survive(fixture: Fixture) {
        let store = patient_store(&fixture).await;
        let session = store.create().await.unwrap();
        let id: Arc<str> = text(&session).into();
        let mut requests = JoinSet::new();
        for number in 0..1_000_u32 {
            let (store, id) = (store.clone(), Arc::clone(&id));
            requests.spawn(async move {
                let mut session = store.load(&id).await.unwrap().unwrap();
                session.insert(&format!("entry-{number}"), &number).unwrap();
                session.commit().await.unwrap();
            });
            // As many as a client has in flight.
            if requests.len() >= 100 {
                requests.join_next().await.unwrap().unwrap();
            }
        }
        while let Some(request) = requests.join_next().await {
            request.unwrap();
        }
        let session = store.load(&id).await.unwrap().unwrap();
        for number in 0..1_000_u32 {
            let entry = session.get::<u32>(&format!("entry-{number}")).unwrap();
            assert_eq!(entry, Some(number));
        }
        assert_eq!(session.revision(), Some(1_001));
    }

    async fn a_session_over_a_lowered_limit_can_shrink_and_sign_in(fixture: Fixture) {
        let of = |bytes| crate::builder(&fixture.client).max_bytes(bytes).build().unwrap();
        let (before, now) = (of(1_000), of(200));
        let mut session = before.start().unwrap();
        for name in ["a", "b", "c"] {
            session.insert(name, &"x".repeat(200)).unwrap();
        }
        session.commit().await.unwrap();
        let mut session = again(&now, &session).await.unwrap();
        session.insert("d", &1).unwrap();
        assert!(matches!(session.commit().await, Err(Error::TooLarge { limit: 200, .. })));
        session.remove("d");
        session.remove("a");
        session.commit().await.unwrap();
        // With no more than it has it goes to a user, and has a new id.
        session.sign_in(SignIn::new("user-7")).await.unwrap();
        session.rotate().await.unwrap();
        let mut session = again(&now, &session).await.unwrap();
        assert!(!session.contains("a") && session.contains("b") && session.contains("c"));
        session.insert("d", &1).unwrap();
        assert!(matches!(session.rotate().await, Err(Error::TooLarge { limit: 200, .. })));
        session.remove("b");
        session.remove("c");
        session.commit().await.unwrap();
        assert!(matches!(again(&now, &session).await.unwrap().get::<u32>("d"), Ok(Some(1))));
    }

    async fn the_last_commit_of_one_entry_counts(fixture: Fixture) {
        let store = store(&fixture);
        let mut one = store.create().await.unwrap();
        let mut other = again(&store, &one).await.unwrap();
        one.insert("theme", "dark").unwrap();
        other.insert("theme", "light").unwrap();
        one.commit().await.unwrap();
        other.commit().await.unwrap();
        let session = again(&store, &one).await.unwrap();
        assert_eq!(session.get::<String>("theme").unwrap().unwrap(), "light");
    }

    async fn a_commit_if_unchanged_refuses_another_revision(fixture: Fixture) {
        let store = store(&fixture);
        let mut one = store.create().await.unwrap();
        let mut other = again(&store, &one).await.unwrap();
        one.insert("credit", &5).unwrap();
        one.commit_if_unchanged().await.unwrap();
        other.insert("credit", &9).unwrap();
        let conflict = other.commit_if_unchanged().await;
        assert!(matches!(conflict, Err(Error::Conflict { revision: 2 })), "{conflict:?}");
        let mut fresh = again(&store, &one).await.unwrap();
        assert_eq!(fresh.get::<u32>("credit").unwrap(), Some(5));
        fresh.insert("credit", &9).unwrap();
        fresh.commit_if_unchanged().await.unwrap();
        assert_eq!(fresh.revision(), Some(3));
    }

    async fn a_session_over_its_size_is_refused_and_unchanged(fixture: Fixture) {
        let store = crate::builder(&fixture.client).max_bytes(100).build().unwrap();
        let mut session = store.create().await.unwrap();
        session.insert("a", &"x".repeat(60)).unwrap();
        session.commit().await.unwrap();
        session.insert("b", &"x".repeat(60)).unwrap();
        let refused = session.commit().await;
        assert!(matches!(refused, Err(Error::TooLarge { bytes: 126, limit: 100 })), "{refused:?}");
        let loaded = again(&store, &session).await.unwrap();
        assert!(loaded.contains("a") && !loaded.contains("b"));
        // What is replaced and what is removed make room.
        session.remove("a");
        session.commit().await.unwrap();
        session.insert("b", &"y".repeat(90)).unwrap();
        session.commit().await.unwrap();
        session.insert("b", &"z".repeat(95)).unwrap();
        session.commit().await.unwrap();
        let mut new = store.start().unwrap();
        new.insert("c", &"x".repeat(200)).unwrap();
        assert!(matches!(new.commit().await, Err(Error::TooLarge { .. })));
        assert!(matches!(
            new.sign_in(redkit_session::SignIn::new("u")).await,
            Err(Error::TooLarge { .. })
        ));
    }

    #[multi_thread]
    async fn a_commit_that_races_with_a_sign_out_never_revives(fixture: Fixture) {
        let store = patient_store(&fixture).await;
        for round in 0..40_u32 {
            let session = signed_in(&store, "racer").await;
            let id: Arc<str> = text(&session).into();
            let mut requests = JoinSet::new();
            for number in 0..8_u32 {
                let (store, id) = (store.clone(), Arc::clone(&id));
                requests.spawn(async move {
                    let Some(mut session) = store.load(&id).await.unwrap() else {
                        return;
                    };
                    if number == round % 8 {
                        session.delete().await.unwrap();
                        return;
                    }
                    session.insert("late", &number).unwrap();
                    match session.commit().await {
                        Ok(()) | Err(Error::Gone) => {}
                        Err(other) => panic!("{other}"),
                    }
                });
            }
            while let Some(request) = requests.join_next().await {
                request.unwrap();
            }
            assert!(store.load(&id).await.unwrap().is_none(), "revived in round {round}");
            assert!(store.sessions_of("racer").await.unwrap().is_empty());
            // Not even a part of one.
            let keys = crate::round_trips::keys_of(&fixture).await;
            assert!(!keys.iter().any(|key| key.to_string().contains("}:session:")), "{keys:?}");
        }
    }
}

/// The answer to the first commit is lost, and so is everything for a while: the next commit stores the session, and
/// nothing ends it later.
#[tokio::test(start_paused = true)]
async fn a_first_commit_that_was_lost_can_be_repeated() {
    for injection in [Injection::LoseRequest, Injection::LoseReply] {
        let backend = FaultyBackend::embedded();
        let store = crate::builder(&backend.client()).build().unwrap();
        signed_in(&store, "warm").await;
        let mut session = store.start().unwrap();
        session.insert("a", &1).unwrap();
        session.insert("b", &1).unwrap();
        session.insert("c", &1).unwrap();
        backend.set(Rule::new(injection));
        assert!(matches!(session.commit().await, Err(Error::Core(_))));
        backend.clear();
        // What has changed since is stored as well.
        session.insert("b", &2).unwrap();
        session.remove("c");
        session.commit().await.unwrap();
        assert!(!session.has_changes());
        tokio::time::sleep(Duration::from_secs(90)).await;
        let loaded = again(&store, &session).await.unwrap();
        assert_eq!(loaded.get::<u32>("a").unwrap(), Some(1));
        assert_eq!(loaded.get::<u32>("b").unwrap(), Some(2));
        assert!(!loaded.contains("c"));
    }
}

/// What a session has goes through a rotation under a lowered limit; entries that have expired since it was loaded make no
/// room for others.
#[tokio::test(start_paused = true)]
async fn entries_that_have_expired_do_not_raise_the_limit_of_a_rotation() {
    let client = FaultyBackend::embedded().client();
    let of = |bytes| crate::builder(&client).max_bytes(bytes).build().unwrap();
    let minute = Duration::from_secs(60);
    let mut session = of(1_000).start().unwrap();
    session.insert_for("a", &"x".repeat(300), minute).unwrap();
    session.commit().await.unwrap();
    let mut session = again(&of(200), &session).await.unwrap();
    tokio::time::advance(2 * minute).await;
    session.insert("b", &"x".repeat(250)).unwrap();
    let refused = session.rotate().await;
    assert!(
        matches!(refused, Err(Error::TooLarge { limit: 200, .. })),
        "{refused:?}"
    );
}
