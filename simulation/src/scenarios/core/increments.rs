//! [`Increments`]: a command that is not idempotent is never applied twice, and none that was answered is lost.

use std::time::Duration;

use redkit_core::{Client, Command, Error};
use redkit_testkit::simulation::checkers::linearizability::{self, Counter, CounterCall};
use redkit_testkit::simulation::history::{Outcome, Recorder};
use redkit_testkit::simulation::{
    FaultKind, FaultMenu, Process, ProcessId, Scenario, ScenarioContext, ServerId, Violation,
    WorldOptions,
};
use tokio::time::sleep;

use crate::scenarios::faults;

/// Processes raise and read counters while everything breaks that leaves the server its data. The history of
/// each counter is one that a single thread could have made.
pub(super) struct Increments;

const PROCESSES: [&str; 3] = ["ann", "bob", "cem"];
const COUNTERS: [&str; 2] = ["visits", "orders"];

/// The calls of one counter.
type Calls = Recorder<CounterCall, i64>;

impl Scenario for Increments {
    fn name(&self) -> &'static str {
        "core-increments"
    }

    fn pattern(&self) -> &'static str {
        "core"
    }

    fn processes(&self) -> usize {
        PROCESSES.len()
    }

    fn faults(&self) -> FaultMenu {
        FaultMenu::all().without(&[
            FaultKind::Failover,
            FaultKind::FlushAll,
            FaultKind::RestartServer,
        ])
    }

    fn marks(&self) -> &'static [&'static str] {
        &["added", "read"]
    }

    fn run(&self, context: &mut ScenarioContext) -> Result<(), Violation> {
        let mut world = context.world(WorldOptions::new());
        let operations = context.operations(40);
        let counters = COUNTERS.map(|_| Calls::new());
        for name in PROCESSES {
            let counters = counters.clone();
            world.process(name, move |process| {
                work(process, counters.clone(), operations)
            });
        }
        let is_done = world.run_until_done(Duration::from_secs(600));
        faults::ends(is_done, &world)?;
        world.heal();
        // What a partition held has arrived by then.
        world.run_for(Duration::from_secs(10));
        for (counter, calls) in COUNTERS.iter().zip(&counters) {
            let last = calls.begin(ProcessId(u32::MAX), world.now(), CounterCall::Read);
            let value = world.ask(ServerId(0), Command::new("GET").key(counter));
            let value = value.ok().and_then(|value| value.to::<Option<i64>>().ok());
            let value = value.flatten().unwrap_or(0);
            last.ended(world.now(), Outcome::Replied(value));
            linearizability::check(&Counter, &calls.history())?;
        }
        Ok(())
    }
}

async fn work(process: Process, counters: [Calls; COUNTERS.len()], operations: usize) {
    let client = process.client();
    for _ in 0..operations {
        sleep(Duration::from_micros(process.random_range(0..100_000))).await;
        let (name, calls) = match process.chance(0.5) {
            true => (COUNTERS[0], &counters[0]),
            false => (COUNTERS[1], &counters[1]),
        };
        let call = match process.chance(0.3) {
            true => CounterCall::Read,
            false => CounterCall::Add(process.random_range(1..4)),
        };
        let pending = calls.begin(process.id(), process.now(), call);
        let result = carry_out(&client, name, call).await;
        process.note(|| match &result {
            Ok(value) => format!("{call:?} on `{name}` gives {value}"),
            Err(error) => format!("{call:?} on `{name}`: {error}"),
        });
        match (&result, call) {
            (Ok(_), CounterCall::Add(_)) => process.reached("added"),
            (Ok(_), CounterCall::Read) => process.reached("read"),
            (Err(error), _) => process.fails("count", error),
        }
        pending.ended(process.now(), Outcome::of(result, Error::is_maybe));
    }
}

async fn carry_out(client: &Client, counter: &str, call: CounterCall) -> Result<i64, Error> {
    match call {
        CounterCall::Add(by) => {
            let add = Command::new("INCRBY").key(counter).arg(by);
            client.call(add).await
        }
        CounterCall::Read => {
            let read = Command::new("GET").key(counter);
            let value: Option<i64> = client.call(read).await?;
            Ok(value.unwrap_or(0))
        }
    }
}
