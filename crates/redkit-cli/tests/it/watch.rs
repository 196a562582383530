//! `redkit watch`, on a pseudo-terminal and as JSON.

use std::process::Command;

use redkit_testkit::{Server, ServerOptions};
use rustix::process::{Pid, Signal, kill_process};

use crate::terminal::{LEFT, Pty, TAKEN};
use crate::{Engine, NAMESPACE, engine, program, redkit};

fn watched(engine: &Engine) -> Pty {
    let mut command = program(&["watch", "--interval", "200ms"]);
    command
        .env("REDIS_URL", engine.url())
        .env("REDKIT_NAMESPACE", NAMESPACE);
    Pty::run(command.into_std())
}

#[tokio::test(flavor = "multi_thread")]
async fn watch_draws_figures_answers_keys_and_leaves_the_terminal_as_it_was() {
    let engine = engine().await;
    let publish = engine.client.keyspace("monitor", "dashboard").unwrap();
    let text =
        r#"{"id":"i1","program":"storefront","host":"web-3","process":71,"clients":[{"calls":5}]}"#;
    for command in [
        redkit_core::Command::new("ZADD")
            .key(publish.role_key("fleet", "instances"))
            .arg(1)
            .arg("i1"),
        redkit_core::Command::new("SET")
            .key(publish.tagged_key("fleet", "at", "i1"))
            .arg(text),
    ] {
        engine
            .client
            .call::<redkit_core::Value>(command)
            .await
            .unwrap();
    }
    tokio::task::block_in_place(|| {
        let mut pty = watched(&engine);
        pty.until(TAKEN);
        // Single words: blanks that stand already are not written again.
        for shown in ["ops/s", "rate", "operations", "storefront", "web-3"] {
            pty.until(shown);
        }
        assert!(!pty.is_cooked(), "it takes keys one by one");
        pty.press("p");
        pty.until("PAUSED");
        pty.press("q");
        assert_eq!(pty.end(), Some(0));
        pty.until(LEFT);
        assert!(pty.is_cooked(), "lines are edited and echoed again");
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn a_signal_or_control_c_ends_watch_and_the_terminal_is_restored() {
    let engine = engine().await;
    tokio::task::block_in_place(|| {
        for is_signal in [true, false] {
            let mut pty = watched(&engine);
            pty.until("ops/s");
            match is_signal {
                true => {
                    let id = Pid::from_raw(i32::try_from(pty.id()).unwrap()).unwrap();
                    kill_process(id, Signal::TERM).unwrap();
                }
                false => pty.press("\u{3}"),
            }
            assert_eq!(pty.end(), Some(0));
            pty.until(LEFT);
            assert!(pty.is_cooked());
        }
    });
}

#[test]
fn after_a_panic_the_terminal_is_as_it_was_and_the_message_is_read() {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args([
        "--exact",
        "watch::a_program_that_panics_while_it_draws",
        "--ignored",
        "--nocapture",
    ]);
    let mut pty = Pty::run(command);
    assert_ne!(pty.end(), Some(0));
    pty.until("the middle of drawing");
    let output = pty.output();
    let (taken, left) = (output.find(TAKEN).unwrap(), output.find(LEFT).unwrap());
    let message = output.rfind("the middle of drawing").unwrap();
    assert!(taken < left && left < message, "{output:?}");
    assert!(pty.is_cooked());
}

#[test]
#[ignore = "the program of the test above"]
fn a_program_that_panics_while_it_draws() {
    redkit_cli::with_terminal(|_| panic!("the middle of drawing")).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn watch_prints_a_line_of_json_at_each_interval() {
    let server = Server::redis(ServerOptions::new()).await.unwrap();
    let args = ["--json", "watch", "--interval", "100ms", "--count", "3"];
    let done = redkit(&server.url(), &args).await;
    assert_eq!(done.code, 0, "{done:?}");
    let samples: Vec<serde_json::Value> = done
        .out
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(samples.len(), 3);
    let last = &samples[2];
    assert_eq!(last["servers"][0]["name"], server.addr().to_string());
    assert_eq!(last["servers"][0]["role"], "master");
    assert!(
        last["total"]["ops_per_second"].as_f64().unwrap() > 0.0,
        "{last}"
    );
    assert!(
        last["total"]["latency_seconds"].as_f64().unwrap() > 0.0,
        "{last}"
    );
    assert!(
        last["total"]["used_memory_bytes"].as_u64().unwrap() > 100_000,
        "{last}"
    );

    let text = redkit(&server.url(), &["watch"]).await;
    text.failed(2, "no terminal", "--json");
    let wrong = redkit(&server.url(), &["watch", "--interval", "1ms"]).await;
    assert_eq!(wrong.code, 2, "{wrong:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_hangs_is_shown_and_the_keys_still_answer() {
    let server = Server::redis(ServerOptions::new()).await.unwrap();
    let mut command = program(&["watch", "--interval", "200ms"]);
    command.env("REDIS_URL", server.url());
    tokio::task::block_in_place(|| {
        let mut pty = Pty::run(command.into_std());
        pty.until("ops/s");
        server.stop().unwrap();
        pty.until("ANSWERS");
        pty.press("q");
        assert_eq!(pty.end(), Some(0));
        server.cont().unwrap();
    });
}
