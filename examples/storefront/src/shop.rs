//! The shop put together: its database, its connection, the caches between them, its limits.

use std::fmt;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::Router;
use redkit::embedded::{Embedded, ListenError, Listener};
use redkit::monitor::prometheus::{self, Exporter, PrometheusHandle};
use redkit::monitor::{Dependency, Health};
use redkit::ratelimit::{OnOutage, Policy, Quota, RateLimiter};
use redkit::{Client, ClientConfig, Command};
use tempfile::TempDir;

use crate::cached::CachedCatalogue;
use crate::catalogue::{Catalogue, OpenError};
use crate::popular::Popular;
use crate::routes::{self, Parts};

/// The variable that names the server.
const SERVER: &str = "REDIS_URL";

/// How long the cache may take: a visitor who waits longer for it is better served by the database.
const PATIENCE: Duration = Duration::from_millis(250);

/// How many changes one address may make, and how many of them at once.
pub(crate) const CHANGES: Quota = Quota::per_minute(60).burst(20);

/// A shop that is ready to serve. It is to be [closed](Shop::close).
pub(crate) struct Shop {
    pub(crate) client: Client,
    pub(crate) catalogue: Catalogue,
    parts: Parts,
    health: Health,
    exporter: Exporter,
    backend: String,
    database: String,
    /// Holds the port on which the engine is served.
    _listener: Option<Listener>,
    /// Holds the temporary database; removed with the shop.
    _folder: Option<TempDir>,
}

impl Shop {
    /// Opens the catalogue at `database`, or a temporary one, and connects to the server that
    /// `REDIS_URL` names, or to an engine in this process. A server that cannot be reached yet is
    /// no obstacle unless it is `needed`: the shop sells from its database until then. An engine in
    /// this process is served to other programs at `look_in`.
    ///
    /// # Errors
    /// [`ShopError`], which says what is in the way.
    pub(crate) async fn open(
        database: Option<&Path>,
        needed: bool,
        look_in: Option<SocketAddr>,
    ) -> Result<Self, ShopError> {
        let url = match std::env::var(SERVER) {
            Ok(url) if !url.is_empty() => Some(url),
            Ok(_) | Err(std::env::VarError::NotPresent) => None,
            Err(std::env::VarError::NotUnicode(_)) => return Err(ShopError::NotUnicode),
        };
        let config = ClientConfig::from_url(url.as_deref().unwrap_or("embedded://"))
            .map_err(ShopError::Config)?
            .command_timeout(PATIENCE)
            .lazy(!needed);
        let mut backend = match url {
            // The endpoint is host and port alone: what a URL has besides may be secret.
            Some(_) => format!("{} (from {SERVER})", config.endpoint()),
            None => format!("embedded ({SERVER} is not set)"),
        };
        // Before the client, whose metrics have their handles from its beginning.
        let recorder = recorder()?;
        let mut listener = None;
        let client = match look_in {
            None => redkit::connect_with(config).await,
            Some(_) if url.is_some() => return Err(ShopError::NothingToLookInto),
            Some(addr) => {
                let engine = Embedded::new();
                let listening = engine.listen(addr).await?;
                backend.push_str(&format!(", for redis-cli at {}", listening.addr()));
                listener = Some(listening);
                Client::from_backend(Arc::new(engine), &config)
            }
        }
        .map_err(ShopError::Connect)?;
        let (folder, path) = match database {
            Some(path) => (None, path.to_owned()),
            None => {
                let folder = TempDir::with_prefix("storefront-").map_err(ShopError::Temporary)?;
                let path = folder.path().join("catalogue.db");
                (Some(folder), path)
            }
        };
        let catalogue = Catalogue::open(&path).await?;
        let database = match folder {
            Some(_) => format!("{} (temporary)", path.display()),
            None => path.display().to_string(),
        };
        // Keys that belong to this catalogue only: ids of another mean other products.
        let own = client
            .with_namespace(&format!("storefront-{}", catalogue.identity()))
            .map_err(ShopError::Connect)?;
        let parts = Parts {
            catalogue: Arc::new(CachedCatalogue::new(&own, catalogue.clone())?),
            popular: Popular::new(&own)?,
            // When Redis is down, a shop that takes every change is better than one that takes none.
            changes: RateLimiter::builder(&own, "changes")
                .policy(Policy::gcra(CHANGES))
                .on_outage(OnOutage::Open)
                .build()?,
        };
        // The shop sells from its database without it, so nobody needs to be sent elsewhere.
        let cache = Dependency::soft("cache", &own);
        let health = Health::builder()
            .dependency(cache)
            .timeout(PATIENCE)
            .build()?;
        Ok(Self {
            exporter: Exporter::new(recorder, &health)?,
            health,
            client,
            catalogue,
            parts,
            backend,
            database,
            _listener: listener,
            _folder: folder,
        })
    }

    /// The shop's routes. Health and metrics are among them for trying out: a shop in earnest has them on a port
    /// of their own, which its visitors cannot reach.
    pub(crate) fn router(&self) -> Router {
        let health = self.health.routes().merge(self.health.deep_route());
        routes::router(self.parts.clone())
            .nest("/health", health)
            .merge(self.exporter.routes())
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

    /// Closes the connections.
    pub(crate) async fn close(self) {
        self.client.shutdown().await;
        self.catalogue.close().await;
    }
}

/// This process's recorder of metrics, which is one for all shops in it.
fn recorder() -> Result<PrometheusHandle, redkit::monitor::Error> {
    static RECORDER: Mutex<Option<PrometheusHandle>> = Mutex::new(None);
    let mut recorder = RECORDER.lock().unwrap_or_else(PoisonError::into_inner);
    match &*recorder {
        Some(recorder) => Ok(recorder.clone()),
        None => Ok(recorder.insert(prometheus::install()?).clone()),
    }
}

/// Which backend and which database; never a credential.
impl fmt::Display for Shop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "backend: {} | database: {}", self.backend, self.database)
    }
}

/// Why the shop does not open.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ShopError {
    /// `REDIS_URL` is not text.
    #[error("{SERVER} is not valid UTF-8")]
    NotUnicode,
    /// `REDIS_URL` is malformed.
    #[error("{SERVER} cannot be used")]
    Config(#[source] redkit::ConfigError),
    /// The backend refused the settings, or cannot be reached and is needed.
    #[error("the backend cannot be used")]
    Connect(#[source] redkit::Error),
    /// A server is used, and no engine in this process.
    #[error(
        "{SERVER} is set, so there is no engine to look into; point redis-cli at that server, or leave --listen-redis out"
    )]
    NothingToLookInto,
    /// The engine cannot be served.
    #[error("--listen-redis cannot be used")]
    Listen(#[from] ListenError),
    /// There is no place for temporary files.
    #[error("no temporary folder can be made; give --database PATH")]
    Temporary(#[source] std::io::Error),
    /// The database.
    #[error(transparent)]
    Database(#[from] OpenError),
    /// The caches.
    #[error("the cache's settings are refused")]
    Caches(#[from] redkit::cache::Error),
    /// The counts of visits.
    #[error("the settings of the counts of visits are refused")]
    Popular(#[from] redkit::collections::Error),
    /// The limits.
    #[error("the limits are refused")]
    Limits(#[from] redkit::ratelimit::Error),
    /// Health and metrics.
    #[error("the monitoring's settings are refused")]
    Monitoring(#[from] redkit::monitor::Error),
}
