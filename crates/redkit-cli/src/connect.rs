//! The configuration from command line and environment, and the connection.

use std::collections::BTreeSet;
use std::sync::OnceLock;

use redkit_core::{Client, ClientConfig, Endpoint};
use tokio::runtime::Handle;

use crate::args::Common;
use crate::failure::Failure;

/// How the servers see this program.
const CLIENT_NAME: &str = "redkit-cli";

/// The configuration. What stands in `--url` wins over the environment.
pub(crate) fn config(common: &Common) -> Result<ClientConfig, Failure> {
    remember_secrets(common);
    let mut config = match &common.url {
        Some(url) => {
            if has_password(url) {
                eprintln!(
                    "note: every user of this machine sees the password of --url in `ps`; set REDIS_URL instead"
                );
            }
            ClientConfig::from_env_at(url)?
        }
        None => ClientConfig::from_env()?,
    };
    if matches!(config.endpoint(), Endpoint::Embedded { .. }) {
        return Err(Failure::usage(
            "embedded:// is an engine in this process, in which there is nothing to see",
            "name a server; a program's own engine is reached by what it listens on (`Embedded::listen`)",
        ));
    }
    config = config.client_name(CLIENT_NAME);
    if let Some(namespace) = &common.namespace {
        config = config.namespace(namespace.as_str());
    }
    if let Some(timeout) = common.timeout {
        config = config.connect_timeout(timeout).command_timeout(timeout);
    }
    config.validate()?;
    Ok(config)
}

/// Connects.
pub(crate) async fn client(common: &Common) -> Result<Client, Failure> {
    let config = config(common)?;
    let place = target(&config);
    // A runtime is there: this makes sure that nobody calls it without.
    debug_assert!(Handle::try_current().is_ok());
    match Client::connect(config).await {
        Ok(client) => Ok(client),
        Err(redkit_core::Error::Config(error)) => Err(error.into()),
        Err(error) => Err(Failure::new(
            format!("no connection to {place}: {error}"),
            crate::failure::remedy_of(&error),
        )),
    }
}

/// Where the servers are, without credentials.
pub(crate) fn target(config: &ClientConfig) -> String {
    let scheme = match (config.endpoint(), config.is_encrypted()) {
        (Endpoint::Unix(_), _) => "unix",
        (Endpoint::Cluster(_), false) => "redis-cluster",
        (Endpoint::Cluster(_), true) => "rediss-cluster",
        (Endpoint::Sentinel { .. }, false) => "redis-sentinel",
        (Endpoint::Sentinel { .. }, true) => "rediss-sentinel",
        (_, false) => "redis",
        (_, true) => "rediss",
    };
    format!("{scheme}://{}", config.endpoint())
}

/// Whether a URL holds a password.
fn has_password(url: &str) -> bool {
    !passwords_of(url).is_empty()
}

/// The passwords in a URL, as they stand there.
fn passwords_of(url: &str) -> Vec<&str> {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    let mut found = Vec::new();
    if let Some((credentials, _)) = rest.rsplit_once('@') {
        let password = credentials.split_once(':').map(|(_, password)| password);
        found.extend(password);
    }
    let query = url.split_once('?').map_or("", |(_, query)| query);
    for pair in query.split('&') {
        if let Some(("password" | "sentinel_password", password)) = pair.split_once('=') {
            found.push(password);
        }
    }
    found.retain(|password| !password.is_empty());
    found
}

/// What must never be printed.
static SECRETS: OnceLock<BTreeSet<String>> = OnceLock::new();

fn remember_secrets(common: &Common) {
    SECRETS.get_or_init(|| {
        let urls = ["REDIS_URL", "REDKIT_URL"].map(|name| std::env::var(name).ok());
        let urls: Vec<String> = common
            .url
            .clone()
            .into_iter()
            .chain(urls.into_iter().flatten())
            .collect();
        let mut secrets: BTreeSet<String> = urls
            .iter()
            .flat_map(|url| passwords_of(url))
            .map(str::to_owned)
            .collect();
        let vars = ["REDKIT_PASSWORD", "REDKIT_SENTINEL_PASSWORD"];
        secrets.extend(vars.iter().filter_map(|name| std::env::var(name).ok()));
        // A very short one would mask letters of every word.
        secrets.retain(|secret| secret.len() >= 4);
        secrets
    });
}

/// A text for people, in which no password stands: neither this program's messages nor those below quote one, and
/// this holds when one of them should come to.
pub(crate) fn without_secrets(text: &str) -> String {
    let secrets = SECRETS.get().into_iter().flatten();
    secrets.fold(text.to_owned(), |text, secret| {
        text.replace(secret.as_str(), "***")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passwords_are_found_wherever_a_url_holds_them() {
        for (url, passwords) in [
            ("redis://host", &[][..]),
            ("redis://ann@host", &[]),
            ("redis://:p@host", &["p"]),
            ("redis://ann:p@ss@host", &["p@ss"]),
            (
                "redis-cluster://ann:p@a,b?namespace=x&password=q",
                &["p", "q"],
            ),
            ("unix:///run/redis?sentinel_password=s", &["s"]),
        ] {
            assert_eq!(passwords_of(url), passwords, "{url}");
        }
    }

    #[test]
    fn a_target_has_no_credentials() {
        let config = ClientConfig::from_url("rediss-cluster://ann:secret@a,b:7000").unwrap();
        assert_eq!(target(&config), "rediss-cluster://a:6379,b:7000");
    }
}
