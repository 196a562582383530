//! [`Frame`]: a message as it comes on a channel with replay.

use bytes::Bytes;

/// A live message of a channel with replay.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Frame {
    /// The number of the message before it.
    pub(super) before: u64,
    pub(super) number: u64,
    pub(super) message: Bytes,
}

/// `<number before> <number>\n<message>`; `None` for anything else.
pub(super) fn read_frame(payload: &Bytes) -> Option<Frame> {
    let end = payload.iter().position(|&byte| byte == b'\n')?;
    let (before, number) = std::str::from_utf8(payload.get(..end)?)
        .ok()?
        .split_once(' ')?;
    Some(Frame {
        before: before.parse().ok()?,
        number: number.parse().ok()?,
        message: payload.slice(end + 1..),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_is_read_and_anything_else_is_none() {
        let frame = read_frame(&Bytes::from_static(b"7 8\n\"a\nb\"")).unwrap();
        let expected = Frame {
            before: 7,
            number: 8,
            message: Bytes::from_static(b"\"a\nb\""),
        };
        assert_eq!(frame, expected);
        for other in ["", "\n", "7\nx", "7 x\n", "\"text\"", "{\"a\":\n1 2\n}"] {
            assert_eq!(
                read_frame(&Bytes::from_static(other.as_bytes())),
                None,
                "{other}"
            );
        }
    }
}
