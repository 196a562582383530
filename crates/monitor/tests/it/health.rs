//! Health where all is well, by criticality, and shared between probes.

use std::time::Duration;

use futures_util::future::join_all;
use redkit_core::Command;
use redkit_monitor::{CauseKind, Dependency, Detail, Health, Status};
use redkit_testkit::{FaultyBackend, Fixture, Injection, Rule};
use tokio::time::{Instant, advance};

use crate::check;

fn hard(client: &redkit_core::Client) -> Health {
    Health::builder()
        .dependency(Dependency::hard("orders", client))
        .fresh_for(Duration::ZERO)
        .build()
        .unwrap()
}

fn soft(client: &redkit_core::Client) -> Health {
    Health::builder()
        .dependency(Dependency::soft("orders", client))
        .fresh_for(Duration::ZERO)
        .build()
        .unwrap()
}

/// The keys that the test's namespace has.
async fn keys_of(fixture: &Fixture) -> Vec<String> {
    let mut found = Vec::new();
    for server in fixture.client.servers() {
        let glob = format!("{}*", fixture.namespace());
        let scan = Command::new("SCAN")
            .arg(0)
            .arg("MATCH")
            .arg(glob)
            .arg("COUNT")
            .arg(100_000);
        let page: (u64, Vec<String>) = fixture
            .client
            .call_server(&server.name, scan)
            .await
            .unwrap();
        found.extend(page.1);
    }
    found
}

redkit_testkit::suite! {
    async fn a_server_that_is_well_passes_every_check(fixture: Fixture) {
        let health = hard(&fixture.client);
        let ready = health.ready().await;
        assert_eq!(ready.status, Status::Pass, "{ready:?}");
        for measurement in ["ping", "write", "breaker"] {
            assert_eq!(check(&ready, "orders", measurement).status, Status::Pass);
        }
        let deep = health.deep().await;
        assert_eq!(deep.status, Status::Pass, "{deep:?}");
        for measurement in ["ping", "set_get_delete", "script", "pubsub", "memory", "persistence", "replication"] {
            assert_eq!(check(&deep, "orders", measurement).status, Status::Pass);
        }
        let masters = fixture.client.servers().len();
        assert_eq!(deep.of("orders").filter(|check| check.measurement == "ping").count(), masters);
        let of_cluster = deep.of("orders").filter(|check| check.measurement == "cluster").count();
        assert_eq!(of_cluster, if fixture.cluster().is_some() { masters } else { 0 });
        let keys = keys_of(&fixture).await;
        assert!(keys.iter().all(|key| key.ends_with(":probe")), "the deep check deletes its key: {keys:?}");
    }

    async fn nothing_is_left_of_a_check_but_a_key_that_expires(fixture: Fixture) {
        let health = hard(&fixture.client);
        for _ in 0..3 {
            health.ready().await;
        }
        let keys = keys_of(&fixture).await;
        assert_eq!(keys.len(), fixture.client.servers().len(), "{keys:?}");
        for key in keys {
            let ttl: i64 = fixture.client.call(Command::new("PTTL").key(&key)).await.unwrap();
            assert!(ttl > 0 && ttl <= 60_000, "{ttl}");
        }
    }

    async fn a_breaker_is_passed_by_and_reported(fixture: Fixture) {
        let client = fixture.connect(fixture.config().unwrap()).await.unwrap();
        client.call::<()>(Command::new("PING")).await.unwrap();
        client.breaker().force_open();
        let report = hard(&client).ready().await;
        assert_eq!(report.status, Status::Fail);
        assert_eq!(check(&report, "orders", "ping").status, Status::Pass);
        let breaker = check(&report, "orders", "breaker");
        assert_eq!(breaker.cause.as_ref().unwrap().kind, CauseKind::BreakerOpen);
        client.shutdown().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_soft_dependency_that_is_down_leaves_the_program_ready() {
    let backend = FaultyBackend::embedded();
    let client = backend.client();
    backend.set(Rule::new(Injection::NotSent));
    let report = soft(&client).ready().await;
    assert_eq!(
        (report.status, report.status.http_status()),
        (Status::Warn, 200)
    );
    assert_eq!(check(&report, "orders", "ping").status, Status::Fail);
    let report = hard(&client).ready().await;
    assert_eq!(
        (report.status, report.status.http_status()),
        (Status::Fail, 503)
    );
    assert_eq!(hard(&client).live().status, Status::Pass);
}

#[tokio::test(start_paused = true)]
async fn a_dependency_that_is_only_read_needs_to_take_no_writes() {
    let backend = FaultyBackend::embedded();
    let client = backend.client();
    backend.set(Rule::new(Injection::NotSent).on_name("SET"));
    assert_eq!(hard(&client).ready().await.status, Status::Fail);
    let reader = Dependency::hard("orders", &client).without_writes();
    let health = Health::builder().dependency(reader).build().unwrap();
    assert_eq!(health.ready().await.status, Status::Pass);
    assert_eq!(health.deep().await.status, Status::Pass);
}

#[tokio::test(start_paused = true)]
async fn however_many_probes_ask_the_server_is_looked_at_once() {
    let backend = FaultyBackend::embedded();
    let client = backend.client();
    let health = Health::builder()
        .dependency(Dependency::hard("orders", &client))
        .build()
        .unwrap();
    for _ in 0..10 {
        let reports = join_all((0..1_000).map(|_| health.ready())).await;
        assert!(reports.iter().all(|report| report.status == Status::Pass));
    }
    assert_eq!((backend.count("PING"), backend.count("SET")), (1, 1));
    advance(Duration::from_secs(1)).await;
    health.ready().await;
    assert_eq!(backend.count("PING"), 2);
}

#[tokio::test(start_paused = true)]
async fn a_server_that_hangs_is_reported_within_the_timeout() {
    let backend = FaultyBackend::embedded();
    let client = backend.client();
    for name in ["PING", "SET", "SUBSCRIBE", "INFO", "EVAL"] {
        backend.set(Rule::new(Injection::HangBefore).on_name(name));
        let health = hard(&client);
        for deep in [false, true] {
            let start = Instant::now();
            let report = if deep {
                health.deep().await
            } else {
                health.ready().await
            };
            assert!(
                start.elapsed() <= Duration::from_millis(600),
                "{name}: {:?}",
                start.elapsed()
            );
            let is_met = deep || matches!(name, "PING" | "SET");
            assert_eq!(
                report.status,
                if is_met { Status::Fail } else { Status::Pass },
                "{name} {report:?}"
            );
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_soft_dependency_that_hangs_does_not_hold_up_an_orchestrator() {
    // The default of Kubernetes' `timeoutSeconds` is a second.
    let patience = Duration::from_millis(750);
    let (orders, cache) = (FaultyBackend::embedded(), FaultyBackend::embedded());
    cache.set(Rule::new(Injection::HangBefore));
    let health = Health::builder()
        .dependency(Dependency::hard("orders", &orders.client()))
        .dependency(Dependency::soft("cache", &cache.client()))
        .build()
        .unwrap();
    for _ in 0..3 {
        let report = tokio::time::timeout(patience, health.ready())
            .await
            .unwrap();
        assert_eq!(report.status.http_status(), 200, "{report:?}");
        advance(Duration::from_secs(10)).await;
    }
    let start = Instant::now();
    assert_eq!(health.startup().await.status, Status::Pass);
    assert_eq!(
        start.elapsed(),
        Duration::ZERO,
        "the start asks hard ones only"
    );
}

#[tokio::test(start_paused = true)]
async fn a_deep_check_and_a_probe_at_once_do_not_meet() {
    let backend = FaultyBackend::embedded();
    let health = hard(&backend.client());
    backend.set(Rule::new(Injection::DelayReply(Duration::from_millis(100))).on_name("SET"));
    let ready = async {
        tokio::time::sleep(Duration::from_millis(50)).await;
        health.ready().await
    };
    let (deep, ready) = tokio::join!(health.deep(), ready);
    assert_eq!(
        (deep.status, ready.status),
        (Status::Pass, Status::Pass),
        "{deep:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn a_right_that_a_program_may_not_need_is_a_warning_of_the_deep_check() {
    let backend = FaultyBackend::embedded();
    let health = hard(&backend.client());
    for name in ["EVAL", "SUBSCRIBE", "INFO"] {
        let refused = Injection::Refuse(
            "NOPERM",
            "User o'neil has no permissions to run the 'x' command",
        );
        backend.set(Rule::new(refused).on_name(name));
        let report = health.deep().await;
        assert_eq!(report.status, Status::Warn, "{name} {report:?}");
        let cause = report.worst().unwrap().cause.clone().unwrap();
        assert_eq!(cause.kind, CauseKind::MissingRight);
        assert!(cause.to_string().contains("`+x`"), "{cause}");
        advance(Duration::from_secs(10)).await;
    }
}

#[tokio::test(start_paused = true)]
async fn the_process_lives_as_long_as_its_tasks_beat() {
    let health = Health::builder().build().unwrap();
    let worker = health
        .watch_task("worker", Some(Duration::from_secs(10)))
        .unwrap();
    let other = health.watch_task("other", None).unwrap();
    advance(Duration::from_secs(10)).await;
    assert_eq!(health.live().status, Status::Pass);
    advance(Duration::from_secs(1)).await;
    let report = health.live();
    assert_eq!(
        check(&report, "worker", "task")
            .cause
            .as_ref()
            .unwrap()
            .kind,
        CauseKind::TaskSilent
    );
    assert_eq!(report.status, Status::Fail);
    worker.beat();
    assert_eq!(health.live().status, Status::Pass);
    worker.finish();
    let task = tokio::spawn(async move {
        let _other = other;
        panic!("for the test");
    });
    task.await.unwrap_err();
    let report = health.live();
    assert_eq!(
        check(&report, "other", "task").cause.as_ref().unwrap().kind,
        CauseKind::TaskEnded
    );
    // Started anew.
    let again = health.watch_task("other", None).unwrap();
    assert_eq!(health.live().status, Status::Pass);
    again.finish();
}

#[tokio::test(start_paused = true)]
async fn the_start_is_over_when_its_steps_are_done_and_hard_dependencies_were_ready() {
    let backend = FaultyBackend::embedded();
    let client = backend.client();
    let health = hard(&client);
    let step = health.startup_step("migrations").unwrap();
    assert!(health.startup_step("migrations").is_err());
    assert_eq!(
        check(&health.startup().await, "migrations", "startup").status,
        Status::Fail
    );
    backend.set(Rule::new(Injection::NotSent));
    step.done();
    assert_eq!(health.startup().await.status, Status::Fail);
    backend.clear();
    assert_eq!(health.startup().await.status, Status::Pass);
    // From now on it is a question for `ready`.
    backend.set(Rule::new(Injection::NotSent));
    assert_eq!(health.startup().await.status, Status::Pass);
}

#[tokio::test(start_paused = true)]
async fn a_report_is_told_as_health_json() {
    let backend = FaultyBackend::embedded();
    backend.set(Rule::new(Injection::NotSent));
    let report = soft(&backend.client()).ready().await;
    let json = report.to_json(Detail::Short);
    assert_eq!(json["status"], "warn");
    let ping = &json["checks"]["orders:ping"][0];
    assert_eq!(
        (ping["status"].as_str(), ping["cause"].as_str()),
        (Some("fail"), Some("unreachable"))
    );
    assert!(ping.get("componentId").is_none());
    assert!(
        json["output"].as_str().unwrap().starts_with("orders: "),
        "{json}"
    );
    let full = report.to_json(Detail::Full);
    assert_eq!(full["checks"]["orders:ping"][0]["componentId"], "embedded");
}

#[test]
fn settings_that_cannot_work_are_refused_with_the_field() {
    let field = |health: Result<Health, redkit_monitor::Error>| match health.unwrap_err() {
        redkit_monitor::Error::Core(redkit_core::Error::Config(error)) => error.field().to_owned(),
        other => panic!("{other}"),
    };
    assert_eq!(
        field(Health::builder().timeout(Duration::ZERO).build()),
        "timeout"
    );
    assert_eq!(
        field(Health::builder().fresh_for(Duration::from_secs(61)).build()),
        "fresh_for"
    );
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap();
    let _inside = runtime.enter();
    let client = FaultyBackend::embedded().client();
    let dependency = |name| Dependency::hard(name, &client);
    assert_eq!(
        field(Health::builder().dependency(dependency("a b")).build()),
        "dependency"
    );
    let twice = Health::builder()
        .dependency(dependency("a"))
        .dependency(dependency("a"));
    assert_eq!(field(twice.build()), "dependency");
}

/// The task was aborted, and drops its heartbeat when it is polled next.
#[tokio::test(start_paused = true)]
async fn a_task_that_is_started_anew_before_the_old_one_is_gone_is_well() {
    let health = Health::builder().build().unwrap();
    let limit = Duration::from_secs(1);
    let old = health.watch_task("consumer", Some(limit)).unwrap();
    let new = health.watch_task("consumer", Some(limit)).unwrap();
    drop(old);
    assert_eq!(health.live().status, Status::Pass);
    // One that never drops its heartbeat is replaced as well.
    let newest = health.watch_task("consumer", Some(limit)).unwrap();
    tokio::time::advance(limit * 2).await;
    newest.beat();
    assert_eq!(health.live().status, Status::Pass);
    drop(newest);
    assert_eq!(health.live().status, Status::Fail);
    drop(new);
}

/// Several of one name run side by side: each is missed when it ends.
#[tokio::test(start_paused = true)]
async fn a_task_that_runs_beside_one_of_its_name_is_missed_when_it_ends() {
    let health = Health::builder().build().unwrap();
    let first = health.watch_task("consumer", None).unwrap();
    let _second = health.watch_task("consumer", None).unwrap();
    tokio::time::advance(Duration::from_secs(120)).await;
    assert_eq!(health.live().status, Status::Pass);
    drop(first);
    assert_eq!(health.live().status, Status::Fail);
    let _third = health.watch_task("consumer", None).unwrap();
    assert_eq!(health.live().status, Status::Pass, "it is started anew");
}

#[tokio::test(start_paused = true)]
async fn a_task_that_is_started_anew_takes_the_place_of_one_of_its_name() {
    let health = Health::builder().build().unwrap();
    let start = || health.watch_task("consumer", None).unwrap();
    let (first, second) = (start(), start());
    tokio::time::advance(Duration::from_secs(120)).await;
    drop(first);
    drop(second);
    let _third = start();
    assert_eq!(health.live().status, Status::Fail, "one of two is missing");
    let _fourth = start();
    assert_eq!(health.live().status, Status::Pass);
    // Each of two more may have come in the place of one of those, and in that of no further one.
    let fifth = start();
    let _sixth = start();
    drop(fifth);
    assert_eq!(health.live().status, Status::Fail);
}

#[tokio::test(start_paused = true)]
async fn a_task_is_started_anew_beside_another_long_after_both_began() {
    let health = Health::builder().build().unwrap();
    let start = || health.watch_task("consumer", None).unwrap();
    let (first, second) = (start(), start());
    tokio::time::advance(Duration::from_secs(3_600)).await;
    // The first was aborted, and has not ended yet.
    let _third = start();
    drop(first);
    assert_eq!(health.live().status, Status::Pass);
    drop(second);
    assert_eq!(health.live().status, Status::Fail);
}

#[tokio::test(start_paused = true)]
async fn a_task_that_hangs_for_good_is_replaced_once() {
    let health = Health::builder().build().unwrap();
    let start = || health.watch_task("consumer", Some(Duration::from_secs(90)));
    let _hangs = start().unwrap();
    let second = start().unwrap();
    tokio::time::advance(Duration::from_secs(89)).await;
    second.beat();
    tokio::time::advance(Duration::from_secs(30)).await;
    // The second was aborted, and has not ended yet.
    let _third = start().unwrap();
    drop(second);
    assert_eq!(health.live().status, Status::Pass);
}

/// As a program has that gives each generation of a worker a name of its own.
#[tokio::test(start_paused = true)]
async fn tasks_that_ended_after_they_were_replaced_are_forgotten() {
    let health = Health::builder().build().unwrap();
    for generation in 0..1_100 {
        let start = || health.watch_task(&format!("worker-{generation}"), None);
        let (old, new) = (start().unwrap(), start().unwrap());
        drop(old);
        new.finish();
    }
    assert_eq!(health.live().status, Status::Pass);
}
