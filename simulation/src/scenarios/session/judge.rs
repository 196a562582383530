//! Judges what the requests of a run were told.

use std::time::Duration;

use redkit_testkit::simulation::Violation;
use redkit_testkit::simulation::checkers::Sessions;
use redkit_testkit::simulation::history::{Operation, Outcome, ProcessId};

use super::GRACE;
use super::browser::{Browser, Browsers, Left, Request, number};

/// # Errors
/// The first session that came back, was lost, or lost a change.
pub(super) fn judge(browsers: &Browsers, now: Duration) -> Result<(), Violation> {
    let all = browsers.all();
    let history = browsers.history();
    let operations = history.operations();
    let signed_in: Vec<(u64, Duration, Duration)> = operations
        .iter()
        .filter_map(|operation| match operation.call {
            Request::SignedIn { session } => {
                Some((session, operation.start, operation.end.unwrap_or(now)))
            }
            _ => None,
        })
        .collect();
    let mut sessions = Sessions::new(GRACE);
    for operation in operations {
        let judged = Judged {
            operation,
            end: operation.end.unwrap_or(now),
            browsers: &all,
            signed_in: &signed_in,
        };
        judged.tell(&mut sessions);
    }
    for Left {
        session, live, at, ..
    } in browsers.left()
    {
        sessions.left(AUDITOR, session, live, at);
    }
    sessions.check()?;
    lost_change(&browsers.left())
}

/// The process that looks at the end.
const AUDITOR: ProcessId = ProcessId(4);

/// In place of the number of an id.
const LISTED: u64 = u64::MAX;

fn lost_change(left: &[Left]) -> Result<(), Violation> {
    for Left {
        session,
        missing,
        at,
        ..
    } in left
    {
        if let Some(entry) = missing {
            let text = format!("session {session} has no entry {entry}, which was committed");
            return Err(Violation::new("no change is lost", *at).fact(*at, text));
        }
    }
    Ok(())
}

struct Judged<'a> {
    operation: &'a Operation<Request, bool>,
    end: Duration,
    browsers: &'a [Browser],
    /// Sessions, with when their sign-ins began and ended.
    signed_in: &'a [(u64, Duration, Duration)],
}

impl Judged<'_> {
    fn tell(&self, sessions: &mut Sessions) {
        let Operation {
            process,
            start,
            outcome,
            ..
        } = *self.operation;
        let (end, known) = (self.end, outcome.reply().copied());
        match self.operation.call {
            Request::SignIn { .. } | Request::SignedIn { .. } => {}
            Request::Load { session, id } | Request::Commit { session, id } => {
                if let Some(is_live) = known {
                    sessions.loaded(process, session, id, start, end, is_live);
                }
            }
            // A session that is listed is there, by whatever id.
            Request::Listed { session } => {
                sessions.loaded(process, session, LISTED, start, end, true);
            }
            Request::Rotate { session, id } => match outcome {
                Outcome::Replied(_) => {
                    sessions.loaded(process, session, id, start, end, true);
                    sessions.rotated(session, id, start);
                }
                // The process died, and its browser may never get the new id.
                Outcome::Maybe => {
                    sessions.rotated(session, id, start);
                    sessions.ended(process, session, start, end, Outcome::Maybe);
                }
                Outcome::NotSent => {}
            },
            Request::End { session } => {
                sessions.ended(process, session, start, end, outcome.map(|_| ()));
            }
            Request::RevokeAll { user } => self.end_all(sessions, user, None),
            Request::RevokeOthers { session, id } => {
                let browser = usize::try_from(session).ok();
                let browser = browser.and_then(|at| self.browsers.get(at));
                let Some(browser) = browser else { return };
                self.end_all(sessions, browser.user, Some(session));
                if outcome != Outcome::NotSent {
                    let others = (0..number(browser.ids.len())).filter(|other| *other != id);
                    others.for_each(|other| {
                        // An id of before, in its grace, is one of the others.
                        if other < id {
                            sessions.id_may_end(session, other, start);
                        }
                    });
                }
            }
        }
    }

    /// All sessions of a user end, but one; those for certain that were signed in before.
    fn end_all(&self, sessions: &mut Sessions, user: &str, spared: Option<u64>) {
        let Operation {
            process,
            start,
            outcome,
            ..
        } = *self.operation;
        for (session, begun, signed_in) in self.signed_in {
            let at = usize::try_from(*session).ok();
            let is_meant = at
                .and_then(|at| self.browsers.get(at))
                .is_some_and(|b| b.user == user);
            if !is_meant || Some(*session) == spared || *begun > self.end {
                continue;
            }
            let outcome = match *signed_in <= start {
                true => outcome.map(|_| ()),
                false if outcome == Outcome::NotSent => Outcome::NotSent,
                false => Outcome::Maybe,
            };
            sessions.ended(process, *session, start, self.end, outcome);
        }
    }
}
