//! What the instances of a program agree on through Redis: in which episode of an alert they are, and who
//! delivers it. Without Redis each instance goes by what it knew last.

use std::collections::HashMap;
use std::time::{Duration, SystemTime};

use futures_util::future::join_all;
use parking_lot::Mutex;
use redkit_core::coordination::Token;
use redkit_core::{Client, Command, Error, Key, Keyspace, Script};
use sha2::{Digest, Sha256};

static OPEN: Script = Script::new(include_str!("../scripts/alert_open.lua"));
static CLOSE: Script = Script::new(include_str!("../scripts/alert_close.lua"));
static CLAIM: Script = Script::new(include_str!("../scripts/alert_claim.lua"));
static NOTE: Script = Script::new(include_str!("../scripts/alert_delivered.lua"));

/// How long the numbers of episodes are remembered after the last alert.
const REMEMBERED: Duration = Duration::from_secs(90 * 24 * 3_600);

/// How long it is remembered that an alert was delivered.
const DELIVERED: Duration = Duration::from_secs(24 * 3_600);

/// The longest that Redis is waited for.
const BUDGET: Duration = Duration::from_millis(500);

/// An instance that knows of no episode, and cannot ask, takes the beginning of this time as its number, so that
/// others in the same state take the same.
const COARSE: u64 = 300;

/// How many alerts' ends are kept in mind when Redis has no row of them.
const MOST_ENDS: usize = 20_000;

/// This instance's part in the fleet.
pub(super) struct Fleet {
    client: Client,
    keyspace: Keyspace,
    instance: Token,
    /// For how long an instance that fires counts without firing again.
    alive: Duration,
    /// The episodes by alert as they were last seen: number and whether it is open.
    known: Mutex<HashMap<String, (u64, bool)>>,
    /// The latest episode of each alert whose end was told by this instance, or seen in Redis. It never goes on,
    /// whatever Redis says: it may not have been told of the end, or have lost it.
    over: Mutex<HashMap<String, u64>>,
}

/// Who is to deliver an alert.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Claim {
    /// It has been delivered.
    Delivered,
    /// This instance.
    Ours,
    /// Another one, for so long.
    Theirs(Duration),
}

impl Fleet {
    pub(super) fn new(client: &Client, name: &str, alive: Duration) -> Result<Self, Error> {
        Ok(Self {
            keyspace: client.keyspace("monitor", name)?,
            client: client.with_budget(BUDGET)?,
            instance: Token::random(),
            alive,
            known: Mutex::default(),
            over: Mutex::default(),
        })
    }

    /// Reads the episodes, also for the time when Redis cannot be asked. Gives those that are open; nothing when
    /// it cannot be asked.
    pub(super) async fn look(&self) -> Option<Vec<(String, u64)>> {
        let read = Command::new("HGETALL").key(self.episodes());
        let rows = self.client.call::<Vec<(String, String)>>(read).await.ok()?;
        let parsed = rows.into_iter().filter_map(|(alert, episode)| {
            let (number, state) = episode.split_once(':')?;
            Some((alert, (number.parse().ok()?, state == "open")))
        });
        let parsed: HashMap<_, _> = parsed.collect();
        let open = parsed.iter().filter(|(_, (_, is_open))| *is_open);
        let open = open.map(|(alert, (number, _))| (alert.clone(), *number));
        let open = open.collect();
        for (alert, (number, _)) in parsed.iter().filter(|(_, (_, is_open))| !is_open) {
            self.note_end(alert, *number);
        }
        {
            let mut over = self.over.lock();
            if over.len() > MOST_ENDS {
                over.retain(|alert, _| parsed.contains_key(alert));
            }
        }
        *self.known.lock() = parsed;
        Some(open)
    }

    /// Keeps in mind that the end of an episode was told.
    pub(super) fn note_end(&self, alert: &str, episode: u64) {
        let mut over = self.over.lock();
        match over.get_mut(alert) {
            Some(latest) => *latest = (*latest).max(episode),
            None => {
                over.insert(alert.to_owned(), episode);
            }
        }
    }

    /// The latest episode that is over, 0 for none.
    fn last_over(&self, alert: &str) -> u64 {
        self.over.lock().get(alert).copied().unwrap_or_default()
    }

    /// The episode of an alert that fires here. `known` is the one that this instance is in, 0 for none yet.
    pub(super) async fn open(&self, alert: &str, known: u64) -> u64 {
        let over = self.last_over(alert);
        let call = OPEN.invoke([self.episodes(), self.firing(alert)]);
        let call = call.arg(alert).arg(self.instance).arg(known);
        let call = call.arg(self.alive.as_micros()).arg(REMEMBERED.as_millis());
        let call = call.arg(over);
        // Repeating it finds this instance firing in the episode that the first attempt has begun.
        match self.client.eval::<u64>(call.idempotent(true)).await {
            Ok(number) => {
                self.known.lock().insert(alert.to_owned(), (number, true));
                number
            }
            Err(_) if known > over => known,
            Err(_) => self.guess(alert),
        }
    }

    /// Takes this instance out of an episode. Gives whether the episode is over: with the last instance, or with any
    /// when its end `is_told` already.
    ///
    /// # Errors
    /// [`Error`] when Redis cannot be asked.
    pub(super) async fn close(
        &self,
        alert: &str,
        episode: u64,
        is_told: bool,
    ) -> Result<bool, Error> {
        let call = CLOSE.invoke([self.episodes(), self.firing(alert)]);
        let call = call
            .arg(alert)
            .arg(self.instance)
            .arg(episode)
            .arg(u8::from(is_told))
            .arg(REMEMBERED.as_millis())
            .idempotent(true);
        let is_over = self.client.eval::<bool>(call).await?;
        if is_over {
            self.note_end(alert, episode);
        }
        self.known
            .lock()
            .insert(alert.to_owned(), (episode, !is_over));
        Ok(is_over)
    }

    /// Says that this instance fires no more because it ends, and knows nothing of how the alerts go on.
    pub(super) async fn leave(&self, alerts: impl IntoIterator<Item = String>) {
        let leave = alerts.into_iter().map(async |alert| {
            let remove = Command::new("ZREM")
                .key(self.firing(&alert))
                .arg(self.instance);
            // Otherwise this instance counts until `alive` has passed.
            let _ = self.client.call::<i64>(remove.idempotent(true)).await;
        });
        join_all(leave).await;
    }

    /// For how long an instance that fires counts without firing again.
    pub(super) fn alive(&self) -> Duration {
        self.alive
    }

    /// Claims a delivery for `hold`.
    ///
    /// # Errors
    /// [`Error`] when Redis cannot be asked.
    pub(super) async fn claim(
        &self,
        sink: &str,
        alert: &str,
        hold: Duration,
    ) -> Result<Claim, Error> {
        let call = CLAIM.invoke([self.delivery(sink, alert)]);
        let call = call
            .arg(self.instance)
            .arg(hold.as_millis())
            .idempotent(true);
        let answer: i64 = self.client.eval(call).await?;
        Ok(match u64::try_from(answer) {
            Err(_) => Claim::Delivered,
            Ok(0) => Claim::Ours,
            Ok(millis) => Claim::Theirs(Duration::from_millis(millis)),
        })
    }

    /// Notes that an alert was delivered.
    ///
    /// # Errors
    /// [`Error`] when Redis cannot be told: another instance delivers the alert again.
    pub(super) async fn delivered(&self, sink: &str, alert: &str) -> Result<(), Error> {
        let call = NOTE.invoke([self.delivery(sink, alert)]);
        let call = call.arg(DELIVERED.as_millis()).idempotent(true);
        let _: i64 = self.client.eval(call).await?;
        Ok(())
    }

    /// Keeps the note of a delivery as long as the alert goes on.
    pub(super) async fn remember(&self, sink: &str, alert: &str) {
        let key = self.delivery(sink, alert);
        let keep = Command::new("PEXPIRE").key(&key).arg(DELIVERED.as_millis());
        // It is done again long before the note is gone.
        let _ = self.client.call::<i64>(keep.idempotent(true)).await;
    }

    /// Without Redis: the open episode, or the one after the last. All instances that knew the same say the same.
    fn guess(&self, alert: &str) -> u64 {
        let over = self.last_over(alert);
        match self.known.lock().get(alert) {
            Some((number, true)) if *number > over => *number,
            Some((number, _)) => over.max(*number) + 1,
            None if over > 0 => over + 1,
            None => {
                let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
                now.unwrap_or_default().as_secs() / COARSE * COARSE
            }
        }
    }

    fn episodes(&self) -> Key {
        self.keyspace.role_key("alerts", "episodes")
    }

    fn firing(&self, alert: &str) -> Key {
        self.keyspace.tagged_key("alerts", "firing", alert)
    }

    /// A digest, so that the key is short whatever the subject is.
    fn delivery(&self, sink: &str, alert: &str) -> Key {
        let digest = Sha256::digest(alert.as_bytes());
        let hex: String = digest
            .iter()
            .take(16)
            .map(|byte| format!("{byte:02x}"))
            .collect();
        self.keyspace
            .tagged_key("alerts", "delivery", format!("{sink}.{hex}"))
    }
}
