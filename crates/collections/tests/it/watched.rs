//! [`Watched`]: a fixture's backend that is watched, and interfered with.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use redkit_core::{Client, Command, Topology, Value};
use redkit_testkit::{FaultyBackend, Fixture, Injection, Rule};

/// A client whose calls are watched.
pub(crate) struct Watched {
    pub(crate) client: Client,
    backend: Arc<FaultyBackend>,
    /// Commands by name, with the number of items in the reply.
    calls: Arc<Mutex<Vec<(String, usize)>>>,
}

impl Watched {
    pub(crate) fn new(fixture: &Fixture) -> Self {
        let backend = FaultyBackend::new(fixture.client.backend().clone());
        let calls: Arc<Mutex<Vec<_>>> = Arc::default();
        backend.observe({
            let calls = Arc::clone(&calls);
            move |command, reply| {
                let count = reply.as_ref().map_or(0, items);
                let call = (command.name().to_owned(), count);
                calls.lock().unwrap().push(call);
            }
        });
        // Patient, because what is watched can be large, and the machine busy.
        let patience = Duration::from_secs(30);
        let config = fixture.config().unwrap().command_timeout(patience);
        Self {
            client: backend.client_with(&config),
            backend,
            calls,
        }
    }

    /// Carries out another command before every command of this name, which is made of how often that has
    /// happened.
    pub(crate) fn before(
        &self,
        name: &'static str,
        command: impl Fn(u64) -> Command + Send + Sync + 'static,
    ) {
        let count = AtomicU64::new(0);
        let next = move |_: &Command| command(count.fetch_add(1, Ordering::Relaxed) + 1);
        let rule = Rule::new(Injection::precede(next)).on_name(name);
        self.backend.set(rule);
    }

    /// From now on it takes so long to make a connection of one's own; in a cluster it is made by
    /// the first call on it.
    pub(crate) fn connects_slowly(&self, time: Duration, like_a_cluster: bool) {
        let rule = Rule::new(Injection::DelayRequest(time));
        if like_a_cluster {
            self.backend.set_topology(Topology::Cluster);
            self.backend.set(rule.on_first_call());
        } else {
            self.backend.set(rule.on_name("CONNECT"));
        }
    }

    /// The names of the commands that may be repeated when no answer came, and of those that may
    /// not.
    pub(crate) fn repeatable(&self) -> [BTreeSet<String>; 2] {
        let seen = self.backend.seen_alone();
        let names = |may_be: bool| {
            let meant = seen
                .iter()
                .filter(|command| command.is_idempotent() == may_be);
            meant.map(|command| command.name().to_owned()).collect()
        };
        [names(true), names(false)]
    }

    /// The calls since this was last asked: their names, and the numbers of items in their replies.
    pub(crate) fn calls(&self) -> Vec<(String, usize)> {
        std::mem::take(&mut *self.calls.lock().unwrap())
    }
}

/// The items of a reply, however deep they lie.
fn items(value: &Value) -> usize {
    match value {
        Value::Array(items) | Value::Set(items) => items.iter().map(self::items).sum(),
        Value::Map(pairs) => pairs.len() * 2,
        _ => 1,
    }
}
