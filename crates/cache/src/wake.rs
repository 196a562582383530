//! [`Wakes`]: the callers in this process that wait for another process's load, and the subscription
//! that wakes them. It is made when a caller waits for the first time.

use std::collections::HashMap;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use redkit_core::{Client, Interest, Key, Push};
use tokio::sync::watch;
use tokio::time::{sleep, timeout};
use tokio_util::task::AbortOnDropHandle;

/// How long the first waiting caller gives the subscription to come about.
const PATIENCE: Duration = Duration::from_millis(500);

/// Between two attempts to subscribe.
const PAUSE: Duration = Duration::from_millis(500);

/// Without a subscription, waiting is asking this often.
const POLL: Duration = Duration::from_millis(50);

pub(crate) struct Wakes {
    client: Client,
    channel: Bytes,
    shared: Arc<Shared>,
    task: OnceLock<AbortOnDropHandle<()>>,
}

struct Shared {
    waiting: Mutex<HashMap<Key, watch::Sender<Option<Woken>>>>,
    is_subscribed: watch::Sender<bool>,
}

/// Why a wait ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Woken {
    /// Something has changed: look again.
    Look,
    /// The load failed, and its process sends the loader's error.
    Failed(Bytes),
}

/// The registration of a caller that waits for a key.
pub(crate) struct Waiter {
    shared: Arc<Shared>,
    key: Key,
    /// Until it is dropped.
    woken: Option<watch::Receiver<Option<Woken>>>,
}

impl Wakes {
    pub(crate) fn new(client: Client, channel: Bytes) -> Self {
        Self {
            client,
            channel,
            shared: Arc::new(Shared {
                waiting: Mutex::default(),
                is_subscribed: watch::Sender::new(false),
            }),
            task: OnceLock::new(),
        }
    }

    /// Registers a wait for `key`. Look at the entry after this, so that nothing is missed.
    pub(crate) async fn watch(&self, key: &Key) -> Waiter {
        self.task.get_or_init(|| {
            let (client, channel) = (self.client.clone(), self.channel.clone());
            let shared = Arc::clone(&self.shared);
            AbortOnDropHandle::new(tokio::spawn(listen(client, channel, shared)))
        });
        let mut is_subscribed = self.shared.is_subscribed.subscribe();
        // Without it the wait is a poll, which is worse and still right.
        let _ = timeout(PATIENCE, is_subscribed.wait_for(|is| *is)).await;
        let mut waiting = self.shared.waiting.lock();
        let woken = match waiting.get(key) {
            Some(sender) => sender.subscribe(),
            None => {
                let (sender, receiver) = watch::channel(None);
                waiting.insert(key.clone(), sender);
                receiver
            }
        };
        Waiter {
            shared: Arc::clone(&self.shared),
            key: key.clone(),
            woken: Some(woken),
        }
    }
}

impl Waiter {
    /// Waits to be woken, at most for `limit`.
    pub(crate) async fn wait(&mut self, limit: Duration) -> Woken {
        let limit = match *self.shared.is_subscribed.borrow() {
            true => limit,
            false => limit.min(POLL),
        };
        let Some(woken) = &mut self.woken else {
            return Woken::Look;
        };
        match timeout(limit, woken.changed()).await {
            Ok(Ok(())) => woken.borrow_and_update().clone().unwrap_or(Woken::Look),
            Ok(Err(_)) | Err(_) => Woken::Look,
        }
    }
}

impl Drop for Waiter {
    fn drop(&mut self) {
        let mut waiting = self.shared.waiting.lock();
        // Under the lock, or of two that go at once each would take the other to be still there.
        self.woken = None;
        if waiting
            .get(&self.key)
            .is_some_and(|sender| sender.receiver_count() == 0)
        {
            waiting.remove(&self.key);
        }
    }
}

async fn listen(client: Client, channel: Bytes, shared: Arc<Shared>) {
    loop {
        let interest = Interest::Channels(vec![channel.clone()]);
        match client.subscribe(interest).await {
            Ok(mut pushes) => {
                shared.is_subscribed.send_replace(true);
                while let Some(push) = pushes.next().await {
                    match push {
                        Push::Message { payload, .. } => shared.message(&payload),
                        // A caller that could have been woken meanwhile looks for itself.
                        _ => shared.wake_all(),
                    }
                }
                shared.is_subscribed.send_replace(false);
                shared.wake_all();
            }
            Err(error) => {
                tracing::debug!(target: "redkit::cache", %error, "no subscription; waiting by asking");
            }
        }
        sleep(PAUSE).await;
    }
}

impl Shared {
    fn message(&self, payload: &Bytes) {
        let Some((kind, key, rest)) = parse(payload) else {
            return;
        };
        let woken = match kind {
            b'e' => Woken::Failed(rest),
            _ => Woken::Look,
        };
        if let Some(sender) = self.waiting.lock().get(&Key::from_raw(key)) {
            sender.send_replace(Some(woken));
        }
    }

    fn wake_all(&self) {
        for sender in self.waiting.lock().values() {
            sender.send_replace(Some(Woken::Look));
        }
    }
}

/// `<kind><length of the key, 8 hexadecimal digits><key><rest>`
fn parse(payload: &Bytes) -> Option<(u8, Bytes, Bytes)> {
    let kind = *payload.first()?;
    let length = std::str::from_utf8(payload.get(1..9)?).ok()?;
    let end = usize::from_str_radix(length, 16).ok()?.checked_add(9)?;
    payload.get(..end)?;
    Some((kind, payload.slice(9..end), payload.slice(end..)))
}

#[cfg(test)]
mod tests {
    use redkit_core::ClientConfig;
    use redkit_embedded::Embedded;

    use super::*;

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_key_for_which_nobody_waits_is_forgotten() {
        let client = Client::from_backend(Arc::new(Embedded::new()), &ClientConfig::default());
        let wakes = Wakes::new(client.unwrap(), Bytes::from_static(b"wake"));
        let key = Key::from_raw("k");
        for _ in 0..20_000 {
            let (one, two) = (wakes.watch(&key).await, wakes.watch(&key).await);
            let goes = tokio::spawn(async move { drop(one) });
            drop(two);
            goes.await.unwrap();
            assert!(wakes.shared.waiting.lock().is_empty());
        }
    }

    #[test]
    fn a_payload_is_a_kind_a_key_and_the_rest() {
        let payload = Bytes::from_static(b"e00000003a:bboom");
        let (kind, key, rest) = parse(&payload).unwrap();
        assert_eq!((kind, &*key, &*rest), (b'e', &b"a:b"[..], &b"boom"[..]));
        for wrong in [
            "",
            "f",
            "f0000000",
            "f00000004abc",
            "fxxxxxxxxabc",
            "fffffffffa",
        ] {
            assert_eq!(parse(&Bytes::from(wrong)), None, "{wrong}");
        }
    }
}
