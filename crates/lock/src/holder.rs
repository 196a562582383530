//! [`Holder`]: who has a lock, as the server knows it.

use std::fmt;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::error::Error;
use crate::fence::Fence;
use redkit_core::ConfigError;

/// Who has a lock, as the server knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Holder {
    /// What the holder is called: see [`label`](crate::LockManagerBuilder::label).
    pub label: Option<Box<str>>,
    /// The host that it runs on.
    pub host: Box<str>,
    /// The id of its process there.
    pub process: u32,
    /// Since when it has the lock, by the server's clock.
    pub since: SystemTime,
    /// Its fence.
    pub fence: Fence,
    /// When the lock runs out unless it is renewed; `None` when it never does, because its time to live was
    /// taken away from outside.
    pub expires_in: Option<Duration>,
    /// The lock was given back, and rests until it runs out: see
    /// [`hold_at_least`](crate::LockManagerBuilder::hold_at_least).
    pub is_resting: bool,
}

impl Holder {
    /// Reads what stands at a lock's key (see `scripts/record.lua`); `None` when that is not of this crate.
    pub(crate) fn read(held: &[u8], expires_in: Option<Duration>) -> Option<Self> {
        let (flag, rest) = held.split_first()?;
        let text = std::str::from_utf8(rest).ok()?;
        let mut words = text.splitn(6, ' ');
        let _token = words.next().filter(|token| token.len() == 32)?;
        let fence = words.next()?.parse().ok()?;
        let since = Duration::from_micros(words.next()?.parse().ok()?);
        let process = words.next()?.parse().ok()?;
        let host = words.next()?.into();
        let label = words.next()?;
        Some(Self {
            label: (label != NO_LABEL).then(|| label.into()),
            host,
            process,
            since: UNIX_EPOCH.checked_add(since)?,
            fence: Fence::new(fence),
            expires_in,
            is_resting: *flag == b'r',
        })
    }
}

/// `import on web-3 (process 71, fence 1764000000000000)`
impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            label,
            host,
            process,
            fence,
            ..
        } = self;
        if let Some(label) = label {
            write!(f, "{label} on ")?;
        }
        write!(f, "{host} (process {process}, fence {fence})")?;
        match self.is_resting {
            true => f.write_str(", which gave it back early"),
            false => Ok(()),
        }
    }
}

/// In place of a label.
const NO_LABEL: &str = "-";

/// The longest label, in bytes.
const LONGEST_LABEL: usize = 200;

/// Process, host and label of an owner in this process, as they stand at the key of a lock.
///
/// # Errors
/// [`Error::Core`] for a label that is empty, too long, or holds control characters.
pub(crate) fn owner_text(label: Option<&str>) -> Result<Box<str>, Error> {
    let label = label.unwrap_or(NO_LABEL);
    if label.is_empty() || label.len() > LONGEST_LABEL || label.chars().any(char::is_control) {
        return Err(ConfigError::new(
            "label",
            "it is empty, longer than 200 bytes, or holds control characters",
            "choose a short text such as `nightly import`",
        )
        .into());
    }
    let name = rustix::system::uname();
    let host = name.nodename().to_string_lossy();
    let host: String = host.split_whitespace().collect();
    let host = match host.as_str() {
        "" => "unknown",
        host => host,
    };
    Ok(format!("{} {host} {label}", redkit_core::random::process_number()).into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_holder_reads_back_from_its_text() {
        let token = "0123456789abcdef0123456789abcdef";
        let owner = owner_text(Some("nightly import")).unwrap();
        let held = format!("w{token} 1764000000000001 1764000000000000 {owner}");
        let holder = Holder::read(held.as_bytes(), None).unwrap();
        assert_eq!(holder.label.as_deref(), Some("nightly import"));
        assert_eq!(holder.process, redkit_core::random::process_number());
        assert_eq!(holder.fence.get(), 1_764_000_000_000_001);
        assert_eq!(
            holder.since,
            UNIX_EPOCH + Duration::from_micros(1_764_000_000_000_000)
        );
        assert!(!holder.is_resting);
        let nameless = format!("r{token} 2 1 {}", owner_text(None).unwrap());
        let holder = Holder::read(nameless.as_bytes(), None).unwrap();
        assert!(holder.is_resting && holder.label.is_none());
        for foreign in ["", "h", "OK", "hello world", "h0 1 2 3 4 5", "\u{e9}"] {
            assert_eq!(Holder::read(foreign.as_bytes(), None), None, "{foreign}");
        }
        assert_eq!(Holder::read(b"h\xff\xff 1 2 3 4 5", None), None);
    }

    #[test]
    fn a_label_is_a_short_text() {
        for wrong in ["", "a\nb", &"x".repeat(201)] {
            assert!(owner_text(Some(wrong)).is_err(), "{wrong:?}");
        }
    }
}
