//! The dashboard: a page for people that shows all instances of a program that share the Redis, and does what its
//! viewers have a right to.
//!
//! ```
//! use redkit_monitor::dashboard::{Dashboard, Rights, Viewer};
//! use axum::http::request::Parts;
//!
//! # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let config = redkit_core::ClientConfig::from_url("embedded://")?;
//! # let client = redkit_core::Client::from_backend(std::sync::Arc::new(redkit_embedded::Embedded::new()), &config)?;
//! let dashboard = Dashboard::builder(&client)
//!     .program("shop")
//!     .access(|request: &Parts| {
//!         // Yours: a session, a proxy's header, …
//!         let user = request.headers.get("x-user")?.to_str().ok()?;
//!         let rights = Rights::read_only().action("topic", "redrive");
//!         Some(Viewer::new(user, rights))
//!     })
//!     .start()?; // this instance is shown from now on
//!
//! let app: axum::Router = axum::Router::new().nest("/admin", dashboard.routes());
//! # let _ = app;
//! // … when the program ends:
//! dashboard.shutdown().await;
//! # Ok(()) }
//! ```
//!
//! # What it shows
//! Each instance publishes how it and the objects that use its client stand ([`Client::inspect`]), under a key that
//! expires: every five seconds, and every second while somebody watches. A process with an open page reads them all
//! once a second for all its pages, and asks the servers for their figures. All instances whose clients have one
//! [namespace](Client::namespace) are one fleet. `docs/dashboard.md` tells what it costs.
//!
//! # Rights
//! [`Access`] resolves each request to a [`Viewer`] with [`Rights`]. Without one, everybody who reaches the routes reads,
//! without payloads, and may do nothing. Rights are enforced here for each request; the page only hides what there is no
//! right to. Requests that may change something must come from the page itself (`Sec-Fetch-Site`, or `Origin`). Each
//! action is noted in an audit before it is done and after, and is not done when it cannot be noted.
//!
//! An action is done in this process when it has the object. Otherwise it is handed to an instance that has it, as an
//! order sealed with the [command key](DashboardBuilder::command_key) which all instances share, good for twenty seconds
//! and done once at most.
//!
//! # When Redis is down
//! The page stays and says so; this process's own figures go on. Actions are refused, because they could not be noted,
//! except that nothing hinders a program from acting on its objects itself ([`Inspect`](redkit_core::Inspect)).

mod access;
mod assets;
mod attention;
mod audit;
mod census;
mod collector;
mod fleet;
mod instance;
mod keys;
mod keyspace;
mod losses;
mod orders;
mod published;
mod redaction;
mod routes;
mod servers;

use std::fmt;
use std::sync::Arc;

use axum::Router;
use parking_lot::Mutex;
use redkit_core::{Client, ConfigError};
use secrecy::{ExposeSecret, SecretString};
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use self::access::Anonymous;
pub use self::access::{Access, Rights, Viewer};
use self::audit::Audit;
use self::collector::Collector;
use self::instance::Instance;
use self::keys::{Keys, check_label};
use self::keyspace::KeyspaceView;
use self::orders::Seal;
use self::redaction::Redaction;
use crate::error::Error;
use crate::health::Health;

/// This instance's part in the dashboard: it is shown as long as this, or a clone, is held. Cloning is cheap.
///
/// See the [module](self).
#[derive(Clone)]
pub struct Dashboard {
    inner: Arc<Inner>,
    publisher: Arc<Mutex<Option<AbortOnDropHandle<()>>>>,
}

struct Inner {
    instance: Arc<Instance>,
    collector: Arc<Collector>,
    access: Arc<dyn Access>,
    audit: Audit,
    keyspace: KeyspaceView,
    /// Ends the streams of open pages.
    ended: CancellationToken,
}

impl Dashboard {
    /// Settings of the dashboard of the instances that share `client`'s servers and namespace.
    pub fn builder(client: &Client) -> DashboardBuilder {
        DashboardBuilder {
            client: client.clone(),
            program: None,
            health: None,
            access: Arc::new(Anonymous),
            command_key: None,
            redaction: Redaction::default(),
            is_observer: false,
        }
    }

    /// The routes of the page, to be nested where people look for it: `app.nest("/admin", dashboard.routes())`. All its
    /// links are relative. What stands before it (a session's layer, a login) sees its requests first.
    pub fn routes<S: Clone + Send + Sync + 'static>(&self) -> Router<S> {
        routes::router(&self.inner).with_state(())
    }

    /// Is shown no more. The streams of pages that are open in this process end at once, and no new one begins: call it
    /// at the signal to stop, not after the server has ended, since a server that waits for its connections waits for
    /// these.
    ///
    /// ```no_run
    /// # async fn serve(dashboard: redkit_monitor::dashboard::Dashboard) -> std::io::Result<()> {
    /// let app: axum::Router = axum::Router::new().nest("/admin", dashboard.routes());
    /// let listener = tokio::net::TcpListener::bind("127.0.0.1:8080").await?;
    /// // What systemd, Docker and Kubernetes send to end a program; Ctrl-C is `SignalKind::interrupt`.
    /// use tokio::signal::unix::{SignalKind, signal};
    /// let mut terminate = signal(SignalKind::terminate())?;
    /// let stop = async move {
    ///     terminate.recv().await;
    ///     dashboard.shutdown().await;
    /// };
    /// axum::serve(listener, app).with_graceful_shutdown(stop).await
    /// # }
    /// ```
    pub async fn shutdown(&self) {
        self.inner.ended.cancel();
        let publisher = self.publisher.lock().take();
        if let Some(publisher) = publisher {
            drop(publisher);
            self.inner.instance.leave().await;
        }
    }
}

impl fmt::Debug for Dashboard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Dashboard")
            .field("namespace", &self.inner.instance.client.namespace())
            .field("is_observer", &self.inner.instance.is_observer)
            .finish_non_exhaustive()
    }
}

/// Settings of a [`Dashboard`].
#[must_use = "it does nothing until `start`"]
pub struct DashboardBuilder {
    client: Client,
    program: Option<String>,
    health: Option<Health>,
    access: Arc<dyn Access>,
    command_key: Option<SecretString>,
    redaction: Redaction,
    is_observer: bool,
}

impl DashboardBuilder {
    /// The program's name on the page. Default: the executable's.
    pub fn program(mut self, name: impl Into<String>) -> Self {
        self.program = Some(name.into());
        self
    }

    /// Shows the dependencies as this sees them, and the objects of their clients. Default: the one client, with its
    /// state and circuit breaker.
    pub fn health(mut self, health: &Health) -> Self {
        self.health = Some(health.clone());
        self
    }

    /// Resolves requests to viewers and their rights. Default: everybody reads, without payloads.
    pub fn access(mut self, access: impl Access) -> Self {
        self.access = Arc::new(access);
        self
    }

    /// The key with which instances seal what they order each other, and what comes of it, at least 32 bytes, the same in all of them. Without
    /// it this instance gives and takes no orders: only objects of the process that serves the page can be acted on.
    pub fn command_key(mut self, key: SecretString) -> Self {
        self.command_key = Some(key);
        self
    }

    /// Decides what is shown of payloads, to viewers who may see payloads at all: it is given the field (`payload`,
    /// `headers`, `key`, `device`; `arguments` in the slow log) and the text, and gives what is shown, or nothing to hide
    /// it. It is asked in the process that has the object, before anything leaves it, and once more in the process
    /// that serves the page, by the hook of each.
    pub fn redact(
        mut self,
        redact: impl Fn(&str, &str) -> Option<String> + Send + Sync + 'static,
    ) -> Self {
        self.redaction = Redaction::new(Arc::new(redact));
        self
    }

    /// Looks at the program's instances and is none of them: for operators' tools.
    pub fn observer(mut self) -> Self {
        self.is_observer = true;
        self
    }

    /// Shows this instance from now on. Must be called from within a runtime.
    ///
    /// # Errors
    /// [`Error::Core`] with the setting that cannot work.
    pub fn start(self) -> Result<Dashboard, Error> {
        let program = self.program.unwrap_or_else(executable);
        check_label("program", &program)?;
        if let Some(key) = &self.command_key
            && key.expose_secret().len() < 32
        {
            let problem = "it is shorter than 32 bytes";
            let fix = "give a random text, the same in all instances";
            return Err(ConfigError::new("command_key", problem, fix).into());
        }
        let keys = Keys::new(&self.client)?;
        let audit = Audit::new(&self.client, &keys);
        let seal = self.command_key.as_ref().and_then(Seal::new);
        let (client, health) = (self.client, self.health);
        let instance = Instance::new(
            client,
            keys,
            program,
            self.is_observer,
            seal,
            self.redaction,
            health,
        );
        let instance = Arc::new(instance);
        let publisher = (!self.is_observer)
            .then(|| AbortOnDropHandle::new(tokio::spawn(Arc::clone(&instance).run())));
        Ok(Dashboard {
            inner: Arc::new(Inner {
                collector: Collector::new(Arc::clone(&instance)),
                instance,
                access: self.access,
                audit,
                keyspace: KeyspaceView::default(),
                ended: CancellationToken::new(),
            }),
            publisher: Arc::new(Mutex::new(publisher)),
        })
    }
}

impl fmt::Debug for DashboardBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DashboardBuilder")
            .field("program", &self.program)
            .field("has_command_key", &self.command_key.is_some())
            .field("is_observer", &self.is_observer)
            .finish_non_exhaustive()
    }
}

fn executable() -> String {
    let path = std::env::current_exe().ok();
    let name = path.as_deref().and_then(std::path::Path::file_stem);
    name.map_or_else(
        || "program".to_owned(),
        |name| name.to_string_lossy().into_owned(),
    )
}
