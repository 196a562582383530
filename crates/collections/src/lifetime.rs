//! [`Lifetime`]: how long a collection lives, and when its time starts.

use std::time::Duration;

use redkit_core::Ttl;

use crate::error::Error;

/// A time to live that a handle's writes give its key, in the same step as the write: there is no
/// moment at which the key is there without one.
///
/// ```
/// use std::time::Duration;
/// use redkit_collections::{ExpirePolicy, Lifetime};
///
/// let ttl = Lifetime::on_create(Duration::from_secs(3600))?;
/// assert_eq!(ttl.policy(), ExpirePolicy::OnCreate);
/// assert!(Lifetime::on_write(Duration::ZERO).is_err());
/// # Ok::<(), redkit_collections::Error>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lifetime {
    millis: u64,
    policy: ExpirePolicy,
}

/// When a key's time starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ExpirePolicy {
    /// With the write that creates the key. Later writes leave it, so the key ends for certain. A
    /// key that has no time to live yet, because something else created it, gets one by the next
    /// write.
    OnCreate,
    /// Anew with every write that adds or changes something, or finds it as it should be. Writes
    /// that only remove, and conditional writes that were refused, leave it.
    OnWrite,
}

impl Lifetime {
    /// A time that starts with the creating write.
    ///
    /// # Errors
    /// [`Error::Invalid`] under a millisecond and over ten years.
    pub fn on_create(time: Duration) -> Result<Self, Error> {
        Self::new(time, ExpirePolicy::OnCreate)
    }

    /// A time that starts anew with every write.
    ///
    /// # Errors
    /// [`Error::Invalid`] under a millisecond and over ten years.
    pub fn on_write(time: Duration) -> Result<Self, Error> {
        Self::new(time, ExpirePolicy::OnWrite)
    }

    /// A time with a policy.
    ///
    /// # Errors
    /// [`Error::Invalid`] under a millisecond and over ten years.
    pub fn new(time: Duration, policy: ExpirePolicy) -> Result<Self, Error> {
        Ok(Self {
            millis: milliseconds("ttl", time)?,
            policy,
        })
    }

    /// The time, in whole milliseconds.
    pub fn duration(&self) -> Duration {
        Duration::from_millis(self.millis)
    }

    /// When it starts.
    pub fn policy(&self) -> ExpirePolicy {
        self.policy
    }

    pub(crate) fn millis(&self) -> u64 {
        self.millis
    }
}

/// How scripts are told of it: the milliseconds, and when to set them; empty without one.
pub(crate) fn script_args(ttl: Option<Lifetime>) -> (String, &'static str) {
    match ttl {
        None => (String::new(), ""),
        Some(ttl) => {
            let policy = match ttl.policy {
                ExpirePolicy::OnCreate => "create",
                ExpirePolicy::OnWrite => "write",
            };
            (ttl.millis.to_string(), policy)
        }
    }
}

/// From the numbers of `PTTL` and `HPTTL`.
pub(crate) fn time_left(millis: i64) -> Ttl {
    match (millis, u64::try_from(millis)) {
        (_, Ok(millis)) => Ttl::In(Duration::from_millis(millis)),
        (-1, _) => Ttl::Forever,
        _ => Ttl::Absent,
    }
}

/// A time as the server takes it.
pub(crate) fn milliseconds(what: &'static str, time: Duration) -> Result<u64, Error> {
    /// Long before the server's clock overflows.
    const TEN_YEARS: u64 = 10 * 365 * 24 * 3_600_000;
    match u64::try_from(time.as_millis()) {
        Ok(millis @ 1..=TEN_YEARS) => Ok(millis),
        _ => Err(Error::invalid(
            what,
            format!("{time:?} is under 1 ms or over 10 years"),
            "give a time between",
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_that_cannot_work_are_refused() {
        for time in [
            Duration::ZERO,
            Duration::from_micros(999),
            Duration::from_secs(11 * 365 * 24 * 3600),
            Duration::MAX,
        ] {
            let error = Lifetime::on_create(time).unwrap_err();
            assert!(
                matches!(error, Error::Invalid { what: "ttl", .. }),
                "{error}"
            );
        }
        let ttl = Lifetime::on_write(Duration::from_millis(1)).unwrap();
        assert_eq!(ttl.duration(), Duration::from_millis(1));
    }
}
