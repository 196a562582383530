//! [`SessionDirectory`]: the sessions of a store, for administrators.

use std::collections::HashSet;
use std::fmt;
use std::hash::{BuildHasher, RandomState};
use std::time::SystemTime;

use bytes::Bytes;
use redkit_core::{Client, Error as CoreError, Keyspace, Pattern, ScanStream};

use crate::builder::Lifetime;
use crate::error::Error;
use crate::id::{self, BucketTag};
use crate::keys::{SessionKeys, channel_of};
use crate::record::followed;
use crate::scripts::{self, Sight};
use crate::store::{SessionHandle, end, system_time};
use crate::user;

/// The sessions of a store as the key space has them, for administrators' tools: it needs none of the store's
/// secrets, and can load no session.
///
/// It goes through all keys of the servers ([`Client::scan`]). A program that has the secrets finds the sessions of
/// a user in one round trip: [`SessionStore::sessions_of`](crate::SessionStore::sessions_of).
///
/// Users' names are read by the client's codec. Where the store encrypts them, only a client with the same keys
/// reads them.
///
/// ```
/// use redkit_session::SessionDirectory;
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let backend = std::sync::Arc::new(redkit_embedded::Embedded::new());
/// # let client = redkit_core::Client::from_backend(backend, &Default::default())?;
/// let web = SessionDirectory::new(&client, "web")?;
/// println!("{} sessions", web.list(1_000).await?.len());
/// assert_eq!(web.revoke_all("user-7").await?, 0);
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct SessionDirectory {
    client: Client,
    name: Box<str>,
    keyspace: Keyspace,
    channel: Bytes,
}

/// A session in a [`SessionDirectory`].
#[derive(Clone)]
#[non_exhaustive]
pub struct ListedSession {
    /// The same as the user's own list has: see [`SessionInfo::handle`](crate::SessionInfo::handle).
    pub handle: SessionHandle,
    /// The user's name, or nothing before a sign-in. An error when the client's codec cannot read the name; that there
    /// is none needs no key.
    pub user: Result<Option<String>, CoreError>,
    /// What [`SignIn::device`](crate::SignIn::device) said, or nothing.
    pub device: String,
    /// When it was made, or the user signed in.
    pub created_at: SystemTime,
    /// When it was last used, as exact as
    /// [`touch_granularity`](crate::SessionStoreBuilder::touch_granularity).
    pub last_seen: SystemTime,
    /// When it ends if it is not used.
    pub expires_at: SystemTime,
    /// When it ends however much it is used.
    pub ends_at: SystemTime,
    /// Bytes of its entries, names included.
    pub bytes: u64,
    tag: BucketTag,
    user_hash: String,
    /// The random name of its data, which stays when the id changes.
    lineage: String,
    /// What a rotated session has of its successor; empty otherwise.
    successor: String,
}

/// The sessions of a [`SessionDirectory`], page by page, from [`SessionDirectory::pages`].
pub struct SessionPages {
    directory: SessionDirectory,
    keys: ScanStream,
    /// What stands for a session that was seen: a scan may show a key twice.
    seen: HashSet<u64>,
    hasher: RandomState,
    /// The sessions that are looked at next. A call that is dropped meanwhile leaves them to the one after it.
    page: Vec<SessionKeys>,
    is_over: bool,
}

/// How many sessions are looked at in one round trip.
const TOGETHER: usize = 100;

impl SessionDirectory {
    /// Of the store of this name. Nothing is sent.
    ///
    /// # Errors
    /// [`Error::Core`] for a name that cannot stand in a key.
    pub fn new(client: &Client, name: &str) -> Result<Self, Error> {
        let keyspace = client.keyspace("session", name)?;
        Ok(Self {
            client: client.clone(),
            name: name.into(),
            channel: channel_of(&keyspace),
            keyspace,
        })
    }

    /// All sessions in no order, a hundred at most at a time, for stores that have more of them than memory is to hold.
    /// (A number is kept of each that was seen, to show none of them twice.) An id in the grace of its rotation is none. A
    /// session that gets another id meanwhile may be shown under both, or under neither.
    pub fn pages(&self) -> SessionPages {
        let pattern = Pattern::starting(format!("session:{}:{{", self.name));
        let pattern = pattern.any().literal("}:session:").any();
        SessionPages {
            directory: self.clone(),
            keys: self.client.scan(pattern).keys(),
            seen: HashSet::new(),
            hasher: RandomState::new(),
            page: Vec::new(),
            is_over: false,
        }
    }

    /// Sessions, at most so many, in no order: as [`pages`](Self::pages), in one list.
    ///
    /// # Errors
    /// [`Error::Core`] when a server could not be asked.
    pub async fn list(&self, most: usize) -> Result<Vec<ListedSession>, Error> {
        let (mut pages, mut found) = (self.pages(), Vec::new());
        while found.len() < most {
            let Some(page) = pages.next().await else {
                break;
            };
            found.extend(page?);
        }
        found.truncate(most);
        Ok(found)
    }

    /// The sessions of a user. One that gets another id meanwhile is shown once, under either; where none is found, all
    /// keys are gone through once more, since it may have had neither id at its turn.
    ///
    /// # Errors
    /// [`Error::EmptyUser`]; [`Error::Core`] when a server could not be asked, or when the client's codec could read
    /// no user's name.
    pub async fn of_user(&self, user: &str) -> Result<Vec<ListedSession>, Error> {
        Ok(each_once(self.ids_of_user(user).await?))
    }

    /// All ids of a user's sessions, those in the grace of their rotation among them.
    async fn ids_of_user(&self, user: &str) -> Result<Vec<ListedSession>, Error> {
        if user.is_empty() {
            return Err(Error::EmptyUser);
        }
        let (mut unreadable, mut has_read) = (None, false);
        let mut is_theirs = |session: &ListedSession| match &session.user {
            Ok(Some(name)) => {
                has_read = true;
                name == user
            }
            Ok(None) => false,
            Err(error) => {
                unreadable.get_or_insert_with(|| error.clone());
                false
            }
        };
        let mut found = self.go_through(&mut is_theirs).await?;
        if !found.iter().any(is_one) {
            found.extend(self.go_through(&mut is_theirs).await?);
        }
        match unreadable {
            Some(error) if !has_read => Err(error.into()),
            _ => Ok(found),
        }
    }

    /// Ends a session. Gives whether it was there.
    ///
    /// # Errors
    /// [`Error::Core`] when the server could not be asked; it may then have been done.
    pub async fn revoke(&self, session: &ListedSession) -> Result<bool, Error> {
        let of_hash = |tag, hash: &str| self.keys(tag, hash);
        let keys = self.keys(session.tag, &session.handle.0);
        let user_hash = &session.user_hash;
        let lineage = &session.lineage;
        end(
            &self.client,
            &self.keyspace,
            of_hash,
            keys,
            user_hash,
            lineage,
        )
        .await
    }

    /// Ends all sessions of a user, those too that begin before it is done, and gives how many it saw.
    ///
    /// # Errors
    /// As [`of_user`](Self::of_user); some may then have ended.
    pub async fn revoke_all(&self, user: &str) -> Result<u64, Error> {
        let ids = self.ids_of_user(user).await?;
        // Also an id that another user's sign-in has replaced is one of theirs, for its grace.
        let users: HashSet<_> = ids
            .iter()
            .map(|session| (session.tag, session.user_hash.as_str()))
            .collect();
        for (tag, user_hash) in users {
            let (keys, name) = (self.keys(tag, ""), id::random_name()?);
            let kept = Lifetime::MAX;
            scripts::revoke_all(&self.client, &keys, user_hash, &name, kept, false).await?;
        }
        Ok(u64::try_from(each_once(ids).len()).unwrap_or(u64::MAX))
    }

    /// All sessions that are wanted, the rotated ones in their grace among them.
    async fn go_through(
        &self,
        mut is_wanted: impl FnMut(&ListedSession) -> bool,
    ) -> Result<Vec<ListedSession>, Error> {
        let (mut pages, mut found) = (self.pages(), Vec::new());
        while let Some(page) = pages.next_with_rotated().await {
            found.extend(page?.into_iter().filter(&mut is_wanted));
        }
        Ok(found)
    }

    /// Looks at sessions in one round trip, at rotated ones too.
    async fn look(&self, keys: &[SessionKeys]) -> Result<Vec<ListedSession>, Error> {
        let replies = self.client.eval_all(keys.iter().map(scripts::look)).await?;
        let mut found = Vec::new();
        for (keys, reply) in keys.iter().zip(replies) {
            let reply = reply.map_err(|error| CoreError::Call {
                command: "EVALSHA".into(),
                error,
            })?;
            if let Some(sight) = scripts::read_sight(reply)? {
                found.push(self.listed(keys, sight));
            }
        }
        Ok(found)
    }

    fn listed(&self, keys: &SessionKeys, sight: Sight) -> ListedSession {
        let bound_to = user::bound_to(&self.keyspace, &sight.lineage, keys.hash());
        let user = match user::decode(self.client.codec(), &bound_to, &sight.user) {
            // The store seals that there is no user, or this client's codec expects it to.
            Err(_) if sight.user_hash.is_empty() => Ok(None),
            user => user,
        };
        ListedSession {
            user,
            handle: SessionHandle(keys.hash().into()),
            device: sight.device,
            created_at: system_time(sight.created),
            last_seen: system_time(sight.seen),
            expires_at: system_time(sight.expires),
            ends_at: system_time(sight.absolute),
            bytes: sight.bytes,
            tag: keys.tag(),
            user_hash: sight.user_hash,
            lineage: sight.lineage,
            successor: sight.successor,
        }
    }

    fn keys(&self, tag: BucketTag, hash: &str) -> SessionKeys {
        SessionKeys::of_hash(&self.keyspace, &self.channel, tag, hash)
    }

    /// The keys of the session at a key.
    fn keys_at(&self, key: &[u8]) -> Option<SessionKeys> {
        let key = self.client.parse_key(key)?;
        if key.role != Some("session") {
            return None;
        }
        let tag = BucketTag::parse(std::str::from_utf8(&key.user_key).ok()?)?;
        Some(self.keys(tag, std::str::from_utf8(&key.tagged?).ok()?))
    }
}

impl SessionPages {
    /// The next page, which may be empty; `None` when there is no other, and after an error. A call that is dropped
    /// loses no session: the next one gives its page.
    ///
    /// # Errors
    /// [`Error::Core`] when a server could not be asked.
    pub async fn next(&mut self) -> Option<Result<Vec<ListedSession>, Error>> {
        let page = self.next_with_rotated().await?;
        let is_session = |session: &ListedSession| session.successor.is_empty();
        Some(page.map(|page| page.into_iter().filter(is_session).collect()))
    }

    /// As [`next`](Self::next), with the rotated sessions in their grace.
    async fn next_with_rotated(&mut self) -> Option<Result<Vec<ListedSession>, Error>> {
        while !self.is_over && self.page.len() < TOGETHER {
            match self.keys.next().await {
                Some(Ok(key)) => {
                    let keys = self.new_session_at(key);
                    self.page.extend(keys);
                }
                Some(Err(error)) => {
                    self.is_over = true;
                    self.page.clear();
                    return Some(Err(error.into()));
                }
                None => self.is_over = true,
            }
        }
        if self.page.is_empty() {
            return None;
        }
        let found = self.directory.look(&self.page).await;
        self.page.clear();
        self.is_over |= found.is_err();
        Some(found)
    }

    /// The keys of the session at a key, the first time that it is seen.
    fn new_session_at(&mut self, key: Bytes) -> Option<SessionKeys> {
        let key = self.directory.client.key(key);
        let keys = self.directory.keys_at(key.as_bytes())?;
        let seen = self.hasher.hash_one((keys.tag(), keys.hash()));
        self.seen.insert(seen).then_some(keys)
    }
}

/// Whether it is a session, and not an id in its grace that another user's sign-in has replaced.
fn is_one(session: &ListedSession) -> bool {
    session.successor.is_empty() || followed(&session.successor).is_some()
}

/// Each session once: under its new id, or under the old one where the new one was not seen.
fn each_once(found: Vec<ListedSession>) -> Vec<ListedSession> {
    let (rotated, mut sessions): (Vec<_>, Vec<_>) = found
        .into_iter()
        .partition(|session| !session.successor.is_empty());
    let mut shown: HashSet<_> = sessions
        .iter()
        .map(|session| session.lineage.clone())
        .collect();
    let is_missing = |session: &ListedSession| {
        followed(&session.successor).is_some() && shown.insert(session.lineage.clone())
    };
    sessions.extend(rotated.into_iter().filter(is_missing));
    sessions
}

impl fmt::Debug for SessionPages {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SessionPages")
            .field("directory", &self.directory)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for SessionDirectory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SessionDirectory")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

/// Without the user.
impl fmt::Debug for ListedSession {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ListedSession")
            .field("created_at", &self.created_at)
            .field("expires_at", &self.expires_at)
            .field("bytes", &self.bytes)
            .finish_non_exhaustive()
    }
}
