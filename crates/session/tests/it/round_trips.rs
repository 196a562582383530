//! What is sent, and what is stored.

use redkit_core::{Client, Command, Key, Pattern};
use redkit_session::SessionStore;
use redkit_testkit::{Cluster, Fixture, Program, Server, ServerOptions};

use crate::{builder, signed_in, store, text};

/// All keys of the fixture's namespace.
pub(crate) async fn keys_of(fixture: &Fixture) -> Vec<Key> {
    let mut keys = Vec::new();
    let mut scan = fixture.client.scan(Pattern::all()).keys();
    while let Some(key) = scan.next().await {
        // Without the namespace.
        keys.push(fixture.client.key(key.unwrap()));
    }
    keys
}

/// The names of the entries that are stored in the only session.
pub(crate) async fn fields_of(fixture: &Fixture) -> Vec<String> {
    let keys = keys_of(fixture).await;
    let [key] = &keys[..] else {
        panic!("{keys:?}");
    };
    let fields: Vec<String> = fixture
        .client
        .call(Command::new("HKEYS").key(key))
        .await
        .unwrap();
    let names = fields.iter().filter_map(|field| field.strip_prefix('.'));
    let mut names: Vec<String> = names.map(str::to_owned).collect();
    names.sort();
    names
}

/// How many scripts the servers have run: every operation of a store is one.
async fn calls(servers: &[&Server]) -> u64 {
    let mut scripts = 0;
    for server in servers {
        let stats = server.raw(&["INFO", "commandstats"]).await.unwrap();
        for line in stats.text().unwrap().lines() {
            let scripted = ["cmdstat_evalsha:calls=", "cmdstat_eval:calls="];
            if let Some(rest) = scripted.iter().find_map(|name| line.strip_prefix(name)) {
                scripts += rest.split(',').next().unwrap().parse::<u64>().unwrap();
            }
        }
    }
    scripts
}

async fn count_round_trips(client: &Client, servers: &[&Server]) {
    let store: SessionStore = builder(client).build().unwrap();
    // The servers learn the scripts, and each other's slots.
    for number in 0..30 {
        let mut session = signed_in(&store, &format!("warm-{number}")).await;
        session.insert("a", &1).unwrap();
        session.commit().await.unwrap();
        store.load(&text(&session)).await.unwrap();
        store.sessions_of(&format!("warm-{number}")).await.unwrap();
        store.revoke_all(&format!("warm-{number}")).await.unwrap();
    }
    let session = signed_in(&store, "user-7").await;
    let id = text(&session);
    let mut expected = calls(servers).await;

    // A request that reads: one.
    store.load(&id).await.unwrap().unwrap();
    expected += 1;
    assert_eq!(calls(servers).await, expected, "a reading request");

    // A request that changes: two.
    let mut session = store.load(&id).await.unwrap().unwrap();
    session.insert("theme", "dark").unwrap();
    session.remove("a");
    session.commit().await.unwrap();
    session.commit().await.unwrap();
    expected += 2;
    assert_eq!(calls(servers).await, expected, "a changing request");

    // An anonymous request that writes nothing, and a text that is no id: none.
    let mut session = store.start().unwrap();
    session.commit().await.unwrap();
    store.load("forged").await.unwrap();
    assert_eq!(
        calls(servers).await,
        expected,
        "an untouched anonymous request"
    );

    // A list of devices: one.
    assert_eq!(store.sessions_of("user-7").await.unwrap().len(), 1);
    expected += 1;
    assert_eq!(calls(servers).await, expected, "a list");

    // All sessions of a user: one.
    store.revoke_all("user-7").await.unwrap();
    expected += 1;
    assert_eq!(calls(servers).await, expected, "revoking all");

    #[cfg(feature = "axum")]
    count_of_requests(&store, servers).await;
}

/// The same, of HTTP requests through the layer.
#[cfg(feature = "axum")]
async fn count_of_requests(store: &SessionStore, servers: &[&Server]) {
    use crate::tower::{Visitor, app};

    let app = app(store);
    let session = signed_in(store, "user-9").await;
    let mut user = Visitor {
        cookie: Some(format!("__Host-id={}", text(&session))),
    };
    let mut stranger = Visitor::default();
    let mut forger = Visitor {
        cookie: Some("__Host-id=forged".to_owned()),
    };
    let mut expected = calls(servers).await;
    for (is_user, method, path, scripts) in [
        (true, "GET", "/taken", 0),
        (true, "GET", "/shown", 1),
        (true, "POST", "/count", 2),
        (true, "GET", "/devices", 2),
        (false, "GET", "/shown", 0),
    ] {
        let visitors = match is_user {
            true => vec![&mut user],
            false => vec![&mut stranger, &mut forger],
        };
        for visitor in visitors {
            let request = axum::http::Request::builder().method(method).uri(path);
            assert!(visitor.send(&app, request).await.status.is_success());
            expected += scripts;
            assert_eq!(calls(servers).await, expected, "{method} {path}");
        }
    }
    // A visitor's first change stores the session: one.
    stranger.post(&app, "/count").await;
    assert_eq!(calls(servers).await, expected + 1, "a first change");
}

redkit_testkit::suite! {
    #[networked]
    async fn each_request_has_its_round_trips_on_one_server(fixture: Fixture) {
        let server = fixture.private_server(ServerOptions::new()).await.unwrap();
        let client = fixture.connect(fixture.config_at(&server.url()).unwrap()).await.unwrap();
        count_round_trips(&client, &[&server]).await;
    }

    async fn nothing_stored_shows_an_id(fixture: Fixture) {
        let store = store(&fixture);
        let mut session = signed_in(&store, "user-7").await;
        let mut ids = vec![text(&session)];
        session.rotate().await.unwrap();
        ids.push(text(&session));
        session.insert("a", &1).unwrap();
        session.commit().await.unwrap();
        for key in keys_of(&fixture).await {
            let kind: String = fixture.client.call(Command::new("TYPE").key(&key)).await.unwrap();
            let read = match &*kind {
                "hash" => Command::new("HGETALL").key(&key),
                _ => Command::new("ZRANGE").key(&key).arg(0).arg(-1),
            };
            let content: redkit_core::Value = fixture.client.call(read).await.unwrap();
            let shown = format!("{key} {content:?}");
            for id in &ids {
                assert!(!shown.contains(&id[4..]), "{shown}");
            }
        }
        let debugged = format!("{session:?} {:?} {store:?}", session.id());
        assert!(!debugged.contains(&ids[1]) && !debugged.contains(session.handle().as_str()));
    }

    async fn all_keys_of_a_user_share_a_slot_and_end(fixture: Fixture) {
        let store = store(&fixture);
        let session = signed_in(&store, "user-7").await;
        signed_in(&store, "user-7").await;
        let keys = keys_of(&fixture).await;
        assert_eq!(keys.len(), 5, "{keys:?}");
        store.revoke_all("user-7").await.unwrap();
        drop(session);
        for key in keys_of(&fixture).await {
            assert_eq!(key.slot(), keys[0].slot());
            let ttl: i64 = fixture.client.call(Command::new("TTL").key(&key)).await.unwrap();
            assert!(ttl > 0, "{key}: {ttl}");
        }
    }
}

#[tokio::test]
async fn each_request_has_its_round_trips_on_a_cluster() {
    let cluster = Cluster::start(Program::Redis, 3, 0).await.unwrap();
    let config = redkit_core::ClientConfig::from_url(&cluster.url()).unwrap();
    let client = Client::connect(config).await.unwrap();
    let servers: Vec<&Server> = cluster.nodes().iter().collect();
    count_round_trips(&client, &servers).await;
}
