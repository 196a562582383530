//! Ids that nobody else gives: UUIDs of version 7, which sort by the millisecond in which they were made.

use redkit_core::random;
use uuid::{Builder, Uuid};

/// A new id.
pub(crate) fn unique_id() -> Uuid {
    Builder::from_unix_timestamp_millis(random::id_millis(), &random::random()).into_uuid()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_of_version_seven_and_differ() {
        let (one, other) = (unique_id(), unique_id());
        assert_eq!(one.get_version_num(), 7);
        assert_ne!(one, other);
    }
}
