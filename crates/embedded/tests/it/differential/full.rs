//! A server whose memory is full refuses the same commands as the engine that is set to be.

use std::time::Duration;

use redkit_core::{Backend, CallError, Client, ClientConfig, Value};
use redkit_embedded::Embedded;
use redkit_testkit::{Program, Server, ServerOptions};
use tokio::time::Instant;

use super::compare::{Strictness, same};
use super::grammar::{Line, words};

/// What is there before the memory is full.
const BEFORE: &str = "SET k v ; HSET h f v ; RPUSH l a b ; ZADD z 1 a ; SADD s a ; XADD x 1-1 a b ; XADD x 1-2 a b ; \
    XGROUP CREATE x g 0 ; XGROUP CREATE x other 0 ; XGROUP CREATECONSUMER x g c ; XGROUP CREATECONSUMER x g d";

/// Commands on a full server, each behind those before it, on a connection of its own. What stands before ` / ` is sent
/// before the memory is full.
const WHEN_FULL: &[&str] = &[
    "XGROUP CREATE x new 0 ; XGROUP CREATE none new 0 MKSTREAM ; xgroup create x new 0 ; XGROUP CREATECONSUMER x g e",
    "XGROUP SETID x g 0 ; XGROUP DELCONSUMER x g d ; XGROUP DESTROY x other ; XGROUP DESTROY x none ; XGROUP FOO x g",
    "XREADGROUP GROUP g e COUNT 1 STREAMS x > ; XCLAIM x g c 0 1-1 JUSTID ; XACK x g 1-1 ; XDEL x 1-1 ; XDEL x 0-0 ; XTRIM x MAXLEN 1",
    "XADD x 2-1 a b ; XSETID x 3-1 ; XAUTOCLAIM x g e 0 0 JUSTID",
    "SET k w ; GET k ; GETDEL k ; APPEND k x ; INCR n ; PEXPIRE h 9000 ; PERSIST h ; DEL none",
    "HSETNX h g v ; HSET h f w ; HINCRBY h n 1 ; HDEL h f ; ZADD z 2 b ; ZREM z a ; ZREMRANGEBYSCORE z 0 9 ; SADD s b ; SREM s a",
    "RPUSH l c ; LPOP l ; LMOVE l m LEFT LEFT ; COPY k j ; RENAME k j ; PUBLISH c m",
    "EVAL `return redis.pcall('XADD', KEYS[1], '2-1', 'a', 'b').err and 1 or 0` 1 x ; EVAL `redis.call('HDEL', KEYS[1], '') return redis.call('XADD', KEYS[2], '2-1', 'a', 'b')` 2 none x",
    "EVAL `redis.call('PEXPIRE', KEYS[1], 9) return redis.call('SET', KEYS[1], 'v')` 1 none ; EVAL `redis.call('XDEL', KEYS[1], '0-0') return redis.call('ZADD', KEYS[2], 1, 'b')` 2 x z",
    "MULTI ; DEL k ; SET b 1 / EXEC ; GET k ; EXEC",
    "MULTI ; DEL k ; HGET h f / EXEC ; GET k",
    "MULTI ; EVAL `#!lua\nreturn 1` 0 / EXEC ; EVAL `#!lua\nreturn 1` 0 ; EVAL `#!lua flags=no-writes\nreturn 1` 0",
    "EVAL `#!lua flags=allow-oom\nreturn redis.call('SET', KEYS[1], 'w')` 1 k ; GET k",
    "EVAL `return redis.pcall('XGROUP', 'CREATE', KEYS[1], 'new', '0').err and 1 or 0` 1 x ; EVAL `return redis.call('XGROUP', 'DESTROY', KEYS[1], 'other')` 1 x",
];

/// Transactions whose commands come while the memory is full: Redis queues none of them, Valkey those that need no memory.
const QUEUED_WHEN_FULL: &str = "MULTI ; INCR k / GET k ; EXEC ; GET k ; MULTI ; WATCH k ; EXEC ; MULTI ; MULTI ; DISCARD ; MULTI ; DEL k ; NOPE ; \
    EXEC ; GET k";

#[tokio::test(flavor = "multi_thread")]
async fn a_full_redis_refuses_the_same_commands() {
    let scenes = [WHEN_FULL, &[QUEUED_WHEN_FULL]].concat();
    compare(Program::Redis, Strictness::Texts, &scenes).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_valkey_refuses_the_same_commands() {
    compare(Program::Valkey, Strictness::Codes, WHEN_FULL).await;
}

async fn compare(program: Program, strictness: Strictness, scenes: &[&str]) {
    let server = Server::start(program, ServerOptions::new()).await.unwrap();
    let config = ClientConfig::from_url(&server.url()).unwrap();
    let client = Client::connect(config).await.unwrap();
    let mut different = Vec::new();
    for when_full in scenes {
        let embedded = Embedded::new();
        let real: &dyn Backend = &**client.backend();
        let limit = async |most| {
            let set = ["CONFIG", "SET", "maxmemory", most];
            server.raw(&set).await.unwrap();
        };
        limit("0").await;
        for line in lines("FLUSHALL").chain(lines(BEFORE)) {
            for backend in [real, &embedded] {
                call(backend, &line).await.unwrap();
            }
        }
        let (queued, when_full) = when_full.split_once(" / ").unwrap_or(("", when_full));
        let (real, engine) = (
            real.dedicated().await.unwrap(),
            embedded.dedicated().await.unwrap(),
        );
        let queued: Vec<Line> = lines(queued).filter(|line| !line.0.is_empty()).collect();
        for line in &queued {
            for backend in [&real, &engine] {
                call(&**backend, line).await.unwrap();
            }
        }
        limit("1").await;
        embedded.set_full(true);
        for line in lines(when_full) {
            let expected = call(&*real, &line).await;
            let actual = call(&*engine, &line).await;
            // Behind `MULTI`.
            let transaction = queued.get(1..).unwrap_or_default();
            if !same(&line, transaction, &expected, &actual, strictness) {
                different.push(format!(
                    "{line}\n  server:   {expected:?}\n  embedded: {actual:?}"
                ));
            }
        }
    }
    assert!(different.is_empty(), "{}", different.join("\n\n"));
}

fn lines(scenario: &str) -> impl Iterator<Item = Line> {
    scenario.split(" ; ").map(|line| Line(words(line)))
}

async fn call(backend: &dyn Backend, line: &Line) -> Result<Value, CallError> {
    let deadline = Instant::now() + Duration::from_secs(20);
    backend.call(&line.command().deadline(deadline)).await
}
