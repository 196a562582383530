//! [`Losses`]: which objects have lost something lately. Their counts stand for as long as their processes run, and a
//! loss of last month needs nobody's attention.

use std::collections::HashMap;

use serde_json::Value;

use super::published::Published;

/// For how long a loss needs attention (ms).
const LATELY: u64 = 3_600_000;

/// How many locks and leases the objects of all instances have lost.
#[derive(Debug, Default)]
pub(super) struct Losses {
    instances: HashMap<String, Counts>,
}

/// By kind and name.
type Counts = HashMap<(String, String), Loss>;

#[derive(Debug, Clone, Copy)]
struct Loss {
    count: u64,
    /// When the count was first seen, by the clock of its instance (ms since 1970).
    since: u64,
}

impl Losses {
    /// Takes the counts from new snapshots. A count that is seen for the first time is taken to be of now.
    pub(super) fn remember(&mut self, instances: &[Published]) {
        let is_there = |id: &String| instances.iter().any(|instance| instance.id == *id);
        self.instances.retain(|id, _| is_there(id));
        for instance in instances {
            let known = self.instances.entry(instance.id.clone()).or_default();
            let mut counts = Counts::new();
            for state in &instance.objects {
                let lost = state.facts.get("lost").and_then(Value::as_u64);
                if let Some(lost) = lost.filter(|&lost| lost > 0) {
                    let key = (state.kind.clone(), state.name.clone());
                    let since = instance.at;
                    let loss = counts.entry(key).or_insert(Loss { count: 0, since });
                    loss.count = loss.count.saturating_add(lost);
                }
            }
            for (key, loss) in &mut counts {
                if let Some(before) = known.get(key).filter(|before| before.count >= loss.count) {
                    // The clock may have been set back.
                    loss.since = before.since.min(instance.at);
                }
            }
            *known = counts;
        }
    }

    /// Whether this object of an instance has lost something within the last hour.
    pub(super) fn are_recent(&self, instance: &Published, object: &(String, String)) -> bool {
        let counts = self.instances.get(&instance.id);
        let loss = counts.and_then(|counts| counts.get(object));
        loss.is_some_and(|loss| instance.at.saturating_sub(loss.since) < LATELY)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Map, json};

    use super::super::attention;
    use super::super::fleet::{Fleet, Rates};
    use super::super::published::ObjectState;
    use super::*;

    fn losing(at: u64, lost: u64) -> Published {
        let mut facts = Map::new();
        facts.insert("lost".to_owned(), json!(lost));
        Published {
            id: "a".to_owned(),
            at,
            objects: vec![ObjectState {
                kind: "locks".to_owned(),
                name: "orders".to_owned(),
                facts,
                ..ObjectState::default()
            }],
            ..Published::default()
        }
    }

    #[test]
    fn a_loss_needs_attention_for_an_hour() {
        let mut rates = Rates::default();
        let mut needs = |at, lost| {
            let fleet = Fleet::of(vec![losing(at, lost)], &mut rates);
            let found = attention::find(&fleet, None);
            found.into_iter().map(|one| one.text).collect::<Vec<_>>()
        };
        let start = 1_000_000_000;
        assert_eq!(needs(start, 0).len(), 0);
        assert_eq!(needs(start + 1_000, 1), ["1 lock lost by orders"]);
        assert_eq!(needs(start + LATELY, 1), ["1 lock lost by orders"]);
        assert_eq!(
            needs(start + LATELY + 1_000, 1).len(),
            0,
            "for good no longer"
        );
        assert_eq!(needs(start + LATELY + 2_000, 2), ["2 locks lost by orders"]);
        // A clock that is set back makes it no younger and no older.
        assert_eq!(needs(start, 2), ["2 locks lost by orders"]);
        assert_eq!(needs(start + LATELY, 2).len(), 0);
    }

    #[test]
    fn a_loss_from_before_the_first_look_is_taken_for_a_new_one() {
        let mut losses = Losses::default();
        let object = ("locks".to_owned(), "orders".to_owned());
        let first = losing(5 * LATELY, 3);
        losses.remember(std::slice::from_ref(&first));
        assert!(losses.are_recent(&first, &object));
        losses.remember(&[]);
        assert!(!losses.are_recent(&first, &object), "its process has ended");
    }
}
