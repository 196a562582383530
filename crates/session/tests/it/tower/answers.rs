//! When sessions are loaded and saved, and what is answered when that fails.

use axum::extract::Request as AxumRequest;
use axum::http::StatusCode;
use axum::http::header::{RETRY_AFTER, SET_COOKIE};
use axum::middleware::{self, Next};
use axum::response::Response;
use redkit_session::Error;
use redkit_session::tower::{CurrentSession, OnOutage, SessionLayer};
use redkit_testkit::{FaultyBackend, Fixture, Gate, Injection, Rule};

use super::{Visitor, app, app_with, routes};
use crate::{builder, store};

redkit_testkit::suite! {
    async fn an_answer_of_500_discards_changes(fixture: Fixture) {
        let app = app(&store(&fixture));
        let mut visitor = Visitor::default();
        assert_eq!(visitor.post(&app, "/fails").await.status, StatusCode::INTERNAL_SERVER_ERROR);
        assert_eq!(visitor.cookie, None);
        visitor.post(&app, "/count").await;
        visitor.post(&app, "/fails").await;
        assert_eq!(visitor.get(&app, "/shown").await.text, "None Some(1)");
    }

    async fn a_sign_in_takes_the_data_along_and_a_sign_out_leaves_nothing(fixture: Fixture) {
        let store = store(&fixture);
        let app = app(&store);
        let mut visitor = Visitor::default();
        visitor.post(&app, "/count").await;
        let mut attacker = visitor.clone();
        assert_eq!(visitor.post(&app, "/sign-in?user=user-7").await.status, StatusCode::OK);
        assert_ne!(visitor.cookie, attacker.cookie);
        assert_eq!(visitor.get(&app, "/shown").await.text, "Some(\"user-7\") Some(1)");
        // The id from before gains nothing, and takes no changes.
        assert_eq!(attacker.get(&app, "/shown").await.text, "None Some(1)");
        assert_eq!(attacker.post(&app, "/count").await.status, StatusCode::CONFLICT);
        let mut stolen = visitor.clone();
        visitor.post(&app, "/sign-out").await;
        assert_eq!(visitor.cookie, None);
        assert_eq!(stolen.get(&app, "/shown").await.text, "None None");
        assert!(store.sessions_of("user-7").await.unwrap().is_empty());
    }

    async fn what_is_written_after_a_sign_out_is_in_a_new_session(fixture: Fixture) {
        let store = store(&fixture);
        let routes = routes().route("/leave", axum::routing::post(async |session: CurrentSession| {
            session.insert("lost", &1).await?;
            session.sign_out().await?;
            session.insert("n", &41).await
        }));
        let app = routes.layer(SessionLayer::builder(&store).build().unwrap());
        let mut visitor = Visitor::default();
        visitor.post(&app, "/sign-in?user=user-7").await;
        let before = visitor.cookie.clone();
        visitor.post(&app, "/leave").await;
        assert!(visitor.cookie.is_some() && visitor.cookie != before);
        assert_eq!(visitor.get(&app, "/shown").await.text, "None Some(41)");
        assert!(store.sessions_of("user-7").await.unwrap().is_empty());
    }

    async fn a_layer_that_authenticates_shares_the_load(fixture: Fixture) {
        async fn authenticate(session: CurrentSession, request: AxumRequest, next: Next) -> Result<Response, StatusCode> {
            match session.user().await {
                Ok(Some(_)) => Ok(next.run(request).await),
                Ok(None) => Err(StatusCode::UNAUTHORIZED),
                Err(_) => Err(StatusCode::SERVICE_UNAVAILABLE),
            }
        }
        let store = store(&fixture);
        let app = routes()
            .layer(middleware::from_fn(authenticate))
            .layer(SessionLayer::builder(&store).build().unwrap());
        let mut visitor = Visitor::default();
        assert_eq!(visitor.post(&app, "/count").await.status, StatusCode::UNAUTHORIZED);
        let session = crate::signed_in(&store, "user-7").await;
        visitor.cookie = Some(format!("__Host-id={}", crate::text(&session)));
        assert_eq!(visitor.post(&app, "/count").await.text, "1");
    }

    async fn a_session_that_ends_during_the_request_is_a_conflict(fixture: Fixture) {
        let store = store(&fixture);
        let other = store.clone();
        let routes = routes().route("/revoked", axum::routing::post(async move |session: CurrentSession| {
            session.insert("n", &1).await?;
            other.revoke_all("user-7").await
        }));
        let app = routes.layer(SessionLayer::builder(&store).build().unwrap());
        let mut visitor = Visitor::default();
        visitor.post(&app, "/sign-in?user=user-7").await;
        let answer = visitor.post(&app, "/revoked").await;
        assert_eq!(answer.status, StatusCode::CONFLICT);
        // Another request may have given the client a new id: nothing is taken back.
        assert!(!answer.headers.contains_key(SET_COOKIE));
    }

    async fn a_refused_change_is_not_made_after_the_answer(fixture: Fixture) {
        let store = store(&fixture);
        let other = store.clone();
        let routes = routes().route("/pay", axum::routing::post(async move |session: CurrentSession| {
            session.insert("n", &1).await?;
            // Another request comes between.
            let user = session.user().await?.unwrap();
            let handle = session.handle().await?;
            assert!(other.sessions_of(&user).await?.iter().any(|listed| listed.handle == handle));
            OTHER.with(|id| id.borrow().clone()).commit(&other).await?;
            session.commit_if_unchanged().await
        }));
        let app = routes.layer(SessionLayer::builder(&store).build().unwrap());
        let mut visitor = Visitor::default();
        visitor.post(&app, "/sign-in?user=user-7").await;
        let id = visitor.cookie.clone().unwrap().replace("__Host-id=", "");
        OTHER.with(|other| *other.borrow_mut() = Other(id));
        assert_eq!(visitor.post(&app, "/pay").await.status, StatusCode::CONFLICT);
        assert_eq!(visitor.get(&app, "/shown").await.text, "Some(\"user-7\") Some(77)");
    }

    async fn after_the_answer_no_id_is_made_that_nobody_gets(fixture: Fixture) {
        let (sender, mut kept) = tokio::sync::mpsc::channel(4);
        let routes = routes().route("/keep", axum::routing::post(async move |session: CurrentSession| {
            session.user().await?;
            sender.send(session.clone()).await.unwrap();
            Ok::<_, Error>(())
        }));
        let app = routes.layer(SessionLayer::builder(&store(&fixture)).build().unwrap());
        let mut visitor = Visitor::default();
        visitor.post(&app, "/keep").await;
        let late = kept.recv().await.unwrap();
        late.insert("n", &1).await.unwrap();
        assert!(matches!(late.commit().await, Err(Error::Answered)));
        assert!(matches!(late.sign_in(redkit_session::SignIn::new("user-7")).await, Err(Error::Answered)));
        visitor.post(&app, "/sign-in?user=user-7").await;
        visitor.post(&app, "/keep").await;
        let late = kept.recv().await.unwrap();
        assert!(matches!(late.rotate().await, Err(Error::Answered)));
        // Entries of a session whose id the client has can be sent still.
        late.insert("n", &5).await.unwrap();
        late.commit().await.unwrap();
        assert_eq!(visitor.get(&app, "/shown").await.text, "Some(\"user-7\") Some(5)");
    }

    async fn a_session_that_cannot_be_read_does_not_lock_its_browser_out(fixture: Fixture) {
        let ring = redkit_core::KeyRing::new(1, redkit_core::EncryptionKey::from_bytes([7; 32]));
        let encrypting = builder(&fixture.client).codec(redkit_core::Codec::json().encrypt(ring)).build().unwrap();
        let session = crate::signed_in(&encrypting, "user-7").await;
        let app = app(&store(&fixture));
        let mut visitor = Visitor { cookie: Some(format!("__Host-id={}", crate::text(&session))) };
        assert!(visitor.get(&app, "/shown").await.status.is_server_error());
        assert_eq!(visitor.cookie, None);
    }
}

/// Another request of the same client.
#[derive(Clone, Default)]
struct Other(String);

thread_local! {
    static OTHER: std::cell::RefCell<Other> = std::cell::RefCell::default();
}

impl Other {
    async fn commit(&self, store: &redkit_session::SessionStore) -> Result<(), Error> {
        let mut session = store.load(&self.0).await?.unwrap();
        session.insert("n", &77)?;
        session.commit().await
    }
}

/// The commands of one request, after the scripts are known.
#[tokio::test]
async fn a_request_has_at_most_one_load_and_one_save() {
    let backend = FaultyBackend::embedded();
    let store = builder(&backend.client()).build().unwrap();
    let app = app(&store);
    let mut visitor = Visitor::default();
    visitor.post(&app, "/sign-in?user=user-7").await;
    visitor.post(&app, "/count").await;
    visitor.get(&app, "/devices").await;
    visitor.get(&app, "/shown").await;
    let sent = async |visitor: &mut Visitor, method: &str, path: &str| {
        backend.forget();
        let request = axum::http::Request::builder().method(method).uri(path);
        assert_eq!(visitor.send(&app, request).await.status, StatusCode::OK);
        backend.seen().len()
    };
    // Not asked for, or taken by the handler and not asked for anything.
    assert_eq!(sent(&mut visitor, "GET", "/").await, 0);
    assert_eq!(sent(&mut visitor, "GET", "/taken").await, 0);
    // Read twice.
    assert_eq!(sent(&mut visitor, "GET", "/shown").await, 1);
    // Read and changed.
    assert_eq!(sent(&mut visitor, "POST", "/count").await, 2);
    assert_eq!(sent(&mut visitor, "GET", "/devices").await, 2);
    // Anonymous.
    assert_eq!(sent(&mut Visitor::default(), "GET", "/shown").await, 0);
    assert_eq!(sent(&mut Visitor::default(), "POST", "/count").await, 1);
    let mut forged = Visitor {
        cookie: Some("__Host-id=forged".to_owned()),
    };
    assert_eq!(sent(&mut forged, "GET", "/shown").await, 0);
}

#[tokio::test(start_paused = true)]
async fn changes_are_saved_before_the_answer_goes_out() {
    let backend = FaultyBackend::embedded();
    let store = builder(&backend.client()).build().unwrap();
    let app = app(&store);
    let mut visitor = Visitor::default();
    visitor.post(&app, "/count").await;
    visitor.post(&app, "/count").await;
    let gate = Gate::closed();
    backend.set(
        Rule::new(Injection::HoldRequest(gate.clone()))
            .on_name("EVALSHA")
            .skip(1),
    );
    let request = tokio::spawn(async move { visitor.post(&app, "/count").await.text });
    gate.reached(1).await;
    tokio::time::sleep(std::time::Duration::from_millis(500)).await;
    assert!(!request.is_finished());
    gate.open();
    assert_eq!(request.await.unwrap(), "3");
}

#[tokio::test]
async fn without_redis_the_answer_is_503_and_anonymous_only_where_that_is_asked_for() {
    let backend = FaultyBackend::embedded();
    let store = builder(&backend.client()).build().unwrap();
    let closed = app(&store);
    let anonymous = app_with(SessionLayer::builder(&store).on_outage(OnOutage::Anonymous));
    let mut visitor = Visitor::default();
    visitor.post(&closed, "/sign-in?user=user-7").await;
    let cookie = visitor.cookie.clone();
    backend.set(Rule::new(Injection::NotSent));
    // Also where the handler takes the error for nothing.
    for path in ["/shown", "/swallows", "/devices"] {
        let answer = visitor.get(&closed, path).await;
        assert_eq!(answer.status, StatusCode::SERVICE_UNAVAILABLE, "{path}");
        assert_eq!(answer.headers[RETRY_AFTER], "1");
        assert!(!answer.text.contains("user-7"));
    }
    assert_eq!(
        visitor.post(&closed, "/count").await.status,
        StatusCode::SERVICE_UNAVAILABLE
    );
    assert_eq!(
        visitor.post(&closed, "/sign-out").await.status,
        StatusCode::SERVICE_UNAVAILABLE
    );
    // A request that does not ask for its session needs no Redis.
    assert_eq!(visitor.get(&closed, "/taken").await.status, StatusCode::OK);
    assert_eq!(
        Visitor::default().get(&closed, "/shown").await.status,
        StatusCode::OK
    );
    assert_eq!(
        Visitor::default().post(&closed, "/count").await.status,
        StatusCode::SERVICE_UNAVAILABLE
    );

    let answer = visitor.get(&anonymous, "/shown").await;
    assert_eq!(
        (answer.status, answer.text.as_str()),
        (StatusCode::OK, "None None")
    );
    assert!(!answer.headers.contains_key(SET_COOKIE));
    assert_eq!(
        visitor.post(&anonymous, "/count").await.status,
        StatusCode::SERVICE_UNAVAILABLE
    );
    assert_eq!(visitor.cookie, cookie);
    backend.clear();
    assert_eq!(
        visitor.get(&anonymous, "/shown").await.text,
        "Some(\"user-7\") None"
    );
}

/// A permanent refusal, for all that the client can tell: a rolling deployment shuts its clients down, and a user of
/// Redis loses a right.
#[tokio::test]
async fn neither_a_shutdown_nor_a_refusal_takes_a_cookie_back() {
    for is_shut_down in [false, true] {
        let backend = FaultyBackend::embedded();
        let client = backend.client();
        let store = builder(&client).build().unwrap();
        let closed = app(&store);
        let anonymous = app_with(SessionLayer::builder(&store).on_outage(OnOutage::Anonymous));
        let mut visitor = Visitor::default();
        visitor.post(&closed, "/sign-in?user=user-7").await;
        let cookie = visitor.cookie.clone();
        assert!(cookie.is_some());
        match is_shut_down {
            true => client.shutdown().await,
            false => backend.set(Rule::new(Injection::Refuse("NOPERM", "no permission"))),
        }
        for path in ["/shown", "/swallows"] {
            let answer = visitor.get(&closed, path).await;
            assert_eq!(answer.status, StatusCode::SERVICE_UNAVAILABLE, "{path}");
            assert!(!answer.headers.contains_key(SET_COOKIE), "{path}");
        }
        let answer = visitor.get(&anonymous, "/shown").await;
        assert_eq!(
            (answer.status, &*answer.text),
            (StatusCode::OK, "None None")
        );
        assert!(!answer.headers.contains_key(SET_COOKIE));
        assert_eq!(visitor.cookie, cookie);
    }
}

/// It has waited for the session while the answer went out.
#[tokio::test(start_paused = true)]
async fn a_rotation_that_comes_to_the_session_after_the_answer_makes_no_id() {
    use std::time::Duration;

    for signs_in in [false, true] {
        let backend = FaultyBackend::embedded();
        let store = builder(&backend.client()).build().unwrap();
        let (sender, mut kept) = tokio::sync::mpsc::channel(1);
        let keep = async move |session: CurrentSession| {
            let loading = session.clone();
            tokio::spawn(async move { loading.get::<u32>("n").await });
            tokio::time::sleep(Duration::from_millis(10)).await;
            sender.send(session).await.unwrap();
        };
        let routes = routes().route("/keep", axum::routing::post(keep));
        let app = routes.layer(SessionLayer::builder(&store).build().unwrap());
        let mut visitor = Visitor::default();
        visitor.post(&app, "/sign-in?user=user-7").await;
        visitor.get(&app, "/shown").await;
        let late = Injection::DelayReply(Duration::from_secs(1));
        backend.set(Rule::new(late).on_name("EVALSHA").times(1));
        let answering = tokio::spawn(async move {
            let answer = visitor.post(&app, "/keep").await;
            (answer.status, visitor)
        });
        let session = kept.recv().await.unwrap();
        // The answer waits for the session, too.
        tokio::time::sleep(Duration::from_millis(10)).await;
        let rotating = tokio::spawn(async move {
            match signs_in {
                true => session.sign_in(redkit_session::SignIn::new("user-8")).await,
                false => session.rotate().await,
            }
        });
        let (status, visitor) = answering.await.unwrap();
        assert_eq!(status, StatusCode::OK);
        let rotated = rotating.await.unwrap();
        assert!(matches!(rotated, Err(Error::Answered)), "{rotated:?}");
        let id = visitor.cookie.unwrap().replace("__Host-id=", "");
        assert!(!store.load(&id).await.unwrap().unwrap().is_rotated());
    }
}

#[tokio::test]
async fn a_save_that_fails_is_not_answered_as_if_it_were_done() {
    let backend = FaultyBackend::embedded();
    let store = builder(&backend.client()).max_bytes(20).build().unwrap();
    let routes = routes().route(
        "/fills",
        axum::routing::post(async |session: CurrentSession| {
            session.insert("large", &"x".repeat(100)).await?;
            Ok::<_, Error>("saved")
        }),
    );
    let app = routes.layer(SessionLayer::builder(&store).build().unwrap());
    let mut visitor = Visitor::default();
    visitor.post(&app, "/count").await;
    visitor.post(&app, "/count").await;
    let answer = visitor.post(&app, "/fills").await;
    assert_eq!(answer.status, StatusCode::INTERNAL_SERVER_ERROR);
    assert!(!answer.text.contains("saved"));
    backend.set(Rule::new(Injection::LoseReply).on_name("EVALSHA").skip(1));
    assert_eq!(
        visitor.post(&app, "/count").await.status,
        StatusCode::SERVICE_UNAVAILABLE
    );
    backend.clear();
    assert!(visitor.cookie.is_some());
}

#[tokio::test]
async fn a_handler_without_the_layer_is_a_mistake_of_the_server() {
    let answer = Visitor::default().get(&routes(), "/shown").await;
    assert_eq!(answer.status, StatusCode::INTERNAL_SERVER_ERROR);
}
