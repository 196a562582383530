//! [`Rates`]: what each algorithm promises, over every window.

use std::time::Duration;

use rand::{Rng, RngExt};

use redkit_ratelimit::{Algorithm, Error, Policy, Quota, RateLimiter};
use redkit_testkit::simulation::checkers::{Rate, RatePromise};
use redkit_testkit::simulation::history::{Operation, Outcome, Recorder};
use redkit_testkit::simulation::{
    Fault, FaultMenu, Process, Scenario, ScenarioContext, ServerId, Violation, WorldOptions,
};
use tokio::time::sleep;

use crate::scenarios::faults;

/// Processes ask one limiter for units of a few keys, wait for them, and give some back, now and then twice. No window has more units than
/// the algorithm promises, and no call is denied what is certainly free: a call that was carried out twice would
/// deny a later one.
#[derive(Debug, Clone, Copy)]
pub(super) struct Rates {
    name: &'static str,
    algorithm: Kind,
}

#[derive(Debug, Clone, Copy)]
enum Kind {
    Fixed,
    Counter,
    Log,
    Bucketed,
    Gcra,
    Leaky,
}

/// A call of a limiter.
#[derive(Debug, Clone)]
struct Asked {
    key: &'static str,
    cost: u64,
}

/// What a call was told: whether it was allowed, and after which delay it may go. `None` when the units may have been
/// given back.
type Told = Option<(bool, Duration)>;

#[derive(Debug, Clone, Copy)]
struct Settings {
    algorithm: Algorithm,
    quota: Quota,
    deny_cache: bool,
    waiters_first: bool,
    operations: usize,
}

const PROCESSES: [&str; 3] = ["ann", "bob", "cem"];
const KEYS: [&str; 2] = ["alice", "zoe"];
/// A process that waits for units waits no longer.
const LONGEST_WAIT: u64 = 1_500;
/// A caller that is allowed later than this had to wait.
const LONGER_THAN_A_CALL: Duration = Duration::from_millis(20);
/// A call that was given up reaches the server no later than this, however long the network held it.
const IN_FLIGHT: Duration = Duration::from_secs(6);
const LIMIT: Duration = Duration::from_secs(240);

impl Rates {
    pub(super) const ALL: [Self; 6] = [
        Self::new("ratelimit-fixed", Kind::Fixed),
        Self::new("ratelimit-counter", Kind::Counter),
        Self::new("ratelimit-log", Kind::Log),
        Self::new("ratelimit-bucketed", Kind::Bucketed),
        Self::new("ratelimit-gcra", Kind::Gcra),
        Self::new("ratelimit-leaky", Kind::Leaky),
    ];

    const fn new(name: &'static str, algorithm: Kind) -> Self {
        Self { name, algorithm }
    }
}

impl Scenario for Rates {
    fn name(&self) -> &'static str {
        self.name
    }

    fn pattern(&self) -> &'static str {
        "ratelimit"
    }

    fn processes(&self) -> usize {
        PROCESSES.len()
    }

    fn faults(&self) -> FaultMenu {
        faults::that_keep_data()
    }

    fn marks(&self) -> &'static [&'static str] {
        &["allowed", "allowed after a wait", "denied", "given back"]
    }

    fn run(&self, context: &mut ScenarioContext) -> Result<(), Violation> {
        let operations = context.operations(25);
        let (settings, promise) = self.algorithm.draw(context.random(), operations);
        let goes_back = self.algorithm.draw_back(context.random());
        let promise = match goes_back {
            // Units stay taken for longer then. That there are never too many holds all the same.
            Some(_) => promise.without_denials(),
            None => promise,
        };
        let asked: Recorder<Asked, Told> = Recorder::new();
        let mut world = context.world(WorldOptions::default());
        for name in PROCESSES {
            let asked = asked.clone();
            world.process(name, move |process| ask(process, settings, asked.clone()));
        }
        if let Some((at, by)) = goes_back {
            world.run_for(at);
            let by_micros = i64::try_from(by.as_micros()).unwrap_or_default();
            world.inject(Fault::JumpServerClock {
                server: ServerId(0),
                by_micros: -by_micros,
            });
        }
        let is_done = world.run_until_done(LIMIT);
        check(promise, &asked)?;
        faults::ends(is_done, &world)
    }
}

impl Kind {
    /// When the server's clock goes back, and by how much, in some runs: an exact log stands still then until the clock has
    /// caught up, and many units have the same time.
    fn draw_back(self, random: &mut impl Rng) -> Option<(Duration, Duration)> {
        if !matches!(self, Kind::Log) || !random.random_bool(0.2) {
            return None;
        }
        let at = Duration::from_millis(random.random_range(200..=1_500));
        let by = Duration::from_millis(random.random_range(100..=3_000));
        Some((at, by))
    }

    /// Settings of a run, and what they promise.
    fn draw(self, random: &mut impl Rng, operations: usize) -> (Settings, RatePromise) {
        let limit = random.random_range(2..=6_u64);
        let window = Duration::from_millis(random.random_range(400..=2_500));
        let burst = random.random_range(1..=limit);
        let quota = Quota::per(limit, window);
        let (algorithm, quota, promise) = match self {
            Kind::Fixed => {
                let promise = RatePromise::fixed_window(limit, window);
                (Algorithm::FixedWindow, quota, promise)
            }
            Kind::Counter => {
                let promise = RatePromise::sliding_counter(limit, window);
                (Algorithm::SlidingCounter, quota, promise)
            }
            Kind::Log => {
                let promise = RatePromise::sliding_log(limit, window);
                (Algorithm::SlidingLog, quota, promise)
            }
            Kind::Bucketed => {
                let slices = random.random_range(2..=10);
                let promise = RatePromise::bucketed(limit, window, slices);
                (Algorithm::Bucketed { slices }, quota, promise)
            }
            Kind::Gcra => {
                let promise = RatePromise::gcra(limit, window, burst);
                (Algorithm::Gcra, quota.burst(burst), promise)
            }
            Kind::Leaky => {
                let max_wait = window / 2;
                let promise = RatePromise::leaky(limit, window, burst);
                (Algorithm::Leaky { max_wait }, quota.burst(burst), promise)
            }
        };
        let is_leaky = matches!(self, Kind::Leaky);
        let settings = Settings {
            algorithm,
            quota,
            deny_cache: random.random_bool(0.5),
            waiters_first: !is_leaky && random.random_bool(0.3),
            operations,
        };
        (settings, promise)
    }
}

/// # Errors
/// The first window with too many units, or the first call that was denied in vain.
fn check(promise: RatePromise, asked: &Recorder<Asked, Told>) -> Result<(), Violation> {
    let mut rate = Rate::new(promise).in_flight_for(IN_FLIGHT);
    for operation in asked.history().operations() {
        let Operation { process, start, .. } = *operation;
        let Asked { key, cost } = operation.call;
        let end = operation.end.unwrap_or(start);
        let (delay, allowed) = match operation.outcome {
            Outcome::Replied(Some((allowed, delay))) => (delay, Outcome::Replied(allowed)),
            // Given back, perhaps: it counts where it excuses a denial, and nowhere else.
            Outcome::Replied(None) | Outcome::Maybe => (Duration::ZERO, Outcome::Maybe),
            Outcome::NotSent => (Duration::ZERO, Outcome::NotSent),
        };
        rate.asked(process, key, cost, start + delay, end + delay, allowed);
    }
    rate.check()
}

async fn ask(process: Process, settings: Settings, asked: Recorder<Asked, Told>) {
    let limiter = RateLimiter::builder(&process.client(), "api")
        .policy(Policy::new(settings.algorithm, settings.quota))
        .deny_cache(if settings.deny_cache { 100 } else { 0 })
        .waiters_first(settings.waiters_first)
        .build();
    let Ok(limiter) = limiter else { return };
    let most = match settings.algorithm {
        Algorithm::Leaky { .. } | Algorithm::Gcra => settings.quota.burst_size().unwrap_or(1),
        _ => settings.quota.limit(),
    };
    let time = |millis: u64| Duration::from_millis(process.random_range(0..=millis));
    for _ in 0..settings.operations {
        sleep(time(250)).await;
        let key = if process.chance(0.7) {
            KEYS[0]
        } else {
            KEYS[1]
        };
        let cost = process.random_range(1..=most.min(3));
        let waits = process.chance(0.25);
        let began = process.now();
        let pending = asked.begin(process.id(), began, Asked { key, cost });
        let decision = match waits {
            true => limiter.acquire_n(key, cost, time(LONGEST_WAIT)).await,
            false => limiter.check_n(key, cost).await,
        };
        let decision = match decision {
            Ok(decision) => decision,
            Err(error) => {
                process.fails("ask for units", &error);
                pending.ended(process.now(), outcome_of(&error));
                continue;
            }
        };
        let allowed = decision.is_allowed();
        process.note(|| format!("asks for {cost} of {key}: {allowed}"));
        process.reached(match allowed {
            true if waits && process.now() > began + LONGER_THAN_A_CALL => "allowed after a wait",
            true => "allowed",
            false => "denied",
        });
        let end = process.now();
        // A denial that waiters caused says nothing about units; one by a queue that was waited in is late.
        if !allowed && (waits || settings.waiters_first) {
            pending.ended(end, Outcome::NotSent);
            continue;
        }
        let is_given_back = match decision.receipt().filter(|_| process.chance(0.25)) {
            Some(receipt) => {
                match limiter.refund(receipt).await {
                    Ok(_) => process.reached("given back"),
                    Err(error) => process.fails("give units back", &error),
                }
                if process.chance(0.5) {
                    // It is worth nothing any more.
                    sleep(time(60)).await;
                    drop(limiter.refund(receipt).await);
                }
                true
            }
            None => false,
        };
        let told = (!is_given_back).then(|| (allowed, decision.delay()));
        pending.ended(end, Outcome::Replied(told));
    }
}

/// A call that the server refused took nothing.
fn outcome_of(error: &Error) -> Outcome<Told> {
    match error {
        Error::Core(error) if error.is_maybe() => Outcome::Maybe,
        _ => Outcome::NotSent,
    }
}
