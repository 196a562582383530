//! [`SimulatedServer`]: an embedded engine on a host of its own.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use futures_util::{FutureExt, Stream};
use parking_lot::Mutex;
use redkit_core::{
    Backend, CallError, Command, Fault, FaultKind, Interest, Push, PushStream, Value,
};
use redkit_embedded::{Embedded, Snapshot};
use tokio::time::Instant;

use super::ServerId;
use super::clock::LocalClock;
use super::event::Answer;
use super::fault::Data;
use super::host::Host;
use super::network::{ConnectionId, SubscriptionId};
use super::random::stream;

pub(super) struct SimulatedServer {
    id: ServerId,
    seed: u64,
    /// What its clock shows at the start of the world.
    epoch: Duration,
    /// By how much its clock was set since.
    set_by: i64,
    host: Host,
    engine: Embedded,
    /// Whether there is an engine that can be asked.
    is_up: bool,
    starts: u64,
    sessions: BTreeMap<ConnectionId, Arc<dyn Backend>>,
    closed_sessions: BTreeSet<ConnectionId>,
    subscriptions: BTreeMap<SubscriptionId, Subscriber>,
    /// A subscription has messages.
    has_pushes: Arc<Flag>,
    /// Answers of commands that may have waited.
    finished: Arc<Mutex<Finished>>,
    /// Commands that wait now.
    waiting: usize,
    snapshots: VecDeque<(Duration, Snapshot)>,
}

struct Subscriber {
    connection: ConnectionId,
    stream: PushStream,
    /// It is told of keys that expire.
    needs_time: bool,
}

type Finished = Vec<(ConnectionId, u64, Answer)>;

/// What a server has to say at the end of a step.
#[derive(Default)]
pub(super) struct Output {
    pub(super) answers: Finished,
    pub(super) pushes: Vec<(ConnectionId, SubscriptionId, Push)>,
}

impl SimulatedServer {
    pub(super) fn new(id: ServerId, seed: u64, epoch: Duration) -> Self {
        let (host, engine) = start(id, seed, 0, epoch, Duration::ZERO);
        Self {
            id,
            seed,
            epoch,
            set_by: 0,
            host,
            engine,
            is_up: true,
            starts: 0,
            sessions: BTreeMap::new(),
            closed_sessions: BTreeSet::new(),
            subscriptions: BTreeMap::new(),
            has_pushes: Arc::default(),
            finished: Arc::default(),
            waiting: 0,
            snapshots: VecDeque::new(),
        }
    }

    pub(super) fn engine(&self) -> &Embedded {
        &self.engine
    }

    pub(super) fn is_up(&self) -> bool {
        self.is_up
    }

    /// When something happens in it by itself.
    pub(super) fn due(&self) -> Option<Duration> {
        (self.is_up && self.has_tasks()).then(|| self.host.due())
    }

    /// Whether tasks run in it: commands that wait, or what makes keys expire.
    fn has_tasks(&self) -> bool {
        self.waiting > 0 || self.subscriptions.values().any(|s| s.needs_time)
    }

    /// What happens by itself: keys expire, waits end.
    pub(super) fn run(&mut self, now: Duration) {
        self.host.run(now);
    }

    /// Carries out a command that nobody has sent.
    pub(super) fn ask(&mut self, now: Duration, command: Command) -> Result<Value, CallError> {
        let engine = self.engine.clone();
        self.host
            .run_with(now, async move { engine.call(&command).await })
    }

    /// Carries out a request. The answer of one that may wait comes with the output of a later step.
    pub(super) fn execute(
        &mut self,
        now: Duration,
        connection: ConnectionId,
        number: u64,
        commands: Vec<Command>,
        is_dedicated: bool,
    ) {
        if is_dedicated {
            return self.execute_in_session(now, connection, number, commands);
        }
        let engine = self.engine.clone();
        let call = async move {
            match &*commands {
                [command] => Ok(vec![engine.call(command).await]),
                commands => engine.pipeline(commands).await,
            }
        };
        let answer = match self.has_tasks() {
            true => self.host.run_with(now, call),
            // A runtime that has nothing to do need not be started for it: a call on a shared connection never waits.
            false => self
                .host
                .run_at_once(now, || call.now_or_never())
                .unwrap_or_else(|| Err(never_waits())),
        };
        self.finished.lock().push((connection, number, answer));
    }

    fn execute_in_session(
        &mut self,
        now: Duration,
        connection: ConnectionId,
        number: u64,
        commands: Vec<Command>,
    ) {
        if self.closed_sessions.contains(&connection) {
            return;
        }
        let (engine, known) = (self.engine.clone(), self.sessions.get(&connection).cloned());
        let finished = Arc::clone(&self.finished);
        let session = self.host.run_with(now, async move {
            let session = match known {
                Some(session) => session,
                None => engine.dedicated().await.ok()?,
            };
            let used = Arc::clone(&session);
            tokio::spawn(async move {
                let answer = in_session(&*used, commands).await;
                finished.lock().push((connection, number, answer));
            });
            Some(session)
        });
        self.waiting += 1;
        if let Some(session) = session {
            self.sessions.insert(connection, session);
        }
        self.host.wake(now);
    }

    pub(super) fn subscribe(
        &mut self,
        now: Duration,
        connection: ConnectionId,
        id: SubscriptionId,
        interest: Interest,
    ) -> Result<(), CallError> {
        let needs_time = matches!(interest, Interest::Invalidations { .. });
        let engine = self.engine.clone();
        let stream = self
            .host
            .run_with(now, async move { engine.subscribe(interest).await })?;
        let subscriber = Subscriber {
            connection,
            stream,
            needs_time,
        };
        self.subscriptions.insert(id, subscriber);
        self.has_pushes.set();
        self.host.wake(now);
        Ok(())
    }

    pub(super) fn unsubscribe(&mut self, id: SubscriptionId) {
        self.subscriptions.remove(&id);
    }

    /// The other end of a connection is gone.
    pub(super) fn close(&mut self, now: Duration, connection: ConnectionId) {
        self.subscriptions.retain(|_, s| s.connection != connection);
        self.closed_sessions.insert(connection);
        if let Some(session) = self.sessions.remove(&connection) {
            // Its commands wait no longer.
            self.host
                .run_with(now, async move { session.shutdown().await });
        }
    }

    /// What it has to say, after anything that it did.
    pub(super) fn output(&mut self) -> Output {
        let mut output = Output {
            answers: std::mem::take(&mut *self.finished.lock()),
            pushes: Vec::new(),
        };
        let waited = |(connection, ..): &&(ConnectionId, u64, Answer)| {
            self.sessions.contains_key(connection) || self.closed_sessions.contains(connection)
        };
        let ended = output.answers.iter().filter(waited).count();
        self.waiting = self.waiting.saturating_sub(ended);
        if self.has_pushes.take() {
            let waker = Waker::from(Arc::clone(&self.has_pushes));
            let mut context = Context::from_waker(&waker);
            for (id, subscriber) in &mut self.subscriptions {
                while let Poll::Ready(Some(push)) =
                    Pin::new(&mut subscriber.stream).poll_next(&mut context)
                {
                    output.pushes.push((subscriber.connection, *id, push));
                }
            }
        }
        output
    }

    /// Keeps the data as they are now, for a replica that will be this far behind.
    pub(super) fn keep_snapshot(&mut self, now: Duration) {
        const KEPT: usize = 32;
        self.snapshots.truncate(KEPT - 1);
        self.snapshots.push_front((now, self.engine.snapshot()));
    }

    /// Goes down. What it has when it is up again is decided now.
    pub(super) fn stop(&mut self, now: Duration, data: Data) {
        let kept = match data {
            Data::Kept => self.engine.snapshot(),
            Data::Lost => Snapshot::default(),
            Data::OlderBy(lag) => self.older(now, lag),
        };
        self.is_up = false;
        self.sessions.clear();
        self.subscriptions.clear();
        self.finished.lock().clear();
        self.waiting = 0;
        self.snapshots.clear();
        self.snapshots.push_front((now, kept));
    }

    /// Is up again, with the data that it had when it went down.
    pub(super) fn start(&mut self, now: Duration) {
        if self.is_up {
            return;
        }
        self.starts += 1;
        let wall = self.wall(now);
        let (host, engine) = start(self.id, self.seed, self.starts, wall, now);
        if let Some((_, kept)) = self.snapshots.front() {
            let _inside = host.handle().enter();
            engine.restore(kept);
        }
        self.host = host;
        self.engine = engine;
        self.is_up = true;
    }

    /// Sets its clock.
    pub(super) fn set_clock(&mut self, now: Duration, by_micros: i64) {
        self.set_by = self.set_by.saturating_add(by_micros);
        let engine = self.engine.clone();
        self.host
            .run_with(now, async move { engine.adjust_clock(by_micros) });
    }

    fn wall(&self, now: Duration) -> Duration {
        let shown = self.epoch + now;
        let by = Duration::from_micros(self.set_by.unsigned_abs());
        match self.set_by < 0 {
            true => shown.saturating_sub(by),
            false => shown + by,
        }
    }

    fn older(&self, now: Duration, lag: Duration) -> Snapshot {
        let then = now.saturating_sub(lag);
        let old_enough = self.snapshots.iter().find(|(at, _)| *at <= then);
        match old_enough.or(self.snapshots.back()) {
            Some((_, snapshot)) => snapshot.clone(),
            None => self.engine.snapshot(),
        }
    }
}

fn start(id: ServerId, seed: u64, starts: u64, wall: Duration, now: Duration) -> (Host, Embedded) {
    let random = stream(seed, &format!("server {} {starts}", id.0));
    // It looks no further ahead than to the next tick: a request is carried out when it arrives.
    let host = Host::new(LocalClock::new(0), random, now, Duration::ZERO);
    let engine = {
        let _inside = host.handle().enter();
        Embedded::starting_at(wall)
    };
    (host, engine)
}

fn never_waits() -> CallError {
    Fault::new(
        FaultKind::Unsupported,
        "a call on a shared connection waits",
    )
    .not_sent()
}

/// The deadline is the client's, on a clock of its own; the server knows of none.
async fn in_session(session: &dyn Backend, commands: Vec<Command>) -> Answer {
    const NEVER: Duration = Duration::from_secs(365 * 86_400);
    let never = Instant::now() + NEVER;
    let mut commands: Vec<_> = commands.into_iter().map(|c| c.deadline(never)).collect();
    match commands.len() {
        1 => {
            let command = commands.remove(0);
            Ok(vec![session.call(&command).await])
        }
        _ => session.pipeline(&commands).await,
    }
}

/// A waker that only remembers.
#[derive(Default)]
struct Flag(AtomicBool);

impl Flag {
    fn set(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    fn take(&self) -> bool {
        self.0.swap(false, Ordering::Relaxed)
    }
}

impl Wake for Flag {
    fn wake(self: Arc<Self>) {
        self.set();
    }
}
