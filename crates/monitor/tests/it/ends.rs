//! The end of an alert is told also when the instances in which it fires have ended, or have died.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use parking_lot::Mutex;
use redkit_core::ClientConfig;
use redkit_embedded::Embedded;
use redkit_monitor::alerts::{Alert, Alerts, Rule, Sink, SinkError};
use redkit_monitor::{Dependency, Health};
use redkit_testkit::{FaultyBackend, Injection, Rule as Fault};
use tokio::time::sleep;

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);

/// The keys that a shared receiver was told, without the alert's name: `1764442800/firing`.
#[derive(Clone, Default)]
struct Told(Arc<Mutex<Vec<String>>>);

#[async_trait]
impl Sink for Told {
    fn name(&self) -> &str {
        "receiver"
    }

    async fn send(&self, alert: &Alert) -> Result<(), SinkError> {
        let mut parts = alert.key.rsplit('/');
        let (state, episode) = (parts.next().unwrap(), parts.next().unwrap());
        self.0.lock().push(format!("{episode}/{state}"));
        Ok(())
    }
}

impl Told {
    fn taken(&self) -> Vec<String> {
        std::mem::take(&mut *self.0.lock())
    }
}

/// What all instances share: one Redis, one receiver.
struct Program {
    engine: Embedded,
    told: Told,
    rule: fn() -> Rule,
    every: Duration,
}

/// One instance, and its own way to what it depends on.
struct Instance {
    alerts: Alerts,
    dependency: Arc<FaultyBackend>,
    shared: Arc<FaultyBackend>,
}

impl Program {
    fn new() -> Self {
        Self {
            engine: Embedded::new(),
            told: Told::default(),
            rule: || Rule::unhealthy().for_at_least(Duration::ZERO),
            every: 10 * SECOND,
        }
    }

    /// An instance for which the dependency is well, or not.
    fn start(&self, is_well: bool) -> Instance {
        let config = ClientConfig::default().namespace("shop");
        let (dependency, shared) = (
            FaultyBackend::embedded(),
            FaultyBackend::new(Arc::new(self.engine.clone())),
        );
        if !is_well {
            dependency.set(Fault::new(Injection::NotSent));
        }
        let on = Dependency::hard("orders", &dependency.client_with(&config));
        let health = Health::builder().dependency(on).build().unwrap();
        let alerts = Alerts::builder(&shared.client_with(&config), "shop", &health)
            .rule((self.rule)())
            .every(self.every)
            .sink(self.told.clone())
            .start()
            .unwrap();
        Instance {
            alerts,
            dependency,
            shared,
        }
    }

    /// The hash of episodes, as another program sees it.
    async fn episodes(&self, command: &'static str, arguments: &[&str]) -> redkit_core::Value {
        let config = ClientConfig::default().namespace("shop");
        let client = FaultyBackend::new(Arc::new(self.engine.clone())).client_with(&config);
        let key = client.key("monitor:shop:{alerts}:episodes");
        let command = redkit_core::Command::new(command).key(key);
        let command = arguments
            .iter()
            .fold(command, |command, argument| command.arg(*argument));
        client.call(command).await.unwrap()
    }

    /// The one episode that has begun.
    async fn begun(&self) -> String {
        sleep(20 * SECOND).await;
        let told = self.told.taken();
        assert_eq!(told.len(), 1, "{told:?}");
        told[0].strip_suffix("/firing").unwrap().to_owned()
    }

    /// The episode has been ended once and nothing else was told.
    fn has_ended(&self, episode: &str) {
        assert_eq!(self.told.taken(), [format!("{episode}/resolved")]);
    }
}

impl Instance {
    fn fail(&self) {
        self.dependency.set(Fault::new(Injection::NotSent));
    }

    fn cut(&self) {
        self.shared.set(Fault::new(Injection::NotSent));
    }
}

/// An alert that fires once more: under a number that was not told before.
fn is_anew(told: &[String], episode: &str) {
    let number = |text: &str| text.split('/').next().unwrap().parse::<u64>().unwrap();
    assert!(
        told.len() == 1 && told[0].ends_with("/firing") && number(&told[0]) > number(episode),
        "{told:?} after {episode}"
    );
}

#[tokio::test(start_paused = true)]
async fn what_comes_back_after_an_end_that_redis_was_not_told_of_is_told() {
    // Redis is away for one look, or for longer than an end is held back.
    for away in [10 * SECOND, 2 * MINUTE] {
        let program = Program::new();
        let instance = program.start(false);
        let episode = program.begun().await;
        instance.cut();
        instance.dependency.clear();
        sleep(away).await;
        instance.shared.clear();
        instance.fail();
        sleep(20 * SECOND).await;
        let mut told = program.told.taken();
        assert_eq!(told.remove(0), format!("{episode}/resolved"));
        is_anew(&told, &episode);
        let again = told[0].strip_suffix("/firing").unwrap();
        instance.dependency.clear();
        sleep(MINUTE).await;
        program.has_ended(again);
        sleep(5 * MINUTE).await;
        assert!(program.told.taken().is_empty());
    }
}

#[tokio::test(start_paused = true)]
async fn each_alert_of_an_outage_of_redis_has_a_key_of_its_own() {
    let program = Program::new();
    let instance = program.start(true);
    sleep(20 * SECOND).await;
    instance.cut();
    let mut keys = Vec::new();
    for _ in 0..3 {
        instance.fail();
        sleep(MINUTE).await;
        instance.dependency.clear();
        sleep(2 * MINUTE).await;
        let told = program.told.taken();
        assert_eq!(told.len(), 2, "{told:?}");
        assert_eq!(told[1], told[0].replace("/firing", "/resolved"));
        keys.extend(told);
    }
    keys.sort();
    keys.dedup();
    assert_eq!(keys.len(), 6, "{keys:?}");
    // Redis learns of the last one.
    instance.shared.clear();
    sleep(MINUTE).await;
    let last = keys[5].split('/').next().unwrap();
    let row = program.episodes("HGET", &["unhealthy/orders"]).await;
    assert_eq!(row.to::<String>().unwrap(), format!("{last}:over"));
}

#[tokio::test(start_paused = true)]
async fn an_end_is_not_told_before_its_time_because_redis_misses_a_call() {
    let program = Program::new();
    let (first, last) = (program.start(false), program.start(false));
    let episode = program.begun().await;
    first.cut();
    first.dependency.clear();
    sleep(15 * SECOND).await;
    first.shared.clear();
    sleep(2 * MINUTE).await;
    assert!(program.told.taken().is_empty(), "the other still sees it");
    last.dependency.clear();
    sleep(MINUTE).await;
    program.has_ended(&episode);
}

#[tokio::test(start_paused = true)]
async fn an_end_that_was_told_too_early_is_followed_by_what_still_fires() {
    let program = Program::new();
    let (first, last) = (program.start(false), program.start(false));
    let episode = program.begun().await;
    // It alone has lost Redis, and cannot know that another still sees it.
    first.cut();
    first.dependency.clear();
    sleep(2 * MINUTE).await;
    program.has_ended(&episode);
    first.shared.clear();
    sleep(MINUTE).await;
    let told = program.told.taken();
    is_anew(&told, &episode);
    last.dependency.clear();
    sleep(MINUTE).await;
    program.has_ended(told[0].strip_suffix("/firing").unwrap());
}

#[tokio::test(start_paused = true)]
async fn what_comes_back_after_a_failover_has_lost_the_end_is_told() {
    let program = Program::new();
    let instances = [program.start(false), program.start(true)];
    let episode = program.begun().await;
    instances[0].dependency.clear();
    sleep(MINUTE).await;
    program.has_ended(&episode);
    let lost = format!("{episode}:open");
    program.episodes("HSET", &["unhealthy/orders", &lost]).await;
    // The one that was not in it has seen its end too.
    instances[1].fail();
    sleep(15 * SECOND).await;
    is_anew(&program.told.taken(), &episode);
}

#[tokio::test(start_paused = true)]
async fn an_end_that_is_held_back_is_told_when_the_program_ends() {
    let program = Program::new();
    let instance = program.start(false);
    let episode = program.begun().await;
    instance.cut();
    instance.dependency.clear();
    sleep(10 * SECOND).await;
    assert!(program.told.taken().is_empty());
    assert!(instance.alerts.shutdown(5 * SECOND).await);
    program.has_ended(&episode);
}

#[tokio::test(start_paused = true)]
async fn episodes_that_were_over_long_ago_are_dropped() {
    let program = Program::new();
    let rows = [
        "a/long",
        "7:over",
        "b/open",
        "7:open",
        "c/late",
        "9999999999:over",
    ];
    program.episodes("HSET", &rows).await;
    let _instance = program.start(false);
    program.begun().await;
    let rows = program.episodes("HKEYS", &[]).await;
    let mut rows = rows.to::<Vec<String>>().unwrap();
    rows.sort();
    assert_eq!(rows, ["b/open", "c/late", "unhealthy/orders"]);
}

#[tokio::test(start_paused = true)]
async fn a_restart_during_an_alert_does_not_lose_its_end() {
    let program = Program::new();
    for is_killed in [false, true] {
        let old = program.start(false);
        let episode = program.begun().await;
        match is_killed {
            true => drop(old),
            false => assert!(old.alerts.shutdown(SECOND).await),
        }
        let new = program.start(false);
        sleep(5 * SECOND).await;
        new.dependency.clear();
        sleep(MINUTE).await;
        program.has_ended(&episode);
        drop(new);
    }
}

#[tokio::test(start_paused = true)]
async fn the_end_is_told_when_the_last_instance_that_fires_is_killed() {
    let program = Program::new();
    let (first, last) = (program.start(false), program.start(false));
    let episode = program.begun().await;
    first.dependency.clear();
    sleep(MINUTE).await;
    assert!(program.told.taken().is_empty(), "one still sees it");
    drop(last);
    sleep(2 * MINUTE).await;
    program.has_ended(&episode);
}

#[tokio::test(start_paused = true)]
async fn an_alert_that_a_deploy_mends_is_over() {
    let program = Program::new();
    let old = [program.start(false), program.start(false)];
    let episode = program.begun().await;
    drop(old);
    let _new = [program.start(true), program.start(true)];
    sleep(2 * MINUTE).await;
    program.has_ended(&episode);
    sleep(5 * MINUTE).await;
    assert!(program.told.taken().is_empty());
}

#[tokio::test(start_paused = true)]
async fn trouble_that_outlasts_all_instances_is_one_episode() {
    let program = Program::new();
    let old = program.start(false);
    let episode = program.begun().await;
    drop(old);
    sleep(10 * MINUTE).await;
    let new = program.start(false);
    sleep(2 * MINUTE).await;
    assert!(program.told.taken().is_empty(), "the receiver knows of it");
    new.dependency.clear();
    sleep(MINUTE).await;
    program.has_ended(&episode);
}

#[tokio::test(start_paused = true)]
async fn trouble_that_new_instances_wait_to_be_sure_of_is_not_ended() {
    let program = Program {
        rule: || Rule::unhealthy().for_at_least(3 * MINUTE),
        ..Program::new()
    };
    let old = program.start(false);
    sleep(4 * MINUTE).await;
    let episode = program.begun().await;
    drop(old);
    let new = program.start(false);
    sleep(5 * MINUTE).await;
    assert!(program.told.taken().is_empty());
    assert_eq!(new.alerts.firing().len(), 1);
    new.dependency.clear();
    sleep(MINUTE).await;
    program.has_ended(&episode);
}

#[tokio::test(start_paused = true)]
async fn an_instance_that_was_not_heard_from_is_not_ended_by_others_when_redis_is_back() {
    let program = Program::new();
    let (first, last) = (program.start(false), program.start(false));
    let episode = program.begun().await;
    first.dependency.clear();
    sleep(MINUTE).await;
    for instance in [&first, &last] {
        instance.shared.set(Fault::new(Injection::NotSent));
    }
    sleep(5 * MINUTE).await;
    for instance in [&first, &last] {
        instance.shared.clear();
    }
    sleep(5 * MINUTE).await;
    assert!(program.told.taken().is_empty(), "it still fires");
    last.dependency.clear();
    sleep(MINUTE).await;
    program.has_ended(&episode);
}

#[tokio::test(start_paused = true)]
async fn an_alert_that_lasts_for_days_is_not_told_again_to_an_instance_that_joins() {
    let program = Program {
        every: 30 * MINUTE,
        ..Program::new()
    };
    let _first = program.start(false);
    program.begun().await;
    sleep(Duration::from_secs(40 * 3_600)).await;
    let _joins = program.start(false);
    sleep(MINUTE).await;
    assert!(program.told.taken().is_empty());
}
