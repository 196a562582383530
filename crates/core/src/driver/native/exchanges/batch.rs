//! The writer's side: it takes a [`Batch`] of the bytes that wait, and gives back those that the socket left.

use std::io::IoSlice;
use std::ops::Range;
use std::task::Waker;

use bytes::{Buf, Bytes};
use smallvec::SmallVec;

use super::{Exchanges, MOST_KEPT};
use crate::driver::native::encode::Segments;

/// How much is given to the socket at once, and in how many pieces.
const MOST_AT_ONCE: usize = 256 * 1024;
const MOST_PIECES: usize = 16;

/// The bytes that the socket is given next.
#[derive(Debug)]
pub(in crate::driver::native) struct Batch {
    small: Vec<u8>,
    pieces: SmallVec<[Piece; 4]>,
}

#[derive(Debug)]
enum Piece {
    Small(Range<usize>),
    Large(Bytes),
}

impl Exchanges {
    /// Hands what waits to a writer, who gives back what is left of it with [`settle`](Self::settle).
    pub(in crate::driver::native) fn hand_over(&mut self) -> Option<Batch> {
        self.is_told = false;
        if !self.wants_writer() {
            return None;
        }
        self.bury();
        let (mut at, mut bytes) = (self.head, 0);
        let mut pieces: SmallVec<[Piece; 4]> = SmallVec::new();
        self.handed = self.given;
        let first = self.index(self.given);
        for entry in self.queue.iter().skip(first) {
            if bytes >= MOST_AT_ONCE || pieces.len() >= MOST_PIECES {
                break;
            }
            match (&entry.segments, pieces.last_mut()) {
                (Some(segments), _) => {
                    let room = MOST_PIECES - pieces.len();
                    let large = segments.iter().take(room).cloned().map(Piece::Large);
                    pieces.extend(large);
                }
                (None, Some(Piece::Small(range))) => {
                    at += entry.left;
                    range.end = at;
                }
                (None, _) => {
                    pieces.push(Piece::Small(at..at + entry.left));
                    at += entry.left;
                }
            }
            bytes += entry.left;
            self.handed += 1;
        }
        if pieces.is_empty() {
            // The callers took back the bytes that a full socket held up.
            self.is_blocked = false;
            return None;
        }
        self.is_writing = true;
        let small = std::mem::take(&mut self.small);
        Some(Batch { small, pieces })
    }

    /// The writer has given `count` bytes of its batch to the socket.
    pub(in crate::driver::native) fn settle(
        &mut self,
        batch: Batch,
        mut count: usize,
    ) -> SmallVec<[Waker; 4]> {
        self.is_writing = false;
        if self.closed.is_some() {
            return SmallVec::new();
        }
        let handed = std::mem::replace(&mut self.handed, self.given);
        while count > 0 {
            let index = self.index(self.given);
            let Some(entry) = self.queue.get_mut(index) else {
                break;
            };
            let now = count.min(entry.left);
            count -= now;
            entry.left -= now;
            entry.is_begun = true;
            match &mut entry.segments {
                Some(segments) => skip(segments, now),
                None => self.head += now,
            }
            if entry.left > 0 {
                break;
            }
            entry.segments = None;
            self.waiting -= entry.weight;
            self.given += 1;
        }
        self.handed = self.given;
        self.put_back(batch.small);
        if let Some(last) = self
            .answered_early
            .checked_sub(1)
            .filter(|last| *last >= self.given)
        {
            let entry = self.queue.get(self.index(last));
            // A pipeline's first commands may be answered while the last are still on their way.
            self.is_violated |= !entry.is_some_and(|entry| entry.is_begun && entry.replies > 0);
        }
        // Calls whose callers left meanwhile were not counted as dead, because the bytes might have gone.
        for number in self.given..handed.max(self.given) {
            let index = self.index(number);
            let has_left = self
                .queue
                .get(index)
                .is_some_and(|entry| entry.slot.is_none());
            if has_left {
                self.kill(index);
            }
        }
        self.forget_answered();
        self.room()
    }

    fn put_back(&mut self, mut rest: Vec<u8>) {
        if self.head >= rest.len() {
            // All of it is gone. What was queued meanwhile stands alone.
            self.head = 0;
            if self.small.is_empty() && rest.capacity() <= MOST_KEPT {
                rest.clear();
                self.small = rest;
            }
            return;
        }
        rest.append(&mut self.small);
        if self.head > MOST_KEPT && self.head > rest.len() / 2 {
            rest.drain(..self.head);
            self.head = 0;
        }
        self.small = rest;
    }
}

fn bytes_of<'b>(piece: &'b Piece, small: &'b [u8]) -> &'b [u8] {
    match piece {
        Piece::Small(range) => small.get(range.clone()).unwrap_or_default(),
        Piece::Large(bytes) => bytes,
    }
}

impl Batch {
    pub(in crate::driver::native) fn slices(&self) -> SmallVec<[IoSlice<'_>; MOST_PIECES]> {
        let slice = |piece| bytes_of(piece, &self.small);
        self.pieces.iter().map(slice).map(IoSlice::new).collect()
    }
}

/// Takes `count` bytes off the front.
fn skip(segments: &mut Segments, mut count: usize) {
    while let Some(first) = segments.front_mut() {
        if first.len() > count {
            first.advance(count);
            return;
        }
        count -= first.len();
        segments.pop_front();
    }
}
