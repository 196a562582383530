//! [`FaultyBackend`]: a backend that fails as a test tells it to, in virtual time if need be.

mod injection;
mod subscriptions;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use futures_util::future::join_all;
use parking_lot::Mutex;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use redkit_core::breaker::BreakerConfig;
use redkit_core::{
    Backend, CallError, Capabilities, Client, ClientConfig, Command, ConnectionState, Interest,
    PushStream, ServerNode, Topology, Value,
};
use redkit_embedded::Embedded;
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};

use self::injection::{Call, Outcome};
pub use self::injection::{Function, Gate, Injection, Rule};
use self::subscriptions::TakenOver;

/// Stands between a client and another backend. It keeps what passes, and does to it what its rules
/// say: the first rule that matches a call decides what becomes of the call.
///
/// ```
/// use redkit_core::Command;
/// use redkit_testkit::{FaultyBackend, Injection, Rule};
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() {
/// let backend = FaultyBackend::embedded();
/// let client = backend.client();
/// // The first increment is carried out, and its reply is lost.
/// backend.add(Rule::new(Injection::LoseReply).on_name("INCR").times(1));
/// client.call::<i64>(Command::new("INCR").key("n")).await.unwrap_err();
/// assert_eq!(client.call::<i64>(Command::new("INCR").key("n")).await.unwrap(), 2);
/// # }
/// ```
///
/// A pipeline is one call: it matches when one of its commands does, unless the rule is for them
/// [alone](Rule::alone). Making a subscription matches as
/// a command `SUBSCRIBE`, `PSUBSCRIBE`, `SSUBSCRIBE` or `TRACKING` with the names as its arguments, and
/// making a dedicated connection as `CONNECT`.
pub struct FaultyBackend {
    inner: Arc<dyn Backend>,
    shared: Arc<Shared>,
    /// It is a dedicated connection on which nothing was called yet.
    is_fresh: AtomicBool,
    is_dedicated: bool,
    /// The server that a dedicated connection is to, if the client named one.
    to: Option<Arc<str>>,
}

/// What the backend and its dedicated connections share.
struct Shared {
    rules: Mutex<Vec<Rule>>,
    random: Mutex<Option<Random>>,
    seen: Mutex<Vec<Seen>>,
    topology: Mutex<Option<Topology>>,
    servers: Mutex<Option<Vec<ServerNode>>>,
    observer: Mutex<Option<Observer>>,
    taken_over: TakenOver,
}

/// A command that was sent.
struct Seen {
    command: Command,
    /// It was no part of a pipeline.
    is_alone: bool,
    /// It was sent on the shared connection.
    is_shared: bool,
}

type Observer = Arc<dyn Fn(&Command, &Result<Value, CallError>) + Send + Sync>;

/// Faults from a seed.
struct Random {
    source: StdRng,
    share: f64,
    longest: Duration,
}

impl FaultyBackend {
    /// In front of another backend, without any fault yet.
    pub fn new(inner: Arc<dyn Backend>) -> Arc<Self> {
        Arc::new(Self {
            inner,
            is_fresh: AtomicBool::new(false),
            is_dedicated: false,
            to: None,
            shared: Arc::new(Shared {
                rules: Mutex::default(),
                random: Mutex::default(),
                seen: Mutex::default(),
                topology: Mutex::default(),
                servers: Mutex::default(),
                observer: Mutex::default(),
                taken_over: TakenOver::default(),
            }),
        })
    }

    /// In front of an engine of its own.
    pub fn embedded() -> Arc<Self> {
        Self::new(Arc::new(Embedded::new()))
    }

    /// A client that neither repeats by itself nor stops asking; its calls end after two seconds.
    pub fn client(self: &Arc<Self>) -> Client {
        let mut breaker = BreakerConfig::default();
        breaker.enabled = false;
        let config = ClientConfig::default()
            .breaker(breaker)
            .retry(1, Duration::ZERO, Duration::ZERO)
            .command_timeout(Duration::from_secs(2));
        self.client_with(&config)
    }

    /// A client with settings of your own.
    #[expect(clippy::panic, reason = "a test fails by panicking")]
    pub fn client_with(self: &Arc<Self>, config: &ClientConfig) -> Client {
        let backend = Arc::clone(self) as Arc<dyn Backend>;
        Client::from_backend(backend, config).unwrap_or_else(|error| panic!("{error}"))
    }

    /// Adds a rule behind those there are.
    pub fn add(&self, rule: Rule) {
        self.shared.rules.lock().push(rule);
    }

    /// Puts one rule in place of all there are.
    pub fn set(&self, rule: Rule) {
        *self.shared.rules.lock() = vec![rule];
    }

    /// Takes all rules and random faults away. Calls that hang go on hanging until their deadlines.
    pub fn clear(&self) {
        self.shared.rules.lock().clear();
        *self.shared.random.lock() = None;
    }

    /// Lets this share of the calls (0 to 1) fail by chance: not sent, lost before or after it was
    /// carried out, or late by at most `longest`. The same seed and the same calls fail alike.
    pub fn random(&self, seed: u64, share: f64, longest: Duration) {
        *self.shared.random.lock() = Some(Random {
            source: StdRng::seed_from_u64(seed),
            share,
            longest,
        });
    }

    /// The commands that were sent, those of pipelines and dedicated connections among them, whatever
    /// became of them.
    pub fn seen(&self) -> Vec<Command> {
        let seen = self.shared.seen.lock();
        seen.iter().map(|seen| seen.command.clone()).collect()
    }

    /// Those of them that were sent alone, and not in a pipeline.
    pub fn seen_alone(&self) -> Vec<Command> {
        let seen = self.shared.seen.lock();
        let alone = seen.iter().filter(|seen| seen.is_alone);
        alone.map(|seen| seen.command.clone()).collect()
    }

    /// The commands of [`seen`](Self::seen) that were sent on the shared connection, and not on a dedicated one.
    pub fn seen_shared(&self) -> Vec<Command> {
        let seen = self.shared.seen.lock();
        let is_meant = |seen: &&Seen| seen.is_shared && seen.command.name() != CONNECT;
        let shared = seen.iter().filter(is_meant);
        shared.map(|seen| seen.command.clone()).collect()
    }

    /// Forgets the commands that were sent.
    pub fn forget(&self) {
        self.shared.seen.lock().clear();
    }

    /// How many commands with this name, or with an argument that ends so, were sent.
    pub fn count(&self, end: &str) -> usize {
        let seen = self.shared.seen.lock();
        let is_meant = |seen: &&Seen| {
            let command = &seen.command;
            command.name() == end || command.iter().any(|arg| arg.ends_with(end.as_bytes()))
        };
        seen.iter().filter(is_meant).count()
    }

    /// What [`Backend::topology`] says from now on.
    pub fn set_topology(&self, topology: Topology) {
        *self.shared.topology.lock() = Some(topology);
    }

    /// What [`Backend::servers`] says from now on. Calls for one of them go to the backend that there is.
    pub fn set_servers(&self, servers: Vec<ServerNode>) {
        *self.shared.servers.lock() = Some(servers);
    }

    /// From now on this is told of the outcome of every command that is sent alone.
    pub fn observe(
        &self,
        observer: impl Fn(&Command, &Result<Value, CallError>) + Send + Sync + 'static,
    ) {
        *self.shared.observer.lock() = Some(Arc::new(observer));
    }

    /// From now on subscriptions to what `is_meant` get what [`push`](Self::push) is given, and nothing
    /// else.
    pub fn take_over(&self, is_meant: impl Fn(&Interest) -> bool + Send + Sync + 'static) {
        self.shared.taken_over.begin(Box::new(is_meant));
    }

    /// Sends to the subscriptions that were [taken over](Self::take_over) and gives how many there are.
    pub fn push(&self, push: &redkit_core::Push) -> usize {
        self.shared.taken_over.push(push)
    }

    /// Ends the subscriptions that were taken over.
    pub fn end_subscriptions(&self) {
        self.shared.taken_over.end();
    }
}

impl Shared {
    /// What is to become of a call.
    fn decide(&self, call: Call<'_>) -> Injection {
        let mut rules = self.rules.lock();
        let decided = rules.iter_mut().find_map(|rule| rule.decide(call));
        drop(rules);
        if let Some(injection) = decided {
            return injection;
        }
        let mut random = self.random.lock();
        let Some(random) = &mut *random else {
            return Injection::Pass;
        };
        if !random.source.random_bool(random.share) {
            return Injection::Pass;
        }
        match random.source.random_range(0..5) {
            0 => Injection::NotSent,
            1 => Injection::LoseRequest,
            2 => Injection::LoseReply,
            3 => Injection::DelayRequest(random.longest.mul_f64(random.source.random())),
            _ => Injection::DelayReply(random.longest.mul_f64(random.source.random())),
        }
    }

    /// What becomes of each command of a pipeline, where rules are for some of them alone.
    fn decide_each(&self, call: Call<'_>) -> Option<Vec<Injection>> {
        let mut decided = vec![None; call.commands.len()];
        for rule in self.rules.lock().iter_mut() {
            rule.decide_each(call, &mut decided);
        }
        let is_decided = decided.iter().any(Option::is_some);
        let or_pass = |decided: Option<Injection>| decided.unwrap_or(Injection::Pass);
        is_decided.then(|| decided.into_iter().map(or_pass).collect())
    }

    fn note(&self, call: Call<'_>, is_shared: bool) {
        let seen = call.commands.iter().map(|command| Seen {
            command: command.clone(),
            is_alone: !call.is_pipeline,
            is_shared,
        });
        self.seen.lock().extend(seen);
    }
}

impl FaultyBackend {
    /// A call that is sent now.
    fn noted<'c>(
        &'c self,
        commands: &'c [Command],
        server: Option<&'c str>,
        is_pipeline: bool,
    ) -> Call<'c> {
        let call = Call {
            commands,
            server: server.or(self.to.as_deref()),
            is_pipeline,
            is_first: self.is_fresh.swap(false, Ordering::Relaxed),
        };
        self.shared.note(call, !self.is_dedicated);
        call
    }

    async fn apply<T: Outcome>(
        &self,
        commands: &[Command],
        injection: Injection,
        call: impl Future<Output = Result<T, CallError>>,
    ) -> Result<T, CallError> {
        let deadline = commands.iter().filter_map(Command::deadline_at).max();
        in_time(deadline, injection.apply(&*self.inner, commands, call)).await
    }

    /// A command that is sent alone, for one of the servers if need be.
    async fn apply_alone<T: Outcome>(
        &self,
        command: &Command,
        server: Option<&str>,
        call: impl Future<Output = Result<T, CallError>>,
    ) -> Result<T, CallError> {
        let commands = std::slice::from_ref(command);
        let injection = self.shared.decide(self.noted(commands, server, false));
        self.apply(commands, injection, call).await
    }

    /// A dedicated connection.
    async fn own(
        &self,
        server: Option<&str>,
        made: impl Future<Output = Result<Arc<dyn Backend>, CallError>>,
    ) -> Result<Arc<dyn Backend>, CallError> {
        let command = Command::new(CONNECT).deadline(Instant::now() + CONNECT_TIMEOUT);
        let inner = self.apply_alone(&command, server, made).await?;
        Ok(Arc::new(Self {
            inner,
            shared: Arc::clone(&self.shared),
            is_fresh: AtomicBool::new(true),
            is_dedicated: true,
            to: server.map(Arc::from),
        }))
    }

    fn observed(
        &self,
        command: &Command,
        outcome: Result<Value, CallError>,
    ) -> Result<Value, CallError> {
        let observer = self.shared.observer.lock().clone();
        if let Some(observer) = observer {
            observer(command, &outcome);
        }
        outcome
    }
}

/// A call that has its reply keeps it; one that waits ends by its deadline.
async fn in_time<T>(
    deadline: Option<Instant>,
    call: impl Future<Output = Result<T, CallError>>,
) -> Result<T, CallError> {
    let Some(deadline) = deadline else {
        return call.await;
    };
    tokio::select! {
        biased;
        result = call => result,
        () = sleep_until(deadline) => Err(injection::late()),
    }
}

#[async_trait]
impl Backend for FaultyBackend {
    async fn call(&self, command: &Command) -> Result<Value, CallError> {
        let call = self.inner.call(command);
        let outcome = self.apply_alone(command, None, call).await;
        self.observed(command, outcome)
    }

    async fn pipeline(
        &self,
        commands: &[Command],
    ) -> Result<Vec<Result<Value, CallError>>, CallError> {
        let noted = self.noted(commands, None, true);
        if let Some(injections) = self.shared.decide_each(noted) {
            let each = commands.iter().zip(injections).map(|(command, injection)| {
                let call = self.inner.call(command);
                self.apply(std::slice::from_ref(command), injection, call)
            });
            return Ok(join_all(each).await);
        }
        let injection = self.shared.decide(noted);
        let call = self.inner.pipeline(commands);
        self.apply(commands, injection, call).await
    }

    fn servers(&self) -> Vec<ServerNode> {
        let told = self.shared.servers.lock().clone();
        told.unwrap_or_else(|| self.inner.servers())
    }

    async fn call_on(&self, server: &str, command: &Command) -> Result<Value, CallError> {
        let are_told = self.shared.servers.lock().is_some();
        let call = async {
            match are_told {
                true => self.inner.call(command).await,
                false => self.inner.call_on(server, command).await,
            }
        };
        let outcome = self.apply_alone(command, Some(server), call).await;
        self.observed(command, outcome)
    }

    async fn subscribe(&self, interest: Interest) -> Result<PushStream, CallError> {
        let command = subscriptions::command_of(&interest);
        let made = async {
            match self.shared.taken_over.subscribe(&interest) {
                Some(stream) => Ok(stream),
                None => self.inner.subscribe(interest).await,
            }
        };
        self.apply_alone(&command, None, made).await
    }

    async fn dedicated(&self) -> Result<Arc<dyn Backend>, CallError> {
        let made = self.inner.dedicated();
        self.own(None, made).await
    }

    async fn dedicated_to(&self, server: &str) -> Result<Arc<dyn Backend>, CallError> {
        let are_told = self.shared.servers.lock().is_some();
        let made = async {
            match are_told {
                true => self.inner.dedicated().await,
                false => self.inner.dedicated_to(server).await,
            }
        };
        self.own(Some(server), made).await
    }

    fn topology(&self) -> Topology {
        let told = *self.shared.topology.lock();
        told.unwrap_or_else(|| self.inner.topology())
    }

    fn capabilities(&self) -> Capabilities {
        self.inner.capabilities()
    }

    fn state(&self) -> watch::Receiver<ConnectionState> {
        self.inner.state()
    }

    async fn shutdown(&self) {
        self.inner.shutdown().await;
    }
}

/// What making a dedicated connection is called.
const CONNECT: &str = "CONNECT";

const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
