//! Fields that are counted up at the server.

use bytes::Bytes;
use redkit_core::{FromValue, ToArg, Value};

use super::Hash;
use crate::encoding::field_name;
use crate::error::Error;
use crate::handle::bytes_of;
use crate::increment::increment;
use crate::write::Shape;

/// Numbers are counted by the server, so they are stored in plain decimal, whatever the codec. With
/// JSON that is what an integer is stored as anyway, and [`get`](Hash::get) of a `Hash<i64>` reads
/// them; with a binary codec read them by [`get_integer`](Hash::get_integer).
impl<V, F> Hash<V, F> {
    /// Adds to a field's integer, which is 0 when it is not there; gives the sum.
    ///
    /// # Errors
    /// [`Error::NotANumber`] when the field holds something else, [`Error::Overflow`] when the sum
    /// does not fit 64 bits; the field is then unchanged.
    pub async fn incr(&self, field: impl ToArg, by: i64) -> Result<i64, Error> {
        let field = bytes_of(field);
        let handle = &self.handle;
        let result = match handle.ttl {
            Some(ttl) => increment(&handle.client, &handle.key, Some(&field), by, ttl).await,
            None => {
                let command = handle.command("HINCRBY").arg(&field).arg(by);
                handle.call(command).await
            }
        };
        result.map_err(|error| error.numeric(|| field_name(&handle.key, &field)))
    }

    /// Adds to a field's number, which is 0 when it is not there; gives the sum. The server counts
    /// in long doubles and rounds to 17 digits behind the point.
    ///
    /// # Errors
    /// [`Error::Invalid`] when `by` is not finite; [`Error::NotANumber`] when the field holds
    /// something else, [`Error::Overflow`] when the sum is not finite; the field is then unchanged.
    pub async fn incr_float(&self, field: impl ToArg, by: f64) -> Result<f64, Error> {
        if !by.is_finite() {
            return Err(Error::invalid("by", "it is not finite", "give a number"));
        }
        let field = bytes_of(field);
        let command = self.handle.command("HINCRBYFLOAT").arg(&field).arg(by);
        let result = self.handle.write(command, Shape::Once).await;
        result.map_err(|error: Error| error.numeric(|| field_name(&self.handle.key, &field)))
    }

    /// A field's integer as it is counted; `None` when the field is not there.
    ///
    /// # Errors
    /// [`Error::NotANumber`] when the field holds something else.
    pub async fn get_integer(&self, field: impl ToArg) -> Result<Option<i64>, Error> {
        self.number(bytes_of(field)).await
    }

    /// A field's number as it is counted; `None` when the field is not there.
    ///
    /// # Errors
    /// [`Error::NotANumber`] when the field holds something else.
    pub async fn get_float(&self, field: impl ToArg) -> Result<Option<f64>, Error> {
        self.number(bytes_of(field)).await
    }

    async fn number<N: FromValue>(&self, field: Vec<u8>) -> Result<Option<N>, Error> {
        let command = self.handle.command("HGET").arg(&field);
        let raw: Option<Bytes> = self.handle.call(command).await?;
        raw.map(|raw| Value::Bulk(raw).to())
            .transpose()
            .map_err(|_| Error::NotANumber {
                key: field_name(&self.handle.key, &field),
            })
    }
}
