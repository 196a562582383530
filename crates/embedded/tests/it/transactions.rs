//! Transactions, on a session of their own and in one pipeline.

use std::time::Duration;

use redkit_core::Backend;
use redkit_embedded::Embedded;

use crate::shell::{command, run, session, write};

#[tokio::test]
async fn a_dedicated_session_has_transactions() {
    let engine = Embedded::new();
    let own = engine.dedicated().await.unwrap();
    session(
        &*own,
        "
        EXEC => -ERR EXEC without MULTI
        DISCARD => -ERR DISCARD without MULTI
        MULTI => OK
        MULTI => -ERR MULTI calls can not be nested
        WATCH k => -ERR WATCH inside MULTI is not allowed
        SET k v => +QUEUED
        LPUSH k x => +QUEUED
        EVAL 'return redis.call([[get]], KEYS[1])' 1 k => +QUEUED
        EXEC => [OK -WRONGTYPE Operation against a key holding the wrong kind of value \"v\"]
        MULTI => OK
        NOPE => -ERR unknown command 'NOPE', with args beginning with: 
        GET => -ERR wrong number of arguments for 'get' command
        EXEC => -EXECABORT Transaction discarded because of previous errors.
        MULTI => OK
        SET k w => +QUEUED
        DISCARD => OK
        GET k => \"v\"
        ",
    )
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_watched_key_that_changes_in_any_way_stops_the_transaction() {
    let engine = Embedded::new();
    for (change, stops) in [
        ("SET k v", true),
        ("DEL k", true),
        ("EXPIRE k 10", true),
        ("FLUSHALL", true),
        ("RENAME k m", true),
        ("EVAL 'redis.call([[set]], KEYS[1], 1)' 1 k", true),
        ("SET other v", false),
        ("GET k", false),
        ("SADD k x", false),
        ("SETNX k x", false),
    ] {
        let own = engine.dedicated().await.unwrap();
        session(&engine, "FLUSHALL => OK\n SET k v => OK").await;
        session(&*own, "WATCH k => OK").await;
        run(&engine, change).await;
        session(&*own, "MULTI => OK\n PING => +QUEUED").await;
        let expected = if stops { "nil" } else { "[+PONG]" };
        assert_eq!(run(&*own, "EXEC").await, expected, "{change}");
    }
    let own = engine.dedicated().await.unwrap();
    session(&engine, "SET k v PX 1000 => OK").await;
    session(&*own, "WATCH k => OK").await;
    tokio::time::advance(Duration::from_secs(2)).await;
    session(&*own, "MULTI => OK\n PING => +QUEUED\n EXEC => nil").await;
}

#[tokio::test]
async fn reset_ends_a_transaction_and_clears_the_name() {
    let own = Embedded::new().dedicated().await.unwrap();
    session(
        &*own,
        "
        CLIENT SETNAME worker => OK
        WATCH k => OK
        MULTI => OK
        SET k v => +QUEUED
        RESET => +RESET
        GET k => nil
        EXEC => -ERR EXEC without MULTI
        CLIENT GETNAME => nil
        ",
    )
    .await;
    let list = run(&*own, "CLIENT LIST").await;
    assert!(!list.contains("worker"), "{list}");
}

#[tokio::test]
async fn a_shared_backend_takes_a_transaction_in_one_pipeline_only() {
    let engine = Embedded::new();
    let refused = run(&engine, "MULTI").await;
    assert!(
        refused.contains("dedicated") && refused.contains("pipeline"),
        "{refused}"
    );
    let commands = ["MULTI", "INCR n", "GET n", "EXEC", "GET n"].map(command);
    let replies: Vec<String> = engine
        .pipeline(&commands)
        .await
        .unwrap()
        .into_iter()
        .map(write)
        .collect();
    assert_eq!(replies, ["OK", "+QUEUED", "+QUEUED", "[:1 \"1\"]", "\"1\""]);
    assert!(
        engine
            .pipeline(&["MULTI", "GET n"].map(command))
            .await
            .is_err()
    );
}

#[tokio::test]
async fn a_full_engine_queues_nothing_and_carries_out_no_part_of_a_transaction() {
    const OOM: &str = "OOM command not allowed when used memory > 'maxmemory'.";
    let engine = Embedded::new();
    let own = engine.dedicated().await.unwrap();
    session(
        &*own,
        "SET a 1 => OK\n MULTI => OK\n DEL a => +QUEUED\n SET b 1 => +QUEUED",
    )
    .await;
    engine.set_full(true);
    let aborted = format!("-EXECABORT Transaction discarded because of: {OOM}");
    assert_eq!(run(&*own, "EXEC").await, aborted);
    session(&*own, "EXISTS a => :1\n EXEC => -ERR EXEC without MULTI").await;
    for queued in ["GET a", "DEL a", "MULTI", "WATCH a", "PING"] {
        session(&*own, "MULTI => OK").await;
        assert_eq!(run(&*own, queued).await, format!("-{OOM}"), "{queued}");
        let broken = "-EXECABORT Transaction discarded because of previous errors.";
        assert_eq!(run(&*own, "EXEC").await, broken);
    }
    session(
        &*own,
        "MULTI => OK\n DISCARD => OK\n MULTI => OK\n EXEC => []",
    )
    .await;
    // What was queued before and takes no memory is carried out.
    engine.set_full(false);
    session(&*own, "MULTI => OK\n DEL a => +QUEUED\n GET a => +QUEUED").await;
    engine.set_full(true);
    session(&*own, "EXEC => [:1 nil]").await;
}
