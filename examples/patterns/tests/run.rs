//! Every program runs to its end, on the embedded engine and on a server.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

use std::process::Command;

use redkit_testkit::{Server, ServerOptions};

/// The programs, and what each prints when all went as it should.
#[rustfmt::skip]
const PROGRAMS: &[(&str, &str, &str)] = &[
    ("bucketed", env!("CARGO_BIN_EXE_bucketed"), "28 of 30: true, 5 more: false\ngiven back: 30 left"),
    ("bulk", env!("CARGO_BIN_EXE_bulk"), "20 warmed, 0 failed"),
    ("cache", env!("CARGO_BIN_EXE_cache"), "loaded again: true"),
    ("clients", env!("CARGO_BIN_EXE_clients"), "Some(\"ann\")"),
    ("collections", env!("CARGO_BIN_EXE_collections"), "sold out, 0 left"),
    ("election", env!("CARGO_BIN_EXE_election"), "one after the other"),
    ("encryption", env!("CARGO_BIN_EXE_encryption"), "plain text in Redis: false"),
    ("fixed_window", env!("CARGO_BIN_EXE_fixed_window"), "call 4: denied"),
    ("health", env!("CARGO_BIN_EXE_health"), "ready: Pass, status 200"),
    ("idempotent", env!("CARGO_BIN_EXE_idempotent"), "paid 1 time(s)"),
    ("inbox", env!("CARGO_BIN_EXE_inbox"), "bob sees \"your order was shipped\""),
    ("latch", env!("CARGO_BIN_EXE_latch"), "all parts are done: true"),
    ("leaky_bucket", env!("CARGO_BIN_EXE_leaky_bucket"), "denied"),
    ("lock", env!("CARGO_BIN_EXE_lock"), "[0, 1, 2, 3, 4, 5, 6, 7, 8, 9]"),
    ("pipeline", env!("CARGO_BIN_EXE_pipeline"), "paid: true, payments: "),
    ("pubsub", env!("CARGO_BIN_EXE_pubsub"), "missed: shipped"),
    ("queue", env!("CARGO_BIN_EXE_queue"), "packed 3"),
    ("ratelimit", env!("CARGO_BIN_EXE_ratelimit"), "`addresses` says no, and nothing was taken"),
    ("read_write", env!("CARGO_BIN_EXE_read_write"), "held to the end: true"),
    ("scan", env!("CARGO_BIN_EXE_scan"), "complete: true"),
    ("schedule", env!("CARGO_BIN_EXE_schedule"), "each once: true"),
    ("semaphore", env!("CARGO_BIN_EXE_semaphore"), "10 exports, 3 at the same time at most"),
    ("session", env!("CARGO_BIN_EXE_session"), "after the sign-out everywhere: false"),
    ("sliding_counter", env!("CARGO_BIN_EXE_sliding_counter"), "call 4: denied"),
    ("sliding_log", env!("CARGO_BIN_EXE_sliding_log"), "call 4: denied"),
    ("stampede", env!("CARGO_BIN_EXE_stampede"), "the source was asked 1 time(s)"),
    ("tags", env!("CARGO_BIN_EXE_tags"), "12 is gone: true, 13 is there: true"),
    ("token_bucket", env!("CARGO_BIN_EXE_token_bucket"), "call 3: allowed false"),
    ("topic", env!("CARGO_BIN_EXE_topic"), "order 8, attempt 2"),
    ("values", env!("CARGO_BIN_EXE_values"), "500 prices written"),
    ("write_behind", env!("CARGO_BIN_EXE_write_behind"), "unknown was given up"),
    ("write_through", env!("CARGO_BIN_EXE_write_through"), "kept after the failure: false"),
];

fn run_all(url: Option<&str>) {
    for (name, program, expected) in PROGRAMS {
        let mut command = Command::new(program);
        match url {
            Some(url) => command.env("REDIS_URL", url),
            None => command.env_remove("REDIS_URL"),
        };
        let output = command.output().unwrap();
        let (out, err) = (
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr),
        );
        assert!(output.status.success(), "{name}: {out}{err}");
        assert!(out.contains(expected), "{name}: {out}{err}");
    }
}

#[test]
fn each_program_runs_on_the_embedded_engine() {
    run_all(None);
}

#[tokio::test]
async fn each_program_runs_on_a_server() {
    let server = Server::redis(ServerOptions::new()).await.unwrap();
    let url = server.url();
    tokio::task::spawn_blocking(move || run_all(Some(&url)))
        .await
        .unwrap();
}

/// Each program is a page that somebody reads.
#[test]
fn no_program_is_longer_than_sixty_lines() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/src/bin");
    let mut programs = 0;
    for file in std::fs::read_dir(folder).unwrap() {
        let path = file.unwrap().path();
        let lines = std::fs::read_to_string(&path).unwrap().lines().count();
        assert!(lines <= 60, "{} has {lines} lines", path.display());
        programs += 1;
    }
    // And none is left out of the table above.
    assert_eq!(programs, PROGRAMS.len());
}
