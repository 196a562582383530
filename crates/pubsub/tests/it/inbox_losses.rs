//! Subscriptions to inboxes of which a server has lost items, and pages that the network loses.

use std::sync::Arc;
use std::time::Duration;

use redkit_core::{Client, ClientConfig, Command};
use redkit_embedded::{Embedded, Snapshot};
use redkit_pubsub::{InboxEvent, InboxSubscription, ItemId};
use redkit_testkit::{Injection, Rule};
use tokio::time::{sleep, timeout};

use crate::inbox_subscriptions::{is_reading, two};
use crate::listening::{item, next_item};

const MS: Duration = Duration::from_millis(1);

async fn expect_gap(subscription: &mut InboxSubscription<u32>) {
    let event = next_item(subscription).await;
    assert!(matches!(event, InboxEvent::Gap), "{event:?}");
}

/// The subscriber reads, and there is nothing for it.
async fn find_nothing(subscription: &mut InboxSubscription<u32>) {
    assert!(timeout(100 * MS, subscription.next()).await.is_err());
}

fn client_of(engine: &Arc<Embedded>) -> Client {
    Client::from_backend(Arc::clone(engine) as _, &ClientConfig::default()).unwrap()
}

/// The server's time of an id.
fn millis(id: ItemId) -> u64 {
    let text = id.to_string();
    text.split_once('-').unwrap().0.parse().unwrap()
}

/// Another server takes over without the last item, and gives its number again.
#[tokio::test(start_paused = true)]
async fn an_item_whose_number_the_subscriber_has_seen_comes_before_the_next_one() {
    let engine = Arc::new(Embedded::new());
    let (_, connected, pusher) = two(&engine, 100);
    let mut subscription = connected.subscribe("ann", None).await.unwrap();
    let push = async |n: u32| {
        sleep(MS).await;
        pusher.push("ann", &n).await.unwrap();
    };
    for n in 0..3 {
        push(n).await;
        assert_eq!(item(&mut subscription).await, n);
    }
    let snapshot = engine.snapshot();
    push(3).await;
    assert_eq!(item(&mut subscription).await, 3);
    engine.restore(&snapshot);
    // Both are pushed before the subscriber looks.
    push(4).await;
    push(5).await;
    let first = match next_item(&mut subscription).await {
        InboxEvent::Gap => next_item(&mut subscription).await,
        item => item,
    };
    assert!(
        matches!(&first, InboxEvent::Item(item) if matches!(item.value, Ok(4))),
        "{first:?}"
    );
    assert_eq!(item(&mut subscription).await, 5);
}

/// A page with more than 16 items takes longer than its time.
#[tokio::test(start_paused = true)]
async fn an_inbox_whose_pages_are_too_large_for_the_network_is_read_in_smaller_ones() {
    let (backend, connected, pusher) = two(&Arc::default(), 1_000);
    for n in 0..300 {
        pusher.push("ann", &n).await.unwrap();
    }
    let is_large = |command: &Command| {
        let count = command.iter().last().unwrap_or_default();
        let count = String::from_utf8_lossy(count).parse::<u32>();
        is_reading(command) && count.is_ok_and(|count| count > 16)
    };
    backend.add(Rule::new(Injection::HangAfter).on(is_large));
    let mut subscription = connected.subscribe("ann", None).await.unwrap();
    for n in 0..300 {
        assert_eq!(item(&mut subscription).await, n);
    }
}

#[tokio::test(start_paused = true)]
async fn an_item_that_no_subscriber_has_read_comes_though_the_state_of_its_inbox_was_lost() {
    let engine = Arc::new(Embedded::new());
    let (backend, connected, pusher) = two(&engine, 10);
    let mut subscription = connected.subscribe("ann", None).await.unwrap();
    find_nothing(&mut subscription).await;
    // The subscriber hears of the first item, and cannot read for a while.
    backend.add(Rule::new(Injection::NotSent).on(is_reading));
    pusher.push("ann", &0).await.unwrap();
    find_nothing(&mut subscription).await;
    let client = client_of(&engine);
    let state = client.key("inbox:notes:{ann}:state");
    let lose = Command::new("DEL").key(&state);
    assert_eq!(client.call::<u64>(lose).await.unwrap(), 1);
    pusher.push("ann", &1).await.unwrap();
    backend.clear();
    expect_gap(&mut subscription).await;
    assert_eq!(item(&mut subscription).await, 0);
    assert_eq!(item(&mut subscription).await, 1);
}

/// The ids of the new inbox are less than those of the one that was lost.
#[tokio::test(start_paused = true)]
async fn items_that_the_inbox_dropped_after_it_was_lost_are_a_gap_whatever_it_had_dropped_before() {
    let engine = Arc::new(Embedded::new());
    let (_, connected, pusher) = two(&engine, 3);
    let mut last = None;
    for n in 0..5 {
        last = Some(pusher.push("ann", &n).await.unwrap().id);
    }
    pusher.confirm_up_to("ann", last.unwrap()).await.unwrap();
    let mut subscription = connected.subscribe("ann", None).await.unwrap();
    find_nothing(&mut subscription).await;
    engine.restore(&Snapshot::default());
    engine.adjust_clock(-10_000_000);
    let first = pusher.push("ann", &10).await.unwrap().id;
    pusher.confirm_up_to("ann", first).await.unwrap();
    expect_gap(&mut subscription).await;
    find_nothing(&mut subscription).await;
    for n in 11..17 {
        pusher.push("ann", &n).await.unwrap();
    }
    expect_gap(&mut subscription).await;
    for n in 14..17 {
        assert_eq!(item(&mut subscription).await, n);
    }
}

/// The ids of some of the new server's items are less than that of the last item that was read, and of others greater.
#[tokio::test(start_paused = true)]
async fn items_behind_lost_ones_come_in_their_order_when_the_subscriber_heard_of_a_later_one() {
    let engine = Arc::new(Embedded::new());
    let (_, connected, pusher) = two(&engine, 100);
    let client = client_of(&engine);
    let mut subscription = connected.subscribe("ann", None).await.unwrap();
    pusher.push("ann", &0).await.unwrap();
    assert_eq!(item(&mut subscription).await, 0);
    let snapshot = engine.snapshot();
    sleep(10 * MS).await;
    let read = pusher.push("ann", &1).await.unwrap().id;
    assert_eq!(item(&mut subscription).await, 1);
    // The subscriber hears of an item, and before it reads, the server has lost this one and the one before.
    let state = client.key("inbox:notes:{ann}:state");
    let epoch = Command::new("HGET").key(&state).arg("e");
    let epoch: String = client.call(epoch).await.unwrap();
    let heard: ItemId = format!("{}-0", millis(read) + 10_000).parse().unwrap();
    let live = client.key("inbox:notes:{ann}:live");
    let tell = Command::new("PUBLISH").key(&live);
    let tell = tell.arg(format!("{epoch} {heard} 9\n9"));
    assert_eq!(client.call::<u64>(tell).await.unwrap(), 1);
    engine.restore(&snapshot);
    engine.adjust_clock(-5_000);
    assert!(pusher.push("ann", &2).await.unwrap().id < read);
    sleep(10 * MS).await;
    let behind = pusher.push("ann", &3).await.unwrap().id;
    assert!(read < behind && behind < heard);
    expect_gap(&mut subscription).await;
    assert_eq!(item(&mut subscription).await, 2);
    assert_eq!(item(&mut subscription).await, 3);
}
