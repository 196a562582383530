//! When a key expires: what is said to the server, and what it answers.

use std::borrow::Cow;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::command::Command;
use crate::error::{Error, Fault, FaultKind};

/// When a key that is written expires. The server keeps time in milliseconds: parts of one are
/// rounded up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Expiry {
    /// After this time, by the server's clock (`PX`).
    In(Duration),
    /// At this time, which the server compares with its own clock (`PXAT`).
    At(SystemTime),
    /// When the key expires already, if it does (`KEEPTTL`).
    Keep,
}

/// What is left of a key's time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Ttl {
    /// There is no such key.
    Absent,
    /// The key does not expire.
    Forever,
    /// The key expires after this time, to the millisecond.
    In(Duration),
}

impl Ttl {
    /// What is left, if the key is there and expires.
    pub fn left(self) -> Option<Duration> {
        match self {
            Ttl::In(left) => Some(left),
            Ttl::Absent | Ttl::Forever => None,
        }
    }

    /// From the reply to `PTTL`.
    pub(super) fn from_millis(millis: i64) -> Self {
        match u64::try_from(millis) {
            Ok(millis) => Ttl::In(Duration::from_millis(millis)),
            Err(_) if millis == -1 => Ttl::Forever,
            Err(_) => Ttl::Absent,
        }
    }
}

/// Under which condition a new expiry takes the place of the old.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ExpireIf {
    /// The key does not expire yet (`NX`).
    Forever,
    /// The key expires already (`XX`).
    Expiring,
    /// The new time is later; a key that does not expire counts as never (`GT`).
    Later,
    /// The new time is earlier; a key that does not expire counts as never (`LT`).
    Earlier,
}

impl ExpireIf {
    pub(super) fn word(self) -> &'static str {
        match self {
            ExpireIf::Forever => "NX",
            ExpireIf::Expiring => "XX",
            ExpireIf::Later => "GT",
            ExpireIf::Earlier => "LT",
        }
    }
}

impl Expiry {
    /// The option's word and its number, if it has one.
    pub(super) fn words(self, command: &'static str) -> Result<(&'static str, Option<u64>), Error> {
        Ok(match self {
            Expiry::In(ttl) => ("PX", Some(millis(command, ttl)?)),
            Expiry::At(time) => ("PXAT", Some(millis_since_epoch(command, time)?)),
            Expiry::Keep => ("KEEPTTL", None),
        })
    }

    pub(super) fn add_to(self, command: Command, name: &'static str) -> Result<Command, Error> {
        let (word, number) = self.words(name)?;
        let command = command.arg(word);
        Ok(match number {
            Some(number) => command.arg(number),
            None => command,
        })
    }
}

/// Servers add the time to their clock in 64 bits, and refuse what does not fit. A thousand years
/// always do.
const LONGEST: Duration = Duration::from_secs(1000 * 366 * 24 * 60 * 60);

/// Milliseconds, rounded up.
pub(super) fn millis(command: &'static str, ttl: Duration) -> Result<u64, Error> {
    if ttl.is_zero() {
        return Err(wrong(
            command,
            "a time to live of zero would delete the key; use `delete`",
        ));
    }
    if ttl > LONGEST {
        return Err(wrong(
            command,
            "a time to live of more than 1,000 years; leave it out, and the key stays",
        ));
    }
    Ok(u64::try_from(ttl.as_nanos().div_ceil(1_000_000)).unwrap_or(u64::MAX))
}

pub(super) fn millis_since_epoch(command: &'static str, time: SystemTime) -> Result<u64, Error> {
    let since = time
        .duration_since(UNIX_EPOCH)
        .map_err(|_| wrong(command, "a time before 1970"))?;
    millis(command, since)
}

/// The call is wrong: nothing was sent.
pub(super) fn wrong(command: &str, message: impl Into<Cow<'static, str>>) -> Error {
    Error::call(command, Fault::new(FaultKind::Invalid, message).not_sent())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_rounded_up_and_bounded() {
        let nano = Duration::from_nanos(1);
        assert_eq!(millis("SET", nano).unwrap(), 1);
        assert_eq!(millis("SET", Duration::from_millis(7)).unwrap(), 7);
        assert_eq!(millis("SET", Duration::from_millis(7) + nano).unwrap(), 8);
        assert!(millis("SET", Duration::ZERO).is_err());
        assert!(millis("SET", Duration::MAX).is_err());
        assert!(millis_since_epoch("SET", UNIX_EPOCH - nano * 1000).is_err());
        assert!(millis_since_epoch("SET", SystemTime::now()).is_ok());
    }

    #[test]
    fn the_remaining_time_is_read() {
        assert_eq!(Ttl::from_millis(-2), Ttl::Absent);
        assert_eq!(Ttl::from_millis(-1), Ttl::Forever);
        assert_eq!(Ttl::from_millis(0).left(), Some(Duration::ZERO));
        assert_eq!(Ttl::from_millis(1500), Ttl::In(Duration::from_millis(1500)));
    }
}
