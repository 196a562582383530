//! Judges what became of the messages of a run.

use std::time::Duration;

use redkit_testkit::simulation::Violation;
use redkit_testkit::simulation::checkers::{Delivery, Handled, Publishing};

use super::Settings;
use super::consumer::MOST_ATTEMPTS;
use super::notes::Notes;
use crate::scenarios::faults::LONGEST;

/// # Errors
/// The first message that was lost, doubled, out of order, or robbed of an attempt.
pub(super) fn judge(notes: &Notes, settings: Settings) -> Result<(), Violation> {
    let delivery = Delivery::new()
        .lease(settings.lease)
        .max_attempts(usize::try_from(MOST_ATTEMPTS).unwrap_or(usize::MAX));
    let mut delivery = match settings.is_ordered {
        true => delivery.ordered(),
        false => delivery,
    };
    for operation in notes.published.history().operations() {
        let publishing = Publishing {
            process: operation.process,
            key: operation.call.key,
            start: operation.start,
            end: operation.end.unwrap_or(operation.start),
            outcome: operation.outcome,
        };
        delivery.published(operation.call.number, publishing);
    }
    let handled = notes.handled();
    for handling in &handled {
        delivery.handled(*handling);
    }
    for message in notes.dead() {
        // It became one after its last failure at the earliest. The end of a handler that was cut says nothing: a
        // process that was stopped cuts it long after others took the message.
        let of_message = handled
            .iter()
            .filter(|handling| handling.message == message);
        let earliest = of_message.map(|handling| match handling.how {
            Handled::Cut => handling.start,
            Handled::Done | Handled::Failed => handling.end,
        });
        let last = earliest.max();
        delivery.dead_lettered(message, last.unwrap_or(Duration::ZERO));
    }
    for absence in notes.absences() {
        let (process, from, until) = (absence.process, absence.from, absence.until);
        let heard_until = until + LONGEST + SOON;
        match absence.is_death {
            true => delivery.died(process, from, until, heard_until),
            false => delivery.away(process, from, until, heard_until, absence.lasted),
        }
    }
    delivery.check()
}

/// What a request takes at most on top of what a fault keeps it back for.
const SOON: Duration = Duration::from_millis(50);
