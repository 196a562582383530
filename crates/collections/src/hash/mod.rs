//! [`Hash`]: named fields with values of one type.

mod compare;
mod expiry;
mod numbers;

use std::borrow::Borrow;
use std::marker::PhantomData;

use bytes::Bytes;
use redkit_core::{Client, Error as CoreError, FromValue, Pattern, ToArg, ToKey, Value};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::encoding::{FieldPlaces, decode, encode, name_field};
use crate::error::Error;
use crate::handle::{Handle, bytes_of, operations_of_every_handle};
use crate::scan::{Scanned, scanned};
use crate::write::Shape;

/// Fields with values of one type under one key: a user's settings, a basket, a table of prices.
///
/// Field names are text, bytes or integers, and stored as they are; values go through the client's
/// codec. An operation takes a name of any of these types. An operation that gives names gives them as
/// `F`: text, unless [`fields`](Self::fields) says otherwise.
///
/// ```
/// use redkit_collections::Hash;
/// # use redkit_core::{Client, ClientConfig};
/// # use redkit_embedded::Embedded;
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let client = Client::from_backend(std::sync::Arc::new(Embedded::new()), &ClientConfig::default())?;
/// let prices: Hash<u64> = Hash::new(&client, "prices");
/// prices.set("teapot", &1999).await?;
/// prices.set_many([("cup", &499), ("saucer", &299)]).await?;
/// assert_eq!(prices.get("cup").await?, Some(499));
///
/// prices.update("cup", |price| price.map(|price| price + 100)).await?;
/// let mut all = prices.get_all().await?;
/// all.sort();
/// assert_eq!(all[0], ("cup".to_owned(), 599));
/// # Ok(()) }
/// ```
///
/// # Cost
/// One round trip each, unless it says otherwise; nothing is sent when no field is named. *n* is the
/// number of fields named, *N* of those in the hash.
///
/// | operations | time at the server |
/// |---|---|
/// | `get`, `set`, `set_if_absent`, `contains`, `len`, increments, `compare_and_set`, `set_expiring` | O(1) |
/// | `get_many`, `set_many`, `delete`, `expire_fields` and its kin | O(n) |
/// | `get_all`, `keys`, `values` | O(N), blocks the server meanwhile: for hashes of some thousands of fields at most |
/// | `random`, `random_entries` | O(n) |
/// | `scan` | O(1) per step; as many round trips as pages |
/// | `update` | O(1); two round trips per attempt |
///
/// # Errors
/// [`Error::Core`] when Redis could not be asked or refused, and for a value that is not a `V`:
/// that error names the key and the field and keeps the bytes. Reads are repeated when that helps;
/// writes are never sent twice, because a repetition could undo another writer's change in
/// between: [`Error::is_maybe`] says that a write may have been carried out.
///
/// # In a cluster
/// A hash is one key, so it lies on one node, and every operation goes there.
///
/// # Encryption
/// A codec that encrypts binds a value to its key and its field (the key, two zero bytes, the
/// field; a zero byte in the key is followed by a one): a value that is moved to another field or another
/// hash does not open.
pub struct Hash<V, F = String> {
    handle: Handle,
    entry: PhantomData<fn() -> (F, V)>,
}

operations_of_every_handle!(Hash<V, F>);

impl<V> Hash<V> {
    /// The hash at `key` in the client's namespace; braces in the key choose its slot in a cluster.
    /// Nothing is sent.
    pub fn new(client: &Client, key: impl ToKey) -> Self {
        Self {
            handle: Handle::new(client, key),
            entry: PhantomData,
        }
    }
}

impl<V, F> Hash<V, F> {
    /// The same hash with names of fields of another type: numbers, or bytes that are no text.
    ///
    /// ```
    /// # use redkit_collections::{Error, Hash};
    /// # async fn example(client: &redkit_core::Client) -> Result<(), Error> {
    /// let stock = Hash::<u32>::new(client, "stock").fields::<u64>();
    /// for (product, left) in stock.get_all().await? {
    ///     println!("{left} of product {product:06}");
    /// }
    /// # Ok(()) }
    /// ```
    pub fn fields<G>(&self) -> Hash<V, G> {
        Hash {
            handle: self.handle.clone(),
            entry: PhantomData,
        }
    }

    /// Whether there is such a field.
    pub async fn contains(&self, field: impl ToArg) -> Result<bool, Error> {
        self.handle
            .call(self.handle.command("HEXISTS").arg(field))
            .await
    }

    /// The number of fields.
    pub async fn len(&self) -> Result<usize, Error> {
        self.handle.call(self.handle.command("HLEN")).await
    }

    /// Whether there is no field, and so no key.
    pub async fn is_empty(&self) -> Result<bool, Error> {
        Ok(self.len().await? == 0)
    }

    /// Removes fields; gives how many there were. The key goes with its last field.
    pub async fn delete(
        &self,
        fields: impl IntoIterator<Item = impl ToArg>,
    ) -> Result<usize, Error> {
        let command = self.handle.command("HDEL").args(fields);
        match command.arg_count() {
            1 => Ok(0),
            _ => self.handle.call(command).await,
        }
    }
}

impl<V, F: FromValue> Hash<V, F> {
    /// The names of all fields, in no order.
    ///
    /// # Errors
    /// [`Error::Core`], also for a name that is not an `F`.
    pub async fn keys(&self) -> Result<Vec<F>, Error> {
        let names: Vec<Bytes> = self.handle.call(self.handle.command("HKEYS")).await?;
        names.into_iter().map(|name| field("HKEYS", name)).collect()
    }

    /// The names of up to `count` fields, each chosen once.
    ///
    /// # Errors
    /// [`Error::Core`], also for a name that is not an `F`.
    pub async fn random(&self, count: u32) -> Result<Vec<F>, Error> {
        let command = self.handle.command("HRANDFIELD").arg(count);
        let names: Vec<Bytes> = self.handle.call(command).await?;
        names
            .into_iter()
            .map(|name| field("HRANDFIELD", name))
            .collect()
    }
}

impl<V: Serialize + DeserializeOwned, F> Hash<V, F> {
    /// The value of a field.
    pub async fn get(&self, field: impl ToArg) -> Result<Option<V>, Error> {
        let field = bytes_of(field);
        let raw: Option<Bytes> = self
            .handle
            .call(self.handle.command("HGET").arg(&field))
            .await?;
        raw.map(|raw| self.open(&mut self.places(), &field, raw))
            .transpose()
    }

    /// The values of fields, in their order; `None` for those that are not there.
    pub async fn get_many(
        &self,
        fields: impl IntoIterator<Item = impl ToArg>,
    ) -> Result<Vec<Option<V>>, Error> {
        let fields: Vec<Vec<u8>> = fields.into_iter().map(bytes_of).collect();
        if fields.is_empty() {
            return Ok(Vec::new());
        }
        let values: Vec<Option<Bytes>> = self
            .handle
            .call(self.handle.command("HMGET").args(&fields))
            .await?;
        let mut places = self.places();
        fields
            .iter()
            .zip(values)
            .map(|(field, raw)| {
                raw.map(|raw| self.open(&mut places, field, raw))
                    .transpose()
            })
            .collect()
    }

    /// All values, in no order. The names travel too, because a value may be bound to its field.
    pub async fn values(&self) -> Result<Vec<V>, Error> {
        let entries = self.fields::<Bytes>().get_all().await?;
        Ok(entries.into_iter().map(|(_, value)| value).collect())
    }

    /// Sets a field; says whether it is new.
    pub async fn set<Q>(&self, field: impl ToArg, value: &Q) -> Result<bool, Error>
    where
        V: Borrow<Q>,
        Q: Serialize + ?Sized,
    {
        let new: usize = self.set_many([(field, value)]).await?;
        Ok(new > 0)
    }

    /// Sets fields; gives how many of them are new. All of them or none.
    pub async fn set_many<'v, N, Q>(
        &self,
        entries: impl IntoIterator<Item = (N, &'v Q)>,
    ) -> Result<usize, Error>
    where
        N: ToArg,
        V: Borrow<Q>,
        Q: Serialize + ?Sized + 'v,
    {
        let mut places = self.places();
        let mut command = self.handle.command("HSET");
        for (field, value) in entries {
            let field = bytes_of(field);
            let raw = encode(&self.handle.client, places.of(&field), value)?;
            command = command.arg(field).arg(raw);
        }
        match command.arg_count() {
            1 => Ok(0),
            _ => self.handle.write(command, Shape::Sum(2)).await,
        }
    }

    /// Sets a field that is not there; says whether it was set.
    pub async fn set_if_absent<Q>(&self, field: impl ToArg, value: &Q) -> Result<bool, Error>
    where
        V: Borrow<Q>,
        Q: Serialize + ?Sized,
    {
        let field = bytes_of(field);
        let raw = encode(&self.handle.client, self.places().of(&field), value)?;
        let command = self.handle.command("HSETNX").arg(field).arg(raw);
        self.handle.write(command, Shape::Refusable).await
    }

    fn places(&self) -> FieldPlaces {
        FieldPlaces::new(&self.handle.key)
    }

    fn open(&self, places: &mut FieldPlaces, field: &[u8], raw: Bytes) -> Result<V, Error> {
        decode(&self.handle.client, places.of(field), raw)
            .map_err(|error| name_field(error, &self.handle.key, field))
    }
}

impl<V: Serialize + DeserializeOwned, F: FromValue> Hash<V, F> {
    /// All fields with their values, in no order. All of it is in memory at once, here and at the
    /// server: [`scan`](Self::scan) large hashes.
    pub async fn get_all(&self) -> Result<Vec<(F, V)>, Error> {
        self.entries(self.handle.command("HGETALL")).await
    }

    /// Up to `count` fields with their values, each chosen once.
    pub async fn random_entries(&self, count: u32) -> Result<Vec<(F, V)>, Error> {
        let command = self.handle.command("HRANDFIELD").arg(count);
        self.entries(command.arg("WITHVALUES")).await
    }

    /// The fields whose names match, with their values, in no order. What is there from beginning
    /// to end is seen at least once; during changes some may be seen twice.
    ///
    /// ```
    /// use redkit_core::Pattern;
    /// # use redkit_collections::{Error, Hash};
    /// # async fn example(prices: Hash<u64>) -> Result<(), Error> {
    /// let mut cups = prices.scan(Pattern::prefix("cup:"));
    /// while let Some(entry) = cups.next().await {
    ///     let (name, price) = entry?;
    ///     println!("{name}: {price}");
    /// }
    /// # Ok(()) }
    /// ```
    pub fn scan(&self, pattern: Pattern) -> Scanned<(F, V)>
    where
        V: 'static,
        F: 'static,
    {
        let (hash, mut places) = (self.clone(), self.places());
        scanned(&self.handle, "HSCAN", &pattern, move |items| {
            let (name, raw) = (items.next()?, items.next()?);
            Some(hash.entry("HSCAN", &mut places, name, raw))
        })
    }

    async fn entries(&self, command: redkit_core::Command) -> Result<Vec<(F, V)>, Error> {
        let pairs: Vec<(Bytes, Bytes)> = self.handle.call(command).await?;
        let mut places = self.places();
        pairs
            .into_iter()
            .map(|(name, raw)| self.entry("HGETALL", &mut places, name, raw))
            .collect()
    }

    fn entry(
        &self,
        command: &str,
        places: &mut FieldPlaces,
        name: Bytes,
        raw: Bytes,
    ) -> Result<(F, V), Error> {
        let value = self.open(places, &name, raw)?;
        Ok((field(command, name)?, value))
    }
}

impl<V, F> Clone for Hash<V, F> {
    fn clone(&self) -> Self {
        self.fields()
    }
}

/// A field's name as the caller wants it.
fn field<F: FromValue>(command: &str, name: Bytes) -> Result<F, Error> {
    Value::Bulk(name).to().map_err(|error| {
        Error::Core(CoreError::Reply {
            command: command.into(),
            error,
        })
    })
}
