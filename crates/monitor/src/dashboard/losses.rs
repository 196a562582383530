//! [`Losses`]: which objects have lost something lately. Their counts stand for as long as their processes run, and a
//! loss of last month needs nobody's attention.

use std::collections::HashMap;

use serde_json::Value;
use tokio::time::{Duration, Instant};

use super::published::Published;

/// For how long a loss needs attention.
const LATELY: Duration = Duration::from_secs(3_600);
/// How many instances are remembered that are not there at a look, and how many objects of an instance.
const MOST_ABSENT: usize = 2_000;

/// How many locks and leases the objects of all instances have lost.
#[derive(Debug, Default)]
pub(super) struct Losses {
    instances: HashMap<String, Instance>,
}

/// The losses of one instance. They are kept for as long as they are recent: an instance that is not there at one look,
/// because Redis did not answer, has not lost anew what it had lost before.
#[derive(Debug)]
struct Instance {
    seen: Instant,
    counts: Counts,
}

/// By kind and name.
type Counts = HashMap<(String, String), Loss>;

#[derive(Debug, Clone, Copy)]
struct Loss {
    count: u64,
    /// How much of that is recent: since an hour without a loss.
    recent: u64,
    /// When the latest loss was seen.
    latest: Instant,
    /// When the object was last there.
    seen: Instant,
}

impl Loss {
    fn first(count: u64, now: Instant) -> Self {
        Self {
            count,
            recent: count,
            latest: now,
            seen: now,
        }
    }

    /// The count after this one. Where it is smaller, one of several objects of the name is gone, with what it had lost.
    fn followed_by(self, count: u64, now: Instant) -> Self {
        let recent = if self.is_recent(now) { self.recent } else { 0 };
        let grown = count.saturating_sub(self.count);
        Self {
            count,
            recent: recent.saturating_add(grown).min(count),
            latest: if grown > 0 { now } else { self.latest },
            seen: now,
        }
    }

    fn is_recent(&self, now: Instant) -> bool {
        now.saturating_duration_since(self.latest) < LATELY
    }
}

impl Losses {
    /// Takes the counts from new snapshots. A count that is seen for the first time is taken to be of now.
    pub(super) fn remember(&mut self, instances: &[Published]) {
        let now = Instant::now();
        for instance in instances {
            let mut lost = HashMap::<(String, String), u64>::new();
            for state in &instance.objects {
                if let Some(count) = state.facts.get("lost").and_then(Value::as_u64) {
                    let object = (state.kind.clone(), state.name.clone());
                    let of_name = lost.entry(object).or_default();
                    *of_name = of_name.saturating_add(count);
                }
            }
            let known = self.instances.remove(&instance.id);
            let known = known.map(|known| known.counts).unwrap_or_default();
            let loss = |(object, count)| {
                let loss = match known.get(&object) {
                    Some(known) => known.followed_by(count, now),
                    None => Loss::first(count, now),
                };
                (object, loss)
            };
            let mut counts: Counts = lost.into_iter().map(loss).collect();
            // A snapshot that is too large leaves objects out.
            let is_kept =
                |loss: &Loss| loss.count > 0 && now.saturating_duration_since(loss.seen) <= LATELY;
            let absent: Vec<_> = known
                .into_iter()
                .filter(|(object, loss)| is_kept(loss) && !counts.contains_key(object))
                .take(MOST_ABSENT)
                .collect();
            counts.extend(absent);
            let seen = Instance { seen: now, counts };
            self.instances.insert(instance.id.clone(), seen);
        }
        let is_full = self.instances.len() > instances.len() + MOST_ABSENT;
        let longest = if is_full { Duration::ZERO } else { LATELY };
        self.instances
            .retain(|_, known| now.saturating_duration_since(known.seen) <= longest);
    }

    /// How much this object of an instance has lost lately.
    pub(super) fn lately(&self, instance: &str, object: &(String, String)) -> u64 {
        let known = self.instances.get(instance);
        let loss = known.and_then(|known| known.counts.get(object));
        loss.filter(|loss| loss.is_recent(Instant::now()))
            .map_or(0, |loss| loss.recent)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Map, json};
    use tokio::time::advance;

    use super::super::attention;
    use super::super::fleet::{Fleet, Rates};
    use super::super::published::ObjectState;
    use super::*;

    fn losing(lost: u64) -> Published {
        let mut facts = Map::new();
        facts.insert("lost".to_owned(), json!(lost));
        Published {
            id: "a".to_owned(),
            objects: vec![ObjectState {
                kind: "locks".to_owned(),
                name: "orders".to_owned(),
                facts,
                ..ObjectState::default()
            }],
            ..Published::default()
        }
    }

    const A_SECOND: Duration = Duration::from_secs(1);

    #[tokio::test(start_paused = true)]
    async fn a_loss_needs_attention_for_an_hour() {
        let mut rates = Rates::default();
        let mut needs = |lost| {
            let fleet = Fleet::of(vec![losing(lost)], &mut rates);
            let found = attention::find(&fleet, None);
            found.into_iter().map(|one| one.text).collect::<Vec<_>>()
        };
        assert_eq!(needs(0).len(), 0);
        assert_eq!(needs(40), ["40 locks lost by orders"]);
        advance(LATELY - A_SECOND).await;
        assert_eq!(needs(40), ["40 locks lost by orders"]);
        advance(A_SECOND).await;
        assert_eq!(needs(40).len(), 0, "for good no longer");
        assert_eq!(needs(41), ["1 lock lost by orders"], "the others are old");
        advance(LATELY - A_SECOND).await;
        assert_eq!(needs(43), ["3 locks lost by orders"]);
        // Another object has taken the name, and loses one later.
        advance(LATELY).await;
        assert_eq!(needs(2).len(), 0);
        assert_eq!(needs(0).len(), 0);
        assert_eq!(needs(1), ["1 lock lost by orders"]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_loss_from_before_the_first_look_is_taken_for_a_new_one() {
        let mut losses = Losses::default();
        let object = ("locks".to_owned(), "orders".to_owned());
        losses.remember(&[losing(3)]);
        assert_eq!(losses.lately("a", &object), 3);
    }

    #[tokio::test(start_paused = true)]
    async fn an_instance_that_was_away_for_a_moment_has_not_lost_anew() {
        let mut losses = Losses::default();
        let object = ("locks".to_owned(), "orders".to_owned());
        losses.remember(&[losing(3)]);
        advance(LATELY).await;
        losses.remember(&[losing(3)]);
        losses.remember(&[]);
        losses.remember(&[losing(3)]);
        assert_eq!(losses.lately("a", &object), 0);
        let cut = Published {
            objects: Vec::new(),
            ..losing(3)
        };
        losses.remember(&[cut]);
        losses.remember(&[losing(3)]);
        assert_eq!(losses.lately("a", &object), 0, "nor an object of it");
        advance(LATELY + A_SECOND).await;
        losses.remember(&[]);
        assert_eq!(losses.instances.len(), 0, "its process has ended");
    }
}
