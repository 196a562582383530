//! Our configuration as fred's: what its own defaults would do is switched off here.

#[cfg(unix)]
use std::path::Path;
#[cfg(feature = "tls")]
use std::sync::Arc;
use std::time::Duration;

use ::fred::clients::Client;
use ::fred::types::RespVersion;
use ::fred::types::config::{
    Config, ConnectionConfig, PerformanceConfig, Server, ServerConfig, TcpConfig,
};
use secrecy::ExposeSecret;
use socket2_05::TcpKeepalive;

use crate::config::{Address, ClientConfig, ConfigError, Endpoint, SharedProvider};
#[cfg(feature = "tls")]
use crate::driver::tls::Tls;
use crate::error::Fault;

/// What every client of fred's is made of.
#[derive(Clone)]
pub(super) struct Settings {
    config: Config,
    connection: ConnectionConfig,
    provider: Option<SharedProvider>,
    command_timeout: Duration,
    target: String,
    is_encrypted: bool,
    #[cfg(feature = "tls")]
    tls: Option<Arc<Tls>>,
}

impl Settings {
    pub(super) fn new(config: &ClientConfig) -> Result<Self, ConfigError> {
        let mut settings = Self {
            config: Config {
                version: RespVersion::RESP3,
                fail_fast: true,
                server: server(config)?,
                username: config.username.clone(),
                password: config
                    .password
                    .as_ref()
                    .map(|password| password.expose_secret().to_owned()),
                database: database(config)?,
                ..Config::default()
            },
            connection: ConnectionConfig {
                connection_timeout: config.connect_timeout,
                internal_command_timeout: config.connect_timeout,
                // Never a second time: fred does not know what may be repeated.
                max_command_attempts: 1,
                // No limit here, the client has one: a command that fred refuses stays in its
                // count of queued commands for ever, and with it commands wait for a flush.
                max_command_buffer_len: 0,
                auto_client_setname: false,
                tcp: TcpConfig {
                    nodelay: Some(true),
                    keepalive: Some(
                        TcpKeepalive::new()
                            .with_time(KEEPALIVE)
                            .with_interval(KEEPALIVE / 3),
                    ),
                    #[cfg(target_os = "linux")]
                    user_timeout: Some(KEEPALIVE),
                    ..TcpConfig::default()
                },
                ..ConnectionConfig::default()
            },
            provider: config.provider.clone(),
            command_timeout: config.command_timeout.saturating_add(MARGIN),
            target: config.endpoint.to_string(),
            is_encrypted: config.tls.is_some(),
            #[cfg(feature = "tls")]
            tls: None,
        };
        settings.encrypt(config)?;
        Ok(settings)
    }

    /// A client that has not connected yet. It will not reconnect: it is replaced.
    pub(super) async fn client(&self, use_of: Use) -> Result<Client, Fault> {
        let performance = PerformanceConfig {
            default_command_timeout: self.command_timeout,
            broadcast_channel_capacity: match use_of {
                Use::Commands => EVENTS,
                Use::ManyNames => MANY,
                Use::OneName => FEW,
            },
            ..PerformanceConfig::default()
        };
        let mut config = self.config.clone();
        if let Some(provider) = &self.provider {
            let credentials = provider.credentials().await?;
            config.username = credentials.username.or(config.username);
            config.password = Some(credentials.password.expose_secret().to_owned());
        }
        #[cfg(feature = "tls")]
        if let Some(tls) = &self.tls {
            config.tls = Some(::fred::types::config::TlsConnector::Rustls(tls.connector()).into());
        }
        let connection = Some(self.connection.clone());
        Ok(Client::new(config, Some(performance), connection, None))
    }

    /// The same for another server.
    pub(super) fn at(&self, address: &Address) -> Self {
        let mut own = self.clone();
        if let ServerConfig::Centralized { server } = &mut own.config.server {
            server.host = address.host.as_str().into();
            server.port = address.port;
        }
        own.target = address.to_string();
        own
    }

    /// The same with a sentinel's credentials, and without a database.
    pub(super) fn for_sentinel(&self, config: &ClientConfig) -> Self {
        let mut own = self.clone();
        let password = config.sentinel_password.as_ref();
        own.config.username.clone_from(&config.sentinel_username);
        own.config.password = password.map(|password| password.expose_secret().to_owned());
        own.config.database = None;
        own.provider = None;
        own
    }

    pub(super) fn target(&self) -> &str {
        &self.target
    }

    /// Whether wanting TLS cannot be what is wrong with the other side.
    pub(super) fn is_encrypted(&self) -> bool {
        self.is_encrypted
    }

    #[cfg(feature = "tls")]
    fn encrypt(&mut self, config: &ClientConfig) -> Result<(), ConfigError> {
        let (Some(tls), ServerConfig::Centralized { server }) =
            (&config.tls, &mut self.config.server)
        else {
            return Ok(());
        };
        self.tls = Some(Arc::new(Tls::new(tls)?));
        server.tls_server_name = tls.server_name.as_deref().map(Into::into);
        Ok(())
    }

    #[cfg(not(feature = "tls"))]
    fn encrypt(&mut self, config: &ClientConfig) -> Result<(), ConfigError> {
        match config.tls {
            None => Ok(()),
            Some(_) => Err(ConfigError::new(
                "tls",
                "this build has no TLS",
                "enable the feature `tls` of redkit-core, or write redis:// for a plain connection",
            )),
        }
    }
}

/// What a client of fred's is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Use {
    Commands,
    /// Subscriptions to any number of channels.
    ManyNames,
    /// The subscription to one pattern.
    OneName,
}

/// fred's own limit stands this much behind ours, which is the one that ends calls.
pub(super) const MARGIN: Duration = Duration::from_secs(1);

/// As the `native` driver has it.
const KEEPALIVE: Duration = Duration::from_secs(15);

/// How many messages fred holds until our task takes them, which it does at once. fred's default
/// of 32 loses messages at the first burst. But fred makes room for all of them, in each of its
/// queues, when a client is made: this many take 39 MB.
const MANY: usize = 65_536;

/// The same for a pattern, each of which has a connection: a sixteenth of that memory. What does not fit is told.
const FEW: usize = 4096;

/// The same where nothing is subscribed.
const EVENTS: usize = 64;

fn server(config: &ClientConfig) -> Result<ServerConfig, ConfigError> {
    match &config.endpoint {
        Endpoint::Standalone(Address { host, port }) => Ok(ServerConfig::Centralized {
            server: Server::new(host.clone(), *port),
        }),
        #[cfg(unix)]
        Endpoint::Unix(path) if config.tls.is_none() => Ok(unix(path)),
        Endpoint::Unix(_) => Err(ConfigError::new(
            "unix_socket",
            "a unix socket carries no TLS, and exists on unix systems only",
            "take `tls` out, or connect over TCP",
        )),
        Endpoint::Cluster(_) => Err(ConfigError::new(
            "driver",
            "the `fred` driver does not do clusters: while slots move, fred 10.1 was seen to \
             return other keys' values",
            "use the `native` driver for a cluster",
        )),
        // The first of them, from which `Settings::at` goes to the others and to the servers.
        Endpoint::Sentinel { sentinels, .. } => match sentinels.first() {
            Some(Address { host, port }) => Ok(ServerConfig::Centralized {
                server: Server::new(host.clone(), *port),
            }),
            None => Err(ConfigError::new(
                "url",
                "it names no host",
                "name at least one",
            )),
        },
        Endpoint::Embedded { .. } => Err(ConfigError::new(
            "url",
            "redkit-core has no engine of its own",
            "use `redkit::connect` with the feature `embedded`, or `Client::from_backend` with \
                 redkit-embedded's `Embedded`",
        )),
    }
}

#[cfg(unix)]
fn unix(path: &Path) -> ServerConfig {
    ServerConfig::Unix {
        path: path.to_path_buf(),
    }
}

fn database(config: &ClientConfig) -> Result<Option<u8>, ConfigError> {
    match u8::try_from(config.database) {
        Ok(0) => Ok(None),
        Ok(number) => Ok(Some(number)),
        Err(_) => Err(ConfigError::new(
            "database",
            "the `fred` driver knows databases up to 255 only",
            "use the `native` driver, or a lower number",
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(url: &str) -> ConfigError {
        let config = ClientConfig::from_url(url).unwrap();
        Settings::new(&config).err().expect(url)
    }

    #[test]
    fn what_fred_cannot_do_is_refused_with_the_reason() {
        let cluster = refused("redis-cluster://a,b");
        assert_eq!(cluster.field(), "driver");
        assert!(cluster.to_string().contains("other keys' values"));
        assert_eq!(refused("redis://a/256").field(), "database");
        assert_eq!(refused("embedded://").field(), "url");
    }

    #[test]
    fn sentinels_are_not_given_the_servers_password() {
        let url = "redis-sentinel://:secret@a,b/main?database=3&sentinel_password=theirs";
        let settings = Settings::new(&ClientConfig::from_url(url).unwrap()).unwrap();
        let config = ClientConfig::from_url(url).unwrap();
        let sentinel = settings.for_sentinel(&config).at(&Address {
            host: "b".to_owned(),
            port: 1,
        });
        assert_eq!(sentinel.config.password.as_deref(), Some("theirs"));
        assert_eq!(sentinel.config.database, None);
        assert_eq!(sentinel.target(), "b:1");
        assert_eq!(settings.config.password.as_deref(), Some("secret"));
    }

    #[test]
    fn freds_own_repetitions_and_limits_are_off() {
        let config = ClientConfig::from_url("redis://a:7/3?command_timeout=250ms").unwrap();
        let settings = Settings::new(&config).unwrap();
        assert_eq!(settings.connection.max_command_attempts, 1);
        assert_eq!(settings.connection.max_command_buffer_len, 0);
        assert!(settings.command_timeout > config.command_timeout);
        assert_eq!(settings.config.database, Some(3));
        assert_eq!(settings.target(), "a:7");
    }
}
