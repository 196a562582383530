//! [`ServerOptions`]: how a server is set up, and what follows for its configuration and its URL.

use std::fmt;
use std::net::SocketAddr;
use std::path::Path;

use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};

use super::Tls;

/// How a [`Server`] is set up. The default is a server without password, TLS and persistence.
#[derive(Debug, Clone, Default)]
pub struct ServerOptions {
    pub(super) password: Option<String>,
    pub(super) tls: bool,
    pub(super) unix_url: bool,
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

    /// Gives the unix socket as its [`Server::url`]. Every server has one beside its port.
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
                "tls-auth-clients no".to_owned(),
            ]),
        }
        if let Some(password) = &self.password {
            lines.push(format!("requirepass \"{password}\""));
        }
        lines.extend(self.lines.iter().cloned());
        lines.join("\n") + "\n"
    }

    /// The URL of a server with these options at `addr`.
    pub(super) fn url(&self, addr: SocketAddr, tls: Option<&Tls>) -> String {
        let credentials = match &self.password {
            Some(password) => format!(":{}@", escape(password)),
            None => String::new(),
        };
        match tls {
            None => format!("redis://{credentials}{addr}"),
            Some(tls) => {
                let ca_file = escape(&tls.ca_file.to_string_lossy()).to_string();
                format!("rediss://{credentials}{addr}?tls_ca_file={ca_file}")
            }
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

fn escape(text: &str) -> impl fmt::Display {
    utf8_percent_encode(text, NON_ALPHANUMERIC)
}
