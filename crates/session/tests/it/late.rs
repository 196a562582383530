//! Calls that were repeated, and whose first attempt arrives late.

use std::sync::Arc;
use std::time::Duration;

use redkit_core::{Backend, Client, Command, Pattern};
use redkit_session::{Error, SessionDirectory, SessionStore, SignIn};
use redkit_testkit::{FaultyBackend, Injection, Rule};
use tokio::time::{Instant, advance, sleep, timeout};

use crate::{again, builder, signed_in};

/// A store whose scripts the server knows.
async fn warm_store(backend: &Arc<FaultyBackend>) -> (Client, SessionStore) {
    let client = backend.client();
    let store = builder(&client).build().unwrap();
    let mut session = signed_in(&store, "warm").await;
    session.rotate().await.unwrap();
    session.delete().await.unwrap();
    store.revoke_all("warm").await.unwrap();
    // Nothing of it is left.
    advance(Duration::from_secs(500 * 86_400)).await;
    store.sessions_of("warm").await.unwrap();
    backend.forget();
    (client, store)
}

/// The first call since the backend has forgotten the others.
fn first(backend: &FaultyBackend) -> Command {
    let command = backend.seen().remove(0);
    assert_eq!(command.name(), "EVALSHA");
    command
}

/// The call arrives, after others of the same.
async fn arrive(backend: &FaultyBackend, command: &Command) {
    let deadline = Instant::now() + Duration::from_secs(1);
    let command = command.clone().deadline(deadline);
    backend.call(&command).await.unwrap();
}

async fn keys_of(client: &Client) -> Vec<String> {
    let mut keys = client.scan(Pattern::all()).keys();
    let mut found = Vec::new();
    while let Some(key) = keys.next().await {
        found.push(client.key(key.unwrap()).to_string());
    }
    found
}

#[tokio::test(start_paused = true)]
async fn a_sign_in_that_arrives_late_revives_no_session() {
    for way in 0..6 {
        let backend = FaultyBackend::embedded();
        let (client, store) = warm_store(&backend).await;
        let mut session = signed_in(&store, "user-7").await;
        let sign_in = first(&backend);
        let signed_in = again(&store, &session).await.unwrap();
        match way {
            0 => assert!(session.delete().await.unwrap()),
            1 => assert!(store.revoke("user-7", &session.handle()).await.unwrap()),
            2..=4 => {
                store.revoke_all("user-7").await.unwrap();
                // Whichever request ends it.
                session.insert("a", &1).unwrap();
                match way {
                    2 => assert!(again(&store, &session).await.is_none()),
                    3 => assert!(matches!(session.commit().await, Err(Error::Gone))),
                    _ => assert!(matches!(session.rotate().await, Err(Error::Gone))),
                }
            }
            _ => {
                session.rotate().await.unwrap();
                assert!(session.delete().await.unwrap());
            }
        }
        arrive(&backend, &sign_in).await;
        for session in [&session, &signed_in] {
            assert!(again(&store, session).await.is_none(), "way {way}");
        }
        assert!(store.sessions_of("user-7").await.unwrap().is_empty());
        // What is known of the id is no session, whoever counts them.
        let directory = SessionDirectory::new(&client, "web").unwrap();
        assert!(directory.list(10).await.unwrap().is_empty());
        let keys = keys_of(&client).await;
        assert!(
            !keys.iter().any(|key| key.contains("}:session:")),
            "{keys:?}"
        );
        // And is known for a minute.
        advance(Duration::from_secs(61)).await;
        store.sessions_of("user-7").await.unwrap();
        let keys = keys_of(&client).await;
        let rows = keys.iter().find(|key| key.ends_with("}:rows"));
        assert_eq!(rows, None, "way {way}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_sign_in_that_was_given_up_stores_nothing_later() {
    for is_answered in [false, true] {
        let backend = FaultyBackend::embedded();
        let (_, store) = warm_store(&backend).await;
        let injection = match is_answered {
            true => Injection::LoseRequest,
            false => Injection::HangBefore,
        };
        backend.set(Rule::new(injection).on_name("EVALSHA").times(1));
        let mut session = store.start().unwrap();
        let signing_in = session.sign_in(SignIn::new("user-7"));
        let outcome = timeout(Duration::from_millis(500), signing_in).await;
        assert!(!matches!(outcome, Ok(Ok(()))));
        let sign_in = first(&backend);
        sleep(Duration::from_secs(2)).await;
        arrive(&backend, &sign_in).await;
        let listed = store.sessions_of("user-7").await.unwrap();
        assert!(listed.is_empty(), "{is_answered}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_session_without_a_user_is_not_revived_either() {
    let backend = FaultyBackend::embedded();
    let (client, store) = warm_store(&backend).await;
    let mut session = store.create().await.unwrap();
    let creation = first(&backend);
    assert!(session.delete().await.unwrap());
    arrive(&backend, &creation).await;
    assert!(again(&store, &session).await.is_none());
    advance(Duration::from_secs(61)).await;
    assert!(keys_of(&client).await.is_empty());
}

/// A handle that was made up leaves nothing at the server.
#[tokio::test(start_paused = true)]
async fn an_id_that_nobody_knows_is_not_remembered() {
    let backend = FaultyBackend::embedded();
    let (client, store) = warm_store(&backend).await;
    let made_up = redkit_session::SessionHandle::from_text("made-up");
    assert!(!store.revoke("user-7", &made_up).await.unwrap());
    assert!(keys_of(&client).await.is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_revocation_that_arrives_late_gives_no_session_back() {
    let backend = FaultyBackend::embedded();
    let (_, store) = warm_store(&backend).await;
    store.revoke_all("user-7").await.unwrap();
    let earlier = first(&backend);
    let session = signed_in(&store, "user-7").await;
    // One that comes late after its own answer ends nothing.
    arrive(&backend, &earlier).await;
    assert!(again(&store, &session).await.is_some());
    store.revoke_all("user-7").await.unwrap();
    // Some way later: no two calls come to a server at one time.
    advance(Duration::from_millis(1)).await;
    arrive(&backend, &earlier).await;
    assert!(again(&store, &session).await.is_none());
    assert!(store.sessions_of("user-7").await.unwrap().is_empty());
    let next = signed_in(&store, "user-7").await;
    assert!(again(&store, &next).await.is_some());
}

/// The caller is dropped, the old id is given back, and then an attempt of the last step arrives: the first, which was
/// carried out before or not, or the one after a first that was lost.
#[tokio::test(start_paused = true)]
async fn the_last_step_of_a_dropped_rotation_that_arrives_late_leaves_the_old_id_valid() {
    for is_signed_in in [false, true] {
        for (hangs, lost) in [
            (Injection::HangBefore, 0),
            (Injection::HangAfter, 0),
            (Injection::HangBefore, 1),
        ] {
            let backend = FaultyBackend::embedded();
            let (_, store) = warm_store(&backend).await;
            let mut session = match is_signed_in {
                true => signed_in(&store, "user-7").await,
                false => store.create().await.unwrap(),
            };
            let last_step = |injection| Rule::new(injection).on_name("EVALSHA").skip(1);
            let mut warm = signed_in(&store, "warm").await;
            backend.set(last_step(Injection::LoseReply).times(1));
            warm.rotate().await.unwrap();
            backend.clear();
            backend.forget();
            if lost > 0 {
                backend.add(last_step(Injection::LoseRequest).times(lost));
            }
            backend.add(last_step(hangs.clone()).times(1));
            let rotation = async {
                match is_signed_in {
                    true => session.rotate().await,
                    false => session.sign_in(SignIn::new("user-7")).await,
                }
            };
            let dropped = timeout(Duration::from_millis(500), rotation).await;
            assert!(dropped.is_err());
            let late = backend.seen().swap_remove(1 + lost);
            sleep(Duration::from_secs(15)).await;
            arrive(&backend, &late).await;
            advance(Duration::from_secs(11)).await;
            let case = format!("signed in {is_signed_in}, {hangs:?}, {lost} lost");
            let loaded = again(&store, &session).await.expect(&case);
            assert_eq!(loaded.user(), is_signed_in.then_some("user-7"), "{case}");
            assert!(!loaded.is_rotated(), "{case}");
            let listed = store.sessions_of("user-7").await.unwrap();
            assert_eq!(listed.len(), usize::from(is_signed_in), "{case}");
        }
    }
}

/// Two requests rotate a session, and the one that is dropped has not come to the old id.
#[tokio::test(start_paused = true)]
async fn a_dropped_rotation_takes_nothing_back_that_another_request_has_done() {
    let backend = FaultyBackend::embedded();
    let (_, store) = warm_store(&backend).await;
    let mut dropped = signed_in(&store, "user-7").await;
    let mut other = again(&store, &dropped).await.unwrap();
    let hang = Rule::new(Injection::HangBefore).on_name("EVALSHA");
    backend.set(hang.skip(1).times(1));
    {
        let mut rotation = std::pin::pin!(dropped.rotate());
        let pending = timeout(Duration::from_millis(500), &mut rotation).await;
        assert!(pending.is_err());
        other.rotate().await.unwrap();
    }
    sleep(Duration::from_secs(15)).await;
    assert!(again(&store, &dropped).await.is_none());
    assert!(again(&store, &other).await.is_some());
    assert_eq!(store.sessions_of("user-7").await.unwrap().len(), 1);
}
