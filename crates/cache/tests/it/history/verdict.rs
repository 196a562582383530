//! Whether a history is allowed.

use std::collections::HashMap;
use std::time::Duration;

use super::record::{Event, What};
use super::source::is_gone;

/// What was read too old. A reading that began `bound` after a change was acknowledged must give
/// that change's number or a higher one.
pub(super) fn too_old(events: &[Event], bound: Duration) -> Vec<String> {
    let bound = u64::try_from(bound.as_nanos()).unwrap();
    // For each key the times from which on a number is the least, ever higher ones.
    let mut least: HashMap<u64, Vec<(u64, u64)>> = HashMap::new();
    let mut changes: Vec<_> = of(events, &What::CHANGES).collect();
    changes.sort_by_key(|change| change.ended);
    for change in changes {
        let rising = least.entry(change.key).or_default();
        if rising
            .last()
            .is_none_or(|(_, number)| change.number > *number)
        {
            rising.push((change.ended + bound, change.number));
        }
    }
    let mut wrong = Vec::new();
    for read in of(events, &What::READINGS) {
        let rising = least.get(&read.key).map_or(&[][..], Vec::as_slice);
        let past = rising.partition_point(|(from, _)| *from <= read.began);
        let Some((from, least)) = past.checked_sub(1).map(|last| rising[last]) else {
            continue;
        };
        let allowed = match read.what {
            // It stands for any number at which the source had none.
            What::FoundNone => (least..=read.number).any(is_gone),
            _ => read.number >= least,
        };
        if !allowed {
            let late = Duration::from_nanos(read.began - from);
            wrong.push(format!(
                "key {}: {:?} gave {}, at least {least} was due {late:?} before",
                read.key, read.what, read.number
            ));
        }
    }
    wrong
}

fn of<'e>(events: &'e [Event], kinds: &'e [What]) -> impl Iterator<Item = &'e Event> {
    events.iter().filter(|event| kinds.contains(&event.what))
}

#[test]
fn a_read_that_is_too_old_is_found_and_no_other() {
    let ms = |ms: u64| ms * 1_000_000;
    let at = |what, number, began, ended| Event {
        what,
        key: 1,
        number,
        began: ms(began),
        ended: ms(ended),
    };
    let changes = [
        at(What::Set, 7, 30, 40),
        at(What::Invalidated, 5, 0, 10),
        // Acknowledged later, and older: it takes nothing back.
        at(What::Invalidated, 6, 0, 50),
    ];
    let wrong = |read: Event, bound: u64| {
        let events: Vec<_> = changes.iter().copied().chain([read]).collect();
        !too_old(&events, Duration::from_millis(bound)).is_empty()
    };
    assert!(!wrong(at(What::Got, 4, 9, 20), 0), "it began before");
    assert!(wrong(at(What::Got, 4, 10, 20), 0));
    assert!(!wrong(at(What::Got, 5, 39, 60), 0));
    assert!(wrong(at(What::Got, 6, 60, 70), 0));
    assert!(!wrong(at(What::Got, 7, 60, 70), 0));
    assert!(
        !wrong(at(What::Got, 4, 29, 30), 20),
        "it is within the bound"
    );
    assert!(wrong(at(What::Got, 4, 30, 30), 20));
    // The source had none at 4, and has none at 8.
    assert!(wrong(at(What::FoundNone, 7, 60, 70), 0));
    assert!(!wrong(at(What::FoundNone, 8, 60, 70), 0));
    let other = Event {
        key: 2,
        ..at(What::Got, 1, 60, 70)
    };
    assert!(!wrong(other, 0));
}
