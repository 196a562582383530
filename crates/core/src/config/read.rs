//! A configuration from a URL, from serde or from the environment.

use std::ffi::{OsStr, OsString};

use secrecy::ExposeSecret;

use super::profile::Profile;
use super::settings::nearest;
use super::text::{Addresses, HostName};
use super::url::{self, ParsedUrl};
use super::{Address, ClientConfig, ConfigError, Endpoint, Settings, TlsConfig};

impl ClientConfig {
    /// From a URL. The schemes, each with `valkey` in place of `redis` too:
    ///
    /// | URL | |
    /// |---|---|
    /// | `redis://[user[:password]@]host[:port][/database]` | one server |
    /// | `rediss://…` | the same over TLS |
    /// | `redis+unix:///path` or `unix:///path` | a unix socket |
    /// | `redis-cluster://host[:port][,host…]` | a cluster (`rediss-cluster` over TLS) |
    /// | `redis-sentinel://host[:port][,host…]/master[/database]` | through sentinels (`rediss-sentinel`) |
    /// | `embedded://` | an engine in this process, for this client alone |
    /// | `embedded://name` | an engine in this process, shared by all clients that name it |
    ///
    /// Credentials stand once, before the first host. Every field of the serde form can stand in the
    /// query: `?namespace=shop&command_timeout=250ms`.
    ///
    /// # Errors
    /// [`ConfigError`] with the field (`url`, `port`, `database`, …). It never quotes the URL.
    pub fn from_url(url: &str) -> Result<Self, ConfigError> {
        let mut settings = Settings::default();
        settings.set("url", url)?;
        settings.into_config(None)
    }

    /// This configuration with everything that `url` says in place of its own; forms and errors are
    /// those of [`from_url`](Self::from_url).
    ///
    /// # Errors
    /// As [`from_url`](Self::from_url).
    pub fn with_url(self, url: &str) -> Result<Self, ConfigError> {
        let mut settings = Settings::default();
        settings.set("url", url)?;
        settings.into_config(Some(self))
    }

    /// From the environment: `REDIS_URL`, and `REDKIT_` with the name of any field in capitals
    /// (`REDKIT_NAMESPACE`, `REDKIT_COMMAND_TIMEOUT=250ms`), which wins over the URL.
    ///
    /// A variable that begins with `REDKIT_` and names no field is an error, unless it names the
    /// field of another client ([`from_env_of`](Self::from_env_of)) or belongs to redkit's own tests
    /// (`REDKIT_TEST_…`). What Kubernetes makes of services whose names begin with `redkit` is left alone.
    ///
    /// Without a variable that says where to connect to it is the server on this machine, but with
    /// `REDKIT_PROFILE=production` an error: a program that has lost its address must not go on with another. A port
    /// (`REDKIT_PORT`) says that too little: it is an error there without a host.
    ///
    /// # Errors
    /// [`ConfigError`] with the field, as for the other forms, and for `REDKIT_SENTINEL_PASSWORD` when the address is not
    /// that of sentinels.
    pub fn from_env() -> Result<Self, ConfigError> {
        let settings = Settings::from_vars(None, std::env::vars_os())?;
        settings.of_environment()
    }

    /// From a URL, and from the environment what the URL does not say: as [`from_env`](Self::from_env), without the
    /// variables that say where to connect to. So neither `REDIS_URL` nor the credentials in it count: they are
    /// another server's. `REDKIT_USERNAME` and `REDKIT_PASSWORD` do, unless the URL has credentials, in front of the host
    /// or in its query; the sentinels' do when the URL names sentinels and none for them.
    ///
    /// # Errors
    /// [`ConfigError`] with the field, as for the other forms.
    pub fn from_env_at(url: &str) -> Result<Self, ConfigError> {
        let vars = std::env::vars_os();
        Settings::from_vars_at(url, vars)?.into_config(None)
    }

    /// From the environment, for one client of several: the variables of [`from_env`](Self::from_env)
    /// with the client's name in capitals between, such as `REDKIT_SESSIONS_URL` and
    /// `REDKIT_SESSIONS_COMMAND_TIMEOUT` for `sessions` (what is neither letter nor digit becomes
    /// `_`). Variables without the name do not count for it.
    ///
    /// # Errors
    /// [`ConfigError`] as for the other forms, and when no variable says where to connect to.
    pub fn from_env_of(name: &str) -> Result<Self, ConfigError> {
        let settings = Settings::from_vars(Some(name), std::env::vars_os())?;
        if !settings.says_where() {
            return Err(ConfigError::new(
                "url",
                "no variable says where to connect to",
                format!("set {}URL", prefix(Some(name))),
            ));
        }
        settings.into_config(None)
    }
}

impl TryFrom<Settings> for ClientConfig {
    type Error = ConfigError;

    fn try_from(settings: Settings) -> Result<Self, ConfigError> {
        settings.into_config(None)
    }
}

/// What the variables of a client begin with.
fn prefix(client: Option<&str>) -> String {
    let Some(name) = client else {
        return "REDKIT_".to_owned();
    };
    let plain = |c: char| match c.is_ascii_alphanumeric() {
        true => c.to_ascii_uppercase(),
        false => '_',
    };
    format!("REDKIT_{}_", name.chars().map(plain).collect::<String>())
}

/// Whether `field`, which is none, is meant for others: for a client of another name, or for redkit's
/// own tests.
fn is_foreign(field: &str) -> bool {
    let of_tests = field.starts_with("test_") || field.starts_with("proptest_");
    let of_client = Settings::NAMES.iter().any(|name| {
        let client = field
            .strip_suffix(name)
            .and_then(|rest| rest.strip_suffix('_'));
        client.is_some_and(|client| !client.is_empty())
    });
    // A name that is near to a field is meant for it, unless that field is what it ends with.
    let is_misspelt = nearest(field).is_some_and(|meant| !field.ends_with(&format!("_{meant}")));
    of_tests || (of_client && !is_misspelt)
}

/// Whether Kubernetes has set the variable and it is no setting of this client: one whose name ends in `service` has a
/// `REDKIT_USER_SERVICE_HOST` of its own.
fn is_of_others(variable: &str, field: &str, value: &OsStr) -> bool {
    let is_link = value.to_string_lossy().contains("://");
    is_of_kubernetes(variable, value) && (is_link || !Settings::NAMES.contains(&field))
}

/// Whether Kubernetes has set the variable: it tells every pod of the services of its namespace, also of one that
/// is called `redkit` or `redkit-cache`, by `REDKIT_CACHE_SERVICE_HOST`, `REDKIT_CACHE_PORT=tcp://…` and their kin.
fn is_of_kubernetes(variable: &str, value: &OsStr) -> bool {
    let of_protocol = ["_TCP", "_UDP", "_SCTP"].iter().any(|protocol| {
        let before = variable.split(protocol).next().unwrap_or_default();
        let port = before.rsplit_once("_PORT_").map(|(_, port)| port);
        before.len() < variable.len()
            && port.is_some_and(|port| port.bytes().all(|byte| byte.is_ascii_digit()))
    });
    let is_link = variable.ends_with("_PORT") && value.to_string_lossy().contains("://");
    let of_service = variable.ends_with("_SERVICE_HOST")
        || variable.ends_with("_SERVICE_PORT")
        || variable.contains("_SERVICE_PORT_");
    of_protocol || is_link || of_service
}

impl Settings {
    /// From environment variables: with `client`, only those with its name.
    pub(super) fn from_vars(
        client: Option<&str>,
        vars: impl IntoIterator<Item = (OsString, OsString)>,
    ) -> Result<Self, ConfigError> {
        let prefix = prefix(client);
        let mut settings = Self::default();
        for (variable, value) in vars {
            // A name that is not UTF-8 cannot be one of ours.
            let Ok(variable) = variable.into_string() else {
                continue;
            };
            let field = match variable.strip_prefix(&prefix) {
                Some(field) if is_of_others(&variable, &field.to_ascii_lowercase(), &value) => {
                    continue;
                }
                Some(field) => field.to_ascii_lowercase(),
                // REDKIT_URL is the more specific of the two.
                None if client.is_none() && variable == "REDIS_URL" && !settings.url.is_set() => {
                    "url".to_owned()
                }
                None => continue,
            };
            if Self::NAMES.contains(&field.as_str()) {
                let value = value.into_string().map_err(|_| {
                    ConfigError::new(
                        field.clone(),
                        format!("the variable {variable} is not UTF-8"),
                        "encode it as UTF-8",
                    )
                })?;
                settings.set(&field, &value)?;
            } else if !is_foreign(&field) {
                let fix = match nearest(&field) {
                    Some(meant) => format!("write `{prefix}{}`", meant.to_ascii_uppercase()),
                    None => format!("the fields are {}", Self::NAMES.join(", ")),
                };
                let problem = format!("there is no such field for the variable {variable}");
                return Err(ConfigError::new(field, problem, fix));
            }
        }
        Ok(settings)
    }

    /// From a URL, and from environment variables except those that say where to connect to.
    pub(super) fn from_vars_at(
        url: &str,
        vars: impl IntoIterator<Item = (OsString, OsString)>,
    ) -> Result<Self, ConfigError> {
        const PLACE: &[&str] = &[
            "REDIS_URL",
            "REDKIT_URL",
            "REDKIT_HOST",
            "REDKIT_PORT",
            "REDKIT_UNIX_SOCKET",
            "REDKIT_CLUSTER",
            "REDKIT_SENTINELS",
            "REDKIT_MASTER",
        ];
        let counts = |name: &OsString| !PLACE.iter().any(|place| *name == **place);
        let vars = vars.into_iter().filter(|(name, _)| counts(name));
        let mut variables = Self::from_vars(None, vars)?;
        let mut settings = Self::default();
        let place = url::parse(url, &mut settings)?;
        // A user and a password belong together.
        let has_credentials = place.username.is_some() || place.password.is_some();
        if has_credentials || settings.username.is_set() || settings.password.is_set() {
            variables.username.take();
            variables.password.take();
        }
        let has_sentinels = matches!(place.endpoint, Endpoint::Sentinel { .. });
        let says_own = settings.sentinel_username.is_set() || settings.sentinel_password.is_set();
        if !has_sentinels || says_own {
            variables.sentinel_username.take();
            variables.sentinel_password.take();
        }
        if place.database.is_some() {
            variables.database.take();
        }
        if place.tls {
            variables.tls.take();
        }
        settings.fill_from(variables);
        settings.set("url", url)?;
        Ok(settings)
    }

    /// The configuration of a program that takes everything from its environment.
    fn of_environment(self) -> Result<ClientConfig, ConfigError> {
        if self.profile.is(&Profile::Production) && !self.says_where() {
            return Err(ConfigError::new(
                "url",
                "no variable says where to connect to, and the profile is production",
                "set REDIS_URL, to redis://localhost for a server on this machine",
            ));
        }
        self.into_config(None)
    }

    fn says_where(&self) -> bool {
        self.url.is_set()
            || self.host.is_set()
            || self.unix_socket.is_set()
            || self.cluster.is_set()
            || self.sentinels.is_set()
    }

    /// The configuration, checked. What is not set here is as in `base`, or else as the profile or
    /// the defaults have it.
    pub(super) fn into_config(
        mut self,
        base: Option<ClientConfig>,
    ) -> Result<ClientConfig, ConfigError> {
        // First, because the URL's query can set any of the others.
        let place = self.place()?;
        let mut config = match (self.profile.take(), base) {
            (Some(profile), None) => profile.config(),
            (None, base) => base.unwrap_or_default(),
            (Some(_), Some(_)) => {
                return Err(ConfigError::new(
                    "profile",
                    "the configuration has values already, which a profile would replace",
                    "name the profile in one place",
                ));
            }
        };
        let mut is_encrypted = None;
        if let Some(place) = place {
            config.endpoint = place.endpoint;
            if !matches!(config.endpoint, Endpoint::Sentinel { .. }) {
                // Those of the configuration that this one goes on from are for its sentinels.
                config.sentinel_username = None;
                config.sentinel_password = None;
            }
            config.username = place.username.or(config.username);
            config.password = place.password.or(config.password);
            config.database = place.database.unwrap_or(config.database);
            is_encrypted = place.tls.then_some(true);
        }
        self.write_to(&mut config);
        let tls = self.tls_config();
        config.tls = match self.tls.take().or(is_encrypted) {
            Some(true) => Some(tls),
            Some(false) if is_encrypted == Some(true) => {
                return Err(ConfigError::new(
                    "tls",
                    "it is false, and the URL's scheme asks for TLS",
                    "write redis:// for a plain connection",
                ));
            }
            _ if tls != TlsConfig::default() => {
                return Err(ConfigError::new(
                    "tls",
                    "TLS files or names are given, and the connection is not encrypted",
                    "write rediss:// or set `tls` to true",
                ));
            }
            Some(false) => None,
            None => config.tls,
        };
        config.validate()?;
        Ok(config)
    }

    /// Where to connect to, which may be said in one way only.
    fn place(&mut self) -> Result<Option<ParsedUrl>, ConfigError> {
        let mut found = Vec::new();
        if let Some(text) = self.url.take() {
            // What the query says must not override what was set beside the URL.
            let mut query = Settings::default();
            found.push(("url", url::parse(text.expose_secret(), &mut query)?));
            self.fill_from(query);
        }
        let mut add = |field, endpoint| found.push((field, ParsedUrl::of(endpoint)));
        match (self.host.take(), self.port.take()) {
            (None, None) => {}
            (host, port) => {
                let address = Address {
                    host: host.map_or_else(|| "127.0.0.1".to_owned(), |HostName(host)| host),
                    port: port.unwrap_or(6379),
                };
                add("host", Endpoint::Standalone(address));
            }
        }
        if let Some(path) = self.unix_socket.take() {
            add("unix_socket", Endpoint::Unix(path));
        }
        if let Some(Addresses(nodes)) = self.cluster.take() {
            add("cluster", Endpoint::Cluster(nodes));
        }
        match (self.sentinels.take(), self.master.take()) {
            (None, None) => {}
            (Some(Addresses(sentinels)), Some(master)) => {
                add("sentinels", Endpoint::Sentinel { sentinels, master });
            }
            (Some(_), None) => {
                return Err(ConfigError::new(
                    "master",
                    "sentinels are given without the master's name",
                    "give the name that `sentinel monitor` was given",
                ));
            }
            (None, Some(_)) => {
                return Err(ConfigError::new(
                    "sentinels",
                    "a master's name is given without sentinels",
                    "give `sentinels`, or leave `master` out",
                ));
            }
        }
        if let [(first, _), (second, _), ..] = found.as_slice() {
            return Err(ConfigError::new(
                *second,
                format!("`{first}` says already where to connect"),
                "give one of them",
            ));
        }
        Ok(found.pop().map(|(_, place)| place))
    }
}

#[cfg(test)]
mod tests;
