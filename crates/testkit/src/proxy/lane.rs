//! [`Lane`]: one direction of a link, between the socket that is read and the one that is written.

use std::collections::VecDeque;
use std::io;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::{Buf as _, Bytes};
use tokio::io::{AsyncWrite, AsyncWriteExt as _};
use tokio::time::{Instant, sleep_until};

use super::{Counters, Cut, Direction, Mode};

/// How much is read ahead of what can be written. Beyond it the sender is held back, as it would
/// be by a full socket. It is large because a delay needs room for all that is on its way.
const ROOM: usize = 16 * 1024 * 1024;

/// One direction of a link: what was read and not yet written.
pub(super) struct Lane {
    direction: Direction,
    queue: VecDeque<(Instant, Bytes)>,
    queued: usize,
    /// The source has ended.
    ended: bool,
    /// The destination was told.
    pub(super) told: bool,
    /// Bytes passed on since the mode was set.
    pub(super) passed: u64,
}

impl Lane {
    pub(super) fn new(direction: Direction) -> Self {
        Self {
            direction,
            queue: VecDeque::new(),
            queued: 0,
            ended: false,
            told: false,
            passed: 0,
        }
    }

    pub(super) fn reads(&self) -> bool {
        !self.ended && self.queued < ROOM
    }

    pub(super) fn take(&mut self, bytes: &[u8], mode: Mode) {
        if bytes.is_empty() {
            self.ended = true;
            return;
        }
        let delay = match (mode, self.direction) {
            (Mode::Delay { to_server, .. }, Direction::ToServer) => to_server,
            (Mode::Delay { to_client, .. }, Direction::ToClient) => to_client,
            _ => Duration::ZERO,
        };
        let bytes = Bytes::copy_from_slice(bytes);
        self.queued += bytes.len();
        self.queue.push_back((Instant::now() + delay, bytes));
    }

    /// Whether the destination is to be told of the end now.
    pub(super) fn is_over(&self) -> bool {
        self.ended && self.queue.is_empty() && !self.told
    }

    /// How much may still go before the cut, if one concerns this lane.
    fn left(&self, mode: Mode) -> Option<(u64, Cut)> {
        match mode {
            Mode::Cut(cut) if cut.direction == self.direction => {
                Some((cut.bytes.saturating_sub(self.passed), cut))
            }
            _ => None,
        }
    }

    /// The cut that is due.
    pub(super) fn is_cut(&self, mode: Mode) -> Option<Cut> {
        let (left, cut) = self.left(mode)?;
        (left == 0 && (cut.bytes > 0 || !self.queue.is_empty())).then_some(cut)
    }

    /// What to write next.
    fn front(&self, mode: Mode) -> &[u8] {
        let Some((_, bytes)) = self.queue.front() else {
            return &[];
        };
        match self.left(mode) {
            Some((left, _)) => {
                let left = usize::try_from(left).unwrap_or(usize::MAX);
                bytes.get(..left).unwrap_or(bytes)
            }
            None => bytes,
        }
    }

    pub(super) fn wrote(&mut self, count: usize, counters: &Counters) {
        let Some((_, bytes)) = self.queue.front_mut() else {
            return;
        };
        bytes.advance(count.min(bytes.len()));
        if bytes.is_empty() {
            self.queue.pop_front();
        }
        self.queued = self.queued.saturating_sub(count);
        let count = u64::try_from(count).unwrap_or(u64::MAX);
        self.passed = self.passed.saturating_add(count);
        counters
            .passed(self.direction)
            .fetch_add(count, Ordering::AcqRel);
    }

    /// Writes some of what is due; waits for ever when there is nothing. Dropping it loses nothing.
    pub(super) async fn write_due(
        &self,
        to: &mut (impl AsyncWrite + Unpin),
        mode: Mode,
    ) -> io::Result<usize> {
        let Some((due, _)) = self.queue.front() else {
            return std::future::pending().await;
        };
        // The timer rounds up to a millisecond, which passing on must not cost.
        if *due > Instant::now() {
            sleep_until(*due).await;
        }
        to.write(self.front(mode)).await
    }
}
