//! Storing a new session, and giving a session a new id: at sign-in, at a change of rights.

use std::time::Duration;

use bytes::Bytes;
use redkit_core::CallError;
use redkit_core::coordination::Release;

use crate::builder::{Lifetime, OnLimit};
use crate::entry::{Change, Entry};
use crate::error::Error;
use crate::id::{BucketTag, SessionId};
use crate::indexes;
use crate::keys::SessionKeys;
use crate::record::{Over, Record, followed, successor_mark};
use crate::scripts::{self, Created, Deadline, NewSession, Retired};
use crate::session::{Session, Stored};
use crate::sign_in::SignIn;
use crate::unclaimed::Unclaimed;
use crate::user;

/// How often a step is tried again that others came between.
const TRIES: usize = 16;

/// What a session becomes.
struct Successor<'a> {
    /// Whether the user has one session more by it, of which there may be too many. One that takes
    /// another's place adds none.
    adds_session: bool,
    tag: Option<BucketTag>,
    user_hash: &'a str,
    user: Option<&'a str>,
    device: &'a str,
    idle: Duration,
    deadline: Deadline,
    /// See [`Record::indexes`].
    indexes: &'a str,
    /// A random name of the data, a new one where nothing of the data goes along.
    lineage: Box<str>,
}

/// A session that was stored.
struct New {
    record: Record,
    /// The hashes of the user's sessions that are to end for it.
    excess: Vec<String>,
}

impl Session {
    /// Gives the session to a user, under a new id that nobody knew before. Do this at every sign-in and
    /// at every repeated authentication, and send the client the new [`id`](Self::id).
    ///
    /// All entries go with it, also the changes that were not committed; none where another user was signed in
    /// before. The new session is stored first;
    /// then the old one is left to [its grace](crate::SessionStoreBuilder::rotation_grace), in which it
    /// loads as what it was, for requests under way, and takes no changes. An attacker who planted the
    /// old id has a session without the user. Both timeouts begin anew.
    ///
    /// Two round trips; one more for each session of the user that ends for it, two for each [index](SignIn::index), and
    /// one for each that the session had before.
    ///
    /// # Errors
    /// [`Error::EmptyUser`]; [`Error::TooManySessions`] where the store refuses; [`Error::Gone`] and
    /// [`Error::Rotated`] when the session ended meanwhile; [`Error::TooLarge`]; [`Error::Core`]. After
    /// an error the old id is valid as before; when the call is dropped, as soon as Redis can be told, if that is within
    /// the [grace](crate::SessionStoreBuilder::rotation_grace): later the old id has ended, and with a grace of 0 at once.
    /// A call that is dropped while it ends the sessions of the user that are too many leaves the rest of them, since the
    /// new session ends too; the next sign-in ends them.
    pub async fn sign_in(&mut self, sign_in: SignIn) -> Result<(), Error> {
        let settings = &self.store.inner().settings;
        let lifetime = sign_in.lifetime.unwrap_or(settings.lifetime);
        lifetime.check(settings.granularity)?;
        let (tag, user_hash) = self.store.user(&sign_in.user)?;
        let indexes = sign_in.index_hashes(&self.store.inner().names)?;
        let is_other = self
            .record()
            .is_some_and(|old| !old.user_hash.is_empty() && *old.user_hash != *user_hash);
        let lineage = match is_other {
            // One user's data and rights are not another's.
            true => crate::id::random_name()?.into(),
            false => self.lineage.clone(),
        };
        let successor = Successor {
            adds_session: true,
            tag: Some(tag),
            user_hash: &user_hash,
            user: Some(&sign_in.user),
            device: &sign_in.device,
            idle: lifetime.idle,
            deadline: Deadline::After(lifetime.absolute),
            indexes: &indexes,
            lineage,
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
        let user = self.user.clone();
        let successor = Successor {
            adds_session: false,
            tag,
            user_hash: &record.user_hash,
            user: user.as_deref(),
            device: &record.device,
            idle: match record.idle.is_zero() {
                true => lifetime.idle,
                false => record.idle,
            },
            deadline: Deadline::At(record.absolute),
            indexes: &record.indexes,
            lineage: self.lineage.clone(),
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
            user: None,
            device: "",
            idle: lifetime.idle,
            deadline: Deadline::After(lifetime.absolute),
            indexes: "",
            lineage: self.lineage.clone(),
        };
        let (id, keys) = (self.id.clone(), self.keys.clone());
        let entries = self.entries();
        // When no answer comes it may be stored. The caller tries again with this id, or nobody ever has it.
        match self.create(&successor, &keys, None, &entries).await? {
            Some(new) => self.have_stored(id, keys, new.record, &entries).await,
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
            let entries = match *successor.lineage == *self.lineage {
                true => self.entries(),
                false => Vec::new(),
            };
            let replaced = self.record().map(|_| old.hash());
            // A caller that gives up while it waits leaves no session whose id nobody has, and no place in an index.
            let (lineage, indexes) = (&*successor.lineage, successor.indexes);
            let mut unclaimed = Unclaimed::new(&self.store, &keys, lineage, indexes);
            let noted = indexes::add(&self.store, successor.indexes, &keys, successor.deadline);
            if let Err(error) = noted.await {
                unclaimed.forget().await;
                return Err(error);
            }
            let created = self.create(successor, &keys, replaced, &entries).await;
            let New { record, excess } = match created {
                Ok(Some(new)) => new,
                Ok(None) => {
                    // It is another's.
                    unclaimed.forget().await;
                    continue;
                }
                Err(Error::Core(error)) if may_be_done(&error) => {
                    return Err(unclaimed.discard_for(error.into()).await);
                }
                Err(error) => {
                    unclaimed.forget().await;
                    return Err(error);
                }
            };
            match self.confirm(successor, &old, &keys).await {
                Ok(true) => {}
                Ok(false) => return Err(unclaimed.discard_for(Error::Gone).await),
                Err(error) => return Err(unclaimed.discard_for(error).await),
            }
            if let Some(copy) = self.record() {
                let is_same_user =
                    !copy.user_hash.is_empty() && *copy.user_hash == *successor.user_hash;
                let mark = successor_mark(keys.hash(), is_same_user);
                unclaimed.takes_the_place_of(&old, &mark, copy.revision);
                let inner = self.store.inner();
                let grace = inner.settings.grace;
                let copied = (copy.revision, &*copy.generation);
                let call = scripts::retire_call(&old, Some(copied), grace, &mark);
                let retired = match scripts::retire(&inner.client, call).await {
                    Err(Error::Core(error)) if may_be_done(&error) => {
                        tracing::debug!(target: "redkit::session", session = self.log_id(), %error, "the last step of a rotation is repeated");
                        self.settle(&old, copied, &keys, &mark, &mut unclaimed)
                            .await
                    }
                    // A step that was repeated, or is late, may come after the old id's own end.
                    Ok(Retired::Over(Over::Absent | Over::PastDeadline)) if is_same_user => {
                        self.settle(&old, copied, &keys, &mark, &mut unclaimed)
                            .await
                    }
                    retired => retired.map(Some),
                };
                match retired {
                    Ok(Some(Retired::Done)) => {
                        inner.metrics.rotated.add_one();
                        // The old id is in its grace: its places in indexes run out with it.
                        let keyspace = &inner.names.keyspace;
                        let places = indexes::shorten_calls(keyspace, &copy.indexes, &old, grace);
                        if !places.is_empty() {
                            unclaimed.leave_for_later(Release::new(places));
                        }
                    }
                    // The old id may live on: its indexes are to find it.
                    Ok(None) => inner.metrics.rotated.add_one(),
                    Ok(Some(Retired::Changed(newer))) => {
                        // Another request changed the old one: its changes are not to be lost. A new one that has not
                        // ended would count as another session of the user.
                        unclaimed.discard().await?;
                        self.stored = Some(Stored::new(*newer));
                        continue;
                    }
                    Ok(Some(Retired::Over(over))) => {
                        return Err(unclaimed.discard_for(over.into()).await);
                    }
                    Err(error) => return Err(unclaimed.discard_for(error).await),
                }
            }
            self.end_excess(&keys, successor.user_hash, &excess, &mut unclaimed)
                .await;
            // Nothing is waited for between this and the caller's having the id.
            unclaimed.claimed();
            return self.become_stored(id, keys, record);
        }
        Err(Error::Rotated)
    }

    /// Whether no index of the session, as it was and as it is to be, was revoked meanwhile: a revocation that
    /// came before the new id was noted has marked the old one.
    async fn confirm(
        &self,
        successor: &Successor<'_>,
        old: &SessionKeys,
        new: &SessionKeys,
    ) -> Result<bool, Error> {
        let indexed = self.record().map_or("", |record| &record.indexes);
        Ok(indexes::confirm(&self.store, indexed, old).await?
            && indexes::confirm(&self.store, successor.indexes, new).await?)
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
    ) -> Result<Option<New>, Error> {
        let inner = self.store.inner();
        // By the current key of the codec.
        let bound_to = user::bound_to(&inner.names.keyspace, &successor.lineage, keys.hash());
        let user = user::encode(inner.client.codec(), &bound_to, successor.user)?;
        let new = NewSession {
            keys,
            idle: successor.idle,
            deadline: successor.deadline,
            user_hash: successor.user_hash,
            user: &user,
            device: successor.device,
            lineage: &successor.lineage,
            max_sessions: match successor.adds_session {
                true => inner.settings.max_sessions,
                false => 0,
            },
            ends_oldest: inner.settings.on_limit == OnLimit::EndOldest,
            replaces,
            taken: self
                .record()
                .filter(|old| !old.user_hash.is_empty() && *old.user_hash == *successor.user_hash)
                .map(|old| (&self.keys, &*old.generation)),
            // A session over a limit that was lowered goes on with what it has.
            max_bytes: inner.settings.max_bytes.max(self.stored_bytes()),
            indexes: successor.indexes,
            entries,
        };
        match scripts::create(&inner.client, &new).await? {
            Created::Done(record, excess) => Ok(Some(New {
                record: *record,
                excess,
            })),
            Created::Taken => Ok(None),
            Created::TooLarge(bytes) => {
                let limit = inner.settings.max_bytes;
                Err(Error::TooLarge { bytes, limit })
            }
            Created::TooMany(sessions) => Err(Error::TooManySessions { sessions }),
        }
    }

    /// Comes to know how a rotation has ended whose last step was not answered; where Redis still does not
    /// answer, leaves the step for the background, and gives `None`. Until then the old id may be valid as before, or be in
    /// its grace already: without the new one the user would be signed out.
    async fn settle(
        &self,
        old: &SessionKeys,
        copied: (u64, &str),
        new: &SessionKeys,
        mark: &str,
        unclaimed: &mut Unclaimed,
    ) -> Result<Option<Retired>, Error> {
        let inner = self.store.inner();
        let grace = inner.settings.grace;
        // Of another user's session nothing follows for this one: a sign-in is a beginning.
        let follows = followed(mark).is_some();
        // A call that arrives after the old id was given back is to find another revision than was copied. The call for
        // the background asks for no revision, and goes out only when the caller has the new id.
        let call = |copied| match follows {
            true => scripts::settle_call(old, new, copied, grace),
            false => scripts::retire_call(old, copied, grace, mark),
        };
        match scripts::retire(&inner.client, call(Some(copied))).await {
            // The caller ends the new one, where the script has not.
            Ok(Retired::Over(over)) if follows || over == Over::Rotated => {
                Ok(Some(Retired::Over(over)))
            }
            // The old one has ended, with its grace or otherwise, and takes no changes any more.
            Ok(Retired::Over(_)) => Ok(Some(Retired::Done)),
            Ok(retired) => Ok(Some(retired)),
            Err(error) => {
                tracing::warn!(target: "redkit::session", session = self.log_id(), %error, "a session was rotated; its old id is yet to end");
                let release = Release::new([call(None)]);
                unclaimed.leave_for_later(release.counted_by(inner.metrics.left.clone()));
                Ok(None)
            }
        }
    }

    /// Ends the sessions that the user has too many, once the new one has taken its place: a sign-in that is given up
    /// before ends none. One that is dropped in this step has ended those it came to, and gives none of them back; it
    /// leaves the others, since the new session is none either.
    async fn end_excess(
        &self,
        new: &SessionKeys,
        user_hash: &str,
        excess: &[String],
        unclaimed: &mut Unclaimed,
    ) {
        let inner = self.store.inner();
        for hash in excess {
            let keys = inner.names.of_hash(new.tag(), hash);
            if let Err(error) = inner.end_excess(keys.clone(), user_hash).await {
                tracing::warn!(target: "redkit::session", %error, "a session that its user has too many is yet to end");
                let call = scripts::end_call(&keys, user_hash, "");
                let release = Release::new([call]);
                unclaimed.leave_for_later(release.counted_by(inner.metrics.given_up.clone()));
            }
        }
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

    /// The bytes of the entries that are stored.
    fn stored_bytes(&self) -> u64 {
        let Some(stored) = &self.stored else {
            return 0;
        };
        let now = stored.now();
        let entries = stored.record.entries.iter();
        let live = entries.filter(|(_, entry)| entry.expires.is_none_or(|at| at > now));
        let bytes: usize = live
            .map(|(name, entry)| name.len() + entry.value.len())
            .sum();
        u64::try_from(bytes).unwrap_or(u64::MAX)
    }

    /// The session is stored with these entries, or was by an earlier call that was not answered: then with
    /// what there was at that time, and the rest is sent now.
    async fn have_stored(
        &mut self,
        id: SessionId,
        keys: SessionKeys,
        record: Record,
        entries: &[(Box<str>, Option<Duration>, Bytes)],
    ) -> Result<(), Error> {
        let is_stored = |(name, _, value): &(Box<str>, Option<Duration>, Bytes)| {
            let stored = record.entries.get(name);
            stored.is_some_and(|stored| stored.value == *value)
        };
        let is_meant = |name: &str| entries.iter().any(|(meant, ..)| **meant == *name);
        let stale: Vec<Box<str>> = record
            .entries
            .keys()
            .filter(|name| !is_meant(name))
            .cloned()
            .collect();
        if stale.is_empty() && entries.iter().all(is_stored) {
            return self.become_stored(id, keys, record);
        }
        let mut changes = std::mem::take(&mut self.changes);
        changes.extend(stale.into_iter().map(|name| (name, Change::Remove)));
        self.become_stored(id, keys, record)?;
        self.changes = changes;
        Box::pin(self.commit()).await
    }

    fn become_stored(
        &mut self,
        id: SessionId,
        keys: SessionKeys,
        record: Record,
    ) -> Result<(), Error> {
        self.id = id;
        self.keys = keys;
        self.lineage = record.lineage.clone();
        self.changes.clear();
        self.take(record)
    }
}

/// Whether the server may have carried out what this error is about.
fn may_be_done(error: &redkit_core::Error) -> bool {
    match error.call_error() {
        Some(CallError::NotSent(_) | CallError::Replied(_)) => false,
        Some(_) => true,
        None => true,
    }
}
