//! [`Client`]: the handle that patterns and programs take.

mod attempt;
mod calls;
mod coordination;
mod eval_all;
mod hints;
mod in_flight;
mod inspect;
mod latency;
mod outcome;
mod servers;
mod shareable;
mod span;
mod stats;
mod timing;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, timeout};

use self::calls::Calls;
pub(crate) use self::coordination::WeakClient;
pub use self::eval_all::Request;
use self::in_flight::Entry;
pub use self::latency::Latency;
use self::outcome::EarlierAttempts;
pub use self::shareable::{check_pipeline, check_shareable};
pub use self::stats::ClientStats;
use self::timing::Terms;
use crate::backend::{Backend, Capabilities, ConnectionState, Topology};
use crate::breaker::Breakers;
use crate::codec::Codec;
use crate::command::{Command, ToArg};
use crate::config::{ClientConfig, ConfigError};
use crate::error::{CallError, Error, Fault, FaultKind};
use crate::keys::{Key, Keyspace, PatternKey, check_namespace, namespace_prefix};
use crate::push::{Interest, PushStream};
use crate::script::Invocation;
use crate::value::{FromValue, Value};

/// A cheap-to-clone handle to a server: a [`Backend`] behind namespace, deadline, breaker, retry,
/// codec and metrics.
///
/// Every call ends by its deadline ([`ClientConfig::command_timeout`] unless the command has its
/// own). While the server cannot be reached, calls wait for a new connection until then; once the
/// breaker is open they fail at once. Either way the error says whether the command may have been
/// carried out: see [`CallError`].
///
/// ```no_run
/// use redkit_core::{Client, ClientConfig, Command};
///
/// # async fn example() -> Result<(), redkit_core::Error> {
/// let config = ClientConfig::from_url("redis://localhost")?.namespace("shop");
/// let client = Client::connect(config).await?;
///
/// let key = client.key("visits"); // `shop:visits` at the server
/// let visits: i64 = client.call(Command::new("INCR").key(&key)).await?;
/// println!("visit number {visits}");
///
/// client.shutdown().await;
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct Client {
    calls: Arc<Calls>,
    codec: Codec,
    /// What stands in front of every key: empty, or `name:`.
    prefix: Arc<str>,
    /// How many keys one command of a bulk operation names at most.
    batch_keys: usize,
    /// The longest that a call through this handle takes.
    budget: Option<Duration>,
    /// Whether calls through this handle count against the limit of calls in flight.
    entry: Entry,
}

impl Client {
    /// Connects to a server. Unless the configuration is lazy, this makes the first connection,
    /// so that a wrong address or password shows here.
    ///
    /// # Errors
    /// [`Error::Config`] for a configuration that cannot work, [`Error::Call`] when no connection
    /// could be made.
    pub async fn connect(config: ClientConfig) -> Result<Self, Error> {
        config.validate()?;
        let backend = crate::driver::connect(&config).await?;
        Self::from_backend(backend, &config)
    }

    /// Uses a backend that exists already, such as the embedded one. Of the configuration it takes
    /// namespace, timeouts, retry and breaker; where to connect to is the backend's business, and
    /// so are the breakers of one that [keeps them itself](Backend::breakers).
    ///
    /// # Errors
    /// [`Error::Config`] for a configuration that cannot work.
    pub fn from_backend(backend: Arc<dyn Backend>, config: &ClientConfig) -> Result<Self, Error> {
        config.validate()?;
        Ok(Self {
            calls: Arc::new(Calls::new(backend, config)?),
            codec: Codec::default(),
            prefix: namespace_prefix(config.namespace.as_deref().unwrap_or_default()).into(),
            batch_keys: config.batch_keys,
            budget: None,
            entry: Entry::Limited,
        })
    }

    /// The same client, whose calls end within `budget`, counted from each call: for a caller whose
    /// point is speed and who goes on without Redis. A command's own deadline, or the command
    /// timeout, ends the call when it is earlier. Retries are part of the budget.
    ///
    /// A call that its budget ends says nothing about the server and does not count against it: it
    /// is the server's silence that opens the [breaker](Self::breaker).
    ///
    /// Subscriptions and [dedicated](Self::dedicated) connections have no budget.
    ///
    /// # Errors
    /// [`Error::Config`] for a budget of zero, in which nothing can be answered.
    ///
    /// ```
    /// # fn example(client: &redkit_core::Client) -> Result<(), redkit_core::Error> {
    /// use std::time::Duration;
    ///
    /// let hasty = client.with_budget(Duration::from_millis(100))?;
    /// assert_eq!(hasty.budget(), Some(Duration::from_millis(100)));
    /// # Ok(()) }
    /// ```
    pub fn with_budget(&self, budget: Duration) -> Result<Self, Error> {
        if budget.is_zero() {
            return Err(ConfigError::new(
                "budget",
                "it is zero, so that no call could be answered",
                "give the time that a call may take, such as 100 ms",
            )
            .into());
        }
        Ok(Self {
            budget: Some(budget),
            ..self.clone()
        })
    }

    /// The longest that a call through this handle takes, if less than the command timeout was
    /// [asked for](Self::with_budget).
    pub fn budget(&self) -> Option<Duration> {
        self.budget
    }

    /// The same client with a further namespace inside its own: `shop` becomes `shop:eu`.
    ///
    /// # Errors
    /// [`Error::Config`] for a name with spaces, braces or control characters, or no name.
    pub fn with_namespace(&self, namespace: &str) -> Result<Self, Error> {
        check_namespace(namespace)?;
        if namespace.is_empty() {
            return Err(ConfigError::new("namespace", "it is empty", "give a name").into());
        }
        let prefix = format!("{}{}", self.prefix, namespace_prefix(namespace)).into();
        Ok(Self {
            prefix,
            ..self.clone()
        })
    }

    /// The same client with another codec for its values.
    #[must_use]
    pub fn with_codec(&self, codec: Codec) -> Self {
        Self {
            codec,
            ..self.clone()
        }
    }

    /// The namespace, without the colon that ends it.
    pub fn namespace(&self) -> &str {
        self.prefix.strip_suffix(':').unwrap_or_default()
    }

    /// A key of your own in this client's namespace. Its bytes are sent as they are; braces in it
    /// choose the slot on a cluster.
    pub fn key(&self, key: impl ToArg) -> Key {
        let mut bytes = Vec::with_capacity(self.prefix.len() + 32);
        bytes.extend_from_slice(self.prefix.as_bytes());
        key.write_to(&mut bytes);
        Key::from_raw(bytes)
    }

    /// How many keys one command of a bulk operation names at most.
    pub(crate) fn batch_keys(&self) -> usize {
        self.batch_keys
    }

    /// What stands in front of every key: empty, or the namespace and its colon.
    pub(crate) fn prefix(&self) -> &str {
        &self.prefix
    }

    /// A full key without the namespace; `None` when it lies outside of it.
    pub fn strip<'k>(&self, key: &'k [u8]) -> Option<&'k [u8]> {
        key.strip_prefix(self.prefix.as_bytes())
    }

    /// Takes a full key apart that a pattern has written in this namespace; `None` for any other.
    ///
    /// ```
    /// # fn example(client: &redkit_core::Client) {
    /// if let Some(key) = client.parse_key(b"lock:orders:{7}:fence") {
    ///     assert_eq!((key.pattern, key.name, key.role), ("lock", "orders", Some("fence")));
    /// }
    /// # }
    /// ```
    pub fn parse_key<'k>(&self, key: &'k [u8]) -> Option<PatternKey<'k>> {
        PatternKey::parse(self.strip(key)?)
    }

    /// The keys of one use of a pattern: `namespace:pattern:name:{…}`.
    ///
    /// # Errors
    /// [`Error::Config`] when a name holds something else than letters, digits, `-`, `_`, `.`.
    pub fn keyspace(&self, pattern: &str, name: &str) -> Result<Keyspace, Error> {
        Ok(Keyspace::new(self.namespace(), pattern, name)?)
    }

    /// How many bytes an argument of a command may have: see
    /// [`ClientConfig::max_value_bytes`](crate::ClientConfig::max_value_bytes).
    pub fn max_value_bytes(&self) -> usize {
        self.calls.max_value_bytes()
    }

    /// How this client's values become bytes.
    pub fn codec(&self) -> &Codec {
        &self.codec
    }

    /// Sends a command and converts the reply.
    ///
    /// # Errors
    /// [`Error::Call`] when there is no reply or the server refused, [`Error::Reply`] when the
    /// reply is not a `T`.
    pub async fn call<T: FromValue>(&self, mut command: Command) -> Result<T, Error> {
        let mut earlier = EarlierAttempts::default();
        match self
            .calls
            .run(&mut command, self.terms(), &mut earlier)
            .await
        {
            Ok(value) => value.to().map_err(|error| Error::Reply {
                command: command.name().into(),
                error,
            }),
            Err(error) => Err(Error::call(command.name(), error)),
        }
    }

    /// Sends several commands together: one round trip, an answer per command, in their order.
    /// `MULTI` and `EXEC` may be among them. The batch counts as one call for the breaker. It is
    /// repeated as a whole when nothing of it was sent, or all of it is idempotent.
    ///
    /// A command that must not be sent (an argument beyond
    /// [`max_value_bytes`](crate::ClientConfig::max_value_bytes), one that would disturb other callers) is left out, and
    /// its own outcome says so. With a transaction's command (`MULTI`, `EXEC`, `DISCARD`, `WATCH`, `UNWATCH`) among them,
    /// and on a [dedicated](Self::dedicated) client, nothing is sent then.
    ///
    /// On a cluster the commands of one node keep their order; those that a node sends elsewhere
    /// during a migration are carried out after the others.
    ///
    /// # Errors
    /// [`Error::Call`] when nothing is known of any of the commands.
    pub async fn pipeline(
        &self,
        mut commands: Vec<Command>,
    ) -> Result<Vec<Result<Value, CallError>>, Error> {
        self.pipeline_ref(&mut commands).await
    }

    /// The same for a caller that needs the commands to read the replies.
    pub(crate) async fn pipeline_ref(
        &self,
        commands: &mut [Command],
    ) -> Result<Vec<Result<Value, CallError>>, Error> {
        let mut earlier = EarlierAttempts::default();
        self.pipeline_after(commands, &mut earlier).await
    }

    /// The same where attempts before it belong to the same calls.
    async fn pipeline_after(
        &self,
        commands: &mut [Command],
        earlier: &mut EarlierAttempts,
    ) -> Result<Vec<Result<Value, CallError>>, Error> {
        self.calls
            .run_all(commands, self.terms(), earlier)
            .await
            .map_err(|error| Error::call("pipeline", error))
    }

    /// Sends a transaction from `MULTI` to `EXEC`, as soon as it is known, once in a client's life, that transactions are
    /// possible.
    pub(crate) async fn transaction(
        &self,
        commands: &mut [Command],
    ) -> Result<Vec<Result<Value, CallError>>, Error> {
        let terms = self.terms();
        let tried = self.calls.try_transaction(commands, terms).await;
        tried.map_err(|error| Error::call("MULTI", error))?;
        let mut earlier = EarlierAttempts::default();
        let sent = self.calls.run_all(commands, terms, &mut earlier).await;
        sent.map_err(|error| Error::call("pipeline", error))
    }

    fn terms(&self) -> Terms {
        Terms {
            start: Instant::now(),
            budget: self.budget,
            entry: self.entry,
        }
    }

    /// Runs a script by its hash; a server that does not have it is sent the text once.
    ///
    /// # Errors
    /// As [`call`](Self::call); an error in the script is [`CallError::Replied`].
    pub async fn eval<T: FromValue>(&self, mut invocation: Invocation) -> Result<T, Error> {
        let mut earlier = EarlierAttempts::default();
        let by_hash = invocation.by_hash_mut();
        let mut result = self.calls.run(by_hash, self.terms(), &mut earlier).await;
        if let Err(CallError::Replied(error)) = &result
            && error.code() == "NOSCRIPT"
        {
            // The server looked for the script and ran nothing, so this is no repetition.
            let mut by_source = invocation.by_source();
            result = self
                .calls
                .run(&mut by_source, self.terms(), &mut earlier)
                .await;
        }
        match result {
            Ok(value) => value.to().map_err(|error| Error::Reply {
                command: "EVALSHA".into(),
                error,
            }),
            Err(error) => Err(Error::call("EVALSHA", error)),
        }
    }

    /// Subscribes, and returns once the server has confirmed it. Channel names are sent as they
    /// are: build them with [`key`](Self::key) to keep them in the namespace.
    ///
    /// # Errors
    /// [`Error::Call`] when the server refused or did not confirm in time.
    pub async fn subscribe(&self, interest: Interest) -> Result<PushStream, Error> {
        let refused = |error| Error::call("SUBSCRIBE", error);
        interest.check().map_err(refused)?;
        let _admission = self.calls.admit().map_err(refused)?;
        let limit = self.calls.subscribe_timeout();
        timeout(limit, self.backend().subscribe(interest))
            .await
            .unwrap_or_else(|_| {
                Err(Fault::new(FaultKind::Timeout, "not confirmed within the deadline").maybe())
            })
            .map_err(|error| {
                self.calls.hint("SUBSCRIBE", &error);
                refused(error)
            })
    }

    /// A client on a connection of its own, for blocking commands, `WATCH` and the like. It has
    /// the same settings but no breaker (a command that blocks is not slow) and no retry. Give a
    /// blocking command a [deadline](Command::deadline) beyond its own timeout.
    ///
    /// After a call that got no reply the connection is given up, because nobody knows its state;
    /// later calls are [`CallError::NotSent`].
    ///
    /// # Errors
    /// [`Error::Call`] when no connection could be made.
    pub async fn dedicated(&self) -> Result<Self, Error> {
        self.on_its_own(self.backend().dedicated()).await
    }

    /// A [dedicated](Self::dedicated) connection to one of the [servers](Self::servers), for what looks at a
    /// server at length and must not hold up the callers of the shared connection. A redirection is an
    /// error, as in [`call_server`](Self::call_server).
    ///
    /// # Errors
    /// [`Error::Call`] when no connection could be made, or the server is not among several. Where there is one server,
    /// that is it, by whatever name.
    pub async fn dedicated_to(&self, server: &str) -> Result<Self, Error> {
        self.on_its_own(self.backend().dedicated_to(server)).await
    }

    async fn on_its_own(
        &self,
        made: impl Future<Output = Result<Arc<dyn Backend>, CallError>>,
    ) -> Result<Self, Error> {
        let refused = |error| Error::call("CONNECT", error);
        let _admission = self.calls.admit().map_err(refused)?;
        let backend = made.await.map_err(refused)?;
        Ok(Self {
            calls: Arc::new(self.calls.dedicated(backend)?),
            budget: None,
            ..self.clone()
        })
    }

    /// The backend below: calls on it bypass admission, budget, retry and metrics, and the breaker
    /// where that is not the [backend's own](Backend::breakers).
    pub fn backend(&self) -> &Arc<dyn Backend> {
        self.calls.backend()
    }

    /// The circuit breakers, one for each server: their status, their events, and the switch to
    /// force them.
    pub fn breaker(&self) -> &Breakers {
        self.calls.breakers()
    }

    /// How the servers are laid out.
    pub fn topology(&self) -> Topology {
        self.backend().topology()
    }

    /// What the server can do, as far as is known now.
    pub fn capabilities(&self) -> Capabilities {
        self.backend().capabilities()
    }

    /// The connection's state and every change of it.
    pub fn state(&self) -> watch::Receiver<ConnectionState> {
        self.backend().state()
    }

    /// What this client and its clones have done since the start or the last reset.
    pub fn stats(&self) -> ClientStats {
        self.calls.stats()
    }

    /// How long the calls of this client and its clones took since the start.
    pub fn latency(&self) -> Latency {
        self.calls.latency()
    }

    /// Sets [`stats`](Self::stats) back to zero. Metrics are not affected.
    pub fn reset_stats(&self) {
        self.calls.reset_stats();
    }

    /// Gives what is left to be [released](Self::release_later), and tasks that [release](Self::releasing), a second; refuses
    /// new calls, waits for those in flight (each ends by its deadline; at most 5 s) and closes the connections. Calls on
    /// [dedicated](Self::dedicated) connections are not waited for: those that are under way then end as
    /// [`CallError::Maybe`], and no further one is sent. All clones are shut down. Doing it twice is fine.
    pub async fn shutdown(&self) {
        self.calls.coordination.shutdown().await;
        self.calls.shutdown(SHUTDOWN_GRACE).await;
    }
}

/// How long [`Client::shutdown`] waits at most.
const SHUTDOWN_GRACE: Duration = Duration::from_secs(5);

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client")
            .field("namespace", &self.namespace())
            .field("topology", &self.topology())
            .field("state", &*self.state().borrow())
            .finish_non_exhaustive()
    }
}
