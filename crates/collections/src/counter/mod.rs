//! [`Counter`]: an integer that many count up.

mod bounded;
mod float;
mod many;

use redkit_core::{Client, ToArg, ToKey};

pub use self::bounded::Bounded;
pub use self::float::FloatCounter;
pub use self::many::Counters;
use crate::error::Error;
use crate::handle::{Handle, operations_of_every_handle};
use crate::increment::increment;
use crate::lifetime::ExpirePolicy;
use crate::write::Shape;

/// A 64-bit integer under one key, counted up and down by many at the same time: visits, stock,
/// attempts. A counter that is not there is 0.
///
/// It is stored in plain decimal, whatever the client's codec.
///
/// ```
/// use std::time::Duration;
/// use redkit_collections::{Bounded, Counter, Lifetime};
/// # use redkit_core::{Client, ClientConfig};
/// # use redkit_embedded::Embedded;
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let client = Client::from_backend(std::sync::Arc::new(Embedded::new()), &ClientConfig::default())?;
/// // The time is set by the increment that creates the counter, in the same step.
/// let today = Counter::new(&client, "visits:today")
///     .with_ttl(Lifetime::on_create(Duration::from_secs(86_400))?);
/// assert_eq!(today.incr(1).await?, 1);
///
/// let seats = Counter::new(&client, "seats:sold");
/// assert_eq!(seats.incr_up_to(2, 3).await?, Bounded::Counted(2));
/// assert_eq!(seats.incr_up_to(2, 3).await?, Bounded::Refused(2));
/// # Ok(()) }
/// ```
///
/// # Cost
/// One round trip each, O(1). Many counters at once: [`Counters`].
///
/// # Errors
/// [`Error::Core`] when Redis could not be asked or refused; [`Error::NotANumber`] when the key
/// holds something else, [`Error::Overflow`] when the sum does not fit 64 bits: nothing was changed
/// then. Increments are never sent twice: when [`Error::is_maybe`] holds, one may have been counted.
///
/// # In a cluster
/// A counter is one key, so it lies on one node.
#[derive(Clone)]
pub struct Counter {
    handle: Handle,
}

operations_of_every_handle!(Counter);

impl Counter {
    /// The counter at `key` in the client's namespace. Nothing is sent.
    pub fn new(client: &Client, key: impl ToKey) -> Self {
        Self {
            handle: Handle::new(client, key),
        }
    }

    /// What it is; 0 when it is not there.
    pub async fn get(&self) -> Result<i64, Error> {
        let value: Option<i64> = self
            .handle
            .call(self.handle.command("GET"))
            .await
            .map_err(|error| not_a_number(error, &self.handle))?;
        Ok(value.unwrap_or(0))
    }

    /// Sets it. A time to live that it has stays, unless the handle's policy starts it anew.
    pub async fn set(&self, value: i64) -> Result<(), Error> {
        set(&self.handle, value).await
    }

    /// Adds to it; gives the sum.
    pub async fn incr(&self, by: i64) -> Result<i64, Error> {
        let handle = &self.handle;
        let result = match handle.ttl {
            Some(ttl) => increment(&handle.client, &handle.key, None, by, ttl).await,
            None => handle.call(handle.command("INCRBY").arg(by)).await,
        };
        result.map_err(|error| error.numeric(|| handle.key.to_string().into()))
    }

    /// Subtracts from it; gives the difference.
    pub async fn decr(&self, by: i64) -> Result<i64, Error> {
        let handle = &self.handle;
        match by.checked_neg() {
            Some(by) => self.incr(by).await,
            None => Err(Error::Overflow {
                key: handle.key.to_string().into(),
            }),
        }
    }

    /// Takes what it is and starts again: the key goes, so the next increment is a creating one.
    /// No increment is lost or counted twice in between.
    pub async fn get_and_reset(&self) -> Result<i64, Error> {
        let value: Option<i64> = self
            .handle
            .call(self.handle.command("GETDEL"))
            .await
            .map_err(|error| not_a_number(error, &self.handle))?;
        Ok(value.unwrap_or(0))
    }
}

/// A value that is there and does not read as a number.
fn not_a_number(error: Error, handle: &Handle) -> Error {
    match error {
        Error::Core(redkit_core::Error::Reply { .. }) => Error::NotANumber {
            key: handle.key.to_string().into(),
        },
        other => other,
    }
}

async fn set(handle: &Handle, value: impl ToArg) -> Result<(), Error> {
    let command = handle.command("SET").arg(value);
    match handle.ttl {
        // It starts anew, and one command says so.
        Some(ttl) if ttl.policy() == ExpirePolicy::OnWrite => {
            handle.call(command.arg("PX").arg(ttl.millis())).await
        }
        _ => handle.write(command.arg("KEEPTTL"), Shape::Once).await,
    }
}
