//! [`Fixture`]: what a test of a suite is given.

use std::fmt;
use std::sync::Arc;

use redkit_core::{Client, ClientConfig};

use super::BackendKind;
use super::home::{Home, start};
use crate::{Cluster, Error, Sentinels, Server, ServerOptions};

/// A client on a backend, in a namespace that no other test uses.
///
/// The networked backends share one server, one cluster or one set of sentinels per kind and test
/// process: a test that stops it, flushes it or counts its commands takes a
/// [`Fixture::private_server`], or starts a [`Cluster`] or [`Sentinels`] of its own.
pub struct Fixture {
    /// The client.
    pub client: Client,
    /// What it is connected to.
    pub kind: BackendKind,
    namespace: String,
    home: Home,
}

impl Fixture {
    pub(super) async fn new(kind: BackendKind) -> Result<Self, Error> {
        let home = Home::of(kind).await?;
        let namespace = format!("test-{:016x}", rand::random::<u64>());
        let client = connect(kind, &home, config(kind, &home, &namespace)?).await?;
        Ok(Self {
            client,
            kind,
            namespace,
            home,
        })
    }

    /// The namespace of [`Fixture::client`].
    pub fn namespace(&self) -> &str {
        &self.namespace
    }

    /// The URL of the backend, for a program in another process; `embedded://` is an engine of its
    /// own there.
    pub fn url(&self) -> String {
        self.home.url()
    }

    /// The configuration of [`Fixture::client`], to change and give to [`Fixture::connect`].
    ///
    /// # Errors
    /// [`Error::Client`] when core does not take the server's URL.
    pub fn config(&self) -> Result<ClientConfig, Error> {
        config(self.kind, &self.home, &self.namespace)
    }

    /// Another client on the same data: another process's, as far as the data are concerned.
    ///
    /// # Errors
    /// [`Error::Client`] when it does not connect.
    pub async fn connect(&self, config: ClientConfig) -> Result<Client, Error> {
        connect(self.kind, &self.home, config).await
    }

    /// The shared server behind the client; `None` when it is embedded, or several servers.
    pub fn server(&self) -> Option<&'static Server> {
        match self.home {
            Home::Server(server) => Some(server),
            _ => None,
        }
    }

    /// The shared cluster behind the client, where it is one.
    pub fn cluster(&self) -> Option<&'static Cluster> {
        match self.home {
            Home::Cluster(cluster) => Some(cluster),
            _ => None,
        }
    }

    /// The shared sentinels through which the client finds its server, where it does.
    pub fn sentinels(&self) -> Option<&'static Sentinels> {
        match self.home {
            Home::Sentinels(sentinels) => Some(sentinels),
            _ => None,
        }
    }

    /// A server of this backend's kind for this test alone, to be broken as it likes. TLS is added
    /// where the backend is TLS.
    ///
    /// # Errors
    /// [`Error`] when it does not come up, and on a backend that is not one server.
    pub async fn private_server(&self, options: ServerOptions) -> Result<Server, Error> {
        start(self.kind, options).await
    }

    /// The configuration for a client at `url`, through this backend's driver: that of a
    /// [`Fixture::private_server`], or of a proxy before it ([`Server::url_at`]).
    ///
    /// # Errors
    /// [`Error::Client`] when core does not take the URL.
    pub fn config_at(&self, url: &str) -> Result<ClientConfig, Error> {
        ClientConfig::from_url(url)
            .map(|config| config.driver(self.kind.driver()))
            .map_err(no_client(self.kind))
    }
}

impl fmt::Debug for Fixture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Fixture")
            .field("kind", &self.kind)
            .field("namespace", &self.namespace)
            .finish_non_exhaustive()
    }
}

fn config(kind: BackendKind, home: &Home, namespace: &str) -> Result<ClientConfig, Error> {
    ClientConfig::from_url(&home.url())
        .map(|config| config.namespace(namespace).driver(kind.driver()))
        .map_err(no_client(kind))
}

async fn connect(kind: BackendKind, home: &Home, config: ClientConfig) -> Result<Client, Error> {
    match home {
        Home::Embedded(engine) => {
            Client::from_backend(Arc::new(engine.clone()), &config).map_err(no_client(kind))
        }
        _ => Client::connect(config).await.map_err(no_client(kind)),
    }
}

fn no_client<E: fmt::Display>(kind: BackendKind) -> impl FnOnce(E) -> Error {
    move |cause| Error::Client {
        backend: kind.to_string(),
        cause: cause.to_string(),
    }
}
