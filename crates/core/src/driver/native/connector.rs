//! How connections of our own are made.

#[cfg(unix)]
use std::path::PathBuf;
#[cfg(feature = "tls")]
use std::sync::Arc;

use async_trait::async_trait;

use super::connection::{NoPushes, Pushes};
use super::handshake::{Introduction, introduce};
use super::link::NativeLink;
#[cfg(feature = "tls")]
use super::split::split;
#[cfg(feature = "tls")]
use super::wire::close_socket;
use crate::config::{Address, ClientConfig, ConfigError, Endpoint};
use crate::driver::hello::Expected;
use crate::driver::link::{Connector, ServerConnector};
use crate::driver::stream;
#[cfg(feature = "tls")]
use crate::driver::tls::Tls;
use crate::error::Fault;

/// Makes connections to one server.
#[derive(Clone)]
pub(in crate::driver) struct NativeConnector {
    place: Place,
    introduction: Introduction,
    expected: Expected,
}

#[derive(Clone)]
enum Place {
    Tcp(Address),
    #[cfg(feature = "tls")]
    Tls(Address, Arc<Tls>),
    #[cfg(unix)]
    Unix(PathBuf),
}

impl NativeConnector {
    pub(in crate::driver) fn new(config: &ClientConfig) -> Result<Self, ConfigError> {
        Ok(Self {
            place: place(config)?,
            introduction: Introduction::new(config),
            expected: Expected::of(&config.endpoint),
        })
    }

    /// The same with other credentials: sentinels have their own, and no databases.
    pub(in crate::driver) fn for_sentinel(&self, config: &ClientConfig) -> Self {
        Self {
            introduction: Introduction::to_sentinel(config),
            ..self.clone()
        }
    }

    /// Makes a connection that hands pushed frames to `pushes`.
    pub(super) async fn connect_with(&self, pushes: Box<dyn Pushes>) -> Result<NativeLink, Fault> {
        let (link, is_encrypted) = match &self.place {
            Place::Tcp(address) => {
                let (read, write) = stream::connect_tcp(address).await?.into_split();
                (
                    NativeLink::start(Box::new(read), Box::new(write), pushes),
                    false,
                )
            }
            #[cfg(feature = "tls")]
            Place::Tls(address, tls) => {
                let tcp = stream::connect_tcp(address).await?;
                let (read, write) = split(tls.wrap(tcp, address).await?, |stream| {
                    close_socket(stream.get_ref().0);
                });
                (NativeLink::start(read, write, pushes), true)
            }
            #[cfg(unix)]
            Place::Unix(path) => {
                let (read, write) = stream::connect_unix(path).await?.into_split();
                // A socket file cannot want TLS.
                (
                    NativeLink::start(Box::new(read), Box::new(write), pushes),
                    true,
                )
            }
        };
        let mut link = link;
        let target = self.target();
        if let Some(hello) = introduce(&link, &self.introduction, &target, is_encrypted).await? {
            hello.check(self.expected, &target)?;
            // Of a server that is refused nothing else is said.
            self.introduction.warn_of_old(&hello, &target);
            link.is(&hello);
        }
        Ok(link)
    }
}

#[async_trait]
impl Connector for NativeConnector {
    type Link = NativeLink;

    async fn connect(&self) -> Result<NativeLink, Fault> {
        self.connect_with(Box::new(NoPushes)).await
    }

    fn target(&self) -> String {
        match &self.place {
            Place::Tcp(address) => address.to_string(),
            #[cfg(feature = "tls")]
            Place::Tls(address, _) => address.to_string(),
            #[cfg(unix)]
            Place::Unix(path) => path.display().to_string(),
        }
    }
}

impl ServerConnector for NativeConnector {
    fn at(&self, address: &Address) -> Self {
        let place = match &self.place {
            #[cfg(feature = "tls")]
            Place::Tls(_, tls) => Place::Tls(address.clone(), Arc::clone(tls)),
            _ => Place::Tcp(address.clone()),
        };
        Self {
            place,
            ..self.clone()
        }
    }
}

/// Where `config` connects to; for a cluster or sentinels the first of their addresses, from which
/// [`NativeConnector::at`] goes to the others.
fn place(config: &ClientConfig) -> Result<Place, ConfigError> {
    let none = || ConfigError::new("url", "it names no host", "name at least one");
    let address = match &config.endpoint {
        Endpoint::Standalone(address) => address,
        Endpoint::Cluster(nodes) => nodes.first().ok_or_else(none)?,
        Endpoint::Sentinel { sentinels, .. } => sentinels.first().ok_or_else(none)?,
        #[cfg(unix)]
        Endpoint::Unix(path) if config.tls.is_none() => return Ok(Place::Unix(path.clone())),
        Endpoint::Unix(_) => {
            return Err(ConfigError::new(
                "unix_socket",
                "a unix socket carries no TLS, and exists on unix systems only",
                "take `tls` out, or connect over TCP",
            ));
        }
        Endpoint::Embedded { .. } => {
            return Err(ConfigError::new(
                "url",
                "redkit-core has no engine of its own",
                "use `redkit::connect` with the feature `embedded`, or `Client::from_backend` with \
                 redkit-embedded's `Embedded`",
            ));
        }
    };
    match &config.tls {
        None => Ok(Place::Tcp(address.clone())),
        #[cfg(feature = "tls")]
        Some(tls) => Ok(Place::Tls(address.clone(), Arc::new(Tls::new(tls)?))),
        #[cfg(not(feature = "tls"))]
        Some(_) => Err(ConfigError::new(
            "tls",
            "this build has no TLS",
            "enable the feature `tls` of redkit-core, or write redis:// for a plain connection",
        )),
    }
}
