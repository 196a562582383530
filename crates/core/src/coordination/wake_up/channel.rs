//! [`Channel`]: one subscription and the waiters that it wakes.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::{Notify, watch};
use tokio::time::{Instant, sleep, sleep_until};

use super::{Wake, WakeUp};
use crate::client::WeakClient;
use crate::coordination::Backoff;
use crate::error::{Error, FaultKind};
use crate::push::{GapReason, Interest, Push};

/// How a channel's subscription stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Standing {
    /// It is being made.
    Pending,
    /// Every message is heard.
    Confirmed,
    /// It cannot be had now.
    Unavailable,
}

pub(super) struct Channel {
    pub(super) name: Bytes,
    pub(super) standing: watch::Sender<Standing>,
    waiting: Mutex<Waiting>,
}

#[derive(Default)]
struct Waiting {
    /// By name, so that all are woken in an order that does not change from run to run.
    slots: BTreeMap<Bytes, Vec<Arc<Slot>>>,
    /// When the last waiter left.
    idle_since: Option<Instant>,
}

/// One waiter, as the channel sees it.
pub(super) struct Slot {
    wake: Wake,
    state: Mutex<SlotState>,
    notify: Notify,
}

#[derive(Default)]
struct SlotState {
    /// The news that the waiter has not heard yet.
    pending: Option<WakeUp>,
    /// The message that made the waiter look, until it sleeps again.
    heard: Option<WakeUp>,
}

impl Slot {
    /// The waiter looked, and in vain: the message is used up.
    pub(super) fn sleeps(&self) {
        self.state.lock().heard = None;
    }

    pub(super) async fn woken(&self) -> WakeUp {
        loop {
            {
                let mut state = self.state.lock();
                if let Some(wake_up) = state.pending.take() {
                    state.heard = Some(wake_up.clone());
                    return wake_up;
                }
            }
            self.notify.notified().await;
        }
    }

    fn send(&self, wake_up: WakeUp) {
        let mut state = self.state.lock();
        // A message says more than that there may have been messages.
        if state.pending.is_none() || wake_up != WakeUp::Look {
            state.pending = Some(wake_up);
        }
        drop(state);
        self.notify.notify_one();
    }

    /// The waiter is about to look anyway.
    pub(super) fn looks(&self) {
        let mut state = self.state.lock();
        if state.pending == Some(WakeUp::Look) {
            state.pending = None;
        }
    }

    fn is_asleep(&self) -> bool {
        let state = self.state.lock();
        state.pending.is_none() && state.heard.is_none()
    }
}

impl Channel {
    pub(super) fn new(name: Bytes) -> Self {
        Self {
            name,
            standing: watch::Sender::new(Standing::Pending),
            waiting: Mutex::default(),
        }
    }

    pub(super) fn add(&self, name: &Bytes, wake: Wake) -> Arc<Slot> {
        let slot = Arc::new(Slot {
            wake,
            state: Mutex::default(),
            notify: Notify::new(),
        });
        let mut waiting = self.waiting.lock();
        waiting.idle_since = None;
        waiting
            .slots
            .entry(name.clone())
            .or_default()
            .push(Arc::clone(&slot));
        slot
    }

    /// Takes a waiter out. A message that it was to act on, and did not, goes to the next.
    pub(super) fn remove(&self, name: &Bytes, slot: &Arc<Slot>, is_done: bool) {
        let mut waiting = self.waiting.lock();
        let Some(slots) = waiting.slots.get_mut(name) else {
            return;
        };
        slots.retain(|other| !Arc::ptr_eq(other, slot));
        let unheard = {
            let mut state = slot.state.lock();
            let heard = state.heard.take().filter(|_| !is_done);
            state.pending.take().or(heard)
        };
        if let (Wake::One, Some(wake_up)) = (slot.wake, unheard) {
            wake_one(slots, wake_up);
        }
        if slots.is_empty() {
            waiting.slots.remove(name);
        }
        if waiting.slots.is_empty() {
            waiting.idle_since = Some(Instant::now());
        }
    }

    pub(super) fn stands(&self) -> bool {
        *self.standing.borrow() == Standing::Confirmed
    }

    pub(super) fn is_idle(&self) -> bool {
        self.waiting.lock().slots.is_empty()
    }

    /// When the subscription is not needed any more unless somebody waits by then: a minute after the
    /// last waiter left, whatever messages come.
    fn idle_at(&self) -> Instant {
        let since = self.waiting.lock().idle_since;
        since.unwrap_or_else(Instant::now) + IDLE
    }

    pub(super) fn waiters_of(&self, name: &Bytes) -> u32 {
        let waiters = self.waiting.lock().slots.get(name).map_or(1, Vec::len);
        u32::try_from(waiters).unwrap_or(u32::MAX).max(1)
    }

    fn message(&self, message: &Bytes) {
        let Some((name, payload)) = parse(message) else {
            return;
        };
        let waiting = self.waiting.lock();
        let Some(slots) = waiting.slots.get(&name) else {
            return;
        };
        let wake_up = WakeUp::Message(payload);
        for slot in slots.iter().filter(|slot| slot.wake == Wake::All) {
            slot.send(wake_up.clone());
        }
        wake_one(slots, wake_up);
    }

    fn wake_all(&self) {
        for slot in self.waiting.lock().slots.values().flatten() {
            slot.send(WakeUp::Look);
        }
    }

    /// Every message is heard from now on. The waiters that were asking meanwhile look once more.
    fn confirmed(&self) {
        self.wake_all();
        self.standing.send_replace(Standing::Confirmed);
    }

    /// Messages are missed from now on: known before anybody looks, so that no waiter sleeps on.
    fn unavailable(&self) {
        self.standing.send_replace(Standing::Unavailable);
        self.wake_all();
    }
}

/// Wakes the waiter that waits longest; if all of them are awake already, the first looks once more.
fn wake_one(slots: &[Arc<Slot>], wake_up: WakeUp) {
    let one = || slots.iter().filter(|slot| slot.wake == Wake::One);
    let asleep = one().find(|slot| slot.is_asleep());
    if let Some(slot) = asleep.or_else(|| one().next()) {
        slot.send(wake_up);
    }
}

/// For so long a subscription stands that nobody needs.
const IDLE: Duration = Duration::from_secs(60);

/// Keeps the subscription, for as long as somebody waits or has waited lately.
pub(super) async fn listen(client: WeakClient, channel: Arc<Channel>) {
    let mut backoff = Backoff::new(Duration::from_millis(250), Duration::from_secs(30));
    loop {
        let subscribed = {
            let Some(client) = client.upgrade() else {
                return;
            };
            let interest = Interest::Channels(vec![channel.name.clone()]);
            client.subscribe(interest).await
        };
        match subscribed {
            Ok(mut pushes) => {
                backoff.reset();
                channel.confirmed();
                let mut idle_at = channel.idle_at();
                loop {
                    let push = tokio::select! {
                        // First, so that no number of messages keeps what nobody needs.
                        biased;
                        () = sleep_until(idle_at) => {
                            idle_at = channel.idle_at();
                            if idle_at <= Instant::now() && is_given_up(&client, &channel) {
                                return;
                            }
                            continue;
                        }
                        push = pushes.next() => push,
                    };
                    match push {
                        Some(Push::Message { payload, .. }) => channel.message(&payload),
                        Some(Push::Gap(GapReason::Lost)) => channel.unavailable(),
                        Some(Push::Gap(GapReason::Reconnected)) => channel.confirmed(),
                        Some(_) => channel.wake_all(),
                        None => break,
                    }
                }
                channel.unavailable();
            }
            Err(error) => {
                tracing::debug!(target: "redkit::coordination", %error, "no subscription; waiting by asking");
                channel.unavailable();
                if is_shutdown(&error) || is_given_up(&client, &channel) {
                    return;
                }
            }
        }
        sleep(backoff.next_pause()).await;
    }
}

fn is_given_up(client: &WeakClient, channel: &Arc<Channel>) -> bool {
    match client.upgrade() {
        Some(client) => client.wake_ups().forget(channel),
        None => true,
    }
}

fn is_shutdown(error: &Error) -> bool {
    let fault = error.call_error().and_then(|error| error.fault());
    fault.is_some_and(|fault| fault.kind() == FaultKind::Shutdown)
}

/// `<length of the name, 8 hexadecimal digits><name><payload>`
fn parse(message: &Bytes) -> Option<(Bytes, Bytes)> {
    let digits = message.get(..8)?;
    if !digits.iter().all(u8::is_ascii_hexdigit) {
        return None;
    }
    let length = usize::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()?;
    let end = length.checked_add(8)?;
    message.get(..end)?;
    Some((message.slice(8..end), message.slice(end..)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_a_name_and_a_payload() {
        let message = Bytes::from_static(b"00000003a:bboom");
        let (name, payload) = parse(&message).unwrap();
        assert_eq!((&*name, &*payload), (&b"a:b"[..], &b"boom"[..]));
        let empty = Bytes::from_static(b"00000003a:b");
        assert_eq!(parse(&empty).unwrap().1, Bytes::new());
        for wrong in [
            "",
            "0000000",
            "00000004abc",
            "xxxxxxxxabc",
            "ffffffffa",
            "+0000001a",
        ] {
            assert_eq!(parse(&Bytes::from(wrong)), None, "{wrong}");
        }
    }

    #[test]
    fn a_second_message_wakes_a_second_waiter_and_a_waiter_that_leaves_hands_on() {
        let channel = Channel::new(Bytes::from_static(b"c"));
        let name = Bytes::from_static(b"k");
        let [one, two, three] = [(); 3].map(|()| channel.add(&name, Wake::One));
        let all = channel.add(&name, Wake::All);
        let message = Bytes::from_static(b"00000001k");
        channel.message(&message);
        assert!(!one.is_asleep() && two.is_asleep() && !all.is_asleep());
        channel.message(&message);
        assert!(!two.is_asleep() && three.is_asleep());
        channel.remove(&name, &one, false);
        assert!(!three.is_asleep(), "the first one's message was handed on");
        for slot in [two, three, all] {
            channel.remove(&name, &slot, true);
        }
        assert!(channel.is_idle());
    }
}
