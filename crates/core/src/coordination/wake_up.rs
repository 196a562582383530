//! [`Waiter`]: waiting for what another process does, woken by a message and never by it alone.

mod channel;

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::time::timeout;
use tokio_util::task::AbortOnDropHandle;

use self::channel::{Channel, Slot, listen};
use crate::client::{Client, WeakClient};

/// Which of a process's waiters a message wakes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wake {
    /// All that wait for the name: for what all of them can have, such as a cached value.
    All,
    /// The one that waits longest: for what only one can have, such as a lock. A waiter that is dropped
    /// after it was woken, without [`Waiter::done`], wakes the next.
    One,
}

/// Why [`Waiter::wait`] returned. In both cases: look again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum WakeUp {
    /// A message came, with this payload.
    Message(Bytes),
    /// The time was up, or messages may have been missed.
    Look,
}

/// A place among the waiters of this process for one name, from [`Client::waiter`].
///
/// The order that loses no wake-up: try; make the waiter; **try again**; then wait and try in turn.
pub struct Waiter {
    /// Keeps the subscription.
    _client: Client,
    channel: Arc<Channel>,
    name: Bytes,
    slot: Arc<Slot>,
    is_done: bool,
}

/// The subscriptions of one client, one for each channel, on the client's one connection for
/// subscriptions.
#[derive(Default)]
pub(crate) struct WakeUps {
    channels: Mutex<HashMap<Bytes, Listened>>,
}

struct Listened {
    channel: Arc<Channel>,
    task: AbortOnDropHandle<()>,
}

/// How long a waiter gives the subscription to come about. Without it, waiting is asking.
const PATIENCE: Duration = Duration::from_millis(500);

/// Without a subscription the waiters of a name together ask this often.
pub(super) const POLL: Duration = Duration::from_millis(50);

impl WakeUps {
    pub(crate) async fn waiter(
        &self,
        client: Client,
        channel: Bytes,
        name: Bytes,
        wake: Wake,
    ) -> Waiter {
        let waiter = self.waiter_at_once(client, channel, name, wake);
        let mut standing = waiter.channel.standing.subscribe();
        let known = standing.wait_for(|standing| *standing != channel::Standing::Pending);
        let _ = timeout(PATIENCE, known).await;
        waiter.slot.looks();
        waiter
    }

    /// The same, which does not wait for the subscription. If it does not [stand](Waiter::stands), the
    /// waiter is woken to look as soon as it does.
    pub(crate) fn waiter_at_once(
        &self,
        client: Client,
        channel: Bytes,
        name: Bytes,
        wake: Wake,
    ) -> Waiter {
        let weak = client.downgrade();
        let (channel, slot) = {
            let mut channels = self.channels.lock();
            let channel = listened(&mut channels, weak, channel);
            // Under the lock, so that a channel that nobody waits on any more is not given up now.
            let slot = channel.add(&name, wake);
            (channel, slot)
        };
        Waiter {
            _client: client,
            channel,
            name,
            slot,
            is_done: false,
        }
    }

    /// Gives up a channel on which nobody waits.
    fn forget(&self, channel: &Arc<Channel>) -> bool {
        let mut channels = self.channels.lock();
        let is_idle = channel.is_idle();
        if is_idle {
            channels.remove(&channel.name);
        }
        is_idle
    }
}

fn listened(
    channels: &mut HashMap<Bytes, Listened>,
    client: WeakClient,
    name: Bytes,
) -> Arc<Channel> {
    let known = channels
        .get(&name)
        .filter(|known| !known.task.is_finished());
    if let Some(known) = known {
        return Arc::clone(&known.channel);
    }
    let channel = match channels.remove(&name) {
        Some(dead) => dead.channel,
        None => Arc::new(Channel::new(name.clone())),
    };
    let task = AbortOnDropHandle::new(tokio::spawn(listen(client, Arc::clone(&channel))));
    let listened = Listened {
        channel: Arc::clone(&channel),
        task,
    };
    channels.insert(name, listened);
    channel
}

impl Waiter {
    /// Waits to be woken, at most for `limit`. While the subscription does not stand, because the
    /// connection is lost or the user may not subscribe, it returns earlier: then the waiters of a name
    /// look 20 times a second together.
    pub async fn wait(&mut self, limit: Duration) -> WakeUp {
        let together = POLL.saturating_mul(self.channel.waiters_of(&self.name));
        self.wait_or_ask(limit, together).await
    }

    /// Waits to be woken, at most for `limit`, and while the subscription does not stand at most for `ask`.
    pub async fn wait_or_ask(&mut self, limit: Duration, ask: Duration) -> WakeUp {
        self.slot.sleeps();
        let limit = match self.stands() {
            true => limit,
            false => limit.min(ask),
        };
        match timeout(limit, self.slot.woken()).await {
            Ok(wake_up) => wake_up,
            Err(_) => WakeUp::Look,
        }
    }

    /// Whether every message is heard.
    pub(crate) fn stands(&self) -> bool {
        self.channel.stands()
    }

    /// The waiter has what it waited for: the message that woke it wakes nobody else.
    pub fn done(mut self) {
        self.is_done = true;
    }
}

impl Drop for Waiter {
    fn drop(&mut self) {
        self.channel.remove(&self.name, &self.slot, self.is_done);
    }
}

/// Without the name, which may be a user's key.
impl fmt::Debug for Waiter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Waiter").finish_non_exhaustive()
    }
}

impl fmt::Debug for WakeUps {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WakeUps")
            .field("channels", &self.channels.lock().len())
            .finish()
    }
}
