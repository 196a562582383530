//! [`Tail`]: tells the readers of a log, in one process, that there is something new.

use std::sync::{Arc, Weak};
use std::time::Duration;

use parking_lot::Mutex;
use redkit_core::coordination::Backoff;
use redkit_core::{Client, Command, Error, Topology};
use tokio::sync::watch;
use tokio::time::{Instant, sleep};
use tokio_util::task::AbortOnDropHandle;

use super::Inner;
use super::entry::NewEntries;
use super::keys::Partition;

/// How long the server waits for something new.
const WAIT: Duration = Duration::from_secs(1);
/// How long a reply may take beyond that.
const MARGIN: Duration = Duration::from_secs(2);

/// Waits at the server for what is new in each partition, as long as anybody reads.
pub(super) struct Tail {
    /// How often there was something new in each partition.
    news: watch::Sender<Vec<u64>>,
    tasks: Mutex<Vec<AbortOnDropHandle<()>>>,
}

/// The tail of a topic, while it has readers.
pub(super) type CurrentTail = Mutex<Weak<Tail>>;

impl Tail {
    /// The topic's, which is begun when there is none.
    pub(super) fn of(topic: &Inner) -> Arc<Self> {
        let mut current = topic.tail.lock();
        if let Some(tail) = current.upgrade() {
            return tail;
        }
        let count = topic.partitions.len();
        let tail = Arc::new(Self {
            news: watch::Sender::new(vec![0; count]),
            tasks: Mutex::default(),
        });
        let tasks = topic.partitions.iter().enumerate();
        let tasks = tasks.map(|(index, partition)| {
            let follow = follow(
                Arc::downgrade(&tail),
                topic.client.clone(),
                partition.clone(),
                index,
            );
            AbortOnDropHandle::new(tokio::spawn(follow))
        });
        *tail.tasks.lock() = tasks.collect();
        *current = Arc::downgrade(&tail);
        tail
    }

    /// The news of each partition, to be compared with the next.
    pub(super) fn news(&self) -> Vec<u64> {
        self.news.borrow().clone()
    }

    /// Waits until there are other news of a partition whose news are given.
    pub(super) async fn other_than(&self, known: Vec<Option<u64>>) {
        let mut news = self.news.subscribe();
        let is_other =
            |(news, known): (&u64, &Option<u64>)| known.is_some_and(|known| *news != known);
        // The sender is this tail's own.
        let _ = news
            .wait_for(|news| news.iter().zip(&known).any(is_other))
            .await;
    }

    fn tell(&self, index: usize) {
        self.news.send_modify(|news| {
            if let Some(count) = news.get_mut(index) {
                *count += 1;
            }
        });
    }
}

async fn follow(tail: Weak<Tail>, client: Client, partition: Partition, index: usize) {
    let mut backoff = Backoff::new(Duration::from_millis(50), Duration::from_secs(1));
    loop {
        let error = match follow_on(&tail, &client, &partition, index, &mut backoff).await {
            Ok(()) => return,
            Err(error) => error,
        };
        // Whatever came meanwhile was not told.
        if let Some(tail) = tail.upgrade() {
            tail.tell(index);
        }
        let pause = backoff.next_pause();
        tracing::debug!(target: "redkit::pubsub", %error, ?pause, "a log is followed again");
        sleep(pause).await;
    }
}

/// On one connection, until it fails, or nobody reads any more.
async fn follow_on(
    tail: &Weak<Tail>,
    client: &Client,
    partition: &Partition,
    index: usize,
    backoff: &mut Backoff,
) -> Result<(), Error> {
    let own = client.dedicated().await?;
    if client.topology() == Topology::Cluster {
        // The first command makes the connection, and its key says to which node.
        let first = Command::new("EXISTS").key(&partition.stream);
        own.call::<u64>(first).await?;
    }
    let newest = Command::new("XREVRANGE").key(&partition.stream);
    let newest = newest.arg("+").arg("-").arg("COUNT").arg(1);
    let crate::scripts::Entries(newest) = own.call(newest).await?;
    let newest: Option<IdOfEntry> = newest.into_iter().next();
    let mut last = newest.map_or_else(|| "0-0".to_owned(), |IdOfEntry(id)| id);
    // What came before this was not told.
    let Some(readers) = tail.upgrade() else {
        return Ok(());
    };
    readers.tell(index);
    drop(readers);
    loop {
        let wait = u64::try_from(WAIT.as_millis()).unwrap_or(1);
        let read = Command::new("XREAD").arg("COUNT").arg(100);
        let read = read.arg("BLOCK").arg(wait).arg("STREAMS");
        let read = read.key(&partition.stream).arg(&*last);
        let read = read.deadline(Instant::now() + WAIT + MARGIN);
        let NewEntries(entries) = own.call(read).await?;
        backoff.reset();
        let Some(readers) = tail.upgrade() else {
            return Ok(());
        };
        if let Some(entry) = entries.last() {
            last = entry.entry.to_string();
            readers.tell(index);
        }
    }
}

/// Of an entry of which nothing else is of interest.
struct IdOfEntry(String);

impl redkit_core::FromValue for IdOfEntry {
    fn from_value(value: redkit_core::Value) -> Result<Self, redkit_core::ValueError> {
        let (id, _): (String, redkit_core::Value) = value.to()?;
        Ok(Self(id))
    }
}
