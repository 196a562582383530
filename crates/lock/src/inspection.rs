//! Locks held here and in other processes, for programs that look at this one: see [`Inspect`].

use std::sync::{Arc, Weak};
use std::time::SystemTime;

use async_trait::async_trait;
use bytes::Bytes;
use redkit_core::inspection::{Action, Fact, InspectError, Item, List, Page, Query, Snapshot};
use redkit_core::{Command, Inspect, Pattern, Request};

use crate::error::Error;
use crate::fence::Fence;
use crate::manager::{Inner, Purpose};
use crate::scripts;

const ACTIONS: &[Action] = &[Action {
    name: "force_release",
    argument: "the holder's fence, a space, and the key as it is shown",
    description: "Takes a lock away from its holder, if that is still the one with this fence, and wakes the next. \
                  Until the holder's next renewal both may work.",
    is_destructive: true,
}];

const LISTS: &[List] = &[List {
    name: "locks",
    filter: "",
    description: "The locks that are taken, in all processes. The server goes through its keys for it.",
}];

/// How many pages of keys one page of the list goes through at most: among many other keys it may be short.
const MOST_SCANS: usize = 20;

#[async_trait]
impl Inspect for Inner {
    fn kind(&self) -> &'static str {
        "locks"
    }

    fn name(&self) -> String {
        self.name.to_string()
    }

    fn snapshot(&self) -> Snapshot {
        let held = self.registry.count();
        let mut snapshot = facts(self, held).fact("is_fair", self.settings.is_fair);
        let shown = self.registry.some(Snapshot::MOST_ITEMS);
        snapshot.omitted += held.saturating_sub(shown.len());
        for held in shown.iter().filter_map(Weak::upgrade) {
            for (key, fence) in held.fences() {
                snapshot.push(vec![
                    ("key", Fact::from(key.escape_ascii().to_string())),
                    ("fence", Fact::from(fence.get())),
                    ("held_for", Fact::from(held.since().elapsed())),
                    ("remaining", Fact::from(held.remaining())),
                    ("is_lost", Fact::from(held.is_lost())),
                ]);
            }
        }
        snapshot
    }

    fn lists(&self) -> &'static [List] {
        LISTS
    }

    async fn list(&self, list: &str, query: &Query) -> Result<Page, InspectError> {
        if list != "locks" {
            return Err(InspectError::UnknownList {
                kind: self.kind(),
                list: list.into(),
            });
        }
        let mut cursor = match query.cursor.as_str() {
            "" => 0,
            text => text.parse().map_err(|_| {
                InspectError::Argument("the cursor is that of the page before".into())
            })?,
        };
        let wanted = query.wanted();
        let mut page = Page::default();
        // A server gives as many keys as it looks at; it looks at more where there are few locks among them.
        let mut look_at = u32::try_from(wanted).unwrap_or(u32::MAX);
        for _ in 0..MOST_SCANS {
            let prefix = format!("lock:{}:{{", self.name);
            let locks = Pattern::starting(prefix).any().literal("}");
            let scan = self.client.scan(locks).page(look_at);
            let (keys, next) = scan.page_from(cursor).await?;
            if keys.is_empty() {
                look_at = (look_at * 4).min(5_000);
            }
            page.items.extend(self.items(keys).await?);
            page.next = next.map(|next| next.to_string());
            match next {
                Some(next) if page.items.len() < wanted => cursor = next,
                _ => break,
            }
        }
        Ok(page)
    }

    fn actions(&self) -> &'static [Action] {
        ACTIONS
    }

    async fn act(&self, action: &str, argument: &str) -> Result<String, InspectError> {
        if action != "force_release" {
            return Err(unknown(self.kind(), action));
        }
        let (fence, key) = key_and_fence(argument)?;
        let keys = self.keys(key);
        match scripts::force_release(&self.client, &keys, fence, &self.channel).await {
            Ok(true) => Ok("the lock was taken away from its holder".to_owned()),
            Ok(false) => Ok("the lock is free, or has another holder; nothing was done".to_owned()),
            Err(error) => Err(failed(error)),
        }
    }
}

impl Inner {
    /// The locks at these keys, as far as they are still taken.
    async fn items(&self, keys: Vec<Bytes>) -> Result<Vec<Item>, redkit_core::Error> {
        let locks = keys.into_iter().filter_map(|key| {
            let key = self.client.key(key);
            match self.keyspace.parse(key.as_bytes())? {
                (user, None) => Some(self.keys(user.into())),
                _ => None,
            }
        });
        let locks: Vec<_> = locks.collect();
        let requests = locks.iter().flat_map(|keys| {
            let waiting = Command::new("ZCARD").key(&keys.queue).idempotent(true);
            [
                Request::from(scripts::inspect_call(&keys.lock)),
                waiting.into(),
            ]
        });
        let mut replies = self.client.eval_all(requests).await?.into_iter();
        let mut items = Vec::with_capacity(locks.len());
        for keys in &locks {
            let (Some(Ok(held)), Some(waiting)) = (replies.next(), replies.next()) else {
                continue;
            };
            let Some(holder) = scripts::read_inspected(held)? else {
                continue;
            };
            let waiting = waiting.ok().and_then(|count| count.to::<u64>().ok());
            let key = keys.user.escape_ascii().to_string();
            let held_for = SystemTime::now().duration_since(holder.since);
            let mut item = Item::default()
                .fact("key", key.as_str())
                .fact("holder", holder.label.as_deref().unwrap_or_default())
                .fact("host", &*holder.host)
                .fact("process", u64::from(holder.process))
                .fact("fence", holder.fence.get())
                .fact("held_for", held_for.unwrap_or_default())
                .fact("is_resting", holder.is_resting)
                .fact("waiting", waiting.unwrap_or_default());
            if let Some(left) = holder.expires_in {
                item = item.fact("remaining", left);
            }
            items.push(item.action("force_release", format!("{} {key}", holder.fence)));
        }
        Ok(items)
    }
}

/// The facts of a manager's locks, of every kind.
pub(crate) fn facts(locks: &Purpose, held: usize) -> Snapshot {
    let stats = locks.metrics.read(held);
    Snapshot::default()
        .fact("held", stats.held)
        .fact("waiting", stats.waiting)
        .fact("acquired", stats.acquired)
        .fact("taken", stats.taken)
        .fact("failed", stats.failed)
        .fact("renewed", stats.renewed)
        .fact("lost", stats.lost)
        .fact("ttl", locks.settings.ttl)
}

pub(crate) fn unknown(kind: &'static str, action: &str) -> InspectError {
    InspectError::UnknownAction {
        kind,
        action: action.into(),
    }
}

/// An action that could not be carried out.
pub(crate) fn failed(error: Error) -> InspectError {
    match error {
        Error::Core(error) => error.into(),
        other => InspectError::Failed(other.to_string().into()),
    }
}

/// What an action is given: a fence, a space, and a key as it is shown.
pub(crate) fn key_and_fence(argument: &str) -> Result<(Fence, Bytes), InspectError> {
    let named = argument.split_once(' ');
    let named = named.and_then(|(fence, text)| Some((fence.parse().ok()?, text)));
    let Some((fence, text)) = named.filter(|(_, text)| !text.is_empty()) else {
        let expected = "give the holder's fence, a space, and the key as it is shown";
        return Err(InspectError::Argument(expected.into()));
    };
    Ok((Fence::new(fence), key(text)?))
}

/// A key as it is shown.
pub(crate) fn key(text: &str) -> Result<Bytes, InspectError> {
    match unescape(text) {
        Some(key) if !key.is_empty() => Ok(key.into()),
        Some(_) => Err(InspectError::Argument("give the key as it is shown".into())),
        None => {
            let expected = "write the key as it is shown: a backslash begins \\\\, \\n, \\r, \\t, \\', \\\" or \\x41";
            Err(InspectError::Argument(expected.into()))
        }
    }
}

/// The opposite of [`escape_ascii`](slice::escape_ascii), which leaves other text as it is; nothing for an escape that
/// there is not.
fn unescape(text: &str) -> Option<Vec<u8>> {
    let mut key = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        if byte != b'\\' {
            key.push(byte);
            continue;
        }
        key.push(match rest.next()? {
            b'n' => b'\n',
            b'r' => b'\r',
            b't' => b'\t',
            b'x' => hex_digit(rest.next()?)? << 4 | hex_digit(rest.next()?)?,
            quoted @ (b'\\' | b'\'' | b'"') => quoted,
            _ => return None,
        });
    }
    Some(key)
}

fn hex_digit(byte: u8) -> Option<u8> {
    let digit = char::from(byte).to_digit(16)?;
    u8::try_from(digit).ok()
}

/// Makes a manager visible, for as long as it or a guard of it is left.
pub(crate) fn register(inner: &Arc<Inner>) {
    let object: Arc<dyn Inspect> = Arc::clone(inner) as _;
    inner.client.register(Arc::downgrade(&object));
}
