//! New ids: at sign-in, at a change of rights, among other requests.

use std::sync::Arc;
use std::time::Duration;

use redkit_session::{Error, OnLimit, SignIn};
use redkit_testkit::{FaultyBackend, Fixture, Gate, Injection, Rule};
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::{again, builder, patient_store, signed_in, store, text};

redkit_testkit::suite! {
    async fn a_sign_in_has_a_new_id_and_the_old_one_gains_nothing(fixture: Fixture) {
        let store = store(&fixture);
        let mut session = store.start().unwrap();
        session.insert("cart", &3).unwrap();
        session.commit().await.unwrap();
        let planted = text(&session);
        session.insert("theme", "dark").unwrap();
        session.sign_in(SignIn::new("user-7").device("Firefox")).await.unwrap();
        assert_ne!(text(&session), planted);

        let loaded = again(&store, &session).await.unwrap();
        assert_eq!(loaded.user(), Some("user-7"));
        assert_eq!(loaded.get::<u32>("cart").unwrap(), Some(3));
        assert_eq!(loaded.get::<String>("theme").unwrap().unwrap(), "dark");

        // Requests under way go on with what they had, and change nothing.
        let mut old = store.load(&planted).await.unwrap().unwrap();
        assert!(old.is_rotated());
        assert_eq!((old.user(), old.get::<u32>("cart").unwrap()), (None, Some(3)));
        old.insert("cart", &9).unwrap();
        assert!(matches!(old.commit().await, Err(Error::Rotated)));
        assert!(matches!(old.extend(Duration::from_secs(60)).await, Err(Error::Rotated)));
        assert!(old.ttl().await.unwrap() <= Duration::from_millis(10_001));
        let loaded = again(&store, &session).await.unwrap();
        assert_eq!(loaded.get::<u32>("cart").unwrap(), Some(3));
    }

    #[paused]
    async fn the_old_id_ends_with_its_grace(fixture: Fixture) {
        let store = store(&fixture);
        let mut session = signed_in(&store, "user-7").await;
        let old = text(&session);
        session.rotate().await.unwrap();
        tokio::time::advance(Duration::from_millis(9_998)).await;
        assert_eq!(store.load(&old).await.unwrap().unwrap().user(), Some("user-7"));
        tokio::time::advance(Duration::from_millis(5)).await;
        assert!(store.load(&old).await.unwrap().is_none());
        let listed = store.sessions_of("user-7").await.unwrap();
        assert_eq!(listed.len(), 1);
        assert_eq!(listed[0].handle, session.handle());
    }

    #[paused]
    async fn a_sign_out_by_an_id_whose_grace_is_over_ends_the_session(fixture: Fixture) {
        let store = store(&fixture);
        let mut session = signed_in(&store, "user-7").await;
        let mut old = again(&store, &session).await.unwrap();
        session.rotate().await.unwrap();
        tokio::time::advance(Duration::from_secs(100)).await;
        assert!(again(&store, &old).await.is_none());
        // It forgets the old id.
        assert_eq!(store.sessions_of("user-7").await.unwrap().len(), 1);
        assert!(again(&store, &session).await.is_some());
        assert!(old.delete().await.unwrap());
        assert!(again(&store, &session).await.is_none());
    }

    async fn a_change_before_the_rotation_is_not_lost(fixture: Fixture) {
        let store = store(&fixture);
        let mut session = store.create().await.unwrap();
        let mut other = again(&store, &session).await.unwrap();
        other.insert("from-another-request", &1).unwrap();
        other.commit().await.unwrap();
        session.insert("own", &2).unwrap();
        session.sign_in(SignIn::new("user-7")).await.unwrap();
        let loaded = again(&store, &session).await.unwrap();
        assert_eq!(loaded.get::<u32>("from-another-request").unwrap(), Some(1));
        assert_eq!(loaded.get::<u32>("own").unwrap(), Some(2));
        assert_eq!(store.sessions_of("user-7").await.unwrap().len(), 1);
    }

    async fn a_session_that_ended_is_not_rotated(fixture: Fixture) {
        let store = store(&fixture);
        let mut session = signed_in(&store, "user-7").await;
        store.revoke_all("user-7").await.unwrap();
        assert!(matches!(session.sign_in(SignIn::new("user-7")).await, Err(Error::Gone)));
        assert!(store.sessions_of("user-7").await.unwrap().is_empty());
    }

    async fn of_two_rotations_at_once_the_later_ends_no_session_for_itself(fixture: Fixture) {
        let store = builder(&fixture.client).max_sessions(1, OnLimit::EndOldest).build().unwrap();
        let session = signed_in(&store, "user-7").await;
        // Both requests have loaded the session before either gives it a new id.
        let mut earlier = again(&store, &session).await.unwrap();
        let mut later = again(&store, &session).await.unwrap();
        earlier.rotate().await.unwrap();
        assert!(matches!(later.rotate().await, Err(Error::Rotated)));
        let listed = store.sessions_of("user-7").await.unwrap();
        assert_eq!(listed.len(), 1);
        assert_eq!(listed[0].handle, earlier.handle());
        let live = again(&store, &earlier).await.unwrap();
        assert!(!live.is_rotated());
        assert_eq!(live.user(), Some("user-7"));
    }

    #[multi_thread]
    async fn of_many_rotations_at_once_one_session_is_live(fixture: Fixture) {
        let store = patient_store(&fixture).await;
        let session = signed_in(&store, "user-7").await;
        let id: Arc<str> = text(&session).into();
        let mut requests = JoinSet::new();
        for number in 0..100_u32 {
            let (store, id) = (store.clone(), Arc::clone(&id));
            requests.spawn(async move {
                let mut session = store.load(&id).await.unwrap()?;
                if number % 10 == 0 {
                    return session.rotate().await.ok().map(|()| text(&session));
                }
                session.insert(&format!("entry-{number}"), &number).unwrap();
                match session.commit().await {
                    Ok(()) | Err(Error::Rotated) => None,
                    Err(other) => panic!("{other}"),
                }
            });
        }
        let mut ids: Vec<String> = Vec::new();
        while let Some(request) = requests.join_next().await {
            ids.extend(request.unwrap());
        }
        // The tombstone's successors: rotations of the tombstone are refused.
        let listed = store.sessions_of("user-7").await.unwrap();
        assert_eq!((ids.len(), listed.len()), (1, 1), "{ids:?} {listed:?}");
        let session = store.load(&ids[0]).await.unwrap().unwrap();
        assert_eq!(session.handle(), listed[0].handle);
    }

    async fn another_user_gets_nothing_of_the_first(fixture: Fixture) {
        let store = store(&fixture);
        let mut session = signed_in(&store, "ann").await;
        session.insert("address", "1 High Street").unwrap();
        session.insert_for("sudo", &true, Duration::from_secs(300)).unwrap();
        session.commit().await.unwrap();
        session.insert("unsent", &1).unwrap();
        session.sign_in(SignIn::new("bob")).await.unwrap();
        assert!(!session.contains("address") && !session.contains("unsent"));
        let mut loaded = again(&store, &session).await.unwrap();
        assert_eq!(loaded.user(), Some("bob"));
        assert!(!loaded.contains("address") && !loaded.contains("sudo") && !loaded.contains("unsent"));
        loaded.insert("own", &1).unwrap();
        loaded.commit().await.unwrap();
        // The same user again keeps everything.
        loaded.sign_in(SignIn::new("bob")).await.unwrap();
        assert!(again(&store, &loaded).await.unwrap().contains("own"));
    }

    async fn whoever_ends_a_session_by_an_id_from_before_rotations_ends_it(fixture: Fixture) {
        let store = store(&fixture);
        for revokes in [false, true] {
            let mut session = signed_in(&store, "user-7").await;
            // Loaded before the session had another id.
            let mut old = again(&store, &session).await.unwrap();
            session.rotate().await.unwrap();
            session.rotate().await.unwrap();
            match revokes {
                true => assert!(store.revoke("user-7", &old.handle()).await.unwrap()),
                false => assert!(old.delete().await.unwrap()),
            }
            assert!(again(&store, &session).await.is_none());
            assert!(store.sessions_of("user-7").await.unwrap().is_empty());
            // And no grace is left.
            let mut session = signed_in(&store, "user-7").await;
            let old = text(&session);
            session.rotate().await.unwrap();
            match revokes {
                true => assert!(store.revoke("user-7", &session.handle()).await.unwrap()),
                false => assert!(session.delete().await.unwrap()),
            }
            assert!(store.load(&old).await.unwrap().is_none());
        }
        // An id from before a sign-in reaches no session of the user.
        let mut session = store.create().await.unwrap();
        let mut planted = again(&store, &session).await.unwrap();
        session.sign_in(SignIn::new("user-7")).await.unwrap();
        planted.delete().await.unwrap();
        assert!(again(&store, &session).await.is_some());
    }

    #[multi_thread]
    async fn of_many_sign_ins_of_one_session_at_once_one_stays_under_a_limit(fixture: Fixture) {
        let limited = builder(&patient_client(&fixture).await).max_sessions(1, OnLimit::EndOldest).build().unwrap();
        for round in 0..10 {
            let user = format!("user-{round}");
            // Anonymous in one round, signed in already in the next.
            let session = match round % 2 {
                0 => limited.create().await.unwrap(),
                _ => signed_in(&limited, &user).await,
            };
            let id: Arc<str> = text(&session).into();
            let mut requests = JoinSet::new();
            for _ in 0..8 {
                let (store, id, user) = (limited.clone(), Arc::clone(&id), user.clone());
                requests.spawn(async move {
                    let mut session = store.load(&id).await.unwrap()?;
                    match session.sign_in(SignIn::new(user)).await {
                        Ok(()) => Some(text(&session)),
                        Err(Error::Rotated) => None,
                        Err(other) => panic!("{other}"),
                    }
                });
            }
            let mut ids: Vec<String> = Vec::new();
            while let Some(request) = requests.join_next().await {
                ids.extend(request.unwrap());
            }
            let [id] = &ids[..] else { panic!("{ids:?}") };
            let live = limited.load(id).await.unwrap().unwrap();
            assert_eq!(live.user(), Some(&*user));
            assert_eq!(limited.sessions_of(&user).await.unwrap().len(), 1);
        }
    }
}

/// For many requests at once, on a machine that may be busy.
async fn patient_client(fixture: &Fixture) -> redkit_core::Client {
    let config = fixture.config().unwrap();
    let client = fixture
        .connect(config.command_timeout(Duration::from_secs(60)))
        .await
        .unwrap();
    client.breaker().force_closed();
    client
}

/// The last step of a rotation goes lost: the old id is left to its grace all the same, later.
#[tokio::test(start_paused = true)]
async fn an_old_id_whose_end_was_not_answered_ends_later() {
    for injection in [Injection::LoseRequest, Injection::LoseReply] {
        let backend = FaultyBackend::embedded();
        let store = builder(&backend.client())
            .rotation_grace(Duration::from_millis(12_345))
            .build()
            .unwrap();
        let mut session = signed_in(&store, "user-7").await;
        session.rotate().await.unwrap();
        let old = text(&session);
        backend.set(Rule::new(injection).on_part("12345000"));
        session.rotate().await.unwrap();
        assert_ne!(text(&session), old);
        tokio::time::sleep(Duration::from_secs(5)).await;
        backend.clear();
        tokio::time::sleep(Duration::from_secs(20)).await;
        assert!(store.load(&old).await.unwrap().is_none());
        assert_eq!(
            again(&store, &session).await.unwrap().user(),
            Some("user-7")
        );
    }
}

/// A client that disconnects during its sign-in: its request is dropped.
#[tokio::test(start_paused = true)]
async fn a_sign_in_that_is_dropped_leaves_no_session() {
    for step in 0..2 {
        let backend = FaultyBackend::embedded();
        let store = builder(&backend.client())
            .max_sessions(1, OnLimit::Refuse)
            .build()
            .unwrap();
        signed_in(&store, "user-7").await.delete().await.unwrap();
        let mut session = store.create().await.unwrap();
        session.sign_in(SignIn::new("warm")).await.unwrap();
        let mut session = store.create().await.unwrap();
        let hang = Rule::new(Injection::HangAfter).on_name("EVALSHA");
        backend.set(hang.skip(step).times(1));
        let signing_in = session.sign_in(SignIn::new("user-7"));
        let dropped = tokio::time::timeout(Duration::from_millis(500), signing_in).await;
        assert!(dropped.is_err());
        backend.clear();
        tokio::time::sleep(Duration::from_secs(5)).await;
        assert!(
            store.sessions_of("user-7").await.unwrap().is_empty(),
            "step {step}"
        );
        signed_in(&store, "user-7").await;
    }
}

/// Answers of rotations are lost, and the session has two branches: a sign-out by any of its ids ends both, and is
/// safe to repeat.
#[tokio::test(start_paused = true)]
async fn a_sign_out_ends_every_branch_of_a_session_at_once() {
    for signs_out_by in 0..4 {
        let backend = FaultyBackend::embedded();
        let store = builder(&backend.client())
            .rotation_grace(Duration::from_millis(12_345))
            .build()
            .unwrap();
        let mut first = signed_in(&store, "user-7").await;
        first.rotate().await.unwrap();
        let mut second = again(&store, &first).await.unwrap();
        let mut handles = vec![again(&store, &first).await.unwrap()];
        // The last steps of two rotations in a row do not reach Redis.
        backend.set(Rule::new(Injection::LoseRequest).on_part("12345000"));
        first.rotate().await.unwrap();
        handles.push(again(&store, &first).await.unwrap());
        first.rotate().await.unwrap();
        backend.clear();
        second.rotate().await.unwrap();
        handles.push(again(&store, &first).await.unwrap());
        handles.push(again(&store, &second).await.unwrap());

        // The first answer is lost.
        backend.set(Rule::new(Injection::LoseReply).on_name("EVALSHA").times(1));
        assert!(handles[signs_out_by].delete().await.is_err());
        handles[signs_out_by].delete().await.unwrap();
        for session in &handles {
            let loaded = again(&store, session).await;
            assert!(loaded.is_none(), "by {signs_out_by}");
        }
        tokio::time::sleep(Duration::from_secs(90)).await;
        for session in &handles {
            assert!(again(&store, session).await.is_none());
        }
        assert!(store.sessions_of("user-7").await.unwrap().is_empty());
    }
}

/// A session is revoked by its handle, the answer is lost, and it was rotated meanwhile.
#[tokio::test(start_paused = true)]
async fn a_revocation_that_is_asked_twice_ends_the_successor() {
    let backend = FaultyBackend::embedded();
    let store = builder(&backend.client()).build().unwrap();
    let mut session = signed_in(&store, "user-7").await;
    let handle = session.handle();
    session.rotate().await.unwrap();
    signed_in(&store, "user-8").await.delete().await.unwrap();
    backend.set(Rule::new(Injection::LoseReply).on_name("EVALSHA").times(1));
    assert!(store.revoke("user-7", &handle).await.is_err());
    assert!(store.revoke("user-7", &handle).await.unwrap());
    assert!(again(&store, &session).await.is_none());
}

/// The last step of a rotation arrives only when the session's grace would be over, and a sign-out came before it.
#[tokio::test(start_paused = true)]
async fn a_rotation_that_is_settled_late_does_not_outlive_a_sign_out() {
    for is_created in [false, true] {
        let backend = FaultyBackend::embedded();
        let store = builder(&backend.client())
            .rotation_grace(Duration::from_millis(1_234))
            .build()
            .unwrap();
        let mut session = signed_in(&store, "user-7").await;
        session.rotate().await.unwrap();
        let mut other = again(&store, &session).await.unwrap();
        let gate = Gate::closed();
        let held = Rule::new(Injection::HoldRequest(gate.clone())).on_name("EVALSHA");
        backend.set(held.skip(usize::from(is_created)).times(1));
        let rotation = tokio::spawn(async move {
            let outcome = session.rotate().await;
            (outcome, session)
        });
        gate.reached(1).await;
        other.delete().await.unwrap();
        assert!(store.sessions_of("user-7").await.unwrap().is_empty());
        // From here on the last step is lost, until long after the grace.
        backend.set(Rule::new(Injection::LoseRequest).on_part("1234000"));
        gate.open();
        let (_, session) = rotation.await.unwrap();
        tokio::time::sleep(Duration::from_secs(5)).await;
        assert!(again(&store, &session).await.is_none(), "{is_created}");
        assert!(store.sessions_of("user-7").await.unwrap().is_empty());
        backend.clear();
        tokio::time::sleep(Duration::from_secs(90)).await;
        assert!(again(&store, &session).await.is_none());
        assert!(store.sessions_of("user-7").await.unwrap().is_empty());
    }
}

/// The rotation of a request that loaded the session before all of the user's were revoked: not even for the time of
/// one step is there a session.
#[tokio::test(start_paused = true)]
async fn a_rotation_after_a_revocation_stores_nothing() {
    let backend = FaultyBackend::embedded();
    let store = builder(&backend.client()).build().unwrap();
    let mut session = signed_in(&store, "user-7").await;
    session.rotate().await.unwrap();
    store.revoke_all("user-7").await.unwrap();
    // A second step would wait here.
    let gate = Gate::closed();
    let held = Rule::new(Injection::HoldRequest(gate.clone())).on_name("EVALSHA");
    backend.set(held.skip(1).times(1));
    let rotated = timeout(Duration::from_secs(1), session.rotate()).await;
    assert!(matches!(rotated, Ok(Err(Error::Gone))), "{rotated:?}");
    backend.clear();
    assert!(store.sessions_of("user-7").await.unwrap().is_empty());
}

/// A request revokes the others while the rotation of another request is before its last step.
#[tokio::test(start_paused = true)]
async fn a_rotation_does_not_lose_a_session_that_a_revocation_spares() {
    let backend = FaultyBackend::embedded();
    let store = builder(&backend.client()).build().unwrap();
    let mut session = signed_in(&store, "user-7").await;
    session.rotate().await.unwrap();
    let elsewhere = signed_in(&store, "user-7").await;
    let spared = again(&store, &session).await.unwrap();
    let gate = Gate::closed();
    let held = Rule::new(Injection::HoldRequest(gate.clone())).on_name("EVALSHA");
    backend.set(held.skip(1).times(1));
    let rotation = tokio::spawn(async move {
        let outcome = session.rotate().await;
        (outcome, session)
    });
    gate.reached(1).await;
    spared.revoke_others().await.unwrap();
    gate.open();
    let (outcome, session) = rotation.await.unwrap();
    outcome.unwrap();
    assert!(again(&store, &session).await.is_some());
    assert!(again(&store, &elsewhere).await.is_none());
    assert_eq!(store.sessions_of("user-7").await.unwrap().len(), 1);
}

/// The same rotation, and its last step arrives after the user has ended all others.
#[tokio::test(start_paused = true)]
async fn a_rotation_that_is_settled_late_keeps_a_session_that_a_revocation_spared() {
    for injection in [Injection::LoseRequest, Injection::LoseReply] {
        let backend = FaultyBackend::embedded();
        let store = builder(&backend.client())
            .rotation_grace(Duration::from_millis(12_345))
            .build()
            .unwrap();
        let mut session = signed_in(&store, "user-7").await;
        session.rotate().await.unwrap();
        let old = text(&session);
        let other = signed_in(&store, "user-7").await;
        backend.set(Rule::new(injection).on_part("12345000"));
        session.rotate().await.unwrap();
        session.revoke_others().await.unwrap();
        tokio::time::sleep(Duration::from_secs(5)).await;
        // It is asked twice.
        backend.set(Rule::new(Injection::LoseReply).on_part("12345000").times(1));
        tokio::time::sleep(Duration::from_secs(20)).await;
        assert!(store.load(&old).await.unwrap().is_none());
        assert!(again(&store, &other).await.is_none());
        let live = again(&store, &session).await.unwrap();
        assert_eq!(live.user(), Some("user-7"));
        assert_eq!(store.sessions_of("user-7").await.unwrap().len(), 1);
    }
}

/// The session that is one too many has ended, and its answer does not come.
#[tokio::test(start_paused = true)]
async fn a_sign_in_that_is_dropped_in_its_last_step_leaves_no_session_without_a_holder() {
    let backend = FaultyBackend::embedded();
    let store = builder(&backend.client())
        .max_sessions(1, OnLimit::EndOldest)
        .build()
        .unwrap();
    for user in ["warm", "warm", "user-7"] {
        let mut session = store.create().await.unwrap();
        session.sign_in(SignIn::new(user)).await.unwrap();
    }
    let mut session = store.create().await.unwrap();
    let hang = Rule::new(Injection::HangAfter).on_name("EVALSHA");
    backend.set(hang.skip(2).times(1));
    let signing_in = session.sign_in(SignIn::new("user-7"));
    let dropped = timeout(Duration::from_millis(500), signing_in).await;
    assert!(dropped.is_err());
    backend.clear();
    tokio::time::sleep(Duration::from_secs(5)).await;
    let listed = store.sessions_of("user-7").await.unwrap();
    assert!(listed.is_empty(), "{}", listed.len());
}

/// The caller goes away while the last step is carried out, or one after it: the id that the client has goes on.
#[tokio::test(start_paused = true)]
async fn a_rotation_that_is_dropped_gives_the_old_id_back() {
    // The steps of a rotation under an index: note, store, look twice, leave the old id.
    for step in 0..5 {
        for is_sign_in in [false, true] {
            let backend = FaultyBackend::embedded();
            let store = builder(&backend.client()).build().unwrap();
            let sign_in = || SignIn::new("user-7").index("sid", "op-1");
            let mut session = store.start().unwrap();
            session.insert("cart", &3).unwrap();
            session.sign_in(sign_in()).await.unwrap();
            session.rotate().await.unwrap();
            tokio::time::sleep(Duration::from_millis(1)).await;
            let hang = Rule::new(Injection::HangAfter).on_name("EVALSHA");
            backend.set(hang.skip(step).times(1));
            let rotation = async {
                match is_sign_in {
                    true => session.sign_in(sign_in()).await,
                    false => session.rotate().await,
                }
            };
            let dropped = timeout(Duration::from_millis(500), rotation).await;
            assert!(dropped.is_err(), "{step}");
            backend.clear();
            let old = text(&session);
            tokio::time::sleep(Duration::from_secs(15)).await;
            let mut loaded = store.load(&old).await.unwrap().expect("the old id");
            assert_eq!(loaded.user(), Some("user-7"));
            assert_eq!(loaded.get::<u32>("cart").unwrap(), Some(3));
            assert_eq!(
                store.sessions_of("user-7").await.unwrap().len(),
                1,
                "{step}"
            );
            // Nothing is left of the time that its grace would have had.
            tokio::time::sleep(Duration::from_secs(1_000)).await;
            if is_sign_in {
                loaded.rotate().await.unwrap();
                let listed = store.sessions_of("user-7").await.unwrap();
                assert_eq!(listed.len(), 1, "{step}");
            } else {
                // Its index still has it, though another sign-in has forgotten there what is over.
                let mut other = store.start().unwrap();
                other.sign_in(sign_in()).await.unwrap();
                assert_eq!(store.revoke_indexed("sid", "op-1").await.unwrap(), 2);
                assert!(store.load(&old).await.unwrap().is_none(), "{step}");
            }
        }
    }
}

/// The same where the old session is a visitor's: it goes on as one.
#[tokio::test(start_paused = true)]
async fn a_sign_in_that_is_dropped_gives_the_visitor_the_old_id_back() {
    let backend = FaultyBackend::embedded();
    let store = builder(&backend.client()).build().unwrap();
    for user in ["warm", "user-7"] {
        let mut session = store.start().unwrap();
        session.insert("cart", &3).unwrap();
        session.commit().await.unwrap();
        let hang = Rule::new(Injection::HangAfter).on_name("EVALSHA");
        if user != "warm" {
            backend.set(hang.skip(1).times(1));
        }
        let signing_in = session.sign_in(SignIn::new(user));
        let done = timeout(Duration::from_millis(500), signing_in).await;
        assert_eq!(done.is_ok(), user == "warm");
        backend.clear();
        if user != "warm" {
            tokio::time::sleep(Duration::from_secs(15)).await;
            let mut loaded = again(&store, &session).await.expect("the old id");
            assert_eq!(
                (loaded.user(), loaded.get::<u32>("cart").unwrap()),
                (None, Some(3))
            );
            assert!(store.sessions_of(user).await.unwrap().is_empty());
            loaded.sign_in(SignIn::new(user)).await.unwrap();
            assert_eq!(store.sessions_of(user).await.unwrap().len(), 1);
        }
    }
}

/// A user who signs out while the rotation of another request is dropped stays signed out.
#[tokio::test(start_paused = true)]
async fn a_rotation_that_is_dropped_gives_back_no_session_that_has_ended() {
    for ends_all in [false, true] {
        let backend = FaultyBackend::embedded();
        let store = builder(&backend.client()).build().unwrap();
        let mut session = signed_in(&store, "user-7").await;
        session.rotate().await.unwrap();
        let mut other = again(&store, &session).await.unwrap();
        let hang = Rule::new(Injection::HangAfter).on_name("EVALSHA");
        backend.set(hang.skip(1).times(1));
        let old = text(&session);
        {
            let mut rotation = std::pin::pin!(session.rotate());
            assert!(
                timeout(Duration::from_millis(500), &mut rotation)
                    .await
                    .is_err()
            );
            match ends_all {
                true => store.revoke_all("user-7").await.unwrap(),
                false => assert!(other.delete().await.unwrap()),
            }
        }
        backend.clear();
        tokio::time::sleep(Duration::from_secs(15)).await;
        assert!(store.load(&old).await.unwrap().is_none());
        assert!(store.sessions_of("user-7").await.unwrap().is_empty());
    }
}
