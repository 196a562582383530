//! [`SessionDirectory`]: the sessions of a store, for administrators.

use std::collections::HashSet;
use std::fmt;
use std::time::SystemTime;

use bytes::Bytes;
use redkit_core::{Client, Error as CoreError, Keyspace, Pattern};

use crate::builder::Lifetime;
use crate::error::Error;
use crate::id::{self, BucketTag};
use crate::keys::{SessionKeys, channel_of};
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

    /// Sessions, at most so many, in no order. An id in the grace of its rotation is none.
    ///
    /// # Errors
    /// [`Error::Core`] when a server could not be asked.
    pub async fn list(&self, most: usize) -> Result<Vec<ListedSession>, Error> {
        self.find(most, |_| true).await
    }

    /// The sessions of a user.
    ///
    /// # Errors
    /// [`Error::EmptyUser`]; [`Error::Core`] when a server could not be asked, or when the client's codec could read
    /// no user's name.
    pub async fn of_user(&self, user: &str) -> Result<Vec<ListedSession>, Error> {
        if user.is_empty() {
            return Err(Error::EmptyUser);
        }
        let (mut unreadable, mut has_read) = (None, false);
        let is_theirs = |session: &ListedSession| match &session.user {
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
        let found = self.find(usize::MAX, is_theirs).await?;
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
        end(&self.client, &self.keyspace, of_hash, keys, user_hash, "").await
    }

    /// Ends all sessions of a user, those too that begin before it is done, and gives how many it saw.
    ///
    /// # Errors
    /// As [`of_user`](Self::of_user); some may then have ended.
    pub async fn revoke_all(&self, user: &str) -> Result<u64, Error> {
        let sessions = self.of_user(user).await?;
        let users: HashSet<_> = sessions
            .iter()
            .map(|session| (session.tag, session.user_hash.as_str()))
            .collect();
        for (tag, user_hash) in users {
            let (keys, name) = (self.keys(tag, ""), id::random_name()?);
            let kept = Lifetime::MAX;
            scripts::revoke_all(&self.client, &keys, user_hash, &name, kept, false).await?;
        }
        Ok(u64::try_from(sessions.len()).unwrap_or(u64::MAX))
    }

    async fn find(
        &self,
        most: usize,
        mut wanted: impl FnMut(&ListedSession) -> bool,
    ) -> Result<Vec<ListedSession>, Error> {
        let pattern = Pattern::starting(format!("session:{}:{{", self.name));
        let mut keys = self
            .client
            .scan(pattern.any().literal("}:session:").any())
            .keys();
        let (mut seen, mut page, mut found) = (HashSet::new(), Vec::new(), Vec::new());
        while found.len() < most {
            let Some(key) = keys.next().await else {
                break;
            };
            let key = self.client.key(key?);
            let Some(keys) = self.keys_at(key.as_bytes()) else {
                continue;
            };
            if seen.insert(Box::<str>::from(keys.hash())) {
                page.push(keys);
            }
            if page.len() >= TOGETHER {
                found.extend(self.look(&mut page).await?.into_iter().filter(&mut wanted));
            }
        }
        if found.len() < most {
            found.extend(self.look(&mut page).await?.into_iter().filter(&mut wanted));
        }
        found.truncate(most);
        Ok(found)
    }

    /// Looks at sessions in one round trip.
    async fn look(&self, page: &mut Vec<SessionKeys>) -> Result<Vec<ListedSession>, Error> {
        let keys = std::mem::take(page);
        let replies = self.client.eval_all(keys.iter().map(scripts::look)).await?;
        let mut found = Vec::new();
        for (keys, reply) in keys.iter().zip(replies) {
            let reply = reply.map_err(|error| CoreError::Call {
                command: "EVALSHA".into(),
                error,
            })?;
            if let Some(sight) = scripts::read_sight(reply)?
                && sight.successor.is_empty()
            {
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
