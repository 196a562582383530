//! Caches as core's [`Inspect`]: what monitoring and the command line see of them, and can do.

use std::sync::Weak;

use async_trait::async_trait;
use redkit_core::Inspect;
use redkit_core::inspection::{Action, InspectError, Snapshot};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::cache::{Cache, Inner};
use crate::error::Error;

// A removed value is loaded again when a caller asks for it: nothing is lost for good.
const ACTIONS: &[Action] = &[
    Action {
        name: "invalidate",
        argument: "the key, as calls name it",
        description: "Removes the value of a key, in Redis and in every process.",
        is_destructive: false,
    },
    Action {
        name: "invalidate_tag",
        argument: "the tag",
        description: "Removes all values with a tag, in Redis and in every process.",
        is_destructive: false,
    },
    Action {
        name: "clear",
        argument: "",
        description: "Removes all values of the cache, in Redis and in every process: everything is loaded again.",
        is_destructive: false,
    },
];

/// A cache as it is looked at. The cache keeps this, and is not kept by it: whoever looks does not prolong
/// its loads.
pub(crate) struct InspectedCache<V> {
    cache: Weak<Inner<V>>,
    name: Box<str>,
}

impl<V> InspectedCache<V> {
    pub(crate) fn new(cache: Weak<Inner<V>>, name: &str) -> Self {
        let name = name.into();
        Self { cache, name }
    }
}

#[async_trait]
impl<V: Serialize + DeserializeOwned + Send + Sync + 'static> Inspect for InspectedCache<V> {
    fn kind(&self) -> &'static str {
        "cache"
    }

    fn name(&self) -> String {
        self.name.clone().into()
    }

    fn snapshot(&self) -> Snapshot {
        let Some(inner) = self.cache.upgrade() else {
            return Snapshot::default().fact("state", "gone");
        };
        let stats = Cache { inner }.stats();
        Snapshot::default()
            .fact("hit_rate", stats.hit_rate())
            .fact("l1_hits", stats.l1_hits)
            .fact("hits", stats.hits)
            .fact("misses", stats.misses)
            .fact("stale", stats.stale)
            .fact("bypasses", stats.bypasses)
            .fact("loads", stats.loads)
            .fact("load_failures", stats.load_failures)
            .fact("shared", stats.shared)
            .fact("waits", stats.waits)
            .fact("refreshes", stats.refreshes)
            .fact("overloads", stats.overloads)
            .fact("fenced", stats.fenced)
            .fact("fill_failures", stats.fill_failures)
            .fact("decode_failures", stats.decode_failures)
            .fact("l1_entries", stats.l1_entries)
    }

    fn actions(&self) -> &'static [Action] {
        ACTIONS
    }

    async fn act(&self, action: &str, argument: &str) -> Result<String, InspectError> {
        let Some(inner) = self.cache.upgrade() else {
            return Err(InspectError::Failed("the cache is gone".into()));
        };
        let cache = Cache { inner };
        match action {
            "invalidate" => {
                let was_there = cache.invalidate(argument).await?;
                Ok(match was_there {
                    true => "the value is removed".to_owned(),
                    false => "there was no value of this key".to_owned(),
                })
            }
            "invalidate_tag" if argument.is_empty() => {
                Err(InspectError::Argument("a tag is expected".into()))
            }
            "invalidate_tag" => {
                cache.invalidate_tag(argument).await?;
                Ok("all values with this tag are removed".to_owned())
            }
            "clear" => {
                cache.clear().await?;
                Ok("all values are removed".to_owned())
            }
            _ => Err(InspectError::UnknownAction {
                kind: self.kind(),
                action: action.into(),
            }),
        }
    }
}

impl From<Error> for InspectError {
    fn from(error: Error) -> Self {
        match error {
            Error::Core(error) => InspectError::Core(error),
            other => InspectError::Failed(other.to_string().into()),
        }
    }
}
