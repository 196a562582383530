//! [`Clients`]: several clients by name.

use std::collections::BTreeMap;

use crate::client::Client;
use crate::config::{ClientConfig, ConfigError};
use crate::error::Error;

/// Several clients by name, for programs that use more than one server. Names are not case
/// sensitive.
///
/// Give the names once as constants, and a typing error does not compile:
///
/// ```
/// use redkit_core::{Client, Clients, Error};
///
/// const SESSIONS: &str = "sessions";
///
/// fn sessions(clients: &Clients) -> Result<&Client, Error> {
///     clients.get(SESSIONS)
/// }
/// # let error = sessions(&Clients::new()).unwrap_err();
/// # assert_eq!(error.to_string(), "no client named `sessions`; there are: none");
/// ```
#[derive(Debug, Clone, Default)]
pub struct Clients {
    by_name: BTreeMap<String, Client>,
}

impl Clients {
    /// No clients yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Connects to all of them, one after the other. A client without a
    /// [`client_name`](ClientConfig::client_name) gets its name here.
    ///
    /// # Errors
    /// [`Error`] of the first that fails; those connected before are dropped.
    pub async fn connect(
        configs: impl IntoIterator<Item = (String, ClientConfig)>,
    ) -> Result<Self, Error> {
        let mut clients = Self::new();
        for (name, mut config) in configs {
            if config.client_name.is_none() {
                config.client_name = Some(name.clone());
            }
            let client = Client::connect(config).await?;
            clients.insert(&name, client)?;
        }
        Ok(clients)
    }

    /// Adds a client.
    ///
    /// # Errors
    /// [`Error::Config`] when the name is empty or taken.
    pub fn insert(&mut self, name: &str, client: Client) -> Result<(), Error> {
        let key = name.to_lowercase();
        if key.is_empty() {
            return Err(ConfigError::new("name", "a client's name is empty", "name it").into());
        }
        if self.by_name.contains_key(&key) {
            return Err(ConfigError::new(
                "name",
                format!("there is a client named `{key}` already"),
                "choose another name; upper and lower case are the same",
            )
            .into());
        }
        self.by_name.insert(key, client);
        Ok(())
    }

    /// The client of this name.
    ///
    /// # Errors
    /// [`Error::UnknownClient`], which lists the names there are.
    pub fn get(&self, name: &str) -> Result<&Client, Error> {
        self.by_name
            .get(&name.to_lowercase())
            .ok_or_else(|| Error::UnknownClient {
                name: name.into(),
                known: match self.by_name.is_empty() {
                    true => "none".into(),
                    false => self.names().collect::<Vec<_>>().join(", ").into(),
                },
            })
    }

    /// The names, in alphabetical order and lower case.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.by_name.keys().map(String::as_str)
    }

    /// Shuts all of them down, one after the other.
    pub async fn shutdown(&self) {
        for client in self.by_name.values() {
            client.shutdown().await;
        }
    }
}
