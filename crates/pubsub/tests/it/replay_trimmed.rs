//! Channels with replay whose logs are cut while they are read.

use redkit_pubsub::{Event, GapReason, Overflow, Replay};

use crate::listening::{is_silent, next, payloads};
use crate::replay_pages::{publish, reconnect, tell, told};

/// What is told live meanwhile waits with the connection, and the log holds less of it when it is read.
#[tokio::test(start_paused = true)]
async fn a_log_that_was_cut_gives_no_message_twice_and_none_behind_a_later_one() {
    let (backend, channel) = told(Replay::last(20), (16, Overflow::DropOldest));
    let mut subscription = channel.subscribe(["a", "b"]).await.unwrap();
    assert!(is_silent(&mut subscription).await);
    let mut before = publish(&channel, "a", 1).await[0].to_string();
    tell(&backend, "a", "0", &before, 0);
    payloads(&mut subscription, 1).await;
    publish(&channel, "b", 20).await;
    reconnect(&backend);
    payloads(&mut subscription, 1).await;
    for n in 1..=60 {
        let number = publish(&channel, "a", 1).await[0].to_string();
        tell(&backend, "a", &before, &number, n);
        before = number;
    }
    let (mut of_a, mut of_b, mut gaps) = (Vec::new(), 1, Vec::new());
    while of_a.last().map(ToString::to_string) != Some(before.clone()) || of_b < 20 {
        match next(&mut subscription).await {
            Event::Message(message) if message.key == *b"a".as_slice() => {
                of_a.extend(message.position);
            }
            Event::Message(_) => of_b += 1,
            Event::Gap(reason) => gaps.push(reason),
            other => panic!("{other:?}"),
        }
    }
    assert!(of_a.is_sorted_by(|one, next| one < next), "{of_a:?}");
    assert_eq!(
        (of_a.len(), gaps.as_slice()),
        (20, &[GapReason::NotInLog][..])
    );
    // What comes now is neither told as missing nor passed over.
    let number = publish(&channel, "a", 1).await[0].to_string();
    tell(&backend, "a", &before, &number, 61);
    assert_eq!(payloads(&mut subscription, 1).await, [61]);
    assert!(is_silent(&mut subscription).await);
}
