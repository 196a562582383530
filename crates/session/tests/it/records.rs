//! The store for `tower-sessions`. The scenarios through its layer are those of the tests of `tower-sessions` and
//! `tower-sessions-stores`, written anew.

use axum::Router;
use axum::body::Body;
use axum::http::header::{COOKIE, SET_COOKIE};
use axum::http::{Request, StatusCode};
use axum::routing::get;
use http_body_util::BodyExt;
use redkit_core::{Codec, EncryptionKey, KeyRing};
use redkit_session::tower_sessions::TowerSessionStore;
use redkit_testkit::{FaultyBackend, Fixture, Injection, Rule};
use time::{Duration, OffsetDateTime};
use tower::ServiceExt;
use tower_sessions::cookie::{Cookie, SameSite};
use tower_sessions::session::{Id, Record};
use tower_sessions::{Expiry, Session, SessionManagerLayer, SessionStore};

use crate::secrets;

fn store(fixture: &Fixture) -> TowerSessionStore {
    TowerSessionStore::new(&fixture.client, "web", secrets()).unwrap()
}

fn record(seconds: i64) -> Record {
    Record {
        id: Id::default(),
        data: [("foo".to_owned(), 42.into())].into(),
        expiry_date: OffsetDateTime::now_utc() + Duration::seconds(seconds),
    }
}

fn app(fixture: &Fixture, max_age: Option<Duration>, domain: Option<&str>) -> Router {
    let mut layer = SessionManagerLayer::new(store(fixture)).with_secure(true);
    if let Some(max_age) = max_age {
        layer = layer.with_expiry(Expiry::OnInactivity(max_age));
    }
    if let Some(domain) = domain {
        layer = layer.with_domain(domain.to_owned());
    }
    Router::new()
        .route("/", get(async |_: Session| "hello"))
        .route(
            "/insert",
            get(async |session: Session| session.insert("foo", 42).await.unwrap()),
        )
        .route(
            "/get",
            get(async |session: Session| {
                format!("{:?}", session.get::<usize>("foo").await.unwrap())
            }),
        )
        .route(
            "/remove",
            get(async |session: Session| {
                session.remove::<usize>("foo").await.unwrap();
            }),
        )
        .route(
            "/cycle",
            get(async |session: Session| session.cycle_id().await.unwrap()),
        )
        .route(
            "/flush",
            get(async |session: Session| session.flush().await.unwrap()),
        )
        .route(
            "/for-a-day",
            get(async |session: Session| {
                session.set_expiry(Some(Expiry::AtDateTime(
                    OffsetDateTime::now_utc() + Duration::days(1),
                )));
            }),
        )
        .route(
            "/until-the-end",
            get(async |session: Session| session.set_expiry(Some(Expiry::OnSessionEnd))),
        )
        .layer(layer)
}

/// The keys of records. (For a minute it is known of a record that it was deleted.)
async fn records_of(fixture: &Fixture) -> Vec<String> {
    let keys = crate::round_trips::keys_of(fixture).await.into_iter();
    let keys = keys.map(|key| key.to_string());
    keys.filter(|key| !key.ends_with("}:deleted")).collect()
}

const HOUR: Option<Duration> = Some(Duration::hours(1));

/// The text of the answer, and the cookie that it sets.
async fn send(
    app: &Router,
    path: &str,
    cookie: Option<&Cookie<'static>>,
) -> (String, Option<Cookie<'static>>) {
    let request = Request::get(path);
    let request = match cookie {
        Some(cookie) => request.header(COOKIE, format!("{}={}", cookie.name(), cookie.value())),
        None => request,
    };
    let response = app
        .clone()
        .oneshot(request.body(Body::empty()).unwrap())
        .await
        .unwrap();
    assert_eq!(response.status(), StatusCode::OK, "{path}");
    let set = response
        .headers()
        .get(SET_COOKIE)
        .map(|set| Cookie::parse(set.to_str().unwrap().to_owned()).unwrap());
    let text = response.into_body().collect().await.unwrap().to_bytes();
    (String::from_utf8(text.to_vec()).unwrap(), set)
}

async fn inserted(app: &Router) -> Cookie<'static> {
    send(app, "/insert", None).await.1.unwrap()
}

fn is_about(cookie: &Cookie<'_>, expected: Duration) -> bool {
    (cookie.max_age().unwrap() - expected).abs() <= Duration::seconds(2)
}

redkit_testkit::suite! {
    async fn no_session_is_set_without_a_write(fixture: Fixture) {
        assert_eq!(send(&app(&fixture, HOUR, None), "/", None).await.1, None);
        assert!(crate::round_trips::keys_of(&fixture).await.is_empty());
    }

    async fn a_bogus_cookie_is_replaced(fixture: Fixture) {
        let bogus = Cookie::new("id", "AAAAAAAAAAAAAAAAAAAAAA");
        let (_, set) = send(&app(&fixture, HOUR, None), "/insert", Some(&bogus)).await;
        assert_ne!(set.unwrap().value(), bogus.value());
    }

    async fn a_malformed_cookie_is_no_session(fixture: Fixture) {
        let malformed = Cookie::new("id", "malformed");
        let (text, set) = send(&app(&fixture, HOUR, None), "/", Some(&malformed)).await;
        assert_eq!(text, "hello");
        assert!(set.is_none_or(|set| set.value() != "malformed"));
    }

    async fn an_insertion_sets_the_cookie_with_its_attributes(fixture: Fixture) {
        let set = inserted(&app(&fixture, HOUR, None)).await;
        assert_eq!((set.name(), set.path(), set.http_only(), set.secure()), ("id", Some("/"), Some(true), Some(true)));
        assert_eq!(set.same_site(), Some(SameSite::Strict));
        assert!(set.max_age().unwrap() <= Duration::hours(1));
    }

    async fn a_cookie_without_an_expiry_ends_with_the_browser(fixture: Fixture) {
        let set = inserted(&app(&fixture, None, None)).await;
        assert_eq!((set.name(), set.max_age(), set.secure()), ("id", None, Some(true)));
    }

    async fn a_value_is_read_by_the_next_request(fixture: Fixture) {
        let app = app(&fixture, HOUR, None);
        let set = inserted(&app).await;
        assert_eq!(send(&app, "/get", Some(&set)).await.0, "Some(42)");
    }

    async fn a_value_that_is_not_there_is_none(fixture: Fixture) {
        assert_eq!(send(&app(&fixture, HOUR, None), "/get", None).await.0, "None");
    }

    async fn the_last_value_can_be_removed(fixture: Fixture) {
        let app = app(&fixture, HOUR, None);
        let set = inserted(&app).await;
        send(&app, "/remove", Some(&set)).await;
        assert_eq!(send(&app, "/get", Some(&set)).await.0, "None");
    }

    async fn a_cycled_id_is_another_and_keeps_the_data(fixture: Fixture) {
        let app = app(&fixture, HOUR, None);
        let first = inserted(&app).await;
        let second = send(&app, "/cycle", Some(&first)).await.1.unwrap();
        assert_ne!(first.value(), second.value());
        assert_eq!(send(&app, "/get", Some(&second)).await.0, "Some(42)");
        assert_eq!(send(&app, "/get", Some(&first)).await.0, "None");
    }

    async fn a_flush_removes_the_cookie_and_the_record(fixture: Fixture) {
        let app = app(&fixture, HOUR, None);
        let set = inserted(&app).await;
        let removed = send(&app, "/flush", Some(&set)).await.1.unwrap();
        assert_eq!((removed.value(), removed.max_age(), removed.path()), ("", Some(Duration::ZERO), Some("/")));
        assert_eq!(send(&app, "/get", Some(&set)).await.0, "None");
        assert!(records_of(&fixture).await.is_empty());
    }

    async fn a_flush_names_the_domain(fixture: Fixture) {
        let app = app(&fixture, HOUR, Some("localhost"));
        let set = inserted(&app).await;
        let removed = send(&app, "/flush", Some(&set)).await.1.unwrap();
        assert_eq!((removed.value(), removed.max_age(), removed.domain()), ("", Some(Duration::ZERO), Some("localhost")));
    }

    async fn an_expiry_can_be_set(fixture: Fixture) {
        let app = app(&fixture, HOUR, Some("localhost"));
        let set = inserted(&app).await;
        assert!(is_about(&set, Duration::hours(1)));
        let set = send(&app, "/for-a-day", Some(&set)).await.1.unwrap();
        assert!(is_about(&set, Duration::days(1)));
        let key = crate::round_trips::keys_of(&fixture).await.remove(0);
        let ttl: i64 = fixture.client.call(redkit_core::Command::new("TTL").key(&key)).await.unwrap();
        assert!((86_390..=86_400).contains(&ttl), "{ttl}");
    }

    async fn the_kind_of_expiry_can_change(fixture: Fixture) {
        let app = app(&fixture, None, Some("localhost"));
        let set = inserted(&app).await;
        assert_eq!(set.max_age(), None);
        let set = send(&app, "/for-a-day", Some(&set)).await.1.unwrap();
        assert!(is_about(&set, Duration::days(1)));
        let set = send(&app, "/until-the-end", Some(&set)).await.1.unwrap();
        assert_eq!(set.max_age(), None);
    }

    async fn an_expired_session_is_none(fixture: Fixture) {
        let app = app(&fixture, Some(Duration::seconds(1)), None);
        let set = inserted(&app).await;
        tokio::time::sleep(std::time::Duration::from_millis(1_100)).await;
        assert_eq!(send(&app, "/get", Some(&set)).await.0, "None");
    }

    async fn a_save_never_brings_a_record_back(fixture: Fixture) {
        let store = store(&fixture);
        let mut record = record(60);
        store.save(&record).await.unwrap();
        assert_eq!(store.load(&record.id).await.unwrap(), None);
        store.create(&mut record).await.unwrap();
        assert_eq!(store.load(&record.id).await.unwrap(), Some(record.clone()));
        record.data.insert("bar".to_owned(), "x".into());
        store.save(&record).await.unwrap();
        assert_eq!(store.load(&record.id).await.unwrap(), Some(record.clone()));
        assert_eq!(store.absent_saves(), 1);
        // A request that was under way at the sign-out.
        store.delete(&record.id).await.unwrap();
        store.delete(&record.id).await.unwrap();
        store.save(&record).await.unwrap();
        assert_eq!(store.load(&record.id).await.unwrap(), None);
        assert_eq!(store.absent_saves(), 2);
        assert!(records_of(&fixture).await.is_empty());
    }

    async fn of_two_records_with_one_id_the_second_gets_another(fixture: Fixture) {
        let store = store(&fixture);
        let mut one = record(60);
        store.create(&mut one).await.unwrap();
        let mut two = Record { data: Default::default(), ..one.clone() };
        store.create(&mut two).await.unwrap();
        assert_ne!(one.id, two.id);
        assert_eq!(store.load(&one.id).await.unwrap(), Some(one));
        assert_eq!(store.load(&two.id).await.unwrap(), Some(two));
    }

    async fn a_record_that_has_expired_is_none_and_leaves_nothing(fixture: Fixture) {
        let store = store(&fixture);
        for seconds in [-10, -100_000_000_000] {
            let mut past = record(0);
            past.expiry_date = OffsetDateTime::UNIX_EPOCH + Duration::seconds(seconds.max(-62_000_000_000));
            store.create(&mut past).await.unwrap();
            assert_eq!(store.load(&past.id).await.unwrap(), None);
        }
        let mut live = record(60);
        store.create(&mut live).await.unwrap();
        live.expiry_date = OffsetDateTime::now_utc() - Duration::seconds(1);
        store.save(&live).await.unwrap();
        assert_eq!(store.load(&live.id).await.unwrap(), None);
        assert!(crate::round_trips::keys_of(&fixture).await.is_empty());
    }

    async fn nothing_stored_shows_the_id_of_a_record(fixture: Fixture) {
        let store = store(&fixture);
        let mut record = record(60);
        store.create(&mut record).await.unwrap();
        let key = crate::round_trips::keys_of(&fixture).await.remove(0);
        let value: String = fixture.client.call(redkit_core::Command::new("GET").key(&key)).await.unwrap();
        for shown in [key.to_string(), value, format!("{store:?}")] {
            assert!(!shown.contains(&record.id.to_string()) && !shown.contains(&record.id.0.to_string()), "{shown}");
        }
        // Encrypted where the client's codec does.
        let ring = KeyRing::new(1, EncryptionKey::from_bytes([7; 32]));
        let client = fixture.client.with_codec(Codec::json().encrypt(ring));
        let encrypting = TowerSessionStore::new(&client, "web", secrets()).unwrap();
        encrypting.save(&record).await.unwrap();
        assert_eq!(encrypting.load(&record.id).await.unwrap(), Some(record.clone()));
        assert!(store.load(&record.id).await.is_err());
    }
}

#[tokio::test]
async fn a_creation_whose_reply_was_lost_is_no_collision_with_itself() {
    let backend = FaultyBackend::embedded();
    let config = redkit_core::ClientConfig::default();
    let store = TowerSessionStore::new(&backend.client_with(&config), "web", secrets()).unwrap();
    store.create(&mut record(60)).await.unwrap();
    backend.set(Rule::new(Injection::LoseReply).on_name("EVALSHA").times(1));
    let mut record = record(60);
    let id = record.id;
    store.create(&mut record).await.unwrap();
    assert_eq!(record.id, id);
    // Without Redis every call is an error.
    backend.set(Rule::new(Injection::NotSent));
    assert!(store.create(&mut record).await.is_err());
    assert!(store.save(&record).await.is_err());
    assert!(store.load(&record.id).await.is_err());
    assert!(store.delete(&record.id).await.is_err());
}

/// The first attempt of a creation that was repeated arrives late.
#[tokio::test(start_paused = true)]
async fn a_creation_that_arrives_late_brings_no_record_back() {
    use redkit_core::Backend;
    use std::time::Duration;
    use tokio::time::{Instant, advance};

    let backend = FaultyBackend::embedded();
    let client = backend.client();
    let store = TowerSessionStore::new(&client, "web", secrets()).unwrap();
    let mut other = record(60);
    store.create(&mut other).await.unwrap();
    backend.forget();
    let mut record = record(60);
    store.create(&mut record).await.unwrap();
    let creation = backend.seen().remove(0);
    store.delete(&record.id).await.unwrap();
    store.delete(&record.id).await.unwrap();
    let deadline = Instant::now() + Duration::from_secs(1);
    let creation = creation.deadline(deadline);
    backend.call(&creation).await.unwrap();
    assert_eq!(store.load(&record.id).await.unwrap(), None);
    // A record that was never there leaves nothing, and the other's mark goes.
    store.delete(&Id::default()).await.unwrap();
    store.delete(&other.id).await.unwrap();
    advance(Duration::from_secs(61)).await;
    let mut keys = client.scan(redkit_core::Pattern::all()).keys();
    assert!(keys.next().await.is_none());
}
