//! [`PageSize`]: how many entries are asked for at once.

/// How many entries are asked for at once: fewer after a reply that did not come, as it may have been too large for the
/// time that it has, and more again when replies come. Otherwise a page that takes longer would be asked for again for
/// ever.
#[derive(Debug)]
pub(crate) struct PageSize {
    limit: usize,
    /// How many replies have come since the limit was set.
    replies: u32,
}

/// After so many replies the limit is doubled: seldom enough that few are lost should it be too much.
const REPLIES: u32 = 16;

impl PageSize {
    /// Without a limit.
    pub(crate) fn new() -> Self {
        Self {
            limit: usize::MAX,
            replies: 0,
        }
    }

    /// How many of `most` are asked for.
    pub(crate) fn of(&self, most: usize) -> usize {
        most.min(self.limit)
    }

    /// The reply to a call that asked for so many did not come. One that asked for one at most was not too large.
    pub(crate) fn was_lost(&mut self, asked: usize) {
        if asked <= 1 {
            return;
        }
        self.limit = asked / 2;
        self.replies = 0;
    }

    /// A reply has come.
    pub(crate) fn came(&mut self) {
        self.replies += 1;
        if self.replies >= REPLIES {
            self.replies = 0;
            self.limit = self.limit.saturating_mul(2);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lost_reply_to_a_call_that_asked_for_one_at_most_says_nothing_of_the_size() {
        let mut size = PageSize::new();
        size.was_lost(0);
        size.was_lost(1);
        assert_eq!(size.of(256), 256);
        size.was_lost(3);
        assert_eq!(size.of(256), 1);
        size.was_lost(1);
        assert_eq!(size.of(256), 1);
    }
}
