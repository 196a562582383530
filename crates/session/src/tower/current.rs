//! [`CurrentSession`]: the session of a request, as its handlers have it.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use redkit_core::Error as CoreError;
use secrecy::{ExposeSecret, SecretString};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::sync::{MappedMutexGuard, Mutex, MutexGuard, Notify};

use super::builder::OnOutage;
use super::transport::Presented;
use crate::error::Error;
use crate::id::SessionId;
use crate::session::Session;
use crate::sign_in::SignIn;
use crate::store::{SessionHandle, SessionInfo, SessionStore};
use crate::watch::SessionEnd;

/// The session of a request: anonymous, or a user's. Handlers of axum take it as an argument; others find it
/// among the request's extensions. Clones are the same session.
///
/// Its first call loads the session, and no other does. Changes of entries are sent when the service has
/// answered; sign-in, rotation and sign-out take effect at once, and the answer has the new id, or none.
///
/// Each call fails with [`Error::Core`] when Redis cannot be asked, and never acts as if there were no session.
#[derive(Clone)]
pub struct CurrentSession {
    shared: Arc<Shared>,
}

struct Shared {
    store: SessionStore,
    presented: Presented,
    on_outage: OnOutage,
    state: Mutex<State>,
    is_answered: AtomicBool,
    /// Wakes calls that make an id when the request is answered.
    answered: Notify,
    /// What was to make an id was given up, since the client would not get it.
    has_given_up: AtomicBool,
}

enum State {
    Untouched,
    Loaded(Box<Loaded>),
    Failed(Error),
}

struct Loaded {
    session: Session,
    /// The session whose id the client has.
    known: Option<SessionHandle>,
    /// Why it is anonymous though the client may have a session.
    outage: Option<Error>,
    was_signed_out: bool,
    /// What the client has presented is no id at all.
    is_unreadable: bool,
    /// Why the changes could not be sent before the answer was to be kept.
    failure: Option<Error>,
}

/// How a request's session stands when the service has answered.
pub(super) struct Finished {
    pub(super) was_used: bool,
    pub(super) for_client: ForClient,
    pub(super) failure: Option<Error>,
}

/// What the client is to learn about its id.
pub(super) enum ForClient {
    Nothing,
    /// A new id, and for how long to keep it, if longer than the browser runs.
    Id(SessionId, Option<Duration>),
    TakeBack,
}

impl CurrentSession {
    pub(super) fn new(store: &SessionStore, presented: Presented, on_outage: OnOutage) -> Self {
        Self {
            shared: Arc::new(Shared {
                store: store.clone(),
                presented,
                on_outage,
                state: Mutex::new(State::Untouched),
                is_answered: AtomicBool::new(false),
                answered: Notify::new(),
                has_given_up: AtomicBool::new(false),
            }),
        }
    }

    /// The user, when there is one.
    ///
    /// # Errors
    /// [`Error::Core`], when Redis cannot be asked.
    pub async fn user(&self) -> Result<Option<String>, Error> {
        Ok(self.loaded().await?.session.user().map(str::to_owned))
    }

    /// An entry; `None` without one.
    ///
    /// # Errors
    /// As [`Session::get`], and when Redis cannot be asked.
    pub async fn get<T: DeserializeOwned>(&self, name: &str) -> Result<Option<T>, Error> {
        self.loaded().await?.session.get(name)
    }

    /// Sets an entry. It is sent when the service has answered.
    ///
    /// # Errors
    /// As [`Session::insert`], and when Redis cannot be asked.
    pub async fn insert<T>(&self, name: &str, value: &T) -> Result<(), Error>
    where
        T: Serialize + Sync + ?Sized,
    {
        self.writable().await?.session.insert(name, value)
    }

    /// Sets an entry that expires on its own.
    ///
    /// # Errors
    /// As [`Session::insert_for`], and when Redis cannot be asked.
    pub async fn insert_for<T>(&self, name: &str, value: &T, ttl: Duration) -> Result<(), Error>
    where
        T: Serialize + Sync + ?Sized,
    {
        self.writable().await?.session.insert_for(name, value, ttl)
    }

    /// Removes an entry.
    ///
    /// # Errors
    /// [`Error::Core`], when Redis cannot be asked.
    pub async fn remove(&self, name: &str) -> Result<(), Error> {
        self.writable().await?.session.remove(name);
        Ok(())
    }

    /// Sends the changes now, for a handler that wants to know the outcome, or goes on after it has answered:
    /// see [`Session::commit`]. After an error the changes are dropped.
    ///
    /// # Errors
    /// As [`Session::commit`]; [`Error::Answered`] for a session that is new, once the request is answered.
    pub async fn commit(&self) -> Result<(), Error> {
        let mut loaded = self.writable().await?;
        let session = &mut loaded.session;
        let done = match session.is_stored() {
            true => session.commit().await,
            false => self.unless_answered(session.commit()).await,
        };
        if done.is_err() {
            // The handler knows: they are not sent once more behind its back.
            loaded.session.changes.clear();
        }
        done
    }

    /// Sends the changes now, if nobody has changed the session since it was loaded. After an error the changes
    /// are dropped.
    ///
    /// # Errors
    /// As [`Session::commit_if_unchanged`], and [`Error::Answered`] as in [`commit`](Self::commit).
    pub async fn commit_if_unchanged(&self) -> Result<(), Error> {
        let mut loaded = self.writable().await?;
        let session = &mut loaded.session;
        let done = match session.is_stored() {
            true => session.commit_if_unchanged().await,
            false => self.unless_answered(session.commit_if_unchanged()).await,
        };
        if done.is_err() {
            loaded.session.changes.clear();
        }
        done
    }

    /// Gives the session to a user, under a new id: see [`Session::sign_in`].
    ///
    /// # Errors
    /// As [`Session::sign_in`], and [`Error::Answered`].
    pub async fn sign_in(&self, sign_in: SignIn) -> Result<(), Error> {
        let mut loaded = self.writable().await?;
        self.unless_answered(loaded.session.sign_in(sign_in)).await
    }

    /// Gives the session a new id, as at a change of rights: see [`Session::rotate`].
    ///
    /// # Errors
    /// As [`Session::rotate`], and [`Error::Answered`].
    pub async fn rotate(&self) -> Result<(), Error> {
        let mut loaded = self.writable().await?;
        self.unless_answered(loaded.session.rotate()).await
    }

    /// Ends the session, and gives whether there was one. What is written afterwards is in a new, anonymous
    /// session.
    ///
    /// # Errors
    /// [`Error::Core`]: then the session may not have ended.
    pub async fn sign_out(&self) -> Result<bool, Error> {
        let mut loaded = self.writable().await?;
        let ended = loaded.session.delete().await?;
        loaded.session = self.shared.store.start()?;
        loaded.was_signed_out = true;
        Ok(ended)
    }

    /// The sessions of the user, the newest first, for "your devices"; none without a user. The own one has
    /// [`handle`](Self::handle).
    ///
    /// # Errors
    /// [`Error::Core`].
    pub async fn devices(&self) -> Result<Vec<SessionInfo>, Error> {
        match self.user().await? {
            Some(user) => self.shared.store.sessions_of(&user).await,
            None => Ok(Vec::new()),
        }
    }

    /// What names this session among its user's.
    ///
    /// # Errors
    /// [`Error::Core`], when Redis cannot be asked.
    pub async fn handle(&self) -> Result<SessionHandle, Error> {
        Ok(self.loaded().await?.session.handle())
    }

    /// Ends another session of the same user, and gives whether there was one.
    ///
    /// # Errors
    /// [`Error::NoUser`]; [`Error::Core`].
    pub async fn revoke(&self, device: &SessionHandle) -> Result<bool, Error> {
        let user = self.user().await?.ok_or(Error::NoUser)?;
        self.shared.store.revoke(&user, device).await
    }

    /// Ends all other sessions of the user: see [`Session::revoke_others`].
    ///
    /// # Errors
    /// As [`Session::revoke_others`].
    pub async fn revoke_others(&self) -> Result<(), Error> {
        self.loaded().await?.session.revoke_others().await
    }

    /// A future that waits for the end of the session, for server-sent events and WebSockets: see
    /// [`Session::revoked`].
    ///
    /// # Errors
    /// [`Error::Core`], when Redis cannot be asked.
    pub async fn revoked(
        &self,
    ) -> Result<impl Future<Output = SessionEnd> + Send + 'static + use<>, Error> {
        Ok(self.loaded().await?.session.revoked())
    }

    /// The token that unsafe requests send in `X-CSRF-Token`, where the layer
    /// [asks for it](super::SessionLayerBuilder::require_token). It belongs to the session's id: ask after a
    /// sign-in or a rotation. A session that is new is stored.
    ///
    /// # Errors
    /// [`Error::Core`]; [`Error::Answered`] for a session that is new, once the request is answered.
    pub async fn csrf_token(&self) -> Result<SecretString, Error> {
        let mut loaded = self.writable().await?;
        if !loaded.session.is_stored() {
            self.unless_answered(loaded.session.store()).await?;
        }
        let secrets = &self.shared.store.inner().names.secrets;
        Ok(secrets.csrf_token(loaded.session.id().bytes()).into())
    }

    /// A short hash of the id, for logs.
    ///
    /// # Errors
    /// [`Error::Core`], when Redis cannot be asked.
    pub async fn log_id(&self) -> Result<String, Error> {
        Ok(self.loaded().await?.session.log_id())
    }

    /// Sends the changes before an answer is kept for later requests, and tells whether it may be: not where they could
    /// not be sent, since the client is told so, not where the session could not be asked for, since the next request may
    /// find its user, and not where the client has gone away without its new id, or before it was made.
    pub(super) async fn may_be_kept(&self, keeps_changes: bool) -> bool {
        let mut state = self.shared.state.lock().await;
        let loaded = match &mut *state {
            State::Untouched => return true,
            State::Failed(_) => return false,
            State::Loaded(loaded) => loaded,
        };
        if loaded.outage.is_some() {
            return false;
        }
        let session = &mut loaded.session;
        if keeps_changes && loaded.failure.is_none() && session.has_changes() {
            let sent = match session.is_stored() {
                true => session.commit().await,
                false => self.unless_answered(session.commit()).await,
            };
            if let Err(error) = sent {
                // The answer tells of it: they are not sent once more.
                session.changes.clear();
                loaded.failure = Some(error);
            }
        }
        let is_new = session.is_stored() && loaded.known.as_ref() != Some(&session.handle());
        // The handler may have made an answer of its own of that.
        let has_given_up = self.shared.has_given_up.load(Ordering::Relaxed);
        loaded.failure.is_none() && !has_given_up && !(is_new && self.is_answered())
    }

    /// No id is made from here on.
    pub(super) fn end(&self) {
        self.shared.is_answered.store(true, Ordering::Release);
        self.shared.answered.notify_waiters();
    }

    /// Sends the changes and tells what the client is to learn.
    pub(super) async fn finish(&self, keeps_changes: bool) -> Finished {
        let mut state = self.shared.state.lock().await;
        self.end();
        let loaded = match &mut *state {
            State::Untouched => return Finished::new(false),
            State::Failed(error) => {
                // What cannot be read now cannot be read later: without its cookie the client can begin anew. Where
                // Redis was not asked, or has refused, the session is there all the same.
                let for_client = match is_unreadable(error) {
                    true => ForClient::TakeBack,
                    false => ForClient::Nothing,
                };
                return Finished {
                    failure: Some(error.clone()),
                    for_client,
                    ..Finished::new(true)
                };
            }
            State::Loaded(loaded) => loaded,
        };
        let mut finished = Finished::new(true);
        if loaded.outage.is_some() {
            return finished;
        }
        let session = &mut loaded.session;
        finished.failure = loaded.failure.take();
        if finished.failure.is_none()
            && keeps_changes
            && let Err(error) = session.commit().await
        {
            finished.failure = Some(error);
        }
        let is_known = || loaded.known.as_ref() == Some(&session.handle());
        // The cookie of a session that has ended otherwise stays: another request may have set it anew, and a
        // removal that came later would sign the user out.
        let is_void = loaded.was_signed_out || loaded.is_unreadable;
        finished.for_client = match session.is_stored() {
            true if is_known() => ForClient::Nothing,
            true => ForClient::Id(session.id().clone(), session.outlives_browser()),
            false if is_void && self.shared.presented.is_something() => ForClient::TakeBack,
            false => ForClient::Nothing,
        };
        finished
    }

    /// The session, loaded if it is not yet.
    async fn loaded(&self) -> Result<MappedMutexGuard<'_, Loaded>, Error> {
        let mut state = self.shared.state.lock().await;
        if matches!(*state, State::Untouched) {
            *state = match self.shared.load().await {
                Ok(loaded) => State::Loaded(Box::new(loaded)),
                Err(error) => State::Failed(error),
            };
        }
        let loaded = MutexGuard::try_map(state, |state| match state {
            State::Loaded(loaded) => Some(&mut **loaded),
            State::Untouched | State::Failed(_) => None,
        });
        loaded.map_err(|state| match &*state {
            State::Failed(error) => error.clone(),
            State::Untouched | State::Loaded(_) => Error::Gone,
        })
    }

    fn is_answered(&self) -> bool {
        self.shared.is_answered.load(Ordering::Acquire)
    }

    /// Makes an id, unless the request is answered before: then the client cannot be given another. A sign-in or a
    /// rotation that is dropped leaves it the id that it has.
    async fn unless_answered(
        &self,
        making: impl Future<Output = Result<(), Error>>,
    ) -> Result<(), Error> {
        let answered = async {
            // It is woken by an answer from here on, and asks for one before.
            let answered = self.shared.answered.notified();
            if !self.is_answered() {
                answered.await;
            }
        };
        tokio::select! {
            biased;
            () = answered => {
                self.shared.has_given_up.store(true, Ordering::Relaxed);
                Err(Error::Answered)
            }
            done = making => done,
        }
    }

    /// The session, if it can be changed.
    async fn writable(&self) -> Result<MappedMutexGuard<'_, Loaded>, Error> {
        let loaded = self.loaded().await?;
        match &loaded.outage {
            Some(error) => Err(error.clone()),
            None => Ok(loaded),
        }
    }
}

impl Shared {
    async fn load(&self) -> Result<Loaded, Error> {
        let anonymous = |outage| {
            Ok(Loaded {
                session: self.store.start()?,
                known: None,
                outage,
                was_signed_out: false,
                is_unreadable: self.presented.is_unreadable(),
                failure: None,
            })
        };
        let id = match &self.presented {
            Presented::Nothing => return anonymous(None),
            Presented::Unusable => {
                self.store.inner().metrics.malformed.add_one();
                return anonymous(None);
            }
            Presented::Id(id) => id.expose_secret(),
        };
        match self.store.load(id).await {
            Ok(Some(session)) => Ok(Loaded {
                known: Some(session.handle()),
                session,
                outage: None,
                was_signed_out: false,
                is_unreadable: false,
                failure: None,
            }),
            Ok(None) => anonymous(None),
            Err(error) if is_outage(&error) && self.on_outage == OnOutage::Anonymous => {
                tracing::debug!(target: "redkit::session", %error, "a request is anonymous since its session cannot be loaded");
                anonymous(Some(error))
            }
            Err(error) => Err(error),
        }
    }
}

/// Whether a session was read, and makes no sense.
fn is_unreadable(error: &Error) -> bool {
    matches!(
        error,
        Error::Core(CoreError::Decode { .. } | CoreError::Reply { .. })
    )
}

/// Whether nothing was read: no answer, or a refusal, such as of a client that is shut down, or of a user who has
/// lost a right.
fn is_outage(error: &Error) -> bool {
    matches!(error, Error::Core(error) if error.call_error().is_some())
}

impl Finished {
    fn new(was_used: bool) -> Self {
        Self {
            was_used,
            for_client: ForClient::Nothing,
            failure: None,
        }
    }
}

/// Without id and values: they are secrets.
impl fmt::Debug for CurrentSession {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CurrentSession").finish_non_exhaustive()
    }
}
