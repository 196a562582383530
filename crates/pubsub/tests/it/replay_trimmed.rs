//! Channels with replay whose logs are cut while they are read.

use std::ops::Range;
use std::sync::Arc;

use redkit_pubsub::{Channel, Event, GapReason, Overflow, Replay};
use redkit_testkit::FaultyBackend;

use crate::listening::{is_silent, message, next, payloads};
use crate::replay_pages::{publish, reconnect, tell, told};

/// Messages of `a`, which the subscriber is told of live.
async fn publish_and_tell(
    (backend, channel): &(Arc<FaultyBackend>, Channel<u32>),
    before: &mut String,
    messages: Range<u32>,
) {
    for n in messages {
        let number = publish(channel, "a", 1).await[0].to_string();
        tell(backend, "a", before, &number, n);
        *before = number;
    }
}

/// What is told live while `b` is read waits with the connection, and the log of `a` holds less of it when it is read.
/// It is cut before a first page of it is read, or between two.
async fn a_cut_log_gives_each_message_once(before_a_page: u32) {
    let channels = told(Replay::last(20), (16, Overflow::DropOldest));
    let (backend, channel) = &channels;
    let mut subscription = channel.subscribe(["a", "b"]).await.unwrap();
    assert!(is_silent(&mut subscription).await);
    let mut before = "0".to_owned();
    publish_and_tell(&channels, &mut before, 0..1).await;
    payloads(&mut subscription, 1).await;
    publish(channel, "b", 20).await;
    reconnect(backend);
    payloads(&mut subscription, 1).await;
    publish_and_tell(&channels, &mut before, 1..before_a_page + 1).await;
    let (mut of_a, mut of_b, mut gaps) = (Vec::new(), 1, Vec::new());
    // All of `b`, and what the queue has of a first page of `a`.
    while of_b < 20 {
        let message = message(&mut subscription).await;
        match message.key == *b"a".as_slice() {
            true => of_a.extend(message.position),
            false => of_b += 1,
        }
    }
    tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    publish_and_tell(&channels, &mut before, before_a_page + 1..61).await;
    while of_a.last().map(ToString::to_string) != Some(before.clone()) {
        match next(&mut subscription).await {
            Event::Message(message) if message.key == *b"a".as_slice() => {
                of_a.extend(message.position);
            }
            Event::Gap(reason) => gaps.push(reason),
            other => panic!("{other:?}"),
        }
    }
    assert!(of_a.is_sorted_by(|one, next| one < next), "{of_a:?}");
    assert_eq!(gaps, [GapReason::NotInLog]);
    // What the log held at last, and what came of it before.
    let of_first_page = of_a.len() - 20;
    assert_eq!(of_first_page, if before_a_page < 60 { 16 } else { 0 });
    // What comes now is neither told as missing nor passed over.
    publish_and_tell(&channels, &mut before, 61..62).await;
    assert_eq!(payloads(&mut subscription, 1).await, [61]);
    assert!(is_silent(&mut subscription).await);
}

#[tokio::test(start_paused = true)]
async fn a_log_that_was_cut_gives_no_message_twice_and_none_behind_a_later_one() {
    a_cut_log_gives_each_message_once(60).await;
}

#[tokio::test(start_paused = true)]
async fn a_log_that_was_cut_between_two_pages_gives_no_message_twice() {
    a_cut_log_gives_each_message_once(20).await;
}
