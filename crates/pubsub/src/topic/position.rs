//! [`LogPosition`].

use std::fmt;
use std::str::FromStr;

use crate::inbox::ItemId;

/// How far a [`LogReader`](super::LogReader) has come, in each partition. Its text form is fit for
/// `Last-Event-ID`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogPosition(pub(super) Vec<Place>);

/// A place in one partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Place {
    /// The last entry that was read.
    pub(super) entry: ItemId,
    /// How many entries had ever been added up to it.
    pub(super) count: u64,
}

/// A text that is no position.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "a position names an entry and a number for each partition, such as `1764428400000-0:12,0-0:0`"
)]
#[non_exhaustive]
pub struct NotAPosition;

impl fmt::Display for LogPosition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (number, place) in self.0.iter().enumerate() {
            if number > 0 {
                f.write_str(",")?;
            }
            write!(f, "{}:{}", place.entry, place.count)?;
        }
        Ok(())
    }
}

impl FromStr for LogPosition {
    type Err = NotAPosition;

    fn from_str(text: &str) -> Result<Self, NotAPosition> {
        let places = text.split(',').map(|place| {
            let (entry, count) = place.split_once(':').ok_or(NotAPosition)?;
            Ok(Place {
                entry: entry.parse().map_err(|_| NotAPosition)?,
                count: count.parse().map_err(|_| NotAPosition)?,
            })
        });
        places.collect::<Result<_, _>>().map(Self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_position_comes_back_from_its_text() {
        for text in ["1764428400000-0:12", "0-0:0,7-1:3"] {
            let position: LogPosition = text.parse().unwrap();
            assert_eq!(position.to_string(), text);
        }
        for none in ["", "7-1", "7-1:", "7-1:x", "7-1:2,", "nonsense", "7:1"] {
            assert_eq!(none.parse::<LogPosition>(), Err(NotAPosition), "{none}");
        }
    }
}
