//! A session that has two ids for a moment, the old one and the new one.

use std::sync::Arc;
use std::time::Duration;

use redkit_core::{ClientConfig, Command};
use redkit_embedded::Embedded;
use redkit_session::{OnLimit, Session, SessionDirectory, SignIn};
use redkit_testkit::{FaultyBackend, Gate, Injection, Rule};
use tokio::task::JoinHandle;
use tokio::time::sleep;

use crate::{again, builder, signed_in, text};

/// No other call has this time.
const GRACE: Duration = Duration::from_millis(12_346);
const IN_CALLS: &str = "12346000";

fn rotation_of(mut session: Session) -> JoinHandle<Session> {
    tokio::spawn(async move {
        session.rotate().await.unwrap();
        session
    })
}

#[tokio::test(start_paused = true)]
async fn a_session_that_is_being_rotated_counts_once_against_its_users_limit() {
    for on_limit in [OnLimit::EndOldest, OnLimit::Refuse] {
        let backend = FaultyBackend::embedded();
        let store = builder(&backend.client()).max_sessions(2, on_limit);
        let store = store.rotation_grace(GRACE).build().unwrap();
        let session = signed_in(&store, "user-7").await;
        let gate = Gate::closed();
        let held = Injection::HoldRequest(gate.clone());
        backend.set(Rule::new(held).on_part(IN_CALLS).times(1));
        let rotation = rotation_of(session);
        gate.reached(1).await;
        let elsewhere = signed_in(&store, "user-7").await;
        gate.open();
        let session = rotation.await.unwrap();
        for session in [&session, &elsewhere] {
            assert!(again(&store, session).await.is_some(), "{on_limit:?}");
        }
        assert_eq!(store.sessions_of("user-7").await.unwrap().len(), 2);
    }
}

#[tokio::test(start_paused = true)]
async fn a_session_that_is_being_rotated_ends_with_both_ids_when_its_user_has_too_many() {
    let backend = FaultyBackend::embedded();
    let store = builder(&backend.client()).max_sessions(1, OnLimit::EndOldest);
    let store = store.rotation_grace(GRACE).build().unwrap();
    let mut session = signed_in(&store, "user-7").await;
    let old = text(&session);
    let gate = Gate::closed();
    let held = Injection::HoldRequest(gate.clone());
    backend.set(Rule::new(held).on_part(IN_CALLS).times(1));
    let rotation = tokio::spawn(async move { (session.rotate().await, session) });
    gate.reached(1).await;
    let elsewhere = signed_in(&store, "user-7").await;
    gate.open();
    let (outcome, session) = rotation.await.unwrap();
    assert!(outcome.is_err());
    assert!(again(&store, &session).await.is_none());
    assert!(store.load(&old).await.unwrap().is_none());
    assert!(again(&store, &elsewhere).await.is_some());
}

/// The step was carried out, and when it is repeated the grace is over.
#[tokio::test(start_paused = true)]
async fn a_lost_reply_to_the_last_step_signs_nobody_out_however_short_the_grace_is() {
    let backend = FaultyBackend::embedded();
    // It repeats what has no answer.
    let client = backend.client_with(&ClientConfig::default());
    let store = builder(&client).rotation_grace(Duration::from_millis(2));
    let store = store.build().unwrap();
    let mut session = signed_in(&store, "user-7").await;
    session.rotate().await.unwrap();
    let gate = Gate::closed();
    let last_step = |injection| Rule::new(injection).on_part("2000").times(1);
    backend.set(last_step(Injection::LoseReply));
    backend.add(last_step(Injection::HoldRequest(gate.clone())));
    let rotation = rotation_of(session);
    gate.reached(1).await;
    sleep(Duration::from_millis(10)).await;
    gate.open();
    let session = rotation.await.unwrap();
    assert!(again(&store, &session).await.is_some());
}

#[tokio::test(start_paused = true)]
async fn a_revocation_of_the_others_before_the_new_id_is_stored_spares_a_session() {
    let backend = FaultyBackend::embedded();
    let store = builder(&backend.client()).build().unwrap();
    let mut session = signed_in(&store, "user-7").await;
    session.rotate().await.unwrap();
    let spared = again(&store, &session).await.unwrap();
    let gate = Gate::closed();
    backend.set(Rule::new(Injection::HoldRequest(gate.clone())).times(1));
    let rotation = rotation_of(session);
    gate.reached(1).await;
    spared.revoke_others().await.unwrap();
    gate.open();
    let session = rotation.await.unwrap();
    assert!(again(&store, &session).await.is_some());
}

/// The engine's clock stands at a whole millisecond, at which the old id is gone at once.
#[tokio::test(start_paused = true)]
async fn an_old_id_without_a_grace_leaves_no_key_for_ever() {
    let engine = Embedded::starting_at(Duration::from_secs(1_900_000_000));
    let backend = FaultyBackend::new(Arc::new(engine));
    let client = backend.client();
    let store = builder(&client).rotation_grace(Duration::ZERO);
    let store = store.build().unwrap();
    let mut session = signed_in(&store, "user-7").await;
    session.rotate().await.unwrap();
    let keys: Vec<String> = client.call(Command::new("KEYS").arg("*")).await.unwrap();
    for key in keys {
        let left: i64 = client.call(Command::new("PTTL").arg(&key)).await.unwrap();
        assert!(left > 0, "{key} {left}");
    }
}

#[tokio::test(start_paused = true)]
async fn an_administrator_ends_an_id_in_its_grace_that_another_users_sign_in_has_replaced() {
    let backend = FaultyBackend::embedded();
    let client = backend.client();
    let store = builder(&client).rotation_grace(GRACE).build().unwrap();
    let mut session = signed_in(&store, "ann").await;
    let old = text(&session);
    session.sign_in(SignIn::new("bob")).await.unwrap();
    assert!(store.load(&old).await.unwrap().is_some());
    let directory = SessionDirectory::new(&client, "web").unwrap();
    assert_eq!(directory.revoke_all("ann").await.unwrap(), 0);
    assert!(store.load(&old).await.unwrap().is_none());
    assert!(again(&store, &session).await.is_some());
}

#[tokio::test(start_paused = true)]
async fn an_administrator_ends_a_listed_session_that_has_had_another_id_since() {
    let backend = FaultyBackend::embedded();
    let client = backend.client();
    let store = builder(&client).rotation_grace(GRACE).build().unwrap();
    let mut session = signed_in(&store, "user-7").await;
    let directory = SessionDirectory::new(&client, "web").unwrap();
    let listed = directory.of_user("user-7").await.unwrap();
    session.rotate().await.unwrap();
    sleep(GRACE * 2).await;
    // Whatever looks at the user's sessions forgets the old id.
    assert_eq!(store.sessions_of("user-7").await.unwrap().len(), 1);
    assert!(directory.revoke(&listed[0]).await.unwrap());
    assert!(again(&store, &session).await.is_none());
}
