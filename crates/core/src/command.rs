//! [`Command`]: one request to a server, with what the layers below need to know to carry it out
//! safely: its keys, whether it may be repeated, and until when an answer is worth anything.

mod reads;
mod to_arg;

use std::fmt;

use bytes::Bytes;
use smallvec::SmallVec;
use tokio::time::Instant;

use self::reads::only_reads;
pub use self::to_arg::ToArg;

/// One command: a name, its arguments, and how it may be treated.
///
/// Arguments lie back to back in one buffer, so that building a command costs one allocation for
/// the usual sizes. Keys are marked as they are added ([`Command::key`]): drivers route by them.
///
/// ```
/// use redkit_core::Command;
///
/// let set = Command::new("SET").key("greeting").arg("hello").arg("PX").arg(1500);
/// assert_eq!(set.name(), "SET");
/// assert_eq!(set.iter().count(), 4);
/// assert_eq!(set.keys().next(), Some(&b"greeting"[..]));
/// assert!(!set.is_idempotent());
/// assert!(Command::new("GET").key("greeting").is_idempotent());
/// ```
#[derive(Clone)]
pub struct Command {
    buffer: Vec<u8>,
    ends: SmallVec<[usize; 6]>,
    /// Large arguments that are shared with the caller: empty in the buffer, whole here.
    shared: Vec<(usize, Bytes)>,
    keys: SmallVec<[u32; 4]>,
    idempotent: bool,
    from_master: bool,
    deadline: Option<Instant>,
}

impl Command {
    /// Starts a command. A command that only reads is marked as idempotent by its name; any other
    /// is not until [`Command::idempotent`] says so.
    pub fn new(name: &str) -> Self {
        Self::with_capacity(name, 48)
    }

    /// Like [`Command::new`], with room for `bytes` of arguments, which saves growing the buffer.
    pub fn with_capacity(name: &str, bytes: usize) -> Self {
        let mut buffer = Vec::with_capacity(name.len().saturating_add(bytes));
        buffer.extend_from_slice(name.as_bytes());
        let mut ends = SmallVec::new();
        ends.push(buffer.len());
        Self {
            buffer,
            ends,
            shared: Vec::new(),
            keys: SmallVec::new(),
            idempotent: only_reads(name),
            from_master: false,
            deadline: None,
        }
    }

    /// Adds an argument. From 16 KiB on [`Bytes`] are shared, and other bytes copied once: drivers
    /// send them from there.
    #[must_use]
    pub fn arg(mut self, arg: impl ToArg) -> Self {
        self.push(arg);
        self
    }

    /// Adds an argument that is a key. The name is sent as it stands: put a client's namespace in
    /// front of it with [`Client::key`](crate::Client::key).
    #[must_use]
    pub fn key(mut self, key: impl ToArg) -> Self {
        self.push_key(key);
        self
    }

    /// Makes room for so many keys of a usual length: growing with each is a good part of what a
    /// long command costs.
    pub(crate) fn room_for_keys(mut self, keys: usize) -> Self {
        self.buffer.reserve(keys.saturating_mul(USUAL_KEY));
        self.ends.reserve(keys);
        self.keys.reserve(keys);
        self
    }

    pub(crate) fn push_key(&mut self, key: impl ToArg) {
        // More than u32::MAX arguments cannot be sent to a server; routing by the first is enough.
        if let Ok(position) = u32::try_from(self.ends.len()) {
            self.keys.push(position);
        }
        self.push(key);
    }

    pub(crate) fn push(&mut self, arg: impl ToArg) {
        match arg.shared() {
            Some(bytes) => self.shared.push((self.ends.len(), bytes)),
            None => arg.write_to(&mut self.buffer),
        }
        self.ends.push(self.buffer.len());
    }

    /// Adds several arguments.
    #[must_use]
    pub fn args<A: ToArg>(self, args: impl IntoIterator<Item = A>) -> Self {
        args.into_iter().fold(self, Command::arg)
    }

    /// Adds several keys.
    #[must_use]
    pub fn keys_from<A: ToArg>(self, keys: impl IntoIterator<Item = A>) -> Self {
        keys.into_iter().fold(self, Command::key)
    }

    /// Says whether the command may be sent again when it is not known if it was carried out
    /// ([`CallError::Maybe`](crate::CallError::Maybe)). Say `true` only when doing it twice leaves
    /// the same state *and* the same reply, or the difference does not matter to you.
    #[must_use]
    pub fn idempotent(mut self, idempotent: bool) -> Self {
        self.idempotent = idempotent;
        self
    }

    /// Reads from the master, also where the client
    /// [reads from replicas](crate::ClientConfig::read_from_replicas): for a caller who must see what has just been
    /// written.
    #[must_use]
    pub fn from_master(mut self) -> Self {
        self.from_master = true;
        self
    }

    /// Sets the instant after which no answer is waited for. Without one, the client's command
    /// timeout applies.
    #[must_use]
    pub fn deadline(mut self, deadline: Instant) -> Self {
        self.deadline = Some(deadline);
        self
    }

    /// The command's name, as it was given.
    pub fn name(&self) -> &str {
        // The name entered as a &str; this cannot fail, and "" is harmless if it ever did.
        std::str::from_utf8(self.part(0).unwrap_or_default()).unwrap_or_default()
    }

    /// The arguments after the name.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &[u8]> + Clone {
        (1..self.ends.len()).map(|i| self.part(i).unwrap_or_default())
    }

    /// The arguments after the name as shared buffers: one copy for all of them, none for those
    /// that are shared already.
    #[cfg(feature = "fred")]
    pub(crate) fn shared_args(&self) -> impl Iterator<Item = Bytes> {
        let buffer = Bytes::copy_from_slice(&self.buffer);
        (1..self.ends.len()).map(move |index| {
            if let Some((_, bytes)) = self.shared.iter().find(|(at, _)| *at == index) {
                return bytes.clone();
            }
            let end = self.ends.get(index).copied().unwrap_or_default();
            let start = self.ends.get(index - 1).copied().unwrap_or_default();
            buffer.slice(start.min(end)..end)
        })
    }

    /// The name and the arguments, as they lie in memory.
    #[cfg(feature = "native")]
    pub(crate) fn parts(&self) -> impl Iterator<Item = Part<'_>> {
        let mut shared = self.shared.iter().peekable();
        let mut start = 0;
        self.ends.iter().enumerate().map(move |(index, &end)| {
            let copied = self.buffer.get(start..end).unwrap_or_default();
            start = end;
            match shared.next_if(|(at, _)| *at == index) {
                Some((_, bytes)) => Part::Shared(bytes),
                None => Part::Copied(copied),
            }
        })
    }

    /// How many bytes lie in the command itself.
    #[cfg(feature = "native")]
    pub(crate) fn copied_len(&self) -> usize {
        self.buffer.len()
    }

    /// Whether an argument is shared with the caller.
    #[cfg(feature = "native")]
    pub(crate) fn shares(&self) -> bool {
        !self.shared.is_empty()
    }

    /// The `index`th argument after the name.
    pub fn get(&self, index: usize) -> Option<&[u8]> {
        self.part(index.checked_add(1)?)
    }

    /// How many arguments follow the name.
    pub fn arg_count(&self) -> usize {
        self.ends.len() - 1
    }

    /// The sum of the lengths of the name and all arguments, in bytes.
    pub fn byte_len(&self) -> usize {
        self.shared
            .iter()
            .map(|(_, bytes)| bytes.len())
            .sum::<usize>()
            + self.buffer.len()
    }

    /// The arguments that are keys.
    pub fn keys(&self) -> impl Iterator<Item = &[u8]> {
        self.keys
            .iter()
            .filter_map(|&i| self.part(usize::try_from(i).ok()?))
    }

    /// Whether the command may be repeated when its outcome is unknown.
    pub fn is_idempotent(&self) -> bool {
        self.idempotent
    }

    /// Until when an answer is waited for, if the command says so itself.
    pub fn deadline_at(&self) -> Option<Instant> {
        self.deadline
    }

    /// Whether the command has to be carried out by the master.
    pub fn is_from_master(&self) -> bool {
        self.from_master
    }

    /// Whether a replica may answer: the name says that nothing is changed, and the caller did not ask for the master.
    #[cfg(feature = "native")]
    pub(crate) fn may_read_from_replica(&self) -> bool {
        !self.from_master && only_reads(self.name())
    }

    /// Takes over how `other` may be treated.
    pub(crate) fn like(mut self, other: &Command) -> Self {
        self.idempotent = other.idempotent;
        self.from_master = other.from_master;
        self.deadline = other.deadline;
        self
    }

    pub(crate) fn deadline_or(&mut self, deadline: impl FnOnce() -> Instant) -> Instant {
        *self.deadline.get_or_insert_with(deadline)
    }

    /// Replaces the deadline by an earlier one, and gives that.
    pub(crate) fn shorten_deadline(&mut self, earlier: Instant) -> Instant {
        self.deadline = Some(earlier);
        earlier
    }

    /// Whether the command runs a script or a function, whose author chooses its replies and its
    /// errors.
    pub(crate) fn runs_script(&self) -> bool {
        let starts = |prefix: &str| {
            let start = self.name().get(..prefix.len());
            start.is_some_and(|start| start.eq_ignore_ascii_case(prefix))
        };
        starts("EVAL") || starts("FCALL")
    }

    fn part(&self, index: usize) -> Option<&[u8]> {
        if let Some((_, bytes)) = self.shared.iter().find(|(at, _)| *at == index) {
            return Some(bytes);
        }
        let end = *self.ends.get(index)?;
        let start = match index {
            0 => 0,
            _ => *self.ends.get(index - 1)?,
        };
        self.buffer.get(start..end)
    }
}

/// A name or an argument.
#[cfg(feature = "native")]
pub(crate) enum Part<'c> {
    Copied(&'c [u8]),
    /// Large, and kept by more than the command.
    Shared(&'c Bytes),
}

/// Shows the name and the number of arguments only: arguments may be secrets or personal data.
impl fmt::Debug for Command {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Command")
            .field("name", &self.name())
            .field("args", &self.arg_count())
            .field("idempotent", &self.idempotent)
            .finish_non_exhaustive()
    }
}

/// Bytes of a key, about.
const USUAL_KEY: usize = 32;

#[cfg(test)]
mod tests {
    use std::borrow::Cow;
    use std::sync::Arc;

    use super::to_arg::WORTH_SHARING;
    use super::*;

    #[test]
    fn addresses_characters_and_owned_texts_are_written_as_they_read() {
        use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
        let v4 = Ipv4Addr::new(192, 0, 2, 7);
        let command = Command::new("ECHO")
            .arg(IpAddr::from(v4))
            .arg(v4)
            .arg(Ipv6Addr::LOCALHOST)
            .arg('ä')
            .arg(u128::MAX)
            .arg(Arc::<str>::from("shared"))
            .arg(Box::<[u8]>::from(&b"boxed"[..]))
            .arg(Cow::Borrowed("borrowed"));
        let args: Vec<&[u8]> = command.iter().collect();
        assert_eq!(
            args,
            [
                &b"192.0.2.7"[..],
                b"192.0.2.7",
                b"::1",
                "ä".as_bytes(),
                b"340282366920938463463374607431768211455",
                b"shared",
                b"boxed",
                b"borrowed"
            ]
        );
    }

    #[test]
    fn arguments_keep_their_bytes_and_order() {
        let command = Command::new("SET")
            .key(b"k\0{}".as_slice())
            .arg("")
            .arg(-7_i64)
            .arg(u64::MAX)
            .arg(0.1_f64 + 0.2)
            .arg(f64::NEG_INFINITY);
        let args: Vec<&[u8]> = command.iter().collect();
        assert_eq!(
            args,
            [
                b"k\0{}".as_slice(),
                b"",
                b"-7",
                b"18446744073709551615",
                b"0.30000000000000004",
                b"-inf"
            ]
        );
        assert_eq!(command.get(1), Some(&b""[..]));
        assert_eq!(command.get(6), None);
        assert_eq!(command.keys().collect::<Vec<_>>(), [b"k\0{}"]);
    }

    #[cfg(feature = "native")]
    #[test]
    fn a_replica_answers_reads_of_callers_who_did_not_ask_for_the_master() {
        assert!(Command::new("GET").key("k").may_read_from_replica());
        assert!(!Command::new("SET").key("k").may_read_from_replica());
        let read = Command::new("GET").key("k").from_master();
        assert!(!read.may_read_from_replica() && read.is_idempotent());
        assert!(Command::new("GET").like(&read).is_from_master());
    }

    #[test]
    fn large_arguments_are_shared_and_stand_where_they_were_put() {
        let large = Bytes::from(vec![b'x'; WORTH_SHARING]);
        let command = Command::new("SET").key(&large).arg("a").arg(&large).arg("");
        let args: Vec<&[u8]> = command.iter().collect();
        assert_eq!(args, [&large[..], b"a", &large[..], b""]);
        assert_eq!(command.get(2).map(<[u8]>::as_ptr), Some(large.as_ptr()));
        assert_eq!(command.keys().next(), Some(&large[..]));
        assert_eq!(command.byte_len(), 3 + 1 + 2 * WORTH_SHARING);
        #[cfg(feature = "fred")]
        assert!(
            command
                .shared_args()
                .eq(command.iter().map(Bytes::copy_from_slice))
        );
    }

    #[test]
    fn debug_shows_no_argument() {
        let shown = format!("{:?}", Command::new("AUTH").arg("hunter2"));
        assert!(!shown.contains("hunter2"), "{shown}");
        assert!(shown.contains("AUTH"), "{shown}");
    }
}
