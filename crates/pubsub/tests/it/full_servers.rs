//! Topics and inboxes on a server whose memory is full: whatever is there is drained.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use redkit_core::{Client, ClientConfig};
use redkit_embedded::Embedded;
use redkit_pubsub::Inbox;
use redkit_pubsub::topic::{ConsumerBuilder, Delivery, Outcome, Publication, Topic};
use redkit_testkit::{BackendKind, Fixture, Server, ServerOptions};
use tokio::time::sleep;

use crate::handling::{Seen, acknowledge, handle, until, until_stats};

const MS: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);

/// The memory of a server.
enum Memory<'s> {
    Server(&'s Server),
    Engine(&'s Embedded),
}

impl Memory<'_> {
    async fn set_full(&self, is_full: bool) {
        match self {
            Memory::Server(server) => {
                let most = if is_full { "1" } else { "0" };
                let set = ["CONFIG", "SET", "maxmemory", most];
                server.raw(&set).await.unwrap();
            }
            Memory::Engine(engine) => engine.set_full(is_full),
        }
    }
}

/// A topic whose groups are ordered, or not.
struct Kind {
    topic: Topic<u32>,
    is_ordered: bool,
}

impl Kind {
    fn each(client: &Client) -> [Self; 2] {
        ["shared", "ordered"].map(|name| Self {
            topic: Topic::builder(client, name).build().unwrap(),
            is_ordered: name == "ordered",
        })
    }

    fn consumer(&self, group: &str) -> ConsumerBuilder<u32> {
        let consumer = self.topic.consumer(group).lease(5 * SECOND);
        match self.is_ordered {
            true => consumer.ordered(),
            false => consumer,
        }
    }
}

/// A known limit: this driver has to put scripts between MULTI and EXEC, and there a server without memory refuses
/// everything. Nothing is lost; topics drain once it has some.
fn has_to_be_freed(kind: BackendKind) -> bool {
    matches!(kind, BackendKind::Fred | BackendKind::FredSentinel)
}

async fn drains(kind: &Kind, memory: &Memory<'_>, has_to_be_freed: bool) {
    let [running, started, new] = std::array::from_fn(|_| Seen::default());
    let earlier = acknowledge(kind.consumer("started"), &started).await;
    earlier.shutdown(SECOND).await;
    let worker = {
        let seen = running.clone();
        let slow = move |delivery: Delivery<u32>| {
            seen.add(&delivery);
            async {
                sleep(25 * MS).await;
                Outcome::Ack
            }
        };
        kind.consumer("running").start(slow).await.unwrap()
    };
    until("it reads", || worker.stats().partitions == 1).await;
    for n in 0..20 {
        kind.topic.publish(&n).await.unwrap();
    }
    let later = Publication::new().delay(100 * MS);
    kind.topic.publish_with(&20, later).await.unwrap();
    memory.set_full(true).await;
    let refused = kind.topic.publish(&21).await;
    assert!(refused.unwrap_err().to_string().contains("OOM"));
    sleep(150 * MS).await;
    if has_to_be_freed {
        memory.set_full(false).await;
    }
    let created = kind.consumer("created").create_group().await;
    assert!(created.unwrap().is_new());
    assert!(kind.topic.delete_group("created").await.unwrap());
    // A message is due. The new group begins with what the others have not acknowledged.
    let workers = [
        acknowledge(kind.consumer("new"), &new).await,
        acknowledge(kind.consumer("started"), &started).await,
        worker,
    ];
    let all: Vec<u32> = (0..=20).collect();
    for seen in [&running, &started, &new] {
        until("all are handled", || seen.len() >= all.len()).await;
        assert_eq!(seen.sorted(), all);
    }
    let is_empty = |length| length == 0;
    until_stats(&kind.topic, "new", |stats| is_empty(stats.length)).await;
    memory.set_full(false).await;
    for worker in workers {
        worker.shutdown(SECOND).await;
    }
}

async fn buries_and_redrives(kind: &Kind, memory: &Memory<'_>, has_to_be_freed: bool) {
    for n in 0..3 {
        kind.topic.publish(&n).await.unwrap();
    }
    memory.set_full(!has_to_be_freed).await;
    let (seen, is_well) = (Seen::default(), Arc::new(AtomicBool::new(false)));
    let worker = {
        let is_well = Arc::clone(&is_well);
        let answer = move |_: &Delivery<u32>| match is_well.load(Ordering::Relaxed) {
            true => Outcome::Ack,
            false => Outcome::dead("no address"),
        };
        handle(kind.consumer("g"), &seen, answer).await
    };
    until("they are dead letters", || worker.stats().dead == 3).await;
    is_well.store(true, Ordering::Relaxed);
    let letters = kind.topic.dead_letters("g").unwrap();
    assert_eq!(letters.redrive_all().await.unwrap(), 3);
    until("they are handled", || worker.stats().acknowledged == 3).await;
    assert_eq!(seen.sorted(), [0, 0, 1, 1, 2, 2]);
    assert_eq!(letters.count().await.unwrap(), 0);
    memory.set_full(false).await;
    worker.shutdown(SECOND).await;
}

async fn an_inbox_is_read(client: &Client, memory: &Memory<'_>, has_to_be_freed: bool) {
    let builder = Inbox::<u32>::builder(client, "notes");
    let inbox = builder.build().unwrap();
    for n in 0..3 {
        inbox.push("ann", &n).await.unwrap();
    }
    memory.set_full(!has_to_be_freed).await;
    let batch = inbox.read("ann", 2).await.unwrap();
    assert_eq!(batch.items.len(), 2);
    let rest = inbox.read_next("ann", &batch.token, 2).await.unwrap();
    assert_eq!((rest.confirmed, rest.items.len()), (2, 1));
    assert_eq!(inbox.confirm("ann", &rest.token).await.unwrap(), 1);
    memory.set_full(false).await;
}

redkit_testkit::suite! {
    #[networked]
    async fn an_inbox_is_read_and_confirmed_though_the_server_is_out_of_memory(fixture: Fixture) {
        let server = fixture.private_server(ServerOptions::new()).await.unwrap();
        let client = fixture.connect(fixture.config_at(&server.url()).unwrap()).await.unwrap();
        an_inbox_is_read(&client, &Memory::Server(&server), has_to_be_freed(fixture.kind)).await;
    }

    #[networked]
    async fn a_topic_drains_though_the_server_is_out_of_memory(fixture: Fixture) {
        let server = fixture.private_server(ServerOptions::new()).await.unwrap();
        let client = fixture.connect(fixture.config_at(&server.url()).unwrap()).await.unwrap();
        for kind in Kind::each(&client) {
            drains(&kind, &Memory::Server(&server), has_to_be_freed(fixture.kind)).await;
        }
    }

    #[networked]
    async fn dead_letters_are_written_and_redriven_though_the_server_is_out_of_memory(fixture: Fixture) {
        let server = fixture.private_server(ServerOptions::new()).await.unwrap();
        let client = fixture.connect(fixture.config_at(&server.url()).unwrap()).await.unwrap();
        for kind in Kind::each(&client) {
            buries_and_redrives(&kind, &Memory::Server(&server), has_to_be_freed(fixture.kind)).await;
        }
    }
}

fn embedded() -> (Arc<Embedded>, Client) {
    let engine = Arc::new(Embedded::new());
    let backend = Arc::clone(&engine);
    let client = Client::from_backend(backend, &ClientConfig::default()).unwrap();
    (engine, client)
}

#[tokio::test(start_paused = true)]
async fn an_inbox_is_read_and_confirmed_though_the_engine_is_full() {
    let (engine, client) = embedded();
    an_inbox_is_read(&client, &Memory::Engine(&engine), false).await;
}

#[tokio::test(start_paused = true)]
async fn a_topic_drains_though_the_engine_is_full() {
    let (engine, client) = embedded();
    for kind in Kind::each(&client) {
        drains(&kind, &Memory::Engine(&engine), false).await;
    }
}

#[tokio::test(start_paused = true)]
async fn dead_letters_are_written_and_redriven_though_the_engine_is_full() {
    let (engine, client) = embedded();
    for kind in Kind::each(&client) {
        buries_and_redrives(&kind, &Memory::Engine(&engine), false).await;
    }
}
