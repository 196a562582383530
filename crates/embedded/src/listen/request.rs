//! Requests as clients send them: arrays of bulk strings, or a line of words.

use std::ops::Range;

/// The limits of Redis: how many arguments, how long one is, and how long a line.
const MOST_ARGS: usize = 1024 * 1024;
const LONGEST_ARG: usize = 512 * 1024 * 1024;
const LONGEST_LINE: usize = 64 * 1024;

/// A request's arguments, the name first.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Request {
    /// Where they lie in the buffer.
    Array(Vec<Range<usize>>),
    /// A line's words.
    Inline(Vec<Vec<u8>>),
}

/// What a client sent is no request.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct ProtocolError(pub(super) &'static str);

/// Reads one request after the other. It goes on where it stopped when a request comes in pieces, and takes
/// no memory for what a client only announces.
#[derive(Debug, Default)]
pub(super) struct Parser {
    /// How many arguments of the array are still to come.
    missing: Option<usize>,
    /// The length of the argument that is begun.
    length: Option<usize>,
    args: Vec<Range<usize>>,
    /// Up to where the buffer was read.
    at: usize,
}

impl Parser {
    /// The next request in `buffer`, which begins where the last request ended, and how long it is; `None`
    /// until it is whole.
    pub(super) fn next(
        &mut self,
        buffer: &[u8],
    ) -> Result<Option<(Request, usize)>, ProtocolError> {
        if self.missing.is_none() {
            let Some(first) = buffer.first() else {
                return Ok(None);
            };
            if *first != b'*' {
                return inline(buffer);
            }
            let Some(count) = self.number(buffer, "invalid multibulk length")? else {
                return Ok(None);
            };
            match usize::try_from(count) {
                // An empty array is no request.
                Ok(0) | Err(_) => return Ok(Some(self.take())),
                Ok(count) if count > MOST_ARGS => {
                    return Err(ProtocolError("invalid multibulk length"));
                }
                Ok(count) => self.missing = Some(count),
            }
        }
        while let Some(missing) = self.missing.filter(|missing| *missing > 0) {
            let length = match self.length {
                Some(length) => length,
                None => {
                    match buffer.get(self.at) {
                        None => return Ok(None),
                        Some(b'$') => {}
                        Some(_) => return Err(ProtocolError("expected '$'")),
                    }
                    let Some(length) = self.number(buffer, "invalid bulk length")? else {
                        return Ok(None);
                    };
                    let length = usize::try_from(length)
                        .ok()
                        .filter(|length| *length <= LONGEST_ARG)
                        .ok_or(ProtocolError("invalid bulk length"))?;
                    self.length = Some(length);
                    length
                }
            };
            let end = self.at + length;
            if buffer.len() < end + 2 {
                return Ok(None);
            }
            self.args.push(self.at..end);
            self.at = end + 2;
            self.length = None;
            self.missing = Some(missing - 1);
        }
        Ok(Some(self.take()))
    }

    /// The number after the type byte of the line that begins at `at`, which is passed then.
    fn number(
        &mut self,
        buffer: &[u8],
        problem: &'static str,
    ) -> Result<Option<i64>, ProtocolError> {
        let line = buffer.get(self.at + 1..).unwrap_or_default();
        let Some(end) = line.iter().take(32).position(|byte| *byte == b'\r') else {
            return match line.len() < 32 {
                true => Ok(None),
                false => Err(ProtocolError(problem)),
            };
        };
        if line.len() < end + 2 {
            return Ok(None);
        }
        let digits = line.get(..end).unwrap_or_default();
        let number = crate::args::parse_integer(digits).ok_or(ProtocolError(problem))?;
        self.at += 1 + end + 2;
        Ok(Some(number))
    }

    fn take(&mut self) -> (Request, usize) {
        let done = std::mem::take(self);
        (Request::Array(done.args), done.at)
    }
}

/// A line of words, as somebody types it who has no client at hand.
fn inline(buffer: &[u8]) -> Result<Option<(Request, usize)>, ProtocolError> {
    let Some(end) = buffer
        .iter()
        .take(LONGEST_LINE)
        .position(|byte| *byte == b'\n')
    else {
        return match buffer.len() < LONGEST_LINE {
            true => Ok(None),
            false => Err(ProtocolError("too big inline request")),
        };
    };
    let line = buffer.get(..end).unwrap_or_default();
    let words = words(line).ok_or(ProtocolError("unbalanced quotes in request"))?;
    Ok(Some((Request::Inline(words), end + 1)))
}

/// The words of a line; those in quotes may contain spaces. `None` when a quote is not closed.
fn words(line: &[u8]) -> Option<Vec<Vec<u8>>> {
    let mut words = Vec::new();
    let mut rest = line.iter().copied().peekable();
    loop {
        while rest.next_if(u8::is_ascii_whitespace).is_some() {}
        if rest.peek().is_none() {
            return Some(words);
        }
        let mut word = Vec::new();
        while let Some(byte) = rest.next_if(|byte| !byte.is_ascii_whitespace()) {
            if byte != b'"' && byte != b'\'' {
                word.push(byte);
                continue;
            }
            loop {
                match rest.next()? {
                    next if next == byte => break,
                    b'\\' if byte == b'"' => word.push(escaped(rest.next()?)),
                    b'\\' if rest.next_if_eq(&b'\'').is_some() => word.push(b'\''),
                    next => word.push(next),
                }
            }
            // A closing quote ends the word.
            if rest.peek().is_some_and(|next| !next.is_ascii_whitespace()) {
                return None;
            }
        }
        words.push(word);
    }
}

fn escaped(byte: u8) -> u8 {
    match byte {
        b'n' => b'\n',
        b'r' => b'\r',
        b't' => b'\t',
        b'b' => 0x08,
        b'a' => 0x07,
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The requests of a stream that comes in pieces of this size.
    fn requests(stream: &[u8], piece: usize) -> Result<Vec<Vec<Vec<u8>>>, ProtocolError> {
        let (mut parser, mut buffer, mut found) = (Parser::default(), Vec::new(), Vec::new());
        for piece in stream.chunks(piece) {
            buffer.extend_from_slice(piece);
            while let Some((request, length)) = parser.next(&buffer)? {
                found.push(match request {
                    Request::Inline(words) => words,
                    Request::Array(args) => {
                        args.into_iter().map(|arg| buffer[arg].to_vec()).collect()
                    }
                });
                buffer.drain(..length);
            }
        }
        Ok(found)
    }

    #[test]
    fn arrays_and_lines_follow_one_another_in_pieces_of_any_size() {
        let stream =
            b"*2\r\n$3\r\nGET\r\n$1\r\nk\r\nPING\r\n*0\r\n*1\r\n$0\r\n\r\nSET \"a \\\"b\" 'c d'\n";
        for piece in 1..=stream.len() {
            let found = requests(stream, piece).unwrap();
            let expected: Vec<Vec<&[u8]>> = vec![
                vec![b"GET", b"k"],
                vec![b"PING"],
                vec![],
                vec![b""],
                vec![b"SET", b"a \"b", b"c d"],
            ];
            assert_eq!(found, expected, "pieces of {piece}");
        }
    }

    #[test]
    fn what_is_no_request_is_refused() {
        let wrong: [&[u8]; 8] = [
            b"*x\r\n",
            b"*99999999999\r\n",
            b"*1\r\n:1\r\n",
            b"*1\r\n$-1\r\n",
            b"*1\r\n$4611686018427387904\r\n",
            b"*1\r\n$11111111111111111111111111111111111111",
            b"GET \"k\r\n",
            b"GET 'k'x\r\n",
        ];
        for stream in wrong {
            assert!(requests(stream, 1024).is_err(), "{}", stream.escape_ascii());
        }
        assert!(requests(&[b'x'; LONGEST_LINE], 1024).is_err());
    }

    proptest! {
        #[test]
        fn no_stream_makes_it_panic(stream in proptest::collection::vec(any::<u8>(), 0..200), piece in 1_usize..50) {
            let _ = requests(&stream, piece);
        }

        #[test]
        fn what_was_sent_is_what_is_read(
            args in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..20), 1..6),
            piece in 1_usize..50,
        ) {
            let mut stream = format!("*{}\r\n", args.len()).into_bytes();
            for arg in &args {
                stream.extend_from_slice(format!("${}\r\n", arg.len()).as_bytes());
                stream.extend_from_slice(arg);
                stream.extend_from_slice(b"\r\n");
            }
            prop_assert_eq!(requests(&stream, piece).unwrap(), vec![args]);
        }
    }
}
