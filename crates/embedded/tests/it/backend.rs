//! The backend's own promises.

use std::time::Duration;

use redkit_core::{
    Backend, CallError, Command, ConnectionState, FaultKind, Interest, ServerKind, Topology,
};
use redkit_embedded::Embedded;
use tokio::time::Instant;

use crate::shell::{run, session};

fn is_shut_down<T>(result: Result<T, CallError>) -> bool {
    matches!(result, Err(CallError::NotSent(fault)) if fault.kind() == FaultKind::Shutdown)
}

#[tokio::test]
async fn it_says_what_it_is() {
    let engine = Embedded::new();
    let capabilities = engine.capabilities();
    assert_eq!(engine.topology(), Topology::Embedded);
    assert_eq!(capabilities.server, ServerKind::Embedded);
    assert_eq!(capabilities.version, (7, 0, 15));
    assert!(capabilities.sharded_pubsub);
    assert!(capabilities.streams && capabilities.field_expiry);
    assert!(capabilities.tracking);
    assert_eq!(*engine.state().borrow(), ConnectionState::Connected(1));
}

#[tokio::test]
async fn clones_and_sessions_share_their_data_and_engines_do_not() {
    let engine = Embedded::new();
    let own = engine.dedicated().await.unwrap();
    run(&engine.clone(), "SET k v").await;
    session(&*own, "GET k => \"v\"").await;
    session(&Embedded::new(), "GET k => nil").await;
}

#[tokio::test]
async fn sessions_have_names_of_their_own() {
    let engine = Embedded::new();
    let (a, b) = (
        engine.dedicated().await.unwrap(),
        engine.dedicated().await.unwrap(),
    );
    session(
        &*a,
        "CLIENT GETNAME => nil\n CLIENT SETNAME a => OK\n CLIENT GETNAME => \"a\"",
    )
    .await;
    session(&*b, "CLIENT GETNAME => nil").await;
    assert_ne!(run(&*a, "CLIENT ID").await, run(&*b, "CLIENT ID").await);
}

#[tokio::test]
async fn after_shutdown_nothing_is_carried_out() {
    let engine = Embedded::new();
    let (own, mut state) = (engine.dedicated().await.unwrap(), engine.state());
    let own_state = own.state();
    engine.shutdown().await;
    engine.shutdown().await;
    assert!(state.has_changed().unwrap());
    assert_eq!(*state.borrow_and_update(), ConnectionState::Closed);
    assert_eq!(*own_state.borrow(), ConnectionState::Closed);
    let ping = Command::new("PING");
    assert!(is_shut_down(engine.call(&ping).await));
    assert!(is_shut_down(
        engine.pipeline(std::slice::from_ref(&ping)).await
    ));
    assert!(is_shut_down(
        engine.subscribe(Interest::Channels(vec!["c".into()])).await
    ));
    assert!(is_shut_down(engine.dedicated().await));
    assert!(is_shut_down(own.call(&ping).await));
}

#[tokio::test]
async fn a_session_that_shuts_down_takes_only_itself_along() {
    let engine = Embedded::new();
    let own = engine.dedicated().await.unwrap();
    own.shutdown().await;
    assert!(is_shut_down(own.call(&Command::new("PING")).await));
    assert_eq!(*own.state().borrow(), ConnectionState::Closed);
    session(&engine, "PING => +PONG").await;
}

#[tokio::test]
async fn a_loop_of_calls_lets_other_tasks_run() {
    let engine = Embedded::new();
    let other = tokio::spawn(async {});
    let mut calls = 0_u32;
    while !other.is_finished() {
        engine.call(&Command::new("PING")).await.unwrap();
        calls += 1;
        assert!(calls < 1_000_000, "the other task starves");
    }
}

#[tokio::test]
async fn subscriptions_are_not_commands() {
    let engine = Embedded::new();
    let refused = run(&engine, "SUBSCRIBE c").await;
    assert!(refused.contains("use `subscribe`"), "{refused}");
}

#[tokio::test]
async fn hostile_bytes_come_back() {
    let engine = Embedded::new();
    for (key, value) in [
        (&b"a\0b {x} * \r\n"[..], &b"MOVED 1 h:1"[..]),
        (b"\xff\xfe", b"-ERR no"),
        (b"", b""),
    ] {
        engine
            .call(&Command::new("SET").key(key).arg(value))
            .await
            .unwrap();
        let got: Vec<u8> = engine
            .call(&Command::new("GET").key(key))
            .await
            .unwrap()
            .to()
            .unwrap();
        assert_eq!(got, value);
    }
    let list = Command::new("RPUSH").key("l").args(["message", "a", "b"]);
    engine.call(&list).await.unwrap();
    session(&engine, "LRANGE l 0 -1 => [\"message\" \"a\" \"b\"]").await;
}

/// The ways to call while a script runs.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Way {
    Call,
    Pipeline,
    DedicatedCall,
    DedicatedPipeline,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_ends_by_its_deadline_while_a_script_of_another_thread_runs() {
    let engine = Embedded::new();
    let own = engine.dedicated().await.unwrap();
    let call = async |way| {
        let deadline = Instant::now() + Duration::from_millis(50);
        let get = Command::new("GET").key("k").deadline(deadline);
        let both = [get.clone(), get];
        match way {
            Way::Call => engine.call(&both[0]).await.map(drop),
            Way::Pipeline => engine.pipeline(&both).await.map(drop),
            Way::DedicatedCall => own.call(&both[0]).await.map(drop),
            Way::DedicatedPipeline => own.pipeline(&both).await.map(drop),
        }
    };
    let mut ways = vec![
        Way::Call,
        Way::Pipeline,
        Way::DedicatedCall,
        Way::DedicatedPipeline,
    ];
    // A script has its five seconds at some time; calls that come before it are answered.
    for _ in 0..4 {
        let other = engine.clone();
        let script = tokio::spawn(async move {
            let endless = Command::new("EVAL").arg("while true do end").arg(0);
            other.call(&endless).await.unwrap_err();
        });
        while !script.is_finished() && !ways.is_empty() {
            let mut waiting = Vec::new();
            for way in ways {
                match call(way).await {
                    Ok(()) => waiting.push(way),
                    Err(CallError::NotSent(fault)) => {
                        assert_eq!(fault.kind(), FaultKind::Timeout, "{way:?}");
                    }
                    Err(other) => panic!("{way:?}: {other}"),
                }
            }
            ways = waiting;
        }
        if ways.is_empty() {
            return;
        }
    }
    panic!("these wait for the script: {ways:?}");
}
