//! Waiters are woken by messages, and never depend on them.

use std::time::Duration;

use bytes::Bytes;
use redkit_core::coordination::{Wake, WakeUp, lua};
use redkit_core::{Client, Command, GapReason, Push, Script};
use redkit_testkit::{FaultyBackend, Fixture, Injection, Rule};
use tokio::time::{Instant, sleep, timeout};

static SEND: Script = Script::of_parts(&[lua::WAKE_UP, "wake_up(ARGV[1], KEYS[1], ARGV[2])"]);

const LONG: Duration = Duration::from_secs(60);

async fn send(client: &Client, name: &str, payload: &str) {
    let channel = client.key("wake");
    let call = SEND.invoke([name]).arg(&channel).arg(payload);
    client.eval::<()>(call).await.unwrap();
}

fn message(payload: &'static str) -> WakeUp {
    WakeUp::Message(Bytes::from_static(payload.as_bytes()))
}

async fn waiter(
    client: &Client,
    name: &'static str,
    wake: Wake,
) -> redkit_core::coordination::Waiter {
    let channel = client.key("wake").to_bytes();
    client.waiter(channel, name, wake).await
}

redkit_testkit::suite! {
    async fn a_message_wakes_the_waiters_of_its_name(fixture: Fixture) {
        let other = fixture.connect(fixture.config().unwrap()).await.unwrap();
        let mut a = waiter(&fixture.client, "a", Wake::All).await;
        let mut also_a = waiter(&fixture.client, "a", Wake::All).await;
        let mut b = waiter(&fixture.client, "b", Wake::All).await;
        let start = Instant::now();
        send(&other, "a", "hello").await;
        assert_eq!(a.wait(LONG).await, message("hello"));
        assert_eq!(also_a.wait(LONG).await, message("hello"));
        send(&other, "b", "").await;
        assert_eq!(b.wait(LONG).await, message(""));
        assert!(start.elapsed() < Duration::from_secs(20));
    }
}

#[tokio::test(start_paused = true)]
async fn one_waiter_is_woken_and_hands_on() {
    let backend = FaultyBackend::embedded();
    let client = backend.client();
    let mut one = waiter(&client, "k", Wake::One).await;
    let mut two = waiter(&client, "k", Wake::One).await;
    let mut three = waiter(&client, "k", Wake::One).await;
    let soon = Duration::from_secs(1);
    send(&client, "k", "1").await;
    assert_eq!(one.wait(LONG).await, message("1"));
    assert!(timeout(soon, two.wait(LONG)).await.is_err(), "only one");
    drop(one); // it gives up, woken
    assert_eq!(two.wait(LONG).await, message("1"), "and hands on");
    two.done();
    assert!(
        timeout(soon, three.wait(LONG)).await.is_err(),
        "it was used"
    );
    // A message that comes between two waits is not lost.
    send(&client, "k", "2").await;
    sleep(soon).await;
    assert_eq!(three.wait(LONG).await, message("2"));
}

#[tokio::test(start_paused = true)]
async fn a_waiter_exists_only_when_its_subscription_is_confirmed() {
    let backend = FaultyBackend::embedded();
    let client = backend.client();
    let late = Duration::from_millis(300);
    backend.set(Rule::new(Injection::DelayRequest(late)).on_name("SUBSCRIBE"));
    let start = Instant::now();
    let mut first = waiter(&client, "k", Wake::One).await;
    assert_eq!(start.elapsed(), late);
    let start = Instant::now();
    drop(waiter(&client, "k", Wake::One).await);
    assert_eq!(start.elapsed(), Duration::ZERO, "one subscription for all");
    assert_eq!(backend.count("SUBSCRIBE"), 1);
    send(&client, "k", "x").await;
    assert_eq!(first.wait(LONG).await, message("x"));
}

#[tokio::test(start_paused = true)]
async fn a_user_without_the_right_to_subscribe_waits_by_asking() {
    let backend = FaultyBackend::embedded();
    let client = backend.client();
    let refuse = Injection::Refuse("NOPERM", "no channels for you");
    backend.set(Rule::new(refuse).on_name("SUBSCRIBE"));
    let mut one = waiter(&client, "k", Wake::One).await;
    let start = Instant::now();
    assert_eq!(one.wait(LONG).await, WakeUp::Look);
    while start.elapsed() < Duration::from_secs(10) {
        assert_eq!(one.wait(LONG).await, WakeUp::Look);
    }
    let tries = backend.count("SUBSCRIBE");
    assert!(
        (2..20).contains(&tries),
        "it is tried again ever more seldom: {tries}"
    );
    // A hundred waiters together ask no more often than one.
    let mut many = Vec::new();
    for _ in 0..99 {
        many.push(waiter(&client, "k", Wake::One).await);
    }
    let mut looks = 0;
    let end = Instant::now() + Duration::from_secs(10);
    let all = many.iter_mut().map(async |waiter| {
        let mut looks = 0;
        while Instant::now() < end {
            waiter.wait(LONG).await;
            looks += 1;
        }
        looks
    });
    for count in futures_util::future::join_all(all).await {
        looks += count;
    }
    assert!(looks <= 20 * 10 + 2 * 99 + 99 * 5, "{looks}");
    // And once it may, it hears.
    backend.clear();
    sleep(Duration::from_secs(31)).await;
    one.wait(LONG).await;
    let start = Instant::now();
    let _ = timeout(LONG, one.wait(LONG)).await;
    assert_eq!(start.elapsed(), LONG, "nothing to hear");
}

#[tokio::test(start_paused = true)]
async fn all_look_when_messages_may_have_been_missed() {
    let backend = FaultyBackend::embedded();
    let client = backend.client();
    backend.take_over(|_| true);
    let mut one = waiter(&client, "k", Wake::One).await;
    let mut two = waiter(&client, "k", Wake::One).await;
    for reason in [
        GapReason::Lagged(3),
        GapReason::Lost,
        GapReason::Reconnected,
    ] {
        assert_eq!(backend.push(&Push::Gap(reason)), 1);
        let start = Instant::now();
        assert_eq!(one.wait(LONG).await, WakeUp::Look);
        assert_eq!(two.wait(LONG).await, WakeUp::Look);
        assert_eq!(start.elapsed(), Duration::ZERO, "{reason:?}");
    }
    // What is no message of ours is ignored.
    for payload in ["", "nonsense", "00000009k"] {
        let [channel, payload] = ["wake", payload].map(|text| Bytes::from_static(text.as_bytes()));
        backend.push(&Push::Message {
            channel,
            pattern: None,
            payload,
        });
    }
    assert!(timeout(LONG / 2, one.wait(LONG)).await.is_err());
    backend.end_subscriptions();
    assert_eq!(one.wait(LONG).await, WakeUp::Look);
    sleep(Duration::from_secs(1)).await;
    assert_eq!(backend.count("SUBSCRIBE"), 2, "it is made anew");
}

#[tokio::test(start_paused = true)]
async fn a_subscription_ends_when_nobody_has_waited_for_a_while() {
    let backend = FaultyBackend::embedded();
    let client = backend.client();
    let subscribers = async || {
        let ask = Command::new("PUBSUB").arg("NUMSUB").arg("wake");
        client.call::<(String, i64)>(ask).await.unwrap().1
    };
    let kept = waiter(&client, "k", Wake::One).await;
    sleep(10 * LONG).await;
    assert_eq!(subscribers().await, 1);
    drop(kept);
    // Messages for other processes' waiters do not keep it.
    for _ in 0..11 {
        assert_eq!(subscribers().await, 1);
        sleep(LONG / 12).await;
        send(&client, "k", "x").await;
    }
    sleep(LONG / 6).await;
    assert_eq!(subscribers().await, 0);
    let mut again = waiter(&client, "k", Wake::One).await;
    send(&client, "k", "x").await;
    assert_eq!(again.wait(LONG).await, message("x"));
    drop((again, client));
    let rest = backend.client();
    sleep(Duration::from_millis(1)).await;
    let ask = Command::new("PUBSUB").arg("NUMSUB").arg("wake");
    assert_eq!(
        rest.call::<(String, i64)>(ask).await.unwrap().1,
        0,
        "it ends with its client"
    );
}
