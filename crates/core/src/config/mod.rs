//! [`ClientConfig`]: where the servers are and how to treat them. It is checked as a whole before
//! anything connects; an error names the field and the fix, and never shows a secret.

mod credentials;
mod settings;
mod url;

use std::borrow::Cow;
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use secrecy::SecretString;
use serde::Deserialize;

use crate::breaker::BreakerConfig;
pub(crate) use credentials::SharedProvider;
pub use credentials::{CredentialProvider, Credentials};
pub(crate) use settings::Settings;

/// A configuration that cannot work: which field, why, and what to write instead.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("config field `{field}`: {problem}; {fix}")]
pub struct ConfigError {
    field: Cow<'static, str>,
    problem: Cow<'static, str>,
    fix: Cow<'static, str>,
}

impl ConfigError {
    /// An error in `field`: what is wrong, and what to do about it.
    pub fn new(
        field: impl Into<Cow<'static, str>>,
        problem: impl Into<Cow<'static, str>>,
        fix: impl Into<Cow<'static, str>>,
    ) -> Self {
        Self {
            field: field.into(),
            problem: problem.into(),
            fix: fix.into(),
        }
    }

    /// The field's name, as in serde and (in capitals, after `REDKIT_`) in the environment.
    pub fn field(&self) -> &str {
        &self.field
    }
}

/// Where the servers are.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Endpoint {
    /// One server over TCP.
    Standalone(Address),
    /// One server over a unix socket.
    Unix(PathBuf),
    /// Some nodes of a cluster; the rest is discovered.
    Cluster(Vec<Address>),
    /// The master of this name, as these sentinels say.
    Sentinel {
        /// The sentinels.
        sentinels: Vec<Address>,
        /// The master's name.
        master: String,
    },
    /// An engine in this process.
    Embedded,
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let list = |f: &mut fmt::Formatter<'_>, all: &[Address]| {
            all.iter().enumerate().try_for_each(|(i, address)| {
                write!(f, "{}{address}", if i == 0 { "" } else { "," })
            })
        };
        match self {
            Endpoint::Standalone(address) => address.fmt(f),
            Endpoint::Unix(path) => path.display().fmt(f),
            Endpoint::Cluster(nodes) => list(f, nodes),
            Endpoint::Sentinel { sentinels, master } => {
                list(f, sentinels)?;
                write!(f, "/{master}")
            }
            Endpoint::Embedded => f.write_str("embedded"),
        }
    }
}

/// What carries the commands to a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum Driver {
    /// The connection of this crate's own: every topology. The default.
    #[default]
    Native,
    /// The `fred` crate: one server only. Needs the feature `fred`.
    Fred,
}

/// A host and a port.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Address {
    /// A name or an IP address (IPv6 without brackets).
    pub host: String,
    /// The port.
    pub port: u16,
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            return write!(f, "[{}]:{}", self.host, self.port);
        }
        write!(f, "{}:{}", self.host, self.port)
    }
}

/// How to check the server's certificate and show our own. Used with the `tls` feature.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct TlsConfig {
    /// A PEM file of certificate authorities to trust *instead of* the platform's.
    pub ca_file: Option<PathBuf>,
    /// A PEM file with our certificate chain, when the server wants one.
    pub client_cert_file: Option<PathBuf>,
    /// The PEM file with that certificate's key.
    pub client_key_file: Option<PathBuf>,
    /// The name to check the certificate against, when it is not the host's.
    pub server_name: Option<String>,
}

/// When and how often a call that failed is sent again. Only what is safe is repeated: commands
/// that were not sent, and idempotent ones.
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub struct RetryConfig {
    /// How often a command is sent at most, the first time included. 1 switches retries off.
    pub max_attempts: u32,
    /// The pause before the second attempt. It doubles with every further one, with full jitter.
    pub min_delay: Duration,
    /// The longest pause.
    pub max_delay: Duration,
}

/// How a lost connection is made anew.
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub struct ReconnectConfig {
    /// The pause after the first failed attempt. It doubles with every further one, with jitter.
    pub min_delay: Duration,
    /// The longest pause. The first success after an outage comes at most this much after the
    /// server answers again.
    pub max_delay: Duration,
}

/// How to connect, and how to treat calls.
///
/// ```
/// use std::time::Duration;
/// use redkit_core::ClientConfig;
///
/// let config = ClientConfig::from_url("redis://user:secret@cache.internal:6379/2")?
///     .namespace("shop")
///     .command_timeout(Duration::from_millis(250));
/// assert!(!format!("{config:?}").contains("secret"));
///
/// let error = ClientConfig::from_url("http://cache.internal").unwrap_err();
/// assert_eq!(error.field(), "url");
/// # Ok::<(), redkit_core::ConfigError>(())
/// ```
///
/// From serde (TOML, JSON, …) the fields are flat, durations are texts such as `"250ms"`, and an
/// unknown field is an error:
///
/// ```
/// # use redkit_core::ClientConfig;
/// let config: ClientConfig = serde_json::from_str(
///     r#"{ "url": "redis://cache.internal", "namespace": "shop", "command_timeout": "250ms" }"#,
/// )?;
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Debug, Clone, Deserialize)]
#[serde(try_from = "Settings")]
pub struct ClientConfig {
    pub(crate) endpoint: Endpoint,
    pub(crate) driver: Driver,
    pub(crate) tls: Option<TlsConfig>,
    pub(crate) username: Option<String>,
    pub(crate) password: Option<SecretString>,
    pub(crate) provider: Option<SharedProvider>,
    pub(crate) read_from_replicas: bool,
    pub(crate) sentinel_username: Option<String>,
    pub(crate) sentinel_password: Option<SecretString>,
    pub(crate) database: u32,
    pub(crate) namespace: String,
    pub(crate) client_name: Option<String>,
    pub(crate) connect_timeout: Duration,
    pub(crate) command_timeout: Duration,
    pub(crate) probe_interval: Duration,
    pub(crate) max_in_flight: usize,
    pub(crate) lazy: bool,
    pub(crate) retry: RetryConfig,
    pub(crate) reconnect: ReconnectConfig,
    pub(crate) breaker: BreakerConfig,
}

impl ClientConfig {
    /// Connects to `endpoint` with every other setting at its default.
    pub fn new(endpoint: Endpoint) -> Self {
        Self {
            endpoint,
            driver: Driver::default(),
            tls: None,
            username: None,
            password: None,
            provider: None,
            read_from_replicas: false,
            sentinel_username: None,
            sentinel_password: None,
            database: 0,
            namespace: String::new(),
            client_name: None,
            connect_timeout: Duration::from_secs(1),
            command_timeout: Duration::from_secs(1),
            probe_interval: Duration::from_secs(5),
            max_in_flight: 16_384,
            lazy: false,
            retry: RetryConfig {
                max_attempts: 3,
                min_delay: Duration::from_millis(10),
                max_delay: Duration::from_millis(200),
            },
            reconnect: ReconnectConfig {
                min_delay: Duration::from_millis(5),
                max_delay: Duration::from_millis(50),
            },
            breaker: BreakerConfig::default(),
        }
    }

    /// From a URL. The schemes, each with `valkey` in place of `redis` too:
    ///
    /// | URL | |
    /// |---|---|
    /// | `redis://[user[:password]@]host[:port][/database]` | one server |
    /// | `rediss://…` | the same over TLS |
    /// | `redis+unix:///path` or `unix:///path` | a unix socket |
    /// | `redis-cluster://host[:port][,host…]` | a cluster (`rediss-cluster` over TLS) |
    /// | `redis-sentinel://host[:port][,host…]/master[/database]` | through sentinels (`rediss-sentinel`) |
    /// | `embedded://` | an engine in this process |
    ///
    /// Every field of the serde form can stand in the query: `?namespace=shop&command_timeout=250ms`.
    ///
    /// # Errors
    /// [`ConfigError`] with the field (`url`, `port`, `database`, …). It never quotes the URL.
    pub fn from_url(url: &str) -> Result<Self, ConfigError> {
        let mut settings = Settings::default();
        settings.set("url", url)?;
        Self::try_from(settings)
    }

    /// From the environment: `REDIS_URL`, and `REDKIT_` with the name of any field in capitals
    /// (`REDKIT_NAMESPACE`, `REDKIT_COMMAND_TIMEOUT=250ms`), which wins over the URL.
    ///
    /// # Errors
    /// [`ConfigError`] with the field, as for the other forms.
    pub fn from_env() -> Result<Self, ConfigError> {
        // A variable that is not UTF-8 cannot be one of ours; the rest must not fail because of it.
        let vars = std::env::vars_os().filter_map(|(name, value)| {
            Some((name.into_string().ok()?, value.into_string().ok()?))
        });
        Self::try_from(Settings::from_vars(vars)?)
    }

    /// Which crate carries the commands (`driver=fred` in a URL). Default: `native`.
    #[must_use]
    pub fn driver(mut self, driver: Driver) -> Self {
        self.driver = driver;
        self
    }

    /// The user to authenticate as (Redis ACL).
    #[must_use]
    pub fn username(mut self, username: impl Into<String>) -> Self {
        self.username = Some(username.into());
        self
    }

    /// The password.
    #[must_use]
    pub fn password(mut self, password: impl Into<SecretString>) -> Self {
        self.password = Some(password.into());
        self
    }

    /// Asks `provider` for the credentials of each new connection to a server, in place of
    /// [`username`](Self::username) and [`password`](Self::password).
    #[must_use]
    pub fn credential_provider(mut self, provider: impl CredentialProvider) -> Self {
        self.provider = Some(SharedProvider(Arc::new(provider)));
        self
    }

    /// Lets commands that only read go to a replica of the master that serves their slot, on a
    /// cluster. What they read may be older than what was acknowledged. Default: off.
    #[must_use]
    pub fn read_from_replicas(mut self, replicas: bool) -> Self {
        self.read_from_replicas = replicas;
        self
    }

    /// The user to authenticate as at the sentinels. Default: nobody; the servers' credentials are
    /// not sent to sentinels.
    #[must_use]
    pub fn sentinel_username(mut self, username: impl Into<String>) -> Self {
        self.sentinel_username = Some(username.into());
        self
    }

    /// The password for the sentinels.
    #[must_use]
    pub fn sentinel_password(mut self, password: impl Into<SecretString>) -> Self {
        self.sentinel_password = Some(password.into());
        self
    }

    /// The database's number. Default 0, the only one of a cluster.
    #[must_use]
    pub fn database(mut self, database: u32) -> Self {
        self.database = database;
        self
    }

    /// What stands in front of every key, followed by `:`. Default: nothing.
    #[must_use]
    pub fn namespace(mut self, namespace: impl Into<String>) -> Self {
        self.namespace = namespace.into();
        self
    }

    /// The connection's name, as `CLIENT LIST` shows it. It is also the label of this client's
    /// metrics. Default: `default`, and no name at the server.
    #[must_use]
    pub fn client_name(mut self, name: impl Into<String>) -> Self {
        self.client_name = Some(name.into());
        self
    }

    /// Encrypts the connection. Default: off, or on with the system's authorities by `rediss://`.
    #[must_use]
    pub fn tls(mut self, tls: TlsConfig) -> Self {
        self.tls = Some(tls);
        self
    }

    /// How long making a connection may take, name lookup and handshakes included. Default 1 s.
    #[must_use]
    pub fn connect_timeout(mut self, timeout: Duration) -> Self {
        self.connect_timeout = timeout;
        self
    }

    /// How long a command may take, with all its attempts and the wait for a connection, unless
    /// the command has a deadline of its own. Default 1 s.
    #[must_use]
    pub fn command_timeout(mut self, timeout: Duration) -> Self {
        self.command_timeout = timeout;
        self
    }

    /// After how much silence the connection is probed with a `PING`. Default 5 s.
    #[must_use]
    pub fn probe_interval(mut self, interval: Duration) -> Self {
        self.probe_interval = interval;
        self
    }

    /// How many calls may be in flight at once; more are refused as
    /// [`FaultKind::Overloaded`](crate::FaultKind::Overloaded). Default 16,384.
    #[must_use]
    pub fn max_in_flight(mut self, calls: usize) -> Self {
        self.max_in_flight = calls;
        self
    }

    /// Whether connecting waits for the first command. When it does, wrong addresses and
    /// passwords show at that command and not at the start. Default: no.
    #[must_use]
    pub fn lazy(mut self, lazy: bool) -> Self {
        self.lazy = lazy;
        self
    }

    /// How failed calls are repeated. Default: 3 attempts, 10 to 200 ms apart.
    #[must_use]
    pub fn retry(mut self, max_attempts: u32, min_delay: Duration, max_delay: Duration) -> Self {
        self.retry = RetryConfig {
            max_attempts,
            min_delay,
            max_delay,
        };
        self
    }

    /// How a lost connection is made anew. Default: 5 to 50 ms apart.
    #[must_use]
    pub fn reconnect(mut self, min_delay: Duration, max_delay: Duration) -> Self {
        self.reconnect = ReconnectConfig {
            min_delay,
            max_delay,
        };
        self
    }

    /// The circuit breaker's settings.
    #[must_use]
    pub fn breaker(mut self, breaker: BreakerConfig) -> Self {
        self.breaker = breaker;
        self
    }

    /// Where this configuration connects to.
    pub fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    /// The name that metrics and logs use for this client.
    pub fn label(&self) -> &str {
        self.client_name.as_deref().unwrap_or("default")
    }

    /// Checks the whole configuration. Connecting does it too.
    ///
    /// # Errors
    /// [`ConfigError`] for the first field that cannot work.
    pub fn validate(&self) -> Result<(), ConfigError> {
        let positive = |field: &'static str, duration: Duration| match duration {
            Duration::ZERO => Err(ConfigError::new(
                field,
                "it is zero",
                "give a duration such as \"500ms\"",
            )),
            d if d > MAX_DURATION => Err(ConfigError::new(
                field,
                "it is longer than a day",
                "give a shorter duration",
            )),
            _ => Ok(()),
        };
        positive("connect_timeout", self.connect_timeout)?;
        positive("command_timeout", self.command_timeout)?;
        positive("probe_interval", self.probe_interval)?;
        positive("reconnect_max_delay", self.reconnect.max_delay)?;
        positive("reconnect_min_delay", self.reconnect.min_delay)?;
        if self.retry.max_delay > MAX_DURATION {
            return Err(ConfigError::new(
                "retry_max_delay",
                "it is longer than a day",
                "give a shorter duration",
            ));
        }
        let ordered = |field: &'static str, min: Duration, max: Duration| {
            if min <= max {
                return Ok(());
            }
            Err(ConfigError::new(
                field,
                "it is longer than the maximum",
                "swap the two delays",
            ))
        };
        ordered(
            "reconnect_min_delay",
            self.reconnect.min_delay,
            self.reconnect.max_delay,
        )?;
        ordered(
            "retry_min_delay",
            self.retry.min_delay,
            self.retry.max_delay,
        )?;
        if self.retry.max_attempts == 0 {
            return Err(ConfigError::new(
                "retry_attempts",
                "it is 0, so nothing would ever be sent",
                "give 1 to switch retries off",
            ));
        }
        if self.max_in_flight == 0 {
            return Err(ConfigError::new(
                "max_in_flight",
                "it is 0, so every call would be refused",
                "give a positive number",
            ));
        }
        if self.username.is_some() && self.password.is_none() {
            return Err(ConfigError::new(
                "password",
                "a user name is given without a password",
                "give both, or neither",
            ));
        }
        if self.provider.is_some() && (self.username.is_some() || self.password.is_some()) {
            return Err(ConfigError::new(
                "password",
                "credentials are given beside a credential provider",
                "give one of them",
            ));
        }
        if self.read_from_replicas && !matches!(self.endpoint, Endpoint::Cluster(_)) {
            return Err(ConfigError::new(
                "read_from_replicas",
                "only a cluster's replicas are known",
                "leave it out, or connect to a cluster",
            ));
        }
        if let Some(name) = &self.client_name
            && (name.is_empty() || !name.bytes().all(|b| b.is_ascii_graphic()))
        {
            return Err(ConfigError::new(
                "client_name",
                "it is empty or has spaces or special characters, which servers refuse",
                "use letters, digits, `-` and `_`",
            ));
        }
        if let Some(tls) = &self.tls
            && tls.client_cert_file.is_some() != tls.client_key_file.is_some()
        {
            return Err(ConfigError::new(
                "tls_client_key_file",
                "a client certificate needs both its file and its key's file",
                "give both `tls_client_cert_file` and `tls_client_key_file`, or neither",
            ));
        }
        if matches!(self.endpoint, Endpoint::Cluster(_)) && self.database != 0 {
            return Err(ConfigError::new(
                "database",
                "a cluster has database 0 only",
                "leave it out and separate data by namespace",
            ));
        }
        crate::keys::check_namespace(&self.namespace)?;
        self.breaker.validate().map_err(|error| {
            ConfigError::new(
                format!("breaker_{}", error.field()),
                error.to_string(),
                "correct that field of the breaker",
            )
        })
    }
}

/// One server on this machine: `redis://127.0.0.1:6379`.
impl Default for ClientConfig {
    fn default() -> Self {
        Self::new(Endpoint::Standalone(Address {
            host: "127.0.0.1".to_owned(),
            port: 6379,
        }))
    }
}

/// Beyond a day no timeout here has a use, and deadline arithmetic stays far from overflow.
const MAX_DURATION: Duration = Duration::from_secs(24 * 3600);
