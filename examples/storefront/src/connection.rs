//! The way to Redis: the server that `REDIS_URL` names, or an engine in this process, which other processes and
//! `redis-cli` may look into.

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use redkit::core::Backend;
use redkit::embedded::{Embedded, Listener};
use redkit::{Client, ClientConfig, Command};

use crate::counted::Counted;
use crate::shop::ShopError;

/// The variable that names the server.
pub(crate) const SERVER: &str = "REDIS_URL";

/// How long a call may take that a visitor cannot do without, such as one for an order. What a visitor can do without
/// has budgets of its own: a look into a cache, a limit's decision, the count of a visit.
const PATIENCE: Duration = Duration::from_secs(2);

/// A connection, and what it leads to.
pub(crate) struct Connection {
    pub(crate) client: Client,
    backend: String,
    /// Holds the port on which the engine is served.
    listener: Option<Listener>,
}

impl Connection {
    /// Connects. A server that cannot be reached yet is no obstacle unless it is `needed`. An engine in this process
    /// is served to other programs at `look_in`.
    ///
    /// # Errors
    /// [`ShopError`], which says what is in the way.
    pub(crate) async fn open(needed: bool, look_in: Option<SocketAddr>) -> Result<Self, ShopError> {
        let url = url()?;
        let config = ClientConfig::from_url(url.as_deref().unwrap_or("embedded://"))
            .map_err(ShopError::Config)?
            .command_timeout(PATIENCE)
            .lazy(!needed);
        let mut backend = match url {
            // The endpoint is host and port alone: what a URL has besides may be secret.
            Some(_) => format!("{} (from {SERVER})", config.endpoint()),
            None => format!("embedded ({SERVER} is not set)"),
        };
        let mut listener = None;
        let way: Arc<dyn Backend> = match look_in {
            None => {
                let client = redkit::connect_with(config.clone()).await;
                Arc::clone(client.map_err(ShopError::Connect)?.backend())
            }
            Some(_) if url.is_some() => return Err(ShopError::NothingToLookInto),
            Some(addr) => {
                let engine = Embedded::new();
                let listening = engine.listen(addr).await?;
                backend.push_str(&format!(", for redis-cli at {}", listening.addr()));
                listener = Some(listening);
                Arc::new(engine)
            }
        };
        let client = Client::from_backend(Arc::new(Counted(way)), &config);
        Ok(Self {
            client: client.map_err(ShopError::Connect)?,
            backend,
            listener,
        })
    }

    /// Where the engine of this process is served.
    pub(crate) fn looked_into_at(&self) -> Option<SocketAddr> {
        self.listener.as_ref().map(Listener::addr)
    }

    /// What answers at the other end, asked once at the start: the shop serves whatever it is.
    pub(crate) async fn server_found(&self) -> String {
        match self.client.call::<String>(Command::new("PING")).await {
            Ok(_) => {
                let found = self.client.capabilities();
                let (major, minor, patch) = found.version;
                let (server, topology) = (found.server, self.client.topology());
                format!("found {server:?} {major}.{minor}.{patch} ({topology:?})")
            }
            Err(error) => format!("no server found, the database alone serves: {error}"),
        }
    }
}

/// Which backend; never a credential.
impl fmt::Display for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.backend)
    }
}

/// The server's URL, where one is set.
///
/// # Errors
/// [`ShopError::NotUnicode`].
pub(crate) fn url() -> Result<Option<String>, ShopError> {
    match std::env::var(SERVER) {
        Ok(url) if !url.is_empty() => Ok(Some(url)),
        Ok(_) | Err(std::env::VarError::NotPresent) => Ok(None),
        Err(std::env::VarError::NotUnicode(_)) => Err(ShopError::NotUnicode),
    }
}
