//! [`Sessions`]: a session that has ended never comes back, and none ends by itself.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::simulation::history::{Outcome, ProcessId};
use crate::simulation::violation::{Violation, earlier};

/// Checks what loads of sessions gave. A session is one sign-in; it has several ids, one after the other, when
/// it is rotated.
///
/// - After an end that was acknowledged no load gives the session, under whatever id.
/// - An id that a load did not give any more is never given again.
/// - A load does not give an id only when an end of the session was called before, or the id was rotated away
///   more than its grace before.
/// - What is left when all has settled: exactly one live id of a session that nobody ended.
///
/// ```
/// use std::time::Duration;
/// use redkit_testkit::simulation::checkers::Sessions;
/// use redkit_testkit::simulation::history::{Outcome, ProcessId};
///
/// let second = Duration::from_secs;
/// let (phone, id) = (1, 1);
/// let mut sessions = Sessions::new(second(10));
/// sessions.loaded(ProcessId(1), phone, id, second(1), second(1), true);
/// sessions.ended(ProcessId(2), phone, second(2), second(3), Outcome::Replied(()));
/// sessions.loaded(ProcessId(1), phone, id, second(2), second(3), true); // at the same time
/// assert!(sessions.check().is_ok());
/// sessions.loaded(ProcessId(1), phone, id, second(4), second(4), true);
/// assert!(sessions.check().is_err());
/// ```
#[derive(Debug, Clone)]
pub struct Sessions {
    grace: Duration,
    sessions: BTreeMap<u64, OfSession>,
}

#[derive(Debug, Clone, Default)]
struct OfSession {
    loads: Vec<Load>,
    ends: Vec<End>,
    /// From when on an id need not be given any more, though the session goes on.
    over: BTreeMap<u64, Duration>,
    left: Option<Left>,
}

#[derive(Debug, Clone, Copy)]
struct Load {
    process: ProcessId,
    id: u64,
    start: Duration,
    end: Duration,
    is_live: bool,
}

#[derive(Debug, Clone, Copy)]
struct End {
    process: ProcessId,
    start: Duration,
    end: Duration,
    outcome: Outcome<()>,
}

#[derive(Debug, Clone, Copy)]
struct Left {
    process: ProcessId,
    live: usize,
    at: Duration,
}

impl Sessions {
    /// No session yet. An id that was rotated away is still given for `grace` at most.
    pub fn new(grace: Duration) -> Self {
        Self {
            grace,
            sessions: BTreeMap::new(),
        }
    }

    /// A process asked for a session by one of its ids, and was given it or not.
    pub fn loaded(
        &mut self,
        process: ProcessId,
        session: u64,
        id: u64,
        start: Duration,
        end: Duration,
        is_live: bool,
    ) {
        self.of_session(session).loads.push(Load {
            process,
            id,
            start,
            end,
            is_live,
        });
    }

    /// A process ended a session: deleted it, revoked it, or revoked all of its user's.
    pub fn ended(
        &mut self,
        process: ProcessId,
        session: u64,
        start: Duration,
        end: Duration,
        outcome: Outcome<()>,
    ) {
        self.of_session(session).ends.push(End {
            process,
            start,
            end,
            outcome,
        });
    }

    /// A process called for a rotation of a session's id, which may have been carried out.
    pub fn rotated(&mut self, session: u64, id: u64, start: Duration) {
        self.id_may_end(session, id, start.saturating_add(self.grace));
    }

    /// An id may end at this time or later, though its session goes on.
    pub fn id_may_end(&mut self, session: u64, id: u64, from: Duration) {
        let over = &mut self.of_session(session).over;
        let first = over.entry(id).or_insert(from);
        *first = from.min(*first);
    }

    /// So many ids of a session were live when all had settled: no call under way, and all graces over.
    pub fn left(&mut self, process: ProcessId, session: u64, live: usize, at: Duration) {
        self.of_session(session).left = Some(Left { process, live, at });
    }

    /// # Errors
    /// The first load that is one of a session that had ended, or the first session that was lost or doubled.
    pub fn check(&self) -> Result<(), Violation> {
        let violations = self.sessions.iter().map(|(session, of_session)| {
            let revived = of_session.revived(*session);
            let lost = of_session.signed_out(*session);
            earlier(earlier(revived, lost), of_session.not_one_left(*session))
        });
        violations.fold(None, earlier).map_or(Ok(()), Err)
    }

    fn of_session(&mut self, session: u64) -> &mut OfSession {
        self.sessions.entry(session).or_default()
    }
}

impl OfSession {
    /// The first load that gave the session after its end was acknowledged, or after it was not given by the
    /// same id.
    fn revived(&self, session: u64) -> Option<Violation> {
        let live = self.loads.iter().filter(|load| load.is_live);
        let revived = live.filter_map(|load| {
            let violation = Violation::new("no session is revived", load.end)
                .event(
                    load.start,
                    load.process,
                    format!("asks for session {session}"),
                )
                .event(load.end, load.process, load.story(session));
            if let Some(end) = self.acknowledged_end(load.start) {
                let text = format!("knows that session {session} has ended");
                return Some(violation.event(end.end, end.process, text));
            }
            let mut before = self.loads.iter().filter(|other| other.end < load.start);
            let dead = before.find(|other| other.id == load.id && !other.is_live)?;
            Some(violation.event(dead.end, dead.process, dead.story(session)))
        });
        revived.map(Some).fold(None, earlier)
    }

    /// The first load that did not give the session though nobody had called for its end.
    fn signed_out(&self, session: u64) -> Option<Violation> {
        let dead = self.loads.iter().filter(|load| !load.is_live);
        let in_vain = dead.filter_map(|load| {
            let is_over = self
                .over
                .get(&load.id)
                .is_some_and(|from| *from <= load.end);
            let may_have_ended = self.may_have_ended_before(load.end);
            (!is_over && !may_have_ended).then(|| {
                Violation::new("nobody is signed out", load.end)
                    .fact(load.end, format!("nobody has ended session {session}"))
                    .event(load.end, load.process, load.story(session))
            })
        });
        in_vain.map(Some).fold(None, earlier)
    }

    fn not_one_left(&self, session: u64) -> Option<Violation> {
        let left = self.left?;
        let is_right = match self.acknowledged_end(left.at) {
            Some(_) => left.live == 0,
            None if self.may_have_ended_before(left.at) => left.live <= 1,
            None => left.live == 1,
        };
        let text = format!("finds {} live ids of session {session}", left.live);
        (!is_right).then(|| {
            Violation::new("exactly one live session", left.at).event(left.at, left.process, text)
        })
    }

    fn acknowledged_end(&self, before: Duration) -> Option<&End> {
        let mut ends = self.ends.iter();
        ends.find(|end| end.outcome == Outcome::Replied(()) && end.end < before)
    }

    fn may_have_ended_before(&self, time: Duration) -> bool {
        let mut ends = self.ends.iter();
        ends.any(|end| end.outcome != Outcome::NotSent && end.start <= time)
    }
}

impl Load {
    fn story(&self, session: u64) -> String {
        let given = if self.is_live { "is" } else { "is not" };
        format!("{given} given session {session} by its id {}", self.id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn second(second: u64) -> Duration {
        Duration::from_secs(second)
    }

    const ENDED: Outcome<()> = Outcome::Replied(());

    /// Loads of session 1 by its id 1, as (second, whether it was live).
    fn loaded(loads: &[(u64, bool)]) -> Sessions {
        let mut sessions = Sessions::new(second(10));
        for (at, is_live) in loads {
            sessions.loaded(ProcessId(0), 1, 1, second(*at), second(*at), *is_live);
        }
        sessions
    }

    #[test]
    fn a_session_that_ends_once_is_accepted() {
        let mut sessions = loaded(&[(1, true), (3, true), (6, false)]);
        sessions.ended(ProcessId(1), 1, second(2), second(4), ENDED);
        sessions.left(ProcessId(0), 1, 0, second(9));
        sessions.check().unwrap();
    }

    #[test]
    fn a_session_that_is_given_after_its_end_is_refused() {
        let mut sessions = loaded(&[(1, true), (5, true)]);
        sessions.ended(ProcessId(1), 1, second(2), second(4), ENDED);
        let violation = sessions.check().unwrap_err();
        assert_eq!(violation.guarantee(), "no session is revived");
        assert_eq!(violation.at(), second(5));
    }

    #[test]
    fn a_session_that_comes_back_is_refused_whatever_is_known_of_its_end() {
        let mut sessions = loaded(&[(3, false), (5, true)]);
        sessions.ended(ProcessId(1), 1, second(2), second(9), Outcome::Maybe);
        let violation = sessions.check().unwrap_err();
        assert_eq!(violation.guarantee(), "no session is revived");
    }

    #[test]
    fn a_session_that_nobody_ended_must_be_given() {
        let violation = loaded(&[(1, true), (2, false)]).check().unwrap_err();
        assert_eq!(violation.guarantee(), "nobody is signed out");
    }

    #[test]
    fn an_end_of_unknown_outcome_excuses_a_load_that_gives_none() {
        let mut sessions = loaded(&[(3, false)]);
        sessions.ended(ProcessId(1), 1, second(2), second(2), Outcome::Maybe);
        sessions.check().unwrap();
        let mut sessions = loaded(&[(3, false)]);
        sessions.ended(ProcessId(1), 1, second(2), second(2), Outcome::NotSent);
        sessions.check().unwrap_err();
    }

    #[test]
    fn an_id_that_was_rotated_away_ends_after_its_grace_and_not_before() {
        let mut sessions = loaded(&[(5, true), (12, false)]);
        sessions.rotated(1, 1, second(2));
        sessions.check().unwrap();
        let mut sessions = loaded(&[(5, false)]);
        sessions.rotated(1, 1, second(2));
        sessions.check().unwrap_err();
    }

    #[test]
    fn one_live_session_must_be_left() {
        for (live, is_right) in [(0, false), (1, true), (2, false)] {
            let mut sessions = loaded(&[(1, true)]);
            sessions.left(ProcessId(0), 1, live, second(9));
            assert_eq!(sessions.check().is_ok(), is_right, "{live}");
        }
    }
}
