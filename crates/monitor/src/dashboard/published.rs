//! [`Published`]: what an instance says of itself, as it stands in Redis.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use redkit_core::Client;
use redkit_core::inspection::{Fact, Inspect, Item, Page, Snapshot};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

/// What an instance says of itself. Bounded: see [`MOST_BYTES`].
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Published {
    pub(super) id: String,
    pub(super) program: String,
    pub(super) host: String,
    pub(super) process: u32,
    /// When it began, and when it said this (ms since 1970).
    pub(super) started: u64,
    pub(super) at: u64,
    pub(super) dependencies: Vec<DependencyState>,
    pub(super) clients: Vec<ClientState>,
    pub(super) objects: Vec<ObjectState>,
    /// What objects have in common, once for all of them.
    pub(super) classes: Vec<Class>,
    /// Objects that had no room.
    pub(super) left_out: usize,
}

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct DependencyState {
    pub(super) name: String,
    /// `pass`, `warn`, `fail`
    pub(super) status: String,
    pub(super) is_hard: bool,
    /// Since when it has this status (ms since 1970).
    pub(super) since: u64,
    pub(super) cause: String,
}

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct ClientState {
    pub(super) name: String,
    pub(super) is_connected: bool,
    pub(super) topology: String,
    pub(super) breaker: String,
    pub(super) in_flight: u64,
    /// Counted since the start.
    pub(super) calls: u64,
    pub(super) errors: u64,
    /// As [`Latency::buckets`](redkit_core::Latency::buckets), since the start.
    pub(super) latency: Vec<(usize, u64)>,
}

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct ObjectState {
    pub(super) kind: String,
    pub(super) name: String,
    pub(super) client: String,
    pub(super) facts: Map<String, Value>,
    pub(super) items: Vec<Map<String, Value>>,
    pub(super) omitted: usize,
    /// What stands at the server, for all processes; while somebody watches.
    pub(super) measured: Map<String, Value>,
    pub(super) measure_error: String,
    #[serde(skip)]
    pub(super) class: Arc<Class>,
    /// Where the class stands among [`Published::classes`], as text only.
    pub(super) class_at: usize,
}

/// What an object can do and list, which is the same for all of its kind, or nearly.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Class {
    pub(super) actions: Vec<ActionState>,
    pub(super) lists: Vec<ListState>,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct ActionState {
    pub(super) name: String,
    pub(super) argument: String,
    pub(super) description: String,
    pub(super) is_destructive: bool,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct ListState {
    pub(super) name: String,
    pub(super) filter: String,
    pub(super) description: String,
}

/// The most that an instance publishes.
const MOST_BYTES: usize = 1024 * 1024;
/// The most objects, and items of each.
const MOST_OBJECTS: usize = 2_000;
const MOST_ITEMS: usize = 30;

impl Published {
    /// As text, without items and at last without objects that have no room.
    pub(super) fn encode(mut self) -> Vec<u8> {
        self.left_out = self.objects.len().saturating_sub(MOST_OBJECTS);
        self.objects.truncate(MOST_OBJECTS);
        for object in &mut self.objects {
            object.class_at = place_of(&object.class, &mut self.classes);
        }
        let encode = |published: &Self| serde_json::to_vec(published).unwrap_or_default();
        let mut text = encode(&self);
        if text.len() > MOST_BYTES {
            for object in &mut self.objects {
                object.omitted += object.items.len();
                object.items.clear();
            }
            text = encode(&self);
        }
        while text.len() > MOST_BYTES && !self.objects.is_empty() {
            let kept = self.objects.len() / 2;
            self.left_out += self.objects.len() - kept;
            self.objects.truncate(kept);
            text = encode(&self);
        }
        text
    }

    /// Reads what an instance has published; nothing for a text of another kind.
    pub(super) fn decode(text: &[u8]) -> Option<Self> {
        let mut published = serde_json::from_slice::<Self>(text).ok()?;
        let classes: Vec<_> = published.classes.drain(..).map(Arc::new).collect();
        for object in &mut published.objects {
            if let Some(class) = classes.get(object.class_at) {
                object.class = Arc::clone(class);
            }
        }
        Some(published).filter(|published| !published.id.is_empty())
    }
}

/// Where a class stands among others, to which it is added when it is new: they are few.
pub(super) fn place_of(class: &Class, classes: &mut Vec<Class>) -> usize {
    let known = classes.iter().position(|known| known == class);
    known.unwrap_or_else(|| {
        classes.push(class.clone());
        classes.len() - 1
    })
}

impl ClientState {
    pub(super) fn of(name: &str, client: &Client) -> Self {
        let stats = client.stats();
        let status = client.breaker().status();
        Self {
            name: name.to_owned(),
            is_connected: client.state().borrow().is_connected(),
            topology: format!("{:?}", client.topology()).to_lowercase(),
            breaker: status.state.as_str().to_owned(),
            in_flight: stats.in_flight,
            calls: stats.calls(),
            errors: stats.refused + stats.not_sent + stats.unknown,
            latency: client.latency().buckets().collect(),
        }
    }
}

impl ObjectState {
    /// How an object stands; nothing for one whose snapshot panics.
    pub(super) fn of(client: &str, object: &dyn Inspect) -> Option<Self> {
        let read = || {
            let snapshot = object.snapshot();
            let actions = object.actions().iter().map(|action| ActionState {
                name: action.name.to_owned(),
                argument: action.argument.to_owned(),
                description: action.description.to_owned(),
                is_destructive: action.is_destructive,
            });
            let lists = object.lists().iter().map(|list| ListState {
                name: list.name.to_owned(),
                filter: list.filter.to_owned(),
                description: list.description.to_owned(),
            });
            let shown = snapshot.items.iter().take(MOST_ITEMS);
            Self {
                kind: object.kind().to_owned(),
                name: object.name(),
                client: client.to_owned(),
                items: shown.map(|item| facts(item)).collect(),
                omitted: snapshot.omitted + snapshot.items.len().saturating_sub(MOST_ITEMS),
                facts: facts(&snapshot.facts),
                class: Arc::new(Class {
                    actions: actions.collect(),
                    lists: lists.collect(),
                }),
                ..Self::default()
            }
        };
        catch_unwind(AssertUnwindSafe(read)).ok()
    }

    pub(super) fn measured(&mut self, measured: &Snapshot) {
        self.measured = facts(&measured.facts);
    }
}

/// Facts as an object of JSON.
pub(super) fn facts(facts: &[(&'static str, Fact)]) -> Map<String, Value> {
    let values = facts.iter().map(|(name, fact)| {
        let value = match fact {
            Fact::Count(count) => json!(count),
            Fact::Number(number) => json!(number),
            Fact::Text(text) => json!(text),
            Fact::Flag(flag) => json!(flag),
            _ => Value::Null,
        };
        ((*name).to_owned(), value)
    });
    values.collect()
}

/// A page of a list as JSON, with what not every reader may see only when `payloads` is.
pub(super) fn page_json(page: &Page, payloads: bool) -> Value {
    let item = |item: &Item| {
        let mut json = json!({ "facts": facts(&item.facts), "actions": item.actions });
        if let (true, Some(json)) = (payloads, json.as_object_mut()) {
            json.insert("payload".to_owned(), Value::Object(facts(&item.payload)));
        }
        json
    };
    let items: Vec<_> = page.items.iter().map(item).collect();
    json!({ "items": items, "next": page.next, "hidden": !payloads && page.items.iter().any(|item| !item.payload.is_empty()) })
}

/// The time in ms since 1970.
pub(super) fn millis(time: SystemTime) -> u64 {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_has_no_room_is_left_out_and_counted() {
        let item: Map<_, _> = [("key".to_owned(), json!("x".repeat(400)))]
            .into_iter()
            .collect();
        let class = |n: usize| Class {
            lists: vec![ListState {
                name: format!("list {}", n % 2),
                ..ListState::default()
            }],
            ..Class::default()
        };
        let object = |n: usize| ObjectState {
            kind: "locks".to_owned(),
            name: format!("{n}{}", "y".repeat(500)),
            items: vec![item.clone(); 30],
            class: Arc::new(class(n)),
            ..ObjectState::default()
        };
        let published = Published {
            id: "a".to_owned(),
            objects: (0..3_000).map(object).collect(),
            ..Published::default()
        };
        let text = published.encode();
        assert!(text.len() <= MOST_BYTES, "{}", text.len());
        let read = Published::decode(&text).unwrap();
        assert_eq!(read.objects.len() + read.left_out, 3_000);
        assert!((0..read.objects.len()).all(|n| *read.objects[n].class == class(n)));
        assert!(read.objects.iter().all(|object| object.omitted == 30));
        assert!(Published::decode(b"[]").is_none() && Published::decode(b"{}").is_none());
    }

    #[test]
    fn a_page_shows_payloads_only_to_readers_who_may_see_them() {
        let item = Item::default().fact("id", "a").payload("payload", "secret");
        let page = Page {
            items: vec![item],
            next: None,
        };
        assert!(!page_json(&page, false).to_string().contains("secret"));
        assert_eq!(page_json(&page, false)["hidden"], true);
        assert_eq!(
            page_json(&page, true)["items"][0]["payload"]["payload"],
            "secret"
        );
    }
}
