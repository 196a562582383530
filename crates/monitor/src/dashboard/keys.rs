//! The keys of a fleet's dashboard, which share a slot.

use redkit_core::{Client, ConfigError, Error, Key, Keyspace};

#[derive(Debug, Clone)]
pub(super) struct Keys(Keyspace);

const FLEET: &str = "fleet";

impl Keys {
    pub(super) fn new(client: &Client) -> Result<Self, Error> {
        Ok(Self(client.keyspace("monitor", "dashboard")?))
    }

    /// The instances, by their last beat.
    pub(super) fn instances(&self) -> Key {
        self.0.role_key(FLEET, "instances")
    }

    /// The mark that somebody is watching.
    pub(super) fn watched(&self) -> Key {
        self.0.role_key(FLEET, "watched")
    }

    /// What an instance has published.
    pub(super) fn snapshot(&self, instance: &str) -> Key {
        self.0.tagged_key(FLEET, "at", instance)
    }

    /// The orders for an instance.
    pub(super) fn orders(&self, instance: &str) -> Key {
        self.0.tagged_key(FLEET, "orders", instance)
    }

    /// The outcome of an order.
    pub(super) fn outcome(&self, order: &str) -> Key {
        self.0.tagged_key(FLEET, "outcome", order)
    }

    /// The actions that were done, and their outcomes.
    pub(super) fn audit(&self) -> Key {
        self.0.role_key(FLEET, "audit")
    }

    /// The actions that were refused for want of a right: apart, so that they cannot push the others out.
    pub(super) fn refusals(&self) -> Key {
        self.0.role_key(FLEET, "refusals")
    }
}

/// # Errors
/// [`ConfigError`] for a text that is no label.
pub(super) fn check_label(field: &'static str, text: &str) -> Result<(), ConfigError> {
    if (1..=100).contains(&text.len()) && !text.chars().any(char::is_control) {
        return Ok(());
    }
    let problem = "it is empty, longer than 100 bytes, or holds control characters";
    Err(ConfigError::new(
        field,
        problem,
        "choose a short text such as `storefront`",
    ))
}
