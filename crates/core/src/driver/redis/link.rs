//! One connection of the `redis` crate, and how it is made.

use std::future::Future;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use ::redis::aio::{AsyncPushSender, MultiplexedConnection};
use ::redis::{AsyncConnectionConfig, ProtocolVersion, RedisConnectionInfo};
use async_trait::async_trait;
use secrecy::ExposeSecret;
use smallvec::{SmallVec, smallvec};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use super::convert::{to_call_error, to_cmd, to_handshake_fault, to_pipeline, to_reply};
use crate::backend::Capabilities;
use crate::command::Command;
use crate::config::{Address, ClientConfig, ConfigError, Endpoint, SharedProvider};
use crate::driver::hello::{Hello, Role};
use crate::driver::stream::{self, Counted};
use crate::driver::supervisor::{Connector, Link};
#[cfg(feature = "tls")]
use crate::driver::tls::Tls;
use crate::error::{CallError, Fault, FaultKind};
use crate::value::Value;

/// One connection. Its socket is closed when the last who holds it lets go, or by `close`.
pub(super) struct RedisLink {
    connection: MultiplexedConnection,
    closed: CancellationToken,
    read: Arc<AtomicU64>,
    is_closed: Arc<AtomicBool>,
    capabilities: Capabilities,
    role: Role,
    large: Semaphore,
    _tasks: SmallVec<[AbortOnDropHandle<()>; 2]>,
}

impl RedisLink {
    /// Sends one command. The caller bounds the wait.
    pub(super) async fn send(&self, command: &Command) -> Result<Value, CallError> {
        self.check_open()?;
        let _room = self
            .room_for(command.byte_len(), command.deadline_at())
            .await?;
        let cmd = to_cmd(command);
        let reply = self.connection.clone().send_packed_command(&cmd).await;
        reply.map_err(to_call_error).and_then(to_reply)
    }

    /// Sends several commands back to back. The caller bounds the wait.
    pub(super) async fn send_all(
        &self,
        commands: &[Command],
    ) -> Result<Vec<Result<Value, CallError>>, CallError> {
        self.check_open()?;
        if commands.is_empty() {
            return Ok(Vec::new());
        }
        let bytes = commands.iter().map(Command::byte_len).sum();
        let deadline = commands.iter().filter_map(Command::deadline_at).max();
        let _room = self.room_for(bytes, deadline).await?;
        let pipeline = to_pipeline(commands);
        let replies = self
            .connection
            .clone()
            .send_packed_commands(&pipeline, 0, commands.len())
            .await;
        let replies: Vec<_> = replies
            .map_err(to_call_error)?
            .into_iter()
            .map(to_reply)
            .collect();
        if replies.len() != commands.len() {
            return Err(Fault::new(
                FaultKind::Protocol,
                "the server sent another number of replies than there were commands",
            )
            .maybe());
        }
        Ok(replies)
    }

    /// Large requests wait here for each other: packing all of them at once, for a server that
    /// reads slowly or not at all, would only fill the memory.
    async fn room_for(
        &self,
        bytes: usize,
        deadline: Option<Instant>,
    ) -> Result<Option<SemaphorePermit<'_>>, CallError> {
        if bytes < LARGE {
            return Ok(None);
        }
        let blocks = u32::try_from(bytes / LARGE)
            .unwrap_or(u32::MAX)
            .min(LARGE_BLOCKS);
        let room = self.large.acquire_many(blocks).await.map_err(|_| {
            Fault::new(FaultKind::Disconnected, "the connection is closed").not_sent()
        })?;
        // Those who waited in vain must not pack now, one after the other, in each other's way.
        if deadline.is_some_and(|deadline| deadline <= Instant::now()) {
            let message = "earlier large requests were not taken by the server in time";
            return Err(Fault::new(FaultKind::Timeout, message).not_sent());
        }
        Ok(Some(room))
    }

    pub(super) fn role(&self) -> Role {
        self.role
    }

    /// Ends the connection when it is cancelled, and is cancelled when the connection has ended.
    pub(super) fn closer(&self) -> CancellationToken {
        self.closed.clone()
    }

    /// Runs a task for as long as the connection is kept.
    pub(super) fn keep(&mut self, task: impl Future<Output = ()> + Send + 'static) {
        self._tasks.push(AbortOnDropHandle::new(tokio::spawn(task)));
    }

    /// What is known to be closed before a command is handed over did not carry it.
    fn check_open(&self) -> Result<(), CallError> {
        if self.is_closed.load(Ordering::Acquire) {
            return Err(Fault::new(FaultKind::Disconnected, "the connection is closed").not_sent());
        }
        Ok(())
    }
}

#[async_trait]
impl Link for RedisLink {
    async fn closed(&self) {
        self.closed.cancelled().await;
    }

    async fn ping(&self) -> Result<(), Fault> {
        match self.send(&Command::new("PING")).await {
            // An error is an answer too: the server lives.
            Ok(_) | Err(CallError::Replied(_)) => Ok(()),
            Err(CallError::NotSent(fault) | CallError::Maybe(fault)) => Err(fault),
        }
    }

    fn bytes_read(&self) -> u64 {
        self.read.load(Ordering::Relaxed)
    }

    fn close(&self) {
        self.closed.cancel();
    }

    fn capabilities(&self) -> Capabilities {
        self.capabilities
    }
}

/// Makes connections to one server.
#[derive(Clone)]
pub(super) struct RedisConnector {
    place: Place,
    info: RedisConnectionInfo,
    client_name: Option<String>,
    provider: Option<SharedProvider>,
    /// Whether replicas are to serve reads on this connection.
    read_only: bool,
    expected: Expected,
}

/// What kind of server the configuration is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Expected {
    /// One that serves every key.
    Standalone,
    /// A node of a cluster, a sentinel, or what a sentinel names.
    Any,
}

#[derive(Clone)]
enum Place {
    Tcp(Address),
    #[cfg(feature = "tls")]
    Tls(Address, Arc<Tls>),
    #[cfg(unix)]
    Unix(PathBuf),
}

impl RedisConnector {
    pub(super) fn new(config: &ClientConfig) -> Result<Self, ConfigError> {
        let mut info = RedisConnectionInfo::default()
            .set_protocol(ProtocolVersion::RESP3)
            .set_lib_name("redkit", env!("CARGO_PKG_VERSION"))
            .set_db(i64::from(config.database));
        if let Some(username) = &config.username {
            info = info.set_username(username);
        }
        if let Some(password) = &config.password {
            info = info.set_password(password.expose_secret());
        }
        let expected = match config.endpoint {
            Endpoint::Standalone(_) | Endpoint::Unix(_) => Expected::Standalone,
            _ => Expected::Any,
        };
        Ok(Self {
            place: place(config)?,
            info,
            client_name: config.client_name.clone(),
            provider: config.provider.clone(),
            read_only: config.read_from_replicas,
            expected,
        })
    }

    /// The same for another server.
    pub(super) fn at(&self, address: &Address) -> Self {
        let place = match &self.place {
            #[cfg(feature = "tls")]
            Place::Tls(_, tls) => Place::Tls(address.clone(), Arc::clone(tls)),
            _ => Place::Tcp(address.clone()),
        };
        Self {
            place,
            ..self.clone()
        }
    }

    /// The same with other credentials: sentinels have their own, and no databases.
    pub(super) fn for_sentinel(&self, config: &ClientConfig) -> Self {
        let mut info = RedisConnectionInfo::default()
            .set_protocol(ProtocolVersion::RESP3)
            .set_skip_set_lib_name();
        if let Some(username) = &config.sentinel_username {
            info = info.set_username(username);
        }
        if let Some(password) = &config.sentinel_password {
            info = info.set_password(password.expose_secret());
        }
        Self {
            info,
            client_name: None,
            provider: None,
            ..self.clone()
        }
    }

    /// Makes a connection that hands pushed frames to `pushes`.
    pub(super) async fn connect_with(
        &self,
        pushes: Option<Arc<dyn AsyncPushSender>>,
    ) -> Result<RedisLink, Fault> {
        match &self.place {
            Place::Tcp(address) => {
                let stream = stream::connect_tcp(address).await?;
                self.handshake(stream, pushes, false).await
            }
            #[cfg(feature = "tls")]
            Place::Tls(address, tls) => {
                let stream = tls
                    .wrap(stream::connect_tcp(address).await?, address)
                    .await?;
                self.handshake(stream, pushes, true).await
            }
            #[cfg(unix)]
            Place::Unix(path) => {
                // A socket file cannot want TLS.
                self.handshake(stream::connect_unix(path).await?, pushes, true)
                    .await
            }
        }
    }

    async fn handshake<S>(
        &self,
        stream: S,
        pushes: Option<Arc<dyn AsyncPushSender>>,
        tls: bool,
    ) -> Result<RedisLink, Fault>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let read = Arc::new(AtomicU64::new(0));
        let mut config = AsyncConnectionConfig::new()
            .set_response_timeout(None)
            .set_pipeline_buffer_size(PIPELINE_BUFFER);
        if let Some(pushes) = pushes {
            config = config.set_push_sender(move |push| pushes.send(push));
        }
        let stream = Counted::new(stream, Arc::clone(&read));
        let (connection, driver) =
            MultiplexedConnection::new_with_config(&self.info().await?, stream, config)
                .await
                .map_err(|error| to_handshake_fault(error, &self.target(), tls))?;
        let closed = CancellationToken::new();
        let is_closed = Arc::new(AtomicBool::new(false));
        let task = tokio::spawn(drive(driver, closed.clone(), Arc::clone(&is_closed)));
        let mut link = RedisLink {
            connection,
            closed,
            read,
            is_closed,
            capabilities: Capabilities::UNKNOWN,
            role: Role::Unknown,
            large: Semaphore::new(LARGE_BLOCKS as usize),
            _tasks: smallvec![AbortOnDropHandle::new(task)],
        };
        let Some(hello) = self.introduce(&link).await? else {
            return Ok(link);
        };
        if hello.is_cluster_node() && self.expected == Expected::Standalone {
            let message = format!(
                "{} is a node of a cluster and serves a part of the keys only; write \
                 redis-cluster:// instead of redis://",
                self.target()
            );
            return Err(Fault::new(FaultKind::Handshake, message));
        }
        link.capabilities = hello.capabilities;
        link.role = hello.role;
        Ok(link)
    }

    /// What to introduce ourselves with.
    async fn info(&self) -> Result<RedisConnectionInfo, Fault> {
        let Some(SharedProvider(provider)) = &self.provider else {
            return Ok(self.info.clone());
        };
        let credentials = provider.credentials().await.map_err(|error| {
            let message = format!("the credential provider failed: {error}");
            Fault::new(FaultKind::Handshake, message)
        })?;
        let info = self
            .info
            .clone()
            .set_password(credentials.password.expose_secret());
        Ok(match credentials.username {
            Some(username) => info.set_username(username),
            None => info,
        })
    }

    /// Names the connection and asks what the server is. A user who may not do either can still
    /// use the connection.
    async fn introduce(&self, link: &RedisLink) -> Result<Option<Hello>, Fault> {
        if let Some(name) = &self.client_name {
            let set_name = Command::new("CLIENT").arg("SETNAME").arg(name);
            not_broken(link.send(&set_name).await)?;
        }
        if self.read_only {
            not_broken(link.send(&Command::new("READONLY")).await)?;
        }
        let hello = not_broken(link.send(&Command::new("HELLO")).await)?;
        Ok(hello.and_then(Hello::parse))
    }
}

#[async_trait]
impl Connector for RedisConnector {
    type Link = RedisLink;

    async fn connect(&self) -> Result<RedisLink, Fault> {
        self.connect_with(None).await
    }

    fn target(&self) -> String {
        match &self.place {
            Place::Tcp(address) => address.to_string(),
            #[cfg(feature = "tls")]
            Place::Tls(address, _) => address.to_string(),
            #[cfg(unix)]
            Place::Unix(path) => path.display().to_string(),
        }
    }
}

/// How many commands may wait between callers and the socket. More than the crate's 50, so that
/// many callers fill one write instead of waking each other up.
const PIPELINE_BUFFER: usize = 1024;

/// From this size on a request is large.
const LARGE: usize = 64 * 1024;

/// How many blocks of that size may be packed at once on a connection: 16 MiB.
const LARGE_BLOCKS: u32 = 256;

/// Runs a connection until it breaks or is closed from here.
async fn drive(
    driver: impl Future<Output = ()>,
    closed: CancellationToken,
    is_closed: Arc<AtomicBool>,
) {
    // Also when the future panics, nobody must wait on this connection. A flag beside the token,
    // because every call looks at it, and the token's look takes a lock.
    struct OnEnd(Arc<AtomicBool>);
    impl Drop for OnEnd {
        fn drop(&mut self) {
            self.0.store(true, Ordering::Release);
        }
    }
    let _on_end = (OnEnd(is_closed), closed.clone().drop_guard());
    tokio::select! {
        () = driver => {}
        () = closed.cancelled() => {}
    }
}

fn not_broken(reply: Result<Value, CallError>) -> Result<Option<Value>, Fault> {
    match reply {
        Ok(value) => Ok(Some(value)),
        Err(CallError::Replied(_)) => Ok(None),
        Err(CallError::NotSent(fault) | CallError::Maybe(fault)) => Err(fault),
    }
}

/// Where `config` connects to; for a cluster or sentinels the first of their addresses, from which
/// [`RedisConnector::at`] goes to the others.
fn place(config: &ClientConfig) -> Result<Place, ConfigError> {
    let none = || ConfigError::new("url", "it names no host", "name at least one");
    let address = match &config.endpoint {
        Endpoint::Standalone(address) => address,
        Endpoint::Cluster(nodes) => nodes.first().ok_or_else(none)?,
        Endpoint::Sentinel { sentinels, .. } => sentinels.first().ok_or_else(none)?,
        #[cfg(unix)]
        Endpoint::Unix(path) if config.tls.is_none() => return Ok(Place::Unix(path.clone())),
        Endpoint::Unix(_) => {
            return Err(ConfigError::new(
                "unix_socket",
                "a unix socket carries no TLS, and exists on unix systems only",
                "take `tls` out, or connect over TCP",
            ));
        }
        Endpoint::Embedded => {
            return Err(ConfigError::new(
                "url",
                "redkit-core has no engine of its own",
                "use `redkit::connect`, or `Client::from_backend` with redkit-embedded's `Embedded`",
            ));
        }
    };
    match &config.tls {
        None => Ok(Place::Tcp(address.clone())),
        #[cfg(feature = "tls")]
        Some(tls) => Ok(Place::Tls(address.clone(), Arc::new(Tls::new(tls)?))),
        #[cfg(not(feature = "tls"))]
        Some(_) => Err(ConfigError::new(
            "tls",
            "this build has no TLS",
            "enable the feature `tls` of redkit-core, or write redis:// for a plain connection",
        )),
    }
}
