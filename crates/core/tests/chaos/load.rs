//! Load whose every answer can be checked: values carry their key and a number that only grows.

use std::sync::Arc;
use std::time::{Duration, Instant};

use redkit_core::{CallError, Client, Command, Error};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// What one writer saw.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    /// When calls were answered.
    pub(crate) answers: Vec<Instant>,
    /// Answers that were not this key's, or newer than what had been tried.
    pub(crate) wrong: Vec<String>,
    /// Answers that were none, or older than what had been acknowledged: only a failover may lose that.
    pub(crate) lost: Vec<String>,
    /// Errors that should not have surfaced.
    pub(crate) surfaced: Vec<String>,
    /// Calls whose outcome is unknown or that were not sent: an outage, honestly told.
    pub(crate) outages: u64,
    /// The last number that was acknowledged, and the last that was tried.
    pub(crate) acknowledged: u64,
    pub(crate) tried: u64,
}

impl Seen {
    /// The longest time without an answer between `from` and `to`.
    pub(crate) fn longest_silence(&self, from: Instant, to: Instant) -> Duration {
        let within = self
            .answers
            .iter()
            .copied()
            .filter(|&at| at >= from && at <= to);
        let mut last = from;
        let mut longest = Duration::ZERO;
        for at in within.chain([to]) {
            longest = longest.max(at - last);
            last = at;
        }
        longest
    }

    /// How long after `from` the first answer came.
    pub(crate) fn first_answer_after(&self, from: Instant) -> Option<Duration> {
        self.answers
            .iter()
            .find(|&&at| at > from)
            .map(|&at| at - from)
    }
}

/// A writer of one key.
pub(crate) struct Writer {
    pub(crate) key: String,
    stop: CancellationToken,
    task: JoinHandle<Seen>,
}

impl Writer {
    pub(crate) fn start(client: &Client, key: String) -> Self {
        let stop = CancellationToken::new();
        let task = tokio::spawn(write(client.clone(), key.clone(), stop.clone()));
        Self { key, stop, task }
    }

    pub(crate) async fn end(self) -> (String, Seen) {
        self.stop.cancel();
        (self.key, self.task.await.unwrap())
    }
}

async fn write(client: Client, key: String, stop: CancellationToken) -> Seen {
    let mut seen = Seen::default();
    let full = Arc::new(client.key(&key));
    while !stop.is_cancelled() {
        seen.tried += 1;
        let value = format!("{key}={}", seen.tried);
        let set = Command::new("SET").key(&*full).arg(&value);
        match client.call::<()>(set).await {
            Ok(()) => {
                seen.acknowledged = seen.tried;
                seen.answers.push(Instant::now());
            }
            Err(error) => note(&mut seen, &error),
        }
        match client
            .call::<Option<String>>(Command::new("GET").key(&*full))
            .await
        {
            Ok(value) => {
                seen.answers.push(Instant::now());
                check(&mut seen, &key, value.as_deref());
            }
            Err(error) => note(&mut seen, &error),
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    seen
}

fn note(seen: &mut Seen, error: &Error) {
    match error.call_error() {
        Some(CallError::NotSent(_) | CallError::Maybe(_)) => seen.outages += 1,
        // The servers' own rule: while slots are served by nobody, a cluster with full coverage
        // serves nothing. It was waited for until the deadline.
        Some(CallError::Replied(error)) if error.code() == "CLUSTERDOWN" => seen.outages += 1,
        _ => seen.surfaced.push(error.to_string()),
    }
}

fn check(seen: &mut Seen, key: &str, value: Option<&str>) {
    let number = value.and_then(|v| v.strip_prefix(key)?.strip_prefix('=')?.parse::<u64>().ok());
    let (acknowledged, tried) = (seen.acknowledged, seen.tried);
    let text = || format!("{key}: {value:?}, acknowledged {acknowledged}, tried {tried}");
    match number {
        Some(number) if number > tried => seen.wrong.push(text()),
        Some(number) if number < acknowledged => seen.lost.push(text()),
        Some(_) => {}
        None if value.is_some() => seen.wrong.push(text()),
        None if acknowledged > 0 => seen.lost.push(text()),
        None => {}
    }
}

#[test]
fn answers_of_lost_writes_are_told_from_wrong_ones() {
    let mut seen = Seen {
        acknowledged: 5,
        tried: 7,
        ..Seen::default()
    };
    for right in ["k=5", "k=6", "k=7"] {
        check(&mut seen, "k", Some(right));
    }
    assert_eq!((seen.wrong.len(), seen.lost.len()), (0, 0));
    for wrong in ["k=8", "j=5", "k=x"] {
        check(&mut seen, "k", Some(wrong));
    }
    assert_eq!((seen.wrong.len(), seen.lost.len()), (3, 0));
    check(&mut seen, "k", None);
    check(&mut seen, "k", Some("k=4"));
    assert_eq!((seen.wrong.len(), seen.lost.len()), (3, 2));
    seen.acknowledged = 0;
    check(&mut seen, "k", None);
    assert_eq!(seen.lost.len(), 2, "nothing was acknowledged yet");
}
