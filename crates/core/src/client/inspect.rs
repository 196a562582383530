//! What can be looked at of a client: itself, its breaker, and the objects that registered with it.

use std::sync::{Arc, Weak};

use async_trait::async_trait;

use super::Client;
use super::coordination::WeakClient;
use crate::breaker::Breakers;
use crate::inspection::{Action, Inspect, InspectError, Snapshot};

impl Client {
    /// Makes an object visible to [`inspect`](Self::inspect), for as long as somebody holds it.
    pub fn register(&self, object: Weak<dyn Inspect>) {
        self.calls.coordination.registry.register(object);
    }

    /// What uses this client and its clones: the client itself, its breaker, and every object that
    /// registered.
    pub fn inspect(&self) -> Vec<Arc<dyn Inspect>> {
        let client = InspectedClient(self.downgrade(), self.breaker().name().to_owned());
        let breaker = InspectedBreaker(self.breaker().clone());
        let own: [Arc<dyn Inspect>; 2] = [Arc::new(client), Arc::new(breaker)];
        let registered = self.calls.coordination.registry.all();
        own.into_iter().chain(registered).collect()
    }
}

struct InspectedClient(WeakClient, String);

#[async_trait]
impl Inspect for InspectedClient {
    fn kind(&self) -> &'static str {
        "client"
    }

    fn name(&self) -> String {
        self.1.clone()
    }

    fn snapshot(&self) -> Snapshot {
        let Some(client) = self.0.upgrade() else {
            return Snapshot::default().fact("state", "gone");
        };
        let stats = client.stats();
        let state = client.state();
        let is_connected = state.borrow().is_connected();
        Snapshot::default()
            .fact(
                "topology",
                format!("{:?}", client.topology()).to_lowercase(),
            )
            .fact("is_connected", is_connected)
            .fact("state", format!("{:?}", &*state.borrow()))
            .fact("answered", stats.answered)
            .fact("refused", stats.refused)
            .fact("not_sent", stats.not_sent)
            .fact("unknown", stats.unknown)
            .fact("retries", stats.retries)
            .fact("in_flight", stats.in_flight)
            .fact("held_leases", client.held_leases())
    }
}

struct InspectedBreaker(Breakers);

const BREAKER_ACTIONS: &[Action] = &[
    Action {
        name: "force_open",
        argument: "",
        description: "Refuses every call until it is reset.",
        is_destructive: false,
    },
    Action {
        name: "force_closed",
        argument: "",
        description: "Lets every call through until it is reset, whatever fails.",
        is_destructive: false,
    },
    Action {
        name: "reset",
        argument: "",
        description: "Closes the breaker and forgets what it counted.",
        is_destructive: false,
    },
];

#[async_trait]
impl Inspect for InspectedBreaker {
    fn kind(&self) -> &'static str {
        "breaker"
    }

    fn name(&self) -> String {
        self.0.name().to_owned()
    }

    fn snapshot(&self) -> Snapshot {
        let status = self.0.status();
        Snapshot::default()
            .fact("state", format!("{:?}", status.state))
            .fact("since", status.since.elapsed())
            .fact("failure_rate", status.failure_rate)
            .fact("slow_call_rate", status.slow_call_rate)
            .fact("calls", status.calls)
            .fact("failures", status.failures)
            .fact("slow_calls", status.slow_calls)
            .fact("not_permitted", status.not_permitted)
            .fact("in_flight", status.in_flight)
    }

    fn actions(&self) -> &'static [Action] {
        BREAKER_ACTIONS
    }

    async fn act(&self, action: &str, _: &str) -> Result<String, InspectError> {
        match action {
            "force_open" => self.0.force_open(),
            "force_closed" => self.0.force_closed(),
            "reset" => self.0.reset(),
            _ => {
                return Err(InspectError::UnknownAction {
                    kind: self.kind(),
                    action: action.into(),
                });
            }
        }
        Ok(format!("the breaker is {:?} now", self.0.status().state))
    }
}
