//! [`FloatCounter`]: a number with a fraction that many count up.

use redkit_core::{Client, ToKey};

use super::{not_a_number, set};
use crate::error::Error;
use crate::handle::{Handle, operations_of_every_handle};
use crate::write::Shape;

/// A number with a fraction under one key, counted up and down by many at the same time. One that
/// is not there is 0.
///
/// The server counts in long doubles and stores plain decimal, rounded to 17 digits behind the
/// point. Money wants a [`Counter`](crate::Counter) of its smallest unit.
///
/// Cost, errors and cluster are as of a [`Counter`](crate::Counter); [`Error::Overflow`] means here
/// that the sum is not finite.
#[derive(Clone)]
pub struct FloatCounter {
    handle: Handle,
}

operations_of_every_handle!(FloatCounter);

impl FloatCounter {
    /// The counter at `key` in the client's namespace. Nothing is sent.
    pub fn new(client: &Client, key: impl ToKey) -> Self {
        Self {
            handle: Handle::new(client, key),
        }
    }

    /// What it is; 0 when it is not there.
    pub async fn get(&self) -> Result<f64, Error> {
        let value: Option<f64> = self
            .handle
            .call(self.handle.command("GET"))
            .await
            .map_err(|error| not_a_number(error, &self.handle))?;
        Ok(value.unwrap_or(0.0))
    }

    /// Sets it. A time to live that it has stays, unless the handle's policy starts it anew.
    ///
    /// # Errors
    /// [`Error::Invalid`] when `value` is not finite.
    pub async fn set(&self, value: f64) -> Result<(), Error> {
        set(&self.handle, finite("value", value)?).await
    }

    /// Adds to it (subtracts, if `by` is negative); gives the sum.
    ///
    /// # Errors
    /// [`Error::Invalid`] when `by` is not finite.
    pub async fn incr(&self, by: f64) -> Result<f64, Error> {
        let by = finite("by", by)?;
        let command = self.handle.command("INCRBYFLOAT").arg(by);
        let result = self.handle.write(command, Shape::Once).await;
        result.map_err(|error: Error| error.numeric(|| self.handle.key.to_string().into()))
    }

    /// Takes what it is and starts again: the key goes, so the next increment is a creating one.
    pub async fn get_and_reset(&self) -> Result<f64, Error> {
        let value: Option<f64> = self
            .handle
            .call(self.handle.command("GETDEL"))
            .await
            .map_err(|error| not_a_number(error, &self.handle))?;
        Ok(value.unwrap_or(0.0))
    }
}

fn finite(what: &'static str, number: f64) -> Result<f64, Error> {
    match number.is_finite() {
        true => Ok(number),
        false => Err(Error::invalid(what, "it is not finite", "give a number")),
    }
}
