//! [`Session`]: a session as a request has it.

use std::collections::BTreeMap;
use std::fmt;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::time::Instant;

use crate::entry::Change;
use crate::error::Error;
use crate::id::{self, SessionId};
use crate::indexes;
use crate::keys::SessionKeys;
use crate::record::{Over, Record};
use crate::scripts::{self, Committed};
use crate::store::{SessionHandle, SessionStore, system_time};
use crate::user;

/// A session as it was loaded or begun, with the changes that were not committed yet.
///
/// Reading an entry costs nothing more: a load brings all of them. Changes are gathered and sent
/// by [`commit`](Self::commit), each entry for itself, so that requests that change different entries
/// at once keep each other's changes; of the same entry the last commit counts, unless
/// [`commit_if_unchanged`](Self::commit_if_unchanged) is used. Dropped without a commit, they are lost.
pub struct Session {
    pub(crate) store: SessionStore,
    pub(crate) id: SessionId,
    pub(crate) keys: SessionKeys,
    /// `None` until it is stored for the first time.
    pub(crate) stored: Option<Stored>,
    pub(crate) changes: BTreeMap<Box<str>, Change>,
    /// A random name of the data, which stays when the id changes.
    pub(crate) lineage: Box<str>,
    pub(crate) user: Option<String>,
}

/// What the server had when it was last asked.
pub(crate) struct Stored {
    pub(crate) record: Record,
    /// When the reply came, for entries with an expiry of their own.
    pub(crate) at: Instant,
}

impl Stored {
    pub(crate) fn new(record: Record) -> Self {
        Self {
            record,
            at: Instant::now(),
        }
    }

    /// The server's time by now (µs), as far as it can be told without asking.
    pub(crate) fn now(&self) -> u64 {
        let passed = u64::try_from(self.at.elapsed().as_micros()).unwrap_or(u64::MAX);
        self.record.now.saturating_add(passed)
    }
}

/// The longest name of an entry, in bytes.
const LONGEST_NAME: usize = 256;

impl Session {
    pub(crate) fn start(store: &SessionStore) -> Result<Self, Error> {
        let names = &store.inner().names;
        loop {
            let id = SessionId::generate(names.secrets.current(), None)?;
            // The current pepper is always known.
            if let Some(keys) = names.of_id(&id) {
                return Ok(Self {
                    store: store.clone(),
                    id,
                    keys,
                    stored: None,
                    changes: BTreeMap::new(),
                    lineage: id::random_name()?.into(),
                    user: None,
                });
            }
        }
    }

    pub(crate) fn loaded(
        store: &SessionStore,
        id: SessionId,
        keys: SessionKeys,
        record: Record,
    ) -> Result<Self, Error> {
        let mut session = Self {
            store: store.clone(),
            id,
            keys,
            stored: None,
            changes: BTreeMap::new(),
            lineage: record.lineage.clone(),
            user: None,
        };
        session.take(record)?;
        Ok(session)
    }

    /// The id, for the client. It changes with [`sign_in`](Self::sign_in) and
    /// [`rotate`](Self::rotate).
    pub fn id(&self) -> &SessionId {
        &self.id
    }

    /// A short hash of the id, for logs: it names the session, and nobody can make the id of it.
    pub fn log_id(&self) -> String {
        self.store.inner().names.log_id(&self.id)
    }

    /// What names this session in the [list](SessionStore::sessions_of) of its user's.
    pub fn handle(&self) -> SessionHandle {
        SessionHandle::from_text(self.keys.hash())
    }

    /// The user, when there is one.
    pub fn user(&self) -> Option<&str> {
        self.user.as_deref()
    }

    /// Whether Redis has it: not before the first commit.
    pub fn is_stored(&self) -> bool {
        self.stored.is_some()
    }

    /// Whether it is the old session of a rotation, in its grace: it can be read, and takes no changes.
    pub fn is_rotated(&self) -> bool {
        self.record().is_some_and(Record::is_rotated)
    }

    /// When it was made, or its user signed in; `None` before it is stored.
    pub fn created_at(&self) -> Option<SystemTime> {
        self.record().map(|record| system_time(record.created))
    }

    /// When a commit last changed it; `None` before it is stored.
    pub fn updated_at(&self) -> Option<SystemTime> {
        self.record().map(|record| system_time(record.updated))
    }

    /// When it ends however much it is used; `None` before it is stored.
    pub fn ends_at(&self) -> Option<SystemTime> {
        self.record().map(|record| system_time(record.absolute))
    }

    /// The number of its last change; `None` before it is stored.
    pub fn revision(&self) -> Option<u64> {
        self.record().map(|record| record.revision)
    }

    /// An entry; `None` without one, and for one whose own time has passed. Nothing is sent.
    ///
    /// # Errors
    /// [`Error::Core`] when the stored value is not a `T`, or was not encrypted with a known key.
    pub fn get<T: DeserializeOwned>(&self, name: &str) -> Result<Option<T>, Error> {
        let value = match self.changes.get(name) {
            Some(Change::Set { value, .. }) => value,
            Some(Change::Remove) => return Ok(None),
            None => match self.stored_value(name) {
                Some(value) => value,
                None => return Ok(None),
            },
        };
        let bound_to = self.bound_to(name);
        let codec = self.store.inner().client.codec();
        Ok(Some(codec.decode(&bound_to, value.clone())?))
    }

    /// Whether there is an entry.
    pub fn contains(&self, name: &str) -> bool {
        match self.changes.get(name) {
            Some(change) => matches!(change, Change::Set { .. }),
            None => self.stored_value(name).is_some(),
        }
    }

    /// Sets an entry, for as long as the session lives. It is sent with the next commit.
    ///
    /// # Errors
    /// [`Error::Core`] when the value cannot be encoded; [`Error::Name`] for an empty name or one above
    /// 256 bytes.
    pub fn insert<T: Serialize + ?Sized>(&mut self, name: &str, value: &T) -> Result<(), Error> {
        self.set(name, value, None)
    }

    /// Sets an entry that expires on its own, such as a right that was given for five minutes. The time
    /// counts from the commit, by the server's clock.
    ///
    /// # Errors
    /// As [`insert`](Self::insert).
    pub fn insert_for<T: Serialize + ?Sized>(
        &mut self,
        name: &str,
        value: &T,
        ttl: Duration,
    ) -> Result<(), Error> {
        self.set(name, value, Some(ttl))
    }

    /// Removes an entry, with the next commit.
    pub fn remove(&mut self, name: &str) {
        if self.stored.is_some() {
            self.changes.insert(name.into(), Change::Remove);
        } else {
            self.changes.remove(name);
        }
    }

    /// Whether there are changes that were not committed.
    pub fn has_changes(&self) -> bool {
        !self.changes.is_empty()
    }

    /// Sends the changes in one round trip: those entries, and no others. Without changes nothing is
    /// sent. A session that is new is stored with it.
    ///
    /// # Errors
    /// [`Error::Gone`] when the session has ended meanwhile: a commit never brings one back.
    /// [`Error::Rotated`], [`Error::TooLarge`]; [`Error::Core`], after which the changes are still
    /// there: when its [`is_maybe`](redkit_core::Error::is_maybe) holds, they may have been made.
    pub async fn commit(&mut self) -> Result<(), Error> {
        self.commit_at(None).await
    }

    /// Like [`commit`](Self::commit), if nobody changed the session since it was loaded.
    ///
    /// # Errors
    /// As [`commit`](Self::commit), and [`Error::Conflict`].
    pub async fn commit_if_unchanged(&mut self) -> Result<(), Error> {
        self.commit_at(self.revision()).await
    }

    /// Ends the session, as a sign-out does. Gives whether there still was one. Changes that were not
    /// committed are lost; a commit afterwards gives [`Error::Gone`]. Of a user's session all ids end that it had
    /// or has by rotations and that still load, also where this one has ended before; a rotation that is under way
    /// ends with [`Error::Gone`]. One round trip, and one more for each of them.
    ///
    /// # Errors
    /// [`Error::Core`].
    pub async fn delete(&mut self) -> Result<bool, Error> {
        self.changes.clear();
        if self.stored.is_none() {
            return Ok(false);
        }
        let user_hash = self.record().map_or("", |record| &record.user_hash);
        let inner = self.store.inner();
        let ended = inner
            .end(self.keys.clone(), user_hash, &self.lineage)
            .await?;
        // Where it had ended before, such as by its idle timeout, only this handle knows of its indexes.
        if let Some(record) = self.record() {
            let keyspace = &inner.names.keyspace;
            indexes::forget(&inner.client, keyspace, &record.indexes, &self.keys).await;
        }
        Ok(ended)
    }

    /// Moves the idle timeout further away, once, and never beyond the absolute timeout. Gives how long
    /// the session now lives without being used.
    ///
    /// # Errors
    /// [`Error::Gone`], [`Error::Rotated`], [`Error::Core`].
    pub async fn extend(&mut self, by: Duration) -> Result<Duration, Error> {
        if self.stored.is_none() {
            return Err(Error::Gone);
        }
        let (now, expires) = scripts::extend(&self.store.inner().client, &self.keys, by).await?;
        Ok(Duration::from_micros(expires.saturating_sub(now)))
    }

    /// How long the session lives if it is not used. Asks Redis, and does not use the session.
    ///
    /// # Errors
    /// [`Error::Gone`], [`Error::Core`].
    pub async fn ttl(&self) -> Result<Duration, Error> {
        if self.stored.is_none() {
            return Err(Error::Gone);
        }
        // No gain is larger than that.
        let untouched = Duration::MAX;
        let loaded = scripts::load(&self.store.inner().client, &self.keys, untouched).await?;
        let record = loaded?;
        Ok(Duration::from_micros(
            record.expires.saturating_sub(record.now),
        ))
    }

    /// For how long a cookie is kept beyond the browser's session: of a session that lives longer unused
    /// than the store's do, such as that of a remembered device.
    #[cfg(feature = "tower")]
    pub(crate) fn outlives_browser(&self) -> Option<Duration> {
        let stored = self.stored.as_ref()?;
        let left = stored.record.absolute.saturating_sub(stored.now());
        let is_remembered = stored.record.idle > self.store.inner().settings.lifetime.idle;
        is_remembered.then(|| Duration::from_micros(left))
    }

    pub(crate) fn record(&self) -> Option<&Record> {
        self.stored.as_ref().map(|stored| &stored.record)
    }

    /// Takes over what the server has. Changes that were not committed stay.
    pub(crate) fn take(&mut self, record: Record) -> Result<(), Error> {
        let codec = self.store.inner().client.codec();
        self.user = user::decode(codec, &self.user_is_bound_to(), &record.user)?;
        self.stored = Some(Stored::new(record));
        Ok(())
    }

    /// The name that an encrypted value opens under, in this session and after its rotations.
    pub(crate) fn bound_to(&self, name: &str) -> Bytes {
        let keyspace = &self.store.inner().names.keyspace;
        keyspace
            .tagged_key(&*self.lineage, "entry", name)
            .to_bytes()
    }

    /// The name that the encrypted user opens under: in this session, and under this id only.
    pub(crate) fn user_is_bound_to(&self) -> Bytes {
        let keyspace = &self.store.inner().names.keyspace;
        user::bound_to(keyspace, &self.lineage, self.keys.hash())
    }

    fn stored_value(&self, name: &str) -> Option<&Bytes> {
        let stored = self.stored.as_ref()?;
        let entry = stored.record.entries.get(name)?;
        let is_over = entry.expires.is_some_and(|at| at <= stored.now());
        (!is_over).then_some(&entry.value)
    }

    fn set<T: Serialize + ?Sized>(
        &mut self,
        name: &str,
        value: &T,
        ttl: Option<Duration>,
    ) -> Result<(), Error> {
        if name.is_empty() || name.len() > LONGEST_NAME {
            return Err(Error::Name(name.len()));
        }
        let codec = self.store.inner().client.codec();
        let value = codec.encode(&self.bound_to(name), value)?;
        self.changes.insert(name.into(), Change::Set { value, ttl });
        Ok(())
    }

    async fn commit_at(&mut self, expected: Option<u64>) -> Result<(), Error> {
        if self.changes.is_empty() {
            return Ok(());
        }
        if self.stored.is_none() {
            return self.store().await;
        }
        let inner = self.store.inner();
        let changes: Vec<(Box<str>, Change)> = self
            .changes
            .iter()
            .map(|(name, change)| (name.clone(), change.clone()))
            .collect();
        let limit = inner.settings.max_bytes;
        let outcome = scripts::commit(&inner.client, &self.keys, expected, limit, &changes).await?;
        match outcome {
            Committed::Done { now, revision } => {
                inner.metrics.committed.add_one();
                self.changes.clear();
                if let Some(stored) = &mut self.stored {
                    stored.committed(now, revision, changes);
                }
                Ok(())
            }
            Committed::Conflict(revision) => Err(Error::Conflict { revision }),
            Committed::TooLarge(bytes) => Err(Error::TooLarge { bytes, limit }),
            Committed::Over(over) => {
                if over != Over::Rotated {
                    inner.metrics.gone.add_one();
                }
                Err(over.into())
            }
        }
    }
}

impl Stored {
    /// Makes the changes that the server made.
    fn committed(&mut self, now: u64, revision: u64, changes: Vec<(Box<str>, Change)>) {
        self.record.now = now;
        self.at = Instant::now();
        self.record.updated = now;
        self.record.revision = revision;
        for (name, change) in changes {
            match change {
                Change::Remove => {
                    self.record.entries.remove(&name);
                }
                Change::Set { value, ttl } => {
                    let expires = ttl.map(|ttl| {
                        now.saturating_add(u64::try_from(ttl.as_micros()).unwrap_or(u64::MAX))
                    });
                    let entry = crate::entry::Entry { value, expires };
                    self.record.entries.insert(name, entry);
                }
            }
        }
    }
}

/// Without id and values: they are secrets.
impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session")
            .field("log_id", &self.log_id())
            .field("is_stored", &self.is_stored())
            .field("has_user", &self.user.is_some())
            .finish_non_exhaustive()
    }
}
