//! Pipelines of messages that are published, handled and acknowledged: ours, one by hand, and `apalis-redis`.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use apalis_core::builder::{WorkerBuilder, WorkerFactoryFn};
use apalis_core::error::Error as ApalisError;
use apalis_core::storage::Storage as _;
use apalis_redis::{Config, RedisStorage};
use futures_util::future::join_all;
use redis::aio::MultiplexedConnection;
use redis::streams::StreamReadReply;
use redkit_core::Client;
use redkit_pubsub::topic::{Delivery, Outcome, Publication, Retention, Topic, Worker};
use redkit_testkit::Server;
use serde::{Deserialize, Serialize};
use tokio::sync::{Mutex, mpsc};
use tokio_util::task::AbortOnDropHandle;

use crate::topics::add;
use crate::{PUBLISHERS, connection, message, raw};

const HANDLERS: usize = 64;
const PREFETCH: usize = 128;

/// Messages from publication to acknowledgement.
pub(crate) trait Pipeline {
    /// Publishes so many messages, and waits until all of them are acknowledged.
    async fn run(&self, messages: usize) -> Took;
}

/// How long a pipeline took for its messages.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Took {
    /// Until the last one was handled.
    pub(crate) handled: Duration,
    /// Until the server had been told of the last one, and had answered.
    pub(crate) acknowledged: Duration,
}

/// How a topic is used.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Settings {
    pub(crate) retention: Retention,
    pub(crate) with_ids: bool,
    /// Whether the handler is given several messages at once.
    pub(crate) in_batches: bool,
}

pub(crate) struct Redkit {
    topic: Topic<String>,
    worker: Worker,
    with_ids: bool,
    published: AtomicUsize,
    handled: Arc<AtomicUsize>,
}

/// Each pipeline has streams of its own.
static PIPELINES: AtomicUsize = AtomicUsize::new(0);

fn next_name() -> String {
    format!("pipeline-{}", PIPELINES.fetch_add(1, Ordering::Relaxed))
}

impl Redkit {
    pub(crate) async fn start(client: &Client, settings: Settings) -> Self {
        let topic = Topic::<String>::builder(client, next_name()).retention(settings.retention);
        let topic = topic.build().unwrap();
        let consumer = topic
            .consumer("bench")
            .concurrency(HANDLERS)
            .prefetch(PREFETCH);
        let handled = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&handled);
        let handler = move |delivery: Delivery<String>| {
            let count = Arc::clone(&count);
            async move {
                assert_eq!(delivery.payload.len(), 64);
                count.fetch_add(1, Ordering::Relaxed);
                Outcome::Ack
            }
        };
        let count = Arc::clone(&handled);
        let of_batch = move |deliveries: Vec<Delivery<String>>| {
            let count = Arc::clone(&count);
            async move {
                let mut lengths = deliveries.iter().map(|delivery| delivery.payload.len());
                assert!(lengths.all(|length| length == 64));
                count.fetch_add(deliveries.len(), Ordering::Relaxed);
                Outcome::Ack
            }
        };
        let worker = match settings.in_batches {
            true => {
                let consumer = topic.consumer("bench").prefetch(2 * PREFETCH);
                let consumer = consumer.batch(PREFETCH, Duration::from_millis(1));
                consumer.start_batches(of_batch).await
            }
            false => consumer.start(handler).await,
        };
        Self {
            worker: worker.unwrap(),
            topic,
            with_ids: settings.with_ids,
            published: AtomicUsize::new(0),
            handled,
        }
    }
}

impl Pipeline for Redkit {
    async fn run(&self, messages: usize) -> Took {
        let before = self.worker.stats().acknowledged;
        let handled_before = self.handled.load(Ordering::Relaxed);
        let started = Instant::now();
        let publishers = (0..PUBLISHERS).map(|publisher| {
            let (topic, message) = (self.topic.clone(), message());
            let first = self.published.fetch_add(messages, Ordering::Relaxed);
            let with_ids = self.with_ids;
            tokio::spawn(async move {
                for number in share(publisher, messages) {
                    let publication = match with_ids {
                        true => Publication::new().id(format!("{publisher}-{}", first + number)),
                        false => Publication::new(),
                    };
                    topic
                        .publish_with(message.as_str(), publication)
                        .await
                        .unwrap();
                }
            })
        });
        let publishers: Vec<_> = publishers.collect();
        until(|| self.handled.load(Ordering::Relaxed) - handled_before >= messages).await;
        let handled = started.elapsed();
        until(|| self.worker.stats().acknowledged - before >= messages as u64).await;
        let acknowledged = started.elapsed();
        join_all(publishers).await;
        Took {
            handled,
            acknowledged,
        }
    }
}

/// When a pipeline that is written by hand acknowledges.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Acknowledge {
    /// Each message, when it was handled.
    Each,
    /// All messages of a read together.
    EachRead,
}

pub(crate) struct ByHand {
    connection: MultiplexedConnection,
    stream: String,
    acknowledged: Arc<AtomicUsize>,
    _tasks: Vec<AbortOnDropHandle<()>>,
}

const GROUP: &str = "bench";

impl ByHand {
    pub(crate) async fn start(server: &Server, acknowledge: Acknowledge) -> Self {
        let raw = raw(server);
        let stream = format!("raw:{}", next_name());
        let (connection_, mut reader) = (connection(&raw).await, connection(&raw).await);
        let mut create = redis::cmd("XGROUP");
        let create = create.arg("CREATE").arg(&stream).arg(GROUP).arg("0");
        create
            .arg("MKSTREAM")
            .query_async::<()>(&mut reader)
            .await
            .unwrap();
        let acknowledged = Arc::new(AtomicUsize::new(0));
        let (jobs, queue) = mpsc::channel::<(String, Vec<u8>)>(PREFETCH);
        let queue = Arc::new(Mutex::new(queue));
        let mut tasks = Vec::new();
        for _ in 0..HANDLERS {
            let (queue, acknowledged) = (Arc::clone(&queue), Arc::clone(&acknowledged));
            let (mut connection, stream) = (connection_.clone(), stream.clone());
            tasks.push(spawn(async move {
                while let Some((id, message)) = next(&queue).await {
                    handle(&message);
                    acknowledge_all(&mut connection, &stream, &[id]).await;
                    acknowledged.fetch_add(1, Ordering::Relaxed);
                }
            }));
        }
        let counted = Arc::clone(&acknowledged);
        let (mut connection, of) = (connection_.clone(), stream.clone());
        tasks.push(spawn(async move {
            loop {
                let entries = read(&mut reader, &of).await;
                match acknowledge {
                    Acknowledge::Each => {
                        for entry in entries {
                            jobs.send(entry).await.unwrap();
                        }
                    }
                    Acknowledge::EachRead if entries.is_empty() => {}
                    Acknowledge::EachRead => {
                        let (ids, messages): (Vec<_>, Vec<_>) = entries.into_iter().unzip();
                        messages.iter().for_each(|message| handle(message));
                        acknowledge_all(&mut connection, &of, &ids).await;
                        counted.fetch_add(ids.len(), Ordering::Relaxed);
                    }
                }
            }
        }));
        Self {
            connection: connection_,
            stream,
            acknowledged,
            _tasks: tasks,
        }
    }
}

fn spawn(task: impl Future<Output = ()> + Send + 'static) -> AbortOnDropHandle<()> {
    AbortOnDropHandle::new(tokio::spawn(task))
}

async fn next<T>(queue: &Mutex<mpsc::Receiver<T>>) -> Option<T> {
    queue.lock().await.recv().await
}

fn handle(message: &[u8]) {
    let text: String = serde_json::from_slice(message).unwrap();
    assert_eq!(text.len(), 64);
}

async fn read(connection: &mut MultiplexedConnection, stream: &str) -> Vec<(String, Vec<u8>)> {
    let mut read = redis::cmd("XREADGROUP");
    read.arg("GROUP").arg(GROUP).arg("consumer");
    read.arg("COUNT").arg(PREFETCH).arg("BLOCK").arg(500);
    read.arg("STREAMS").arg(stream).arg(">");
    let reply: Option<StreamReadReply> = read.query_async(connection).await.unwrap();
    let entries = reply.into_iter().flat_map(|reply| reply.keys);
    let entries = entries.flat_map(|key| key.ids);
    let entries = entries.map(|entry| {
        let message = entry.get("m").unwrap();
        (entry.id, message)
    });
    entries.collect()
}

async fn acknowledge_all(connection: &mut MultiplexedConnection, stream: &str, ids: &[String]) {
    let mut acknowledge = redis::cmd("XACK");
    let acknowledge = acknowledge.arg(stream).arg(GROUP).arg(ids);
    let count: usize = acknowledge.query_async(connection).await.unwrap();
    assert_eq!(count, ids.len());
}

impl Pipeline for ByHand {
    async fn run(&self, messages: usize) -> Took {
        let before = self.acknowledged.load(Ordering::Relaxed);
        let started = Instant::now();
        let publishers = (0..PUBLISHERS).map(|publisher| {
            let (mut connection, stream) = (self.connection.clone(), self.stream.clone());
            let message = message();
            tokio::spawn(async move {
                for _ in share(publisher, messages) {
                    add(&mut connection, &stream, &message).await;
                }
            })
        });
        let publishers: Vec<_> = publishers.collect();
        until(|| self.acknowledged.load(Ordering::Relaxed) - before >= messages).await;
        let acknowledged = started.elapsed();
        join_all(publishers).await;
        Took {
            // Its handlers are not asked: nothing compares that.
            handled: acknowledged,
            acknowledged,
        }
    }
}

/// The job that `apalis-redis` carries.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Job {
    text: String,
}

/// Its acknowledgements wait in the process behind its handlers, one is told after the other, and nobody is told when:
/// the set of what is done grows with each.
pub(crate) struct Apalis {
    storage: RedisStorage<Job>,
    handled: Arc<AtomicUsize>,
    done: String,
    looking: MultiplexedConnection,
    _worker: AbortOnDropHandle<()>,
}

impl Apalis {
    pub(crate) async fn start(server: &Server, poll: Duration, buffer: usize) -> Self {
        let connection = apalis_redis::connect(server.url()).await.unwrap();
        let config = Config::default()
            .set_namespace(&next_name())
            .set_poll_interval(poll)
            .set_buffer_size(buffer);
        let done = config.done_jobs_set();
        let looking = crate::connection(&raw(server)).await;
        let storage = RedisStorage::new_with_config(connection, config);
        let handled = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&handled);
        let handler = move |job: Job| {
            let count = Arc::clone(&count);
            async move {
                assert_eq!(job.text.len(), 64);
                count.fetch_add(1, Ordering::Relaxed);
                Ok::<(), ApalisError>(())
            }
        };
        let worker = WorkerBuilder::new("bench")
            .backend(storage.clone())
            .build_fn(handler);
        Self {
            storage,
            handled,
            done,
            looking,
            _worker: spawn(async move { worker.run().await }),
        }
    }
}

impl Apalis {
    /// How many messages the server knows to be done.
    async fn done(&self) -> usize {
        let mut looking = self.looking.clone();
        let mut count = redis::cmd("ZCARD");
        let count = count.arg(&self.done);
        count.query_async(&mut looking).await.unwrap()
    }
}

impl Pipeline for Apalis {
    async fn run(&self, messages: usize) -> Took {
        let before = self.handled.load(Ordering::Relaxed);
        let done_before = self.done().await;
        let started = Instant::now();
        let publishers = (0..PUBLISHERS).map(|publisher| {
            let (mut storage, text) = (self.storage.clone(), message());
            tokio::spawn(async move {
                for _ in share(publisher, messages) {
                    let job = Job { text: text.clone() };
                    storage.push(job).await.unwrap();
                }
            })
        });
        let publishers: Vec<_> = publishers.collect();
        until(|| self.handled.load(Ordering::Relaxed) - before >= messages).await;
        let handled = started.elapsed();
        while self.done().await - done_before < messages {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        let acknowledged = started.elapsed();
        join_all(publishers).await;
        Took {
            handled,
            acknowledged,
        }
    }
}

/// The numbers of the messages of one publisher.
fn share(publisher: usize, messages: usize) -> impl Iterator<Item = usize> {
    (publisher..messages).step_by(PUBLISHERS)
}

async fn until(is_so: impl Fn() -> bool) {
    while !is_so() {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}
