//! Rust's ranges as the server's positions: from zero, negative from the end, both ends included.

use std::ops::{Bound, RangeBounds};

/// First and last position; `None` when the range holds nothing whatever the collection's length.
pub(crate) fn positions(range: &impl RangeBounds<i64>) -> Option<(i64, i64)> {
    let first = match range.start_bound() {
        Bound::Included(&first) => first,
        // Behind the last, there is nothing; the sum would mean the first.
        Bound::Excluded(-1 | &i64::MAX) => return None,
        Bound::Excluded(&before) => before + 1,
        Bound::Unbounded => 0,
    };
    let last = match range.end_bound() {
        Bound::Included(&last) => last,
        // Before the first, there is nothing; the difference would mean the last.
        Bound::Excluded(0 | &i64::MIN) => return None,
        Bound::Excluded(&after) => after - 1,
        Bound::Unbounded => -1,
    };
    Some((first, last))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_become_positions() {
        assert_eq!(positions(&(..)), Some((0, -1)));
        assert_eq!(positions(&(2..5)), Some((2, 4)));
        assert_eq!(positions(&(..=-1)), Some((0, -1)));
        assert_eq!(positions(&(-3..)), Some((-3, -1)));
        assert_eq!(positions(&(..-1)), Some((0, -2)));
    }

    #[test]
    fn an_empty_range_is_not_everything() {
        assert_eq!(positions(&(0..0)), None);
        assert_eq!(positions(&(-2..0)), None);
        assert_eq!(positions(&(Bound::Excluded(-1), Bound::Unbounded)), None);
        assert_eq!(positions(&(..i64::MIN)), None);
        assert_eq!(
            positions(&(3..3)),
            Some((3, 2)),
            "which the server takes for empty"
        );
    }
}
