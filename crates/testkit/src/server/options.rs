//! [`ServerOptions`]: how a server is set up, and what follows for its configuration and its URL.

use std::fmt;
use std::net::SocketAddr;
use std::path::Path;

use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};

use super::Tls;

/// How a [`Server`](crate::Server) is set up. The default is a server without password, TLS and persistence.
#[derive(Debug, Clone, Default)]
pub struct ServerOptions {
    pub(super) password: Option<String>,
    pub(super) tls: bool,
    pub(super) has_expired: bool,
    wants_clients: bool,
    pub(super) unix_url: bool,
    /// The certificates of another server, which then has to outlive this one.
    pub(super) tls_of: Option<Tls>,
    pub(super) cluster_node: bool,
    pub(super) sentinel: bool,
    lines: Vec<String>,
}

impl ServerOptions {
    /// The default.
    pub fn new() -> Self {
        Self::default()
    }

    /// Demands this password.
    #[must_use]
    pub fn password(mut self, password: &str) -> Self {
        self.password = Some(password.to_owned());
        self
    }

    pub(crate) fn has_password(&self) -> bool {
        self.password.is_some()
    }

    /// Speaks TLS, and nothing else, on its port.
    #[must_use]
    pub fn tls(mut self) -> Self {
        self.tls = true;
        self
    }

    /// Speaks TLS with a certificate that is over.
    #[must_use]
    pub fn expired_tls(mut self) -> Self {
        self.has_expired = true;
        self.tls()
    }

    /// Speaks TLS, and demands a client's certificate, which its [`Server::url`](crate::Server::url)
    /// names; [`Tls`](crate::Tls) has the files.
    #[must_use]
    pub fn mutual_tls(mut self) -> Self {
        self.wants_clients = true;
        self.tls()
    }

    /// Gives the unix socket as its [`Server::url`](crate::Server::url). Every server has one beside its port.
    #[must_use]
    pub fn unix(mut self) -> Self {
        self.unix_url = true;
        self
    }

    /// Adds a line to the configuration file: `appendonly yes`. A later line wins.
    #[must_use]
    pub fn config(mut self, line: &str) -> Self {
        self.lines.push(line.to_owned());
        self
    }

    /// Adds lines before those of [`ServerOptions::config`], which win over them.
    pub(crate) fn first(mut self, lines: impl Iterator<Item = String>) -> Self {
        self.lines.splice(0..0, lines);
        self
    }

    /// Makes it a cluster's node, whose bus has a free port of its own.
    pub(crate) fn cluster_node(mut self) -> Self {
        self.cluster_node = true;
        self.first(std::iter::once("cluster-enabled yes".to_owned()))
    }

    /// Makes it a sentinel, which takes other commands than a server.
    pub(crate) fn sentinel(mut self) -> Self {
        self.sentinel = true;
        self
    }

    /// Speaks TLS with the certificates of another server.
    pub(crate) fn tls_of(mut self, tls: Tls) -> Self {
        self.tls_of = Some(tls);
        self
    }

    /// The configuration file of a server with these options.
    pub(super) fn configuration(
        &self,
        port: u16,
        folder: &Path,
        socket: &Path,
        tls: Option<&Tls>,
    ) -> String {
        let mut lines = vec![
            "bind 127.0.0.1".to_owned(),
            "daemonize no".to_owned(),
            format!("dir \"{}\"", folder.display()),
            format!("unixsocket \"{}\"", socket.display()),
            // Persistence costs time, and a fork in the middle of a timing test.
            "save \"\"".to_owned(),
            "appendonly no".to_owned(),
            // For DEBUG SLEEP and the like, from this machine only.
            "enable-debug-command local".to_owned(),
        ];
        match tls {
            None => lines.push(format!("port {port}")),
            Some(tls) => lines.extend([
                "port 0".to_owned(),
                format!("tls-port {port}"),
                format!("tls-cert-file \"{}\"", tls.certificate_file.display()),
                format!("tls-key-file \"{}\"", tls.key_file.display()),
                format!("tls-ca-cert-file \"{}\"", tls.ca_file.display()),
                format!(
                    "tls-auth-clients {}",
                    if self.wants_clients { "yes" } else { "no" }
                ),
            ]),
        }
        if let Some(password) = &self.password {
            lines.push(format!("requirepass \"{password}\""));
            // For its master, if it becomes a replica.
            lines.push(format!("masterauth \"{password}\""));
        }
        lines.extend(self.lines.iter().cloned());
        lines.join("\n") + "\n"
    }

    /// The URL of a server with these options at `addr`.
    pub(super) fn url(&self, addr: SocketAddr, tls: Option<&Tls>) -> String {
        let url = url("redis", self.password.as_deref(), &[addr], "", tls, None);
        match tls.filter(|_| self.wants_clients) {
            None => url,
            Some(tls) => format!(
                "{url}&tls_client_cert_file={}&tls_client_key_file={}",
                escape(&tls.client_certificate_file.to_string_lossy()),
                escape(&tls.client_key_file.to_string_lossy())
            ),
        }
    }

    /// The URL of such a server's unix socket.
    pub(super) fn unix_url(&self, socket: &Path) -> String {
        let socket = socket.display();
        match &self.password {
            Some(password) => format!("unix://{socket}?password={}", escape(password)),
            None => format!("unix://{socket}"),
        }
    }
}

/// `scheme://:password@addr,addr/path?parameter=…`, over TLS if there are certificates.
pub(crate) fn url(
    scheme: &str,
    password: Option<&str>,
    addrs: &[SocketAddr],
    path: &str,
    tls: Option<&Tls>,
    parameter: Option<(&str, &str)>,
) -> String {
    let credentials = match password {
        Some(password) => format!(":{}@", escape(password)),
        None => String::new(),
    };
    let addrs: Vec<_> = addrs.iter().map(SocketAddr::to_string).collect();
    let scheme = match (tls, scheme.split_once('-')) {
        (None, _) => scheme.to_owned(),
        (Some(_), None) => "rediss".to_owned(),
        (Some(_), Some((_, topology))) => format!("rediss-{topology}"),
    };
    let ca_file = tls.map(|tls| tls.ca_file.to_string_lossy());
    let query: Vec<_> = [
        ca_file.as_deref().map(|file| ("tls_ca_file", file)),
        parameter,
    ]
    .into_iter()
    .flatten()
    .map(|(name, value)| format!("{name}={}", escape(value)))
    .collect();
    let question = if query.is_empty() { "" } else { "?" };
    let (addrs, query) = (addrs.join(","), query.join("&"));
    format!("{scheme}://{credentials}{addrs}{path}{question}{query}")
}

fn escape(text: &str) -> impl fmt::Display {
    utf8_percent_encode(text, NON_ALPHANUMERIC)
}
