//! Commands that wait, in virtual time.

use std::sync::Arc;
use std::time::Duration;

use redkit_core::{Backend, CallError, Command, FaultKind};
use redkit_embedded::Embedded;
use tokio::task::{JoinHandle, yield_now};
use tokio::time::Instant;

use crate::shell::{command, run, session, write};

/// Starts a command on a session of its own and lets it come to its waiting.
async fn start(engine: &Embedded, line: &'static str) -> JoinHandle<String> {
    let own = engine.dedicated().await.unwrap();
    let before = blocked(engine).await;
    let call = tokio::spawn(async move { run(&*own, line).await });
    while blocked(engine).await == before {
        yield_now().await;
    }
    call
}

async fn blocked(engine: &Embedded) -> usize {
    let info = run(engine, "INFO clients").await;
    let (_, after) = info.split_once("blocked_clients:").unwrap();
    let digits = after.find(|c: char| !c.is_ascii_digit()).unwrap();
    after[..digits].parse().unwrap()
}

#[tokio::test(start_paused = true)]
async fn a_wait_ends_at_its_timeout_to_the_millisecond() {
    let engine = Embedded::new();
    let own = engine.dedicated().await.unwrap();
    for (line, millis) in [
        ("BLPOP k 1.5", 1_500),
        ("BRPOP k 86400", 86_400_000),
        ("BZPOPMIN k 0.0001", 1),
        ("BLMOVE k m LEFT LEFT 2", 2_000),
        ("BLMPOP 3 1 k LEFT", 3_000),
    ] {
        let before = Instant::now();
        assert_eq!(run(&*own, line).await, "nil", "{line}");
        assert_eq!(before.elapsed().as_millis(), millis, "{line}");
    }
    assert_eq!(blocked(&engine).await, 0);
}

#[tokio::test(start_paused = true)]
async fn the_commands_deadline_ends_the_call_and_nothing_is_taken() {
    let engine = Embedded::new();
    let own = engine.dedicated().await.unwrap();
    let before = Instant::now();
    let wait = command("BLPOP k 0").deadline(before + Duration::from_millis(250));
    let error = own.call(&wait).await.unwrap_err();
    assert!(
        matches!(&error, CallError::NotSent(fault) if fault.kind() == FaultKind::Timeout),
        "{error}"
    );
    assert_eq!(before.elapsed(), Duration::from_millis(250));
    session(&engine, "RPUSH k x => :1\n LLEN k => :1").await;
    // The connection can be used on.
    session(&*own, "BLPOP k 0 => [\"k\" \"x\"]").await;
}

#[tokio::test(start_paused = true)]
async fn a_dropped_call_leaves_the_queue_and_takes_nothing() {
    let engine = Embedded::new();
    let own = engine.dedicated().await.unwrap();
    let wait = command("BLPOP k 0");
    let mut first = own.call(&wait);
    // Once, to its waiting.
    std::future::poll_fn(|cx| {
        assert!(first.as_mut().poll(cx).is_pending());
        std::task::Poll::Ready(())
    })
    .await;
    let second = start(&engine, "BLPOP k 0").await;
    assert_eq!(blocked(&engine).await, 2);
    drop(first);
    assert_eq!(blocked(&engine).await, 1);
    session(&engine, "RPUSH k x y => :2\n LRANGE k 0 -1 => [\"y\"]").await;
    // The connection can be used on.
    session(&*own, "LLEN k => :1").await;
    assert_eq!(second.await.unwrap(), "[\"k\" \"x\"]");
    assert_eq!(blocked(&engine).await, 0);
}

#[tokio::test(start_paused = true)]
async fn a_hundred_waiters_are_served_in_the_order_of_their_arrival() {
    let engine = Embedded::new();
    let mut calls = Vec::new();
    for _ in 0..100 {
        calls.push(start(&engine, "BLPOP k 0").await);
    }
    for n in 0..50 {
        run(&engine, &format!("RPUSH k {n}")).await;
    }
    let rest: Vec<String> = (50..100).map(|n: i32| n.to_string()).collect();
    run(&engine, &format!("RPUSH k {}", rest.join(" "))).await;
    for (n, call) in calls.into_iter().enumerate() {
        assert_eq!(call.await.unwrap(), format!("[\"k\" \"{n}\"]"));
    }
    session(&engine, "EXISTS k => :0").await;
}

#[tokio::test(start_paused = true)]
async fn what_is_sent_behind_a_waiting_command_comes_after_it() {
    let engine = Embedded::new();
    let own = engine.dedicated().await.unwrap();
    let waiting = tokio::spawn({
        let own = Arc::clone(&own);
        async move { run(&*own, "BLPOP k 0").await }
    });
    while blocked(&engine).await == 0 {
        yield_now().await;
    }
    let behind = tokio::spawn({
        let own = Arc::clone(&own);
        async move { run(&*own, "LLEN k").await }
    });
    let too_long = command("LLEN k").deadline(Instant::now() + Duration::from_secs(1));
    let error = own.call(&too_long).await.unwrap_err();
    assert!(matches!(&error, CallError::NotSent(fault) if fault.kind() == FaultKind::Timeout));
    assert!(!behind.is_finished());
    run(&engine, "RPUSH k a b").await;
    assert_eq!(waiting.await.unwrap(), "[\"k\" \"a\"]");
    assert_eq!(behind.await.unwrap(), ":1");
}

#[tokio::test(start_paused = true)]
async fn a_pipeline_waits_in_its_middle() {
    let engine = Embedded::new();
    let own = engine.dedicated().await.unwrap();
    let commands = ["SET a 1", "BLPOP k 0", "GET a", "BLPOP k 1", "GET a"].map(command);
    let pipeline = tokio::spawn(async move { own.pipeline(&commands).await.unwrap() });
    while blocked(&engine).await == 0 {
        yield_now().await;
    }
    session(&engine, "SET a 2 => OK\n RPUSH k x => :1").await;
    let replies: Vec<String> = pipeline.await.unwrap().into_iter().map(write).collect();
    assert_eq!(replies, ["OK", "[\"k\" \"x\"]", "\"2\"", "nil", "\"2\""]);
}

#[tokio::test]
async fn a_shutdown_ends_all_waiting() {
    let engine = Embedded::new();
    let call = start(&engine, "BLPOP k 0").await;
    engine.shutdown().await;
    let end = call.await.unwrap();
    assert!(end.contains("shut down"), "{end}");

    let engine = Embedded::new();
    let own = engine.dedicated().await.unwrap();
    let waiting = tokio::spawn({
        let own = Arc::clone(&own);
        async move { own.call(&Command::new("BLPOP").key("k").arg(0)).await }
    });
    while blocked(&engine).await == 0 {
        yield_now().await;
    }
    own.shutdown().await;
    let error = waiting.await.unwrap().unwrap_err();
    assert!(matches!(error, CallError::NotSent(fault) if fault.kind() == FaultKind::Shutdown));
    session(&engine, "RPUSH k x => :1\n LLEN k => :1").await;
}

#[tokio::test]
async fn a_shared_backend_does_not_wait() {
    let engine = Embedded::new();
    let refused = run(&engine, "BLPOP k 0").await;
    assert!(refused.contains("dedicated"), "{refused}");
}

#[tokio::test(start_paused = true)]
async fn a_pipeline_that_is_shut_down_in_the_middle_keeps_its_replies_and_goes_no_further() {
    let engine = Embedded::new();
    let own = engine.dedicated().await.unwrap();
    let pipeline = tokio::spawn({
        let own = Arc::clone(&own);
        async move {
            let commands = ["SET before 1", "BLPOP k 0", "SET after 1", "SET later 1"];
            own.pipeline(&commands.map(command)).await
        }
    });
    while blocked(&engine).await == 0 {
        yield_now().await;
    }
    own.shutdown().await;
    let replies = pipeline.await.unwrap().unwrap();
    let ends = replies.iter().map(|reply| match reply {
        Ok(_) => true,
        Err(CallError::NotSent(fault)) if fault.kind() == FaultKind::Shutdown => false,
        Err(other) => panic!("{other}"),
    });
    assert_eq!(ends.collect::<Vec<_>>(), [true, false, false, false]);
    session(&engine, "EXISTS before => :1\n EXISTS after later => :0").await;
}
