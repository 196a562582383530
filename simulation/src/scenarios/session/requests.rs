//! [`Requests`]: what a process does for the browsers that ask it.

use std::time::Duration;

use redkit_session::{Error, Session, SessionSecrets, SessionStore, SignIn};
use redkit_testkit::simulation::Process;
use redkit_testkit::simulation::history::Outcome;
use secrecy::ExposeSecret;
use tokio::time::sleep;

use super::GRACE;
use super::browser::{Browsers, Cookie, Left, Request, number};

const USERS: [&str; 2] = ["ann", "bob"];
/// More browsers do not sign in.
const MOST_BROWSERS: usize = 6;

/// A process that answers requests.
pub(super) struct Requests {
    process: Process,
    sessions: SessionStore,
    browsers: Browsers,
}

impl Requests {
    pub(super) fn new(process: Process, browsers: Browsers) -> Option<Self> {
        let secrets = SessionSecrets::new(vec![1; 32], 1, vec![2; 32]).ok()?;
        let sessions = SessionStore::builder(&process.client(), "web", secrets);
        let sessions = sessions.rotation_grace(GRACE).build().ok()?;
        Some(Self {
            process,
            sessions,
            browsers,
        })
    }

    pub(super) async fn answer(&self, operations: usize) {
        for _ in 0..operations {
            sleep(Duration::from_millis(self.process.random_range(0..=250))).await;
            let browsers = self.browsers.all().len();
            let wants_in = browsers < 2 || self.process.chance(0.12);
            if wants_in && browsers < MOST_BROWSERS {
                self.sign_in().await;
                continue;
            }
            if browsers == 0 {
                continue;
            }
            let browser = self.process.random_range(0..browsers);
            let is_old = self.process.chance(0.15);
            if let Some(cookie) = self.browsers.cookie(browser, is_old) {
                self.serve(&cookie).await;
            }
        }
    }

    /// What came of a request, by the mark that it reaches. An error of the server or the connection comes of faults alone;
    /// another may come of what other requests do at the same time.
    fn tells<T>(&self, mark: &'static str, result: &Result<T, Error>) {
        match result {
            Ok(_) => self.process.reached(mark),
            Err(Error::Core(error)) => self.process.fails(mark, error),
            Err(_) => {}
        }
    }

    async fn serve(&self, cookie: &Cookie) {
        let Some(session) = self.load(cookie).await else {
            return;
        };
        match self.process.random_range(0..100) {
            0..5 => self.list(self.browsers.user_of(cookie)).await,
            5..30 => {}
            30..60 => self.commit(session, cookie).await,
            60..82 => self.rotate(session, cookie).await,
            choice => {
                match choice {
                    ..88 => self.delete(session, cookie).await,
                    88..93 => self.revoke_others(&session, cookie).await,
                    93..97 => self.revoke(&session, cookie).await,
                    _ => self.revoke_all(&session).await,
                }
                // What has ended is not among the user's sessions, whatever is under way.
                self.list(self.browsers.user_of(cookie)).await;
            }
        }
    }

    async fn list(&self, user: Option<&'static str>) {
        let Some(user) = user else { return };
        // What the process was told before, in the same moment, is known to it.
        let start = self.process.now() + Duration::from_nanos(1);
        let listed = self.sessions.sessions_of(user).await;
        self.tells("listed", &listed);
        if let Ok(listed) = listed {
            let devices: Vec<String> = listed.into_iter().map(|info| info.device).collect();
            self.process.note(|| format!("lists {devices:?} of {user}"));
            self.browsers.listed(&self.process, start, &devices);
        }
    }

    async fn sign_in(&self) {
        let user = USERS[usize::from(self.process.chance(0.4))];
        let start = self.process.now();
        let pending = self.browsers.begin(&self.process, Request::SignIn { user });
        let Ok(mut session) = self.sessions.start() else {
            return;
        };
        let device = format!("{}-{}", self.process.name(), start.as_micros());
        let signed_in = session.sign_in(SignIn::new(user).device(&device)).await;
        let end = self.process.now();
        self.tells("signed in", &signed_in);
        match signed_in {
            Ok(()) => {
                pending.ended(end, Outcome::Replied(true));
                self.browsers
                    .sign_in(&self.process, start, user, device, exposed(&session));
            }
            Err(_) => pending.ended(end, Outcome::NotSent),
        }
    }

    async fn load(&self, cookie: &Cookie) -> Option<Session> {
        let Cookie {
            session,
            number: id,
            ..
        } = *cookie;
        let request = Request::Load { session, id };
        let pending = self.browsers.begin(&self.process, request);
        let loaded = self.sessions.load(&cookie.id).await;
        let now = self.process.now();
        self.tells(
            match &loaded {
                Ok(None) => "found none",
                _ => "loaded",
            },
            &loaded,
        );
        let Ok(loaded) = loaded else {
            pending.ended(now, Outcome::Maybe);
            return None;
        };
        let is_live = loaded.is_some();
        self.process
            .note(|| format!("loads session {session} by id {id}: {is_live}"));
        pending.ended(now, Outcome::Replied(is_live));
        loaded
    }

    async fn commit(&self, mut session: Session, cookie: &Cookie) {
        let Cookie {
            session: number,
            number: id,
            ..
        } = *cookie;
        let entry = format!("{}-{}", self.process.name(), self.process.now().as_micros());
        if session.insert(&entry, &true).is_err() {
            return;
        }
        let request = Request::Commit {
            session: number,
            id,
        };
        let pending = self.browsers.begin(&self.process, request);
        let committed = session.commit().await;
        let now = self.process.now();
        self.tells("committed", &committed);
        match committed {
            Ok(()) => {
                self.process
                    .note(|| format!("has changed session {number}"));
                pending.ended(now, Outcome::Replied(true));
                self.browsers.committed(number, entry);
            }
            Err(Error::Gone) => pending.ended(now, Outcome::Replied(false)),
            // Of a session that was rotated nothing is known by this, and of a fault neither.
            Err(_) => pending.ended(now, Outcome::NotSent),
        }
    }

    async fn rotate(&self, mut session: Session, cookie: &Cookie) {
        let Cookie {
            session: number,
            number: id,
            ..
        } = *cookie;
        let request = Request::Rotate {
            session: number,
            id,
        };
        let pending = self.browsers.begin(&self.process, request);
        let rotated = session.rotate().await;
        let now = self.process.now();
        self.tells("rotated", &rotated);
        match rotated {
            Ok(()) => {
                self.process
                    .note(|| format!("has rotated session {number}"));
                pending.ended(now, Outcome::Replied(true));
                self.browsers.rotated(number, exposed(&session));
            }
            // After an error the old id is valid as before.
            Err(_) => pending.ended(now, Outcome::NotSent),
        }
    }

    async fn delete(&self, mut session: Session, cookie: &Cookie) {
        let request = Request::End {
            session: cookie.session,
        };
        let pending = self.browsers.begin(&self.process, request);
        let deleted = session.delete().await;
        self.tells("deleted", &deleted);
        let number = cookie.session;
        self.process
            .note(|| format!("signs session {number} out: {}", deleted.is_ok()));
        // It takes several steps, of which the first may be done.
        let outcome = deleted.map_or(Outcome::Maybe, |_| Outcome::Replied(true));
        pending.ended(self.process.now(), outcome);
    }

    async fn revoke(&self, session: &Session, cookie: &Cookie) {
        let Some(user) = session.user() else { return };
        let request = Request::End {
            session: cookie.session,
        };
        let pending = self.browsers.begin(&self.process, request);
        let revoked = self.sessions.revoke(user, &session.handle()).await;
        self.tells("revoked", &revoked);
        let number = cookie.session;
        self.process
            .note(|| format!("revokes session {number}: {}", revoked.is_ok()));
        let outcome = match revoked {
            Ok(true) => Outcome::Replied(true),
            // The handle may be one of before a rotation, and its grace over.
            Ok(false) | Err(_) => Outcome::Maybe,
        };
        pending.ended(self.process.now(), outcome);
    }

    async fn revoke_others(&self, session: &Session, cookie: &Cookie) {
        let Cookie {
            session: number,
            number: id,
            ..
        } = *cookie;
        let request = Request::RevokeOthers {
            session: number,
            id,
        };
        let pending = self.browsers.begin(&self.process, request);
        let revoked = session.revoke_others().await;
        self.tells("revoked others", &revoked);
        self.process
            .note(|| format!("revokes all but session {number}: {}", revoked.is_ok()));
        pending.ended(self.process.now(), outcome(revoked));
    }

    async fn revoke_all(&self, session: &Session) {
        let Some(user) = USERS.into_iter().find(|user| session.user() == Some(user)) else {
            return;
        };
        let request = Request::RevokeAll { user };
        let pending = self.browsers.begin(&self.process, request);
        let revoked = self.sessions.revoke_all(user).await;
        self.tells("revoked all", &revoked);
        self.process
            .note(|| format!("revokes all of {user}: {}", revoked.is_ok()));
        pending.ended(self.process.now(), outcome(revoked));
    }
}

fn outcome(result: Result<(), Error>) -> Outcome<bool> {
    match result {
        Ok(()) => Outcome::Replied(true),
        Err(Error::Core(error)) if error.is_maybe() => Outcome::Maybe,
        Err(_) => Outcome::NotSent,
    }
}

fn exposed(session: &Session) -> String {
    session.id().expose().expose_secret().to_owned()
}

/// Looks at every session by all its ids, when all has settled.
pub(super) async fn audit(process: Process, browsers: Browsers) {
    let Some(requests) = Requests::new(process.clone(), browsers.clone()) else {
        return;
    };
    for user in USERS {
        requests.list(Some(user)).await;
    }
    for (session, browser) in browsers.all().iter().enumerate() {
        let session = number(session);
        let (mut live, mut missing) = (0, None);
        for (at, id) in browser.ids.iter().enumerate() {
            let cookie = Cookie {
                session,
                number: number(at),
                id: id.clone(),
            };
            if let Some(loaded) = requests.load(&cookie).await {
                live += 1;
                let mut entries = browser.entries.iter();
                missing = entries.find(|entry| !loaded.contains(entry)).cloned();
            }
        }
        let at = process.now();
        browsers.note_left(Left {
            session,
            live,
            missing,
            at,
        });
    }
}
