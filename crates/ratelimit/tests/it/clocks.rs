//! No client's clock takes part in any decision: nothing that is sent is a time.

use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use redkit_core::Client;
use redkit_ratelimit::{Algorithm, ConcurrencyLimiter, LimitSet, RateLimiter};
use redkit_testkit::FaultyBackend;
use tokio::time::{advance, sleep};

use crate::model::policies;

/// Every kind of call, and everything that happens in the background.
async fn use_all(client: &Client) {
    let places = ConcurrencyLimiter::builder(client, "places")
        .decision_timeout(crate::PATIENT)
        .limit(100)
        .build()
        .unwrap();
    let permit = places.try_acquire("k").await.unwrap();
    for (n, policy) in policies(3, Duration::from_secs(60), 3)
        .into_iter()
        .enumerate()
    {
        let limiter = RateLimiter::builder(client, &format!("l{n}"))
            .decision_timeout(crate::PATIENT)
            .policy(policy.clone())
            .build()
            .unwrap();
        for _ in 0..4 {
            drop(limiter.check("k").await.unwrap());
        }
        drop(limiter.peek("k").await.unwrap());
        // Of windows that begin at whole multiples since 1970 the wait depends on the server's time.
        let timeout = match policy.algorithm() {
            Algorithm::SlidingCounter | Algorithm::Bucketed { .. } => Duration::ZERO,
            _ => Duration::from_secs(70),
        };
        drop(limiter.acquire("k", timeout).await.unwrap());
        let decided = LimitSet::new()
            .limit(&limiter, "j")
            .lease(&places, "j")
            .check()
            .await
            .unwrap();
        assert!(decided.decision.is_allowed());
        limiter.reset("k").await.unwrap();
    }
    drop(permit);
    sleep(Duration::from_secs(60)).await;
}

/// What was sent, word by word.
fn words(backend: &FaultyBackend) -> Vec<Vec<Vec<u8>>> {
    let seen = backend.seen();
    let words = seen
        .iter()
        .map(|command| command.iter().map(<[u8]>::to_vec).collect());
    words.collect()
}

#[tokio::test(start_paused = true)]
async fn nothing_that_is_sent_is_a_time() {
    let backend = FaultyBackend::embedded();
    let client = backend.client();
    use_all(&client).await;
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap()
        .as_secs_f64();
    let seen = words(&backend).concat();
    assert!(seen.len() > 200, "{}", seen.len());
    for argument in &seen {
        let number = std::str::from_utf8(argument)
            .ok()
            .and_then(|text| text.parse::<f64>().ok());
        for unit in [1.0, 1e3, 1e6, 1e9] {
            let is_time = number.is_some_and(|number| (number / unit - now).abs() < 7.0 * 86_400.0);
            assert!(!is_time, "{}", String::from_utf8_lossy(argument));
        }
    }
}

/// The same calls, an hour apart by the client's clock, and each on a server that has just begun:
/// the same bytes, but for the marks that the server gave and the names that are random.
#[tokio::test(start_paused = true)]
async fn a_client_whose_clock_is_off_by_an_hour_sends_the_same() {
    let sent = async || {
        let backend = FaultyBackend::embedded();
        let client = backend.client();
        use_all(&client).await;
        let is_random = |word: &[u8]| word.len() == 32 && word.iter().all(u8::is_ascii_hexdigit);
        let mut seen = words(&backend);
        for word in seen.iter_mut().flatten().filter(|word| is_random(word)) {
            *word = b"id".to_vec();
        }
        // When releases and renewals go is a matter of the tasks' turns and of chance, and so is how many
        // renewals there are: but for those, each command is sent as often.
        let is_renewal = |words: &[Vec<u8>]| words.last().is_some_and(|last| last == b"30000000");
        seen.sort();
        seen.dedup_by(|a, b| a == b && is_renewal(a));
        seen
    };
    let (before, hour) = (sent().await, Duration::from_secs(3600));
    advance(hour).await;
    assert!(before.len() > 50);
    assert_eq!(before, sent().await);
}

/// The only clock that the crate reads is the one that measures how long something took.
#[test]
fn the_crate_does_not_know_what_time_it_is() {
    fn look(folder: &Path, files: &mut usize) {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                look(&path, files);
                continue;
            }
            *files += 1;
            let text = std::fs::read_to_string(&path).unwrap();
            for word in ["SystemTime", "UNIX_EPOCH", "chrono", "time::OffsetDateTime"] {
                assert!(!text.contains(word), "{word} in {}", path.display());
            }
        }
    }
    let mut files = 0;
    look(
        Path::new(env!("CARGO_MANIFEST_DIR")).join("src").as_path(),
        &mut files,
    );
    assert!(files > 30, "{files}");
}
