//! Spans of time that overlap, for guarantees of the form "at most so many at a time".

use std::time::Duration;

use crate::simulation::history::ProcessId;

/// A time from which, and one until which, a process has something. Spans that only touch do not overlap.
#[derive(Debug, Clone)]
pub(super) struct Span {
    pub(super) process: ProcessId,
    pub(super) from: Duration,
    pub(super) until: Duration,
    /// How much of what is limited it takes.
    pub(super) weight: u64,
}

/// The first moment at which the spans together take more than `limit`, with the indices of those spans, the
/// one that was too much last.
pub(super) fn first_excess(spans: &[Span], limit: u64) -> Option<Vec<usize>> {
    let mut by_start: Vec<usize> = (0..spans.len()).collect();
    by_start.sort_by_key(|index| spans.get(*index).map(|span| span.from));
    let mut active: Vec<(usize, &Span)> = Vec::new();
    for index in by_start {
        let Some(span) = spans.get(index) else {
            continue;
        };
        active.retain(|(_, other)| other.until > span.from);
        if span.until <= span.from {
            continue;
        }
        active.push((index, span));
        let taken: u64 = active.iter().map(|(_, span)| span.weight).sum();
        if taken > limit {
            return Some(active.into_iter().map(|(index, _)| index).collect());
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn span(from: u64, until: u64, weight: u64) -> Span {
        Span {
            process: ProcessId(0),
            from: Duration::from_secs(from),
            until: Duration::from_secs(until),
            weight,
        }
    }

    #[test]
    fn spans_that_touch_do_not_overlap() {
        assert_eq!(first_excess(&[span(2, 3, 1), span(1, 2, 1)], 1), None);
    }

    #[test]
    fn an_empty_span_overlaps_with_none() {
        assert_eq!(first_excess(&[span(1, 3, 1), span(2, 2, 1)], 1), None);
    }

    #[test]
    fn weights_add_up() {
        let spans = [span(1, 9, 2), span(2, 9, 1), span(3, 9, 1)];
        assert_eq!(first_excess(&spans, 4), None);
        assert_eq!(first_excess(&spans, 3), Some(vec![0, 1, 2]));
    }
}
