//! Sessions that are found by a name and a value, such as the `sid` of an identity provider.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use redkit_core::{Client, Command, Pattern};
use redkit_embedded::Embedded;
use redkit_session::{Error, OnLimit, Session, SessionStore, SignIn};
use redkit_testkit::{FaultyBackend, Fixture, Gate, Injection, Rule};

use crate::{again, builder, signed_in, store, text};

fn sign_in(sid: &str) -> SignIn {
    SignIn::new("user-7").index("sid", sid)
}

redkit_testkit::suite! {
    async fn a_back_channel_logout_ends_the_right_session(fixture: Fixture) {
        let store = store(&fixture);
        let (mut one, mut other) = (store.start().unwrap(), store.start().unwrap());
        one.sign_in(sign_in("op-1")).await.unwrap();
        other.sign_in(sign_in("op-2").index("tenant", "op-1")).await.unwrap();
        assert_eq!(store.revoke_indexed("sid", "op-3").await.unwrap(), 0);
        let watched = tokio::spawn(one.revoked());
        tokio::time::sleep(Duration::from_millis(700)).await;
        assert_eq!(store.revoke_indexed("sid", "op-1").await.unwrap(), 1);
        assert!(again(&store, &one).await.is_none());
        assert!(again(&store, &other).await.is_some());
        tokio::time::timeout(Duration::from_secs(5), watched).await.unwrap().unwrap();
        assert_eq!(store.revoke_indexed("sid", "op-1").await.unwrap(), 0);
        assert_eq!(store.revoke_indexed("tenant", "op-1").await.unwrap(), 1);
        assert!(again(&store, &other).await.is_none());
        // Nothing of the value is stored in clear.
        for key in crate::round_trips::keys_of(&fixture).await {
            assert!(!key.to_string().contains("op-"), "{key}");
        }
    }

    async fn an_index_goes_with_rotations_and_finds_the_old_id_too(fixture: Fixture) {
        let store = store(&fixture);
        let mut session = store.start().unwrap();
        session.sign_in(sign_in("op-1")).await.unwrap();
        let old = text(&session);
        session.rotate().await.unwrap();
        let mut session = again(&store, &session).await.unwrap();
        session.rotate().await.unwrap();
        assert!(store.load(&old).await.unwrap().is_some());
        store.revoke_indexed("sid", "op-1").await.unwrap();
        assert!(store.load(&old).await.unwrap().is_none());
        assert!(again(&store, &session).await.is_none());
        // A re-authentication without the index leaves it.
        let mut session = store.start().unwrap();
        session.sign_in(sign_in("op-9")).await.unwrap();
        session.sign_in(SignIn::new("user-7")).await.unwrap();
        store.revoke_indexed("sid", "op-9").await.unwrap();
        assert!(again(&store, &session).await.is_some());
    }

    async fn indexes_are_checked(fixture: Fixture) {
        let store = store(&fixture);
        let mut session = store.start().unwrap();
        let long = "x".repeat(1_025);
        for wrong in [
            SignIn::new("u").index("", "x"),
            SignIn::new("u").index("a\0b", "x"),
            SignIn::new("u").index("sid", ""),
            SignIn::new("u").index("sid", &long),
            SignIn::new("u").index(&long, "x"),
            (0..9).fold(SignIn::new("u"), |sign_in, _| sign_in.index("sid", "x")),
        ] {
            assert!(matches!(session.sign_in(wrong).await, Err(Error::Index)));
        }
        assert!(matches!(store.revoke_indexed("sid", "").await, Err(Error::Index)));
        assert!(!session.is_stored());
    }

    #[paused]
    async fn an_index_forgets_sessions_that_ran_out(fixture: Fixture) {
        let store = store(&fixture);
        for _ in 0..3 {
            let mut session = store.start().unwrap();
            session.sign_in(sign_in("op-1")).await.unwrap();
            tokio::time::advance(Duration::from_secs(9 * 60 * 60)).await;
        }
        let keys = crate::round_trips::keys_of(&fixture).await;
        let Some(index) = keys.iter().find(|key| key.to_string().ends_with(":indexed")) else {
            return assert!(keys.is_empty(), "{keys:?}");
        };
        let size: i64 = fixture.client.call(Command::new("HLEN").key(index)).await.unwrap();
        assert_eq!(size, 1);
    }
}

/// How many places there are in all indexes.
async fn places(client: &Client) -> usize {
    deadlines(client).await.len()
}

/// The places in all indexes, with their deadlines.
async fn deadlines(client: &Client) -> BTreeMap<(String, String), String> {
    let mut keys = client.scan(Pattern::all()).keys();
    let mut deadlines = BTreeMap::new();
    while let Some(key) = keys.next().await {
        let key = client.key(key.unwrap());
        if key.to_string().ends_with(":indexed") {
            let all = Command::new("HGETALL").key(&key);
            let all: BTreeMap<String, String> = client.call(all).await.unwrap();
            let of_index = |(place, deadline)| ((key.to_string(), place), deadline);
            deadlines.extend(all.into_iter().map(of_index));
        }
    }
    deadlines
}

/// A logout that comes at any point of a sign-in, in each of its steps.
#[tokio::test(start_paused = true)]
async fn a_logout_during_a_sign_in_leaves_no_session() {
    let mut gone = 0;
    for step in 0..8 {
        let backend = FaultyBackend::embedded();
        let store = builder(&backend.client()).build().unwrap();
        // The scripts are known before.
        let mut session = store.start().unwrap();
        session.sign_in(sign_in("warm")).await.unwrap();
        session.rotate().await.unwrap();
        store.revoke_indexed("sid", "warm").await.unwrap();
        tokio::time::sleep(Duration::from_millis(1)).await;

        let mut session = store.create().await.unwrap();
        let gate = Gate::closed();
        backend.set(
            Rule::new(Injection::HoldRequest(gate.clone()))
                .on_name("EVALSHA")
                .skip(step)
                .times(1),
        );
        let signing_in = tokio::spawn(async move {
            let outcome = session.sign_in(sign_in("op-1")).await;
            (outcome, session)
        });
        tokio::time::sleep(Duration::from_millis(100)).await;
        backend.clear();
        let began = signing_in.is_finished();
        let ended = store.revoke_indexed("sid", "op-1").await.unwrap();
        gate.open();
        let (outcome, session) = signing_in.await.unwrap();
        match outcome {
            Err(Error::Gone) => gone += 1,
            Err(other) => panic!("{other}"),
            Ok(()) => {
                let is_live = again(&store, &session).await.is_some();
                // Step 0 holds the note in the index itself: the logout came first.
                assert_eq!(is_live, step == 0, "step {step}, {began}, {ended}");
            }
        }
        let listed = store.sessions_of("user-7").await.unwrap();
        assert_eq!(listed.len(), usize::from(step == 0), "step {step}");
    }
    assert!(gone >= 1);
}

#[tokio::test(start_paused = true)]
async fn a_logout_that_was_interrupted_is_taken_up_again() {
    let backend = FaultyBackend::embedded();
    let store = builder(&backend.client()).build().unwrap();
    let mut session = store.start().unwrap();
    session.sign_in(sign_in("op-1")).await.unwrap();
    // The first step is done, the second is lost.
    store.revoke_indexed("sid", "warm").await.unwrap();
    backend.set(Rule::new(Injection::NotSent).on_name("EVALSHA").skip(1));
    assert!(store.revoke_indexed("sid", "op-1").await.is_err());
    backend.clear();
    assert!(again(&store, &session).await.is_some());
    assert_eq!(store.revoke_indexed("sid", "op-1").await.unwrap(), 1);
    assert!(again(&store, &session).await.is_none());
    drop(signed_in(&store, "user-7").await);
}

/// A rotation between the two steps of a logout: the new id was noted after the logout has read the index.
#[tokio::test(start_paused = true)]
async fn a_rotation_during_a_logout_leaves_no_session() {
    for signs_in in [false, true] {
        let backend = FaultyBackend::embedded();
        let store = builder(&backend.client()).build().unwrap();
        let mut session = store.start().unwrap();
        session.sign_in(sign_in("warm")).await.unwrap();
        session.rotate().await.unwrap();
        store.revoke_indexed("sid", "warm").await.unwrap();
        tokio::time::sleep(Duration::from_millis(1)).await;

        let mut session = store.start().unwrap();
        session.sign_in(sign_in("op-1")).await.unwrap();
        let gate = Gate::closed();
        let held = Rule::new(Injection::HoldRequest(gate.clone())).on_name("EVALSHA");
        backend.set(held.skip(1).times(1));
        let other = store.clone();
        let logout = tokio::spawn(async move { other.revoke_indexed("sid", "op-1").await });
        gate.reached(1).await;
        let rotated = match signs_in {
            true => session.sign_in(sign_in("op-1")).await,
            false => session.rotate().await,
        };
        assert!(matches!(rotated, Err(Error::Gone)), "{rotated:?}");
        gate.open();
        logout.await.unwrap().unwrap();
        assert!(again(&store, &session).await.is_none());
        assert!(store.sessions_of("user-7").await.unwrap().is_empty());
    }
}

/// A rotation whose last step hangs once it is carried out, and which is dropped when `meanwhile` is done.
async fn rotate_and_drop(
    backend: &Arc<FaultyBackend>,
    store: &SessionStore,
    session: &mut Session,
    meanwhile: impl Future<Output = ()>,
) {
    let mut warm = store.start().unwrap();
    warm.sign_in(sign_in("warm")).await.unwrap();
    warm.rotate().await.unwrap();
    warm.delete().await.unwrap();
    tokio::time::sleep(Duration::from_millis(1)).await;
    let hang = Rule::new(Injection::HangAfter).on_name("EVALSHA");
    // Before it: note, store, look twice.
    backend.set(hang.skip(4).times(1));
    {
        let mut rotation = std::pin::pin!(session.rotate());
        let pending = tokio::time::timeout(Duration::from_millis(500), &mut rotation).await;
        assert!(pending.is_err());
        meanwhile.await;
    }
    tokio::time::sleep(Duration::from_secs(15)).await;
    backend.clear();
}

/// What it gives back to a session that has ended meanwhile is no place in an index.
#[tokio::test(start_paused = true)]
async fn a_dropped_rotation_gives_no_place_to_a_session_that_has_ended() {
    let backend = FaultyBackend::embedded();
    let client = backend.client();
    let store = builder(&client).build().unwrap();
    let mut session = store.start().unwrap();
    session.sign_in(sign_in("op-1")).await.unwrap();
    let mut other = again(&store, &session).await.unwrap();
    let ends = async { assert!(other.delete().await.unwrap()) };
    rotate_and_drop(&backend, &store, &mut session, ends).await;
    assert_eq!(places(&client).await, 0);
}

/// The logout has marked the session, and got no further: what the rotation gives back is still marked.
#[tokio::test(start_paused = true)]
async fn a_dropped_rotation_undoes_no_logout_that_was_interrupted() {
    let backend = FaultyBackend::embedded();
    let store = builder(&backend.client()).build().unwrap();
    let mut session = store.start().unwrap();
    session.sign_in(sign_in("op-1")).await.unwrap();
    store.revoke_indexed("sid", "none").await.unwrap();
    let logout = async {
        backend.set(Rule::new(Injection::NotSent).on_name("EVALSHA").skip(1));
        assert!(store.revoke_indexed("sid", "op-1").await.is_err());
        backend.clear();
    };
    rotate_and_drop(&backend, &store, &mut session, logout).await;
    let mut given_back = again(&store, &session).await.unwrap();
    let rotated = given_back.rotate().await;
    assert!(matches!(rotated, Err(Error::Gone)), "{rotated:?}");
}

/// A rotation is dropped in each of its steps: note, store, look twice, leave the old id.
#[tokio::test(start_paused = true)]
async fn a_dropped_rotation_leaves_the_places_as_they_were() {
    for step in 0..5 {
        let backend = FaultyBackend::embedded();
        let client = backend.client();
        let store = builder(&client).build().unwrap();
        let mut warm = store.start().unwrap();
        warm.sign_in(sign_in("warm")).await.unwrap();
        warm.rotate().await.unwrap();
        warm.delete().await.unwrap();
        let mut session = store.start().unwrap();
        session.sign_in(sign_in("op-1")).await.unwrap();
        tokio::time::sleep(Duration::from_secs(1)).await;
        let before = deadlines(&client).await;
        let hang = Rule::new(Injection::HangAfter).on_name("EVALSHA");
        backend.set(hang.skip(step).times(1));
        let dropped = tokio::time::timeout(Duration::from_millis(500), session.rotate()).await;
        assert!(dropped.is_err());
        tokio::time::sleep(Duration::from_secs(15)).await;
        assert_eq!(deadlines(&client).await, before, "{step}");
    }
}

const GRACE: Duration = Duration::from_millis(12_345);

/// Whether a call has this grace, and whether it is of an index.
fn has_grace(command: &Command) -> (bool, bool) {
    let contains = |part: &str| {
        let is_in = |arg: &[u8]| String::from_utf8_lossy(arg).contains(part);
        command.iter().any(is_in)
    };
    (contains("12345000"), contains(":indexed"))
}

/// The index does not answer, and then its server is out of memory.
#[tokio::test(start_paused = true)]
async fn a_rotation_does_not_wait_until_the_place_of_the_old_id_is_to_end_with_its_grace() {
    let engine = Arc::new(Embedded::new());
    let backend = FaultyBackend::new(engine.clone());
    let client = backend.client();
    let store = builder(&client).rotation_grace(GRACE).build().unwrap();
    let mut session = store.start().unwrap();
    session.sign_in(sign_in("op-1")).await.unwrap();
    let before = deadlines(&client).await;
    let hang = Rule::new(Injection::HangBefore).on(|command| has_grace(command) == (true, true));
    backend.set(hang.times(1));
    let rotation = tokio::time::timeout(Duration::from_millis(500), session.rotate());
    rotation.await.expect("no step that hangs").unwrap();
    tokio::time::sleep(Duration::from_secs(1)).await;
    engine.set_full(true);
    tokio::time::sleep(Duration::from_secs(5)).await;
    let after = deadlines(&client).await;
    assert_eq!(after.len(), 2);
    for (place, deadline) in &before {
        assert_ne!(after.get(place), Some(deadline), "it ends with the grace");
    }
}

/// The old id's place is to end with its grace, and that arrives after a logout that got no further than its marks.
#[tokio::test(start_paused = true)]
async fn the_end_of_a_place_with_its_grace_undoes_no_logout_that_was_interrupted() {
    let backend = FaultyBackend::embedded();
    let client = backend.client();
    let store = builder(&client).rotation_grace(GRACE).build().unwrap();
    store.revoke_indexed("sid", "none").await.unwrap();
    let mut session = store.start().unwrap();
    session.sign_in(sign_in("op-1")).await.unwrap();
    let hang = Rule::new(Injection::HangBefore).on(|command| has_grace(command) == (true, true));
    backend.set(hang.times(1));
    session.rotate().await.unwrap();
    tokio::time::sleep(Duration::from_secs(1)).await;
    backend.set(Rule::new(Injection::NotSent).on_name("EVALSHA").skip(1));
    assert!(store.revoke_indexed("sid", "op-1").await.is_err());
    backend.clear();
    backend.forget();
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert_eq!(backend.count("present"), 1);
    let marks: Vec<String> = deadlines(&client).await.into_values().collect();
    assert_eq!(marks, ["!", "!"]);
}

/// The last step of a rotation is lost for longer than the grace, and another sign-in prunes the index.
#[tokio::test(start_paused = true)]
async fn an_index_finds_an_old_id_that_is_not_left_to_its_grace_yet() {
    let backend = FaultyBackend::embedded();
    let store = builder(&backend.client()).rotation_grace(GRACE);
    let store = store.build().unwrap();
    let mut session = store.start().unwrap();
    session.sign_in(sign_in("op-1")).await.unwrap();
    let old = text(&session);
    let lose = Rule::new(Injection::LoseRequest);
    backend.set(lose.on(|command| has_grace(command) == (true, false)));
    session.rotate().await.unwrap();
    tokio::time::sleep(Duration::from_secs(20)).await;
    let mut other = store.start().unwrap();
    other.sign_in(sign_in("op-1")).await.unwrap();
    assert!(!store.load(&old).await.unwrap().unwrap().is_rotated());
    assert_eq!(store.revoke_indexed("sid", "op-1").await.unwrap(), 3);
    assert!(store.load(&old).await.unwrap().is_none());
    assert!(again(&store, &session).await.is_none());
}

#[tokio::test(start_paused = true)]
async fn an_index_holds_one_place_for_each_session() {
    let backend = FaultyBackend::embedded();
    let client = backend.client();
    let store = builder(&client).build().unwrap();
    let mut session = store.start().unwrap();
    session.sign_in(sign_in("op-1")).await.unwrap();
    for _ in 0..20 {
        tokio::time::advance(Duration::from_secs(60)).await;
        session.rotate().await.unwrap();
    }
    // The last old id is in its grace, and the one before is pruned by the next rotation.
    assert!(places(&client).await <= 3, "{}", places(&client).await);
    session.delete().await.unwrap();
    assert!(places(&client).await <= 2, "{}", places(&client).await);
}

#[tokio::test(start_paused = true)]
async fn sign_ins_that_are_refused_fill_no_index() {
    let backend = FaultyBackend::embedded();
    let client = backend.client();
    let store = builder(&client)
        .max_sessions(1, OnLimit::Refuse)
        .build()
        .unwrap();
    let mut session = store.start().unwrap();
    session.sign_in(sign_in("op-1")).await.unwrap();
    let mut other = store.start().unwrap();
    for _ in 0..1_000 {
        let refused = other.sign_in(sign_in("op-1")).await;
        assert!(
            matches!(refused, Err(Error::TooManySessions { .. })),
            "{refused:?}"
        );
    }
    assert_eq!(places(&client).await, 1);
    session.delete().await.unwrap();
    other.sign_in(sign_in("op-1")).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn whatever_ends_a_session_takes_it_out_of_its_indexes() {
    for way in 0..6 {
        let backend = FaultyBackend::embedded();
        let client = backend.client();
        let store = builder(&client)
            .max_sessions(1, OnLimit::EndOldest)
            .max_bytes(100);
        let store = store.build().unwrap();
        for _ in 0..2 {
            let mut warm = store.create().await.unwrap();
            warm.sign_in(SignIn::new("warm").index("sid", "warm"))
                .await
                .unwrap();
            warm.rotate().await.unwrap();
        }
        store.revoke_indexed("sid", "warm").await.unwrap();
        tokio::time::sleep(Duration::from_millis(1)).await;
        let mut session = store.start().unwrap();
        let mut other = store.create().await.unwrap();
        session
            .sign_in(sign_in("op-1").index("tenant", "t"))
            .await
            .unwrap();
        assert_eq!(places(&client).await, 2);
        match way {
            0 => assert!(store.revoke("user-7", &session.handle()).await.unwrap()),
            1 => {
                let mut old = again(&store, &session).await.unwrap();
                session.rotate().await.unwrap();
                assert!(old.delete().await.unwrap());
            }
            // It is one too many.
            2 => other.sign_in(SignIn::new("user-7")).await.unwrap(),
            3 => assert_eq!(store.revoke_indexed("sid", "op-1").await.unwrap(), 1),
            4 => {
                session.delete().await.unwrap();
                let hang = Rule::new(Injection::HangAfter).on_name("EVALSHA");
                backend.set(hang.skip(1).times(1));
                let signing_in = other.sign_in(sign_in("op-1"));
                let dropped = tokio::time::timeout(Duration::from_millis(500), signing_in);
                assert!(dropped.await.is_err());
                tokio::time::sleep(Duration::from_secs(5)).await;
            }
            _ => {
                session.delete().await.unwrap();
                other.insert("large", &"x".repeat(100)).unwrap();
                let refused = other.sign_in(sign_in("op-1")).await;
                assert!(
                    matches!(refused, Err(Error::TooLarge { .. })),
                    "{refused:?}"
                );
            }
        }
        assert_eq!(places(&client).await, 0, "way {way}");
    }
}

/// Another request changes the session between the steps, and the rotation begins anew with another id.
#[tokio::test(start_paused = true)]
async fn a_rotation_that_begins_anew_leaves_no_place_of_its_first_id() {
    let backend = FaultyBackend::embedded();
    let client = backend.client();
    let store = builder(&client).build().unwrap();
    let mut session = store.start().unwrap();
    session.sign_in(sign_in("op-1")).await.unwrap();
    let mut other = again(&store, &session).await.unwrap();
    other.insert("a", &1).unwrap();
    other.commit().await.unwrap();
    session.rotate().await.unwrap();
    assert!(again(&store, &session).await.unwrap().contains("a"));
    // Its own, and that of the old id in its grace.
    assert_eq!(places(&client).await, 2);
}
