//! What monitoring and other connections see of the engine.

use std::collections::HashMap;
use std::time::Duration;

use redkit_core::Backend;
use redkit_embedded::Embedded;
use tokio::task::yield_now;
use tokio::time::advance;

use crate::shell::{command, run, session};

/// The lines of `INFO`.
async fn info(engine: &Embedded, section: &str) -> HashMap<String, String> {
    let text = engine.call(&command(&format!("INFO {section}"))).await;
    let text: String = text.unwrap().to().unwrap();
    let lines = text.lines().filter_map(|line| line.split_once(':'));
    lines.map(|(k, v)| (k.to_owned(), v.to_owned())).collect()
}

#[tokio::test(start_paused = true)]
async fn info_counts_what_happened() {
    let engine = Embedded::new();
    let _own = engine.dedicated().await.unwrap();
    session(
        &engine,
        "
        SET k v PX 100 => OK
        GET k => \"v\"
        GET k => \"v\"
        GET none => nil
        GET => -ERR wrong number of arguments for 'get' command
        LPUSH k x => -WRONGTYPE Operation against a key holding the wrong kind of value
        ",
    )
    .await;
    run(&engine, "EVAL 'return redis.call([[get]], KEYS[1])' 1 k").await;
    advance(Duration::from_secs(90_000)).await;
    let default = info(&engine, "").await;
    for (field, value) in [
        ("role", "master"),
        ("uptime_in_days", "1"),
        ("uptime_in_seconds", "90000"),
        ("connected_clients", "2"),
        ("blocked_clients", "0"),
        ("keyspace_hits", "3"),
        ("keyspace_misses", "1"),
        ("total_commands_processed", "7"),
        ("evicted_keys", "0"),
        ("expired_keys", "1"),
        ("used_memory", "0"),
    ] {
        assert_eq!(
            default.get(field).map(String::as_str),
            Some(value),
            "{field}"
        );
    }
    assert!(
        !default
            .keys()
            .any(|field| field.starts_with("cmdstat") || field == "db0")
    );
    let commands = info(&engine, "commandstats").await;
    assert!(commands["cmdstat_get"].starts_with("calls=4,usec="));
    assert!(commands["cmdstat_get"].ends_with(",rejected_calls=1,failed_calls=0"));
    assert!(commands["cmdstat_lpush"].ends_with(",rejected_calls=0,failed_calls=1"));
    assert_eq!(commands.len(), 5, "{commands:?}");
    session(&engine, "CONFIG RESETSTAT => OK\n SET k v => OK").await;
    assert_eq!(info(&engine, "commandstats").await.len(), 2);
    assert_eq!(
        info(&engine, "keyspace").await["db0"],
        "keys=1,expires=0,avg_ttl=0"
    );
}

#[tokio::test(start_paused = true)]
async fn an_engine_whose_time_is_given_does_not_measure_what_would_make_runs_differ() {
    let measured = async |engine: Embedded| {
        // A script that takes the system's clock a while.
        let script = "for n = 1, 20000 do redis.call('INCR', KEYS[1]) end return 1";
        let eval = command("EVAL").arg(script).arg(1).arg("k");
        engine.call(&eval).await.unwrap();
        let commands = info(&engine, "commandstats").await;
        let took = |name: &str| commands[name].contains(",usec=0,");
        [took("cmdstat_eval"), took("cmdstat_incr")]
    };
    assert_eq!(measured(Embedded::new()).await, [false, false]);
    let given = Embedded::starting_at(Duration::from_secs(1_000_000_000));
    assert_eq!(measured(given).await, [true, true]);
}

#[tokio::test]
async fn memory_grows_with_what_is_stored() {
    let engine = Embedded::new();
    let used = async || {
        info(&engine, "memory").await["used_memory"]
            .parse::<usize>()
            .unwrap()
    };
    let large = "x".repeat(100_000);
    for n in 0..1_000 {
        run(&engine, &format!("SET small{n} v")).await;
    }
    let before = used().await;
    assert!((90_000..300_000).contains(&before), "{before}");
    run(&engine, &format!("SET large {large}")).await;
    let usage = async |key: &str| {
        let usage = engine.call(&command(&format!("MEMORY USAGE {key}"))).await;
        usage.unwrap().to::<Option<usize>>().unwrap()
    };
    assert!(usage("large").await.unwrap() >= 100_000);
    assert!(usage("small1").await.unwrap() < 200);
    assert_eq!(usage("none").await, None);
}

#[tokio::test(start_paused = true)]
async fn objects_tell_how_they_are_stored_and_since_when_nobody_used_them() {
    let engine = Embedded::new();
    session(
        &engine,
        "
        SET s text => OK
        SET n 12 => OK
        RPUSH l a => :1
        HSET h f v => :1
        SADD i 1 2 => :2
        SADD t a => :1
        ZADD z 1 a => :1
        XADD x 1-0 f v => \"1-0\"
        OBJECT ENCODING s => \"embstr\"
        OBJECT ENCODING n => \"int\"
        OBJECT ENCODING l => \"quicklist\"
        OBJECT ENCODING h => \"listpack\"
        OBJECT ENCODING i => \"intset\"
        OBJECT ENCODING t => \"hashtable\"
        OBJECT ENCODING z => \"listpack\"
        OBJECT ENCODING x => \"stream\"
        OBJECT REFCOUNT s => :1
        ",
    )
    .await;
    advance(Duration::from_secs(10)).await;
    session(
        &engine,
        "OBJECT IDLETIME s => :10\n OBJECT IDLETIME s => :10\n TOUCH s => :1",
    )
    .await;
    advance(Duration::from_secs(3)).await;
    session(
        &engine,
        "OBJECT IDLETIME s => :3\n OBJECT IDLETIME l => :13",
    )
    .await;
}

#[tokio::test(start_paused = true)]
async fn connections_are_listed_and_can_be_unblocked() {
    let engine = Embedded::new();
    let own = engine.dedicated().await.unwrap();
    session(
        &*own,
        "CLIENT SETNAME worker => OK\n CLIENT SETINFO LIB-NAME redkit => OK",
    )
    .await;
    let id = run(&*own, "CLIENT ID").await;
    let id = id.trim_start_matches(':').to_owned();
    advance(Duration::from_secs(5)).await;
    let list = run(&engine, "CLIENT LIST").await;
    assert!(
        list.contains(&format!("id={id} ")) && list.contains("name=worker age=5 flags=N"),
        "{list}"
    );
    for (how, reply) in [
        ("", "nil"),
        ("TIMEOUT", "nil"),
        ("ERROR", "-UNBLOCKED client unblocked via CLIENT UNBLOCK"),
    ] {
        let waiting = tokio::spawn({
            let own = std::sync::Arc::clone(&own);
            async move { run(&*own, "BLPOP k 0").await }
        });
        while !run(&engine, "CLIENT LIST").await.contains("flags=b") {
            yield_now().await;
        }
        assert_eq!(
            run(&engine, &format!("CLIENT UNBLOCK {id} {how}")).await,
            ":1"
        );
        assert_eq!(waiting.await.unwrap(), reply);
    }
    assert_eq!(run(&engine, &format!("CLIENT UNBLOCK {id}")).await, ":0");
    drop(own);
    let list = run(&engine, "CLIENT LIST").await;
    assert!(!list.contains("worker"), "{list}");
}

#[tokio::test(start_paused = true)]
async fn commands_about_a_key_leave_it_idle() {
    let engine = Embedded::new();
    session(&engine, "SET k v EX 1000 => OK").await;
    for (command, idle) in [
        ("TTL k", 10),
        ("PTTL k", 20),
        ("EXPIRETIME k", 30),
        ("PEXPIRETIME k", 40),
        ("TYPE k", 50),
        ("EXISTS k", 60),
        ("OBJECT ENCODING k", 70),
        ("WATCH k", 80),
        ("TOUCH k", 0),
        ("GET k", 0),
    ] {
        tokio::time::advance(std::time::Duration::from_secs(10)).await;
        let own = engine.dedicated().await.unwrap();
        run(&*own, command).await;
        let idletime = run(&engine, "OBJECT IDLETIME k").await;
        assert_eq!(idletime, format!(":{idle}"), "{command}");
    }
}

#[tokio::test]
async fn hello_names_the_server() {
    let own = Embedded::new().dedicated().await.unwrap();
    let hello = run(&*own, "HELLO 3 SETNAME me").await;
    assert!(
        hello.contains("\"version\": \"7.0.15\", \"proto\": :3"),
        "{hello}"
    );
    session(
        &*own,
        "
        CLIENT GETNAME => \"me\"
        HELLO 2 => -NOPROTO unsupported protocol version
        QUIT => OK
        ",
    )
    .await;
}
