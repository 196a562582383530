//! [`SessionStoreBuilder`]: a store's settings, checked when it is built.

use std::time::Duration;

use redkit_core::{Client, Codec, ConfigError};

use crate::error::Error;
use crate::keys::Names;
use crate::secrets::SessionSecrets;
use crate::stats::Metrics;
use crate::store::{Inner, SessionStore, Settings};

/// How long sessions live.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lifetime {
    pub(crate) idle: Duration,
    pub(crate) absolute: Duration,
}

impl Lifetime {
    /// The longest absolute timeout: what browsers keep cookies for, and for how long it is remembered
    /// that a user's sessions were revoked.
    pub const MAX: Duration = Duration::from_secs(400 * 24 * 60 * 60);

    /// A session ends when it was not used for `idle`, and in any case `absolute` after its creation or
    /// sign-in. Both are checked when they are used.
    pub const fn new(idle: Duration, absolute: Duration) -> Self {
        Self { idle, absolute }
    }

    /// # Errors
    /// [`ConfigError`] with the setting that cannot work.
    pub(crate) fn check(self, granularity: Duration) -> Result<(), ConfigError> {
        if self.idle < Duration::from_millis(1) || self.idle > self.absolute {
            return Err(ConfigError::new(
                "idle_timeout",
                "it is zero, or longer than the absolute timeout",
                "choose 2 to 30 minutes, as OWASP advises, and more for remembered devices",
            ));
        }
        if self.absolute > Self::MAX {
            return Err(ConfigError::new(
                "absolute_timeout",
                "it is longer than 400 days",
                "choose 4 to 8 hours, as OWASP advises, and up to 400 days for remembered devices",
            ));
        }
        if granularity >= self.idle {
            // It would end though it is used.
            return Err(ConfigError::new(
                "touch_granularity",
                "it is not shorter than the idle timeout",
                "choose about a thirtieth of the idle timeout, the shortest one that a sign-in gives",
            ));
        }
        Ok(())
    }
}

/// What happens at a sign-in of a user who has [as many sessions as are
/// allowed](SessionStoreBuilder::max_sessions).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum OnLimit {
    /// The oldest sessions end.
    EndOldest,
    /// [`Error::TooManySessions`].
    Refuse,
}

/// Settings of a [`SessionStore`], from [`SessionStore::builder`].
#[derive(Debug, Clone)]
#[must_use = "it does nothing until `build`"]
pub struct SessionStoreBuilder {
    client: Client,
    name: String,
    secrets: SessionSecrets,
    settings: Settings,
}

impl SessionStoreBuilder {
    pub(crate) fn new(client: &Client, name: &str, secrets: SessionSecrets) -> Self {
        Self {
            client: client.clone(),
            name: name.to_owned(),
            secrets,
            settings: Settings {
                lifetime: Lifetime::new(
                    Duration::from_secs(30 * 60),
                    Duration::from_secs(8 * 60 * 60),
                ),
                granularity: Duration::from_secs(60),
                grace: Duration::from_secs(10),
                max_sessions: 0,
                on_limit: OnLimit::EndOldest,
                max_bytes: 64 * 1024,
                revocation_bound: Duration::from_secs(30),
            },
        }
    }

    /// How long a session lives that is not used. Default: 30 minutes. OWASP advises 2 to 5 minutes for
    /// applications of high value, 15 to 30 minutes for others.
    pub fn idle_timeout(mut self, timeout: Duration) -> Self {
        self.settings.lifetime.idle = timeout;
        self
    }

    /// How long a session lives however much it is used. Default: 8 hours; at most
    /// [`Lifetime::MAX`].
    pub fn absolute_timeout(mut self, timeout: Duration) -> Self {
        self.settings.lifetime.absolute = timeout;
        self
    }

    /// A load moves the idle timeout only when that gains more than this, so that most loads write
    /// nothing. A session therefore ends between `idle_timeout − touch_granularity` and `idle_timeout`
    /// after its last use. Default: 1 minute; less than the idle timeout, also of a
    /// [sign-in](crate::SignIn::lifetime) with timeouts of its own.
    pub fn touch_granularity(mut self, granularity: Duration) -> Self {
        self.settings.granularity = granularity;
        self
    }

    /// How long the old id of a rotated session still loads, for requests under way. It stays what it was
    /// before the rotation, and takes no changes. Default: 10 seconds; at most 5 minutes.
    pub fn rotation_grace(mut self, grace: Duration) -> Self {
        self.settings.grace = grace;
        self
    }

    /// How many sessions a user may have at once, and what happens at one more. Default: any number.
    pub fn max_sessions(mut self, sessions: u32, on_limit: OnLimit) -> Self {
        self.settings.max_sessions = sessions;
        self.settings.on_limit = on_limit;
        self
    }

    /// How many bytes the entries of a session may have, names included. Default: 64 KiB.
    pub fn max_bytes(mut self, bytes: u64) -> Self {
        self.settings.max_bytes = bytes;
        self
    }

    /// How long after the end of a session [`Session::revoked`](crate::Session::revoked) resolves at most,
    /// whatever the network does. While announcements arrive, it is a matter of milliseconds; it asks twice
    /// in this time besides. Default: 30 seconds; 1 second to 1 hour.
    pub fn revocation_bound(mut self, bound: Duration) -> Self {
        self.settings.revocation_bound = bound;
        self
    }

    /// How values become bytes. Default: the client's codec. One that
    /// [encrypts](Codec::is_encrypting) covers all values and the user's name. Values open in the session
    /// in which they were stored only, and after its rotations; the user's name, or that there is none, under the
    /// session's id only.
    pub fn codec(mut self, codec: Codec) -> Self {
        self.client = self.client.with_codec(codec);
        self
    }

    /// Builds the store. Nothing is sent.
    ///
    /// # Errors
    /// [`Error::Core`] with the setting that cannot work.
    pub fn build(self) -> Result<SessionStore, Error> {
        let settings = self.settings;
        let wrong = |field: &'static str, problem: &'static str, fix: &'static str| {
            Err(Error::from(ConfigError::new(field, problem, fix)))
        };
        settings.lifetime.check(settings.granularity)?;
        if settings.grace > Duration::from_secs(300) {
            return wrong(
                "rotation_grace",
                "it is longer than 5 minutes",
                "choose what requests under way need, such as 10 seconds",
            );
        }
        if settings.max_bytes == 0 || settings.max_bytes > 16 * 1024 * 1024 {
            return wrong(
                "max_bytes",
                "it is zero or more than 16 MiB",
                "choose what every request can afford to read, such as 64 KiB",
            );
        }
        let bounds = Duration::from_secs(1)..=Duration::from_secs(3600);
        if !bounds.contains(&settings.revocation_bound) {
            return wrong(
                "revocation_bound",
                "it is shorter than a second or longer than an hour",
                "choose how long a revoked connection may go on, such as 30 seconds",
            );
        }
        let names = Names::new(self.client.keyspace("session", &self.name)?, self.secrets);
        let metrics = Metrics::new(&self.name);
        let client = self.client;
        Ok(SessionStore::new(Inner {
            client,
            name: self.name,
            names,
            settings,
            metrics,
        }))
    }
}
