//! How many commands the scripts of a lock call: they are most of what a lock costs the server.

use redkit_lock::LockManager;
use redkit_testkit::{Fixture, ServerOptions};

use crate::LONG;

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
                    assert_eq!(server.calls_since(&before).await.unwrap(), expected.join(" "), "taking it");
                    let before = server.calls().await.unwrap();
                    assert!(locks.try_acquire("k").await.is_err());
                    if !is_fair {
                        let called = server.calls_since(&before).await.unwrap();
                        assert_eq!(called, "evalsha get pttl time", "finding it taken");
                    }
                }
                let before = server.calls().await.unwrap();
                assert!(guard.release().await.unwrap());
                if is_known {
                    let called = server.calls_since(&before).await.unwrap();
                    assert_eq!(called, "del evalsha get", "giving it back");
                }
            }
        }
    }
}
