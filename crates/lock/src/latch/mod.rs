//! [`LatchManager`] and [`CountDownLatch`]: waiting until so many steps were done, in whatever process.

mod scripts;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use metrics::Counter;
use redkit_core::coordination::{Backoff, Token, Wake};
use redkit_core::{Client, ConfigError, ToArg};
use tokio::time::{Instant, sleep, timeout_at};

use self::scripts::{Keys, Names};
use crate::error::Error;
use crate::keys::user_key;
use crate::time::deadline_after;

/// The latches of one use, which share a name and a time to live. It is cheap to clone.
///
/// ```
/// # use std::sync::Arc;
/// use std::time::Duration;
/// use redkit_lock::LatchManager;
/// # use redkit_core::{Client, ClientConfig};
/// # use redkit_embedded::Embedded;
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let client = Client::from_backend(Arc::new(Embedded::new()), &ClientConfig::default())?;
/// let imports = LatchManager::builder(&client, "imports").build()?;
/// let latch = imports.latch("2026-11")?;
/// latch.set(2).await?;
///
/// // In the workers, wherever they run. A part that is done twice counts once:
/// latch.count_down_as("part-1", 1).await?;
/// latch.count_down_as("part-2", 1).await?;
///
/// assert!(latch.wait(Duration::from_secs(5)).await?);
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct LatchManager {
    shared: Arc<Shared>,
}

/// Settings of a [`LatchManager`], from [`LatchManager::builder`].
#[derive(Debug, Clone)]
#[must_use = "it does nothing until `build`"]
pub struct LatchManagerBuilder {
    client: Client,
    name: String,
    ttl: Duration,
}

struct Shared {
    client: Client,
    name: String,
    names: Names,
    ttl: Duration,
    opened: Counter,
    timed_out: Counter,
}

impl LatchManagerBuilder {
    /// How long a latch lives after it was set or counted down last, open or not. Default: a day.
    pub fn ttl(mut self, ttl: Duration) -> Self {
        self.ttl = ttl;
        self
    }

    /// Builds the manager. Nothing is sent.
    ///
    /// # Errors
    /// [`Error::Core`] with the setting that cannot work: a name with other characters than letters,
    /// digits, `-`, `_` and `.`; a time to live under 100 ms or over a year.
    pub fn build(self) -> Result<LatchManager, Error> {
        if !(Duration::from_millis(100)..=LONGEST_TTL).contains(&self.ttl) {
            return Err(ConfigError::new(
                "ttl",
                "it is under 100 ms or over a year",
                "give more than the longest pause between two counts, such as a day",
            )
            .into());
        }
        let names = Names::new(&self.client, &self.name)?;
        let waits = |outcome: &'static str| {
            metrics::counter!(
                "redkit_latch_waits_total", "latch" => self.name.clone(), "outcome" => outcome
            )
        };
        Ok(LatchManager {
            shared: Arc::new(Shared {
                opened: waits("opened"),
                timed_out: waits("timed_out"),
                client: self.client,
                name: self.name,
                names,
                ttl: self.ttl,
            }),
        })
    }
}

const LONGEST_TTL: Duration = Duration::from_secs(365 * 86_400);

impl LatchManager {
    /// Starts a manager named `name`, which stands in its keys and metrics.
    pub fn builder(client: &Client, name: &str) -> LatchManagerBuilder {
        LatchManagerBuilder {
            client: client.clone(),
            name: name.to_owned(),
            ttl: Duration::from_secs(86_400),
        }
    }

    /// The latch of a key. Nothing is sent.
    ///
    /// # Errors
    /// [`Error::EmptyKey`].
    pub fn latch(&self, key: impl ToArg) -> Result<CountDownLatch, Error> {
        let key = user_key(key)?;
        Ok(CountDownLatch {
            keys: self.shared.names.keys(&key),
            key,
            shared: Arc::clone(&self.shared),
        })
    }

    /// The name.
    pub fn name(&self) -> &str {
        &self.shared.name
    }
}

/// A count that goes down to zero, once: then the latch is open, and stays so. From
/// [`LatchManager::latch`]; cheap to clone.
///
/// It holds while the server keeps its data: a failover may lose counts (replication is asynchronous), so that the latch
/// stays shut, and an eviction the latch itself.
///
/// While Redis is down, calls fail with [`Error::Core`], and waiters wait on until their timeout.
#[derive(Clone)]
pub struct CountDownLatch {
    shared: Arc<Shared>,
    key: Bytes,
    keys: Keys,
}

/// A waiter looks this often at least, though nobody wakes it.
const LOOK: Duration = Duration::from_secs(5);

impl CountDownLatch {
    /// The largest count.
    pub const MOST: u32 = 1_000_000;

    /// Sets the count. Gives `false`, and changes nothing, when the latch is set already, by whomever.
    ///
    /// # Errors
    /// [`Error::Core`] for a count that is not between 1 and [`MOST`](Self::MOST), and when the server could
    /// not be told.
    pub async fn set(&self, count: u32) -> Result<bool, Error> {
        check_count(count)?;
        scripts::set(&self.shared.client, &self.keys, count, self.shared.ttl).await
    }

    /// Counts down. Gives what is left. A count that is repeated because its reply was lost counts once. One that
    /// arrives when the latch was deleted and set anew counts in the new one: give a new latch a new key.
    ///
    /// # Errors
    /// [`Error::NoLatch`] when it is not set, or has run out; [`Error::Core`] for a count that is not
    /// between 1 and [`MOST`](Self::MOST), and when the server could not be told.
    pub async fn count_down(&self, count: u32) -> Result<u32, Error> {
        self.count_down_as(Token::random(), count).await
    }

    /// Counts down under a name of the caller's: of all counts with the same name the first counts, in
    /// whatever process it was. For steps that may be done again, after a crash or by a queue that delivers
    /// twice. Gives what is left.
    ///
    /// # Errors
    /// As [`count_down`](Self::count_down), and [`Error::EmptyKey`] for an empty name.
    pub async fn count_down_as(&self, name: impl ToArg, count: u32) -> Result<u32, Error> {
        let token = user_key(name)?;
        check_count(count)?;
        let shared = &self.shared;
        let call = scripts::CountDown {
            keys: &self.keys,
            token: &token,
            count,
            ttl: shared.ttl,
            channel: shared.names.channel(),
            name: &self.key,
        };
        call.run(&shared.client).await?.ok_or(Error::NoLatch)
    }

    /// What is left to be counted; `None` when the latch is not set, or has run out.
    ///
    /// # Errors
    /// [`Error::Core`] when the server could not be asked.
    pub async fn remaining(&self) -> Result<Option<u32>, Error> {
        scripts::remaining(&self.shared.client, &self.keys).await
    }

    /// Waits until the latch is open, `timeout` at most; gives whether it is. It may be set later than the
    /// wait begins. The waiter is woken; besides, it looks every five seconds, and it waits on while the
    /// server cannot be asked.
    ///
    /// # Errors
    /// [`Error::Core`] when the server refuses, or could not be asked at the end.
    pub async fn wait(&self, timeout: Duration) -> Result<bool, Error> {
        let deadline = deadline_after(timeout);
        let shared = &self.shared;
        let mut waiter = None;
        let mut after_a_fault = Backoff::new(Duration::from_millis(50), Duration::from_secs(1));
        loop {
            let looked = self.remaining().await;
            let left = deadline.saturating_duration_since(Instant::now());
            match looked {
                Ok(Some(0)) => {
                    shared.opened.increment(1);
                    return Ok(true);
                }
                Ok(_) if left.is_zero() => {
                    shared.timed_out.increment(1);
                    return Ok(false);
                }
                Ok(_) => after_a_fault.reset(),
                Err(error) if left.is_zero() || !error.is_retryable() => return Err(error),
                Err(_) => {
                    sleep(after_a_fault.next_pause().min(left)).await;
                    continue;
                }
            }
            let Some(waiter) = &mut waiter else {
                let channel = shared.names.channel().clone();
                let made = shared.client.waiter(channel, self.key.clone(), Wake::All);
                waiter = timeout_at(deadline, made).await.ok();
                // What happened before the subscription stood was not told: look again.
                continue;
            };
            waiter.wait(left.min(LOOK)).await;
        }
    }

    /// Takes the latch away, open or not. Waiters wait on, for the next that is set. Gives whether there
    /// was one.
    ///
    /// # Errors
    /// [`Error::Core`] when the server could not be told.
    pub async fn delete(&self) -> Result<bool, Error> {
        scripts::delete(&self.shared.client, &self.keys).await
    }
}

fn check_count(count: u32) -> Result<(), ConfigError> {
    if (1..=CountDownLatch::MOST).contains(&count) {
        return Ok(());
    }
    Err(ConfigError::new(
        "count",
        "it is zero, or over 1,000,000",
        "give a number between",
    ))
}

/// Without the key, which may name a person.
impl fmt::Debug for CountDownLatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CountDownLatch")
            .field("name", &self.shared.name)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for LatchManager {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LatchManager")
            .field("name", &self.shared.name)
            .finish_non_exhaustive()
    }
}
