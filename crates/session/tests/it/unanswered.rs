//! Sign-ins and rotations whose last step has no answer at first.

use std::time::Duration;

use redkit_core::ClientConfig;
use redkit_core::breaker::BreakerConfig;
use redkit_session::{Error, OnLimit, Session, SessionStore, SignIn};
use redkit_testkit::{FaultyBackend, Gate, Injection, Rule};
use tokio::task::JoinHandle;
use tokio::time::{advance, sleep};

use crate::{again, builder, signed_in, text};

/// No other call has this time.
const GRACE: Duration = Duration::from_millis(12_345);
const IN_CALLS: &str = "12345000";

fn rotation_of(
    mut session: Session,
    sign_in: Option<SignIn>,
) -> JoinHandle<(Result<(), Error>, Session)> {
    tokio::spawn(async move {
        let outcome = match sign_in {
            Some(sign_in) => session.sign_in(sign_in).await,
            None => session.rotate().await,
        };
        (outcome, session)
    })
}

/// The last step is lost, and its repetition waits at the gate.
fn lose_the_last_step(backend: &FaultyBackend) -> Gate {
    let gate = Gate::closed();
    let last_step = |injection| Rule::new(injection).on_part(IN_CALLS).times(1);
    backend.set(last_step(Injection::LoseRequest));
    backend.add(last_step(Injection::HoldRequest(gate.clone())));
    gate
}

fn store(backend: &std::sync::Arc<FaultyBackend>) -> SessionStore {
    let store = builder(&backend.client()).rotation_grace(GRACE);
    store.build().unwrap()
}

/// Another request commits after the copy was made.
#[tokio::test(start_paused = true)]
async fn a_change_before_a_last_step_that_is_repeated_is_not_lost() {
    for (was_signed_in, signs_in) in [(false, true), (true, true), (true, false)] {
        let backend = FaultyBackend::embedded();
        let store = store(&backend);
        signed_in(&store, "warm").await.rotate().await.unwrap();
        let session = match was_signed_in {
            true => signed_in(&store, "user-7").await,
            false => store.create().await.unwrap(),
        };
        let old = text(&session);
        let mut other = again(&store, &session).await.unwrap();
        let gate = lose_the_last_step(&backend);
        let rotation = rotation_of(session, signs_in.then(|| SignIn::new("user-7")));
        gate.reached(1).await;
        other.insert("from-another-request", &1).unwrap();
        other.commit().await.unwrap();
        gate.open();
        let (outcome, session) = rotation.await.unwrap();
        outcome.unwrap();
        let case = format!("{was_signed_in}, {signs_in}");
        for session in [&session, &again(&store, &session).await.unwrap()] {
            let copied = session.get::<u32>("from-another-request").unwrap();
            assert_eq!(
                (session.user(), copied),
                (Some("user-7"), Some(1)),
                "{case}"
            );
        }
        assert!(store.load(&old).await.unwrap().unwrap().is_rotated());
        // Nothing is left of the first attempt.
        sleep(Duration::from_secs(90)).await;
        let listed = store.sessions_of("user-7").await.unwrap();
        assert_eq!(listed.len(), 1, "{case}");
        assert_eq!(listed[0].handle, session.handle(), "{case}");
    }
}

/// Another request ends all others after the copy was made: the session goes on under its new id.
#[tokio::test(start_paused = true)]
async fn a_last_step_that_is_repeated_loses_no_session_that_a_revocation_spares() {
    let backend = FaultyBackend::embedded();
    let store = store(&backend);
    let mut session = signed_in(&store, "user-7").await;
    session.rotate().await.unwrap();
    let elsewhere = signed_in(&store, "user-7").await;
    let spared = again(&store, &session).await.unwrap();
    let gate = lose_the_last_step(&backend);
    let rotation = rotation_of(session, None);
    gate.reached(1).await;
    spared.revoke_others().await.unwrap();
    gate.open();
    let (outcome, session) = rotation.await.unwrap();
    outcome.unwrap();
    assert!(again(&store, &session).await.is_some());
    assert!(again(&store, &elsewhere).await.is_none());
    assert_eq!(store.sessions_of("user-7").await.unwrap().len(), 1);
}

/// The last step does not reach Redis, and the step after it takes almost as long as the old id is worth telling of.
#[tokio::test(start_paused = true)]
async fn the_minute_for_an_old_id_begins_when_the_caller_has_the_new_one() {
    let backend = FaultyBackend::embedded();
    let mut breaker = BreakerConfig::default();
    breaker.enabled = false;
    let config = ClientConfig::default()
        .breaker(breaker)
        .retry(1, Duration::ZERO, Duration::ZERO)
        .command_timeout(Duration::from_secs(50));
    let store = builder(&backend.client_with(&config)).max_sessions(1, OnLimit::EndOldest);
    let store = store.rotation_grace(GRACE).build().unwrap();
    let elsewhere = signed_in(&store, "user-7").await;
    let mut session = store.create().await.unwrap();
    let old = text(&session);
    let lose = Rule::new(Injection::LoseRequest).on_part(IN_CALLS);
    backend.set(lose.alone());
    // The sign-in stores the new session, and then ends the one elsewhere.
    let hang = Rule::new(Injection::HangBefore).on_name("EVALSHA");
    backend.add(hang.skip(1).times(1));
    let began = tokio::time::Instant::now();
    session.sign_in(SignIn::new("user-7")).await.unwrap();
    assert!(began.elapsed() >= Duration::from_secs(50));
    sleep(Duration::from_secs(30)).await;
    assert!(again(&store, &elsewhere).await.is_none());
    assert!(!store.load(&old).await.unwrap().unwrap().is_rotated());
    backend.clear();
    sleep(Duration::from_secs(5)).await;
    assert!(store.load(&old).await.unwrap().unwrap().is_rotated());
    assert_eq!(store.sessions_of("user-7").await.unwrap().len(), 1);
}

/// The last step and its repetition are lost, until the rules of the backend are cleared.
async fn rotate_unanswered(backend: &FaultyBackend, session: &mut Session) {
    backend.set(Rule::new(Injection::LoseRequest).on_part(IN_CALLS));
    session.rotate().await.unwrap();
}

/// A request with the old id ends all others before Redis can be told that the session has another.
#[tokio::test(start_paused = true)]
async fn a_session_that_a_revocation_spared_under_its_old_id_goes_on_under_the_new_one() {
    let backend = FaultyBackend::embedded();
    let store = store(&backend);
    let mut session = signed_in(&store, "user-7").await;
    let elsewhere = signed_in(&store, "user-7").await;
    let under_way = again(&store, &session).await.unwrap();
    rotate_unanswered(&backend, &mut session).await;
    under_way.revoke_others().await.unwrap();
    // A list forgets what is revoked.
    assert_eq!(store.sessions_of("user-7").await.unwrap().len(), 1);
    backend.clear();
    sleep(Duration::from_secs(5)).await;
    assert!(again(&store, &under_way).await.unwrap().is_rotated());
    assert!(again(&store, &elsewhere).await.is_none());
    let live = again(&store, &session).await.expect("the new id");
    assert_eq!(live.user(), Some("user-7"));
    let listed = store.sessions_of("user-7").await.unwrap();
    assert_eq!(listed.len(), 1);
    assert_eq!(listed[0].handle, session.handle());
}

/// The same, and the new id is used before: the old one ends with its grace, and is not left to a holder of none.
#[tokio::test(start_paused = true)]
async fn an_old_id_ends_with_its_grace_though_the_new_one_has_ended() {
    let backend = FaultyBackend::embedded();
    let store = store(&backend);
    let mut session = signed_in(&store, "user-7").await;
    let under_way = again(&store, &session).await.unwrap();
    rotate_unanswered(&backend, &mut session).await;
    under_way.revoke_others().await.unwrap();
    assert!(again(&store, &session).await.is_none());
    backend.clear();
    sleep(Duration::from_secs(5)).await;
    assert!(again(&store, &under_way).await.unwrap().is_rotated());
    sleep(GRACE).await;
    assert!(again(&store, &under_way).await.is_none());
    assert!(store.sessions_of("user-7").await.unwrap().is_empty());
}

/// The user is asked for the password again just before the session has to end.
#[tokio::test(start_paused = true)]
async fn a_session_outlives_the_absolute_deadline_of_an_old_id_that_was_not_answered() {
    let backend = FaultyBackend::embedded();
    let hour = Duration::from_secs(3_600);
    let store = builder(&backend.client()).rotation_grace(GRACE);
    let store = store.idle_timeout(hour).absolute_timeout(hour);
    let store = store.build().unwrap();
    let mut session = signed_in(&store, "user-7").await;
    let old = text(&session);
    advance(hour - Duration::from_secs(5)).await;
    backend.set(Rule::new(Injection::LoseRequest).on_part(IN_CALLS));
    session.sign_in(SignIn::new("user-7")).await.unwrap();
    sleep(Duration::from_secs(7)).await;
    assert!(store.load(&old).await.unwrap().is_none());
    backend.clear();
    sleep(Duration::from_secs(60)).await;
    assert!(again(&store, &session).await.is_some());
    assert_eq!(store.sessions_of("user-7").await.unwrap().len(), 1);
}

/// A sign-out by the old id ends that one, and gets no further.
#[tokio::test(start_paused = true)]
async fn a_sign_out_that_stops_half_way_is_taken_up_by_the_last_step_of_a_rotation() {
    let backend = FaultyBackend::embedded();
    let store = store(&backend);
    let mut session = signed_in(&store, "user-7").await;
    signed_in(&store, "warm").await.delete().await.unwrap();
    let mut under_way = again(&store, &session).await.unwrap();
    rotate_unanswered(&backend, &mut session).await;
    let second = Rule::new(Injection::NotSent).on_name("EVALSHA").skip(1);
    backend.add(second.times(1));
    under_way.delete().await.unwrap_err();
    assert!(again(&store, &under_way).await.is_none());
    assert!(again(&store, &session).await.is_some());
    backend.clear();
    sleep(Duration::from_secs(5)).await;
    assert!(again(&store, &session).await.is_none());
    assert!(store.sessions_of("user-7").await.unwrap().is_empty());
}

/// Another request has changed the session, so that a sign-in begins anew, and what it stored first cannot be ended.
#[tokio::test(start_paused = true)]
async fn a_sign_in_does_not_count_what_it_stored_first_against_the_limit() {
    for on_limit in [OnLimit::EndOldest, OnLimit::Refuse] {
        let backend = FaultyBackend::embedded();
        let store = builder(&backend.client()).max_sessions(2, on_limit);
        let store = store.build().unwrap();
        let mut warm = signed_in(&store, "warm").await;
        warm.rotate().await.unwrap();
        warm.delete().await.unwrap();
        let elsewhere = signed_in(&store, "user-7").await;
        advance(Duration::from_millis(1)).await;
        let mut session = signed_in(&store, "user-7").await;
        let mut other = again(&store, &session).await.unwrap();
        other.insert("from-another-request", &1).unwrap();
        other.commit().await.unwrap();
        // The steps: store, find the change, end what was stored.
        let lose = Rule::new(Injection::LoseRequest).on_name("EVALSHA");
        backend.set(lose.skip(2).times(1));
        let outcome = session.sign_in(SignIn::new("user-7")).await;
        assert!(matches!(outcome, Err(Error::Core(_))), "{outcome:?}");
        assert!(again(&store, &elsewhere).await.is_some(), "{on_limit:?}");
        backend.clear();
        sleep(Duration::from_secs(5)).await;
        let old = again(&store, &session).await.unwrap();
        assert!(!old.is_rotated());
        session.sign_in(SignIn::new("user-7")).await.unwrap();
        let copied = session.get::<u32>("from-another-request").unwrap();
        assert_eq!(copied, Some(1));
        assert!(again(&store, &elsewhere).await.is_some(), "{on_limit:?}");
        assert_eq!(store.sessions_of("user-7").await.unwrap().len(), 2);
    }
}
