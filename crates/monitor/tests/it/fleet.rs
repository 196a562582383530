//! Five instances of a program and one receiver: each alert at least once, under one key.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use parking_lot::Mutex;
use redkit_core::{Client, ClientConfig};
use redkit_embedded::Embedded;
use redkit_monitor::alerts::{Alert, Alerts, Rule, Sink, SinkError};
use redkit_monitor::{Dependency, Health};
use redkit_testkit::{FaultyBackend, Injection, RawReply, Rule as Fault, Server, ServerOptions};
use tokio::time::sleep;

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);

/// How often each key has been received.
#[derive(Clone, Default)]
struct Receiver(Arc<Mutex<BTreeMap<String, usize>>>);

impl Receiver {
    fn taken(&self) -> BTreeMap<String, usize> {
        std::mem::take(&mut *self.0.lock())
    }
}

struct Shared {
    receiver: Receiver,
    /// How long a delivery takes, and whether it is cut off instead of arriving.
    takes: Duration,
    is_cut_off: bool,
}

#[async_trait]
impl Sink for Shared {
    fn name(&self) -> &str {
        "receiver"
    }

    async fn send(&self, alert: &Alert) -> Result<(), SinkError> {
        if self.is_cut_off {
            return std::future::pending().await;
        }
        *self.receiver.0.lock().entry(alert.key.clone()).or_default() += 1;
        sleep(self.takes).await;
        Ok(())
    }
}

/// Instances whose alerts agree through one Redis, and which depend on another.
struct Fleet {
    shared: Vec<Arc<FaultyBackend>>,
    dependency: Arc<FaultyBackend>,
    alerts: Vec<Alerts>,
    receiver: Receiver,
    engine: Embedded,
}

fn client(backend: &Arc<FaultyBackend>) -> Client {
    backend.client_with(&ClientConfig::default().namespace("shop"))
}

impl Fleet {
    async fn of(instances: usize) -> Self {
        let (engine, dependency) = (Embedded::new(), FaultyBackend::embedded());
        let mut fleet = Self {
            shared: Vec::new(),
            dependency,
            alerts: Vec::new(),
            receiver: Receiver::default(),
            engine,
        };
        for _ in 0..instances {
            let backend = FaultyBackend::new(Arc::new(fleet.engine.clone()));
            let sink = Shared {
                receiver: fleet.receiver.clone(),
                takes: SECOND * 4, // longer than until the next instance looks
                is_cut_off: false,
            };
            fleet.alerts.push(fleet.instance(&backend, sink));
            fleet.shared.push(backend);
            // Instances do not look at the same moment.
            sleep(SECOND * 7 / 3).await;
        }
        fleet
    }

    fn instance(&self, shared: &Arc<FaultyBackend>, sink: Shared) -> Alerts {
        Self::instance_of(&self.dependency, shared, sink)
    }

    fn instance_of(
        dependency: &Arc<FaultyBackend>,
        shared: &Arc<FaultyBackend>,
        sink: Shared,
    ) -> Alerts {
        let dependency = Dependency::hard("orders", &client(dependency));
        let health = Health::builder().dependency(dependency).build().unwrap();
        Alerts::builder(&client(shared), "shop", &health)
            .rule(Rule::unhealthy())
            .sink(sink)
            .start()
            .unwrap()
    }

    fn fail(&self) {
        self.dependency.set(Fault::new(Injection::NotSent));
    }
}

#[tokio::test(start_paused = true)]
async fn five_instances_tell_an_alert_and_its_end_once() {
    let fleet = Fleet::of(5).await;
    let mut keys = Vec::new();
    for _ in 0..3 {
        fleet.fail();
        sleep(3 * MINUTE).await;
        let told = fleet.receiver.taken();
        assert_eq!(told.values().collect::<Vec<_>>(), [&1], "{told:?}");
        keys.extend(told.into_keys());
        assert!(fleet.alerts.iter().all(|alerts| alerts.firing().len() == 1));
        fleet.dependency.clear();
        sleep(3 * MINUTE).await;
        let told = fleet.receiver.taken();
        assert_eq!(told.values().collect::<Vec<_>>(), [&1], "{told:?}");
        keys.extend(told.into_keys());
    }
    keys.sort_unstable();
    keys.dedup();
    assert_eq!(keys.len(), 6, "each alert has a key of its own: {keys:?}");
}

#[tokio::test(start_paused = true)]
async fn an_alert_is_over_when_it_is_over_for_the_last_instance() {
    let mut fleet = Fleet::of(4).await;
    // One instance has a way of its own to what all depend on.
    let own = FaultyBackend::embedded();
    let sink = Shared {
        receiver: fleet.receiver.clone(),
        takes: SECOND,
        is_cut_off: false,
    };
    let alerts = Fleet::instance_of(&own, &fleet.shared[0], sink);
    fleet.alerts.push(alerts);
    fleet.fail();
    own.set(Fault::new(Injection::NotSent));
    sleep(2 * MINUTE).await;
    assert_eq!(fleet.receiver.taken().len(), 1);
    fleet.dependency.clear();
    sleep(2 * MINUTE).await;
    assert_eq!(fleet.receiver.taken(), BTreeMap::new(), "one still sees it");
    own.clear();
    sleep(2 * MINUTE).await;
    let over = fleet.receiver.taken();
    assert_eq!(over.values().collect::<Vec<_>>(), [&1], "{over:?}");
}

#[tokio::test(start_paused = true)]
async fn an_instance_that_dies_while_it_delivers_is_replaced() {
    let fleet = Fleet::of(4).await;
    let backend = FaultyBackend::new(Arc::clone(&fleet.shared[0]) as Arc<dyn redkit_core::Backend>);
    // It looks first, and so claims first.
    fleet.fail();
    let sink = Shared {
        receiver: fleet.receiver.clone(),
        takes: SECOND,
        is_cut_off: true,
    };
    let health = Health::builder()
        .dependency(Dependency::hard("orders", &client(&fleet.dependency)))
        .build()
        .unwrap();
    let doomed = Alerts::builder(&client(&backend), "shop", &health)
        .rule(Rule::unhealthy().for_at_least(Duration::ZERO))
        .sink(sink)
        .start()
        .unwrap();
    sleep(2 * SECOND).await;
    assert!(fleet.receiver.taken().is_empty());
    drop(doomed);
    sleep(2 * MINUTE).await;
    let told = fleet.receiver.taken();
    assert_eq!(told.values().collect::<Vec<_>>(), [&1], "{told:?}");
    // The one that died does not keep the alert open.
    fleet.dependency.clear();
    sleep(2 * MINUTE).await;
    let over = fleet.receiver.taken();
    assert_eq!(over.len(), 1, "{over:?}");
}

#[tokio::test(start_paused = true)]
async fn without_redis_every_instance_tells_it_under_one_key() {
    let fleet = Fleet::of(5).await;
    // An episode that all of them know.
    fleet.fail();
    sleep(2 * MINUTE).await;
    fleet.dependency.clear();
    sleep(2 * MINUTE).await;
    assert_eq!(fleet.receiver.taken().len(), 2);
    let cut = |is_cut: bool| {
        for backend in &fleet.shared {
            match is_cut {
                true => backend.set(Fault::new(Injection::NotSent)),
                false => backend.clear(),
            }
        }
    };
    cut(true);
    fleet.fail();
    sleep(2 * MINUTE).await;
    let told = fleet.receiver.taken();
    assert_eq!(
        told.values().collect::<Vec<_>>(),
        [&5],
        "one key, four doubles: {told:?}"
    );
    // Back again: nothing is told anew, and the end is told once.
    cut(false);
    sleep(2 * MINUTE).await;
    assert_eq!(fleet.receiver.taken(), BTreeMap::new());
    fleet.dependency.clear();
    sleep(2 * MINUTE).await;
    let over = fleet.receiver.taken();
    assert_eq!(over.values().collect::<Vec<_>>(), [&1], "{over:?}");
    let (fired, over) = (
        told.into_keys().next().unwrap(),
        over.into_keys().next().unwrap(),
    );
    assert_eq!(over, fired.replace("/firing", "/resolved"));
}

/// Just then the alert may be that the memory is full.
#[tokio::test(start_paused = true)]
async fn a_full_server_lets_one_instance_tell_it() {
    let mut fleet = Fleet::of(5).await;
    fleet.engine.set_full(true);
    fleet.fail();
    sleep(3 * MINUTE).await;
    let told = fleet.receiver.taken();
    assert_eq!(told.values().collect::<Vec<_>>(), [&1], "{told:?}");
    // One that starts later finds that it was told.
    let backend = FaultyBackend::new(Arc::new(fleet.engine.clone()));
    let sink = Shared {
        receiver: fleet.receiver.clone(),
        takes: Duration::ZERO,
        is_cut_off: false,
    };
    fleet.alerts.push(fleet.instance(&backend, sink));
    sleep(3 * MINUTE).await;
    assert!(fleet.alerts.iter().all(|alerts| alerts.firing().len() == 1));
    assert_eq!(fleet.receiver.taken(), BTreeMap::new());
}

/// The same on Redis, which refuses a script whose first write may grow.
#[tokio::test]
async fn on_a_full_server_alerts_are_claimed_and_orders_are_given() {
    let options = ServerOptions::new().config("maxmemory-policy noeviction");
    let server = Server::redis(options).await.unwrap();
    let raw = async |command: &[&str]| server.raw(command).await.unwrap();
    raw(&["SET", "snapshot", "1"]).await;
    raw(&["CONFIG", "SET", "maxmemory", "1"]).await;
    let claim = include_str!("../../src/scripts/alert_claim.lua");
    let delivered = include_str!("../../src/scripts/alert_delivered.lua");
    let order = include_str!("../../src/scripts/dashboard_order.lua");
    let outcome = include_str!("../../src/scripts/dashboard_outcome.lua");
    for (call, reply) in [
        (&["EVAL", claim, "1", "a", "one", "60000"][..], 0),
        (&["EVAL", delivered, "1", "a", "60000"], 1),
        (&["EVAL", claim, "1", "a", "two", "60000"], -1),
        (
            &["EVAL", order, "2", "orders", "snapshot", "x", "64", "60000"],
            1,
        ),
        (&["EVAL", outcome, "1", "outcome", "x", "60000"], 1),
    ] {
        assert_eq!(raw(call).await, RawReply::Int(reply), "{call:?}");
    }
}
