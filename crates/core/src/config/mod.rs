//! [`ClientConfig`]: where the servers are and how to treat them. It is checked as a whole before
//! anything connects; an error names the field and the fix, and never shows a secret.
//!
//! - `settings`: every setting, once
//! - `read`: from a URL, serde or the environment
//! - `check`: what cannot work
//! - `profile`: production and development

mod check;
mod credentials;
mod endpoint;
mod error;
mod parts;
mod profile;
mod read;
mod settings;
mod text;
mod url;

use std::sync::Arc;
use std::time::Duration;

use crate::breaker::BreakerConfig;
pub(crate) use credentials::SharedProvider;
pub use credentials::{CredentialProvider, Credentials};
pub use endpoint::{Address, Driver, Endpoint};
pub use error::ConfigError;
pub use parts::{ReconnectConfig, RetryConfig, TlsConfig};
pub use settings::ClientConfig;
pub(crate) use settings::Settings;

impl ClientConfig {
    /// Asks `provider` for the credentials of each new connection to a server, in place of
    /// [`username`](Self::username) and [`password`](Self::password).
    #[must_use]
    pub fn credential_provider(mut self, provider: impl CredentialProvider) -> Self {
        self.provider = Some(SharedProvider(Arc::new(provider)));
        self
    }

    /// Encrypts the connection. Default: off, or on with the system's authorities by `rediss://`.
    #[must_use]
    pub fn tls(mut self, tls: TlsConfig) -> Self {
        self.tls = Some(tls);
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

    /// Whether the connection is to be encrypted.
    pub fn is_encrypted(&self) -> bool {
        self.tls.is_some()
    }

    /// Whether it has a password, or asks for one for each connection.
    pub fn has_credentials(&self) -> bool {
        self.password.is_some() || self.provider.is_some()
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
        self.check_each()?;
        check::together(self)
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
