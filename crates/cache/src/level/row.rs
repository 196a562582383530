//! [`Progress`]: what a process knows of the row of changes, and whether it has missed any.

use crate::scripts::LogPosition;

/// The part of the row of changes that is known since the subscription stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Progress {
    /// The last number that a message had, or that Redis said the first time it was asked.
    place: Option<LogPosition>,
    /// Whether a message was heard since then: none of an earlier number can come any more.
    heard: bool,
    /// Counts the times that messages may have been missing. An answer of Redis says nothing about
    /// what was heard after another interruption than before it was asked.
    interruptions: u64,
}

/// Whether what is kept may be right.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
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
    pub(super) fn hear(&mut self, place: LogPosition) -> Verdict {
        let verdict = match self.place {
            // Nothing was kept before the subscription stood.
            None => Verdict::Complete,
            Some(last) if last.incarnation != place.incarnation => Verdict::Gap,
            Some(last) if place.number == last.number + 1 => Verdict::Complete,
            // It was announced before Redis was asked, and comes after.
            Some(last) if place.number <= last.number && !self.heard => {
                return Verdict::Complete;
            }
            Some(_) => Verdict::Gap,
        };
        self.place = Some(place);
        self.heard = true;
        verdict
    }

    /// Redis said what the last number is; `asked_at` is what was known when it was asked.
    pub(super) fn compare(&self, asked_at: &Self, last: LogPosition) -> Verdict {
        let (Some(before), Some(now)) = (asked_at.place, self.place) else {
            return Verdict::Gap;
        };
        if asked_at.interruptions != self.interruptions
            || last.incarnation != now.incarnation
            || before.incarnation != now.incarnation
            || last.number < before.number
        {
            // Something came in between; or another row, or one that lost its end.
            return Verdict::Gap;
        }
        match last.number > now.number {
            true => Verdict::Behind,
            false => Verdict::Complete,
        }
    }

    /// Everything was thrown away; from here on it counts.
    pub(super) fn begin_at(&self, asked_at: &Self, last: LogPosition) -> Self {
        match self.place {
            // The first answer of Redis, overtaken by messages that were heard since.
            Some(now)
                if asked_at.place.is_none()
                    && now.incarnation == last.incarnation
                    && now.number >= last.number =>
            {
                *self
            }
            _ => Self {
                place: Some(last),
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

    fn begin_at(place: LogPosition) -> Progress {
        let nothing = Progress::default();
        nothing.begin_at(&nothing, place)
    }

    fn place(row: u64, number: u64) -> LogPosition {
        LogPosition {
            incarnation: Id::new(row),
            number,
        }
    }

    #[test]
    fn the_next_number_is_right_and_any_other_is_a_gap() {
        let mut progress = begin_at(place(1, 5));
        assert_eq!(progress.hear(place(1, 6)), Verdict::Complete);
        assert_eq!(progress.hear(place(1, 7)), Verdict::Complete);
        assert_eq!(progress.hear(place(1, 9)), Verdict::Gap, "8 is missing");
        assert_eq!(progress.hear(place(1, 10)), Verdict::Complete);
        assert_eq!(
            progress.hear(place(1, 10)),
            Verdict::Gap,
            "numbers went back"
        );
        assert_eq!(progress.hear(place(2, 11)), Verdict::Gap, "another row");
    }

    #[test]
    fn what_was_announced_before_redis_was_asked_may_come_after() {
        let mut progress = begin_at(place(1, 5));
        assert_eq!(progress.hear(place(1, 4)), Verdict::Complete);
        assert_eq!(progress.hear(place(1, 5)), Verdict::Complete);
        assert_eq!(progress.hear(place(1, 6)), Verdict::Complete);
        assert_eq!(progress.hear(place(1, 5)), Verdict::Gap);
    }

    #[test]
    fn redis_is_compared_with_what_was_known_when_it_was_asked() {
        let before = begin_at(place(1, 5));
        let mut now = before;
        now.hear(place(1, 6));
        assert_eq!(now.compare(&before, place(1, 5)), Verdict::Complete);
        assert_eq!(now.compare(&before, place(1, 6)), Verdict::Complete);
        assert_eq!(now.compare(&before, place(1, 7)), Verdict::Behind);
        assert_eq!(
            now.compare(&before, place(1, 4)),
            Verdict::Gap,
            "it went back"
        );
        assert_eq!(now.compare(&before, place(2, 6)), Verdict::Gap);
        let nothing = Progress::default();
        assert_eq!(nothing.compare(&nothing, place(1, 0)), Verdict::Gap);
    }

    #[test]
    fn an_answer_to_what_was_asked_before_an_interruption_proves_nothing() {
        let asked_at = begin_at(place(1, 5));
        let mut now = asked_at;
        now.interrupted();
        assert_eq!(now.compare(&asked_at, place(1, 5)), Verdict::Gap);
        // Was 8, which came before this one, heard? What was kept meanwhile may be older.
        assert_eq!(now.hear(place(1, 9)), Verdict::Complete);
        assert_eq!(now.compare(&asked_at, place(1, 7)), Verdict::Gap);
        let begun = now.begin_at(&asked_at, place(1, 9));
        assert_eq!(begun.compare(&begun, place(1, 9)), Verdict::Complete);
    }
}
