//! Increments that stop at a bound, by `scripts/increment_bounded.lua`.

use redkit_core::Script;

use super::Counter;
use crate::error::Error;
use crate::lifetime::script_args;

static INCREMENT_BOUNDED: Script = Script::new(include_str!("../scripts/increment_bounded.lua"));

/// What became of an increment with a bound.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use = "it may have been refused"]
pub enum Bounded {
    /// It was counted; this is the sum.
    Counted(i64),
    /// It would have gone beyond the bound, so nothing was changed; this is what the counter is.
    Refused(i64),
}

impl Bounded {
    /// Whether it was counted.
    pub fn is_counted(self) -> bool {
        matches!(self, Bounded::Counted(_))
    }
}

impl Counter {
    /// Adds to it, unless the sum would be over `limit`: no client sees it beyond at any moment.
    ///
    /// # Errors
    /// [`Error::Invalid`] when `by` is not positive.
    pub async fn incr_up_to(&self, by: i64, limit: i64) -> Result<Bounded, Error> {
        let by = positive(by)?;
        self.bounded(by, "up", i128::from(limit) - i128::from(by))
            .await
    }

    /// Subtracts from it, unless the difference would be under `floor`: of a stock, more than is
    /// there is never taken.
    ///
    /// # Errors
    /// [`Error::Invalid`] when `by` is not positive.
    pub async fn decr_down_to(&self, by: i64, floor: i64) -> Result<Bounded, Error> {
        let by = positive(by)?;
        self.bounded(-by, "down", i128::from(floor) + i128::from(by))
            .await
    }

    async fn bounded(&self, by: i64, direction: &str, from: i128) -> Result<Bounded, Error> {
        let (millis, policy) = script_args(self.handle.ttl);
        let call = INCREMENT_BOUNDED
            .invoke([&self.handle.key])
            .arg(by)
            .arg(direction)
            .arg(from.to_string())
            .arg(millis)
            .arg(policy);
        let result: Result<(bool, i64), _> = self.handle.client.eval(call).await;
        let (counted, value) = result
            .map_err(|error| Error::from(error).numeric(|| self.handle.key.to_string().into()))?;
        Ok(match counted {
            true => Bounded::Counted(value),
            false => Bounded::Refused(value),
        })
    }
}

fn positive(by: i64) -> Result<i64, Error> {
    match by > 0 {
        true => Ok(by),
        false => Err(Error::invalid(
            "by",
            "it is not positive",
            "give a positive number; for the other direction there is the other method",
        )),
    }
}
