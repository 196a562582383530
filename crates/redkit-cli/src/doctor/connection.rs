//! The way to the servers.

use std::net::IpAddr;

use redkit_core::{Client, ClientConfig, Endpoint, ServerKind};

use super::finding::Finding;
use crate::failure::remedy_of;

/// Whether others can read what is sent, and who may connect.
pub(super) fn transport(config: &ClientConfig) -> Vec<Finding> {
    if is_local(config.endpoint()) {
        return vec![Finding::ok("transport", "within this machine")];
    }
    let mut findings = Vec::new();
    if !config.is_encrypted() {
        findings.push(Finding::warning(
            "transport",
            "the connection is not encrypted: the network between reads the password and all data",
            "let the server speak TLS (`tls-port`) and write rediss://",
        ));
    }
    if !config.has_credentials() {
        findings.push(Finding::warning(
            "transport",
            "no password is set: everybody who reaches the port reads and deletes everything",
            "give the programs a user with a password (`ACL SETUSER`), and switch the user `default` off",
        ));
    }
    if findings.is_empty() {
        findings.push(Finding::ok("transport", "TLS, with a password"));
    }
    findings
}

/// Why there is no connection.
pub(super) fn failed(error: &redkit_core::Error) -> Finding {
    Finding::error("connection", error.to_string(), remedy_of(error))
}

/// What the connection is to.
pub(super) fn summary(client: &Client) -> String {
    let capabilities = client.capabilities();
    let (major, minor, patch) = capabilities.version;
    let program = match capabilities.server {
        ServerKind::Redis => "Redis",
        ServerKind::Valkey => "Valkey",
        ServerKind::Embedded => "the embedded engine",
        _ => return "RESP3, a program that does not say which".to_owned(),
    };
    format!("{program} {major}.{minor}.{patch}, RESP3")
}

fn is_local(endpoint: &Endpoint) -> bool {
    let is_loopback = |host: &str| {
        host == "localhost"
            || host
                .parse::<IpAddr>()
                .is_ok_and(|address| address.is_loopback())
    };
    match endpoint {
        Endpoint::Unix(_) | Endpoint::Embedded { .. } => true,
        Endpoint::Standalone(address) => is_loopback(&address.host),
        Endpoint::Cluster(nodes) => nodes.iter().all(|node| is_loopback(&node.host)),
        Endpoint::Sentinel { sentinels, .. } => {
            sentinels.iter().all(|sentinel| is_loopback(&sentinel.host))
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::finding::Severity;

    #[test]
    fn a_server_elsewhere_wants_encryption_and_a_password() {
        let worst = |url: &str| {
            let config = ClientConfig::from_url(url).unwrap();
            let findings = transport(&config);
            let troubles = findings.iter().filter(|one| one.severity > Severity::Ok);
            troubles.count()
        };
        assert_eq!(worst("redis://cache.internal"), 2);
        assert_eq!(worst("redis://ann:secret@cache.internal"), 1);
        assert_eq!(worst("rediss://ann:secret@cache.internal"), 0);
        assert_eq!(worst("redis://localhost"), 0);
        assert_eq!(worst("redis-cluster://127.0.0.1:1,[::1]:2"), 0);
        assert_eq!(worst("redis-cluster://127.0.0.1:1,b:2"), 2);
    }
}
