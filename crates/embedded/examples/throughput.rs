//! What one command costs in the engine, on one thread: `cargo run --release --example throughput`.

use std::time::{Duration, Instant};

use redkit_core::{Backend, CallError, Command};
use redkit_embedded::Embedded;

const RUN: Duration = Duration::from_millis(500);
const SCRIPT: &str = "local n = redis.call('INCRBY', KEYS[1], ARGV[1]); \
                      redis.call('PEXPIRE', KEYS[1], ARGV[2]); return n";

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), CallError> {
    let engine = Embedded::new();
    let load = Command::new("SCRIPT").arg("LOAD").arg(SCRIPT);
    let Ok(sha) = engine.call(&load).await?.to::<String>() else {
        return Ok(());
    };
    for n in 0..1_000 {
        let set = Command::new("SET").key(format!("k{n}")).arg("value");
        engine.call(&set).await?;
        let add = Command::new("ZADD").key("z").arg(n).arg(n);
        engine.call(&add).await?;
    }
    let commands = [
        ("PING", Command::new("PING")),
        ("GET", Command::new("GET").key("k7")),
        ("SET", Command::new("SET").key("k8").arg("value")),
        (
            "SET EX",
            Command::new("SET").key("k9").arg("value").arg("EX").arg(60),
        ),
        ("INCR", Command::new("INCR").key("n")),
        (
            "HSET",
            Command::new("HSET").key("h").arg("field").arg("value"),
        ),
        ("HGETALL", Command::new("HGETALL").key("h")),
        ("ZADD", Command::new("ZADD").key("z").arg(1.5).arg("500")),
        ("LPUSH", Command::new("LPUSH").key("l").arg("item")),
        ("LTRIM", Command::new("LTRIM").key("l").arg(0).arg(9)),
        (
            "XADD",
            Command::new("XADD")
                .key("x")
                .args(["MAXLEN", "~", "1000", "*", "f", "v"]),
        ),
        (
            "EVALSHA of two",
            Command::new("EVALSHA")
                .arg(sha)
                .arg(1)
                .key("e")
                .arg(1)
                .arg(60_000),
        ),
    ];
    for (name, command) in &commands {
        let start = Instant::now();
        let mut calls = 0_u32;
        while start.elapsed() < RUN {
            for _ in 0..100 {
                engine.call(command).await?;
            }
            calls += 100;
        }
        let nanos = start.elapsed().as_nanos() / u128::from(calls);
        println!("{name:<16} {nanos:>6} ns");
    }
    Ok(())
}
