//! How connections of the `redis` crate are made.

#[cfg(unix)]
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use ::redis::aio::{AsyncPushSender, MultiplexedConnection};
use ::redis::{AsyncConnectionConfig, ProtocolVersion, RedisConnectionInfo};
use async_trait::async_trait;
use secrecy::ExposeSecret;
use tokio::io::{AsyncRead, AsyncWrite};

use super::convert::to_handshake_fault;
use super::link::RedisLink;
use crate::command::Command;
use crate::config::{Address, ClientConfig, ConfigError, Endpoint, SharedProvider};
use crate::driver::hello::{Expected, Hello};
use crate::driver::link::{Connector, ServerConnector};
use crate::driver::stream::{self, Counted};
#[cfg(feature = "tls")]
use crate::driver::tls::Tls;
use crate::error::{CallError, Fault, FaultKind};
use crate::value::Value;

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
        Ok(Self {
            place: place(config)?,
            info,
            client_name: config.client_name.clone(),
            provider: config.provider.clone(),
            read_only: config.read_from_replicas,
            expected: Expected::of(&config.endpoint),
        })
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
        let mut link = RedisLink::new(connection, driver, read);
        if let Some(hello) = self.introduce(&link).await? {
            hello.check(self.expected, &self.target())?;
            link.is(&hello);
        }
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

impl ServerConnector for RedisConnector {
    fn at(&self, address: &Address) -> Self {
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
}

/// How many commands may wait between callers and the socket. More than the crate's 50, so that
/// many callers fill one write instead of waking each other up.
const PIPELINE_BUFFER: usize = 1024;

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
        Endpoint::Embedded { .. } => {
            return Err(ConfigError::new(
                "url",
                "redkit-core has no engine of its own",
                "use `redkit::connect` with the feature `embedded`, or `Client::from_backend` with \
                 redkit-embedded's `Embedded`",
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
