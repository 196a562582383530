//! Every program runs to its end, on the embedded engine and on a server.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

use std::process::Command;

use redkit_testkit::{Server, ServerOptions};

/// The programs, and a word that each prints when all went as it should.
const PROGRAMS: &[(&str, &str, &str)] = &[
    ("cache", env!("CARGO_BIN_EXE_cache"), ""),
    ("clients", env!("CARGO_BIN_EXE_clients"), ""),
    ("collections", env!("CARGO_BIN_EXE_collections"), ""),
    (
        "health",
        env!("CARGO_BIN_EXE_health"),
        "ready: Pass, status 200",
    ),
    (
        "lock",
        env!("CARGO_BIN_EXE_lock"),
        "[0, 1, 2, 3, 4, 5, 6, 7, 8, 9]",
    ),
    ("pubsub", env!("CARGO_BIN_EXE_pubsub"), "bob sees"),
    ("ratelimit", env!("CARGO_BIN_EXE_ratelimit"), ""),
    (
        "session",
        env!("CARGO_BIN_EXE_session"),
        "after the sign-out everywhere: false",
    ),
    ("topic", env!("CARGO_BIN_EXE_topic"), "order 8, attempt 2"),
    ("values", env!("CARGO_BIN_EXE_values"), ""),
    ("write_behind", env!("CARGO_BIN_EXE_write_behind"), ""),
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
