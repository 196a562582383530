//! The shop put together: its database, its connection, what stands between them, and what goes on besides.

use std::fmt;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::Router;
use redkit::embedded::ListenError;
use redkit::monitor::dashboard::Dashboard;
use redkit::monitor::prometheus::{self, Exporter, RecorderHandle};
use redkit::monitor::{Dependency, Health};
use redkit::ratelimit::tower::ClientAddress;
use redkit::ratelimit::{OnOutage, Policy, Quota, RateLimiter};
use redkit::session::{OnLimit, SessionStore};
use tempfile::TempDir;

use crate::accounts::Accounts;
use crate::background::{Background, Work};
use crate::cached::CachedCatalogue;
use crate::catalogue::{Catalogue, OpenError};
use crate::connection::{Connection, SERVER};
use crate::jobs::Jobs;
use crate::limits::Limits;
use crate::notifications::Notifications;
use crate::orders::{Events, Orders, OrdersError};
use crate::popular::Popular;
use crate::routes::{self, Parts, StaffOnly};
use crate::secrets::{Secrets, SecretsError};

/// How many changes one address may make, and how many of them at once.
pub(crate) const CHANGES: Quota = Quota::per_minute(60).burst(20);

/// How long a page waits for what it can do without.
const LOOK: Duration = Duration::from_millis(250);

/// How long an open page of a signed-out visitor gets notifications at most, whatever the network does.
const REVOCATION_BOUND: Duration = Duration::from_secs(10);

/// How a shop is set up.
#[derive(Debug, Clone)]
pub(crate) struct Settings {
    /// The database's file; without it, a temporary one.
    pub(crate) database: Option<PathBuf>,
    /// Whether Redis has to be there at the start.
    pub(crate) needs_redis: bool,
    /// Where an engine in this process is served to other programs.
    pub(crate) look_in: Option<SocketAddr>,
    /// Proxies that say which address a visitor has.
    pub(crate) trusted: Vec<String>,
    /// How long an order can be cancelled.
    pub(crate) ship_after: Duration,
    /// Whether the cache is warmed at the start.
    pub(crate) warms: bool,
}

/// A shop that is ready to serve. It is to be [closed](Shop::close).
pub(crate) struct Shop {
    pub(crate) catalogue: Catalogue,
    pub(crate) connection: Connection,
    parts: Parts,
    health: Health,
    exporter: Exporter,
    background: Arc<Background>,
    database: PathBuf,
    /// Holds the temporary database; removed with the shop.
    folder: Option<TempDir>,
}

impl Shop {
    /// Opens the database, connects, and starts what goes on besides requests. A server that cannot be reached yet is
    /// no obstacle unless it is needed: the shop sells from its database until then.
    ///
    /// # Errors
    /// [`ShopError`], which says what is in the way.
    pub(crate) async fn open(settings: &Settings) -> Result<Self, ShopError> {
        // Before the client, whose metrics have their handles from its beginning.
        let recorder = recorder()?;
        let connection = Connection::open(settings.needs_redis, settings.look_in).await?;
        let (folder, database) = place(settings.database.as_deref())?;
        let catalogue = Catalogue::open(&database).await?;
        // Keys that belong to this catalogue only: ids of another mean other products.
        let client = connection
            .client
            .with_namespace(&format!("storefront-{}", catalogue.identity()))
            .map_err(ShopError::Connect)?;
        let secrets = Secrets::read(catalogue.pool()).await?;
        // The shop sells from its database without it, so nobody needs to be sent elsewhere.
        let health = Health::builder()
            .dependency(Dependency::soft("cache", &client))
            .timeout(LOOK)
            .build()?;
        let cached = Arc::new(CachedCatalogue::new(&client, catalogue.clone())?);
        let hasty = client.with_budget(LOOK).map_err(ShopError::Connect)?;
        let popular = Popular::new(&hasty)?;
        let pool = catalogue.pool().clone();
        let work = Work {
            orders: Orders::new(&client, secrets.personal.clone(), pool.clone())?,
            events: Events::new(&client, settings.ship_after)?,
            notifications: Notifications::new(&client)?,
            jobs: Jobs::new(&client, Arc::clone(&cached), popular.clone())?,
            warms: settings.warms,
        };
        let background = Arc::new(Background::start(&client, &health, &work)?);
        let dashboard = Dashboard::builder(&client)
            .program("storefront")
            .health(&health)
            .access(StaffOnly)
            .command_key(secrets.commands)
            .start()?;
        let parts = Parts {
            dashboard,
            catalogue: cached,
            popular,
            // When Redis is down, a shop that takes every change is better than one that takes none.
            changes: RateLimiter::builder(&client, "changes")
                .policy(Policy::gcra(CHANGES))
                .on_outage(OnOutage::Open)
                .build()?,
            accounts: Accounts::new(&client, secrets.personal, pool)?,
            addresses: ClientAddress::new()
                .trusting(settings.trusted.iter().map(String::as_str))?,
            limits: Limits::new(&client)?,
            sessions: SessionStore::builder(&client, "web", secrets.sessions)
                .max_sessions(20, OnLimit::EndOldest)
                .revocation_bound(REVOCATION_BOUND)
                .build()?,
            orders: work.orders,
            events: work.events,
            notifications: work.notifications,
            jobs: work.jobs,
            health: health.clone(),
            background: Arc::clone(&background),
        };
        Ok(Self {
            exporter: Exporter::new(recorder, &health)?,
            health,
            catalogue,
            connection,
            parts,
            background,
            database,
            folder,
        })
    }

    /// The shop's routes. Health and metrics are among them for trying out: a shop in earnest has them on a port
    /// of their own, which its visitors cannot reach.
    ///
    /// # Errors
    /// When the settings of a layer are refused.
    pub(crate) fn router(&self) -> Result<Router, ShopError> {
        let health = self.health.routes().merge(self.health.deep_route());
        Ok(routes::router(self.parts.clone())?
            .nest("/health", health)
            .merge(self.exporter.routes()))
    }

    /// The database's file.
    pub(crate) fn database(&self) -> &Path {
        &self.database
    }

    /// Ends what would keep a server from ending: streams to browsers, the dashboard's among them.
    pub(crate) fn stop(&self) -> impl Future<Output = ()> + Send + 'static + use<> {
        let background = Arc::clone(&self.background);
        let dashboard = self.parts.dashboard.clone();
        async move {
            background.stop();
            dashboard.shutdown().await;
        }
    }

    /// The customers' accounts.
    pub(crate) fn accounts(&self) -> &Accounts {
        &self.parts.accounts
    }

    /// The jobs of the fleet.
    pub(crate) fn jobs(&self) -> &Jobs {
        &self.parts.jobs
    }

    /// Ends what goes on, and closes the connections.
    pub(crate) async fn close(self) {
        self.background.shutdown().await;
        self.parts.dashboard.shutdown().await;
        self.connection.client.shutdown().await;
        self.catalogue.close().await;
    }
}

/// Where the database is: at a path of the visitor's, or in a folder that goes with the shop.
fn place(database: Option<&Path>) -> Result<(Option<TempDir>, PathBuf), ShopError> {
    match database {
        Some(path) => Ok((None, path.to_owned())),
        None => {
            let folder = TempDir::with_prefix("storefront-").map_err(ShopError::Temporary)?;
            let path = folder.path().join("catalogue.db");
            Ok((Some(folder), path))
        }
    }
}

/// This process's recorder of metrics, which is one for all shops in it.
fn recorder() -> Result<RecorderHandle, redkit::monitor::Error> {
    static RECORDER: Mutex<Option<RecorderHandle>> = Mutex::new(None);
    let mut recorder = RECORDER.lock().unwrap_or_else(PoisonError::into_inner);
    match &*recorder {
        Some(recorder) => Ok(recorder.clone()),
        None => Ok(recorder.insert(prometheus::install()?).clone()),
    }
}

/// Which backend and which database; never a credential.
impl fmt::Display for Shop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (backend, database) = (&self.connection, self.database.display());
        let temporary = if self.folder.is_some() {
            " (temporary)"
        } else {
            ""
        };
        write!(f, "backend: {backend} | database: {database}{temporary}")
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
    /// The secrets.
    #[error("the shop's secrets cannot be used")]
    Secrets(#[from] SecretsError),
    /// Orders, and what is told of them.
    #[error(transparent)]
    Orders(#[from] OrdersError),
    /// Messages.
    #[error("the settings of messages are refused")]
    Messages(#[from] redkit::pubsub::Error),
    /// Sessions.
    #[error("the settings of sessions are refused")]
    Sessions(#[from] redkit::session::Error),
    /// Health and metrics.
    #[error("the monitoring's settings are refused")]
    Monitoring(#[from] redkit::monitor::Error),
}

#[cfg(test)]
mod tests {
    use redkit::monitor::Status;

    use super::*;

    #[tokio::test]
    async fn a_shop_that_has_closed_misses_none_of_its_tasks() {
        let settings = Settings {
            database: None,
            needs_redis: false,
            look_in: None,
            trusted: Vec::new(),
            ship_after: Duration::from_secs(60),
            warms: false,
        };
        let shop = Shop::open(&settings).await.unwrap();
        let health = shop.health.clone();
        assert_eq!(health.live().status, Status::Pass);
        shop.close().await;
        assert_eq!(health.live().status, Status::Pass);
    }
}
