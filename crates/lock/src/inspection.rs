//! Locks held here, for whoever looks at the program: see [`Inspect`].

use std::sync::Arc;

use async_trait::async_trait;
use redkit_core::Inspect;
use redkit_core::inspection::{Action, Fact, InspectError, Snapshot};

use crate::error::Error;
use crate::fence::Fence;
use crate::manager::Inner;
use crate::scripts;

const ACTIONS: &[Action] = &[Action {
    name: "force_release",
    argument: "the holder's fence, a space, and the key as it is shown",
    description: "Takes a lock away from its holder, if that is still the one with this fence, and wakes the next. \
                  Until the holder's next renewal both may work.",
    is_destructive: true,
}];

#[async_trait]
impl Inspect for Inner {
    fn kind(&self) -> &'static str {
        "locks"
    }

    fn name(&self) -> String {
        self.name.to_string()
    }

    fn snapshot(&self) -> Snapshot {
        let stats = self.metrics.read(self.registry.count());
        let mut snapshot = Snapshot::default()
            .fact("held", stats.held)
            .fact("waiting", stats.waiting)
            .fact("acquired", stats.acquired)
            .fact("taken", stats.taken)
            .fact("failed", stats.failed)
            .fact("renewed", stats.renewed)
            .fact("lost", stats.lost)
            .fact("ttl", self.settings.ttl)
            .fact("is_fair", self.settings.is_fair);
        let shown = self.registry.some(Snapshot::MOST_ITEMS);
        for held in &shown {
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
        snapshot.omitted += stats.held.saturating_sub(shown.len());
        snapshot
    }

    fn actions(&self) -> &'static [Action] {
        ACTIONS
    }

    async fn act(&self, action: &str, argument: &str) -> Result<String, InspectError> {
        if action != "force_release" {
            return Err(InspectError::UnknownAction {
                kind: self.kind(),
                action: action.into(),
            });
        }
        let named = argument.split_once(' ');
        let named = named.and_then(|(fence, key)| Some((fence.parse().ok()?, key)));
        let Some((fence, key)) = named.filter(|(_, key)| !key.is_empty()) else {
            let expected = "give the holder's fence, a space, and the key as it is shown";
            return Err(InspectError::Argument(expected.into()));
        };
        let Some(key) = unescape(key) else {
            let expected = "write the key as it is shown: a backslash begins \\\\, \\n, \\r, \\t, \\', \\\" or \\x41";
            return Err(InspectError::Argument(expected.into()));
        };
        let keys = self.keys(key.into());
        let fence = Fence::new(fence);
        match scripts::force_release(&self.client, &keys, fence, &self.channel).await {
            Ok(true) => Ok("the lock was taken away from its holder".to_owned()),
            Ok(false) => Ok("the lock is free, or has another holder; nothing was done".to_owned()),
            Err(Error::Core(error)) => Err(error.into()),
            Err(other) => Err(InspectError::Failed(other.to_string().into())),
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
