//! Administrative commands without the driver under test: one command over a connection of its own.

use std::io::{self, BufRead, BufReader, Write as _};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

/// How long a server may take over an administrative command. One that writes its configuration
/// waits for a busy disk.
const PATIENCE: Duration = Duration::from_secs(15);

/// Longer replies than this are no administrative ones.
const LONGEST: usize = 512 * 1024 * 1024;

/// A reply in the shapes of RESP2.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RawReply {
    /// No value.
    Nil,
    /// A status line.
    Status(String),
    /// An error line.
    Error(String),
    /// An integer.
    Int(i64),
    /// Bytes.
    Bulk(Vec<u8>),
    /// Items in order.
    Array(Vec<RawReply>),
}

impl RawReply {
    /// A status, an error, a number or bytes as text; nothing for nil and arrays.
    pub fn text(&self) -> Option<String> {
        match self {
            RawReply::Status(text) | RawReply::Error(text) => Some(text.clone()),
            RawReply::Int(int) => Some(int.to_string()),
            RawReply::Bulk(bytes) => Some(String::from_utf8_lossy(bytes).into_owned()),
            RawReply::Nil | RawReply::Array(_) => None,
        }
    }

    /// An integer, or bytes that are one.
    pub fn int(&self) -> Option<i64> {
        self.text()?.parse().ok()
    }

    /// Whether the server refused.
    pub fn is_error(&self) -> bool {
        matches!(self, RawReply::Error(_))
    }
}

/// Sends `command` to the server behind `socket`, after the password if there is one, and waits
/// for its reply.
pub(super) fn exchange(
    socket: &Path,
    password: Option<&str>,
    command: &[Vec<u8>],
) -> io::Result<RawReply> {
    let stream = UnixStream::connect(socket)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let mut replies = BufReader::new(&stream);
    if let Some(password) = password {
        (&stream).write_all(&encode(&[b"AUTH".to_vec(), password.as_bytes().to_vec()]))?;
        match read(&mut replies)? {
            RawReply::Status(_) => {}
            other => return Ok(other),
        }
    }
    (&stream).write_all(&encode(command))?;
    read(&mut replies)
}

fn encode(command: &[Vec<u8>]) -> Vec<u8> {
    let mut frame = format!("*{}\r\n", command.len()).into_bytes();
    for part in command {
        frame.extend_from_slice(format!("${}\r\n", part.len()).as_bytes());
        frame.extend_from_slice(part);
        frame.extend_from_slice(b"\r\n");
    }
    frame
}

fn read(from: &mut impl BufRead) -> io::Result<RawReply> {
    let mut line = Vec::new();
    from.read_until(b'\n', &mut line)?;
    let line = String::from_utf8_lossy(&line);
    let line = line
        .strip_suffix("\r\n")
        .ok_or_else(|| io::Error::from(io::ErrorKind::UnexpectedEof))?;
    let malformed = || io::Error::new(io::ErrorKind::InvalidData, format!("not RESP2: {line:?}"));
    let (shape, rest) = line.split_at_checked(1).ok_or_else(malformed)?;
    let number = || rest.parse::<i64>().map_err(|_| malformed());
    Ok(match shape {
        "+" => RawReply::Status(rest.to_owned()),
        "-" => RawReply::Error(rest.to_owned()),
        ":" => RawReply::Int(number()?),
        "$" | "*" if number()? < 0 => RawReply::Nil,
        "$" => {
            let length = usize::try_from(number()?).map_err(|_| malformed())?;
            if length > LONGEST {
                return Err(malformed());
            }
            let mut bytes = vec![0; length];
            from.read_exact(&mut bytes)?;
            from.read_exact(&mut [0; 2])?;
            RawReply::Bulk(bytes)
        }
        "*" => {
            let mut items = Vec::new();
            for _ in 0..number()? {
                items.push(read(from)?);
            }
            RawReply::Array(items)
        }
        _ => return Err(malformed()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_shape_is_read() {
        let reply = read(&mut &b"*6\r\n+OK\r\n-ERR no\r\n:-7\r\n$4\r\na\r\nb\r\n$-1\r\n*0\r\n"[..]);
        assert_eq!(
            reply.unwrap(),
            RawReply::Array(vec![
                RawReply::Status("OK".into()),
                RawReply::Error("ERR no".into()),
                RawReply::Int(-7),
                RawReply::Bulk(b"a\r\nb".to_vec()),
                RawReply::Nil,
                RawReply::Array(vec![]),
            ])
        );
    }

    #[test]
    fn a_cut_or_malformed_reply_is_an_error() {
        for bytes in ["", "+OK", "$5\r\nab", ":x\r\n", "?\r\n", "\r\n"] {
            assert!(read(&mut bytes.as_bytes()).is_err(), "{bytes:?}");
        }
    }
}
