//! [`OnOutage`]: what a limiter does while the server cannot be asked; and [`Outage`], which says
//! when that begins and ends.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use redkit_core::{Client, ConfigError};
use tokio::time::Instant;

use crate::plan::Plan;

/// A limiter's conduct while the server cannot be asked: it cannot be reached, does not answer in
/// time, or says that it serves nobody now. Choose one for each limiter; every decision says
/// [who made it](crate::Decision::decided_by), and so does the metric.
///
/// # What an outage leaves charged
///
/// A call that got no answer may have been carried out all the same: the reply was lost, or the server
/// came back and then carried out what it had been sent
/// ([`is_maybe`](redkit_core::Error::is_maybe)). Its units are charged then, although this process
/// decided otherwise; a call that [`Closed`](OnOutage::Closed) denied may have been charged as well.
/// They are not given back: what a limit stores says how much was taken and not by which call, so that
/// a refund could give back what another call took, and more than the limit would get through. Charged
/// twice it is never, and with time it comes back as all units do. The places of a
/// [`ConcurrencyLimiter`](crate::ConcurrencyLimiter) have names of their own: such a place is released
/// in the background.
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub enum OnOutage {
    /// The caller gets [`Error::Core`](crate::Error::Core), and decides.
    #[default]
    Error,
    /// Everything is allowed. For limits that protect against overuse, where being there matters
    /// more.
    Open,
    /// Everything is denied. For limits that protect against attacks, such as guessed passwords.
    Closed,
    /// This process decides alone, with its share of the limit: see [`OnOutage::local`].
    Local {
        /// A client of an engine in this process.
        client: Client,
        /// Among how many processes the limit is divided.
        instances: u32,
    },
}

impl OnOutage {
    /// This process decides alone, by the same scripts on an engine in the process, with its share
    /// of every limit: `limit / instances`, rounded down, so that all shares together are never
    /// more than the limit. A share must be at least one unit, or building the limiter fails. Of a
    /// rate (GCRA, leaky bucket) the rate is divided exactly and the burst is rounded down.
    ///
    /// The share begins full with each outage after a pause, and the server's count goes on where it
    /// was: around the beginning and the end of an outage a window may see both.
    ///
    /// The engine holds a key for each user key that is asked for in the outage, until its window
    /// has passed, and nothing bounds how many that are. Where callers can choose their keys, give
    /// the limiter's callers an edge that bounds them, or choose [`Closed`](OnOutage::Closed).
    ///
    /// ```
    /// # use std::sync::Arc;
    /// use redkit_core::{Client, ClientConfig};
    /// use redkit_embedded::Embedded;
    /// use redkit_ratelimit::OnOutage;
    ///
    /// # fn main() -> Result<(), redkit_core::Error> {
    /// let engine = Client::from_backend(Arc::new(Embedded::new()), &ClientConfig::default())?;
    /// let on_outage = OnOutage::local(engine, 4);
    /// # Ok(()) }
    /// ```
    pub fn local(client: Client, instances: u32) -> Self {
        OnOutage::Local { client, instances }
    }

    /// Refuses a division of the limit that leaves less than one unit for each process.
    pub(crate) fn check_share(&self, plan: &Plan) -> Result<(), ConfigError> {
        let OnOutage::Local { instances, .. } = self else {
            return Ok(());
        };
        if *instances == 0 {
            return Err(ConfigError::new(
                "instances",
                "it is zero",
                "say how many processes divide the limit among themselves",
            ));
        }
        match plan.divided((*instances).into()) {
            Some(_) => Ok(()),
            None => Err(ConfigError::new(
                "instances",
                "there are more of them than units or places (for a rate: than its burst), so that a \
                 share is less than one",
                "use a larger limit or burst, or OnOutage::Open or Closed",
            )),
        }
    }

    /// Whether there is nobody else to decide.
    pub(crate) fn leaves_it_to_the_caller(&self) -> bool {
        matches!(self, OnOutage::Error)
    }
}

/// Whether a limiter decides without the server, to say so once and not with each call.
///
/// A limiter's keys lie on all servers of a cluster, and one that is down fails a part of the calls only. So an
/// outage has ended when no call has met a fault for [`CALM`], and not with the first call that is answered.
#[derive(Debug)]
pub(crate) struct Outage {
    is_on: AtomicBool,
    /// When a call last met a fault, in ms after `began`.
    last_fault: AtomicU64,
    began: Instant,
}

/// How long all calls are answered before an outage has ended.
const CALM: Duration = Duration::from_secs(5);

impl Default for Outage {
    fn default() -> Self {
        Self {
            is_on: AtomicBool::new(false),
            last_fault: AtomicU64::new(0),
            began: Instant::now(),
        }
    }
}

impl Outage {
    /// Notes that the server could not be asked.
    pub(crate) fn begin(&self, limiter: &str, error: &redkit_core::Error) {
        self.last_fault.fetch_max(self.now(), Ordering::Relaxed);
        if !self.is_on.swap(true, Ordering::Relaxed) {
            tracing::warn!(target: "redkit::ratelimit", limiter, %error, "the server cannot be asked");
        }
    }

    pub(crate) fn is_on(&self) -> bool {
        self.is_on.load(Ordering::Relaxed)
    }

    /// Notes that the server was asked.
    pub(crate) fn end(&self, limiter: &str) {
        // Of nearly all calls this is all.
        if !self.is_on.load(Ordering::Relaxed) {
            return;
        }
        let calm = self
            .now()
            .saturating_sub(self.last_fault.load(Ordering::Relaxed));
        if u128::from(calm) >= CALM.as_millis() && self.is_on.swap(false, Ordering::Relaxed) {
            tracing::info!(target: "redkit::ratelimit", limiter, "the server is asked again");
        }
    }

    fn now(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX)
    }
}
