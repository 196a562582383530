//! The circuit breaker: it stops calling a server that fails or hangs, and finds out when to
//! call again.
//!
//! The idea is Michael Nygard's (*Release It!*). Calls ask a [`Breaker`] for a [`Permit`] and
//! settle it with an [`Outcome`]. Over a sliding window of calls, by count or by time, the breaker
//! keeps a failure rate and a slow-call rate (both windows and the second rate as resilience4j
//! made them known). Too high a rate opens it: calls are refused at once. After a while it is
//! half open and lets a few probes through; their outcome closes it or opens it again.
//!
//! - A call that is out for longer than the slow limit counts *before it ends*, so a server that
//!   hangs opens the breaker although no call comes back.
//! - A permit that is dropped means that the caller gave up: nothing is counted, unless the call
//!   had been slow by then. A timeout is settled as [`Outcome::Failure`].
//! - A permit belongs to the state in which it was given (a generation, as in gobreaker). What
//!   comes back after that state has ended moves nothing.
//! - At most [`half_open_calls`](BreakerConfig::half_open_calls) probes are out or counted while
//!   half open. One that never ends is given up after
//!   [`half_open_timeout`](BreakerConfig::half_open_timeout) and counts as failed.
//! - Silence is the other signal: whoever looks after the connection finds that the server owes
//!   replies and sends nothing, and [suspends](Breaker::suspend) the breaker until an answer comes,
//!   whatever the window holds. Rates alone are late: old successes outvote one failure per caller
//!   and second.
//! - A client has a breaker for each of its servers: [`Breakers`].
//! - There is no task behind it. What time brings about happens with the next call or look.
//!
//! Metrics, each with the label `client`, and `node` for a client's server: `redkit_breaker_state` (0 closed, 1 half open, 2 open,
//! 3 forced open, 4 forced closed), `redkit_breaker_calls_total{outcome}`,
//! `redkit_breaker_not_permitted_total`, `redkit_breaker_transitions_total{to}`. Every transition
//! is a `tracing` event with the target `redkit::breaker`.
//!
//! ```
//! use redkit_core::breaker::{Breaker, BreakerConfig, Outcome};
//!
//! # async fn call_the_server() -> Result<(), std::io::Error> { Ok(()) }
//! # tokio::runtime::Builder::new_current_thread().build()?.block_on(async {
//! let breaker = Breaker::new(BreakerConfig::default())?;
//!
//! let permit = breaker.acquire()?; // refused: `Open` says when to ask again
//! let result = call_the_server().await; // dropped here: the permit gives itself back
//! permit.settle(match result {
//!     Ok(()) => Outcome::Success,
//!     Err(_) => Outcome::Failure,
//! });
//! assert_eq!(breaker.status().calls, 1);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! # })?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! Inside, `machine`, `window` and `in_flight` decide, without locks or clocks; `shared` shares
//! them between threads; `handle` is the public face; `group` is the breakers of a client's servers;
//! `telemetry` reports.

mod classify;
mod config;
mod group;
mod handle;
mod in_flight;
mod machine;
#[cfg(test)]
mod machine_tests;
#[cfg(test)]
mod model;
#[cfg(test)]
mod reference_model;
mod shared;
mod snapshot;
mod state;
mod telemetry;
#[cfg(test)]
mod tests;
mod tick;
mod window;

pub use config::{BreakerConfig, BreakerConfigError, Window};
pub use group::{Breakers, NodeStatus};
pub use handle::{Breaker, Permit};
pub use state::{BreakerState, BreakerStatus, Open, Outcome};
