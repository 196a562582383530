//! Orders: an action or a page that only another instance can give, signed, and what came of it.

use std::collections::HashMap;
use std::time::Duration;

use bytes::Bytes;
use hmac::{Hmac, KeyInit, Mac};
use parking_lot::Mutex;
use redkit_core::coordination::Token;
use redkit_core::inspection::Query;
use redkit_core::{Client, Command, Error as CoreError, Script};
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::Sha256;
use tokio::time::{Instant, sleep};

use super::keys::Keys;

static ORDER: Script = Script::new(include_str!("../scripts/dashboard_order.lua"));

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
        "what stands as the answer was not signed with the command key, or is not the instance's"
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

/// The key that all instances of a fleet have.
pub(super) struct Signer(SecretString);

impl Signer {
    pub(super) fn new(key: SecretString) -> Self {
        Self(key)
    }

    /// `<signature>.<text>`: the purpose is signed along, so that no answer can pass for an order.
    fn sign(&self, purpose: &str, text: &[u8]) -> Vec<u8> {
        let mut signed = Vec::with_capacity(text.len() + 65);
        if let Some(mac) = self.mac(purpose, text) {
            for byte in mac.finalize().into_bytes() {
                signed.extend_from_slice(format!("{byte:02x}").as_bytes());
            }
        }
        signed.push(b'.');
        signed.extend_from_slice(text);
        signed
    }

    /// The text, when its signature is right. The comparison takes the same time wherever they differ.
    fn verify<'t>(&self, purpose: &str, signed: &'t [u8]) -> Option<&'t [u8]> {
        let (signature, text) = (signed.get(..64)?, signed.get(65..)?);
        let digits = std::str::from_utf8(signature).ok()?;
        let bytes = (0..32).map(|n| u8::from_str_radix(digits.get(2 * n..2 * n + 2)?, 16).ok());
        let bytes = bytes.collect::<Option<Vec<_>>>()?;
        self.mac(purpose, text)?.verify_slice(&bytes).ok()?;
        Some(text)
    }

    fn mac(&self, purpose: &str, text: &[u8]) -> Option<Hmac<Sha256>> {
        // A key of any length will do.
        let mut mac = Hmac::<Sha256>::new_from_slice(self.0.expose_secret().as_bytes()).ok()?;
        mac.update(purpose.as_bytes());
        mac.update(b"\n");
        mac.update(text);
        Some(mac)
    }
}

const ORDERS: &str = "redkit dashboard order";
const OUTCOMES: &str = "redkit dashboard outcome";

/// Gives an order to an instance, and waits for what comes of it.
pub(super) async fn send(
    client: &Client,
    keys: &Keys,
    signer: &Signer,
    mut order: Order,
) -> Result<Outcome, OrderError> {
    let (seconds, micros): (u64, u64) = client.call(Command::new("TIME")).await?;
    let now = seconds * 1_000_000 + micros;
    order.id = Token::random().to_string();
    order.until = now + u64::try_from(GOOD_FOR.as_micros()).unwrap_or_default();
    let text = serde_json::to_vec(&order).unwrap_or_default();
    let signed = signer.sign(ORDERS, &text);
    let call = ORDER.invoke([keys.orders(&order.to), keys.snapshot(&order.to)]);
    let call = call.arg(signed).arg(MOST_WAITING).arg(GOOD_FOR.as_millis());
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
        let Some(signed) = client.call::<Option<Bytes>>(read).await? else {
            continue;
        };
        let text = signer.verify(OUTCOMES, &signed).ok_or(OrderError::Forged)?;
        let (of, outcome): (String, Outcome) =
            serde_json::from_slice(text).map_err(|_| OrderError::Forged)?;
        let delete = Command::new("DEL").key(&key).idempotent(true);
        // It expires by itself as well.
        let _ = client.call::<u64>(delete).await;
        return match of == order.id {
            true => Ok(outcome),
            false => Err(OrderError::Forged),
        };
    }
    Err(OrderError::NoAnswer)
}

/// Leaves the outcome of an order for its sender.
pub(super) async fn answer(
    client: &Client,
    keys: &Keys,
    signer: &Signer,
    order: &Order,
    outcome: Outcome,
) {
    let encode = |outcome: &Outcome| serde_json::to_vec(&(&order.id, outcome)).unwrap_or_default();
    let mut text = encode(&outcome);
    if text.len() > MOST_BYTES {
        text = encode(&Outcome::Failed("the answer is too large".to_owned()));
    }
    let set = Command::new("SET").key(keys.outcome(&order.id));
    let set = set
        .arg(signer.sign(OUTCOMES, &text))
        .arg("PX")
        .arg(KEPT.as_millis());
    if let Err(error) = client.call::<String>(set.idempotent(true)).await {
        tracing::warn!(target: "redkit::monitor", %error, "the outcome of an order could not be left");
    }
}

/// The orders that were taken: none is done twice.
#[derive(Default)]
pub(super) struct Taken(Mutex<HashMap<String, u64>>);

impl Taken {
    /// Reads an order for `instance` at the server's time `now` (µs): nothing for one that is not signed, not for this
    /// instance, too old, or that was taken before.
    pub(super) fn accept(
        &self,
        signer: &Signer,
        instance: &str,
        now: u64,
        signed: &[u8],
    ) -> Option<Order> {
        let text = signer.verify(ORDERS, signed)?;
        let order: Order = serde_json::from_slice(text).ok()?;
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

    fn signed(signer: &Signer, order: &Order) -> Vec<u8> {
        signer.sign(ORDERS, &serde_json::to_vec(order).unwrap())
    }

    #[test]
    fn an_order_is_taken_once_by_the_instance_that_it_is_for_and_while_it_is_good() {
        let signer = Signer::new(SecretString::from("k".repeat(32)));
        let good = signed(&signer, &order("a", 100));
        let fresh = Taken::default;
        assert!(fresh().accept(&signer, "a", 100, &good).is_some());
        assert!(
            fresh().accept(&signer, "b", 100, &good).is_none(),
            "for another"
        );
        assert!(
            fresh().accept(&signer, "a", 101, &good).is_none(),
            "too old"
        );
        let late = signed(&signer, &order("a", u64::MAX));
        assert!(
            fresh().accept(&signer, "a", 100, &late).is_none(),
            "good for ever"
        );
        let taken = fresh();
        assert!(taken.accept(&signer, "a", 50, &good).is_some());
        assert!(taken.accept(&signer, "a", 60, &good).is_none(), "again");
    }

    #[test]
    fn an_order_that_is_not_signed_with_the_key_is_refused() {
        let signer = Signer::new(SecretString::from("k".repeat(32)));
        let other = Signer::new(SecretString::from("l".repeat(32)));
        let taken = Taken::default();
        let good = signed(&signer, &order("a", 100));
        assert!(taken.accept(&other, "a", 1, &good).is_none(), "another key");
        let mut changed = good.clone();
        let at = changed.iter().position(|&b| b == b'm').unwrap();
        changed[at] = b'n';
        assert!(taken.accept(&signer, "a", 1, &changed).is_none(), "changed");
        let answer = signer.sign(OUTCOMES, &serde_json::to_vec(&order("a", 100)).unwrap());
        assert!(
            taken.accept(&signer, "a", 1, &answer).is_none(),
            "an answer"
        );
        for text in [&b""[..], b".", b"x.{}", &[0xff; 80], &good[..64]] {
            assert!(taken.accept(&signer, "a", 1, text).is_none());
        }
        assert!(taken.accept(&signer, "a", 1, &good).is_some());
    }
}
