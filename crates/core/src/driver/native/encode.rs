//! From commands to bytes.

use std::collections::VecDeque;

use bytes::Bytes;

use crate::command::{Command, Part};

/// From this many bytes on a call's commands are encoded before the connection's lock is taken, into
/// a buffer of their own.
const LARGE: usize = 8 * 1024;

/// Segments of a call that has its own.
pub(super) type Segments = VecDeque<Bytes>;

/// The segments of a call that does not belong into the shared buffer, and how many of their bytes
/// are ours.
pub(super) fn segments(commands: &[Command]) -> Option<(Segments, usize)> {
    let copied: usize = commands.iter().map(Command::copied_len).sum();
    if copied < LARGE && !commands.iter().any(Command::shares) {
        return None;
    }
    let mut segments = Segments::new();
    let mut ours = 0;
    let mut tail = Vec::with_capacity(copied + HEAD * commands.len());
    for command in commands {
        encode_with(command, &mut tail, |tail, shared| {
            ours += tail.len();
            segments.push_back(std::mem::take(tail).into());
            segments.push_back(shared.clone());
        });
    }
    ours += tail.len();
    segments.push_back(tail.into());
    Some((segments, ours))
}

/// Appends a command that shares nothing.
pub(super) fn encode(command: &Command, out: &mut Vec<u8>) {
    encode_with(command, out, |out, shared| out.extend_from_slice(shared));
}

fn encode_with(command: &Command, out: &mut Vec<u8>, mut shared: impl FnMut(&mut Vec<u8>, &Bytes)) {
    head(out, b'*', command.arg_count() + 1);
    for part in command.parts() {
        match part {
            Part::Copied(bytes) => {
                head(out, b'$', bytes.len());
                out.extend_from_slice(bytes);
            }
            Part::Shared(bytes) => {
                head(out, b'$', bytes.len());
                shared(out, bytes);
            }
        }
        out.extend_from_slice(b"\r\n");
    }
}

fn head(out: &mut Vec<u8>, marker: u8, number: usize) {
    out.push(marker);
    if let (true, Ok(digit)) = (number < 10, u8::try_from(number)) {
        out.push(b'0' + digit);
    } else {
        out.extend_from_slice(itoa::Buffer::new().format(number).as_bytes());
    }
    out.extend_from_slice(b"\r\n");
}

/// Bytes around the arguments of a usual command.
const HEAD: usize = 32;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_is_an_array_of_bulk_strings() {
        let mut out = Vec::new();
        encode(&Command::new("SET").key(b"k\0").arg("").arg(1), &mut out);
        encode(&Command::new("PING"), &mut out);
        let text = "*4\r\n$3\r\nSET\r\n$2\r\nk\0\r\n$0\r\n\r\n$1\r\n1\r\n*1\r\n$4\r\nPING\r\n";
        assert_eq!(String::from_utf8(out).unwrap(), text);
    }

    #[test]
    fn large_arguments_are_sent_from_where_they_are() {
        let large = Bytes::from(vec![b'x'; 20_000]);
        let command = Command::new("SET").key("k").arg(&large).arg("PX").arg(5);
        let (segments, ours) = segments(&[command.clone(), command.clone()]).unwrap();
        let shared = segments.iter().filter(|one| one.as_ptr() == large.as_ptr());
        assert_eq!(shared.count(), 2);
        let mut whole = Vec::new();
        encode(&command, &mut whole);
        encode(&command, &mut whole);
        assert_eq!(ours, whole.len() - 2 * large.len());
        assert!(segments.iter().flatten().eq(&whole));
        assert!(super::segments(&[Command::new("GET").key("k")]).is_none());
        let many = Command::new("MGET").keys_from((0..2000).map(|i| format!("key:{i}")));
        assert!(super::segments(&[many]).is_some());
    }
}
