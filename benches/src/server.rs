//! What a server says of itself: its own time for a command, its memory, how many commands it has run.

#![expect(
    clippy::unwrap_used,
    clippy::missing_panics_doc,
    reason = "a benchmark that cannot go on has nothing to report"
)]

use redkit_testkit::Server;

use crate::measure::cpu_time;

/// The server's own time for one call of a command while `work` runs, in µs.
pub async fn micros_of(server: &Server, command: &str, work: impl Future<Output = ()>) -> f64 {
    server.raw(&["CONFIG", "RESETSTAT"]).await.unwrap();
    work.await;
    let stats = info(server, "commandstats").await;
    let line = stats
        .lines()
        .find_map(|line| line.strip_prefix(&format!("cmdstat_{command}:")))
        .unwrap();
    field(line, "usec_per_call=")
}

/// The memory that the server has allocated, in bytes.
pub async fn used_memory(server: &Server) -> f64 {
    number(&info(server, "memory").await, "used_memory:")
}

/// How many commands the server has run, those of scripts among them.
pub async fn commands(server: &Server) -> f64 {
    number(&info(server, "stats").await, "total_commands_processed:")
}

/// How often the server has run one command, and its own time for all of these calls, in µs.
pub async fn calls_of(server: &Server, command: &str) -> (f64, f64) {
    let stats = info(server, "commandstats").await;
    let line = stats
        .lines()
        .find_map(|line| line.strip_prefix(&format!("cmdstat_{command}:")));
    match line {
        Some(line) => (field(line, "calls="), field(line, "usec=")),
        None => (0.0, 0.0),
    }
}

/// The costs of an operation on both sides.
#[derive(Debug, Clone)]
pub struct Cost {
    /// Microseconds of this process's CPU time.
    pub client: f64,
    /// Microseconds of the server's CPU time.
    pub server: f64,
    /// The calls of each command, those that scripts make among them, the most first.
    pub calls: Vec<(String, f64)>,
}

/// The costs of each of so many operations, which `work` does.
pub async fn cost_of<T>(server: &Server, operations: usize, work: impl Future<Output = T>) -> Cost {
    #[expect(clippy::cast_precision_loss, reason = "far fewer than 2^53")]
    let operations = operations as f64;
    server.raw(&["CONFIG", "RESETSTAT"]).await.unwrap();
    let (client, before) = (cpu_time(), cpu_of(server).await);
    work.await;
    let (client, after) = (cpu_time() - client, cpu_of(server).await);
    let stats = info(server, "commandstats").await;
    let calls = stats.lines().filter_map(|line| {
        let (name, rest) = line.strip_prefix("cmdstat_")?.split_once(':')?;
        let is_ours = !name.starts_with("config") && name != "info";
        is_ours.then(|| (name.to_owned(), field(rest, "calls=") / operations))
    });
    let mut calls: Vec<_> = calls.collect();
    calls.sort_by(|(_, one), (_, other)| other.total_cmp(one));
    Cost {
        client: client.as_secs_f64() * 1e6 / operations,
        server: (after - before) * 1e6 / operations,
        calls,
    }
}

/// The CPU time that the server has used, in seconds.
async fn cpu_of(server: &Server) -> f64 {
    let info = info(server, "cpu").await;
    number(&info, "used_cpu_user:") + number(&info, "used_cpu_sys:")
}

/// The version, as `7.0.15`.
pub async fn version(server: &Server) -> String {
    let info = info(server, "server").await;
    let line = info
        .lines()
        .find_map(|line| line.strip_prefix("redis_version:"));
    line.unwrap_or("of unknown version").trim().to_owned()
}

/// A section of `INFO`.
pub async fn info(server: &Server, section: &str) -> String {
    server
        .raw(&["INFO", section])
        .await
        .unwrap()
        .text()
        .unwrap()
}

fn number(info: &str, name: &str) -> f64 {
    let line = info.lines().find_map(|line| line.strip_prefix(name));
    line.unwrap().trim().parse().unwrap()
}

fn field(line: &str, name: &str) -> f64 {
    let (_, rest) = line.split_once(name).unwrap();
    rest.split(',').next().unwrap().parse().unwrap()
}
