//! What a world does to its processes, seen from inside them.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use redkit_core::{CallError, ClientConfig, Command, Error, GapReason, Interest, Push, Value};
use tokio::time::{Instant, sleep};

use super::*;

const SERVER: ServerId = ServerId(0);

/// What processes have seen, in the order in which they did.
#[derive(Clone, Default)]
struct Seen(Arc<Mutex<Vec<String>>>);

impl Seen {
    fn note(&self, line: impl Into<String>) {
        self.0.lock().push(line.into());
    }

    fn all(&self) -> Vec<String> {
        self.0.lock().clone()
    }
}

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

fn world() -> World {
    World::new(1, WorldOptions::new())
}

fn get(world: &mut World, key: &str) -> Option<String> {
    let value = world.ask(SERVER, Command::new("GET").key(key)).unwrap();
    value.to().unwrap()
}

fn incr() -> Command {
    Command::new("INCR").key("n")
}

#[test]
fn a_process_reaches_the_server_and_an_hour_takes_no_time() {
    let mut world = world();
    let seen = Seen::default();
    let told = seen.clone();
    world.process("a", move |process| {
        let told = told.clone();
        async move {
            let client = process.client();
            let set = Command::new("SET").key("k").arg("v").arg("EX").arg(3_600);
            client.call::<()>(set).await.unwrap();
            sleep(Duration::from_secs(3_599)).await;
            let there: Option<String> = client.call(Command::new("GET").key("k")).await.unwrap();
            sleep(Duration::from_secs(2)).await;
            let gone: Option<String> = client.call(Command::new("GET").key("k")).await.unwrap();
            told.note(format!("{there:?} {gone:?}"));
        }
    });
    let began = std::time::Instant::now();
    assert!(world.run_until_done(Duration::from_secs(4_000)));
    assert_eq!(seen.all(), ["Some(\"v\") None"]);
    assert!(began.elapsed() < Duration::from_secs(60));
    assert!(world.now() >= Duration::from_secs(3_601));
}

#[test]
fn timers_of_a_fast_clock_end_early() {
    let mut world = world();
    let times = Arc::new(Mutex::new(Vec::new()));
    for drift in [0, 10_000, -10_000] {
        let times = Arc::clone(&times);
        let options = ProcessOptions::new("p").drift(drift);
        world.process_with(options, move |process| {
            let times = Arc::clone(&times);
            async move {
                sleep(Duration::from_secs(10)).await;
                times.lock().push((drift, process.now().as_millis()));
            }
        });
    }
    assert!(world.run_until_done(Duration::from_secs(20)));
    let mut times = times.lock().clone();
    times.sort_unstable();
    assert_eq!(times, [(-10_000, 10_101), (0, 10_000), (10_000, 9_900)]);
}

#[test]
fn a_clock_that_leaps_ends_timers_at_once() {
    let mut world = world();
    let process = world.process("a", |_| async { sleep(Duration::from_secs(60)).await });
    world.run_for(ms(500));
    world.inject(Fault::JumpClock {
        process,
        by: Duration::from_secs(60),
    });
    assert!(world.run_until_done(ms(100)));
}

#[test]
fn a_lost_reply_is_a_maybe_and_a_lost_request_too_and_the_driver_connects_again() {
    let mut world = world();
    let seen = Seen::default();
    let told = seen.clone();
    let process = world.process("a", move |process| {
        let told = told.clone();
        async move {
            let client = process.client();
            for _ in 0..4 {
                sleep(ms(100)).await;
                let result = client.call::<i64>(incr()).await;
                told.note(match result {
                    Ok(n) => n.to_string(),
                    Err(error) => format!("maybe: {}", error.is_maybe()),
                });
            }
        }
    });
    world.run_for(ms(150));
    world.inject(Fault::LoseReply {
        process,
        server: SERVER,
    });
    world.run_for(ms(100));
    world.inject(Fault::LoseRequest {
        process,
        server: SERVER,
    });
    assert!(world.run_until_done(Duration::from_secs(5)));
    assert_eq!(seen.all(), ["1", "maybe: true", "maybe: true", "3"]);
}

#[test]
fn of_requests_under_way_when_a_connection_is_cut_some_first_ones_arrive() {
    let mut arrived = Vec::new();
    for seed in 0..40 {
        let mut world = World::new(seed, WorldOptions::new());
        let process = world.process("a", move |process| async move {
            let client = process.client();
            let calls = (0..10).map(|_| client.call::<i64>(incr()));
            let results = futures_util::future::join_all(calls).await;
            for result in results {
                assert!(result.is_ok() || result.is_err_and(|error| error.is_maybe()));
            }
        });
        world.run_for(ms(1) + Duration::from_micros(200 * (seed % 20)));
        world.inject(Fault::Cut {
            process,
            server: SERVER,
        });
        assert!(world.run_until_done(Duration::from_secs(5)));
        arrived.push(get(&mut world, "n").map_or(0, |n| n.parse::<u32>().unwrap()));
    }
    assert!(arrived.iter().any(|n| (1..10).contains(n)), "{arrived:?}");
}

#[test]
fn what_a_partition_holds_arrives_when_it_is_over_though_its_caller_has_given_up() {
    let mut world = world();
    let seen = Seen::default();
    let told = seen.clone();
    let process = world.process("a", move |process| {
        let told = told.clone();
        async move {
            let client = process.client();
            client.call::<i64>(incr()).await.unwrap();
            sleep(ms(100)).await;
            let began = Instant::now();
            let error = client.call::<i64>(incr()).await.unwrap_err();
            assert!(error.is_maybe(), "{error}");
            assert!(began.elapsed() <= ms(1001), "{:?}", began.elapsed());
            told.note("given up");
        }
    });
    world.run_for(ms(50));
    world.inject(Fault::Partition {
        process,
        server: SERVER,
        direction: Direction::Both,
        lasts: Duration::from_secs(3),
    });
    assert!(world.run_until_done(ms(1200)));
    assert_eq!(get(&mut world, "n").as_deref(), Some("1"));
    world.run_for(Duration::from_secs(3));
    assert_eq!(get(&mut world, "n").as_deref(), Some("2"), "it came late");
}

#[test]
fn a_subscription_is_told_that_it_is_lost_and_stands_again() {
    let mut world = world();
    let seen = Seen::default();
    let told = seen.clone();
    let subscriber = world.process("subscriber", move |process| {
        let told = told.clone();
        async move {
            let client = process.client();
            let interest = Interest::Channels(vec!["news".into()]);
            let mut pushes = client.subscribe(interest).await.unwrap();
            while let Some(push) = pushes.next().await {
                told.note(match push {
                    Push::Message { payload, .. } => String::from_utf8_lossy(&payload).into(),
                    Push::Gap(GapReason::Lost) => "lost".to_owned(),
                    Push::Gap(GapReason::Reconnected) => "reconnected".to_owned(),
                    other => format!("{other:?}"),
                });
            }
        }
    });
    let publish = |world: &mut World, text: &str| {
        let publish = Command::new("PUBLISH").arg("news").arg(text);
        world.ask(SERVER, publish).unwrap();
        world.run_for(ms(300));
    };
    world.run_for(ms(300));
    publish(&mut world, "one");
    world.inject(Fault::Cut {
        process: subscriber,
        server: SERVER,
    });
    world.run_for(ms(300));
    publish(&mut world, "two");
    assert_eq!(seen.all(), ["one", "lost", "reconnected", "two"]);
}

#[test]
fn a_paused_process_notices_nothing_until_it_goes_on() {
    let mut world = world();
    let seen = Seen::default();
    let told = seen.clone();
    let process = world.process("a", move |process| {
        let told = told.clone();
        async move {
            loop {
                sleep(ms(100)).await;
                told.note(format!("{}", process.now().as_millis()));
            }
        }
    });
    world.run_for(ms(250));
    let lasts = Duration::from_secs(5);
    world.inject(Fault::PauseProcess { process, lasts });
    world.run_for(ms(5100));
    let seen = seen.all();
    assert_eq!(seen[..3], ["100", "200", "5250"]);
    assert!(seen.len() <= 5, "{seen:?}");
}

#[test]
fn a_killed_process_sends_nothing_more_and_its_successor_starts_anew() {
    struct SaysGoodbye(redkit_core::Client);
    impl Drop for SaysGoodbye {
        fn drop(&mut self) {
            let client = self.0.clone();
            if let Ok(runtime) = tokio::runtime::Handle::try_current() {
                runtime.spawn(async move {
                    drop(
                        client
                            .call::<()>(Command::new("SET").key("bye").arg(1))
                            .await,
                    );
                });
            }
        }
    }
    let mut world = world();
    let seen = Seen::default();
    let told = seen.clone();
    let process = world.process("a", move |process| {
        let told = told.clone();
        async move {
            told.note(format!("starts as {}", process.incarnation()));
            let _guard = SaysGoodbye(process.client());
            sleep(Duration::from_secs(1_000)).await;
        }
    });
    world.run_for(ms(100));
    world.inject(Fault::KillProcess {
        process,
        restart_after: Some(ms(200)),
    });
    assert!(!world.is_alive(process));
    world.run_for(Duration::from_secs(5));
    assert!(world.is_alive(process));
    assert_eq!(seen.all(), ["starts as 0", "starts as 1"]);
    assert_eq!(get(&mut world, "bye"), None);
}

#[test]
fn a_failover_forgets_all_scripts() {
    let mut world = world();
    let load = Command::new("SCRIPT").arg("LOAD").arg("return 1");
    let sha: String = world.ask(SERVER, load).unwrap().to().unwrap();
    let run = Command::new("EVALSHA").arg(sha).arg(0);
    assert_eq!(world.ask(SERVER, run.clone()).unwrap(), Value::Int(1));
    world.inject(Fault::Failover {
        server: SERVER,
        lag: ms(0),
        down: ms(50),
    });
    world.run_for(ms(100));
    let error = world.ask(SERVER, run).unwrap_err();
    assert!(matches!(error, CallError::Replied(error) if error.code() == "NOSCRIPT"));
}

#[test]
fn data_of_a_replica_that_is_behind_are_those_of_then() {
    let mut world = world();
    let mut schedule = Schedule::default();
    let (lag, down) = (ms(300), ms(50));
    let fault = Fault::Failover {
        server: SERVER,
        lag,
        down,
    };
    schedule.faults.push(PlannedFault {
        at: ms(1_000),
        fault,
    });
    world.plan(&schedule);
    for n in 0..99 {
        let set = Command::new("SET").key("k").arg(n);
        world.ask(SERVER, set).unwrap();
        world.run_for(ms(10));
    }
    world.run_for(ms(100));
    let left: u32 = get(&mut world, "k").unwrap().parse().unwrap();
    assert!((69..=71).contains(&left), "{left}");
}

#[test]
fn a_server_that_is_down_refuses_connections_and_comes_back_as_it_was_told() {
    for (data, left) in [(Data::Kept, Some("v")), (Data::Lost, None)] {
        let mut world = world();
        let seen = Seen::default();
        let told = seen.clone();
        world.process("a", move |process| {
            let told = told.clone();
            async move {
                let config = ClientConfig::default()
                    .retry(1, Duration::ZERO, Duration::ZERO)
                    .command_timeout(ms(100));
                let client = process.client_with(SERVER, &config);
                let set = Command::new("SET").key("k").arg("v");
                client.call::<()>(set).await.unwrap();
                sleep(ms(200)).await;
                let result = client
                    .call::<Value>(Command::new("SET").key("x").arg(1))
                    .await;
                let is_sent =
                    |error: &Error| !matches!(error.call_error(), Some(CallError::NotSent(_)));
                told.note(format!("{:?}", result.as_ref().map_err(is_sent)));
            }
        });
        world.run_for(ms(100));
        world.inject(Fault::RestartServer {
            server: SERVER,
            down: Duration::from_secs(1),
            data,
        });
        assert!(world.run_until_done(Duration::from_secs(1)));
        assert_eq!(seen.all(), ["Err(false)"]);
        world.run_for(Duration::from_secs(1));
        assert_eq!(get(&mut world, "k").as_deref(), left);
    }
}

#[test]
fn a_full_server_refuses_writes_and_carries_out_what_was_sent_to_a_stopped_one() {
    let mut world = world();
    let seen = Seen::default();
    let told = seen.clone();
    world.process("a", move |process| {
        let told = told.clone();
        async move {
            let client = process.client();
            for _ in 0..3 {
                sleep(ms(100)).await;
                let result = client.call::<i64>(incr()).await;
                let at = process.now().as_millis() / 100;
                told.note(format!("{} {at}", result.map_or(-1, |n| n)));
            }
        }
    });
    world.run_for(ms(50));
    let lasts = ms(100);
    world.inject(Fault::FullMemory {
        server: SERVER,
        lasts,
    });
    world.run_for(ms(150));
    world.inject(Fault::PauseServer {
        server: SERVER,
        lasts: ms(500),
    });
    assert!(world.run_until_done(Duration::from_secs(5)));
    assert_eq!(seen.all(), ["-1 1", "1 7", "2 8"]);
}

#[test]
fn blocking_commands_wait_on_the_server_and_see_its_time() {
    let mut world = world();
    let seen = Seen::default();
    let told = seen.clone();
    world.process("a", move |process| {
        let told = told.clone();
        async move {
            let client = process.client().dedicated().await.unwrap();
            for _ in 0..2 {
                let wait = Command::new("BLPOP").key("list").arg(1);
                let wait = wait.deadline(Instant::now() + Duration::from_secs(3));
                let popped: Option<(String, String)> = client.call(wait).await.unwrap();
                let at = process.now().as_millis() / 100;
                told.note(format!("{:?} {at}", popped.map(|(_, item)| item)));
            }
        }
    });
    world.run_for(ms(500));
    let push = Command::new("RPUSH").key("list").arg("item");
    world.ask(SERVER, push).unwrap();
    assert!(world.run_until_done(Duration::from_secs(5)));
    assert_eq!(seen.all(), ["Some(\"item\") 5", "None 15"]);
}

/// Does a little of everything.
struct Everything;

impl Scenario for Everything {
    fn name(&self) -> &'static str {
        "everything"
    }

    fn pattern(&self) -> &'static str {
        "testkit"
    }

    fn processes(&self) -> usize {
        3
    }

    fn servers(&self) -> usize {
        2
    }

    fn faults(&self) -> FaultMenu {
        FaultMenu::all()
    }

    fn run(&self, context: &mut ScenarioContext) -> Result<(), Violation> {
        let mut world = context.world(WorldOptions::new());
        let operations = context.operations(60);
        for name in ["a", "b", "c"] {
            world.process(name, move |process| async move {
                let client = process.client();
                let other = process.client_with(ServerId(1), &ClientConfig::default());
                let interest = Interest::Channels(vec!["news".into()]);
                let subscription = client.subscribe(interest).await;
                for n in 0..operations {
                    sleep(ms(process.random_range(0..200))).await;
                    let number: u64 = redkit_core::random::random();
                    let client = if process.chance(0.5) { &client } else { &other };
                    let set = Command::new("SET").key("k").arg(number).idempotent(true);
                    let set = client.call::<Value>(set).await;
                    let publish = Command::new("PUBLISH").arg("news").arg(n);
                    let publish = client.call::<Value>(publish).await;
                    process.note(|| format!("{number} {} {}", set.is_ok(), publish.is_ok()));
                }
                drop(subscription);
            });
        }
        world.run_until_done(Duration::from_secs(300));
        Ok(())
    }
}

#[test]
fn the_same_seed_gives_the_same_run() {
    for seed in 0..20 {
        let one = simulate_and_tell(&Everything, seed, Detail::Messages);
        let other = simulate_and_tell(&Everything, seed, Detail::Messages);
        assert_eq!(one.violation, None);
        assert_eq!(one.story, other.story, "seed {seed}");
        assert_eq!(one.hash, other.hash, "seed {seed}");
    }
    assert_ne!(simulate(&Everything, 1).hash, simulate(&Everything, 2).hash);
}

/// Goes wrong when a process is killed after another fault, and only with a few operations.
struct Fragile;

impl Scenario for Fragile {
    fn name(&self) -> &'static str {
        "fragile"
    }

    fn pattern(&self) -> &'static str {
        "testkit"
    }

    fn processes(&self) -> usize {
        1
    }

    fn faults(&self) -> FaultMenu {
        FaultMenu::all().at_most(30)
    }

    fn run(&self, context: &mut ScenarioContext) -> Result<(), Violation> {
        let _world = context.world(WorldOptions::new());
        let operations = context.operations(100);
        let kinds = context
            .schedule()
            .faults
            .iter()
            .map(|planned| planned.fault.kind());
        let kinds: Vec<_> = kinds.collect();
        let cut = kinds.iter().position(|kind| *kind == FaultKind::Cut);
        let killed = kinds
            .iter()
            .rposition(|kind| *kind == FaultKind::KillProcess);
        match (cut, killed) {
            (Some(cut), Some(killed)) if cut < killed && operations >= 7 => {
                Err(Violation::new("killed after a cut", ms(0)))
            }
            _ => Ok(()),
        }
    }
}

#[test]
fn a_violation_is_shrunk_to_what_it_needs() {
    let report = Campaign::new(0..1_000).threads(2).run(&Fragile);
    let run = report.violation.expect("some schedule has both");
    let shrunk = shrink(&Fragile, &run);
    let kinds = shrunk
        .run
        .schedule
        .faults
        .iter()
        .map(|planned| planned.fault.kind());
    let kinds: Vec<_> = kinds.collect();
    assert_eq!(kinds, [FaultKind::Cut, FaultKind::KillProcess]);
    assert_eq!(shrunk.operations, 7);
    assert!(shrunk.faults_before > 2 && shrunk.tries > 0);
}

#[test]
fn a_panic_of_any_task_is_a_violation() {
    struct Panics;
    impl Scenario for Panics {
        fn name(&self) -> &'static str {
            "panics"
        }

        fn pattern(&self) -> &'static str {
            "testkit"
        }

        fn processes(&self) -> usize {
            1
        }

        fn faults(&self) -> FaultMenu {
            FaultMenu::none()
        }

        fn run(&self, context: &mut ScenarioContext) -> Result<(), Violation> {
            let mut world = context.world(WorldOptions::new());
            world.process("a", |_| async {
                tokio::spawn(async { panic!("a task dies") });
                sleep(ms(10)).await;
            });
            world.run_until_done(ms(100));
            Ok(())
        }
    }
    let violation = simulate(&Panics, 1).violation.unwrap().to_string();
    assert!(violation.contains("a task dies"), "{violation}");
}
