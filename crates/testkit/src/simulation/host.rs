//! [`Host`]: a runtime with a clock of its own, which the world lets run step by step.
//!
//! The runtime is a current-thread one whose clock is paused. The world runs it at a time: its clock
//! is set to what the host's clock shows then, and its tasks run until all of them wait. Timers of
//! tokio end at whole milliseconds of the runtime, so nothing can happen in it before the next of
//! them. A process looks ahead: its runtime jumps to its next timer, though not beyond what it may be late to notice a
//! message, which is little where it has just had something to do. A server does not.
//!
//! When a runtime has nothing to do it parks its thread. It is told of that before (see [`Pause`]), and
//! ends the step instead.

mod pause;

use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use rand::Rng;
use redkit_core::random::replace_source;
use tokio::runtime::{Builder, Handle, Runtime};
use tokio::time::{Instant, advance};

use self::pause::Pause;
use super::clock::LocalClock;
use super::random::Random;

/// The resolution of tokio's timers.
const TICK: Duration = Duration::from_millis(1);
/// How far a host looks ahead that has just had something to do: most answers are there by then.
const FIRST_LOOK: Duration = Duration::from_millis(3);

pub(super) struct Host {
    runtime: Runtime,
    pause: Arc<Pause>,
    clock: LocalClock,
    /// The host's randomness, while the host does not run.
    random: Option<Box<dyn Rng>>,
    /// The runtime's first instant.
    origin: Instant,
    /// What the host's clock showed when the runtime was made.
    born: Duration,
    /// How far the runtime's clock has come.
    elapsed: Duration,
    /// When, in the world's time, the host has to run again.
    due: Duration,
    /// How far it looks ahead next.
    quiet: Duration,
    /// How far it ever looks ahead.
    notice: Duration,
    /// Until when the host is stopped.
    stopped_until: Duration,
}

impl Host {
    /// A host that starts at this time of the world.
    #[expect(clippy::expect_used, reason = "a test fails by panicking")]
    pub(super) fn new(clock: LocalClock, random: Random, now: Duration, notice: Duration) -> Self {
        let pause = Arc::new(Pause::default());
        let (parks, unparked) = (Arc::clone(&pause), Arc::clone(&pause));
        let mut builder = Builder::new_current_thread();
        // Which branch of a `select!` is looked at first, and which receiver of a `watch` is woken first.
        #[cfg(tokio_unstable)]
        builder.rng_seed(tokio::runtime::RngSeed::from_bytes(&seed_of(&random)));
        let runtime = builder
            .enable_time()
            .start_paused(true)
            .on_thread_park(move || parks.parks())
            .on_thread_unpark(move || unparked.unparked())
            .build()
            .expect("a runtime without I/O");
        let origin = {
            let _inside = runtime.enter();
            Instant::now()
        };
        Self {
            runtime,
            pause,
            random: Some(Box::new(random)),
            origin,
            born: clock.local(now),
            clock,
            elapsed: Duration::ZERO,
            due: now,
            quiet: FIRST_LOOK.min(notice),
            notice: notice.max(TICK),
            stopped_until: Duration::ZERO,
        }
    }

    pub(super) fn handle(&self) -> &Handle {
        self.runtime.handle()
    }

    /// When the host has to run again.
    pub(super) fn due(&self) -> Duration {
        self.due
    }

    /// Something has come for the host: it runs now, or when it notices.
    pub(super) fn wake(&mut self, now: Duration) {
        self.quiet = FIRST_LOOK.min(self.notice);
        let noticed = self.clock.world(self.born + self.elapsed);
        self.due = self.due.min(now.max(noticed).max(self.stopped_until));
    }

    /// The host does not run until this time of the world.
    pub(super) fn stop_until(&mut self, time: Duration) {
        self.stopped_until = self.stopped_until.max(time);
        self.due = self.due.max(time);
    }

    /// A host that is stopped goes on now.
    pub(super) fn go_on(&mut self, now: Duration) {
        self.stopped_until = Duration::ZERO;
        self.wake(now);
    }

    /// The host's clock leaps ahead.
    pub(super) fn leap(&mut self, by: Duration, now: Duration) {
        self.clock.leap(by);
        self.wake(now);
    }

    /// Runs what is to be done at this time of the world, until all tasks wait, and finds out when there
    /// is something to be done next.
    pub(super) fn run(&mut self, now: Duration) {
        if self.notice <= TICK {
            self.step(now, async {}, None);
            self.due = self.next_tick();
            return;
        }
        let quiet = self.quiet;
        self.step(now, async {}, Some(quiet));
        let reached = self.clock.local(now).saturating_sub(self.born) + quiet;
        // Where a timer ends before, there is something to be done again.
        self.quiet = match self.elapsed < reached {
            true => FIRST_LOOK.min(self.notice),
            false => self.notice,
        };
        self.due = self.clock.world(self.born + self.elapsed);
    }

    /// Runs `action`, which waits for nothing, with the runtime's clock at this time of the world. Tasks of the host
    /// do not run: it is for one that has none.
    pub(super) fn run_at_once<R>(&mut self, now: Duration, action: impl FnOnce() -> R) -> R {
        let target = self.clock.local(now).saturating_sub(self.born);
        let by = target.saturating_sub(self.elapsed);
        let outer = replace_source(self.random.take());
        let _inside = self.runtime.enter();
        if !by.is_zero() {
            // The clock moves as soon as it is asked to; then `advance` would let tasks run.
            let _ = advance(by).now_or_never();
        }
        let result = action();
        self.elapsed = self.origin.elapsed();
        self.random = replace_source(outer);
        result
    }

    /// Runs `first` and then all tasks until they wait. The host has no timers of its own.
    pub(super) fn run_with<R>(&mut self, now: Duration, first: impl Future<Output = R>) -> R {
        self.step(now, first, None)
    }

    fn step<R>(
        &mut self,
        now: Duration,
        first: impl Future<Output = R>,
        ahead: Option<Duration>,
    ) -> R {
        let target = self.clock.local(now).saturating_sub(self.born);
        let by = target.saturating_sub(self.elapsed);
        let (pause, origin) = (&*self.pause, self.origin);
        let outer = replace_source(self.random.take());
        let (result, elapsed) = self.runtime.block_on(async move {
            if !by.is_zero() {
                advance(by).await;
            }
            let result = first.await;
            match ahead {
                None => pause.until_all_wait().await,
                Some(ahead) => pause.until_a_timer(ahead).await,
            }
            (result, origin.elapsed())
        });
        self.random = replace_source(outer);
        self.elapsed = elapsed;
        result
    }

    fn next_tick(&self) -> Duration {
        let into = self.elapsed.subsec_nanos() % 1_000_000;
        let next = self.elapsed + TICK - Duration::from_nanos(into.into());
        self.clock.world(self.born + next)
    }
}

#[cfg(tokio_unstable)]
fn seed_of(random: &Random) -> [u8; 32] {
    use rand::RngExt;
    random.clone().random()
}
