//! The proof that the engine is faithful: random sequences of commands run on it and on a real
//! server, and every reply, and all that is left at the end, must be the same.
//!
//! `REDKIT_PROPTEST_CASES` sets the number of sequences.

mod blocking;
mod commands;
mod compare;
mod full;
mod grammar;
mod scenarios;
mod sorts;
mod templates;

use std::sync::Arc;
use std::time::Duration;

use proptest::prelude::*;
use proptest::test_runner::{Config, TestCaseError, TestError, TestRunner};
use redkit_core::{Backend, CallError, Client, ClientConfig, Command, Value};
use redkit_embedded::Embedded;
use redkit_testkit::{Program, Server, ServerOptions};
use tokio::time::Instant;

use compare::Strictness;
use grammar::Line;

/// Sequences per server when nothing else is said.
const CASES: u32 = 10_000;
/// Commands per sequence.
const LONGEST: usize = 40;

#[tokio::test(flavor = "multi_thread")]
async fn random_sequences_agree_with_redis() {
    random_sequences_agree(Program::Redis, Strictness::Texts).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn random_sequences_agree_with_valkey() {
    random_sequences_agree(Program::Valkey, Strictness::Codes).await;
}

/// The engine follows Redis 7.0; what newer servers answer otherwise is named in `compare`.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs the newest Redis: cargo xtask test --backends redis8 -- newest --include-ignored"]
async fn random_sequences_agree_with_the_newest_redis() {
    random_sequences_agree(Program::Redis8, Strictness::Newest).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs the newest Valkey: cargo xtask test --backends valkey9 -- newest --include-ignored"]
async fn random_sequences_agree_with_the_newest_valkey() {
    random_sequences_agree(Program::Valkey9, Strictness::Newest).await;
}

/// Every sequence gives the same replies and leaves the same keys.
async fn random_sequences_agree(program: Program, strictness: Strictness) {
    let server = Server::start(program, ServerOptions::new()).await.unwrap();
    let config = ClientConfig::from_url(&server.url()).unwrap();
    let client = Client::connect(config).await.unwrap();
    let real = client.backend().dedicated().await.unwrap();
    let embedded = Embedded::new().dedicated().await.unwrap();
    let runtime = tokio::runtime::Handle::current();
    tokio::task::spawn_blocking(move || {
        explore(CASES, &|lines| {
            runtime.block_on(agree(&real, &embedded, lines, strictness))
        });
    })
    .await
    .unwrap();
}

fn explore(cases: u32, agree: &dyn Fn(&[Line]) -> Result<(), String>) {
    let cases = match std::env::var("REDKIT_PROPTEST_CASES") {
        Ok(cases) => cases.parse().expect("REDKIT_PROPTEST_CASES is a number"),
        Err(_) => cases,
    };
    let mut runner = TestRunner::new(Config {
        cases,
        failure_persistence: None,
        max_shrink_time: 30_000,
        ..Config::default()
    });
    let choices = proptest::collection::vec(any::<u16>(), 24);
    let sequence = proptest::collection::vec((any::<u16>(), choices), 1..LONGEST);
    let result = runner.run(&sequence, |sequence| {
        let lines: Vec<Line> = sequence
            .iter()
            .enumerate()
            .flat_map(|(at, (template, choices))| grammar::expand(*template, choices, at))
            .collect();
        agree(&lines).map_err(TestCaseError::fail)
    });
    match result {
        Ok(()) => {}
        Err(TestError::Fail(reason, _)) => panic!("{reason}"),
        Err(other) => panic!("{other}"),
    }
}

async fn agree(
    real: &Arc<dyn Backend>,
    embedded: &Arc<dyn Backend>,
    lines: &[Line],
    strictness: Strictness,
) -> Result<(), String> {
    let all: Vec<Line> = [grammar::line("FLUSHALL")]
        .into_iter()
        .chain(lines.iter().cloned())
        // A transaction that is still open would only queue the commands that follow.
        .chain([grammar::line("DISCARD"), grammar::line("UNWATCH")])
        .chain(grammar::contents())
        .collect();
    let commands: Vec<Command> = all.iter().map(Line::command).collect();
    let expected = replies(real, &commands).await;
    let actual = replies(embedded, &commands).await;
    let mut queued: Vec<Line> = Vec::new();
    for (index, line) in all.iter().enumerate() {
        if expected[index].as_ref().is_ok_and(is_queued) {
            queued.push(line.clone());
        } else if line.effective_name() == "MULTI" && expected[index].is_ok() {
            queued.clear();
        }
        let is_changed = compare::is_changed_in_newest(&expected[index], &actual[index]);
        if strictness == Strictness::Newest && is_changed {
            return Ok(());
        }
        if !compare::same(line, &queued, &expected[index], &actual[index], strictness) {
            let history: Vec<String> = all[1..=index.min(lines.len())]
                .iter()
                .map(ToString::to_string)
                .collect();
            return Err(format!(
                "{line}\n  server:   {:?}\n  embedded: {:?}\nafter\n  {}",
                expected[index],
                actual[index],
                history.join("\n  ")
            ));
        }
    }
    Ok(())
}

fn is_queued(reply: &Value) -> bool {
    matches!(reply, Value::Status(status) if &**status == "QUEUED")
}

async fn replies(
    backend: &Arc<dyn Backend>,
    commands: &[Command],
) -> Vec<Result<Value, CallError>> {
    let deadline = Instant::now() + Duration::from_secs(20);
    let commands: Vec<Command> = commands
        .iter()
        .map(|command| command.clone().deadline(deadline))
        .collect();
    backend.pipeline(&commands).await.unwrap()
}
