//! Checkers: one for each guarantee. A checker is told what the processes saw, and says whether the guarantee
//! held.
//!
//! A checker never refuses a correct history: where the order of two events is not certain, because their calls
//! overlapped or their outcome is unknown, it assumes the order that is allowed. Times are the world's, not the
//! local clocks of the processes.
//!
//! | guarantee | checker |
//! | --- | --- |
//! | registers and counters behave as if calls came one after the other | [`linearizability`] |
//! | no read is older than an invalidation that was acknowledged | [`Freshness`] |
//! | one load of a key at a time | [`SingleLoad`] |
//! | written-behind values keep their order, and none is lost | [`WriteBehind`] |
//! | a rate limit holds over every window, and denies nothing that it promises | [`Rate`] |
//! | permits are never more than the limit | [`Permits`] |
//! | a waiter is woken when there is something to have, and nobody is refused it | [`Promptness`] |
//! | one holder at a time, with fences that grow | [`MutualExclusion`] |
//! | waiters are served in the order in which they came | [`FirstCome`] |
//! | what is taken stays taken for a time | [`StaysTaken`] |
//! | many readers or one writer | [`ReadersAndWriters`] |
//! | an older fence never writes after a newer one | [`FencedWrites`] |
//! | a session that has ended never comes back | [`Sessions`] |
//! | every message is handled, in order, and twice only where a consumer died | [`Delivery`] |
//!
//! ```
//! use std::time::Duration;
//! use redkit_testkit::simulation::checkers::Permits;
//! use redkit_testkit::simulation::history::ProcessId;
//!
//! let second = Duration::from_secs;
//! let mut permits = Permits::new(1);
//! permits.held(ProcessId(1), "export", 1, second(1), second(3));
//! permits.held(ProcessId(2), "export", 1, second(3), second(4));
//! assert!(permits.check().is_ok());
//!
//! permits.held(ProcessId(3), "export", 1, second(2), second(5));
//! println!("{}", permits.check().unwrap_err()); // the story
//! ```

mod delivery;
mod fenced_writes;
mod first_come;
mod freshness;
pub mod linearizability;
mod mutual_exclusion;
mod overlap;
mod permits;
mod promptness;
mod rate;
mod readers_and_writers;
mod sessions;
mod single_load;
mod stays_taken;
mod write_behind;

pub use self::delivery::{Delivery, Handled, Handling, Publishing};
pub use self::fenced_writes::FencedWrites;
pub use self::first_come::FirstCome;
pub use self::freshness::Freshness;
pub use self::mutual_exclusion::MutualExclusion;
pub use self::permits::Permits;
pub use self::promptness::Promptness;
pub use self::rate::{Rate, RatePromise};
pub use self::readers_and_writers::ReadersAndWriters;
pub use self::sessions::Sessions;
pub use self::single_load::SingleLoad;
pub use self::stays_taken::StaysTaken;
pub use self::write_behind::WriteBehind;
