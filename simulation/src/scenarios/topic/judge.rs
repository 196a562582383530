//! Judges what became of the messages of a run.

use std::time::Duration;

use redkit_testkit::simulation::checkers::{Delivery, Handled, Publishing};
use redkit_testkit::simulation::{Fault, PlannedFault, Schedule, Violation};

use super::notes::Notes;

/// # Errors
/// The first message that was lost, doubled, out of order, or robbed of an attempt.
pub(super) fn judge(notes: &Notes, is_ordered: bool, schedule: &Schedule) -> Result<(), Violation> {
    let mut delivery = match is_ordered {
        true => Delivery::new().ordered(),
        false => Delivery::new(),
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
    for (process, from, until) in notes.absences() {
        delivery.away(process, from, until);
    }
    for (process, at) in notes.left() {
        let was_late = |planned: &PlannedFault| match planned.fault {
            // The next reply comes after the fault, so it is there a little after this time.
            Fault::DelayReply {
                process: whose, by, ..
            } => whose == process && (planned.at..planned.at + by + SOON).contains(&at),
            _ => false,
        };
        if schedule.faults.iter().any(was_late) {
            delivery.left_unheard(at);
        }
    }
    delivery.check()
}

/// A consumer is sent a reply at least this often: it asks whether it is seen.
const SOON: Duration = Duration::from_millis(200);
