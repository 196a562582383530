//! Inboxes of users who are connected.

use std::sync::Arc;
use std::time::Duration;

use redkit_core::{Client, ClientConfig, Command};
use redkit_embedded::{Embedded, Snapshot};
use redkit_pubsub::{Error, Inbox, InboxEvent};
use redkit_testkit::{FaultyBackend, Fixture, Gate, Injection, Rule};
use tokio::time::{sleep, timeout};

use crate::listening::{item, next_item};

const MS: Duration = Duration::from_millis(1);
/// Long enough for a subscription's first look on a busy machine.
const FIRST_LOOK: Duration = Duration::from_secs(2);

fn inbox(fixture: &Fixture, capacity: u32) -> Inbox<u32> {
    Inbox::builder(&fixture.client, "notes")
        .capacity(capacity)
        .build()
        .unwrap()
}

/// The call by which a subscription reads its inbox.
pub(crate) fn is_reading(command: &Command) -> bool {
    let name = command.name();
    name == "XRANGE"
        || (name.starts_with("EVAL") && command.iter().any(|arg| arg.ends_with(b":state")))
}

/// Connected users behind a backend with faults, and others.
pub(crate) fn two(
    engine: &Arc<Embedded>,
    capacity: u32,
) -> (Arc<FaultyBackend>, Inbox<u32>, Inbox<u32>) {
    let backend = FaultyBackend::new(Arc::clone(engine) as _);
    let pusher = Client::from_backend(Arc::clone(engine) as _, &ClientConfig::default()).unwrap();
    let [connected, pusher] = [backend.client(), pusher].map(|client| {
        let builder = Inbox::builder(&client, "notes").capacity(capacity);
        builder.build().unwrap()
    });
    (backend, connected, pusher)
}

#[tokio::test(start_paused = true)]
async fn what_a_full_inbox_drops_while_it_is_read_is_one_gap() {
    let (backend, connected, pusher) = two(&Arc::default(), 10);
    let first = pusher.push("ann", &0).await.unwrap().id;
    for n in 1..5 {
        pusher.push("ann", &n).await.unwrap();
    }
    let gate = Gate::closed();
    let hold = Rule::new(Injection::HoldRequest(gate.clone())).on(is_reading);
    backend.add(hold.times(1));
    let mut subscription = connected.subscribe("ann", Some(first)).await.unwrap();
    let push = async {
        sleep(MS).await;
        for n in 5..25 {
            pusher.push("ann", &n).await.unwrap();
        }
        gate.open();
    };
    let (event, ()) = tokio::join!(next_item(&mut subscription), push);
    assert!(matches!(event, InboxEvent::Gap), "{event:?}");
    for n in 15..25 {
        assert_eq!(item(&mut subscription).await, n);
    }
}

#[tokio::test(start_paused = true)]
async fn an_inbox_that_was_lost_is_a_gap_although_a_reading_fails_or_is_dropped() {
    for is_dropped in [false, true] {
        let engine = Arc::new(Embedded::new());
        let (backend, connected, pusher) = two(&engine, 10);
        let last = pusher.push("ann", &0).await.unwrap().id;
        sleep(MS).await;
        engine.restore(&Snapshot::default());
        pusher.push("ann", &1).await.unwrap();
        let injection = match is_dropped {
            true => Injection::DelayReply(Duration::from_millis(500)),
            false => Injection::NotSent,
        };
        backend.add(Rule::new(injection).on(is_reading).times(1));
        let mut subscription = connected.subscribe("ann", Some(last)).await.unwrap();
        if is_dropped {
            let dropped = timeout(10 * MS, subscription.next()).await;
            assert!(dropped.is_err());
        }
        let event = next_item(&mut subscription).await;
        assert!(matches!(event, InboxEvent::Gap), "{event:?}");
        assert_eq!(item(&mut subscription).await, 1);
    }
}

#[tokio::test(start_paused = true)]
async fn an_inbox_that_was_lost_with_the_first_item_that_a_subscriber_heard_of_is_a_gap() {
    let engine = Arc::new(Embedded::new());
    let (_, connected, pusher) = two(&engine, 10);
    let mut subscription = connected.subscribe("ann", None).await.unwrap();
    assert!(timeout(MS, subscription.next()).await.is_err());
    pusher.push("ann", &0).await.unwrap();
    engine.restore(&Snapshot::default());
    sleep(MS).await;
    pusher.push("ann", &1).await.unwrap();
    let event = next_item(&mut subscription).await;
    assert!(matches!(event, InboxEvent::Gap), "{event:?}");
    assert_eq!(item(&mut subscription).await, 1);
    pusher.push("ann", &2).await.unwrap();
    assert_eq!(item(&mut subscription).await, 2);
}

#[tokio::test(start_paused = true)]
async fn a_subscriber_that_is_behind_does_not_read_the_inbox_for_each_push_that_it_has_read_already()
 {
    let (backend, connected, pusher) = two(&Arc::default(), 1_000);
    let mut subscription = connected.subscribe("ann", None).await.unwrap();
    for n in 0..600 {
        pusher.push("ann", &n).await.unwrap();
    }
    backend.forget();
    for n in 0..600 {
        assert_eq!(item(&mut subscription).await, n);
    }
    assert!(timeout(MS, subscription.next()).await.is_err());
    pusher.push("ann", &600).await.unwrap();
    assert_eq!(item(&mut subscription).await, 600);
    let readings = backend
        .seen()
        .iter()
        .filter(|command| is_reading(command))
        .count();
    assert!(readings <= 9, "{readings} readings of 600 items");
}

#[tokio::test(start_paused = true)]
async fn an_item_that_a_subscriber_heard_of_while_it_was_behind_is_a_gap_when_it_is_lost() {
    let engine = Arc::new(Embedded::new());
    let (backend, connected, pusher) = two(&engine, 1_000);
    let first = pusher.push("ann", &0).await.unwrap().id;
    pusher.confirm_up_to("ann", first).await.unwrap();
    let mut subscription = connected.subscribe("ann", None).await.unwrap();
    assert!(timeout(MS, subscription.next()).await.is_err());
    // The subscriber hears of an item, and cannot read for a while.
    backend.add(Rule::new(Injection::NotSent).on(is_reading));
    let snapshot = engine.snapshot();
    pusher.push("ann", &1).await.unwrap();
    assert!(timeout(100 * MS, subscription.next()).await.is_err());
    engine.restore(&snapshot);
    backend.clear();
    let event = next_item(&mut subscription).await;
    assert!(matches!(event, InboxEvent::Gap), "{event:?}");
    pusher.push("ann", &2).await.unwrap();
    assert_eq!(item(&mut subscription).await, 2);
    assert!(timeout(MS, subscription.next()).await.is_err());
}

/// Another server takes over, without the last items, and its clock is behind.
#[tokio::test(start_paused = true)]
async fn items_behind_lost_ones_come_though_their_ids_are_less() {
    let engine = Arc::new(Embedded::new());
    let (_, connected, pusher) = two(&engine, 100);
    let mut subscription = connected.subscribe("ann", None).await.unwrap();
    let push = async |n: u32| {
        sleep(MS).await;
        pusher.push("ann", &n).await.unwrap().id
    };
    for n in 0..3 {
        push(n).await;
        assert_eq!(item(&mut subscription).await, n);
    }
    let snapshot = engine.snapshot();
    let mut last = push(3).await;
    last = last.max(push(4).await);
    for n in 3..5 {
        assert_eq!(item(&mut subscription).await, n);
    }
    engine.restore(&snapshot);
    engine.adjust_clock(-10_000_000);
    assert!(push(5).await < last);
    let event = next_item(&mut subscription).await;
    assert!(matches!(event, InboxEvent::Gap), "{event:?}");
    assert_eq!(item(&mut subscription).await, 5);
    push(6).await;
    assert_eq!(
        item(&mut subscription).await,
        6,
        "none before it comes twice"
    );
    // A user who comes back with the id of an item that was lost.
    let mut other = connected.subscribe("ann", Some(last)).await.unwrap();
    let event = next_item(&mut other).await;
    assert!(matches!(event, InboxEvent::Gap), "{event:?}");
    for n in [0, 1, 2, 5, 6] {
        assert_eq!(item(&mut other).await, n);
    }
}

redkit_testkit::suite! {
    async fn an_inbox_that_is_cleared_is_no_gap(fixture: Fixture) -> Result<(), Error> {
        let inbox = inbox(&fixture, 100);
        let mut subscription = inbox.subscribe("ann", None).await?;
        for n in 0..3 {
            let last = inbox.push("ann", &n).await?.id;
            assert_eq!(item(&mut subscription).await, n);
            inbox.clear("ann").await?;
            assert_eq!(inbox.unread("ann").await?, 0);
            assert!(inbox.read("ann", 10).await?.items.is_empty());
            if n == 1 {
                subscription = inbox.subscribe("ann", Some(last)).await?;
            }
        }
        Ok(())
    }

    async fn what_waits_comes_first_and_then_what_is_pushed(fixture: Fixture) -> Result<(), Error> {
        let inbox = inbox(&fixture, 1_000);
        for n in 0..250 {
            inbox.push("ann", &n).await?;
        }
        let pusher = tokio::spawn({
            let inbox = inbox.clone();
            async move {
                for n in 250..500 {
                    inbox.push("ann", &n).await.unwrap();
                }
            }
        });
        let mut subscription = inbox.subscribe("ann", None).await?;
        for n in 0..500 {
            assert_eq!(item(&mut subscription).await, n, "in order, none missing, none twice");
        }
        pusher.await.unwrap();
        inbox.push("bob", &7).await?;
        inbox.push("ann", &500).await?;
        assert_eq!(item(&mut subscription).await, 500);
        assert_eq!(inbox.unread("ann").await?, 501, "they stay until they are confirmed");
        Ok(())
    }

    async fn a_user_who_comes_back_goes_on_behind_the_last_item(fixture: Fixture) -> Result<(), Error> {
        let inbox = inbox(&fixture, 100);
        let mut ids = Vec::new();
        for n in 0..6 {
            ids.push(inbox.push("ann", &n).await?.id);
        }
        inbox.confirm_up_to("ann", ids[2]).await?;
        let after = ids[2].to_string().parse().unwrap();
        let mut subscription = inbox.subscribe("ann", Some(after)).await?;
        for n in 3..6 {
            assert_eq!(item(&mut subscription).await, n);
        }
        Ok(())
    }

    async fn what_a_full_inbox_dropped_behind_the_last_item_is_one_gap(fixture: Fixture) -> Result<(), Error> {
        let inbox = inbox(&fixture, 3);
        let first = inbox.push("ann", &0).await?.id;
        for n in 1..8 {
            inbox.push("ann", &n).await?;
        }
        let mut subscription = inbox.subscribe("ann", Some(first)).await?;
        assert!(matches!(next_item(&mut subscription).await, InboxEvent::Gap));
        for n in 5..8 {
            assert_eq!(item(&mut subscription).await, n);
        }
        inbox.push("ann", &8).await?;
        assert_eq!(item(&mut subscription).await, 8);
        Ok(())
    }

    async fn what_a_full_inbox_dropped_behind_a_first_look_that_found_nothing_is_one_gap(fixture: Fixture) -> Result<(), Error> {
        let inbox = inbox(&fixture, 3);
        // Nothing was ever pushed to the one, and the other has dropped items and is empty.
        let before = inbox.push("bob", &100).await?.id;
        for n in 101..105 {
            inbox.push("bob", &n).await?;
        }
        inbox.clear("bob").await?;
        let (mut ann, mut bob) = (inbox.subscribe("ann", None).await?, inbox.subscribe("bob", None).await?);
        let looks = tokio::join!(timeout(FIRST_LOOK, ann.next()), timeout(FIRST_LOOK, bob.next()));
        assert!(looks.0.is_err() && looks.1.is_err());
        for (user, mut subscription) in [("ann", ann), ("bob", bob)] {
            for n in 0..8 {
                inbox.push(user, &n).await?;
            }
            assert!(matches!(next_item(&mut subscription).await, InboxEvent::Gap), "{user}");
            for n in 5..8 {
                assert_eq!(item(&mut subscription).await, n);
            }
            inbox.push(user, &8).await?;
            assert_eq!(item(&mut subscription).await, 8);
        }
        // What had been dropped before the first look is no gap.
        assert!(before < inbox.push("bob", &9).await?.id);
        inbox.confirm_up_to("bob", inbox.push("bob", &10).await?.id).await?;
        let mut subscription = inbox.subscribe("bob", None).await?;
        assert!(timeout(FIRST_LOOK, subscription.next()).await.is_err());
        inbox.push("bob", &11).await?;
        assert_eq!(item(&mut subscription).await, 11);
        Ok(())
    }

    async fn an_inbox_that_was_lost_is_a_gap(fixture: Fixture) -> Result<(), Error> {
        let inbox = inbox(&fixture, 100);
        let mut subscription = inbox.subscribe("ann", None).await?;
        for n in 0..3 {
            inbox.push("ann", &n).await?;
            assert_eq!(item(&mut subscription).await, n);
        }
        let keys = ["inbox:notes:{ann}", "inbox:notes:{ann}:state"].map(|name| fixture.client.key(name));
        fixture.client.call::<u64>(Command::new("DEL").keys_from(&keys)).await?;
        inbox.push("ann", &3).await?;
        assert!(matches!(next_item(&mut subscription).await, InboxEvent::Gap));
        assert_eq!(item(&mut subscription).await, 3);
        Ok(())
    }

    async fn an_inbox_that_was_lost_between_two_subscriptions_is_a_gap(fixture: Fixture) -> Result<(), Error> {
        let inbox = inbox(&fixture, 100);
        inbox.push("ann", &0).await?;
        let last = inbox.push("ann", &1).await?.id;
        let keys = ["inbox:notes:{ann}", "inbox:notes:{ann}:state"].map(|name| fixture.client.key(name));
        fixture.client.call::<u64>(Command::new("DEL").keys_from(&keys)).await?;
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        inbox.push("ann", &2).await?;
        let mut subscription = inbox.subscribe("ann", Some(last)).await?;
        assert!(matches!(next_item(&mut subscription).await, InboxEvent::Gap));
        assert_eq!(item(&mut subscription).await, 2);
        Ok(())
    }
}
