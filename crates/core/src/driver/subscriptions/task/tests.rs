use std::sync::atomic::{AtomicU64, Ordering};

use async_trait::async_trait;
use tokio::sync::Notify;

use super::*;
use crate::backend::Capabilities;
use crate::command::Command;
use crate::config::ReconnectConfig;
use crate::driver::activity::Activity;
use crate::driver::subscriptions::Subscriptions;
use crate::push::{GapReason, Interest, Push};
use crate::value::Value;

/// A server that takes every connection and every subscription, and hangs up at once.
struct Fickle {
    connections: Arc<AtomicU64>,
}

struct Gone(Activity);

#[async_trait]
impl PushConnector for Fickle {
    type Link = Gone;

    async fn connect(&self, _: &Arc<Registry>) -> Result<Gone, Fault> {
        self.connections.fetch_add(1, Ordering::Relaxed);
        Ok(Gone(Activity::new()))
    }

    fn target(&self) -> String {
        "fickle".to_owned()
    }
}

#[async_trait]
impl Link for Gone {
    async fn closed(&self) {}

    async fn ping(&self) -> Result<Option<ServerError>, Fault> {
        Ok(None)
    }

    fn activity(&self) -> &Activity {
        &self.0
    }

    fn close(&self) {}

    fn capabilities(&self) -> Capabilities {
        Capabilities::UNKNOWN
    }
}

#[async_trait]
impl PushLink for Gone {
    async fn change(&self, _: Change, _: &[Name]) -> Result<(), CallError> {
        Ok(())
    }

    async fn ask(&self, _: &Command) -> Result<Value, CallError> {
        Ok(Value::Nil)
    }
}

fn timing() -> Timing {
    let second = Duration::from_secs(1);
    Timing {
        connect_timeout: second,
        probe_interval: second,
        probe_timeout: second,
        stall_timeout: second,
        reconnect: ReconnectConfig {
            min_delay: second / 100,
            max_delay: second,
        },
    }
}

/// Makes one connection, and panics when it is asked for another.
struct Panicking(Fickle);

#[async_trait]
impl PushConnector for Panicking {
    type Link = Gone;

    async fn connect(&self, registry: &Arc<Registry>) -> Result<Gone, Fault> {
        let link = self.0.connect(registry).await;
        assert_eq!(self.0.connections.load(Ordering::Relaxed), 1);
        link
    }

    fn target(&self) -> String {
        "panicking".to_owned()
    }
}

#[tokio::test(start_paused = true)]
async fn streams_end_when_the_task_dies() {
    let connections = Arc::new(AtomicU64::new(0));
    let subscriptions = Subscriptions::start(Panicking(Fickle { connections }), timing());
    let interest = Interest::Channels(vec!["c".into()]);
    let deadline = Instant::now() + Duration::from_secs(1);
    let mut stream = subscriptions.subscribe(interest, deadline).await.unwrap();
    assert_eq!(stream.next().await, Some(Push::Gap(GapReason::Lost)));
    let next = tokio::time::timeout(Duration::from_secs(60), stream.next());
    assert_eq!(next.await.expect("it ends"), None);
    let again = Interest::Channels(vec!["c".into()]);
    let again = subscriptions.subscribe(again, Instant::now() + Duration::from_secs(1));
    assert!(again.await.is_err());
}

/// A server that hangs up when it is told to, and takes the name `late` back in the beginning only.
#[derive(Clone, Default)]
struct Hesitant {
    connections: Arc<AtomicU64>,
    refusals: Arc<AtomicU64>,
    hang_up: Arc<Notify>,
}

struct Hesitates {
    server: Hesitant,
    is_first: bool,
    activity: Activity,
}

#[async_trait]
impl PushConnector for Hesitant {
    type Link = Hesitates;

    async fn connect(&self, _: &Arc<Registry>) -> Result<Hesitates, Fault> {
        Ok(Hesitates {
            server: self.clone(),
            is_first: self.connections.fetch_add(1, Ordering::Relaxed) == 0,
            activity: Activity::new(),
        })
    }

    fn target(&self) -> String {
        "hesitant".to_owned()
    }
}

#[async_trait]
impl Link for Hesitates {
    async fn closed(&self) {
        self.server.hang_up.notified().await;
    }

    async fn ping(&self) -> Result<Option<ServerError>, Fault> {
        self.activity.heard();
        Ok(None)
    }

    fn activity(&self) -> &Activity {
        &self.activity
    }

    fn close(&self) {}

    fn capabilities(&self) -> Capabilities {
        Capabilities::UNKNOWN
    }
}

#[async_trait]
impl PushLink for Hesitates {
    async fn change(&self, _: Change, names: &[Name]) -> Result<(), CallError> {
        self.activity.heard();
        if self.is_first || names.iter().all(|name| name.bytes != "late") {
            return Ok(());
        }
        self.server.refusals.fetch_add(1, Ordering::Relaxed);
        Err(CallError::Replied(ServerError::new("LOADING", "not now")))
    }

    async fn ask(&self, _: &Command) -> Result<Value, CallError> {
        Ok(Value::Nil)
    }
}

#[tokio::test(start_paused = true)]
async fn a_refused_name_is_asked_for_again_however_many_requests_come_meanwhile() {
    let server = Hesitant::default();
    let subscriptions = Subscriptions::start(server.clone(), timing());
    let subscribe = async |name: String| {
        let interest = Interest::Channels(vec![name.into()]);
        let deadline = Instant::now() + Duration::from_secs(1);
        subscriptions.subscribe(interest, deadline).await.unwrap()
    };
    let mut late = subscribe("late".to_owned()).await;
    server.hang_up.notify_one();
    assert_eq!(late.next().await, Some(Push::Gap(GapReason::Lost)));
    let mut others = Vec::new();
    for n in 0..200 {
        others.push(subscribe(format!("other-{n}")).await);
        sleep(NOT_NOW / 10).await;
    }
    // For two seconds, ten times each.
    let refusals = server.refusals.load(Ordering::Relaxed);
    assert!((15..=25).contains(&refusals), "asked {refusals} times");
}

/// A server that takes the first subscription, and then says nothing more.
#[derive(Clone, Default)]
struct Mute(Arc<AtomicU64>);

struct Muted(Mute, Activity);

#[async_trait]
impl PushConnector for Mute {
    type Link = Muted;

    async fn connect(&self, _: &Arc<Registry>) -> Result<Muted, Fault> {
        Ok(Muted(self.clone(), Activity::new()))
    }

    fn target(&self) -> String {
        "mute".to_owned()
    }
}

#[async_trait]
impl Link for Muted {
    async fn closed(&self) {
        std::future::pending().await
    }

    async fn ping(&self) -> Result<Option<ServerError>, Fault> {
        std::future::pending().await
    }

    fn activity(&self) -> &Activity {
        &self.1
    }

    fn close(&self) {}

    fn capabilities(&self) -> Capabilities {
        Capabilities::UNKNOWN
    }
}

#[async_trait]
impl PushLink for Muted {
    async fn change(&self, _: Change, _: &[Name]) -> Result<(), CallError> {
        if self.0.0.fetch_add(1, Ordering::Relaxed) > 0 {
            std::future::pending::<()>().await;
        }
        self.1.heard();
        Ok(())
    }

    async fn ask(&self, _: &Command) -> Result<Value, CallError> {
        std::future::pending().await
    }
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_falls_silent_under_a_change_is_found_in_time() {
    let second = Duration::from_secs(1);
    let timing = Timing {
        connect_timeout: second * 60,
        ..timing()
    };
    let subscriptions = Subscriptions::start(Mute::default(), timing);
    let subscribe = |name: &'static str| {
        let interest = Interest::Channels(vec![name.into()]);
        subscriptions.subscribe(interest, Instant::now() + second * 60)
    };
    let mut stream = subscribe("a").await.unwrap();
    let began = Instant::now();
    sleep(second / 2).await;
    let Err(error) = subscribe("b").await else {
        panic!("nobody answers")
    };
    assert!(matches!(error, CallError::Maybe(_)), "{error}");
    assert_eq!(stream.next().await, Some(Push::Gap(GapReason::Lost)));
    // The interval, and the time that a probe has.
    let took = began.elapsed();
    assert!(took >= second * 2 && took < second * 3, "{took:?}");
}

#[tokio::test(start_paused = true)]
async fn connections_that_break_as_soon_as_they_stand_are_paced() {
    let connections = Arc::new(AtomicU64::new(0));
    let connector = Fickle {
        connections: Arc::clone(&connections),
    };
    let second = Duration::from_secs(1);
    let subscriptions = Subscriptions::start(connector, timing());
    let interest = Interest::Channels(vec!["c".into()]);
    let deadline = Instant::now() + second;
    let mut stream = subscriptions.subscribe(interest, deadline).await.unwrap();
    for _ in 0..20 {
        assert_eq!(stream.next().await, Some(Push::Gap(GapReason::Lost)));
        let again = stream.next().await;
        assert_eq!(again, Some(Push::Gap(GapReason::Reconnected)));
    }
    let elapsed = deadline.elapsed() + second;
    assert!(elapsed > second * 10, "20 connections in {elapsed:?}");
    assert!(connections.load(Ordering::Relaxed) >= 20);
}
