//! The flat form of a configuration: what serde reads, what a URL's query and the environment set.
//! All three end here and read every value as a text, so that they cannot drift apart.

use std::fmt;
use std::marker::PhantomData;
use std::path::PathBuf;
use std::time::Duration;

use secrecy::SecretString;
use serde::de::{self, Deserialize, Deserializer, SeqAccess, Visitor};

use super::url::{self, ParsedUrl};
use super::{Address, ClientConfig, ConfigError, Driver, Endpoint, TlsConfig};
use crate::breaker::Window;

/// Declares every setting once: for serde, and for [`Settings::set`] by name.
macro_rules! settings {
    ($($name:ident: $type:ty,)*) => {
        #[derive(Debug, Default, serde::Deserialize)]
        #[serde(default, deny_unknown_fields)]
        pub(crate) struct Settings {
            $($name: Setting<$type>,)*
        }

        impl Settings {
            const NAMES: &[&str] = &[$(stringify!($name)),*];

            /// Sets the field `name` from a text.
            pub(super) fn set(&mut self, name: &str, text: &str) -> Result<(), ConfigError> {
                match name {
                    $(stringify!($name) => {
                        let value = <$type>::from_text(text).map_err(|fix| {
                            ConfigError::new(stringify!($name), "its value cannot be read", fix)
                        })?;
                        self.$name = Setting(Some(value));
                        Ok(())
                    })*
                    _ => Err(ConfigError::new(
                        printable(name),
                        "there is no such field",
                        format!("the fields are {}", Self::NAMES.join(", ")),
                    )),
                }
            }
        }
    };
}

settings! {
    url: SecretString,
    host: String,
    port: u16,
    unix_socket: PathBuf,
    driver: Driver,
    cluster: Addresses,
    sentinels: Addresses,
    master: String,
    username: String,
    password: SecretString,
    sentinel_username: String,
    sentinel_password: SecretString,
    database: u32,
    namespace: String,
    client_name: String,
    tls: bool,
    tls_ca_file: PathBuf,
    tls_client_cert_file: PathBuf,
    tls_client_key_file: PathBuf,
    tls_server_name: String,
    connect_timeout: Duration,
    command_timeout: Duration,
    probe_interval: Duration,
    max_in_flight: usize,
    lazy: bool,
    read_from_replicas: bool,
    retry_attempts: u32,
    retry_min_delay: Duration,
    retry_max_delay: Duration,
    reconnect_min_delay: Duration,
    reconnect_max_delay: Duration,
    breaker_enabled: bool,
    breaker_window: Window,
    breaker_minimum_calls: u32,
    breaker_failure_rate: f64,
    breaker_slow_call: Duration,
    breaker_slow_call_rate: f64,
    breaker_open_for: Duration,
    breaker_half_open_calls: u32,
    breaker_half_open_timeout: Duration,
    breaker_count_refused_writes: bool,
}

impl Settings {
    /// From environment variables: `REDIS_URL`, and `REDKIT_` with a field's name.
    pub(super) fn from_vars(
        vars: impl IntoIterator<Item = (String, String)>,
    ) -> Result<Self, ConfigError> {
        let mut settings = Self::default();
        for (name, value) in vars {
            let field = match name.strip_prefix("REDKIT_") {
                Some(field) => field.to_ascii_lowercase(),
                // REDKIT_URL is the more specific of the two.
                None if name == "REDIS_URL" && settings.url.0.is_none() => "url".to_owned(),
                None => continue,
            };
            // Other REDKIT_ variables belong to other parts of the project.
            if Self::NAMES.contains(&field.as_str()) {
                settings.set(&field, &value)?;
            }
        }
        Ok(settings)
    }

    fn endpoint(&mut self) -> Result<Option<ParsedUrl>, ConfigError> {
        use secrecy::ExposeSecret;

        let mut found = Vec::new();
        if let Some(text) = self.url.0.take() {
            // What the query says must not override what was set beside the URL.
            let mut query = Settings::default();
            found.push(("url", url::parse(text.expose_secret(), &mut query)?));
            self.fill_from(query);
        }
        let mut add = |field, endpoint| found.push((field, ParsedUrl::of(endpoint)));
        match (self.host.0.take(), self.port.0.take()) {
            (None, None) => {}
            (host, port) => {
                let host = host.unwrap_or_else(|| "127.0.0.1".to_owned());
                let address = Address {
                    host,
                    port: port.unwrap_or(6379),
                };
                add("host", Endpoint::Standalone(address));
            }
        }
        if let Some(path) = self.unix_socket.0.take() {
            add("unix_socket", Endpoint::Unix(path));
        }
        if let Some(Addresses(nodes)) = self.cluster.0.take() {
            add("cluster", Endpoint::Cluster(nodes));
        }
        match (self.sentinels.0.take(), self.master.0.take()) {
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
        Ok(found.pop().map(|(_, parsed)| parsed))
    }

    /// Takes over from `other` what is not set here.
    fn fill_from(&mut self, other: Settings) {
        macro_rules! fill {
            ($($name:ident)*) => {$( if self.$name.0.is_none() { self.$name = other.$name; } )*};
        }
        fill! {
            host port unix_socket driver cluster sentinels master username password sentinel_username
            sentinel_password database namespace
            client_name tls tls_ca_file tls_client_cert_file tls_client_key_file tls_server_name
            connect_timeout command_timeout probe_interval max_in_flight lazy
            read_from_replicas retry_attempts
            retry_min_delay retry_max_delay reconnect_min_delay reconnect_max_delay
            breaker_enabled breaker_window breaker_minimum_calls breaker_failure_rate
            breaker_slow_call breaker_slow_call_rate breaker_open_for breaker_half_open_calls
            breaker_half_open_timeout breaker_count_refused_writes
        }
    }
}

impl TryFrom<Settings> for ClientConfig {
    type Error = ConfigError;

    fn try_from(mut settings: Settings) -> Result<Self, ConfigError> {
        let mut config = ClientConfig::default();
        let mut tls = None;
        if let Some(parsed) = settings.endpoint()? {
            config.endpoint = parsed.endpoint;
            config.username = parsed.username;
            config.password = parsed.password;
            config.database = parsed.database.unwrap_or(0);
            tls = parsed.tls.then_some(true);
        }
        macro_rules! take {
            ($($name:ident => $($target:ident).+;)*) => {$(
                if let Some(value) = settings.$name.0 { config.$($target).+ = value.into(); }
            )*};
        }
        take! {
            driver => driver;
            username => username;
            password => password;
            sentinel_username => sentinel_username;
            sentinel_password => sentinel_password;
            database => database;
            namespace => namespace;
            client_name => client_name;
            connect_timeout => connect_timeout;
            command_timeout => command_timeout;
            probe_interval => probe_interval;
            max_in_flight => max_in_flight;
            lazy => lazy;
            read_from_replicas => read_from_replicas;
            retry_attempts => retry.max_attempts;
            retry_min_delay => retry.min_delay;
            retry_max_delay => retry.max_delay;
            reconnect_min_delay => reconnect.min_delay;
            reconnect_max_delay => reconnect.max_delay;
            breaker_enabled => breaker.enabled;
            breaker_window => breaker.window;
            breaker_minimum_calls => breaker.minimum_calls;
            breaker_failure_rate => breaker.failure_rate;
            breaker_slow_call => breaker.slow_call;
            breaker_slow_call_rate => breaker.slow_call_rate;
            breaker_open_for => breaker.open_for;
            breaker_half_open_calls => breaker.half_open_calls;
            breaker_half_open_timeout => breaker.half_open_timeout;
            breaker_count_refused_writes => breaker.count_refused_writes;
        }
        let files = TlsConfig {
            ca_file: settings.tls_ca_file.0,
            client_cert_file: settings.tls_client_cert_file.0,
            client_key_file: settings.tls_client_key_file.0,
            server_name: settings.tls_server_name.0,
        };
        config.tls = match settings.tls.0.or(tls) {
            Some(true) => Some(files),
            Some(false) if tls == Some(true) => {
                return Err(ConfigError::new(
                    "tls",
                    "it is false, and the URL's scheme asks for TLS",
                    "write redis:// for a plain connection",
                ));
            }
            _ if files != TlsConfig::default() => {
                return Err(ConfigError::new(
                    "tls",
                    "TLS files or names are given, and the connection is not encrypted",
                    "write rediss:// or set `tls` to true",
                ));
            }
            _ => None,
        };
        config.validate()?;
        Ok(config)
    }
}

/// A field's name as it was given, unless it could be something else that must not be shown.
fn printable(name: &str) -> String {
    let is_name = name.len() <= 40 && name.bytes().all(|b| b.is_ascii_lowercase() || b == b'_');
    if is_name {
        name.to_owned()
    } else {
        "url".to_owned()
    }
}

/// A setting that may be absent. With serde it takes a text, number, truth value or list of texts.
#[derive(Debug)]
struct Setting<T>(Option<T>);

impl<T> Default for Setting<T> {
    fn default() -> Self {
        Self(None)
    }
}

impl<'de, T: FromText> Deserialize<'de> for Setting<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer
            .deserialize_any(TextVisitor(PhantomData))
            .map(|value| Self(Some(value)))
    }
}

struct TextVisitor<T>(PhantomData<T>);

impl<'de, T: FromText> Visitor<'de> for TextVisitor<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a text, a number, a truth value or a list of texts")
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<T, E> {
        T::from_text(text).map_err(E::custom)
    }

    fn visit_u64<E: de::Error>(self, number: u64) -> Result<T, E> {
        self.visit_str(&number.to_string())
    }

    fn visit_i64<E: de::Error>(self, number: i64) -> Result<T, E> {
        self.visit_str(&number.to_string())
    }

    fn visit_f64<E: de::Error>(self, number: f64) -> Result<T, E> {
        self.visit_str(&number.to_string())
    }

    fn visit_bool<E: de::Error>(self, truth: bool) -> Result<T, E> {
        self.visit_str(if truth { "true" } else { "false" })
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<T, A::Error> {
        let mut all = Vec::<String>::new();
        while let Some(item) = items.next_element()? {
            all.push(item);
        }
        self.visit_str(&all.join(","))
    }
}

/// A value that can be read from a text; the error says what to write instead.
trait FromText: Sized {
    fn from_text(text: &str) -> Result<Self, String>;
}

/// `host[:port]`, comma-separated.
#[derive(Debug)]
struct Addresses(Vec<Address>);

impl FromText for Addresses {
    fn from_text(text: &str) -> Result<Self, String> {
        text.split(',')
            .map(|one| url::address(one.trim(), 6379))
            .collect::<Result<_, _>>()
            .map(Addresses)
            .map_err(|error| error.to_string())
    }
}

impl FromText for String {
    fn from_text(text: &str) -> Result<Self, String> {
        Ok(text.to_owned())
    }
}

impl FromText for SecretString {
    fn from_text(text: &str) -> Result<Self, String> {
        Ok(SecretString::from(text))
    }
}

impl FromText for PathBuf {
    fn from_text(text: &str) -> Result<Self, String> {
        match text {
            "" => Err("write a file's path".to_owned()),
            text => Ok(PathBuf::from(text)),
        }
    }
}

impl FromText for Driver {
    fn from_text(text: &str) -> Result<Self, String> {
        match text.to_ascii_lowercase().as_str() {
            "native" => Ok(Driver::Native),
            "fred" => Ok(Driver::Fred),
            _ => Err("write native or fred".to_owned()),
        }
    }
}

impl FromText for bool {
    fn from_text(text: &str) -> Result<Self, String> {
        match text.to_ascii_lowercase().as_str() {
            "true" | "1" | "yes" | "on" => Ok(true),
            "false" | "0" | "no" | "off" => Ok(false),
            _ => Err("write true or false".to_owned()),
        }
    }
}

impl FromText for Duration {
    fn from_text(text: &str) -> Result<Self, String> {
        humantime::parse_duration(text)
            .map_err(|_| "write a number with its unit, such as 250ms or 1s".to_owned())
    }
}

/// A number of calls, or a duration with its unit.
impl FromText for Window {
    fn from_text(text: &str) -> Result<Self, String> {
        text.parse()
            .map(Window::Count)
            .or_else(|_| humantime::parse_duration(text).map(Window::Time))
            .map_err(|_| "write a number of calls such as 100, or a time such as 10s".to_owned())
    }
}

impl FromText for f64 {
    fn from_text(text: &str) -> Result<Self, String> {
        text.parse()
            .map_err(|_| "write a share such as 0.5".to_owned())
    }
}

macro_rules! number_from_text {
    ($($type:ty),*) => {$(
        impl FromText for $type {
            fn from_text(text: &str) -> Result<Self, String> {
                text.parse().map_err(|_| format!("write a whole number from 0 to {}", <$type>::MAX))
            }
        }
    )*};
}
number_from_text!(u16, u32, usize);

#[cfg(test)]
mod tests {
    use secrecy::ExposeSecret;

    use super::*;

    fn from_json(json: &str) -> Result<ClientConfig, String> {
        serde_json::from_str(json).map_err(|error| error.to_string())
    }

    #[test]
    fn the_three_forms_give_the_same_configuration() {
        let from_url = ClientConfig::from_url(
            "rediss://ann:p%40ss@cache.internal:6380/3?namespace=shop&command_timeout=250ms",
        )
        .unwrap();
        let from_json = from_json(
            r#"{ "host": "cache.internal", "port": 6380, "tls": true, "username": "ann",
                 "password": "p@ss", "database": 3, "namespace": "shop", "command_timeout": "250ms" }"#,
        )
        .unwrap();
        let vars = [
            ("REDIS_URL", "rediss://cache.internal:6380"),
            ("REDKIT_USERNAME", "ann"),
            ("REDKIT_PASSWORD", "p@ss"),
            ("REDKIT_DATABASE", "3"),
            ("REDKIT_NAMESPACE", "shop"),
            ("REDKIT_COMMAND_TIMEOUT", "250ms"),
            ("REDKIT_TEST_BACKENDS", "embedded"),
            ("HOME", "/"),
        ];
        let from_env = ClientConfig::try_from(
            Settings::from_vars(vars.map(|(n, v)| (n.to_owned(), v.to_owned()))).unwrap(),
        )
        .unwrap();
        for config in [&from_json, &from_env] {
            assert_eq!(format!("{config:?}"), format!("{from_url:?}"));
            assert_eq!(config.password.as_ref().unwrap().expose_secret(), "p@ss");
        }
    }

    #[test]
    fn what_stands_beside_the_url_wins_over_its_query() {
        let vars = [
            ("REDIS_URL", "redis://h?namespace=from-url&database=1"),
            ("REDKIT_NAMESPACE", "from-env"),
        ];
        let settings = Settings::from_vars(vars.map(|(n, v)| (n.to_owned(), v.to_owned())));
        let config = ClientConfig::try_from(settings.unwrap()).unwrap();
        assert_eq!(
            (config.namespace.as_str(), config.database),
            ("from-env", 1)
        );
    }

    #[test]
    fn endpoints_of_every_scheme() {
        let endpoint = |url: &str| ClientConfig::from_url(url).unwrap().endpoint;
        let at = |host: &str, port| Address {
            host: host.to_owned(),
            port,
        };
        assert_eq!(endpoint("redis://h"), Endpoint::Standalone(at("h", 6379)));
        assert_eq!(
            endpoint("VALKEY://[::1]:7"),
            Endpoint::Standalone(at("::1", 7))
        );
        assert_eq!(
            endpoint("unix:///run/r.sock"),
            Endpoint::Unix("/run/r.sock".into())
        );
        assert_eq!(endpoint("embedded://"), Endpoint::Embedded);
        assert_eq!(
            endpoint("valkey-cluster://a,b:2"),
            Endpoint::Cluster(vec![at("a", 6379), at("b", 2)])
        );
        assert_eq!(
            endpoint("redis-sentinel://a,b:2/main/1"),
            Endpoint::Sentinel {
                sentinels: vec![at("a", 26379), at("b", 2)],
                master: "main".to_owned()
            }
        );
    }

    #[test]
    fn bad_input_names_the_field_and_hides_secrets() {
        for (url, field) in [
            ("hunter2@host", "url"),
            ("http://host", "url"),
            ("redis://", "host"),
            ("redis://:hunter2", "host"),
            ("redis://u:hun/ter2@host", "password"),
            ("redis://u:hunter2@host:port", "port"),
            ("redis://u:hunt?er2@host", "password"),
            ("redis://host?hunter2=1", "url"),
            ("redis://u:hunter2@host:0", "port"),
            ("redis://u:hunter2@[::1", "host"),
            ("redis://a:1,b:2", "url"),
            ("redis://u:hunter2@host/zero", "database"),
            ("redis://u:hunter2@host?comand_timeout=1s", "comand_timeout"),
            (
                "redis://u:hunter2@host?command_timeout=1",
                "command_timeout",
            ),
            (
                "redis://u:hunter2@host?command_timeout=0s",
                "command_timeout",
            ),
            ("redis://hunter2@host", "password"),
            ("redis://host?tls=false&tls_ca_file=x", "tls"),
            ("rediss://host?tls=false", "tls"),
            ("redis://host?host=other", "host"),
            ("redis-sentinel://host", "master"),
            ("redis-cluster://host/1", "database"),
            ("redis://host?retry_attempts=0", "retry_attempts"),
            ("redis://host?max_in_flight=0", "max_in_flight"),
            ("redis://host?client_name=a%20b", "client_name"),
            ("redis://host?namespace=a%7Bb", "namespace"),
            (
                "rediss://host?tls_client_cert_file=x",
                "tls_client_key_file",
            ),
            ("unix://relative", "url"),
            (
                "redis://host?breaker_failure_rate=2",
                "breaker_failure_rate",
            ),
            ("redis://host?breaker_window=x", "breaker_window"),
        ] {
            let error = ClientConfig::from_url(url).expect_err(url);
            assert_eq!(error.field(), field, "{url}: {error}");
            let shown = format!("{error} {error:?}");
            assert!(
                !shown.contains("hunter2") && !shown.contains("er2"),
                "{shown}"
            );
        }
    }

    #[test]
    fn serde_rejects_unknown_fields_and_says_what_to_write() {
        assert!(
            from_json(r#"{"hots": "h"}"#)
                .unwrap_err()
                .contains("unknown field `hots`")
        );
        let error = from_json(r#"{"command_timeout": 250}"#).unwrap_err();
        assert!(error.contains("250ms"), "{error}");
        let config = from_json(r#"{"cluster": ["a:1", "b:2"]}"#).unwrap();
        assert_eq!(config.endpoint.to_string(), "a:1,b:2");
    }

    #[test]
    fn debug_never_shows_the_password_or_the_url() {
        let mut settings = Settings::default();
        settings.set("url", "redis://u:hunter2@h").unwrap();
        assert!(!format!("{settings:?}").contains("hunter2"));
        let config = ClientConfig::try_from(settings)
            .unwrap()
            .password("hunter3");
        assert!(!format!("{config:?}").contains("hunter"));
    }
}
