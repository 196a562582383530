//! Credentials that change while the program runs.

use std::error::Error as StdError;
use std::fmt;
#[cfg(any(feature = "native", feature = "fred"))]
use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use async_trait::async_trait;
#[cfg(any(feature = "native", feature = "fred"))]
use futures_util::FutureExt;
use secrecy::SecretString;

#[cfg(any(feature = "native", feature = "fred"))]
use crate::error::{Fault, FaultKind};

/// A user's name and password.
#[derive(Debug, Clone)]
pub struct Credentials {
    /// The user; `None` is the default user.
    pub username: Option<String>,
    /// The password.
    pub password: SecretString,
}

/// Gives credentials for each new connection: from a secret store that rotates them, or as tokens
/// that expire. Connections that stand are not authenticated again; servers keep them.
///
/// ```
/// use redkit_core::{ClientConfig, CredentialProvider, Credentials};
///
/// struct FromFile(std::path::PathBuf);
///
/// #[async_trait::async_trait]
/// impl CredentialProvider for FromFile {
///     async fn credentials(&self) -> Result<Credentials, Box<dyn std::error::Error + Send + Sync>> {
///         let password = std::fs::read_to_string(&self.0)?;
///         Ok(Credentials { username: None, password: password.trim_end().into() })
///     }
/// }
///
/// let config = ClientConfig::from_url("redis://localhost")?
///     .credential_provider(FromFile("/run/secrets/redis".into()));
/// # Ok::<(), redkit_core::ConfigError>(())
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` gives no credentials",
    label = "not a provider of credentials",
    note = "implement `CredentialProvider`; a fixed user and password are set by `ClientConfig::username` and `password`"
)]
#[async_trait]
pub trait CredentialProvider: Send + Sync + 'static {
    /// The credentials to use now. It is asked for every attempt to connect, and there are several
    /// a second during an outage: keep what was fetched, and drop it when it was refused or its
    /// time is up. The wait counts towards the connect timeout.
    ///
    /// # Errors
    /// Any error; the connection is then not made, and tried again like one that was refused. A panic is treated like
    /// an error.
    async fn credentials(&self) -> Result<Credentials, Box<dyn StdError + Send + Sync>>;
}

/// A provider that a configuration can hold, print and clone.
#[derive(Clone)]
#[cfg_attr(
    not(any(feature = "native", feature = "fred")),
    expect(dead_code, reason = "without a driver nobody asks it")
)]
pub(crate) struct SharedProvider(pub(crate) Arc<dyn CredentialProvider>);

#[cfg(any(feature = "native", feature = "fred"))]
impl SharedProvider {
    /// The credentials to use now. A provider that panics has failed once, like one that returns an error: it is asked
    /// again for the next attempt. What it said in its panic may hold a secret, and is not repeated.
    pub(crate) async fn credentials(&self) -> Result<Credentials, Fault> {
        let asked = AssertUnwindSafe(async {
            let given = self.0.credentials();
            given.await
        });
        let failure = match asked.catch_unwind().await {
            Ok(Ok(given)) => return Ok(given),
            Ok(Err(error)) => error.to_string(),
            Err(_) => "it panicked".to_owned(),
        };
        let message = format!("the credential provider failed: {failure}");
        Err(Fault::new(FaultKind::Handshake, message))
    }
}

impl fmt::Debug for SharedProvider {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("CredentialProvider")
    }
}
