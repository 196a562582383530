//! Expiry in virtual time.

use std::time::Duration;

use redkit_core::{Backend, Command, Value};
use redkit_embedded::Embedded;
use tokio::time::advance;

use crate::shell::{run, session};

#[tokio::test(start_paused = true)]
async fn a_key_is_there_to_its_last_millisecond() {
    let engine = Embedded::new();
    run(&engine, "SET k v PX 1500").await;
    advance(Duration::from_millis(1_500)).await;
    session(&engine, "PTTL k => :0\n GET k => \"v\"").await;
    advance(Duration::from_millis(1)).await;
    session(
        &engine,
        "GET k => nil\n PTTL k => :-2\n EXISTS k => :0\n DBSIZE => :0\n KEYS * => []\n RANDOMKEY => nil\n SCAN 0 => [\"0\" []]",
    )
    .await;
}

#[tokio::test(start_paused = true)]
async fn expiries_survive_what_they_survive_on_the_server() {
    let engine = Embedded::new();
    session(
        &engine,
        "
        SET k 1 EX 100 => OK
        INCR k => :2
        APPEND k 0 => :2
        TTL k => :100
        RENAME k m => OK
        TTL m => :100
        COPY m n => :1
        TTL n => :100
        SET m v KEEPTTL => OK
        TTL m => :100
        SET m v => OK
        TTL m => :-1
        EXPIRE n 50 GT => :0
        EXPIRE n 200 GT => :1
        EXPIRE m 50 GT => :0
        EXPIRE m 50 LT => :1
        PERSIST m => :1
        TTL m => :-1
        EXPIRE m -1 => :1
        EXISTS m => :0
        ",
    )
    .await;
    advance(Duration::from_secs(60)).await;
    session(&engine, "TTL n => :140").await;
}

#[tokio::test(start_paused = true)]
async fn the_time_moves_with_the_clock() {
    let engine = Embedded::new();
    let time = async || -> (i64, i64) {
        engine
            .call(&Command::new("TIME"))
            .await
            .unwrap()
            .to()
            .unwrap()
    };
    let (seconds, micros) = time().await;
    let wall = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap();
    assert!(wall.as_secs().abs_diff(seconds.try_into().unwrap()) < 60);
    advance(Duration::from_secs(86_400)).await;
    assert_eq!(time().await, (seconds + 86_400, micros));
    let in_script = engine
        .call(
            &Command::new("EVAL")
                .arg("return redis.call('time')[1]")
                .arg(0),
        )
        .await
        .unwrap();
    assert_eq!(in_script, Value::bulk((seconds + 86_400).to_string()));
}

#[tokio::test(start_paused = true)]
async fn a_mass_of_expired_keys_counts_at_once() {
    let engine = Embedded::new();
    for n in 0..2_000 {
        let set = Command::new("SET").key(n).arg("v").arg("PX");
        engine.call(&set.arg(1_000 + n % 7)).await.unwrap();
    }
    run(&engine, "SET stays v").await;
    advance(Duration::from_secs(2)).await;
    session(&engine, "DBSIZE => :1\n RANDOMKEY => \"stays\"").await;
}

#[test]
fn it_works_without_a_runtime() {
    let engine = Embedded::new();
    let reply = futures_executor(engine.call(&Command::new("PING")));
    assert_eq!(reply.unwrap(), Value::status("PONG"));
}

/// Polls once: a call never waits.
fn futures_executor<F: Future>(future: F) -> F::Output {
    let mut future = std::pin::pin!(future);
    let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    match future.as_mut().poll(&mut context) {
        std::task::Poll::Ready(output) => output,
        std::task::Poll::Pending => panic!("the call waits"),
    }
}

#[tokio::test(start_paused = true)]
async fn the_latest_time_of_all_is_reported() {
    let engine = Embedded::starting_at(Duration::ZERO);
    session(
        &engine,
        "
        SET k v => OK
        PEXPIREAT k 9223372036854775807 => :1
        TTL k => :9223372036854775
        PTTL k => :9223372036854775807
        ",
    )
    .await;
}
