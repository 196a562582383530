//! A store for the crate [`tower-sessions`](https://docs.rs/tower-sessions) 0.15: for programs that use it
//! already, or frameworks that do.
//!
//! ```
//! # use redkit_core::{Client, ClientConfig};
//! # use redkit_embedded::Embedded;
//! use redkit_session::SessionSecrets;
//! use redkit_session::tower_sessions::TowerSessionStore;
//! use tower_sessions::{Expiry, SessionManagerLayer};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let client = Client::from_backend(std::sync::Arc::new(Embedded::new()), &ClientConfig::default())?;
//! let secrets = SessionSecrets::new(vec![1; 32], 1, vec![2; 32])?; // yours: random, and kept secret
//! let store = TowerSessionStore::new(&client, "web", secrets)?;
//! let layer = SessionManagerLayer::new(store).with_name("id");
//! # let _ = layer; Ok(()) }
//! ```
//!
//! # Its limits
//! They are those of the contract; a [`SessionStore`](crate::SessionStore) has none of them.
//! - Ids have 128 bits, and an id does not name its user. There are no lists of a user's sessions, no
//!   revocation of all of them, no limit of sessions, and nothing that ends a long-lived connection.
//! - Records are written whole: of two requests that change one session at once, the later one wins.
//! - There is one expiry, which the application's clock sets, and every save moves it. There is no absolute
//!   timeout.
//! - A rotation (`cycle_id`) deletes the old record first: requests under way lose the session.
//! - `save` of a record that is not there does **nothing**, and gives `Ok`, so that a request that was under
//!   way at a sign-out revives no session. So it cannot be the front of a `CachingSessionStore`, which fills its
//!   front with `save`.
//!
//! Redis has a keyed hash of an id only, and what the client's codec makes of a record's data (which must be a
//! codec that describes itself: JSON and MessagePack do, postcard does not).

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use redkit_core::{Client, Command, Error as CoreError, Key, Keyspace, Script, Tally};
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use tower_sessions_core::session::{Id, Record};
use tower_sessions_core::session_store::{Error, Result, SessionStore};

use crate::id;
use crate::secrets::SessionSecrets;

/// Several ids that are taken one after the other mean that something else is wrong.
const TRIES: usize = 8;

static CREATE: Script = Script::new(include_str!("scripts/record_create.lua"));
static DELETE: Script = Script::new(include_str!("scripts/record_delete.lua"));

/// A store for `tower-sessions`: see the [module](self) for an example and its limits. Clones are cheap and
/// share it.
///
/// **When Redis is down** every call fails with `Error::Backend`, and the layer of `tower-sessions` answers 500.
#[derive(Clone)]
pub struct TowerSessionStore {
    inner: Arc<Inner>,
}

/// A record without its id, which is a secret of the client's.
#[derive(Serialize, Deserialize)]
struct StoredRecord<D> {
    data: D,
    /// Seconds since 1970, and nanoseconds.
    expires: (i64, u32),
}

struct Inner {
    client: Client,
    keyspace: Keyspace,
    secrets: SessionSecrets,
    /// Saves of records that were not there.
    absent: Tally,
}

impl TowerSessionStore {
    /// A store of this name, which becomes part of its keys. Of the secrets it uses the key for bucket tags,
    /// which never changes.
    ///
    /// # Errors
    /// [`Error::Core`](crate::Error::Core) for a name that keys cannot have.
    pub fn new(
        client: &Client,
        name: &str,
        secrets: SessionSecrets,
    ) -> std::result::Result<Self, crate::Error> {
        let keyspace = client.keyspace("session", name)?;
        let absent =
            metrics::counter!("redkit_session_absent_saves_total", "store" => name.to_owned());
        Ok(Self {
            inner: Arc::new(Inner {
                client: client.clone(),
                keyspace,
                secrets,
                absent: Tally::new(absent),
            }),
        })
    }

    /// How many saves found no record: its session had ended, or expired, meanwhile.
    pub fn absent_saves(&self) -> u64 {
        self.inner.absent.get()
    }

    fn key(&self, id: &Id) -> Key {
        self.key_of(id, "record")
    }

    /// Where it is known for a while that a record was deleted.
    fn mark(&self, id: &Id) -> Key {
        self.key_of(id, "deleted")
    }

    fn key_of(&self, id: &Id, role: &'static str) -> Key {
        let hash = self.inner.secrets.hash_record(&id.0.to_be_bytes());
        self.inner.keyspace.role_key(id::text(&hash), role)
    }

    fn encode(&self, key: &Key, record: &Record) -> Result<bytes::Bytes> {
        let codec = self.inner.client.codec();
        let expiry = record.expiry_date;
        let stored = StoredRecord {
            data: &record.data,
            expires: (expiry.unix_timestamp(), expiry.nanosecond()),
        };
        let encoded = codec.encode(key.as_bytes(), &stored);
        encoded.map_err(|error| Error::Encode(error.to_string()))
    }

    fn command(&self, name: &'static str, id: &Id) -> Command {
        Command::new(name).key(self.key(id))
    }
}

#[async_trait]
impl SessionStore for TowerSessionStore {
    /// An id that is taken is replaced by another one.
    async fn create(&self, record: &mut Record) -> Result<()> {
        for _ in 0..TRIES {
            let key = self.key(&record.id);
            let call = CREATE
                .invoke([&key, &self.mark(&record.id)])
                .arg(&self.encode(&key, record)?[..])
                .arg(millis(record.expiry_date))
                // A repetition finds the same bytes.
                .idempotent(true);
            if self.inner.client.eval::<i64>(call).await.map_err(backend)? == 1 {
                return Ok(());
            }
            record.id = Id::default();
        }
        Err(Error::Backend("every id is taken".to_owned()))
    }

    async fn save(&self, record: &Record) -> Result<()> {
        let key = self.key(&record.id);
        let value = self.encode(&key, record)?;
        let call = Command::new("SET")
            .key(&key)
            .arg(&value[..])
            .arg("XX")
            .arg("PXAT")
            .arg(millis(record.expiry_date));
        let saved: Option<String> = self.inner.client.call(call).await.map_err(backend)?;
        if saved.is_none() {
            self.inner.absent.add_one();
        }
        Ok(())
    }

    async fn load(&self, session_id: &Id) -> Result<Option<Record>> {
        let call = self.command("GET", session_id);
        let stored: Option<bytes::Bytes> = self.inner.client.call(call).await.map_err(backend)?;
        let Some(stored) = stored else {
            return Ok(None);
        };
        let codec = self.inner.client.codec();
        let decoded = codec.decode(self.key(session_id).as_bytes(), stored);
        let StoredRecord { data, expires } = decoded.map_err(decode)?;
        let expiry_date = OffsetDateTime::from_unix_timestamp(expires.0)
            .and_then(|second| second.replace_nanosecond(expires.1))
            .map_err(decode)?;
        // The key may live a moment longer, by the server's clock.
        let is_over = expiry_date <= OffsetDateTime::now_utc();
        Ok((!is_over).then_some(Record {
            id: *session_id,
            data,
            expiry_date,
        }))
    }

    async fn delete(&self, session_id: &Id) -> Result<()> {
        let keys = [&self.key(session_id), &self.mark(session_id)];
        let call = DELETE.invoke(keys).idempotent(true);
        let _: i64 = self.inner.client.eval(call).await.map_err(backend)?;
        Ok(())
    }
}

/// Not before 1970, which servers refuse: what has expired by then has expired.
fn millis(at: OffsetDateTime) -> i64 {
    let millis = at.unix_timestamp_nanos() / 1_000_000;
    i64::try_from(millis).unwrap_or(i64::MAX).max(1)
}

fn decode(error: impl fmt::Display) -> Error {
    Error::Decode(error.to_string())
}

fn backend(error: CoreError) -> Error {
    Error::Backend(error.to_string())
}

/// Without its secrets.
impl fmt::Debug for TowerSessionStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TowerSessionStore")
            .field("client", &self.inner.client)
            .finish_non_exhaustive()
    }
}
