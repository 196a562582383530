//! A way to an embedded engine that can be cut, or be slow, as a network is.

use std::sync::Arc;
use std::time::Duration;

use redkit_core::{Client, ClientConfig};
use redkit_embedded::Embedded;
use redkit_testkit::{FaultyBackend, Gate, Injection, Rule};

/// The way of one process to the engine: it can be cut, and replies can be late.
pub(crate) struct Link {
    backend: Arc<FaultyBackend>,
    gate: Gate,
    lateness: Duration,
}

impl Link {
    pub(crate) fn new(engine: &Embedded, lateness: Duration) -> Self {
        let link = Self {
            backend: FaultyBackend::new(Arc::new(engine.clone())),
            gate: Gate::closed(),
            lateness,
        };
        link.mend();
        link
    }

    /// Calls hang until it is mended, or until their deadline.
    pub(crate) fn cut(&self) {
        self.gate.close();
        let hold = Injection::HoldRequest(self.gate.clone());
        self.backend.set(Rule::new(hold));
    }

    pub(crate) fn mend(&self) {
        self.gate.open();
        let late = Injection::DelayReply(self.lateness);
        self.backend.set(Rule::new(late));
    }

    pub(crate) fn client(&self) -> Client {
        let config = ClientConfig::default().command_timeout(Duration::from_secs(5));
        self.backend.client_with(&config)
    }
}
