//! The parts of a configuration that hold several settings each.

use std::path::PathBuf;
use std::time::Duration;

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
    /// The pause before the second attempt, at most. It doubles with every further one, and a random part of it is waited,
    /// between a half and the whole.
    pub min_delay: Duration,
    /// The longest pause.
    pub max_delay: Duration,
}

impl Default for RetryConfig {
    fn default() -> Self {
        Self {
            max_attempts: 3,
            min_delay: Duration::from_millis(10),
            max_delay: Duration::from_millis(200),
        }
    }
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

impl Default for ReconnectConfig {
    fn default() -> Self {
        Self {
            min_delay: Duration::from_millis(5),
            max_delay: Duration::from_millis(50),
        }
    }
}
