//! Every setting of [`ClientConfig`], each declared once: [`client_settings!`] makes of a row the
//! field, its default, the method that sets it, its check, and the flat field of the same name that
//! serde, a URL's query and the environment set.

use std::path::PathBuf;
use std::time::Duration;

use secrecy::SecretString;

use super::check;
use super::credentials::SharedProvider;
use super::profile::Profile;
use super::text::{Addresses, HostName, Setting};
use super::{ConfigError, Driver, Endpoint, ReconnectConfig, RetryConfig, TlsConfig};
use crate::breaker::{BreakerConfig, Window};

/// Declares the settings, in groups by how they are stored:
///
/// - `place`: where to connect to; the fields together make the [`Endpoint`].
/// - `values`: always there: type, default, and if need be a check.
/// - `optional`: an `Option`, absent by default.
/// - `parts`: fields of the parts that have a type of their own; their defaults and checks stand there.
/// - `tls`: fields of [`TlsConfig`].
macro_rules! client_settings {
    (
        $(#[$config_doc:meta])*
        config $config:ident;
        place { $($place:ident: $place_type:ty;)* }
        values { $($(#[$value_doc:meta])* $value:ident: $value_type:ty = $default:expr $(, $value_check:path)?;)* }
        optional { $($(#[$option_doc:meta])* $option:ident: $option_type:ty $(, $option_check:path)?;)* }
        parts { $($part:ident: $part_type:ty => $owner:ident.$owned:ident;)* }
        tls { $($tls:ident: $tls_type:ty => $tls_field:ident;)* }
    ) => {
        $(#[$config_doc])*
        #[derive(Debug, Clone, serde::Deserialize)]
        #[serde(try_from = "Settings")]
        pub struct $config {
            pub(crate) endpoint: Endpoint,
            pub(crate) tls: Option<TlsConfig>,
            pub(crate) provider: Option<SharedProvider>,
            pub(crate) retry: RetryConfig,
            pub(crate) reconnect: ReconnectConfig,
            pub(crate) breaker: BreakerConfig,
            $(pub(crate) $value: $value_type,)*
            $(pub(crate) $option: Option<$option_type>,)*
        }

        impl $config {
            /// Connects to `endpoint` with every other setting at its default.
            pub fn new(endpoint: Endpoint) -> Self {
                Self {
                    endpoint,
                    tls: None,
                    provider: None,
                    retry: RetryConfig::default(),
                    reconnect: ReconnectConfig::default(),
                    breaker: BreakerConfig::default(),
                    $($value: $default,)*
                    $($option: None,)*
                }
            }

            $(
                $(#[$value_doc])*
                #[must_use]
                pub fn $value(mut self, $value: $value_type) -> Self {
                    self.$value = $value;
                    self
                }
            )*

            $(
                $(#[$option_doc])*
                #[must_use]
                pub fn $option(mut self, $option: impl Into<$option_type>) -> Self {
                    self.$option = Some($option.into());
                    self
                }
            )*

            /// Checks each setting by itself.
            pub(super) fn check_each(&self) -> Result<(), ConfigError> {
                $($($value_check(stringify!($value), &self.$value)?;)?)*
                $($(
                    if let Some(value) = &self.$option {
                        $option_check(stringify!($option), value)?;
                    }
                )?)*
                Ok(())
            }
        }

        /// The flat form of a configuration. Every value in it was read from a text.
        #[derive(Debug, Default, serde::Deserialize)]
        #[serde(default, deny_unknown_fields)]
        pub(crate) struct Settings {
            $(pub(super) $place: Setting<$place_type>,)*
            $(pub(super) $value: Setting<$value_type>,)*
            $(pub(super) $option: Setting<$option_type>,)*
            $(pub(super) $part: Setting<$part_type>,)*
            $(pub(super) $tls: Setting<$tls_type>,)*
        }

        impl Settings {
            pub(super) const NAMES: &[&str] = &[
                $(stringify!($place),)* $(stringify!($value),)* $(stringify!($option),)*
                $(stringify!($part),)* $(stringify!($tls),)*
            ];

            /// Sets the field `name` from a text.
            pub(super) fn set(&mut self, name: &str, text: &str) -> Result<(), ConfigError> {
                match name {
                    $(stringify!($place) => self.$place.read(name, text),)*
                    $(stringify!($value) => self.$value.read(name, text),)*
                    $(stringify!($option) => self.$option.read(name, text),)*
                    $(stringify!($part) => self.$part.read(name, text),)*
                    $(stringify!($tls) => self.$tls.read(name, text),)*
                    _ => Err(unknown(name)),
                }
            }

            /// Takes over from `other` what is not set here.
            pub(super) fn fill_from(&mut self, other: Settings) {
                $(self.$place.or(other.$place);)*
                $(self.$value.or(other.$value);)*
                $(self.$option.or(other.$option);)*
                $(self.$part.or(other.$part);)*
                $(self.$tls.or(other.$tls);)*
            }

            /// Writes what is set here into `config`, apart from the place and TLS.
            pub(super) fn write_to(&mut self, config: &mut $config) {
                $(if let Some(value) = self.$value.take() { config.$value = value; })*
                $(if let Some(value) = self.$option.take() { config.$option = Some(value); })*
                $(if let Some(value) = self.$part.take() { config.$owner.$owned = value.into(); })*
            }

            /// The fields of [`TlsConfig`].
            pub(super) fn tls_config(&mut self) -> TlsConfig {
                TlsConfig { $($tls_field: self.$tls.take(),)* }
            }
        }
    };
}

client_settings! {
    /// How to connect, and how to treat calls.
    ///
    /// ```
    /// use std::time::Duration;
    /// use redkit_core::ClientConfig;
    ///
    /// let config = ClientConfig::from_url("redis://user:secret@cache.internal:6379/2")?
    ///     .namespace("shop")
    ///     .command_timeout(Duration::from_millis(250));
    /// assert!(!format!("{config:?}").contains("secret"));
    ///
    /// let error = ClientConfig::from_url("http://cache.internal").unwrap_err();
    /// assert_eq!(error.field(), "url");
    /// # Ok::<(), redkit_core::ConfigError>(())
    /// ```
    ///
    /// From serde (TOML, JSON, …) the fields are flat, durations are texts such as `"250ms"`, and an
    /// unknown field is an error:
    ///
    /// ```
    /// # use redkit_core::ClientConfig;
    /// let config: ClientConfig = serde_json::from_str(
    ///     r#"{ "url": "redis://cache.internal", "namespace": "shop", "command_timeout": "250ms" }"#,
    /// )?;
    /// # Ok::<(), serde_json::Error>(())
    /// ```
    config ClientConfig;

    place {
        profile: Profile;
        url: SecretString;
        host: HostName;
        port: u16;
        unix_socket: PathBuf;
        cluster: Addresses<6379>;
        sentinels: Addresses<26379>;
        master: String;
        tls: bool;
    }

    values {
        /// Which crate carries the commands (`driver=fred` in a URL). Default: `native`.
        driver: Driver = Driver::default();

        /// The database's number. Default 0, the only one of a cluster and of the embedded engine.
        database: u32 = 0;

        /// How long making a connection may take, name lookup and handshakes included. Default 1 s.
        connect_timeout: Duration = Duration::from_secs(1), check::duration;

        /// How long a command may take, with all its attempts and the wait for a connection, unless
        /// the command has a deadline of its own. Default 1 s.
        command_timeout: Duration = Duration::from_secs(1), check::duration;

        /// After how much silence the connection is probed with a `PING`. Default 5 s.
        probe_interval: Duration = Duration::from_secs(5), check::duration;

        /// How many calls may be in flight at once; more are refused as
        /// [`FaultKind::Overloaded`](crate::FaultKind::Overloaded). Default 16,384. The client's own renewals of leases and
        /// releases count, and are not refused.
        max_in_flight: usize = 16_384, check::positive;

        /// How many bytes one argument of a command, such as a value, may have. A larger one is
        /// refused as [`FaultKind::Invalid`](crate::FaultKind::Invalid) before anything is sent.
        ///
        /// All callers share a connection, on which a large value holds up what comes after it: at
        /// 100 MB/s, 10 MB take a tenth of a second, and over a slow link a megabyte takes as long.
        /// Set this to what the link carries in the time that other callers may wait. The default
        /// of 512 MiB is the servers' own limit (`proto-max-bulk-len`), beyond which they close the
        /// connection.
        max_value_bytes: usize = 512 * 1024 * 1024, check::positive;

        /// Whether connecting waits for the first command. When it does, wrong addresses and
        /// passwords show at that command and not at the start. Default: no.
        lazy: bool = false;

        /// Lets commands that only read go to a replica of the master that serves their slot, on a
        /// cluster. What they read may be older than what was acknowledged. Default: off.
        read_from_replicas: bool = false;

        /// How many keys one command of a bulk operation names at most: an `MGET` of
        /// [`mget`](crate::Client::mget), an `UNLINK` of [`delete_many`](crate::Client::delete_many)
        /// and of a [`Sweep`](crate::Sweep) without a batch size of its own. The server serves no
        /// other client during one command, about a microsecond per key. Default: 1,000.
        batch_keys: usize = 1000, check::positive;
    }

    optional {
        /// The user to authenticate as (Redis ACL).
        username: String;

        /// The password.
        password: SecretString;

        /// The user to authenticate as at the sentinels. Default: none; the servers' credentials are
        /// not sent to sentinels.
        sentinel_username: String;

        /// The password for the sentinels.
        sentinel_password: SecretString;

        /// The text in front of every key, followed by `:`. Default: none.
        namespace: String, check::namespace;

        /// The connection's name, as `CLIENT LIST` shows it. It is also the label of this client's
        /// metrics. Default: `default`, and no name at the server.
        client_name: String, check::client_name;
    }

    parts {
        retry_attempts: u32 => retry.max_attempts;
        retry_min_delay: Duration => retry.min_delay;
        retry_max_delay: Duration => retry.max_delay;
        reconnect_min_delay: Duration => reconnect.min_delay;
        reconnect_max_delay: Duration => reconnect.max_delay;
        breaker_enabled: bool => breaker.enabled;
        breaker_window: Window => breaker.window;
        breaker_minimum_calls: u32 => breaker.minimum_calls;
        breaker_failure_rate: f64 => breaker.failure_rate;
        breaker_slow_call: Duration => breaker.slow_call;
        breaker_slow_call_rate: f64 => breaker.slow_call_rate;
        breaker_open_for: Duration => breaker.open_for;
        breaker_half_open_calls: u32 => breaker.half_open_calls;
        breaker_half_open_timeout: Duration => breaker.half_open_timeout;
        breaker_count_refused_writes: bool => breaker.count_refused_writes;
        breaker_stall_timeout: Duration => breaker.stall_timeout;
    }

    tls {
        tls_ca_file: PathBuf => ca_file;
        tls_client_cert_file: PathBuf => client_cert_file;
        tls_client_key_file: PathBuf => client_key_file;
        tls_server_name: String => server_name;
    }
}

/// The error for a field that there is not. The name is shown only if it is close to a field's: in a
/// URL it may as well be a part of a password.
fn unknown(name: &str) -> ConfigError {
    match nearest(name) {
        Some(meant) => ConfigError::new(
            name.to_owned(),
            "there is no such field",
            format!("write `{meant}`"),
        ),
        None => ConfigError::new(
            "url",
            "its query names a field that there is not",
            format!("the fields are {}", Settings::NAMES.join(", ")),
        ),
    }
}

/// The field that `name` is a misspelling of, if it is one.
pub(super) fn nearest(name: &str) -> Option<&'static str> {
    let by_distance = |field: &&'static str| strsim::osa_distance(name, field);
    let field = Settings::NAMES.iter().copied().min_by_key(by_distance)?;
    (by_distance(&field) * 4 <= name.len()).then_some(field)
}
