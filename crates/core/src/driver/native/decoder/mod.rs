//! [`Decoder`]: from the bytes that a server sends to replies and pushed frames (RESP3).
//!
//! It does not recurse, begins nothing anew when the rest of a reply comes later, and reserves no
//! memory on the word of a server: a length is only believed as far as its bytes have come.

mod line;
mod tree;

use bytes::{Buf, Bytes, BytesMut};

use self::line::{Scan, boolean, double, integer, length, scan, text};
use self::tree::{Kind, Open, Whole};
use crate::error::ServerError;
use crate::value::Value;

/// What a server may send.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    /// Bytes of one bulk string.
    pub(crate) bulk: usize,
    /// How deep aggregates may lie in each other.
    pub(crate) depth: usize,
    /// Bytes that one reply may take in memory, its items included.
    pub(crate) total: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            // The server's own default, `proto-max-bulk-len`.
            bulk: 512 * 1024 * 1024,
            depth: 128,
            total: 1024 * 1024 * 1024,
        }
    }
}

/// What came.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Frame {
    /// The answer to the earliest command that has none.
    Reply(Result<Value, ServerError>),
    /// What nobody asked for: its kind, and the rest.
    Push(Vec<Value>),
}

/// The bytes are not what a server may send. Nothing after them can be understood.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Violation {
    #[error(
        "a reply begins with the byte 0x{0:02x}; check that the address is a Redis or Valkey server's, and whether the port wants TLS (rediss://)"
    )]
    Marker(u8),
    #[error("a line of a reply is malformed ({0})")]
    Line(&'static str),
    #[error("a bulk string does not end where its length says")]
    Tail,
    #[error("a bulk string of {0} bytes is longer than the {1} that are accepted")]
    Bulk(u64, usize),
    #[error("a reply nests deeper than the {0} levels that are accepted")]
    Depth(usize),
    #[error(
        "a reply takes more than the {0} bytes that are accepted; ask for less at once (SCAN, ranges)"
    )]
    Total(usize),
    #[error("a pushed frame stands inside a reply")]
    PushInside,
    #[error("a pushed frame has no kind")]
    PushEmpty,
}

/// From this length on a bulk string shares the read buffer. A shorter one is copied: what a program
/// keeps for long must not hold a buffer many times its size.
const WORTH_SHARING: usize = 1024;

/// A bulk string from this length on that has not come whole gets a buffer of its own, which grows
/// with what comes and is in the end as large as the string.
const WORTH_A_BUFFER: usize = 32 * 1024;

/// How much is read at once: little, until that much comes at once.
const LEAST: usize = 16 * 1024;
const LARGEST: usize = 64 * 1024;

/// How many items of an aggregate are made room for before they have come.
const MOST_RESERVED: u64 = 1024;

#[derive(Debug)]
pub(crate) struct Decoder {
    limits: Limits,
    buffer: BytesMut,
    /// How much to make room for.
    chunk: usize,
    /// Up to here the buffer is read.
    at: usize,
    /// How far beyond `at` the end of a line was looked for in vain.
    scanned: usize,
    /// The length of the bulk string that is coming, and what it will be.
    bulk: Option<(Bulk, usize)>,
    open: Vec<Open>,
    /// What the reply that is coming takes so far.
    total: usize,
    #[cfg(test)]
    pub(super) examined: u64,
}

/// What stands with a length in front of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Bulk {
    Bytes,
    Error,
    Verbatim,
}

enum Step {
    Value(Value),
    /// An aggregate begins.
    Opened,
}

impl Decoder {
    pub(crate) fn new(limits: Limits) -> Self {
        Self {
            limits,
            buffer: BytesMut::new(),
            chunk: LEAST,
            at: 0,
            scanned: 0,
            bulk: None,
            open: Vec::new(),
            total: 0,
            #[cfg(test)]
            examined: 0,
        }
    }

    /// Where to put what is read next, and how much at most.
    pub(crate) fn space(&mut self) -> (&mut BytesMut, usize) {
        self.consume();
        let have = self.buffer.len();
        let is_full = have > 0 && self.buffer.capacity() == have;
        if let Some((_, length)) = self.bulk
            && length >= WORTH_A_BUFFER
            && length + TAIL > have
        {
            let whole = length + TAIL;
            if is_full {
                // Twice what has come, and never more than what is to come.
                let mut own = BytesMut::with_capacity((have * 2).max(WORTH_A_BUFFER).min(whole));
                own.extend_from_slice(&self.buffer);
                self.buffer = own;
            } else if have == 0 {
                self.buffer.reserve(LEAST);
            }
            let room = self.buffer.capacity() - have;
            return (&mut self.buffer, room.min(whole - have));
        }
        if is_full {
            self.chunk = (self.chunk * 2).min(LARGEST);
        }
        if self.buffer.capacity() - have < LEAST / 4 {
            self.buffer.reserve(self.chunk);
        }
        let room = self.buffer.capacity() - have;
        (&mut self.buffer, room)
    }

    /// Adds bytes, for who has them already.
    #[cfg(any(test, fuzzing))]
    pub(crate) fn feed(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let (buffer, room) = self.space();
            let (now, later) = bytes.split_at(room.min(bytes.len()));
            buffer.extend_from_slice(now);
            bytes = later;
        }
    }

    /// How many bytes are kept for what has not come whole.
    #[cfg(any(test, fuzzing))]
    pub(crate) fn kept(&self) -> usize {
        self.buffer.capacity()
    }

    /// The next frame that has come whole.
    pub(crate) fn next(&mut self) -> Result<Option<Frame>, Violation> {
        loop {
            let Some(step) = self.step()? else {
                return Ok(None);
            };
            let Step::Value(mut value) = step else {
                continue;
            };
            // A value ends its aggregate, which may end another.
            loop {
                let Some(open) = self.open.last_mut() else {
                    self.total = 0;
                    return Ok(Some(Frame::Reply(match value {
                        Value::Error(error) => Err(error),
                        other => Ok(other),
                    })));
                };
                if !open.push(value) {
                    break;
                }
                match self.open.pop().map(Open::close) {
                    Some(Whole::Value(whole)) => value = whole,
                    Some(Whole::Push(items)) => {
                        self.total = 0;
                        return Ok(Some(Frame::Push(items)));
                    }
                    Some(Whole::Nothing) | None => break,
                }
            }
        }
    }

    /// One scalar, or the head of an aggregate; `None` when it has not come whole.
    fn step(&mut self) -> Result<Option<Step>, Violation> {
        if let Some((kind, length)) = self.bulk {
            return Ok(self.bulk_string(kind, length)?.map(Step::Value));
        }
        let unread = self.buffer.get(self.at..).unwrap_or_default();
        let scanned = scan(unread, self.scanned)?;
        #[cfg(test)]
        {
            let (Scan::End(to) | Scan::NotYet(to)) = scanned;
            self.examined += (to - self.scanned) as u64;
        }
        let end = match scanned {
            Scan::End(end) => end,
            Scan::NotYet(scanned) => {
                self.scanned = scanned;
                return Ok(None);
            }
        };
        self.scanned = 0;
        let Some((&marker, line)) = unread.get(..end).and_then(<[u8]>::split_first) else {
            return Err(Violation::Marker(b'\r'));
        };
        let value = match marker {
            b'+' if line == b"OK" => Value::Ok,
            b'+' => Value::Status(text(line).into()),
            b'-' => Value::Error(ServerError::parse(&text(line))),
            b':' => Value::Int(integer(line)?),
            b'_' => Value::Nil,
            b'#' => Value::Bool(boolean(line)?),
            b',' => Value::Double(double(line)?),
            b'(' => Value::BigNumber(line::big_number(line)?),
            b'$' | b'!' | b'=' => {
                let length = length(line)?;
                let kind = match marker {
                    b'$' => Bulk::Bytes,
                    b'!' => Bulk::Error,
                    _ => Bulk::Verbatim,
                };
                self.at += end + LINE_END;
                return match length {
                    None => Ok(Some(Step::Value(self.counted(Value::Nil, 0)?))),
                    Some(length) => self.begin_bulk(kind, length),
                };
            }
            b'*' | b'~' | b'%' | b'>' | b'|' => {
                let length = length(line)?;
                self.at += end + LINE_END;
                return self.begin_aggregate(marker, length).map(Some);
            }
            other => return Err(Violation::Marker(other)),
        };
        self.at += end + LINE_END;
        self.counted(value, end)
            .map(|value| Some(Step::Value(value)))
    }

    fn begin_bulk(&mut self, kind: Bulk, length: u64) -> Result<Option<Step>, Violation> {
        let within = usize::try_from(length)
            .ok()
            .filter(|&length| length <= self.limits.bulk);
        let Some(length) = within else {
            return Err(Violation::Bulk(length, self.limits.bulk));
        };
        self.bulk = Some((kind, length));
        Ok(self.bulk_string(kind, length)?.map(Step::Value))
    }

    fn bulk_string(&mut self, kind: Bulk, length: usize) -> Result<Option<Value>, Violation> {
        let unread = self.buffer.get(self.at..).unwrap_or_default();
        let (Some(content), Some(tail)) = (unread.get(..length), unread.get(length..length + TAIL))
        else {
            return Ok(None);
        };
        if tail != b"\r\n" {
            return Err(Violation::Tail);
        }
        self.bulk = None;
        let value = match kind {
            Bulk::Error => Value::Error(ServerError::parse(&text(content))),
            Bulk::Verbatim => {
                let (Some(format), Some(b':'), Some(rest)) =
                    (content.get(..3), content.get(3), content.get(4..))
                else {
                    return Err(Violation::Line("a verbatim string without its format"));
                };
                Value::Verbatim {
                    format: text(format).into(),
                    text: Bytes::copy_from_slice(rest),
                }
            }
            Bulk::Bytes if length < WORTH_SHARING => {
                let value = Value::Bulk(Bytes::copy_from_slice(content));
                self.at += length + TAIL;
                return self.counted(value, length).map(Some);
            }
            Bulk::Bytes => {
                self.consume();
                let shared = self.buffer.split_to(length).freeze();
                self.at = TAIL;
                if self.buffer.len() == TAIL && length >= WORTH_A_BUFFER {
                    // Otherwise it would be as large as that one for ever, once that is let go.
                    self.buffer = BytesMut::new();
                    self.at = 0;
                }
                return self.counted(Value::Bulk(shared), length).map(Some);
            }
        };
        self.at += length + TAIL;
        self.counted(value, length).map(Some)
    }

    fn begin_aggregate(&mut self, marker: u8, length: Option<u64>) -> Result<Step, Violation> {
        let Some(length) = length else {
            return self.counted(Value::Nil, 0).map(Step::Value);
        };
        let kind = match marker {
            b'*' => Kind::Array,
            b'~' => Kind::Set,
            b'%' => Kind::Map,
            b'|' => Kind::Attribute,
            _ if !self.open.is_empty() => return Err(Violation::PushInside),
            _ if length == 0 => return Err(Violation::PushEmpty),
            _ => Kind::Push,
        };
        // An item takes three bytes at least.
        let come = (self.buffer.len() - self.at) as u64 / 3;
        let room = usize::try_from(length.min(come).min(MOST_RESERVED)).unwrap_or(0);
        let open = Open::new(kind, length, room).ok_or(Violation::Line("length"))?;
        if length == 0 {
            return match open.close() {
                Whole::Value(value) => self.counted(value, 0).map(Step::Value),
                Whole::Push(_) | Whole::Nothing => Ok(Step::Opened),
            };
        }
        if self.open.len() >= self.limits.depth {
            return Err(Violation::Depth(self.limits.depth));
        }
        self.open.push(open);
        self.count(0)?;
        Ok(Step::Opened)
    }

    fn counted(&mut self, value: Value, bytes: usize) -> Result<Value, Violation> {
        self.count(bytes)?;
        Ok(value)
    }

    fn count(&mut self, bytes: usize) -> Result<(), Violation> {
        self.total = self.total.saturating_add(bytes + size_of::<Value>());
        if self.total > self.limits.total {
            return Err(Violation::Total(self.limits.total));
        }
        Ok(())
    }

    /// Lets go of what was read.
    fn consume(&mut self) {
        self.buffer.advance(self.at.min(self.buffer.len()));
        self.at = 0;
    }
}

/// `\r\n`, behind a line and behind a bulk string.
const LINE_END: usize = 2;
const TAIL: usize = 2;

#[cfg(test)]
mod tests;
