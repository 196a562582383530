//! [`Browsers`]: the clients, which keep the ids that they are sent.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use redkit_testkit::simulation::Process;
use redkit_testkit::simulation::history::{History, Outcome, Pending, Recorder};

/// The browsers of all users, and what their requests were told. Clones share both.
#[derive(Clone, Default)]
pub(super) struct Browsers {
    signed_in: Arc<Mutex<Vec<Browser>>>,
    requests: Recorder<Request, bool>,
    left: Arc<Mutex<Vec<Left>>>,
}

/// A browser that is signed in: one session, by one id after the other.
#[derive(Debug, Clone)]
pub(super) struct Browser {
    pub(super) user: &'static str,
    /// Its name in the list of the user's sessions.
    pub(super) device: String,
    /// All its ids, the newest last.
    pub(super) ids: Vec<String>,
    /// Entries that a commit has acknowledged.
    pub(super) entries: Vec<String>,
}

/// An id of a browser, as a request brings it.
#[derive(Debug, Clone)]
pub(super) struct Cookie {
    pub(super) session: u64,
    pub(super) number: u64,
    pub(super) id: String,
}

/// What a request asks of a session. The reply says whether the session was there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Request {
    SignIn {
        user: &'static str,
    },
    /// The sign-in of a session that has begun.
    SignedIn {
        session: u64,
    },
    Load {
        session: u64,
        id: u64,
    },
    Commit {
        session: u64,
        id: u64,
    },
    Rotate {
        session: u64,
        id: u64,
    },
    End {
        session: u64,
    },
    RevokeOthers {
        session: u64,
        id: u64,
    },
    RevokeAll {
        user: &'static str,
    },
    /// The list of the user's sessions has it.
    Listed {
        session: u64,
    },
}

/// What was found of a session when all had settled.
#[derive(Debug, Clone)]
pub(super) struct Left {
    pub(super) session: u64,
    pub(super) live: usize,
    /// An entry that was committed and is not there.
    pub(super) missing: Option<String>,
    pub(super) at: Duration,
}

impl Browsers {
    pub(super) fn begin(&self, process: &Process, request: Request) -> Pending<Request, bool> {
        self.requests.begin(process.id(), process.now(), request)
    }

    /// A browser has its first id; the request for it is noted as that of its session.
    pub(super) fn sign_in(
        &self,
        process: &Process,
        start: Duration,
        user: &'static str,
        device: String,
        id: String,
    ) {
        let mut signed_in = self.signed_in.lock();
        let session = number(signed_in.len());
        signed_in.push(Browser {
            user,
            device,
            ids: vec![id],
            entries: Vec::new(),
        });
        let request = Request::SignedIn { session };
        let noted = self.requests.begin(process.id(), start, request);
        noted.ended(process.now(), Outcome::Replied(true));
    }

    /// A list of a user's sessions had these devices.
    pub(super) fn listed(&self, process: &Process, start: Duration, devices: &[String]) {
        let listed = self.all().into_iter().enumerate();
        for (at, _) in listed.filter(|(_, browser)| devices.contains(&browser.device)) {
            let request = Request::Listed {
                session: number(at),
            };
            let noted = self.requests.begin(process.id(), start, request);
            noted.ended(process.now(), Outcome::Replied(true));
        }
    }

    /// The session got another id.
    pub(super) fn rotated(&self, session: u64, id: String) {
        self.change(session, |browser| browser.ids.push(id));
    }

    /// The session has an entry.
    pub(super) fn committed(&self, session: u64, entry: String) {
        self.change(session, |browser| browser.entries.push(entry));
    }

    /// The newest id of a browser, or one before it.
    pub(super) fn cookie(&self, session: usize, is_old: bool) -> Option<Cookie> {
        let signed_in = self.signed_in.lock();
        let ids = &signed_in.get(session)?.ids;
        let newest = ids.len().checked_sub(1)?;
        let at = if is_old {
            newest.saturating_sub(1)
        } else {
            newest
        };
        Some(Cookie {
            session: number(session),
            number: number(at),
            id: ids.get(at)?.clone(),
        })
    }

    /// The user whose browser brings an id.
    pub(super) fn user_of(&self, cookie: &Cookie) -> Option<&'static str> {
        let session = usize::try_from(cookie.session).ok()?;
        Some(self.signed_in.lock().get(session)?.user)
    }

    pub(super) fn all(&self) -> Vec<Browser> {
        self.signed_in.lock().clone()
    }

    pub(super) fn history(&self) -> History<Request, bool> {
        self.requests.history()
    }

    pub(super) fn note_left(&self, left: Left) {
        self.left.lock().push(left);
    }

    pub(super) fn left(&self) -> Vec<Left> {
        self.left.lock().clone()
    }

    fn change(&self, session: u64, change: impl FnOnce(&mut Browser)) {
        let mut signed_in = self.signed_in.lock();
        let browser = usize::try_from(session)
            .ok()
            .and_then(|at| signed_in.get_mut(at));
        if let Some(browser) = browser {
            change(browser);
        }
    }
}

pub(super) fn number(index: usize) -> u64 {
    u64::try_from(index).unwrap_or(u64::MAX)
}
