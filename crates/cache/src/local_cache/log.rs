//! [`Progress`]: the part of the invalidation log that a process knows, and whether it has missed any.

use crate::scripts::LogPosition;

/// The part of the invalidation log that is known since the subscription stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Progress {
    /// The last number that a message had, or that Redis said the first time it was asked.
    position: Option<LogPosition>,
    /// Whether a message was heard since then: none of an earlier number can come any more.
    heard: bool,
    /// Counts the times that messages may have been missing. An answer of Redis says nothing about
    /// what was heard after another interruption than before it was asked.
    interruptions: u64,
}

/// Whether what is kept may be right.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Continuity {
    Complete,
    /// Messages are missing, or may be.
    Gap,
    /// Redis knows of a change whose message may be under way.
    Behind,
}

impl Progress {
    /// Messages may be missing here: nothing is known any more.
    pub(super) fn interrupted(&mut self) {
        *self = Self {
            interruptions: self.interruptions + 1,
            ..Self::default()
        };
    }

    /// A message came.
    pub(super) fn hear(&mut self, position: LogPosition) -> Continuity {
        let continuity = match self.position {
            // Nothing was kept before the subscription stood.
            None => Continuity::Complete,
            Some(last) if last.incarnation != position.incarnation => Continuity::Gap,
            Some(last) if position.number == last.number + 1 => Continuity::Complete,
            // It was announced before Redis was asked, and comes after.
            Some(last) if position.number <= last.number && !self.heard => {
                return Continuity::Complete;
            }
            Some(_) => Continuity::Gap,
        };
        self.position = Some(position);
        self.heard = true;
        continuity
    }

    /// Redis said what the last number is; `asked_at` is what was known when it was asked.
    pub(super) fn compare(&self, asked_at: &Self, last: LogPosition) -> Continuity {
        let (Some(before), Some(now)) = (asked_at.position, self.position) else {
            return Continuity::Gap;
        };
        if asked_at.interruptions != self.interruptions
            || last.incarnation != now.incarnation
            || before.incarnation != now.incarnation
            || last.number < before.number
        {
            // Something came in between; or another log, or one that lost its end.
            return Continuity::Gap;
        }
        match last.number > now.number {
            true => Continuity::Behind,
            false => Continuity::Complete,
        }
    }

    /// Everything was thrown away; from here on it counts.
    pub(super) fn begin_at(&self, asked_at: &Self, last: LogPosition) -> Self {
        match self.position {
            // The first answer of Redis, overtaken by messages that were heard since.
            Some(now)
                if asked_at.position.is_none()
                    && now.incarnation == last.incarnation
                    && now.number >= last.number =>
            {
                *self
            }
            _ => Self {
                position: Some(last),
                heard: false,
                ..*self
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::Id;

    fn begin_at(position: LogPosition) -> Progress {
        let nothing = Progress::default();
        nothing.begin_at(&nothing, position)
    }

    fn position(log: u64, number: u64) -> LogPosition {
        LogPosition {
            incarnation: Id::new(log),
            number,
        }
    }

    #[test]
    fn the_next_number_is_right_and_any_other_is_a_gap() {
        let mut progress = begin_at(position(1, 5));
        assert_eq!(progress.hear(position(1, 6)), Continuity::Complete);
        assert_eq!(progress.hear(position(1, 7)), Continuity::Complete);
        assert_eq!(
            progress.hear(position(1, 9)),
            Continuity::Gap,
            "8 is missing"
        );
        assert_eq!(progress.hear(position(1, 10)), Continuity::Complete);
        assert_eq!(
            progress.hear(position(1, 10)),
            Continuity::Gap,
            "numbers went back"
        );
        assert_eq!(
            progress.hear(position(2, 11)),
            Continuity::Gap,
            "another log"
        );
    }

    #[test]
    fn a_message_from_before_the_question_may_come_after_it() {
        let mut progress = begin_at(position(1, 5));
        assert_eq!(progress.hear(position(1, 4)), Continuity::Complete);
        assert_eq!(progress.hear(position(1, 5)), Continuity::Complete);
        assert_eq!(progress.hear(position(1, 6)), Continuity::Complete);
        assert_eq!(progress.hear(position(1, 5)), Continuity::Gap);
    }

    #[test]
    fn redis_is_compared_with_what_was_known_when_it_was_asked() {
        let before = begin_at(position(1, 5));
        let mut now = before;
        now.hear(position(1, 6));
        assert_eq!(now.compare(&before, position(1, 5)), Continuity::Complete);
        assert_eq!(now.compare(&before, position(1, 6)), Continuity::Complete);
        assert_eq!(now.compare(&before, position(1, 7)), Continuity::Behind);
        assert_eq!(
            now.compare(&before, position(1, 4)),
            Continuity::Gap,
            "it went back"
        );
        assert_eq!(now.compare(&before, position(2, 6)), Continuity::Gap);
        let nothing = Progress::default();
        assert_eq!(nothing.compare(&nothing, position(1, 0)), Continuity::Gap);
    }

    #[test]
    fn an_answer_to_what_was_asked_before_an_interruption_proves_nothing() {
        let asked_at = begin_at(position(1, 5));
        let mut now = asked_at;
        now.interrupted();
        assert_eq!(now.compare(&asked_at, position(1, 5)), Continuity::Gap);
        // Was 8, which came before this one, heard? What was kept meanwhile may be older.
        assert_eq!(now.hear(position(1, 9)), Continuity::Complete);
        assert_eq!(now.compare(&asked_at, position(1, 7)), Continuity::Gap);
        let begun = now.begin_at(&asked_at, position(1, 9));
        assert_eq!(begun.compare(&begun, position(1, 9)), Continuity::Complete);
    }
}
