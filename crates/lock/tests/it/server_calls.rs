//! How many commands the scripts of a lock call: they are most of what a lock costs the server.

use std::collections::BTreeMap;

use redkit_lock::LockManager;
use redkit_testkit::{Fixture, Server, ServerOptions};

use crate::LONG;

/// The commands that a server has run since `before`, in the order of their names, each as often as it was run.
async fn called_since(server: &Server, before: &BTreeMap<String, u64>) -> String {
    let mut called = Vec::new();
    for (name, calls) in server.calls().await.unwrap() {
        let ran = calls - before.get(&name).copied().unwrap_or(0);
        if name != "info" {
            called.extend(std::iter::repeat_n(name, usize::try_from(ran).unwrap()));
        }
    }
    called.join(" ")
}

redkit_testkit::suite! {
    #[networked]
    async fn a_lock_that_nobody_else_wants_costs_the_server_few_commands(fixture: Fixture) {
        let server = fixture.private_server(ServerOptions::new()).await.unwrap();
        let client = fixture.connect(fixture.config_at(&server.url()).unwrap()).await.unwrap();
        for is_fair in [false, true] {
            let locks = LockManager::builder(&client, if is_fair { "fair" } else { "jobs" });
            let locks = locks.fair(is_fair).build().unwrap();
            let look = if is_fair { "exists" } else { "get" };
            for is_known in [false, true] {
                // With the first the server learns the scripts.
                let before = server.calls().await.unwrap();
                let guard = locks.acquire("k", LONG).await.unwrap();
                if is_known {
                    let mut expected = ["evalsha", look, "set", "set", "time"];
                    expected.sort_unstable();
                    assert_eq!(called_since(&server, &before).await, expected.join(" "), "taking it");
                    let before = server.calls().await.unwrap();
                    assert!(locks.try_acquire("k").await.is_err());
                    if !is_fair {
                        let called = called_since(&server, &before).await;
                        assert_eq!(called, "evalsha get pttl time", "finding it taken");
                    }
                }
                let before = server.calls().await.unwrap();
                assert!(guard.release().await.unwrap());
                if is_known {
                    let called = called_since(&server, &before).await;
                    assert_eq!(called, "del evalsha get", "giving it back");
                }
            }
        }
    }
}
