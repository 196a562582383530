//! How many commands a request's scripts call: they are most of what a session costs the server.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use redkit_core::Command;
use redkit_session::SessionStore;
use redkit_testkit::{Fixture, Server, ServerOptions};

use crate::round_trips::keys_of;
use crate::{again, builder, signed_in};

async fn store_at(fixture: &Fixture, server: &Server, is_touched: bool) -> SessionStore {
    // Nothing but the scripts runs meanwhile.
    let config = fixture.config_at(&server.url()).unwrap();
    let client = fixture.connect(config).await.unwrap();
    let granularity = if is_touched { 0 } else { 60 };
    let granularity = Duration::from_secs(granularity);
    builder(&client)
        .touch_granularity(granularity)
        .build()
        .unwrap()
}

redkit_testkit::suite! {
    #[networked]
    async fn a_request_costs_the_server_few_commands(fixture: Fixture) {
        let server = fixture.private_server(ServerOptions::new()).await.unwrap();
        let store = store_at(&fixture, &server, false).await;
        let mut session = signed_in(&store, "user-7").await;
        for value in 0..2 {
            // The server knows the scripts then.
            session.insert("a", &value).unwrap();
            session.commit().await.unwrap();
            again(&store, &session).await.unwrap();
        }
        let before = server.calls().await.unwrap();
        let mut loaded = again(&store, &session).await.unwrap();
        assert_eq!(
            server.calls_since(&before).await.unwrap(),
            "evalsha hget hgetall pexpiretime time",
            "a load"
        );

        let before = server.calls().await.unwrap();
        loaded.insert("a", &2).unwrap();
        loaded.insert("b", &3).unwrap();
        loaded.commit().await.unwrap();
        assert_eq!(
            server.calls_since(&before).await.unwrap(),
            "evalsha hget hmget hset time",
            "a commit"
        );

        let before = server.calls().await.unwrap();
        loaded.remove("b");
        loaded.insert("c", &3).unwrap();
        loaded.commit().await.unwrap();
        assert_eq!(
            server.calls_since(&before).await.unwrap(),
            "evalsha hdel hget hmget hset time",
            "a commit that removes"
        );

        let store = store_at(&fixture, &server, true).await;
        let before = server.calls().await.unwrap();
        // The expiry moves by whole milliseconds.
        tokio::time::sleep(Duration::from_millis(5)).await;
        again(&store, &session).await.unwrap();
        assert_eq!(
            server.calls_since(&before).await.unwrap(),
            "evalsha hget hgetall hset hset pexpireat pexpireat pexpireat pexpireat pexpiretime time zadd",
            "a load that touches"
        );
    }

    // Entries beyond what one command is given at once.
    async fn a_commit_of_thousands_of_entries_is_one_commit(fixture: Fixture) {
        let store = builder(&fixture.client).max_bytes(1024 * 1024).build().unwrap();
        let mut session = store.create().await.unwrap();
        let names: Vec<String> = (0..2_500).map(|number| format!("entry-{number}")).collect();
        for name in &names {
            session.insert(name, &1).unwrap();
        }
        session.commit().await.unwrap();
        let mut loaded = again(&store, &session).await.unwrap();
        assert!(names.iter().all(|name| loaded.contains(name)));
        for name in &names[..1_200] {
            loaded.remove(name);
        }
        for name in &names[1_200..] {
            loaded.insert(name, &2).unwrap();
        }
        loaded.commit().await.unwrap();
        let loaded = again(&store, &session).await.unwrap();
        assert_eq!(loaded.revision(), Some(3));
        assert!(names[..1_200].iter().all(|name| !loaded.contains(name)));
        assert!(names[1_200..].iter().all(|name| loaded.get(name).unwrap() == Some(2)));
        // What it holds is counted.
        let keys = keys_of(&fixture).await;
        let all = Command::new("HGETALL").key(&keys[0]);
        let all: BTreeMap<String, Bytes> = fixture.client.call(all).await.unwrap();
        let entries = all.iter().filter(|(name, _)| name.starts_with('.'));
        let bytes: usize = entries.map(|(name, stored)| name.len() - 1 + stored.len() - 1).sum();
        assert_eq!(all["z"], bytes.to_string());
    }

    // What a rotation stores goes through one call, too.
    async fn a_session_of_thousands_of_entries_is_rotated(fixture: Fixture) {
        let store = builder(&fixture.client).max_bytes(1024 * 1024).build().unwrap();
        let mut session = store.start().unwrap();
        for number in 0..2_500 {
            session.insert(&format!("entry-{number}"), &number).unwrap();
        }
        session.commit().await.unwrap();
        session.rotate().await.unwrap();
        let loaded = again(&store, &session).await.unwrap();
        assert_eq!(loaded.get("entry-2499").unwrap(), Some(2_499));
        assert!(loaded.contains("entry-0"));
    }
}
