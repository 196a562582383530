//! Bad ids, bad data, and Redis out of reach.

use redkit_core::Command;
use redkit_session::{Error, SessionSecrets, SessionStore, SignIn};
use redkit_testkit::{Fixture, Server, ServerOptions};

use crate::{again, builder, secrets, signed_in, store, text};

redkit_testkit::suite! {
    async fn ids_that_were_not_issued_load_nothing(fixture: Fixture) {
        let store = store(&fixture);
        let session = signed_in(&store, "user-7").await;
        let id = text(&session);
        let mut forged = vec![
            String::new(),
            "x".to_owned(),
            id[1..].to_owned(),
            format!("{id}A"),
            "A".repeat(10_240),
            "ü".repeat(24),
            format!("{}+", &id[..47]),
            format!("{}\0", &id[..47]),
            id.to_uppercase(),
        ];
        // One character changed, in every place: version, tag, random bits.
        for place in 0..id.len() {
            let other = if &id[place..=place] == "A" { "B" } else { "A" };
            forged.push(format!("{}{other}{}", &id[..place], &id[place + 1..]));
        }
        for forged in forged {
            assert!(store.load(&forged).await.unwrap().is_none(), "{forged}");
        }
        // An id that was made up does not become a session.
        assert!(store.load(&"B".repeat(48)).await.unwrap().is_none());
        assert!(again(&store, &session).await.is_some());
    }

    async fn peppers_rotate_and_old_ones_end(fixture: Fixture) {
        let old = store(&fixture);
        let session = signed_in(&old, "user-7").await;
        let newer = |secrets: SessionSecrets| {
            SessionStore::builder(&fixture.client, "web", secrets).build().unwrap()
        };
        let new = || SessionSecrets::new(vec![1; 32], 3, vec![3; 32]).unwrap();
        let both = newer(new().with_older(2, vec![2; 32]).unwrap());
        let mut moved = again(&both, &session).await.unwrap();
        assert_eq!(both.sessions_of("user-7").await.unwrap().len(), 1);
        moved.rotate().await.unwrap();
        let alone = newer(new());
        assert!(again(&alone, &session).await.is_none());
        assert_eq!(again(&alone, &moved).await.unwrap().user(), Some("user-7"));
        // Another pepper under the same version is another key.
        let wrong = newer(SessionSecrets::new(vec![1; 32], 2, vec![9; 32]).unwrap());
        assert!(again(&wrong, &session).await.is_none());
    }

    async fn names_and_users_are_checked(fixture: Fixture) {
        let store = store(&fixture);
        let mut session = store.start().unwrap();
        assert!(matches!(session.insert("", &1), Err(Error::Name(0))));
        assert!(matches!(session.insert(&"x".repeat(257), &1), Err(Error::Name(257))));
        assert!(matches!(session.sign_in(SignIn::new("")).await, Err(Error::EmptyUser)));
        assert!(matches!(store.revoke_all("").await, Err(Error::EmptyUser)));
        assert!(matches!(store.sessions_of("").await, Err(Error::EmptyUser)));
        let hostile = "}{:*\r\n%\0ü".repeat(200);
        let mut session = store.start().unwrap();
        session.sign_in(SignIn::new(&hostile).device(&hostile)).await.unwrap();
        assert_eq!(again(&store, &session).await.unwrap().user(), Some(&*hostile));
        assert_eq!(store.sessions_of(&hostile).await.unwrap()[0].device.chars().count(), 200);
        store.revoke_all(&hostile).await.unwrap();
        assert!(again(&store, &session).await.is_none());
    }

    async fn damaged_data_is_an_error_and_no_session(fixture: Fixture) {
        let store = store(&fixture);
        let session = store.create().await.unwrap();
        let keys = crate::round_trips::keys_of(&fixture).await;
        let [key] = &keys[..] else { panic!("{keys:?}") };
        let set = Command::new("HSET").key(key).arg(".a").arg("no envelope");
        let _: i64 = fixture.client.call(set).await.unwrap();
        assert!(matches!(store.load(&text(&session)).await, Err(Error::Core(_))));
        // A hash that lacks what a session has is none, as it is after a sign-out and another program's write.
        let lacking = Command::new("HDEL").key(key).arg("c");
        let _: i64 = fixture.client.call(lacking).await.unwrap();
        assert!(store.load(&text(&session)).await.unwrap().is_none());
        let _: () = fixture.client.call(Command::new("SET").key(key).arg("x")).await.unwrap();
        assert!(matches!(store.load(&text(&session)).await, Err(Error::Core(_))));
    }

    #[networked]
    async fn without_redis_there_is_an_error_and_never_an_anonymous_session(fixture: Fixture) {
        let server = fixture.private_server(ServerOptions::new()).await.unwrap();
        let config = fixture.config_at(&server.url()).unwrap();
        let config = config.command_timeout(std::time::Duration::from_millis(500));
        let client = fixture.connect(config).await.unwrap();
        let store = builder(&client).build().unwrap();
        let mut session = signed_in(&store, "user-7").await;
        let id = text(&session);
        server.kill9().await;
        assert!(matches!(store.load(&id).await, Err(Error::Core(_))));
        assert!(matches!(session.sign_in(SignIn::new("user-8")).await, Err(Error::Core(_))));
        // It is what it was.
        assert_eq!((session.user(), text(&session)), (Some("user-7"), id));
        session.insert("a", &1).unwrap();
        assert!(matches!(session.commit().await, Err(Error::Core(_))));
        assert!(session.has_changes());
    }
}

// Not on every driver: that on `fred` sends scripts in transactions, and a server that is full takes none.
#[tokio::test]
async fn a_server_without_memory_loads_and_touches() {
    let server = Server::redis(ServerOptions::new()).await.unwrap();
    let config = redkit_core::ClientConfig::from_url(&server.url()).unwrap();
    let client = redkit_core::Client::connect(config).await.unwrap();
    let store = builder(&client).touch_granularity(std::time::Duration::ZERO);
    let store = store.build().unwrap();
    let mut session = signed_in(&store, "user-7").await;
    let seen = store.sessions_of("user-7").await.unwrap()[0].last_seen;
    let mut nobodys = store.start().unwrap();
    nobodys.insert("a", &1).unwrap();
    nobodys.commit().await.unwrap();
    let mut other_handle = again(&store, &nobodys).await.unwrap();
    let spared = signed_in(&store, "user-8").await;
    let other = signed_in(&store, "user-8").await;
    let mut indexed = store.start().unwrap();
    let sign_in = SignIn::new("user-9").index("sid", "op-1");
    indexed.sign_in(sign_in).await.unwrap();
    let full = ["CONFIG", "SET", "maxmemory", "1"];
    server.raw(&full).await.unwrap();
    session.insert("a", &1).unwrap();
    let refused = session.commit().await.unwrap_err();
    assert!(refused.to_string().contains("OOM"), "{refused}");
    // The expiry moves by whole milliseconds.
    tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    let loaded = again(&store, &session).await.unwrap();
    assert_eq!(loaded.user(), Some("user-7"));
    assert!(store.sessions_of("user-7").await.unwrap()[0].last_seen > seen);
    assert!(session.delete().await.unwrap());
    assert!(nobodys.delete().await.unwrap());
    assert!(!other_handle.delete().await.unwrap());
    spared.revoke_others().await.unwrap();
    assert!(again(&store, &other).await.is_none());
    assert!(again(&store, &spared).await.is_some());
    store.revoke_all("user-8").await.unwrap();
    assert!(again(&store, &spared).await.is_none());
    assert_eq!(store.revoke_indexed("sid", "op-1").await.unwrap(), 1);
    assert!(again(&store, &indexed).await.is_none());
}

#[tokio::test]
async fn settings_that_cannot_work_are_refused() {
    use std::time::Duration;

    let config = redkit_core::ClientConfig::from_url("embedded://").unwrap();
    let backend = std::sync::Arc::new(redkit_embedded::Embedded::new());
    let client = redkit_core::Client::from_backend(backend, &config).unwrap();
    let refused = |builder: redkit_session::SessionStoreBuilder| {
        builder.build().map(|_| ()).unwrap_err().to_string()
    };
    let day = Duration::from_secs(86_400);
    for (wrong, field) in [
        (
            builder(&client).idle_timeout(Duration::ZERO),
            "idle_timeout",
        ),
        (builder(&client).idle_timeout(day), "idle_timeout"),
        (
            builder(&client).absolute_timeout(401 * day),
            "absolute_timeout",
        ),
        (builder(&client).touch_granularity(day), "touch_granularity"),
        (builder(&client).rotation_grace(day), "rotation_grace"),
        (builder(&client).max_bytes(0), "max_bytes"),
        (SessionStore::builder(&client, "a b", secrets()), "name"),
    ] {
        let error = refused(wrong);
        assert!(error.contains(field), "{error}");
    }
    let mut session = builder(&client).build().unwrap().start().unwrap();
    let sign_in = SignIn::new("u").lifetime(redkit_session::Lifetime::new(day, 2 * 400 * day));
    assert!(session.sign_in(sign_in).await.is_err());
    // One that would end while it is used: a load moves its expiry only when that gains a minute.
    let short = redkit_session::Lifetime::new(Duration::from_secs(60), day);
    let refused = session.sign_in(SignIn::new("u").lifetime(short)).await;
    let refused = refused.unwrap_err().to_string();
    assert!(refused.contains("touch_granularity"), "{refused}");
    let longer = redkit_session::Lifetime::new(Duration::from_secs(61), day);
    let sign_in = SignIn::new("u").lifetime(longer);
    session.sign_in(sign_in).await.unwrap();
}

#[tokio::test]
async fn each_way_to_have_no_session_is_counted() {
    use metrics_util::debugging::{DebugValue, DebuggingRecorder};

    let client = redkit_core::Client::from_backend(
        std::sync::Arc::new(redkit_embedded::Embedded::new()),
        &redkit_core::ClientConfig::default(),
    )
    .unwrap();
    let recorder = DebuggingRecorder::new();
    let store = metrics::with_local_recorder(&recorder, || builder(&client).build().unwrap());
    let mut session = signed_in(&store, "user-7").await;
    let mut rotated = again(&store, &session).await.unwrap();
    rotated.rotate().await.unwrap();
    store.load("forged").await.unwrap();
    // An id of a pepper that nobody has.
    store.load(&"B".repeat(48)).await.unwrap();
    let other = builder(&client).build().unwrap().start().unwrap();
    assert!(again(&store, &other).await.is_none());
    store.revoke_all("user-7").await.unwrap();
    assert!(again(&store, &rotated).await.is_none());
    session.insert("a", &1).unwrap();
    assert!(matches!(session.commit().await, Err(Error::Gone)));
    rotated.insert("a", &1).unwrap();
    assert!(matches!(rotated.commit().await, Err(Error::Gone)));
    let mut counted: Vec<String> = recorder
        .snapshotter()
        .snapshot()
        .into_vec()
        .into_iter()
        .filter_map(|(key, _, _, value)| {
            let DebugValue::Counter(count @ 1..) = value else {
                return None;
            };
            let label = key.key().labels().find(|label| label.key() != "store")?;
            Some(format!("{} {count}", label.value()))
        })
        .collect();
    counted.sort();
    assert_eq!(
        counted,
        [
            "absent 1",
            "found 1",
            "gone 2",
            "malformed 2",
            "revoked 1",
            "rotated 1"
        ]
    );
}
