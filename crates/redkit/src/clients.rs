//! [`Clients`] and [`clients!`](crate::clients!): several clients by name.

use std::collections::BTreeMap;

use redkit_core::{Client, ClientConfig, ConfigError, Error};

use crate::connect_with;

/// Several clients by name, for programs whose names are known only when they run (from a
/// configuration file, say). Names are not case sensitive.
///
/// Where the names are known when the program is written, [`clients!`](crate::clients!) makes a
/// struct of them: then a misspelt name does not compile.
///
/// ```
/// use redkit::{ClientConfig, Clients};
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), redkit::Error> {
/// let clients = Clients::connect([
///     ("cache", ClientConfig::from_url("embedded://")?),
///     ("sessions", ClientConfig::from_url("embedded://sessions")?),
/// ])
/// .await?;
/// clients.get("Cache")?.set("greeting", "hello").await?;
/// let error = clients.get("cahce").unwrap_err();
/// assert_eq!(error.to_string(), "no client named `cahce`; there are: cache, sessions");
/// clients.shutdown().await;
/// # Ok(()) }
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

    /// Connects to all of them, one after the other, as [`connect_with`](crate::connect_with) does,
    /// to engines in this process as well. A client without a
    /// [`client_name`](ClientConfig::client_name) gets its name here.
    ///
    /// # Errors
    /// [`Error::OfClient`] with the name and the error of the first that fails; the clients that
    /// were connected before are shut down.
    pub async fn connect<N: Into<String>>(
        configs: impl IntoIterator<Item = (N, ClientConfig)>,
    ) -> Result<Self, Error> {
        let mut clients = Self::new();
        for (name, config) in configs {
            let name = name.into();
            if let Err(error) = clients.add(&name, config).await {
                clients.shutdown().await;
                return Err(of_client(&name, error));
            }
        }
        Ok(clients)
    }

    /// Connects to all of these from the environment: `sessions` from `REDKIT_SESSIONS_URL` and, if
    /// there are any, `REDKIT_SESSIONS_COMMAND_TIMEOUT` and the like; see
    /// [`ClientConfig::from_env_of`].
    ///
    /// # Errors
    /// [`Error::OfClient`] as [`connect`](Self::connect), and before any connection is made when a
    /// variable is missing or wrong.
    pub async fn from_env<N: AsRef<str>>(
        names: impl IntoIterator<Item = N>,
    ) -> Result<Self, Error> {
        let mut configs = Vec::new();
        for name in names {
            let name = name.as_ref();
            let config = ClientConfig::from_env_of(name);
            configs.push((
                name.to_owned(),
                config.map_err(|e| of_client(name, e.into()))?,
            ));
        }
        Self::connect(configs).await
    }

    /// Adds a client.
    ///
    /// # Errors
    /// [`Error::Config`] when the name is empty or taken.
    pub fn insert(&mut self, name: &str, client: Client) -> Result<(), Error> {
        let key = name.to_lowercase();
        self.check_free(&key)?;
        self.by_name.insert(key, client);
        Ok(())
    }

    /// The client of this name.
    ///
    /// # Errors
    /// [`Error::UnknownClient`], which lists the names there are.
    pub fn get(&self, name: &str) -> Result<&Client, Error> {
        let client = self.by_name.get(&name.to_lowercase());
        client.ok_or_else(|| self.unknown(name))
    }

    /// Takes the client of this name out.
    ///
    /// # Errors
    /// [`Error::UnknownClient`], which lists the names there are.
    pub fn remove(&mut self, name: &str) -> Result<Client, Error> {
        let client = self.by_name.remove(&name.to_lowercase());
        client.ok_or_else(|| self.unknown(name))
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

    async fn add(&mut self, name: &str, mut config: ClientConfig) -> Result<(), Error> {
        let key = name.to_lowercase();
        // Before the connection is made: this error needs no server.
        self.check_free(&key)?;
        if config.label() == ClientConfig::default().label() {
            config = config.client_name(name);
        }
        self.by_name.insert(key, connect_with(config).await?);
        Ok(())
    }

    fn check_free(&self, key: &str) -> Result<(), ConfigError> {
        if key.is_empty() {
            return Err(ConfigError::new(
                "name",
                "a client's name is empty",
                "name it",
            ));
        }
        if self.by_name.contains_key(key) {
            return Err(ConfigError::new(
                "name",
                format!("there is a client named `{key}` already"),
                "choose another name; upper and lower case are the same",
            ));
        }
        Ok(())
    }

    fn unknown(&self, name: &str) -> Error {
        Error::UnknownClient {
            name: name.into(),
            known: match self.by_name.is_empty() {
                true => "none".into(),
                false => self.names().collect::<Vec<_>>().join(", ").into(),
            },
        }
    }
}

fn of_client(name: &str, error: Error) -> Error {
    Error::OfClient {
        client: name.into(),
        error: Box::new(error),
    }
}

/// Makes a struct of several clients, a field for each. A misspelt name does not compile, and there
/// is no look-up that could fail.
///
/// The struct is made by `connect`, which asks for the configuration of each name; by `from_env`
/// ([`ClientConfig::from_env_of`] of each name: `REDKIT_SESSIONS_URL`); or by `from_clients`, of
/// [`Clients`] that have them all. `shutdown` shuts all of them down. Errors say which client.
///
/// ```
/// use redkit::ClientConfig;
///
/// redkit::clients! {
///     /// The servers of the shop.
///     pub struct Servers {
///         /// May lose what it has.
///         cache,
///         /// Must not.
///         sessions,
///     }
/// }
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), redkit::Error> {
/// let servers = Servers::connect(|name| ClientConfig::from_url(&format!("embedded://{name}"))).await?;
/// servers.sessions.set("session:1", "ann").await?;
/// assert_eq!(servers.cache.get::<String>("session:1").await?, None);
/// servers.shutdown().await;
/// # Ok(()) }
/// ```
///
/// ```compile_fail
/// redkit::clients! { struct Servers { cache, sessions } }
/// fn sessions(servers: &Servers) -> &redkit::Client {
///     &servers.sesions
/// }
/// ```
#[macro_export]
macro_rules! clients {
    ($(#[$doc:meta])* $vis:vis struct $set:ident { $($(#[$client_doc:meta])* $client:ident),+ $(,)? }) => {
        $(#[$doc])*
        #[derive(Debug, Clone)]
        $vis struct $set {
            $($(#[$client_doc])* $vis $client: $crate::Client,)+
        }

        #[allow(dead_code, reason = "a program needs one way to make it")]
        impl $set {
            /// The clients' names.
            $vis const NAMES: &'static [&'static str] = &[$(stringify!($client)),+];

            /// Connects each client with the configuration that `configure` gives for its name.
            $vis async fn connect(
                mut configure: impl FnMut(&'static str) -> ::std::result::Result<$crate::ClientConfig, $crate::ConfigError>,
            ) -> ::std::result::Result<Self, $crate::Error> {
                let mut configs = ::std::vec::Vec::new();
                for &name in Self::NAMES {
                    let config = configure(name).map_err(|error| $crate::Error::OfClient {
                        client: name.into(),
                        error: ::std::boxed::Box::new(error.into()),
                    })?;
                    configs.push((name, config));
                }
                Self::from_clients($crate::Clients::connect(configs).await?)
            }

            /// Connects each client as the environment says: `REDKIT_<NAME>_URL` and the like.
            $vis async fn from_env() -> ::std::result::Result<Self, $crate::Error> {
                Self::from_clients($crate::Clients::from_env(Self::NAMES).await?)
            }

            /// Takes the clients out of a registry that has all of them.
            $vis fn from_clients(mut clients: $crate::Clients) -> ::std::result::Result<Self, $crate::Error> {
                ::std::result::Result::Ok(Self { $($client: clients.remove(stringify!($client))?,)+ })
            }

            /// Shuts all of them down, one after the other.
            $vis async fn shutdown(&self) {
                $(self.$client.shutdown().await;)+
            }
        }
    };
}
