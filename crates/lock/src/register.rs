//! [`FencedRegister`]: values that take no writes of holders that have been replaced.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use redkit_core::{
    Client, Command, ConfigError, Error as CoreError, Key, Keyspace, Script, ToArg, ValueError,
};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::error::Error;
use crate::fence::Fence;
use crate::keys::user_key;
use crate::time::millis;

static WRITE: Script = Script::new(include_str!("scripts/register_write.lua"));

/// Values on Redis that take no writes of holders that have been replaced: each write carries the [`Fence`] of
/// its lock, and is rejected when a newer one has written. A holder that was held up past its lease, and goes on
/// without knowing, then does no harm.
///
/// ```
/// use redkit_lock::{Error, Fence, FencedRegister, LockManager};
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let backend = std::sync::Arc::new(redkit_embedded::Embedded::new());
/// # let client = redkit_core::Client::from_backend(backend, &Default::default())?;
/// let locks = LockManager::builder(&client, "stock").build()?;
/// let stock = FencedRegister::new(&client, "stock")?;
///
/// let old = locks.try_acquire("teapot").await?;
/// let old_fence = old.fence();
/// old.release().await?;
/// let new = locks.try_acquire("teapot").await?;
/// stock.write("teapot", new.fence(), &3).await?;
/// assert!(matches!(stock.write("teapot", old_fence, &4).await, Err(Error::Fenced { .. })));
/// assert_eq!(stock.read::<u32>("teapot").await?.unwrap().value, 3);
/// # Ok(()) }
/// ```
///
/// # In a database
/// The same with SQL: a column `fence` beside the data, and in every write
///
/// ```sql
/// UPDATE stock SET left = :left, fence = :fence WHERE id = :id AND fence <= :fence;
/// ```
///
/// No row was changed: the fence is old (or the row is gone), and the work is to stop. Equal fences are the same
/// holder, which may write many times. New rows: `INSERT … ON CONFLICT (id) DO UPDATE SET left = excluded.left,
/// fence = excluded.fence WHERE stock.fence <= excluded.fence`. A fence is a signed 64-bit integer (`BIGINT`).
/// Where one lock covers many rows, keep its fence in a row of its own, and begin the transaction with `UPDATE
/// fences SET fence = :fence WHERE lock = :lock AND fence <= :fence`: the row's lock keeps older holders out until
/// the transaction ends, and later they find a newer fence.
#[derive(Clone)]
pub struct FencedRegister {
    client: Client,
    name: Arc<str>,
    keyspace: Keyspace,
}

/// A value and the fence under which it was written.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Fenced<T> {
    /// The newest fence.
    pub fence: Fence,
    /// The value.
    pub value: T,
}

/// What becomes of a register.
enum Change<'v> {
    Write(&'v [u8]),
    Announce,
    Delete(Duration),
}

const YEAR: Duration = Duration::from_secs(366 * 86_400);

impl FencedRegister {
    /// Registers named `name`, with values by the client's codec. Nothing is sent.
    ///
    /// # Errors
    /// [`Error::Core`] for a name that holds something else than letters, digits, `-`, `_` and `.`.
    pub fn new(client: &Client, name: &str) -> Result<Self, Error> {
        Ok(Self {
            keyspace: client.keyspace("fenced", name)?,
            client: client.clone(),
            name: name.into(),
        })
    }

    /// Writes a value, if no newer fence has. The same fence may write many times. The value has no time to live.
    ///
    /// # Errors
    /// [`Error::Fenced`] when a newer fence has written; nothing was changed. [`Error::EmptyKey`].
    /// [`Error::Core`] when the server could not be asked, or the value cannot be encoded.
    pub async fn write<T: Serialize + ?Sized>(
        &self,
        key: impl ToArg,
        fence: Fence,
        value: &T,
    ) -> Result<(), Error> {
        let key = self.keyspace.key(user_key(key)?);
        let encoded = self.client.codec().encode(key.as_bytes(), value)?;
        self.send(&key, fence, Change::Write(&encoded)).await
    }

    /// Announces a fence without writing: from now on older holders are rejected. For a holder that reads first,
    /// and is not to be overtaken between reading and writing.
    ///
    /// # Errors
    /// As [`write`](Self::write).
    pub async fn announce(&self, key: impl ToArg, fence: Fence) -> Result<(), Error> {
        let key = self.keyspace.key(user_key(key)?);
        self.send(&key, fence, Change::Announce).await
    }

    /// Deletes the value, if no newer fence has written. The fence stays for `remember_for`, so that an older holder is
    /// rejected until then as after a write; **after it, nothing is left to compare with, and an older holder's write is
    /// taken**. Choose far more than the TTL of the lock and than any process may be held up, such as a day. A later write
    /// or announcement keeps the fence for good again.
    ///
    /// # Errors
    /// As [`write`](Self::write), and [`Error::Core`] for a `remember_for` under a second or over a year.
    pub async fn delete(
        &self,
        key: impl ToArg,
        fence: Fence,
        remember_for: Duration,
    ) -> Result<(), Error> {
        if !(Duration::from_secs(1)..=YEAR).contains(&remember_for) {
            return Err(ConfigError::new(
                "remember_for",
                "it is under a second or over a year",
                "give far more than a holder may be held up, such as a day",
            )
            .into());
        }
        let key = self.keyspace.key(user_key(key)?);
        self.send(&key, fence, Change::Delete(remember_for)).await
    }

    /// The value, and the newest fence; `None` when nothing was written yet, or it was deleted.
    ///
    /// # Errors
    /// [`Error::EmptyKey`]. [`Error::Core`] when the server could not be asked, or the value is of another type.
    pub async fn read<T: DeserializeOwned>(
        &self,
        key: impl ToArg,
    ) -> Result<Option<Fenced<T>>, Error> {
        let key = self.keyspace.key(user_key(key)?);
        let read = Command::new("HMGET").key(&key).arg("f").arg("v");
        let read = read.from_master();
        let (fence, raw): (Option<Bytes>, Option<Bytes>) = self.client.call(read).await?;
        let (Some(fence), Some(raw)) = (fence, raw) else {
            return Ok(None);
        };
        Ok(Some(Fenced {
            fence: read_fence(&fence)?,
            value: self.client.codec().decode(key.as_bytes(), raw)?,
        }))
    }

    async fn send(&self, key: &Key, fence: Fence, change: Change<'_>) -> Result<(), Error> {
        let call = WRITE.invoke([key]).arg(fence);
        // A change that arrives late must not undo a later one of the same holder, so it is not repeated.
        let call = match change {
            Change::Write(value) => call.arg("write").arg(value),
            Change::Announce => call.arg("announce").idempotent(true),
            Change::Delete(remember_for) => call.arg("delete").arg(millis(remember_for)),
        };
        let newer: Option<Bytes> = self.client.eval(call).await?;
        match newer {
            None => Ok(()),
            Some(newer) => Err(Error::Fenced {
                newer: read_fence(&newer)?,
            }),
        }
    }
}

fn read_fence(digits: &[u8]) -> Result<Fence, CoreError> {
    let number = std::str::from_utf8(digits)
        .ok()
        .and_then(|text| text.parse().ok());
    number.map(Fence::new).ok_or_else(|| CoreError::Reply {
        command: "EVALSHA".into(),
        error: ValueError {
            expected: "a fence",
            got: "something else",
        },
    })
}

impl fmt::Debug for FencedRegister {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FencedRegister")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}
