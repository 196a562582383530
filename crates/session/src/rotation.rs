//! Storing a new session, and giving a session a new id: at sign-in, at a change of rights.

use std::time::Duration;

use bytes::Bytes;
use redkit_core::{CallError, Key};

use crate::builder::{Lifetime, OnLimit};
use crate::entry::{Change, Entry};
use crate::error::Error;
use crate::id::{BucketTag, SessionId};
use crate::keys::SessionKeys;
use crate::scripts::{self, Created, Deadline, NewSession, Record, Retired};
use crate::session::{Session, Stored};

/// How often a step is tried again that others came between.
const TRIES: usize = 16;

/// A user's sign-in, for [`Session::sign_in`].
#[derive(Debug, Clone)]
#[must_use = "it does nothing until `Session::sign_in`"]
pub struct SignIn {
    user: String,
    device: String,
    lifetime: Option<Lifetime>,
}

impl SignIn {
    /// Of this user, by the name that never changes.
    pub fn new(user: impl Into<String>) -> Self {
        Self {
            user: user.into(),
            device: String::new(),
            lifetime: None,
        }
    }

    /// What the [list](crate::SessionStore::sessions_of) of sessions shows, such as "Firefox on Linux".
    /// Cut after 200 characters.
    pub fn device(mut self, device: &str) -> Self {
        self.device = device.chars().take(200).collect();
        self
    }

    /// Timeouts of their own for this session, such as for "remember me". Default: the store's.
    pub fn lifetime(mut self, lifetime: Lifetime) -> Self {
        self.lifetime = Some(lifetime);
        self
    }
}

/// What a session becomes.
struct Successor<'a> {
    /// Whether the user has one session more by it, of which there may be too many. One that takes
    /// another's place adds none.
    adds_session: bool,
    tag: Option<BucketTag>,
    user_hash: &'a str,
    user: Bytes,
    device: &'a str,
    idle: Duration,
    deadline: Deadline,
}

impl Session {
    /// Gives the session to a user, under a new id that nobody knew before. Do this at every sign-in and
    /// at every repeated authentication, and send the client the new [`id`](Self::id).
    ///
    /// All entries go with it, also the changes that were not committed. The new session is stored first;
    /// then the old one is left to [its grace](crate::SessionStoreBuilder::rotation_grace), in which it
    /// loads as what it was, for requests under way, and takes no changes. An attacker who planted the
    /// old id has a session without the user. Both timeouts begin anew.
    ///
    /// Two round trips, and one more when the oldest session of the user must end for it.
    ///
    /// # Errors
    /// [`Error::EmptyUser`]; [`Error::TooManySessions`] where the store refuses; [`Error::Gone`] and
    /// [`Error::Rotated`] when the session ended meanwhile; [`Error::TooLarge`]; [`Error::Core`]. After
    /// an error the old id is valid as before.
    pub async fn sign_in(&mut self, sign_in: SignIn) -> Result<(), Error> {
        let lifetime = sign_in
            .lifetime
            .unwrap_or(self.store.inner().settings.lifetime);
        lifetime.check()?;
        let (tag, user_hash) = self.store.user(&sign_in.user)?;
        let successor = Successor {
            adds_session: true,
            tag: Some(tag),
            user_hash: &user_hash,
            user: self.encode_user(&sign_in.user)?,
            device: &sign_in.device,
            idle: lifetime.idle,
            deadline: Deadline::After(lifetime.absolute),
        };
        self.replace(&successor).await
    }

    /// Gives the session a new id, as at a change of rights. User, device and absolute timeout stay. See
    /// [`sign_in`](Self::sign_in).
    ///
    /// # Errors
    /// As [`sign_in`](Self::sign_in).
    pub async fn rotate(&mut self) -> Result<(), Error> {
        let lifetime = self.store.inner().settings.lifetime;
        let Some(record) = self.record().cloned() else {
            return self.store().await;
        };
        let tag = (!record.user_hash.is_empty()).then(|| self.id.tag());
        let successor = Successor {
            adds_session: false,
            tag,
            user_hash: &record.user_hash,
            user: record.user.clone(),
            device: &record.device,
            idle: match record.idle.is_zero() {
                true => lifetime.idle,
                false => record.idle,
            },
            deadline: Deadline::At(record.absolute),
        };
        self.replace(&successor).await
    }

    /// Ends all other sessions of the user in one step, however many there are; this one goes on.
    ///
    /// # Errors
    /// [`Error::NoUser`]; [`Error::Gone`] and [`Error::Rotated`] when this session has ended: then no
    /// other was ended; [`Error::Core`].
    pub async fn revoke_others(&self) -> Result<(), Error> {
        let Some(record) = self.record().filter(|record| !record.user_hash.is_empty()) else {
            return Err(Error::NoUser);
        };
        scripts::revoke_all(
            &self.store.inner().client,
            &self.keys,
            &record.user_hash,
            &crate::id::random_name()?,
            Lifetime::MAX,
            true,
        )
        .await
    }

    /// Stores a session that is new.
    pub(crate) async fn store(&mut self) -> Result<(), Error> {
        let lifetime = self.store.inner().settings.lifetime;
        let successor = Successor {
            adds_session: false,
            tag: None,
            user_hash: "",
            user: Bytes::new(),
            device: "",
            idle: lifetime.idle,
            deadline: Deadline::After(lifetime.absolute),
        };
        let (id, keys) = (self.id.clone(), self.keys.clone());
        let entries = self.entries();
        match self.create(&successor, &keys, None, &entries).await? {
            Some(record) => self.become_stored(id, keys, record),
            // The id is taken, which nobody will ever see.
            None => self.replace(&successor).await,
        }
    }

    /// Stores the successor under a new id, and then leaves this session to its grace.
    async fn replace(&mut self, successor: &Successor<'_>) -> Result<(), Error> {
        if self.is_rotated() {
            return Err(Error::Rotated);
        }
        let old = self.keys.clone();
        for _ in 0..TRIES {
            let (id, keys) = self.new_id(successor.tag)?;
            let entries = self.entries();
            let replaced = self.record().map(|_| old.hash());
            let created = self.create(successor, &keys, replaced, &entries).await?;
            let Some(record) = created else { continue };
            let Some(revision) = self.revision() else {
                // There was none before.
                return self.become_stored(id, keys, record);
            };
            let inner = self.store.inner();
            let grace = inner.settings.grace;
            match scripts::retire(&inner.client, &old, revision, grace, keys.hash()).await {
                Ok(Retired::Done) => {
                    inner.metrics.rotated.increment(1);
                    return self.become_stored(id, keys, record);
                }
                Ok(Retired::Changed(newer)) => {
                    // Another request changed the old one: those changes are not to be lost.
                    self.discard(&keys).await;
                    self.stored = Some(Stored::new(*newer));
                }
                Ok(Retired::Over(over)) => {
                    self.discard(&keys).await;
                    return Err(over.into());
                }
                Err(Error::Core(error)) if may_be_retired(&error) => {
                    // The old id may be in its grace already: without the new one the user would be
                    // signed out.
                    inner.metrics.left.increment(1);
                    tracing::warn!(
                        session = self.log_id(),
                        %error,
                        "a session was rotated; its old id may stay valid, with its old rights, until its \
                         idle timeout"
                    );
                    return self.become_stored(id, keys, record);
                }
                Err(error) => {
                    self.discard(&keys).await;
                    return Err(error);
                }
            }
        }
        Err(Error::Rotated)
    }

    fn new_id(&self, tag: Option<BucketTag>) -> Result<(SessionId, SessionKeys), Error> {
        let names = &self.store.inner().names;
        let id = SessionId::generate(names.secrets.current(), tag)?;
        // The current pepper is always known.
        let keys = names.of_id(&id).ok_or(Error::NoRandomness)?;
        Ok((id, keys))
    }

    /// Stores a session with these entries; `None` when the id is taken.
    async fn create(
        &self,
        successor: &Successor<'_>,
        keys: &SessionKeys,
        replaces: Option<&str>,
        entries: &[(Box<str>, Option<Duration>, Bytes)],
    ) -> Result<Option<Record>, Error> {
        let inner = self.store.inner();
        let mut endable: Vec<(String, Key)> = Vec::new();
        for _ in 0..TRIES {
            let new = NewSession {
                keys,
                idle: successor.idle,
                deadline: successor.deadline,
                user_hash: successor.user_hash,
                user: &successor.user,
                device: successor.device,
                lineage: &self.lineage,
                max_sessions: match successor.adds_session {
                    true => inner.settings.max_sessions,
                    false => 0,
                },
                ends_oldest: inner.settings.on_limit == OnLimit::EndOldest,
                replaces,
                max_bytes: inner.settings.max_bytes,
                endable: &endable,
                entries,
            };
            match scripts::create(&inner.client, &new).await? {
                Created::Done(record) => return Ok(Some(record)),
                Created::Taken => return Ok(None),
                Created::TooLarge(bytes) => {
                    let limit = inner.settings.max_bytes;
                    return Err(Error::TooLarge { bytes, limit });
                }
                Created::TooMany(sessions) => return Err(Error::TooManySessions { sessions }),
                Created::MustEnd(hashes) => {
                    let tag = successor.tag.unwrap_or(self.id.tag());
                    endable = hashes
                        .into_iter()
                        .map(|hash| {
                            let key = inner.names.of_hash(tag, &hash).session().clone();
                            (hash, key)
                        })
                        .collect();
                }
            }
        }
        // Others sign in as the same user all the while.
        let sessions = u64::from(inner.settings.max_sessions);
        Err(Error::TooManySessions { sessions })
    }

    /// The entries as they are with the changes, for a session that is stored anew: what is left of
    /// their time is all that they get.
    fn entries(&self) -> Vec<(Box<str>, Option<Duration>, Bytes)> {
        let stored = self.stored.as_ref().map(|stored| {
            let now = stored.now();
            let left = move |entry: &Entry| match entry.expires {
                None => Some(None),
                Some(at) if at > now => Some(Some(Duration::from_micros(at - now))),
                Some(_) => None,
            };
            let entries = stored.record.entries.iter();
            entries
                .filter(|(name, _)| !self.changes.contains_key(*name))
                .filter_map(move |(name, entry)| {
                    Some((name.clone(), left(entry)?, entry.value.clone()))
                })
        });
        let changed = self
            .changes
            .iter()
            .filter_map(|(name, change)| match change {
                Change::Set { value, ttl } => Some((name.clone(), *ttl, value.clone())),
                Change::Remove => None,
            });
        stored.into_iter().flatten().chain(changed).collect()
    }

    fn become_stored(
        &mut self,
        id: SessionId,
        keys: SessionKeys,
        record: Record,
    ) -> Result<(), Error> {
        self.id = id;
        self.keys = keys;
        self.changes.clear();
        self.take(record)
    }

    /// Ends a session that nobody has the id of. What cannot be ended now ends by its idle timeout.
    async fn discard(&self, keys: &SessionKeys) {
        let ended = scripts::end(&self.store.inner().client, keys, "").await;
        if let Err(error) = ended {
            tracing::warn!(%error, "a session that nobody has the id of is left to its idle timeout");
        }
    }
}

/// Whether the server may have carried out what this error is about.
fn may_be_retired(error: &redkit_core::Error) -> bool {
    match error.call_error() {
        Some(CallError::NotSent(_) | CallError::Replied(_)) => false,
        Some(_) => true,
        None => true,
    }
}
