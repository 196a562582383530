//! [`Endpoint`]: where the servers are.

use std::fmt;
use std::path::PathBuf;

/// Where the servers are.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Endpoint {
    /// One server over TCP.
    Standalone(Address),
    /// One server over a unix socket.
    Unix(PathBuf),
    /// Some nodes of a cluster; the rest is discovered.
    Cluster(Vec<Address>),
    /// The master of this name, as these sentinels say.
    Sentinel {
        /// The sentinels.
        sentinels: Vec<Address>,
        /// The master's name.
        master: String,
    },
    /// An engine in this process.
    Embedded {
        /// Clients of the same name share one engine; a client without a name has its own.
        name: Option<String>,
    },
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let list = |f: &mut fmt::Formatter<'_>, all: &[Address]| {
            all.iter().enumerate().try_for_each(|(i, address)| {
                write!(f, "{}{address}", if i == 0 { "" } else { "," })
            })
        };
        match self {
            Endpoint::Standalone(address) => address.fmt(f),
            Endpoint::Unix(path) => path.display().fmt(f),
            Endpoint::Cluster(nodes) => list(f, nodes),
            Endpoint::Sentinel { sentinels, master } => {
                list(f, sentinels)?;
                write!(f, "/{master}")
            }
            Endpoint::Embedded { name: None } => f.write_str("embedded"),
            Endpoint::Embedded { name: Some(name) } => write!(f, "embedded/{name}"),
        }
    }
}

/// What carries the commands to a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum Driver {
    /// The connection of this crate's own: every topology. The default.
    #[default]
    Native,
    /// The `fred` crate: one server only. Needs the feature `fred`.
    Fred,
}

/// A host and a port.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Address {
    /// A name or an IP address (IPv6 without brackets).
    pub host: String,
    /// The port.
    pub port: u16,
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            return write!(f, "[{}]:{}", self.host, self.port);
        }
        write!(f, "{}:{}", self.host, self.port)
    }
}
