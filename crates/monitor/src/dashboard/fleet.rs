//! [`Fleet`]: what the instances have published, as one.

use std::cmp::Reverse;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use redkit_core::Latency;
use serde_json::{Map, Value, json};

use super::losses::Losses;
use super::published::{Class, ClientState, DependencyState, ObjectState, Published, place_of};

/// The instances of a program as one.
#[derive(Debug, Default)]
pub(super) struct Fleet {
    pub(super) instances: Vec<Published>,
    pub(super) objects: Vec<Object>,
    pub(super) dependencies: Vec<Dependency>,
}

/// The objects of one kind and name in all instances.
#[derive(Debug, Default)]
pub(super) struct Object {
    pub(super) kind: String,
    pub(super) name: String,
    /// Counts are summed, of numbers the largest is taken, flags are set when one is.
    pub(super) facts: Map<String, Value>,
    /// By how much the counts have grown in a second, lately.
    pub(super) rates: Map<String, Value>,
    /// The facts of each instance.
    pub(super) each: Vec<(String, Map<String, Value>)>,
    pub(super) items: Vec<Map<String, Value>>,
    pub(super) omitted: usize,
    pub(super) measured: Map<String, Value>,
    pub(super) measure_error: String,
    pub(super) class: Arc<Class>,
    /// Whether it stands for itself in each instance, so that an action is one instance's.
    pub(super) is_local: bool,
    /// How many locks or messages it has lost lately: since an hour without a loss, if the latest was within the last.
    pub(super) lost_lately: u64,
}

/// A dependency in all instances: the worst of them.
#[derive(Debug, Default)]
pub(super) struct Dependency {
    pub(super) worst: DependencyState,
    /// In how many instances it is that bad, and how many there are.
    pub(super) affected: usize,
    pub(super) instances: usize,
}

/// The most items of an object that a page is sent.
const MOST_ITEMS: usize = 60;
/// The most objects.
const MOST_OBJECTS: usize = 5_000;
/// How many objects of a kind a page is sent each time; it asks for the others.
const MOST_SHOWN: usize = 50;

impl Fleet {
    /// `rates` has the instances as they were a moment ago.
    pub(super) fn of(instances: Vec<Published>, rates: &mut Rates) -> Self {
        rates.remember(&instances);
        let none = Map::new();
        let mut objects: BTreeMap<(String, String), Object> = BTreeMap::new();
        let mut dependencies: BTreeMap<String, Dependency> = BTreeMap::new();
        for instance in &instances {
            let mut grown = HashSet::new();
            for state in &instance.objects {
                let key = (state.kind.clone(), state.name.clone());
                if objects.len() >= MOST_OBJECTS && !objects.contains_key(&key) {
                    continue;
                }
                // The growth is that of all objects of the name in the instance, and so is the loss.
                let is_first = grown.insert(key.clone());
                let growth = match is_first {
                    true => rates.growth_of(&instance.id, &key).unwrap_or(&none),
                    false => &none,
                };
                let lost = match is_first {
                    true => rates.losses.lately(&instance.id, &key),
                    false => 0,
                };
                let object = objects.entry(key).or_default();
                object.add(instance, state, growth);
                object.lost_lately = object.lost_lately.saturating_add(lost);
            }
            for state in &instance.dependencies {
                dependencies
                    .entry(state.name.clone())
                    .or_default()
                    .add(state);
            }
        }
        Self {
            objects: objects.into_values().collect(),
            dependencies: dependencies.into_values().collect(),
            instances,
        }
    }

    /// What every page is sent each time: of each kind the objects that most want to be looked at, and how many there
    /// are.
    pub(super) fn shown(&self) -> Value {
        let mut kinds: BTreeMap<&str, Vec<&Object>> = BTreeMap::new();
        for object in &self.objects {
            kinds.entry(&object.kind).or_default().push(object);
        }
        let totals: Map<_, _> = kinds
            .iter()
            .map(|(kind, all)| ((*kind).to_owned(), json!(all.len())))
            .collect();
        for all in kinds.values_mut().filter(|all| all.len() > MOST_SHOWN) {
            all.sort_by_cached_key(|object| Reverse(object.urgency()));
            all.truncate(MOST_SHOWN);
        }
        let (objects, classes) = objects_json(kinds.into_values().flatten());
        json!({ "objects": objects, "classes": classes, "totals": totals })
    }

    /// A page of the objects of a kind, by their names: those with `filter` in their names, from the `from`th.
    pub(super) fn page(&self, kind: &str, filter: &str, from: usize, count: usize) -> Value {
        let filter = filter.to_lowercase();
        let of_kind = self.objects.iter().filter(|object| object.kind == kind);
        let found: Vec<_> = of_kind
            .filter(|object| object.name.to_lowercase().contains(&filter))
            .collect();
        let total = found.len();
        let until = from.saturating_add(count);
        let page = found.into_iter().skip(from).take(count);
        let (objects, classes) = objects_json(page);
        let next = (until < total).then(|| until.to_string());
        json!({ "objects": objects, "classes": classes, "total": total, "next": next })
    }
}

impl Object {
    fn add(&mut self, instance: &Published, state: &ObjectState, growth: &Map<String, Value>) {
        self.kind.clone_from(&state.kind);
        self.name.clone_from(&state.name);
        self.is_local = matches!(state.kind.as_str(), "client" | "breaker");
        for (name, value) in &state.facts {
            merge(&mut self.facts, name, value);
        }
        for (name, value) in growth {
            let known = self
                .rates
                .get(name)
                .and_then(Value::as_f64)
                .unwrap_or_default();
            let sum = known + value.as_f64().unwrap_or_default();
            self.rates.insert(name.clone(), json!(rounded(sum)));
        }
        self.each.push((instance.id.clone(), state.facts.clone()));
        for item in &state.items {
            if self.items.len() < MOST_ITEMS {
                let mut item = item.clone();
                item.insert("instance".to_owned(), json!(instance.id));
                self.items.push(item);
            } else {
                self.omitted += 1;
            }
        }
        self.omitted += state.omitted;
        if !state.measured.is_empty() {
            // All measure the same; the newest is as good as any.
            self.measured.clone_from(&state.measured);
            self.measure_error.clear();
        } else if self.measured.is_empty() {
            self.measure_error.clone_from(&state.measure_error);
        }
        if self.class.actions.is_empty() && self.class.lists.is_empty() {
            self.class = Arc::clone(&state.class);
        }
    }

    /// Which objects of a kind are shown first: those with trouble, those with the oldest message, those that are busy.
    fn urgency(&self) -> (bool, u64, u64) {
        let of = |facts: &Map<String, Value>, name: &str| {
            facts.get(name).and_then(Value::as_f64).unwrap_or_default()
        };
        let waiting = of(&self.measured, "lag") + of(&self.measured, "pending");
        let is_alone = waiting > 0.0 && self.measured.get("consumers") == Some(&json!(0));
        let is_troubled = is_alone
            || of(&self.measured, "dead_letters") > 0.0
            || self.lost_lately > 0
            || self.measured.get("is_paused") == Some(&json!(true));
        let busy: f64 = self.rates.values().filter_map(Value::as_f64).sum();
        let oldest = of(&self.measured, "oldest_pending");
        (is_troubled, whole(oldest), whole(busy * 10.0))
    }

    fn to_json(&self, classes: &mut Vec<Class>) -> Value {
        let each: Vec<_> = self
            .each
            .iter()
            .map(|(id, facts)| json!({ "instance": id, "facts": facts }))
            .collect();
        json!({
            "kind": self.kind, "name": self.name, "facts": self.facts, "rates": self.rates,
            "each": each, "items": self.items, "omitted": self.omitted, "measured": self.measured,
            "measureError": self.measure_error, "class": place_of(&self.class, classes),
            "isLocal": self.is_local,
        })
    }
}

/// Objects as a page is sent them, with what they have in common.
fn objects_json<'o>(objects: impl IntoIterator<Item = &'o Object>) -> (Vec<Value>, Vec<Class>) {
    let mut classes = Vec::new();
    let objects = objects.into_iter();
    let objects = objects.map(|object| object.to_json(&mut classes)).collect();
    (objects, classes)
}

fn merge(into: &mut Map<String, Value>, name: &str, value: &Value) {
    let Some(known) = into.get_mut(name) else {
        into.insert(name.to_owned(), value.clone());
        return;
    };
    match (known.as_u64(), value.as_u64()) {
        (Some(sum), Some(more)) => *known = json!(sum.saturating_add(more)),
        _ => match (known.as_f64(), value.as_f64()) {
            (Some(one), Some(other)) => *known = json!(one.max(other)),
            _ => {
                if let (Some(one), Some(other)) = (known.as_bool(), value.as_bool()) {
                    *known = json!(one || other);
                }
            }
        },
    }
}

impl Dependency {
    fn add(&mut self, state: &DependencyState) {
        self.instances += 1;
        let rank = |state: &DependencyState| match state.status.as_str() {
            "fail" => 2,
            "warn" => 1,
            _ => 0,
        };
        let (known, new) = (rank(&self.worst), rank(state));
        if self.worst.name.is_empty() || new > known {
            self.worst = state.clone();
            self.affected = 1;
        } else if new == known {
            self.affected += 1;
            // Ill since the first of them, well since the last.
            self.worst.since = match new {
                0 => self.worst.since.max(state.since),
                _ => self.worst.since.min(state.since),
            };
        }
    }

    pub(super) fn to_json(&self) -> Value {
        let DependencyState {
            name,
            status,
            is_hard,
            since,
            cause,
        } = &self.worst;
        json!({
            "name": name, "status": status, "isHard": is_hard, "since": since, "cause": cause,
            "affected": self.affected, "instances": self.instances,
        })
    }
}

/// The instances as they were a moment ago: what has grown since tells rates.
#[derive(Debug, Default)]
pub(super) struct Rates {
    before: HashMap<String, Published>,
    /// The latest growth of each instance, kept until it says something new.
    growth: HashMap<String, Growth>,
    losses: Losses,
}

/// What an instance did between two of its snapshots.
#[derive(Debug, Clone, Default)]
struct Growth {
    seconds: f64,
    calls: u64,
    errors: u64,
    latency: Latency,
    /// By how much the counts of each object have grown in a second, by kind and name.
    objects: HashMap<(String, String), Map<String, Value>>,
}

/// What all clients do.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) struct Traffic {
    pub(super) calls_per_second: f64,
    pub(super) errors_per_second: f64,
    pub(super) p50: Option<Duration>,
    pub(super) p99: Option<Duration>,
    /// 0 when all breakers are closed, 1 when one is half open, 2 when one is open.
    pub(super) breaker: u8,
}

impl Rates {
    fn growth_of(&self, instance: &str, object: &(String, String)) -> Option<&Map<String, Value>> {
        self.growth.get(instance)?.objects.get(object)
    }

    fn remember(&mut self, instances: &[Published]) {
        self.losses.remember(instances);
        let is_there = |id: &String| instances.iter().any(|instance| instance.id == *id);
        self.before.retain(|id, _| is_there(id));
        self.growth.retain(|id, _| is_there(id));
        for instance in instances {
            match self.before.get(&instance.id) {
                // It has said nothing new.
                Some(before) if before.at == instance.at => continue,
                // Its host's clock was set back: how much time has passed is not known.
                Some(before) if before.at > instance.at => {
                    self.growth.remove(&instance.id);
                }
                Some(before) => {
                    let grown = Growth::between(before, instance);
                    self.growth.insert(instance.id.clone(), grown);
                }
                None => {}
            }
            self.before.insert(instance.id.clone(), instance.clone());
        }
    }

    /// What all clients did lately.
    pub(super) fn traffic(&self, instances: &[Published]) -> Traffic {
        let mut traffic = Traffic::default();
        let mut latency = Latency::default();
        for growth in self.growth.values() {
            traffic.calls_per_second += number(growth.calls) / growth.seconds;
            traffic.errors_per_second += number(growth.errors) / growth.seconds;
            latency.add(&growth.latency);
        }
        (traffic.p50, traffic.p99) = (latency.quantile(0.5), latency.quantile(0.99));
        let breakers = instances.iter().flat_map(|instance| &instance.clients);
        let worst = breakers.map(|client| match client.breaker.as_str() {
            "open" | "forced_open" => 2,
            "half_open" => 1,
            _ => 0,
        });
        traffic.breaker = worst.max().unwrap_or_default();
        traffic
    }
}

impl Growth {
    fn between(before: &Published, now: &Published) -> Self {
        let mut growth = Self {
            seconds: seconds_between(before.at, now.at),
            ..Self::default()
        };
        for client in &now.clients {
            let earlier = before
                .clients
                .iter()
                .find(|other| other.name == client.name);
            let Some(earlier) = earlier else { continue };
            growth.calls += client.calls.saturating_sub(earlier.calls);
            growth.errors += client.errors.saturating_sub(earlier.errors);
            let read = |client: &ClientState| Latency::from_buckets(client.latency.iter().copied());
            growth.latency.add(&read(client).since(&read(earlier)));
        }
        let (earlier, latest) = (Counts::of(before), Counts::of(now));
        for (key, latest) in latest {
            // One that was made or has ended meanwhile would look like growth.
            let Some(earlier) = earlier.get(&key).filter(|e| e.objects == latest.objects) else {
                continue;
            };
            let grown = latest.sums.iter().filter_map(|(name, sum)| {
                let grown = sum.checked_sub(*earlier.sums.get(name)?)?;
                let rate = json!(number(grown) / growth.seconds);
                (grown > 0).then(|| ((*name).to_owned(), rate))
            });
            let grown: Map<_, _> = grown.collect();
            let (kind, name) = key;
            growth
                .objects
                .insert((kind.to_owned(), name.to_owned()), grown);
        }
        growth
    }
}

/// The counts of the objects of one kind and name in an instance, together.
#[derive(Default)]
struct Counts<'p> {
    objects: usize,
    sums: HashMap<&'p str, u64>,
}

impl<'p> Counts<'p> {
    /// By kind and name.
    fn of(instance: &'p Published) -> HashMap<(&'p str, &'p str), Self> {
        let mut all: HashMap<_, Self> = HashMap::new();
        for state in &instance.objects {
            let counts = all.entry((&*state.kind, &*state.name)).or_default();
            counts.objects += 1;
            for (name, value) in &state.facts {
                if let Some(value) = value.as_u64() {
                    let sum = counts.sums.entry(name).or_default();
                    *sum = sum.saturating_add(value);
                }
            }
        }
        all
    }
}

#[allow(clippy::cast_precision_loss, reason = "shown to people")]
fn number(count: u64) -> f64 {
    count as f64
}

#[allow(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "it only orders"
)]
fn whole(number: f64) -> u64 {
    number as u64
}

fn seconds_between(before: u64, now: u64) -> f64 {
    (number(now.saturating_sub(before)) / 1e3).max(0.1)
}

fn rounded(number: f64) -> f64 {
    (number * 10.0).round() / 10.0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn instance(id: &str, at: u64, calls: u64) -> Published {
        let facts = |hits: u64| match json!({ "hits": hits, "is_paused": hits == 100, "oldest": 1.5 })
        {
            Value::Object(facts) => facts,
            _ => Map::new(),
        };
        Published {
            id: id.to_owned(),
            at,
            clients: vec![ClientState {
                name: "redis".to_owned(),
                calls,
                latency: vec![(1, calls)],
                ..ClientState::default()
            }],
            objects: vec![ObjectState {
                kind: "cache".to_owned(),
                name: "products".to_owned(),
                facts: facts(calls),
                ..ObjectState::default()
            }],
            ..Published::default()
        }
    }

    #[test]
    fn objects_of_one_name_are_one_and_rates_come_from_two_snapshots() {
        let mut rates = Rates::default();
        let fleet = Fleet::of(
            vec![instance("a", 1_000, 100), instance("b", 1_000, 50)],
            &mut rates,
        );
        let object = &fleet.objects[0];
        assert_eq!(object.facts["hits"], 150);
        assert_eq!(object.facts["is_paused"], true);
        assert_eq!((object.each.len(), object.rates.len()), (2, 0));
        assert_eq!(rates.traffic(&fleet.instances).calls_per_second, 0.0);

        let fleet = Fleet::of(
            vec![instance("a", 3_000, 300), instance("b", 1_000, 50)],
            &mut rates,
        );
        assert_eq!(fleet.objects[0].rates["hits"], 100.0);
        let traffic = rates.traffic(&fleet.instances);
        assert_eq!(
            (traffic.calls_per_second, traffic.p50),
            (100.0, Some(Duration::from_micros(1)))
        );
        // Nothing new: the last growth stands.
        let fleet = Fleet::of(vec![instance("a", 3_000, 300)], &mut rates);
        assert_eq!(rates.traffic(&fleet.instances).calls_per_second, 100.0);
        // A program that began anew counts from zero.
        let fleet = Fleet::of(vec![instance("a", 4_000, 10)], &mut rates);
        assert_eq!(rates.traffic(&fleet.instances).calls_per_second, 0.0);
    }

    /// As two consumers of a group, or two caches of one name.
    #[test]
    fn two_objects_of_one_name_in_one_process_grow_together() {
        let of = |at, busy, idle| {
            let (mut first, second) = (instance("a", at, busy), instance("a", at, idle));
            first.objects.extend(second.objects);
            first
        };
        for is_reversed in [false, true] {
            let mut rates = Rates::default();
            for (at, busy) in [(1_000, 1_000), (2_000, 1_100)] {
                let (one, other) = if is_reversed { (0, busy) } else { (busy, 0) };
                let fleet = Fleet::of(vec![of(at, one, other)], &mut rates);
                if at == 2_000 {
                    assert_eq!(fleet.objects[0].rates["hits"], 100.0, "{is_reversed}");
                }
            }
        }
    }

    #[test]
    fn an_object_that_is_made_or_ends_between_two_looks_is_no_growth() {
        let with_another = |at, count| {
            let (mut first, second) = (instance("a", at, count), instance("a", at, 1_000_000));
            first.objects.extend(second.objects);
            first
        };
        let mut rates = Rates::default();
        Fleet::of(vec![instance("a", 1_000, 100)], &mut rates);
        let made = Fleet::of(vec![with_another(2_000, 200)], &mut rates);
        assert_eq!(made.objects[0].rates.get("hits"), None);
        let both = Fleet::of(vec![with_another(3_000, 300)], &mut rates);
        assert_eq!(both.objects[0].rates["hits"], 100.0);
        let ended = Fleet::of(vec![instance("a", 4_000, 2_000_000)], &mut rates);
        assert_eq!(ended.objects[0].rates.get("hits"), None);
    }

    #[test]
    fn rates_go_on_when_the_clock_of_a_host_is_set_back() {
        let mut rates = Rates::default();
        Fleet::of(vec![instance("a", 9_000, 100)], &mut rates);
        Fleet::of(vec![instance("a", 10_000, 200)], &mut rates);
        let fleet = Fleet::of(vec![instance("a", 3_000, 300)], &mut rates);
        assert_eq!(rates.traffic(&fleet.instances).calls_per_second, 0.0);
        let fleet = Fleet::of(vec![instance("a", 5_000, 700)], &mut rates);
        assert_eq!(rates.traffic(&fleet.instances).calls_per_second, 200.0);
    }

    #[test]
    fn a_dependency_is_as_bad_as_in_the_worst_instance() {
        let state = |status: &str, since| DependencyState {
            name: "orders".to_owned(),
            status: status.to_owned(),
            since,
            ..DependencyState::default()
        };
        let mut dependency = Dependency::default();
        for state in [
            state("pass", 5),
            state("fail", 9),
            state("fail", 7),
            state("warn", 1),
        ] {
            dependency.add(&state);
        }
        let read = (dependency.worst.status.as_str(), dependency.worst.since);
        assert_eq!(
            (read, dependency.affected, dependency.instances),
            (("fail", 7), 2, 4)
        );
    }
}
