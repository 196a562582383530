//! What the patterns share to agree between processes.

mod leases;
mod pipelined_scripts;
mod releases;
mod wait_queues;
mod wake_ups;

use std::sync::Arc;
use std::time::Duration;

use redkit_core::coordination::{LeaseRenewal, Token};
use redkit_core::{Client, Command, Invocation, Key, Script};

/// A token at a key, with an expiry: the simplest thing to hold.
static RENEW: Script = Script::new(
    "if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
     redis.call('PEXPIRE', KEYS[1], ARGV[2]) return 1",
);
static RELEASE: Script = Script::new(
    "if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end return redis.call('DEL', KEYS[1])",
);

struct Held {
    key: Key,
    token: Token,
}

impl Held {
    async fn take(client: &Client, key: &str, ttl: Duration) -> Self {
        let held = Self {
            key: client.key(key),
            token: Token::random(),
        };
        let set = Command::new("SET").key(&held.key).arg(held.token);
        let set = set.arg("PX").arg(u64::try_from(ttl.as_millis()).unwrap());
        client.call::<()>(set).await.unwrap();
        held
    }

    fn release(&self) -> Invocation {
        RELEASE.invoke([&self.key]).arg(self.token).idempotent(true)
    }
}

impl LeaseRenewal for Held {
    fn renew(&self, ttl: Duration) -> Invocation {
        let ttl = u64::try_from(ttl.as_millis()).unwrap();
        RENEW.invoke([&self.key]).arg(self.token).arg(ttl)
    }
}

async fn exists(client: &Client, key: &str) -> bool {
    client.exists(key).await.unwrap()
}

fn tally(name: &'static str) -> Arc<redkit_core::Tally> {
    Arc::new(redkit_core::Tally::new(metrics_counter(name)))
}

fn metrics_counter(name: &'static str) -> metrics::Counter {
    metrics::counter!(name)
}
