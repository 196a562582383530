//! [`LockManagerBuilder`]: a manager's settings, checked when it is built.

use std::time::Duration;

use redkit_core::{Client, ConfigError};

use crate::confirmation::{Confirmation, ConfirmedBy};
use crate::error::Error;
use crate::holder::owner_text;
use crate::keys::keyspace;
use crate::manager::{LockManager, Purpose};
use crate::metrics::Metrics;
use crate::read_write::ReadWriteLocks;

/// How locks are held.
#[derive(Debug, Clone)]
pub(crate) struct Settings {
    pub(crate) ttl: Duration,
    pub(crate) hold_at_most: Option<Duration>,
    pub(crate) hold_at_least: Duration,
    pub(crate) fence_ttl: Duration,
    pub(crate) is_fair: bool,
    pub(crate) confirmation: Option<Confirmation>,
}

/// Settings of a [`LockManager`], from [`LockManager::builder`].
#[derive(Debug, Clone)]
#[must_use = "it does nothing until `build`"]
pub struct LockManagerBuilder {
    client: Client,
    name: String,
    label: Option<String>,
    settings: Settings,
}

/// The shortest time to live of a lock: a renewal is repeated a few times within it.
const SHORTEST_TTL: Duration = Duration::from_millis(100);

/// Leases allow for clocks that differ in speed by this part of their time.
const ALLOWANCE: u32 = 100;

const DAY: Duration = Duration::from_secs(24 * 60 * 60);
const YEAR: Duration = Duration::from_secs(366 * 24 * 60 * 60);

impl LockManagerBuilder {
    pub(crate) fn new(client: &Client, name: &str) -> Self {
        Self {
            client: client.clone(),
            name: name.to_owned(),
            label: None,
            settings: Settings {
                ttl: Duration::from_secs(10),
                hold_at_most: None,
                hold_at_least: Duration::ZERO,
                fence_ttl: DAY,
                is_fair: false,
                confirmation: None,
            },
        }
    }

    /// For how long a lock outlives its holder's death; it is renewed after a third of it. Default: 10 s; at
    /// least 100 ms, at most a day.
    ///
    /// A process that is held up for longer than this (it is stopped, its runtime is blocked) loses its locks. A
    /// machine that is suspended is another matter: its monotonic clock, by which locks are lost, may stand still
    /// meanwhile, as Linux's does. Its processes then take their locks for held until the next renewal is
    /// answered, and only the [fence](crate::Fence) tells them from the holders that came meanwhile.
    pub fn ttl(mut self, ttl: Duration) -> Self {
        self.settings.ttl = ttl;
        self
    }

    /// The longest that a lock is held: then it is lost, however well it could be renewed. For work that may
    /// hang. Default: any time.
    pub fn hold_at_most(mut self, limit: Duration) -> Self {
        self.settings.hold_at_most = Some(limit);
        self
    }

    /// The shortest that a lock stays taken, counted from its acquisition, also when it is given back earlier,
    /// or its holder dies. For scheduled work that all processes of a fleet begin at about the same time and only
    /// one of them is to do. Default: no time.
    ///
    /// What was taken and never handed to the caller does not rest: a call that failed, was dropped, was not
    /// confirmed, or did not get all of its keys gives back at once. One case is left: an attempt that a network
    /// held up for so long that it is carried out after the call, and after what the call gave back; then the lock
    /// stays taken for this time and nobody has it ([`force_release`](LockManager::force_release) helps).
    pub fn hold_at_least(mut self, time: Duration) -> Self {
        self.settings.hold_at_least = time;
        self
    }

    /// For how long the last fence of a lock is remembered after an acquisition, so that the next is greater.
    /// Without the record fences go on with the server's clock: the time is to be longer than the clocks of a
    /// master and the replica that takes its place may differ. A record takes about 150 bytes and the length of
    /// the key. Default: a day; at least a minute, at most a year.
    pub fn fence_ttl(mut self, ttl: Duration) -> Self {
        self.settings.fence_ttl = ttl;
        self
    }

    /// What holders are called, for callers that find a lock taken, and for whoever looks. Up to 200 bytes;
    /// everybody who may read the locks reads it.
    pub fn label(mut self, label: impl Into<String>) -> Self {
        self.label = Some(label.into());
        self
    }

    /// Callers are served in the order in which they came, in all processes together; also a caller that does
    /// not wait stands behind those who do. Each waiter then asks once a second, and a lock is handed over in
    /// two round trips. All managers of a name are to have the same mode. Default: off.
    pub fn fair(mut self, is_fair: bool) -> Self {
        self.settings.is_fair = is_fair;
        self
    }

    /// An acquisition counts only when so many replicas have it in memory within `timeout` (`WAIT`); otherwise it is
    /// given back, with [`Error::NotConfirmed`]. It goes over a connection of its own, one for each acquisition
    /// under way. Default: off.
    ///
    /// It makes it less likely that a failover loses a lock, and not impossible: the replica that takes over may be
    /// another one. What protects data then is the [fence](crate::Fence). Renewals are not confirmed.
    ///
    /// What is given back goes over the client's shared connection, which nothing orders behind the other one: a
    /// call that is dropped while its attempt is held up on the way may leave a lock that runs out by itself.
    pub fn confirmed_by_replicas(mut self, replicas: u32, timeout: Duration) -> Self {
        self.settings.confirmation = Some(Confirmation {
            by: ConfirmedBy::Replicas(replicas),
            timeout,
        });
        self
    }

    /// Like [`confirmed_by_replicas`](Self::confirmed_by_replicas), by what has reached disks: that of the master,
    /// if so, and those of so many replicas (`WAITAOF`, from Redis 7.2 on, with `appendonly yes`). An older server is
    /// refused by [`build`](Self::build), one without `appendonly yes` by
    /// [`build_and_probe`](Self::build_and_probe); otherwise the first acquisition fails with what the server says,
    /// and is given back.
    pub fn confirmed_on_disk(mut self, is_local: bool, replicas: u32, timeout: Duration) -> Self {
        self.settings.confirmation = Some(Confirmation {
            by: ConfirmedBy::Disks { is_local, replicas },
            timeout,
        });
        self
    }

    /// Builds the manager. Nothing is sent.
    ///
    /// # Errors
    /// [`Error::Core`] with the setting that cannot work.
    pub fn build(self) -> Result<LockManager, Error> {
        self.settings.check()?;
        if let Some(confirmation) = &self.settings.confirmation {
            confirmation.check(self.settings.ttl, self.client.topology())?;
            confirmation.check_version(self.client.capabilities().version)?;
        }
        let owner = owner_text(self.label.as_deref())?;
        let metrics = Metrics::new(&self.name);
        Ok(LockManager::new(self.purpose("lock", metrics)?, owner))
    }

    /// Builds the manager, and asks the server whether it can confirm acquisitions as
    /// [`confirmed_by_replicas`](Self::confirmed_by_replicas) or [`confirmed_on_disk`](Self::confirmed_on_disk) want
    /// it (of a cluster one master). Without them nothing is sent.
    ///
    /// # Errors
    /// As [`build`](Self::build), with what the server said when it cannot; [`Error::Core`] when it could not be
    /// asked.
    pub async fn build_and_probe(self) -> Result<LockManager, Error> {
        let (client, confirmation) = (self.client.clone(), self.settings.confirmation);
        let manager = self.build()?;
        if let Some(confirmation) = confirmation {
            confirmation.probe(&client, &manager.probe_key()).await?;
        }
        Ok(manager)
    }

    /// Builds locks that many readers have at the same time, or one writer, with the same settings. Nothing is
    /// sent.
    ///
    /// # Errors
    /// [`Error::Core`] with the setting that cannot work; `fair`, `hold_at_least` and confirmations are among them.
    pub fn build_read_write(self) -> Result<ReadWriteLocks, Error> {
        let settings = &self.settings;
        settings.check()?;
        if settings.is_fair || settings.confirmation.is_some() || !settings.hold_at_least.is_zero()
        {
            return Err(ConfigError::new(
                "read_write",
                "read/write locks are not fair, not confirmed, and have no shortest time",
                "leave out `fair`, `hold_at_least`, `confirmed_by_replicas` and `confirmed_on_disk`",
            )
            .into());
        }
        let owner = owner_text(self.label.as_deref())?;
        // A name has no colon, so this is no other manager's.
        let metrics = Metrics::new(&format!("rw:{}", self.name));
        Ok(ReadWriteLocks::new(self.purpose("rwlock", metrics)?, owner))
    }

    fn purpose(self, pattern: &'static str, metrics: Metrics) -> Result<Purpose, Error> {
        let (keyspace, channel) = keyspace(&self.client, pattern, &self.name)?;
        Ok(Purpose {
            client: self.client,
            name: self.name.into(),
            keyspace,
            channel,
            settings: self.settings,
            metrics,
        })
    }
}

impl Settings {
    pub(crate) fn check(&self) -> Result<(), ConfigError> {
        let wrong = |field: &'static str, problem: &'static str, fix: &'static str| {
            Err(ConfigError::new(field, problem, fix))
        };
        if self.ttl < SHORTEST_TTL || self.ttl > DAY {
            return wrong(
                "ttl",
                "it is under 100 ms or over a day",
                "choose for how long others may wait when a holder dies, such as 10 s",
            );
        }
        if self.hold_at_most.is_some_and(|limit| limit < SHORTEST_TTL) {
            return wrong(
                "hold_at_most",
                "it is under 100 ms",
                "choose more than the work ever takes, such as 10 minutes",
            );
        }
        if self.hold_at_least > DAY
            || self
                .hold_at_most
                .is_some_and(|limit| limit < self.hold_at_least)
        {
            return wrong(
                "hold_at_least",
                "it is over a day, or longer than `hold_at_most`",
                "choose by how much the clocks of the fleet may differ, such as 30 s",
            );
        }
        if self.fence_ttl < Duration::from_secs(60) || self.fence_ttl > YEAR {
            return wrong(
                "fence_ttl",
                "it is under a minute or over a year",
                "choose more than the clocks of the servers may differ, such as a day",
            );
        }
        Ok(())
    }

    /// For how long a lock runs on the server when it is taken.
    pub(crate) fn first_ttl(&self) -> Duration {
        self.local_ttl().max(self.hold_at_least)
    }

    /// For how long an acquisition is good for, as far as the holder is concerned. A limit on the holder's clock
    /// takes what clocks may differ by as well on the server's.
    pub(crate) fn local_ttl(&self) -> Duration {
        let allowance = self.ttl / ALLOWANCE;
        let most = |limit: Duration| limit.saturating_add(allowance).min(self.ttl);
        self.hold_at_most.map_or(self.ttl, most)
    }
}
