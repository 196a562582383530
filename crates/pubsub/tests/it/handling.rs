//! What the tests' handlers saw.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use parking_lot::Mutex;
use redkit_core::{Admission, AdmissionPermit, Admitted, Client};
use redkit_pubsub::topic::{
    ConsumerBuilder, Delivery, GroupStats, Outcome, Topic, TopicBuilder, Worker,
};

/// What was handled, with the attempt.
#[derive(Clone, Default)]
pub(crate) struct Seen(Arc<Mutex<Vec<(u32, u32)>>>);

impl Seen {
    pub(crate) fn add(&self, delivery: &Delivery<u32>) {
        self.0.lock().push((delivery.payload, delivery.attempt));
    }

    pub(crate) fn all(&self) -> Vec<(u32, u32)> {
        self.0.lock().clone()
    }

    pub(crate) fn payloads(&self) -> Vec<u32> {
        self.all().into_iter().map(|(payload, _)| payload).collect()
    }

    pub(crate) fn sorted(&self) -> Vec<u32> {
        let mut payloads = self.payloads();
        payloads.sort_unstable();
        payloads
    }

    pub(crate) fn len(&self) -> usize {
        self.0.lock().len()
    }
}

pub(crate) fn topic(client: &Client) -> Topic<u32> {
    builder(client).build().unwrap()
}

pub(crate) fn builder(client: &Client) -> TopicBuilder<u32> {
    Topic::builder(client, "t")
}

/// A worker that acknowledges everything that it sees.
pub(crate) async fn acknowledge(consumer: ConsumerBuilder<u32>, seen: &Seen) -> Worker {
    handle(consumer, seen, |_| Outcome::Ack).await
}

/// A worker that answers by the delivery.
pub(crate) async fn handle(
    consumer: ConsumerBuilder<u32>,
    seen: &Seen,
    answer: impl Fn(&Delivery<u32>) -> Outcome + Send + Sync + 'static,
) -> Worker {
    let (seen, answer) = (seen.clone(), Arc::new(answer));
    consumer
        .start(move |delivery: Delivery<u32>| {
            seen.add(&delivery);
            let outcome = answer(&delivery);
            async move { outcome }
        })
        .await
        .unwrap()
}

/// Admits so many at the same time.
pub(crate) struct AtOnce(pub(crate) Arc<tokio::sync::Semaphore>);

#[async_trait]
impl Admission for AtOnce {
    async fn admit(&self, key: &[u8], wait: Duration) -> Result<Admitted, redkit_core::Error> {
        assert_eq!(key, b"t:g");
        match tokio::time::timeout(wait, Arc::clone(&self.0).acquire_owned()).await {
            Ok(permit) => Ok(Admitted::Now(AdmissionPermit::holding(permit.unwrap()))),
            Err(_) => Ok(Admitted::Later(Duration::from_millis(5))),
        }
    }
}

/// Waits until it is so.
#[track_caller]
pub(crate) fn until(what: &str, mut is_so: impl FnMut() -> bool) -> impl Future<Output = ()> {
    let what = what.to_owned();
    async move {
        for _ in 0..6_000 {
            if is_so() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        panic!("it never came about: {what}");
    }
}

/// Waits until the group stands so.
pub(crate) async fn until_stats(
    topic: &Topic<u32>,
    group: &str,
    is_so: impl Fn(&GroupStats) -> bool,
) -> GroupStats {
    for _ in 0..3_000 {
        let stats = topic.stats(group).await.unwrap();
        if is_so(&stats) {
            return stats;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("it never came about: {:?}", topic.stats(group).await);
}
