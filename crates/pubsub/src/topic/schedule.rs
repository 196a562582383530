//! [`Schedule`]: messages at the times of a cron pattern, without a leader.

use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use croner::Cron;
use jiff::tz::TimeZone;
use jiff::{Timestamp, Zoned};
use redkit_core::Key;
use redkit_core::coordination::Backoff;
use serde::Serialize;
use tokio::time::sleep;
use tokio_util::task::AbortOnDropHandle;

use super::{Topic, check_group, scripts};
use crate::channel::check_size;
use crate::error::Error;

/// What happens to the times that passed while no process was there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Missed {
    /// Nothing.
    #[default]
    Skip,
    /// One message, for the last of them.
    Once,
    /// A message for each, the last so many at most.
    All(u32),
}

/// Builds a [`Schedule`].
#[must_use]
pub struct ScheduleBuilder<T> {
    topic: Topic<T>,
    name: String,
    cron: String,
    time_zone: String,
    missed: Missed,
}

/// A schedule that this process takes part in, from [`Topic::schedule`]. Dropping it ends that; the others
/// go on.
#[derive(Debug)]
#[must_use = "a schedule that is dropped publishes nothing"]
pub struct Schedule {
    _task: AbortOnDropHandle<()>,
}

struct Inner<T, F> {
    topic: Topic<T>,
    name: String,
    cron: Cron,
    time_zone: TimeZone,
    missed: Missed,
    message: F,
}

/// How long before its time a tick is published, to wait on the server.
const LEAD: Duration = Duration::from_secs(60);
/// How long a process sleeps at most before it looks at the server's clock again.
const LONGEST: Duration = Duration::from_secs(6 * 3600);

impl<T> Topic<T> {
    /// Starts to build a schedule: a message of this topic at each time of a cron pattern (five fields, or
    /// six with seconds before them) in a time zone of the IANA database.
    ///
    /// Every process of a fleet starts it. Each time is published once, under the id `name@time`, whichever
    /// process comes first, and delivered when the server's clock says so: no process's own clock takes part. In
    /// spring a time that the clocks skip is the first one after it; in autumn a fixed time that comes
    /// twice counts once.
    ///
    /// ```
    /// use redkit_pubsub::topic::{Missed, Topic};
    /// # use redkit_core::{Client, ClientConfig};
    /// # use redkit_embedded::Embedded;
    ///
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let client = Client::from_backend(std::sync::Arc::new(Embedded::new()), &ClientConfig::default())?;
    /// let reports: Topic<String> = Topic::builder(&client, "reports").build()?;
    /// let _daily = reports
    ///     .schedule("daily", "30 6 * * *", "Europe/Berlin")
    ///     .missed(Missed::Once)
    ///     .start(|tick| format!("the report of {tick}"))?;
    /// # Ok(()) }
    /// ```
    pub fn schedule(
        &self,
        name: impl Into<String>,
        cron: impl Into<String>,
        time_zone: impl Into<String>,
    ) -> ScheduleBuilder<T> {
        ScheduleBuilder {
            topic: self.clone(),
            name: name.into(),
            cron: cron.into(),
            time_zone: time_zone.into(),
            missed: Missed::default(),
        }
    }
}

impl<T: Serialize + Send + 'static> ScheduleBuilder<T> {
    /// What happens to times that passed while no process was there; nothing at first.
    pub fn missed(mut self, missed: Missed) -> Self {
        self.missed = missed;
        self
    }

    /// Starts to publish, in a task of this runtime. `message` makes the message of a time, which is given in
    /// the schedule's time zone, and must make the same in all processes.
    ///
    /// # Errors
    /// [`Error::Invalid`] for a name that is none, a pattern that cannot be read or never comes, and a time
    /// zone that is not known.
    pub fn start(
        self,
        message: impl Fn(&Zoned) -> T + Send + Sync + 'static,
    ) -> Result<Schedule, Error> {
        check_group(&self.name).map_err(|_| {
            let problem =
                "it is empty or holds something else than letters, digits, `-`, `_` and `.`";
            Error::invalid(
                "name",
                problem,
                "choose a short name such as `daily-report`",
            )
        })?;
        let cron = Cron::from_str(&self.cron).map_err(|error| {
            let fix = "write five fields, such as `30 6 * * *`";
            Error::invalid("cron", format!("it cannot be read: {error}"), fix)
        })?;
        let time_zone = TimeZone::get(&self.time_zone).map_err(|_| {
            let fix = "give a name of the IANA database, such as `Europe/Berlin`";
            Error::invalid("time_zone", "it is not known", fix)
        })?;
        let now = Timestamp::now().to_zoned(time_zone.clone());
        if cron.find_next_occurrence(&now, false).is_err() {
            let fix = "give one that has a next time";
            return Err(Error::invalid("cron", "it never comes", fix));
        }
        if self.missed == Missed::All(0) {
            let fix = "give at least one, or `Missed::Skip`";
            return Err(Error::invalid("missed", "it is for no time", fix));
        }
        let inner = Arc::new(Inner {
            topic: self.topic,
            name: self.name,
            cron,
            time_zone,
            missed: self.missed,
            message,
        });
        let task = super::consumer::spawn(&inner, |inner| async move { inner.run().await });
        Ok(Schedule { _task: task })
    }
}

impl<T, F> Inner<T, F>
where
    T: Serialize + Send + 'static,
    F: Fn(&Zoned) -> T + Send + Sync + 'static,
{
    async fn run(&self) {
        let mut backoff = Backoff::new(Duration::from_millis(200), Duration::from_secs(10));
        loop {
            match self.publish_what_is_due().await {
                Ok(pause) => {
                    backoff.reset();
                    sleep(pause).await;
                }
                Err(error) => {
                    tracing::warn!(
                        target: "redkit::pubsub", %error, schedule = self.name,
                        "a schedule cannot be published"
                    );
                    sleep(backoff.next_pause()).await;
                }
            }
        }
    }

    /// Gives until when there is nothing to do.
    async fn publish_what_is_due(&self) -> Result<Duration, Error> {
        let Some(partition) = self.topic.inner.partition_of(&[], &self.name) else {
            return Ok(LONGEST);
        };
        let client = &self.topic.inner.client;
        let look = scripts::schedule_look(partition, &self.name);
        let (now, last): (i64, i64) = client.eval(look).await?;
        for tick in self.missed(now, last) {
            self.publish(partition, &tick).await?;
        }
        let lead = i64::try_from(LEAD.as_micros()).unwrap_or(i64::MAX);
        let mut from = now.max(last);
        // A pattern by seconds has a minute's ticks in the lead.
        for _ in 0..100 {
            let Some(next) = self.next(from) else {
                return Ok(LONGEST);
            };
            let at = next.timestamp().as_microsecond();
            if at > now + lead {
                let pause = u64::try_from(at - lead - now).unwrap_or(0);
                return Ok(Duration::from_micros(pause).min(LONGEST));
            }
            self.publish(partition, &next).await?;
            from = at;
        }
        Ok(Duration::from_millis(100))
    }

    /// The ticks between the last one and now that are to be made up for, in their order.
    fn missed(&self, now: i64, last: i64) -> Vec<Zoned> {
        let most = match self.missed {
            Missed::Skip => return Vec::new(),
            Missed::Once => 1,
            Missed::All(most) => most,
        };
        let mut missed = Vec::new();
        let Some(mut before) = self.zoned(now) else {
            return missed;
        };
        let mut is_first = true;
        while missed.len() < usize::try_from(most).unwrap_or(usize::MAX) {
            let Ok(tick) = self.cron.find_previous_occurrence(&before, is_first) else {
                break;
            };
            is_first = false;
            if tick.timestamp().as_microsecond() <= last {
                break;
            }
            before = tick.clone();
            missed.push(tick);
        }
        missed.reverse();
        missed
    }

    fn next(&self, after: i64) -> Option<Zoned> {
        self.cron
            .find_next_occurrence(&self.zoned(after)?, false)
            .ok()
    }

    fn zoned(&self, micros: i64) -> Option<Zoned> {
        let at = Timestamp::from_microsecond(micros).ok()?;
        Some(at.to_zoned(self.time_zone.clone()))
    }

    async fn publish(&self, to: &super::keys::Partition, tick: &Zoned) -> Result<(), Error> {
        let inner = &self.topic.inner;
        let message = (self.message)(tick);
        let payload = inner
            .client
            .codec()
            .encode(to.stream.as_bytes(), &message)?;
        let payload = check_size(payload, inner.max_message_bytes)?;
        let id = format!("{}@{}", self.name, tick.timestamp());
        let wake = inner.wake.as_ref().map(Key::to_bytes);
        let at = tick.timestamp().as_microsecond();
        let call = scripts::schedule(to, &self.name, at, &id, payload, wake);
        if inner.client.eval::<u64>(call).await? == 1 {
            inner.metrics.published.increment(1);
        }
        Ok(())
    }
}

impl<T> std::fmt::Debug for ScheduleBuilder<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ScheduleBuilder")
            .field("name", &self.name)
            .field("cron", &self.cron)
            .field("time_zone", &self.time_zone)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The next times after a moment, in UTC.
    fn times(cron: &str, time_zone: &str, after: &str, count: usize) -> Vec<String> {
        let cron = Cron::from_str(cron).unwrap();
        let after: Timestamp = after.parse().unwrap();
        let mut at = after.to_zoned(TimeZone::get(time_zone).unwrap());
        let mut times = Vec::new();
        for _ in 0..count {
            at = cron.find_next_occurrence(&at, false).unwrap();
            times.push(at.timestamp().to_string());
        }
        times
    }

    #[test]
    fn a_time_that_the_clocks_skip_is_the_first_one_after_it() {
        let times = times("30 2 * * *", "Europe/Berlin", "2027-03-27T00:00:00Z", 3);
        let expected = [
            "2027-03-27T01:30:00Z",
            "2027-03-28T01:00:00Z",
            "2027-03-29T00:30:00Z",
        ];
        assert_eq!(times, expected);
    }

    #[test]
    fn a_fixed_time_that_comes_twice_counts_once() {
        let times = times("30 2 * * *", "Europe/Berlin", "2027-10-30T12:00:00Z", 2);
        assert_eq!(times, ["2027-10-31T00:30:00Z", "2027-11-01T01:30:00Z"]);
    }

    #[test]
    fn a_leap_day_comes_every_four_years() {
        let times = times("0 12 29 2 *", "UTC", "2026-01-01T00:00:00Z", 2);
        assert_eq!(times, ["2028-02-29T12:00:00Z", "2032-02-29T12:00:00Z"]);
    }
}
