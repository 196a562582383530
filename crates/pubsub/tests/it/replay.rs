//! Channels with replay.

use std::time::Duration;

use redkit_core::{Client, Command, Key};
use redkit_pubsub::{Channel, Error, GapReason, Overflow, Position, Replay};
use redkit_testkit::{FaultyBackend, Fixture, Injection, Rule};

use crate::listening::{gap, is_silent, message, payloads};

fn numbers(fixture: &Fixture, last: u32) -> Channel<u32> {
    let builder = Channel::builder(&fixture.client, "numbers").replay(Replay::last(last));
    builder
        .queue(100_000, Overflow::DropOldest)
        .build()
        .unwrap()
}

async fn publish(channel: &Channel<u32>, range: std::ops::Range<u32>) -> Vec<Position> {
    let mut positions = Vec::new();
    for n in range {
        positions.push(channel.publish("k", &n).await.unwrap().position.unwrap());
    }
    positions
}

/// The channel, its log and its last number.
fn keys(client: &Client) -> [Key; 3] {
    ["", ":log", ":last"].map(|role| client.key(format!("channel:numbers:{{k}}{role}")))
}

fn number(position: Position) -> u64 {
    position.to_string().parse().unwrap()
}

/// As a message is heard that the server may know nothing of.
async fn tell(client: &Client, before: u64, number: u64, message: u32) {
    let [channel, ..] = keys(client);
    let frame = format!("{before} {number}\n{message}");
    let tell = Command::new("PUBLISH").key(&channel).arg(frame);
    client.call::<u64>(tell).await.unwrap();
}

/// The log has this message alone.
async fn begin_anew(client: &Client, number: u64, message: u32) {
    let [_, log, last] = keys(client);
    client
        .call::<u64>(Command::new("DEL").key(&log).key(&last))
        .await
        .unwrap();
    let add = Command::new("XADD").key(&log).arg(format!("{number}-0"));
    let add = add.arg("p").arg(0).arg("m").arg(message.to_string());
    client.call::<String>(add).await.unwrap();
    client
        .call::<()>(Command::new("SET").key(&last).arg(number))
        .await
        .unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_log_that_cannot_be_read_is_a_gap() {
    let backend = FaultyBackend::embedded();
    let channel = Channel::<u32>::builder(&backend.client(), "numbers").replay(Replay::last(10));
    let channel = channel.build().unwrap();
    let positions = publish(&channel, 0..2).await;
    let refuse = Injection::Refuse("NOPERM", "this user has no permissions to run 'xrange'");
    backend.add(Rule::new(refuse).on_name("XRANGE").alone());
    let mut subscription = channel.subscribe_after("k", positions[0]).await.unwrap();
    assert_eq!(gap(&mut subscription).await, GapReason::NotInLog);
}

/// As a browser may send it.
#[tokio::test(start_paused = true)]
async fn a_position_that_was_made_up_costs_no_reading_for_each_message() {
    let backend = FaultyBackend::embedded();
    let channel = Channel::<u32>::builder(&backend.client(), "numbers").replay(Replay::last(10));
    let channel = channel.build().unwrap();
    publish(&channel, 0..1).await;
    let position = u64::MAX.to_string().parse().unwrap();
    let mut subscription = channel.subscribe_after("k", position).await.unwrap();
    assert_eq!(gap(&mut subscription).await, GapReason::NotInLog);
    for n in 1..101 {
        publish(&channel, n..n + 1).await;
        assert_eq!(message(&mut subscription).await.payload, n);
    }
    let readings = backend.count("XRANGE");
    assert!(readings <= 3, "{readings}");
}

/// A reply with more than 16 entries takes longer than its time.
#[tokio::test(start_paused = true)]
async fn a_log_whose_pages_are_too_large_for_the_network_is_read_in_smaller_ones() {
    let backend = FaultyBackend::embedded();
    let channel = Channel::<u32>::builder(&backend.client(), "numbers").replay(Replay::last(1_000));
    let channel = channel.build().unwrap();
    let first = publish(&channel, 0..1).await;
    publish(&channel, 1..301).await;
    let is_large = |command: &Command| {
        let count = command.iter().last().unwrap_or_default();
        let count = String::from_utf8_lossy(count).parse::<u32>();
        command.name() == "XRANGE" && count.is_ok_and(|count| count > 16)
    };
    backend.add(Rule::new(Injection::HangAfter).on(is_large));
    let began = tokio::time::Instant::now();
    let mut subscription = channel.subscribe_after("k", first[0]).await.unwrap();
    assert_eq!(
        payloads(&mut subscription, 300).await,
        (1..301).collect::<Vec<_>>()
    );
    assert!(
        began.elapsed() < Duration::from_secs(15),
        "{:?}",
        began.elapsed()
    );
}

redkit_testkit::suite! {
    async fn what_the_log_holds_waits_for_a_subscriber_that_is_slow(fixture: Fixture) -> Result<(), Error> {
        for overflow in [Overflow::DropOldest, Overflow::DropNewest, Overflow::Disconnect] {
            let builder = Channel::<u32>::builder(&fixture.client, "numbers").replay(Replay::last(2_000));
            let numbers = builder.queue(16, overflow).build()?;
            let key = format!("{overflow:?}");
            let all: Vec<u32> = (0..600).collect();
            let first = numbers.publish(&key, &0).await?.position.unwrap();
            for some in all[1..].chunks(50) {
                for published in numbers.publish_batch(&key, some).await? {
                    published?;
                }
            }
            let mut subscription = numbers.subscribe_after(&key, first).await?;
            tokio::time::sleep(Duration::from_millis(200)).await;
            assert_eq!(payloads(&mut subscription, 599).await, all[1..]);
            numbers.publish(&key, &600).await?;
            assert_eq!(payloads(&mut subscription, 1).await, [600]);
        }
        Ok(())
    }

    async fn a_message_behind_others_that_were_lost_with_the_data_comes_behind_a_gap(fixture: Fixture) -> Result<(), Error> {
        let numbers = numbers(&fixture, 100);
        let mut subscription = numbers.subscribe(["k"]).await?;
        let first = publish(&numbers, 0..1).await;
        assert_eq!(payloads(&mut subscription, 1).await, [0]);
        // It and the one before it went with a master, and only it was heard.
        let at = number(first[0]);
        tell(&fixture.client, at + 10, at + 20, 2).await;
        assert_eq!(gap(&mut subscription).await, GapReason::NotInLog);
        assert_eq!(payloads(&mut subscription, 1).await, [2]);
        Ok(())
    }

    async fn a_message_that_was_under_way_when_the_subscription_was_made_is_not_handed_on(fixture: Fixture) -> Result<(), Error> {
        let numbers = numbers(&fixture, 100);
        let at = number(publish(&numbers, 0..1).await[0]);
        let mut subscription = numbers.subscribe(["k"]).await?;
        tell(&fixture.client, 0, at, 0).await;
        assert!(is_silent(&mut subscription).await);
        publish(&numbers, 1..2).await;
        assert_eq!(payloads(&mut subscription, 1).await, [1]);
        Ok(())
    }

    async fn a_history_that_went_back_once_more_is_told(fixture: Fixture) -> Result<(), Error> {
        let numbers = numbers(&fixture, 100);
        let at = number(publish(&numbers, 0..1).await[0]);
        begin_anew(&fixture.client, at - 1_000, 1).await;
        let mut subscription = numbers.subscribe_after("k", at.to_string().parse().unwrap()).await?;
        assert_eq!(gap(&mut subscription).await, GapReason::NotInLog);
        begin_anew(&fixture.client, at - 500, 2).await;
        tell(&fixture.client, at - 1_000, at - 500, 2).await;
        assert_eq!(gap(&mut subscription).await, GapReason::NotInLog);
        assert_eq!(payloads(&mut subscription, 1).await, [2]);
        begin_anew(&fixture.client, at - 700, 3).await;
        tell(&fixture.client, 0, at - 700, 3).await;
        assert_eq!(gap(&mut subscription).await, GapReason::WentBack);
        assert_eq!(payloads(&mut subscription, 1).await, [3]);
        Ok(())
    }

    async fn a_subscriber_goes_on_where_it_was(fixture: Fixture) -> Result<(), Error> {
        let numbers = numbers(&fixture, 100);
        let positions = publish(&numbers, 0..10).await;
        assert!(positions.is_sorted_by(|a, b| a < b));
        let text = positions[3].to_string();
        let mut subscription = numbers.subscribe_after("k", text.parse().unwrap()).await?;
        publish(&numbers, 10..20).await;
        let first = message(&mut subscription).await;
        assert_eq!((first.payload, first.position), (4, Some(positions[4])));
        assert_eq!(payloads(&mut subscription, 15).await, (5..20).collect::<Vec<_>>());
        assert!(is_silent(&mut subscription).await, "nothing comes twice");
        Ok(())
    }

    async fn a_new_subscriber_begins_at_the_end(fixture: Fixture) -> Result<(), Error> {
        let numbers = numbers(&fixture, 100);
        publish(&numbers, 0..5).await;
        let mut subscription = numbers.subscribe(["k", "another"]).await?;
        publish(&numbers, 5..8).await;
        assert_eq!(payloads(&mut subscription, 3).await, [5, 6, 7]);
        assert!(is_silent(&mut subscription).await);
        Ok(())
    }

    async fn a_subscription_made_while_messages_are_published_misses_none_and_doubles_none(fixture: Fixture) -> Result<(), Error> {
        let numbers = numbers(&fixture, 1_000);
        let publisher = tokio::spawn({
            let numbers = numbers.clone();
            async move { publish(&numbers, 0..300).await }
        });
        let mut all = Vec::new();
        for _ in 0..20 {
            all.push(numbers.subscribe(["k"]).await?);
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        publisher.await.unwrap();
        numbers.publish("k", &300).await?;
        for mut subscription in all {
            let first = message(&mut subscription).await.payload;
            let rest = payloads(&mut subscription, 300 - first as usize).await;
            assert_eq!(rest, (first + 1..=300).collect::<Vec<_>>());
        }
        Ok(())
    }

    async fn the_log_is_bounded_and_what_it_dropped_is_one_gap(fixture: Fixture) -> Result<(), Error> {
        let numbers = numbers(&fixture, 4);
        let positions = publish(&numbers, 0..10).await;
        let log = fixture.client.key("channel:numbers:{k}:log");
        assert_eq!(fixture.client.call::<u64>(Command::new("XLEN").key(&log)).await?, 4);
        let mut subscription = numbers.subscribe_after("k", positions[1]).await?;
        assert_eq!(gap(&mut subscription).await, GapReason::NotInLog);
        assert_eq!(payloads(&mut subscription, 4).await, [6, 7, 8, 9]);
        numbers.publish("k", &10).await?;
        assert_eq!(message(&mut subscription).await.payload, 10);
        // Just all of it is there.
        let mut subscription = numbers.subscribe_after("k", positions[6]).await?;
        assert_eq!(payloads(&mut subscription, 4).await, [7, 8, 9, 10]);
        Ok(())
    }

    async fn what_was_lost_with_the_data_is_one_gap(fixture: Fixture) -> Result<(), Error> {
        let numbers = numbers(&fixture, 100);
        let mut earlier = numbers.subscribe(["k"]).await?;
        let positions = publish(&numbers, 0..5).await;
        // On a cluster messages may reach the subscribers' node late: these are there.
        assert_eq!(payloads(&mut earlier, 5).await, [0, 1, 2, 3, 4]);
        drop(earlier);
        let names = ["channel:numbers:{k}:log", "channel:numbers:{k}:last"].map(|name| fixture.client.key(name));
        let lose = async || fixture.client.call::<u64>(Command::new("DEL").keys_from(&names)).await;
        assert_eq!(lose().await?, 2);
        let mut subscription = numbers.subscribe_after("k", positions[4]).await?;
        assert_eq!(gap(&mut subscription).await, GapReason::NotInLog);
        publish(&numbers, 5..7).await;
        assert_eq!(payloads(&mut subscription, 2).await, [5, 6]);
        // A connected subscriber has missed nothing by that.
        lose().await?;
        publish(&numbers, 7..9).await;
        assert_eq!(payloads(&mut subscription, 2).await, [7, 8]);
        Ok(())
    }

    async fn a_history_that_went_back_is_told(fixture: Fixture) -> Result<(), Error> {
        let numbers = numbers(&fixture, 100);
        let last = fixture.client.key("channel:numbers:{k}:last");
        let log = fixture.client.key("channel:numbers:{k}:log");
        // An hour ahead, as after a failover to a server whose clock is behind.
        let ahead = publish(&numbers, 0..1).await[0].to_string().parse::<u64>().unwrap() + 3_600_000_000;
        fixture.client.call::<()>(Command::new("SET").key(&last).arg(ahead)).await?;
        let mut subscription = numbers.subscribe(["k"]).await?;
        publish(&numbers, 1..3).await;
        assert_eq!(payloads(&mut subscription, 2).await, [1, 2]);
        fixture.client.call::<u64>(Command::new("DEL").key(&last).key(&log)).await?;
        publish(&numbers, 3..6).await;
        assert_eq!(gap(&mut subscription).await, GapReason::WentBack);
        assert_eq!(payloads(&mut subscription, 3).await, [3, 4, 5]);
        Ok(())
    }

    async fn a_message_of_a_hole_comes_from_the_log_in_its_place(fixture: Fixture) -> Result<(), Error> {
        let numbers = numbers(&fixture, 1_000);
        let mut subscription = numbers.subscribe(["k"]).await?;
        assert!(is_silent(&mut subscription).await, "it has read the log, and messages come live");
        publish(&numbers, 0..2).await;
        assert_eq!(payloads(&mut subscription, 2).await, [0, 1]);
        // As it is when a message is lost on its way: it is in the log, and was not heard.
        let names = ["channel:numbers:{k}:log", "channel:numbers:{k}:last"].map(|name| fixture.client.key(name));
        let before: String = fixture.client.call(Command::new("GET").key(&names[1])).await?;
        let number = before.parse::<u64>().unwrap() + 1;
        let add = Command::new("XADD").key(&names[0]).arg(format!("{number}-0")).arg("p").arg(&before).arg("m").arg("2");
        fixture.client.call::<String>(add).await?;
        fixture.client.call::<()>(Command::new("SET").key(&names[1]).arg(number)).await?;
        // They come at once, so that the log has most of them when it is read, and they come live too.
        let rest: Vec<u32> = (3..300).collect();
        numbers.publish_batch("k", &rest).await?;
        assert_eq!(payloads(&mut subscription, 298).await, (2..300).collect::<Vec<_>>());
        assert!(is_silent(&mut subscription).await, "none comes twice");
        Ok(())
    }

    async fn a_late_message_from_before_a_loss_is_not_handed_on_again(fixture: Fixture) -> Result<(), Error> {
        let numbers = numbers(&fixture, 100);
        let mut earlier = numbers.subscribe(["k"]).await?;
        let positions = publish(&numbers, 0..3).await;
        assert_eq!(payloads(&mut earlier, 3).await, [0, 1, 2]);
        let [channel, log, last] = ["", ":log", ":last"].map(|role| {
            fixture.client.key(format!("channel:numbers:{{k}}{role}"))
        });
        fixture.client.call::<u64>(Command::new("DEL").key(&log).key(&last)).await?;
        let mut subscription = numbers.subscribe_after("k", positions[2]).await?;
        assert_eq!(gap(&mut subscription).await, GapReason::NotInLog);
        // As they come over the bus of a cluster, late: the subscriber has seen them before.
        for (before, n) in [(0, 0), (number(positions[0]), 1)] {
            let late = format!("{before} {}\n{n}", positions[n]);
            fixture.client.call::<u64>(Command::new("PUBLISH").key(&channel).arg(late)).await?;
        }
        assert!(is_silent(&mut subscription).await);
        publish(&numbers, 3..5).await;
        assert_eq!(payloads(&mut subscription, 2).await, [3, 4]);
        Ok(())
    }

    async fn late_messages_from_before_a_loss_are_no_gap_when_the_log_has_gone_on(fixture: Fixture) -> Result<(), Error> {
        let numbers = numbers(&fixture, 100);
        let mut earlier = numbers.subscribe(["k"]).await?;
        let positions = publish(&numbers, 0..4).await;
        assert_eq!(payloads(&mut earlier, 4).await, [0, 1, 2, 3]);
        let [channel, log, last] = ["", ":log", ":last"].map(|role| {
            fixture.client.key(format!("channel:numbers:{{k}}{role}"))
        });
        fixture.client.call::<u64>(Command::new("DEL").key(&log).key(&last)).await?;
        let mut subscription = numbers.subscribe_after("k", positions[3]).await?;
        assert_eq!(gap(&mut subscription).await, GapReason::NotInLog);
        // The next message is in the log, and not heard yet.
        let number = positions[3].to_string().parse::<u64>().unwrap() + 1_000;
        let add = Command::new("XADD").key(&log).arg(format!("{number}-0")).arg("p").arg(0).arg("m").arg("4");
        fixture.client.call::<String>(add).await?;
        fixture.client.call::<()>(Command::new("SET").key(&last).arg(number)).await?;
        // As they come over the bus of a cluster, late and in their order.
        for n in 1..3 {
            let late = format!("{} {}\n{n}", positions[n - 1], positions[n]);
            fixture.client.call::<u64>(Command::new("PUBLISH").key(&channel).arg(late)).await?;
        }
        assert_eq!(payloads(&mut subscription, 1).await, [4]);
        assert!(is_silent(&mut subscription).await, "there is neither a gap nor a message twice");
        publish(&numbers, 5..6).await;
        assert_eq!(payloads(&mut subscription, 1).await, [5]);
        Ok(())
    }

    async fn a_message_that_came_from_the_log_is_not_handed_on_again_when_it_comes_late(fixture: Fixture) -> Result<(), Error> {
        let numbers = numbers(&fixture, 100);
        let mut earlier = numbers.subscribe(["k"]).await?;
        let positions = publish(&numbers, 0..4).await;
        // On a cluster messages may reach the subscribers' node late: these are there, and none of them comes again by itself.
        assert_eq!(payloads(&mut earlier, 4).await, [0, 1, 2, 3]);
        let mut subscription = numbers.subscribe_after("k", positions[0]).await?;
        assert_eq!(payloads(&mut subscription, 3).await, [1, 2, 3]);
        publish(&numbers, 4..6).await;
        assert_eq!(payloads(&mut subscription, 2).await, [4, 5]);
        // As it comes over the bus from the master that had the slot before.
        let channel = fixture.client.key("channel:numbers:{k}");
        let late = format!("{} {}\n2", positions[1], positions[2]);
        fixture.client.call::<u64>(Command::new("PUBLISH").key(&channel).arg(late)).await?;
        assert!(is_silent(&mut subscription).await);
        publish(&numbers, 6..7).await;
        assert_eq!(payloads(&mut subscription, 1).await, [6]);
        Ok(())
    }

    #[paused]
    async fn days_without_a_message_are_no_gap(fixture: Fixture) {
        let numbers = numbers(&fixture, 100);
        let mut subscription = numbers.subscribe(["k"]).await.unwrap();
        let positions = publish(&numbers, 0..2).await;
        assert_eq!(payloads(&mut subscription, 2).await, [0, 1]);
        tokio::time::sleep(Duration::from_secs(3 * 86_400)).await;
        // As a subscription reads the log after its connection was away.
        let mut again = numbers.subscribe_after("k", positions[1]).await.unwrap();
        publish(&numbers, 2..3).await;
        assert_eq!(payloads(&mut again, 1).await, [2]);
        assert_eq!(payloads(&mut subscription, 1).await, [2]);
    }

    async fn no_key_stays_without_a_time_to_live(fixture: Fixture) -> Result<(), Error> {
        publish(&numbers(&fixture, 10), 0..1).await;
        for name in ["channel:numbers:{k}:log", "channel:numbers:{k}:last"] {
            let ttl: i64 = fixture.client.call(Command::new("PTTL").key(fixture.client.key(name))).await?;
            assert!(ttl > 0, "{name}: {ttl}");
        }
        Ok(())
    }

    async fn batches_broadcasts_and_sharded_channels_have_positions_too(fixture: Fixture) -> Result<(), Error> {
        let builder = Channel::<u32>::builder(&fixture.client, "sharded").sharded();
        let numbers = builder.replay(Replay::last(10)).build()?;
        let mut subscription = numbers.subscribe(["a"]).await?;
        let batch = numbers.publish_batch("a", &[1, 2, 3]).await?;
        let positions: Vec<_> = batch.into_iter().map(|one| one.unwrap().position.unwrap()).collect();
        assert!(positions.is_sorted_by(|a, b| a < b));
        assert_eq!(payloads(&mut subscription, 3).await, [1, 2, 3]);
        for published in numbers.broadcast(["a", "b", "c"], &4).await? {
            assert!(published?.position.is_some());
        }
        let last = message(&mut subscription).await;
        assert_eq!(last.payload, 4);
        assert!(last.position > Some(positions[2]));
        Ok(())
    }

    async fn an_old_message_is_dropped_from_the_log_by_its_age(fixture: Fixture) -> Result<(), Error> {
        let replay = Replay::last(100).keep_for(Duration::from_millis(60));
        let numbers: Channel<u32> = Channel::builder(&fixture.client, "numbers").replay(replay).build()?;
        let positions = publish(&numbers, 0..2).await;
        tokio::time::sleep(Duration::from_millis(120)).await;
        // Nothing is there any more, and that something was is still known.
        let mut subscription = numbers.subscribe_after("k", positions[0]).await?;
        assert_eq!(gap(&mut subscription).await, GapReason::NotInLog);
        let mut none_missed = numbers.subscribe_after("k", positions[1]).await?;
        publish(&numbers, 2..3).await;
        assert_eq!(message(&mut none_missed).await.payload, 2);
        Ok(())
    }
}
