//! [`SessionStore`]: where sessions are loaded, listed and revoked.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use redkit_core::{Client, Keyspace};

use crate::builder::{Lifetime, OnLimit, SessionStoreBuilder};
use crate::error::Error;
use crate::id::{self, BucketTag, SessionId};
use crate::indexes;
use crate::keys::{Names, SessionKeys};
use crate::record::{Over, followed};
use crate::scripts::{self, Ended};
use crate::secrets::SessionSecrets;
use crate::session::Session;
use crate::stats::Metrics;

/// Sessions under one name, such as `web`. Clones are cheap and share it.
///
/// ```
/// use redkit_session::{SessionSecrets, SessionStore, SignIn};
/// use secrecy::ExposeSecret;
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let config = redkit_core::ClientConfig::from_url("embedded://")?;
/// # let backend = std::sync::Arc::new(redkit_embedded::Embedded::new());
/// # let client = redkit_core::Client::from_backend(backend, &config)?;
/// let secrets = SessionSecrets::new(vec![1; 32], 1, vec![2; 32])?; // yours: random, and kept secret
/// let sessions = SessionStore::builder(&client, "web", secrets).build()?;
///
/// let mut session = sessions.start()?;
/// session.insert("cart", &["teapot"])?;
/// session.commit().await?; // what was not written is not stored
///
/// session.sign_in(SignIn::new("user-7").device("Firefox on Linux")).await?; // with a new id
/// let cookie = session.id().expose();
///
/// let session = sessions.load(cookie.expose_secret()).await?.expect("it is there");
/// assert_eq!(session.user(), Some("user-7"));
/// assert_eq!(session.get::<Vec<String>>("cart")?, Some(vec!["teapot".to_owned()]));
///
/// sessions.revoke_all("user-7").await?;
/// assert!(sessions.load(cookie.expose_secret()).await?.is_none());
/// # Ok(()) }
/// ```
///
/// **When Redis is down** every call fails with [`Error::Core`], and a request must be answered with an
/// error: a store never gives "no session" for a session that it could not ask for.
#[derive(Clone)]
pub struct SessionStore {
    inner: Arc<Inner>,
}

pub(crate) struct Inner {
    pub(crate) client: Client,
    pub(crate) name: String,
    pub(crate) names: Names,
    pub(crate) settings: Settings,
    pub(crate) metrics: Metrics,
}

/// Checked settings.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Settings {
    pub(crate) lifetime: Lifetime,
    pub(crate) granularity: Duration,
    pub(crate) grace: Duration,
    /// 0 for any number.
    pub(crate) max_sessions: u32,
    pub(crate) on_limit: OnLimit,
    pub(crate) max_bytes: u64,
    pub(crate) revocation_bound: Duration,
}

impl SessionStore {
    /// Starts to build a store. `name` becomes part of its keys.
    pub fn builder(client: &Client, name: &str, secrets: SessionSecrets) -> SessionStoreBuilder {
        SessionStoreBuilder::new(client, name, secrets)
    }

    pub(crate) fn new(inner: Inner) -> Self {
        let inner = Arc::new(inner);
        let inspected = Arc::downgrade(&inner);
        inner.client.register(inspected);
        Self { inner }
    }

    /// The name.
    pub fn name(&self) -> &str {
        &self.inner.name
    }

    /// A new session without a user. Nothing is sent, and nothing is stored before the first
    /// [`commit`](Session::commit) of a change.
    ///
    /// # Errors
    /// [`Error::NoRandomness`].
    pub fn start(&self) -> Result<Session, Error> {
        Session::start(self)
    }

    /// A new session without a user that is stored at once.
    ///
    /// # Errors
    /// [`Error::Core`] and [`Error::NoRandomness`].
    pub async fn create(&self) -> Result<Session, Error> {
        let mut session = self.start()?;
        session.store().await?;
        Ok(session)
    }

    /// Loads a session by the text of its id, and notes that it is used. One round trip, on a cluster
    /// too. (One more, once, for a session whose entries an older key of the codec encrypts: they are
    /// encrypted anew.)
    ///
    /// `None` for a text that is no id, for an id that was never issued, and for a session that has
    /// ended; the metric `redkit_session_loads_total` tells them apart. Then begin a
    /// [new session](Self::start) with an id of its own: an id that a client made up never becomes a
    /// session.
    ///
    /// # Errors
    /// [`Error::Core`] when Redis cannot be asked.
    pub async fn load(&self, id: &str) -> Result<Option<Session>, Error> {
        let metrics = &self.inner.metrics;
        let id = SessionId::parse(id);
        let Some((id, keys)) = id.and_then(|id| {
            let keys = self.inner.names.of_id(&id)?;
            Some((id, keys))
        }) else {
            metrics.malformed.add_one();
            return Ok(None);
        };
        let granularity = self.inner.settings.granularity;
        let over = match scripts::load(&self.inner.client, &keys, granularity).await? {
            Ok(record) => {
                metrics.found.add_one();
                let mut session = Session::loaded(self, id, keys, record)?;
                session.reencode().await;
                return Ok(Some(session));
            }
            Err(over) => over,
        };
        match over {
            Over::PastDeadline => &metrics.past_deadline,
            Over::Revoked => &metrics.revoked,
            Over::Absent | Over::Rotated => &metrics.absent,
        }
        .add_one();
        tracing::debug!(
            target: "redkit::session",
            session = self.inner.names.log_id(&id),
            ?over,
            "no session for an id"
        );
        Ok(None)
    }

    /// The sessions of a user, the newest first: for "your devices". One round trip.
    ///
    /// # Errors
    /// [`Error::Core`], and [`Error::EmptyUser`].
    pub async fn sessions_of(&self, user: &str) -> Result<Vec<SessionInfo>, Error> {
        self.inner.sessions_of(user).await
    }

    /// Ends one session of a user, under its new id too where it was rotated within
    /// [the grace](SessionStoreBuilder::rotation_grace). Gives whether there was one: a handle of another
    /// user's session reaches none.
    ///
    /// # Errors
    /// [`Error::Core`], and [`Error::EmptyUser`].
    pub async fn revoke(&self, user: &str, session: &SessionHandle) -> Result<bool, Error> {
        self.inner.revoke(user, session).await
    }

    /// Ends all sessions of a user in one step, however many there are: no load that begins after it
    /// gives one of them.
    ///
    /// # Errors
    /// [`Error::Core`], and [`Error::EmptyUser`].
    pub async fn revoke_all(&self, user: &str) -> Result<(), Error> {
        self.inner.revoke_all(user).await
    }

    pub(crate) fn inner(&self) -> &Inner {
        &self.inner
    }

    pub(crate) fn user(&self, user: &str) -> Result<(BucketTag, String), Error> {
        self.inner.user(user)
    }
}

impl Inner {
    pub(crate) async fn sessions_of(&self, user: &str) -> Result<Vec<SessionInfo>, Error> {
        let (tag, user_hash) = self.user(user)?;
        let keys = self.names.of_hash(tag, "");
        let rows = scripts::list(&self.client, &keys, &user_hash).await?;
        let mut sessions: Vec<SessionInfo> = rows
            .into_iter()
            .map(|row| SessionInfo {
                handle: SessionHandle(row.hash.into()),
                created_at: system_time(row.created),
                last_seen: system_time(row.seen),
                expires_at: system_time(row.expires),
                ends_at: system_time(row.absolute),
                device: row.device,
            })
            .collect();
        sessions.sort_by_key(|session| std::cmp::Reverse(session.created_at));
        Ok(sessions)
    }

    pub(crate) async fn revoke(&self, user: &str, session: &SessionHandle) -> Result<bool, Error> {
        let (tag, user_hash) = self.user(user)?;
        let keys = self.names.of_hash(tag, &session.0);
        self.end(keys, &user_hash, "").await
    }

    pub(crate) async fn revoke_all(&self, user: &str) -> Result<(), Error> {
        let (tag, user_hash) = self.user(user)?;
        let keys = self.names.of_hash(tag, "");
        let name = id::random_name()?;
        let kept = Lifetime::MAX;
        scripts::revoke_all(&self.client, &keys, &user_hash, &name, kept, false).await
    }

    /// Ends a session, and gives whether there was one; with a user, only a session of that user. All its ids
    /// end that still load: what it has become by rotations, and what it was before. A rotation stores an id only
    /// while the one stands whose place it takes, so that none comes once there is no other.
    pub(crate) async fn end(
        &self,
        keys: SessionKeys,
        user_hash: &str,
        lineage: &str,
    ) -> Result<bool, Error> {
        let of_hash = |tag, hash: &str| self.names.of_hash(tag, hash);
        let keyspace = &self.names.keyspace;
        end(&self.client, keyspace, of_hash, keys, user_hash, lineage).await
    }

    /// Ends a session that its user has too many, and what it has become by a rotation. What it was before is
    /// left: the session for which it ends may be another successor of the same.
    pub(crate) async fn end_excess(&self, keys: SessionKeys, user_hash: &str) -> Result<(), Error> {
        let mut keys = keys;
        while let Ended::Done {
            successor, indexes, ..
        } = scripts::end(&self.client, &keys, user_hash, "").await?
        {
            indexes::forget(&self.client, &self.names.keyspace, &indexes, &keys).await;
            match followed(&successor) {
                Some(successor) => keys = self.names.of_hash(keys.tag(), successor),
                None => break,
            }
        }
        Ok(())
    }

    fn user(&self, user: &str) -> Result<(BucketTag, String), Error> {
        match user {
            "" => Err(Error::EmptyUser),
            user => Ok(self.names.of_user(user)),
        }
    }
}

/// See [`Inner::end`].
pub(crate) async fn end(
    client: &Client,
    keyspace: &Keyspace,
    of_hash: impl Fn(BucketTag, &str) -> SessionKeys,
    keys: SessionKeys,
    user_hash: &str,
    lineage: &str,
) -> Result<bool, Error> {
    let mut keys = keys;
    let mut has_ended = false;
    loop {
        let ended = scripts::end(client, &keys, user_hash, lineage).await?;
        if let Ended::Done { indexes, .. } = &ended {
            has_ended = true;
            indexes::forget(client, keyspace, indexes, &keys).await;
        }
        match ended.kin().first() {
            Some(next) => keys = of_hash(keys.tag(), next),
            None => return Ok(has_ended),
        }
    }
}

impl fmt::Debug for SessionStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SessionStore")
            .field("client", &self.inner.client)
            .field("settings", &self.inner.settings)
            .finish_non_exhaustive()
    }
}

/// Names a session to its user and to administrators. It opens nothing: no id can be made of it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct SessionHandle(pub(crate) Box<str>);

impl SessionHandle {
    /// From the text of a handle, as a form sends it back. Nothing is looked up; a text that is no handle
    /// reaches no session.
    pub fn from_text(text: &str) -> Self {
        Self(text.into())
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// A session in the list of a user's.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct SessionInfo {
    /// For [`SessionStore::revoke`]; the own session is the one whose
    /// [`handle`](Session::handle) is the same.
    pub handle: SessionHandle,
    /// When it was made, or the user signed in.
    pub created_at: SystemTime,
    /// When it was last used, as exact as
    /// [`touch_granularity`](SessionStoreBuilder::touch_granularity).
    pub last_seen: SystemTime,
    /// When it ends if it is not used.
    pub expires_at: SystemTime,
    /// When it ends however much it is used.
    pub ends_at: SystemTime,
    /// What [`SignIn::device`](crate::SignIn::device) said, or nothing.
    pub device: String,
}

pub(crate) fn system_time(micros: u64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_micros(micros)
}
