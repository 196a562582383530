//! Channels without replay.

use std::time::Duration;

use redkit_core::Command;
use redkit_pubsub::{Channel, Error, Event, GapReason, Overflow, Replay};
use redkit_testkit::{FaultyBackend, Fixture, Injection, Rule};

use crate::listening::{is_silent, message, next, payloads};

fn plain(fixture: &Fixture) -> Channel<u32> {
    Channel::new(&fixture.client, "numbers").unwrap()
}

/// Sharded on a cluster, whose bus may lose plain messages and does not tell.
fn numbers(fixture: &Fixture) -> Channel<u32> {
    let builder = Channel::builder(&fixture.client, "numbers");
    match fixture.cluster() {
        Some(_) => builder.sharded(),
        None => builder,
    }
    .build()
    .unwrap()
}

/// How many subscribers the servers count.
async fn subscribers(fixture: &Fixture, channel: &str) -> Result<u64, redkit_core::Error> {
    let channel = fixture.client.key(channel);
    let ask = Command::new("PUBSUB").arg("NUMSUB").arg(&channel);
    let counts: Vec<(Vec<u8>, u64)> = fixture.client.call(ask).await?;
    Ok(counts.iter().map(|(_, count)| count).sum())
}

/// A namespace whose bytes would be a pattern of another one.
#[tokio::test(start_paused = true)]
async fn a_namespace_is_no_pattern() {
    let engine = std::sync::Arc::new(redkit_embedded::Embedded::new());
    let of = |namespace: &str| {
        let config = redkit_core::ClientConfig::default().namespace(namespace);
        let backend = redkit_testkit::FaultyBackend::new(std::sync::Arc::clone(&engine) as _);
        Channel::<u32>::new(&backend.client_with(&config), "numbers").unwrap()
    };
    for (pattern, other) in [("a*", "ab"), ("a?", "ab"), ("[ab]", "a"), ("[^a]", "b")] {
        let (meant, other) = (of(pattern), of(other));
        let mut all = meant.subscribe_all().await.unwrap();
        let mut some = meant.subscribe_matching("k").await.unwrap();
        other.publish("k", &1).await.unwrap();
        meant.publish("k", &2).await.unwrap();
        for subscription in [&mut all, &mut some] {
            assert_eq!(message(subscription).await.payload, 2, "{pattern}");
        }
    }
}

redkit_testkit::suite! {
    async fn a_message_reaches_the_subscribers_of_its_key_and_no_others(fixture: Fixture) -> Result<(), Error> {
        let numbers = plain(&fixture);
        let mut ann = numbers.subscribe(["ann"]).await?;
        let mut both = numbers.subscribe(["ann", "bob"]).await?;
        let mut bob = numbers.subscribe(["bob"]).await?;
        numbers.publish("ann", &1).await?;
        numbers.publish("bob", &2).await?;
        let first = message(&mut ann).await;
        assert_eq!((&first.key[..], first.payload, first.position), (&b"ann"[..], 1, None));
        assert_eq!(message(&mut bob).await.payload, 2);
        let mut seen = [message(&mut both).await.payload, message(&mut both).await.payload];
        // On a cluster the two channels may be at two nodes.
        seen.sort_unstable();
        assert_eq!(seen, [1, 2]);
        assert!(is_silent(&mut ann).await && is_silent(&mut bob).await);
        Ok(())
    }

    async fn messages_of_a_batch_come_in_their_order(fixture: Fixture) -> Result<(), Error> {
        let numbers = numbers(&fixture);
        let mut subscription = numbers.subscribe(["k"]).await?;
        let all: Vec<u32> = (0..500).collect();
        let published = numbers.publish_batch("k", &all).await?;
        assert_eq!(published.len(), all.len());
        let failed: Vec<_> = published.iter().filter_map(|one| one.as_ref().err()).collect();
        assert!(failed.is_empty(), "{failed:?}");
        assert_eq!(payloads(&mut subscription, all.len()).await, all);
        assert!(numbers.publish_batch("k", &[]).await?.is_empty());
        Ok(())
    }

    async fn a_broadcast_reaches_each_key_once(fixture: Fixture) -> Result<(), Error> {
        let numbers = numbers(&fixture);
        let keys: Vec<String> = (0..60).map(|i| format!("user-{i}")).collect();
        let mut each = Vec::new();
        for key in &keys {
            each.push(numbers.subscribe([key]).await?);
        }
        let published = numbers.broadcast(&keys, &7).await?;
        assert_eq!(published.len(), keys.len());
        for (subscription, key) in each.iter_mut().zip(&keys) {
            let message = message(subscription).await;
            assert_eq!((message.payload, &message.key[..]), (7, key.as_bytes()));
        }
        assert!(is_silent(&mut each[0]).await);
        Ok(())
    }

    async fn keys_are_matched_by_globs_whatever_their_bytes(fixture: Fixture) -> Result<(), Error> {
        let numbers = plain(&fixture);
        let mut all = numbers.subscribe_all().await?;
        let mut some = numbers.subscribe_matching("order-*").await?;
        for (i, key) in ["order-1", "a}b{c", "%*?["].into_iter().enumerate() {
            let payload = u32::try_from(i).unwrap();
            numbers.publish(key, &payload).await?;
            let message = message(&mut all).await;
            assert_eq!((&message.key[..], message.payload), (key.as_bytes(), payload));
        }
        assert_eq!(message(&mut some).await.payload, 0);
        assert!(is_silent(&mut some).await);
        // Another name's channels are no part of it.
        Channel::<u32>::new(&fixture.client, "others")?.publish("order-1", &9).await?;
        assert!(is_silent(&mut all).await);
        Ok(())
    }

    async fn sharded_channels_are_channels_of_their_own(fixture: Fixture) -> Result<(), Error> {
        let sharded: Channel<u32> = Channel::builder(&fixture.client, "numbers").sharded().build()?;
        let mut subscription = sharded.subscribe(["a", "b", "c"]).await?;
        plain(&fixture).publish("a", &1).await?;
        for (i, key) in ["a", "b", "c"].into_iter().enumerate() {
            let payload = u32::try_from(i).unwrap();
            let published = sharded.publish(key, &payload).await?;
            assert_eq!(published.receivers, 1, "all subscribers of a shard are at its node");
            assert_eq!(message(&mut subscription).await.payload, payload);
        }
        Ok(())
    }

    async fn a_message_of_another_type_is_an_event_and_the_subscription_goes_on(fixture: Fixture) -> Result<(), Error> {
        let numbers = plain(&fixture);
        let texts: Channel<String> = Channel::new(&fixture.client, "numbers")?;
        let mut subscription = numbers.subscribe(["k"]).await?;
        texts.publish("k", "secret").await?;
        numbers.publish("k", &5).await?;
        match next(&mut subscription).await {
            Event::Undecodable(undecodable) => {
                assert_eq!(&undecodable.key[..], b"k");
                assert!(matches!(&undecodable.error, redkit_core::Error::Decode { raw, .. } if &raw[..] == b"\"secret\""));
                assert!(!undecodable.error.to_string().contains("secret"));
            }
            other => panic!("{other:?}"),
        }
        assert_eq!(message(&mut subscription).await.payload, 5);
        numbers.publish("k", &6).await?;
        assert_eq!(message(&mut subscription).await.payload, 6);
        Ok(())
    }

    async fn a_slow_subscriber_is_told_what_it_missed_and_holds_up_nobody(fixture: Fixture) -> Result<(), Error> {
        let of = |overflow| Channel::<u32>::builder(&fixture.client, "n").queue(3, overflow).build();
        let (oldest, newest, end) = (of(Overflow::DropOldest)?, of(Overflow::DropNewest)?, of(Overflow::Disconnect)?);
        let mut oldest = oldest.subscribe(["k"]).await?;
        let mut newest = newest.subscribe(["k"]).await?;
        let mut ending = end.subscribe(["k"]).await?;
        let quick: Channel<u32> = Channel::builder(&fixture.client, "n").build()?;
        let mut reader = quick.subscribe(["k"]).await?;
        for n in 0..10 {
            quick.publish("k", &n).await?;
            assert_eq!(message(&mut reader).await.payload, n);
        }
        // Each has its own task, which has had everything by the time that the last message is there.
        let settled = async |missed: u64, subscription: &mut redkit_pubsub::Subscription<u32>| {
            let mut seen = Vec::new();
            let mut count = 0;
            while count < missed || seen.len() < 3 {
                match next(subscription).await {
                    Event::Message(message) => seen.push(message.payload),
                    Event::Gap(GapReason::Overflowed(more)) => count += more,
                    other => panic!("{other:?}"),
                }
            }
            (count, seen)
        };
        tokio::time::sleep(Duration::from_millis(100)).await;
        assert_eq!(settled(7, &mut oldest).await, (7, vec![7, 8, 9]));
        assert_eq!(settled(7, &mut newest).await, (7, vec![0, 1, 2]));
        assert_eq!(settled(1, &mut ending).await, (1, vec![0, 1, 2]));
        assert!(ending.next().await.is_none());
        Ok(())
    }

    async fn dropping_a_subscription_unsubscribes(fixture: Fixture) -> Result<(), Error> {
        let subscription = plain(&fixture).subscribe(["k"]).await?;
        assert_eq!(subscribers(&fixture, "channel:numbers:{k}").await?, 1);
        drop(subscription);
        let gone = async {
            while subscribers(&fixture, "channel:numbers:{k}").await? > 0 {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            Ok(())
        };
        tokio::time::timeout(Duration::from_secs(10), gone).await.expect("it is gone")
    }

    async fn receivers_are_counted(fixture: Fixture) -> Result<(), Error> {
        let numbers = plain(&fixture);
        let nobody = numbers.publish("k", &1).await?;
        assert_eq!((nobody.receivers, nobody.position), (0, None));
        if fixture.cluster().is_none() {
            let _one = numbers.subscribe(["k"]).await?;
            assert_eq!(numbers.publish("k", &1).await?.receivers, 1);
        }
        Ok(())
    }
}

#[tokio::test(start_paused = true)]
async fn messages_of_a_batch_or_a_broadcast_that_fails_are_counted() {
    use metrics_util::debugging::{DebugValue, DebuggingRecorder};

    for replay in [None, Some(Replay::last(10))] {
        let backend = FaultyBackend::embedded();
        let builder = Channel::<u32>::builder(&backend.client(), "numbers").max_message_bytes(4);
        let builder = match replay {
            Some(replay) => builder.replay(replay),
            None => builder,
        };
        let recorder = DebuggingRecorder::new();
        let channel = metrics::with_local_recorder(&recorder, || builder.build().unwrap());
        let counted = || {
            let all = recorder.snapshotter().snapshot().into_vec();
            let counted = all.into_iter().filter_map(|(key, _, _, value)| {
                let outcome = key.key().labels().find(|label| label.key() == "outcome")?;
                let DebugValue::Counter(count @ 1..) = value else {
                    return None;
                };
                Some((outcome.value().to_owned(), count))
            });
            counted.collect::<Vec<_>>()
        };
        let of = |outcome: &str, count: u64| (outcome.to_owned(), count);
        channel.broadcast(["a", "b", "c"], &1).await.unwrap();
        assert_eq!(counted(), [of("published", 3)]);
        backend.add(Rule::new(Injection::NotSent));
        channel.broadcast(["a", "b", "c"], &1).await.unwrap_err();
        assert_eq!(counted(), [of("failed", 3)]);
        channel.publish_batch("a", &[1, 2]).await.unwrap_err();
        assert_eq!(counted(), [of("failed", 2)]);
        // Nothing of it is sent.
        channel.publish_batch("a", &[1, 10_000]).await.unwrap_err();
        assert_eq!(counted(), [of("failed", 2)]);
    }
}
