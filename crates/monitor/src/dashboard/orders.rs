//! Orders: an action or a page that only another instance can give, and what came of it. Both are sealed with the
//! command key: whoever reads or writes the Redis without it reads neither, and makes none.

use std::collections::HashMap;
use std::time::Duration;

use bytes::Bytes;
use hmac::{Hmac, KeyInit, Mac};
use parking_lot::Mutex;
use redkit_core::coordination::Token;
use redkit_core::inspection::Query;
use redkit_core::{
    Client, Codec, Command, EncryptionKey, Error as CoreError, Key, KeyRing, Script,
};
use secrecy::{ExposeSecret, SecretString};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::Sha256;
use tokio::time::{Instant, sleep};

use super::keys::Keys;

static ORDER: Script = Script::new(include_str!("../scripts/dashboard_order.lua"));
static OUTCOME: Script = Script::new(include_str!("../scripts/dashboard_outcome.lua"));

/// How many orders wait for one instance.
const MOST_WAITING: u32 = 64;
/// For how long an order is good, and how long its outcome is waited for and kept.
const GOOD_FOR: Duration = Duration::from_secs(20);
const KEPT: Duration = Duration::from_secs(60);
/// The longest outcome that is read.
const MOST_BYTES: usize = 2 * 1024 * 1024;

/// What an instance is to do.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Order {
    pub(super) id: String,
    /// The instance.
    pub(super) to: String,
    /// Until when it may be done, by the server's clock (µs).
    pub(super) until: u64,
    /// The viewer on whose behalf.
    pub(super) by: String,
    pub(super) kind: String,
    pub(super) name: String,
    pub(super) task: Task,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) enum Task {
    Act {
        action: String,
        argument: String,
    },
    List {
        list: String,
        filter: String,
        cursor: String,
        count: usize,
        payloads: bool,
    },
}

/// What came of an order.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) enum Outcome {
    Done(String),
    Page(Value),
    Failed(String),
}

/// Why no outcome is known.
#[derive(Debug, thiserror::Error)]
pub(super) enum OrderError {
    #[error("{0}")]
    Core(#[from] CoreError),
    #[error("the instance is gone")]
    Gone,
    #[error("too many orders wait for the instance; try again")]
    Busy,
    #[error("the instance gave no answer within 20 s: whether it was done is unknown")]
    NoAnswer,
    #[error(
        "what stands as the answer was not sealed with the command key, or is not the instance's"
    )]
    Forged,
}

impl Task {
    pub(super) fn query(&self) -> Query {
        match self {
            Task::List {
                filter,
                cursor,
                count,
                ..
            } => Query {
                filter: filter.clone(),
                cursor: cursor.clone(),
                count: *count,
            },
            Task::Act { .. } => Query::default(),
        }
    }
}

/// What all instances of a fleet seal with: a key made of the command key.
pub(super) struct Seal(Codec);

/// For what the key is made: another purpose has another key.
const PURPOSE: &[u8] = b"redkit dashboard orders and outcomes";

impl Seal {
    pub(super) fn new(command_key: &SecretString) -> Option<Self> {
        // A key of any length will do.
        let secret = command_key.expose_secret().as_bytes();
        let mut mac = Hmac::<Sha256>::new_from_slice(secret).ok()?;
        mac.update(PURPOSE);
        let key = EncryptionKey::from_bytes(mac.finalize().into_bytes().into());
        Some(Self(Codec::json().encrypt(KeyRing::new(1, key))))
    }

    /// Seals for a place: nothing that stands at another opens there.
    fn close(&self, place: &Key, value: &impl Serialize) -> Result<Bytes, CoreError> {
        self.0.encode(place.as_bytes(), value)
    }

    /// What was sealed for this place; nothing for anything else.
    fn open<T: DeserializeOwned>(&self, place: &Key, sealed: Bytes) -> Option<T> {
        self.0.decode(place.as_bytes(), sealed).ok()
    }
}

/// Gives an order to an instance, and waits for what comes of it.
pub(super) async fn send(
    client: &Client,
    keys: &Keys,
    seal: &Seal,
    mut order: Order,
) -> Result<Outcome, OrderError> {
    let (seconds, micros): (u64, u64) = client.call(Command::new("TIME")).await?;
    let now = seconds * 1_000_000 + micros;
    order.id = Token::random().to_string();
    order.until = now + u64::try_from(GOOD_FOR.as_micros()).unwrap_or_default();
    let place = keys.orders(&order.to);
    let sealed = seal.close(&place, &order)?;
    let call = ORDER.invoke([place, keys.snapshot(&order.to)]);
    let call = call.arg(sealed).arg(MOST_WAITING).arg(GOOD_FOR.as_millis());
    match client.eval::<i64>(call).await? {
        1 => {}
        0 => return Err(OrderError::Busy),
        _ => return Err(OrderError::Gone),
    }
    let key = keys.outcome(&order.id);
    let end = Instant::now() + GOOD_FOR;
    let mut pause = Duration::from_millis(50);
    while Instant::now() < end {
        sleep(pause).await;
        pause = (pause * 3 / 2).min(Duration::from_millis(400));
        let read = Command::new("GET").key(&key).idempotent(true);
        let Some(sealed) = client.call::<Option<Bytes>>(read).await? else {
            continue;
        };
        // The order's id is in the key that it was sealed for.
        let outcome = seal.open(&key, sealed).ok_or(OrderError::Forged)?;
        let delete = Command::new("DEL").key(&key).idempotent(true);
        // It expires by itself as well.
        let _ = client.call::<u64>(delete).await;
        return Ok(outcome);
    }
    Err(OrderError::NoAnswer)
}

/// Leaves the outcome of an order for its sender.
pub(super) async fn answer(
    client: &Client,
    keys: &Keys,
    seal: &Seal,
    order: &Order,
    outcome: Outcome,
) {
    let place = keys.outcome(&order.id);
    let sealed = seal.close(&place, &outcome).and_then(|sealed| {
        let too_large = Outcome::Failed("the answer is too large".to_owned());
        match sealed.len() > MOST_BYTES {
            true => seal.close(&place, &too_large),
            false => Ok(sealed),
        }
    });
    let left = async {
        let leave = OUTCOME.invoke([&place]).arg(sealed?);
        let leave = leave.arg(KEPT.as_millis()).idempotent(true);
        client.eval::<i64>(leave).await
    };
    if let Err(error) = left.await {
        tracing::warn!(target: "redkit::monitor", %error, "the outcome of an order could not be left");
    }
}

/// The orders that were taken: none is done twice.
#[derive(Default)]
pub(super) struct Taken(Mutex<HashMap<String, u64>>);

impl Taken {
    /// Reads an order for `instance`, which stood at `place`, at the server's time `now` (µs): nothing for one that is
    /// not sealed for it, too old, or that was taken before.
    pub(super) fn accept(
        &self,
        seal: &Seal,
        place: &Key,
        instance: &str,
        now: u64,
        sealed: Bytes,
    ) -> Option<Order> {
        let order: Order = seal.open(place, sealed)?;
        let latest = now + 2 * u64::try_from(GOOD_FOR.as_micros()).unwrap_or_default();
        if order.to != instance || order.until < now || order.until > latest {
            return None;
        }
        let mut taken = self.0.lock();
        taken.retain(|_, until| *until >= now);
        match taken.insert(order.id.clone(), order.until) {
            None => Some(order),
            Some(_) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn order(to: &str, until: u64) -> Order {
        Order {
            id: "1".to_owned(),
            to: to.to_owned(),
            until,
            by: "ann".to_owned(),
            kind: "topic".to_owned(),
            name: "mail/senders".to_owned(),
            task: Task::Act {
                action: "redrive".to_owned(),
                argument: String::new(),
            },
        }
    }

    fn seal(letter: &str) -> Seal {
        Seal::new(&SecretString::from(letter.repeat(32))).unwrap()
    }

    fn keys() -> Keys {
        let backend = std::sync::Arc::new(redkit_embedded::Embedded::new());
        let client = Client::from_backend(backend, &redkit_core::ClientConfig::default());
        Keys::new(&client.unwrap()).unwrap()
    }

    #[tokio::test]
    async fn an_order_is_taken_once_by_the_instance_that_it_is_for_and_while_it_is_good() {
        let (seal, keys) = (seal("k"), keys());
        let place = keys.orders("a");
        let sealed = |order: &Order| seal.close(&place, order).unwrap();
        let accept = |taken: &Taken, to: &str, now, sealed: &Bytes| {
            taken.accept(&seal, &keys.orders(to), to, now, sealed.clone())
        };
        let (good, fresh) = (sealed(&order("a", 100)), Taken::default);
        assert!(accept(&fresh(), "a", 100, &good).is_some());
        assert!(accept(&fresh(), "b", 100, &good).is_none(), "moved");
        assert!(accept(&fresh(), "a", 101, &good).is_none(), "too old");
        let other = sealed(&order("b", 100));
        assert!(accept(&fresh(), "a", 100, &other).is_none(), "for another");
        let late = sealed(&order("a", u64::MAX));
        assert!(accept(&fresh(), "a", 100, &late).is_none(), "good for ever");
        let taken = fresh();
        assert!(accept(&taken, "a", 50, &good).is_some());
        assert!(accept(&taken, "a", 60, &good).is_none(), "again");
    }

    #[tokio::test]
    async fn an_order_that_is_not_sealed_with_the_key_is_refused_and_says_nothing_to_others() {
        let (ours, keys) = (seal("k"), keys());
        let (place, taken) = (keys.orders("a"), Taken::default());
        let good = ours.close(&place, &order("a", 100)).unwrap();
        let shows = |text: &[u8]| good.windows(text.len()).any(|part| part == text);
        assert!(!shows(b"ann") && !shows(b"redrive"), "{good:?}");
        let accept = |seal: &Seal, sealed: Bytes| taken.accept(seal, &place, "a", 1, sealed);
        assert!(accept(&seal("l"), good.clone()).is_none(), "another key");
        for at in 0..good.len() {
            let mut changed = good.to_vec();
            changed[at] ^= 1;
            assert!(accept(&ours, changed.into()).is_none(), "changed at {at}");
        }
        let answer = ours.close(&keys.outcome("1"), &order("a", 100)).unwrap();
        assert!(accept(&ours, answer).is_none(), "an answer");
        let plain = serde_json::to_vec(&order("a", 100)).unwrap();
        for text in [&b""[..], b".", b"{}", &[0xff; 80], &plain, &good[..64]] {
            assert!(accept(&ours, Bytes::copy_from_slice(text)).is_none());
        }
        assert!(accept(&ours, good).is_some());
    }
}
