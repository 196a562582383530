//! What happens to servers and cannot be asked for by a command: another one takes over with older
//! data, the memory is full, the clock is set. For tests and simulations.

use std::fmt;
use std::time::Duration;

use super::Embedded;
use crate::clock::Clock;
use crate::keyspace::Contents;

/// The data of an [`Embedded`] at one moment, from [`Embedded::snapshot`].
#[derive(Clone, Default)]
pub struct Snapshot {
    contents: Contents,
}

impl Embedded {
    /// An engine without data whose clock shows this time since the Unix epoch now, whatever the
    /// system's clock says. It does not measure how long commands take (`INFO commandstats` and `SLOWLOG` show none), so
    /// that the same calls get the same replies.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use redkit_core::{Backend, Command};
    /// # use redkit_embedded::Embedded;
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)]
    /// # async fn main() -> Result<(), redkit_core::CallError> {
    /// let engine = Embedded::starting_at(Duration::from_secs(1_000_000_000));
    /// let time: Vec<String> = engine.call(&Command::new("TIME")).await?.to().unwrap_or_default();
    /// assert_eq!(time, ["1000000000", "0"]);
    /// # Ok(()) }
    /// ```
    pub fn starting_at(since_the_epoch: Duration) -> Self {
        Self::with_clock(Clock::starting_at(since_the_epoch))
    }

    /// The data as they are now. The values themselves are shared, not copied.
    pub fn snapshot(&self) -> Snapshot {
        let engine = self.shared.engine.lock();
        Snapshot {
            contents: engine.with_state(|state| state.db.contents()),
        }
    }

    /// Puts the data of a snapshot in place of those that are there, as when a replica that is behind
    /// takes over, or a server starts from its last dump: scripts are forgotten. Subscriptions stand;
    /// expiries are the absolute times that they were.
    pub fn restore(&self, snapshot: &Snapshot) {
        let mut engine = self.shared.engine.lock();
        engine.replace(snapshot.contents.clone());
    }

    /// Whether the engine refuses, from now on, what a server whose memory is full refuses (with
    /// `maxmemory-policy noeviction`): commands that may need more of it, with `OOM`. A script goes on
    /// from its first command that writes, whichever that is; one whose first line is `#!lua` is refused as a whole unless
    /// that line has the flag `allow-oom` or `no-writes`. Between `MULTI` and `EXEC` every command is refused, and `EXEC`
    /// with a command that may need memory carries out nothing.
    ///
    /// ```
    /// # use redkit_core::{Backend, Command};
    /// # use redkit_embedded::Embedded;
    /// # #[tokio::main(flavor = "current_thread")] async fn main() {
    /// let engine = Embedded::new();
    /// engine.set_full(true);
    /// let refused = engine.call(&Command::new("SET").key("k").arg("v")).await.unwrap_err();
    /// assert!(refused.to_string().contains("OOM"), "{refused}");
    /// assert!(engine.call(&Command::new("DEL").key("k")).await.is_ok());
    /// # }
    /// ```
    pub fn set_full(&self, is_full: bool) {
        let engine = self.shared.engine.lock();
        engine.with_state(|state| state.is_full = is_full);
    }

    /// Sets the engine's clock forward, or back, by so many microseconds.
    pub fn adjust_clock(&self, by_micros: i64) {
        let engine = self.shared.engine.lock();
        engine.with_state(|state| state.adjust_clock(by_micros));
    }
}

impl fmt::Debug for Snapshot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Snapshot").finish_non_exhaustive()
    }
}
