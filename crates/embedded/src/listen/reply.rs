//! Replies as clients read them, in RESP2 or RESP3.

use std::io::Write;

use redkit_core::{ServerError, Value};

use crate::error::Reply;
use crate::number::format_g17;
use crate::state::Protocol;

/// Commands of which RESP2 says "nothing" by a null array, whatever their arguments.
const ARRAYS: &[&[u8]] = &[
    b"EXEC",
    b"BLPOP",
    b"BRPOP",
    b"BLMPOP",
    b"BZPOPMIN",
    b"BZPOPMAX",
    b"BZMPOP",
    b"LMPOP",
    b"ZMPOP",
    b"XREAD",
    b"XREADGROUP",
    b"XRANGE",
    b"XREVRANGE",
];

/// Commands that do so when they are given a count.
const ARRAYS_BY_COUNT: &[&[u8]] = &[b"LPOP", b"RPOP"];

/// Writes the reply to a command, of which so many arguments were given.
pub(super) fn write_reply(
    out: &mut Vec<u8>,
    command: &[u8],
    arguments: usize,
    reply: &Reply,
    protocol: Protocol,
) {
    match reply {
        Ok(Value::Nil) if protocol == Protocol::Resp2 && is_array(command, arguments) => {
            out.extend_from_slice(b"*-1\r\n");
        }
        Ok(value) => write_value(out, value, protocol),
        Err(error) => write_error(out, error),
    }
}

fn is_array(command: &[u8], arguments: usize) -> bool {
    let is_in = |names: &[&[u8]]| names.iter().any(|name| name.eq_ignore_ascii_case(command));
    is_in(ARRAYS) || (arguments > 1 && is_in(ARRAYS_BY_COUNT))
}

/// Writes a value.
pub(super) fn write_value(out: &mut Vec<u8>, value: &Value, protocol: Protocol) {
    let is_old = protocol == Protocol::Resp2;
    match value {
        Value::Nil if is_old => out.extend_from_slice(b"$-1\r\n"),
        Value::Nil => out.extend_from_slice(b"_\r\n"),
        Value::Ok => out.extend_from_slice(b"+OK\r\n"),
        Value::Status(status) => line(out, b'+', status.as_bytes()),
        Value::Int(number) => head(out, b':', *number),
        Value::Bulk(bytes) => write_bulk(out, bytes),
        Value::Array(items) => items_of(out, b'*', items, protocol),
        Value::Set(items) if is_old => items_of(out, b'*', items, protocol),
        Value::Set(items) => items_of(out, b'~', items, protocol),
        Value::Map(pairs) => {
            match is_old {
                true => write_head(out, b'*', pairs.len() * 2),
                false => write_head(out, b'%', pairs.len()),
            }
            for (key, value) in pairs {
                write_value(out, key, protocol);
                write_value(out, value, protocol);
            }
        }
        Value::Double(number) if is_old => write_bulk(out, format_g17(*number).as_bytes()),
        Value::Double(number) => line(out, b',', format_g17(*number).as_bytes()),
        Value::Bool(truth) if is_old => head(out, b':', i64::from(*truth)),
        Value::Bool(truth) => out.extend_from_slice(if *truth { b"#t\r\n" } else { b"#f\r\n" }),
        Value::BigNumber(digits) if is_old => write_bulk(out, digits),
        Value::BigNumber(digits) => line(out, b'(', digits),
        Value::Verbatim { text, .. } if is_old => write_bulk(out, text),
        Value::Verbatim { format, text } => {
            write_head(out, b'=', format.len() + 1 + text.len());
            out.extend_from_slice(format.as_bytes());
            out.push(b':');
            out.extend_from_slice(text);
            out.extend_from_slice(b"\r\n");
        }
        Value::Error(error) => write_error(out, error),
        // A kind of value that this version does not know.
        _ => out.extend_from_slice(b"-ERR the reply cannot be written\r\n"),
    }
}

/// Writes an error.
pub(super) fn write_error(out: &mut Vec<u8>, error: &ServerError) {
    line(out, b'-', error.to_string().as_bytes());
}

/// Writes a bulk string.
pub(super) fn write_bulk(out: &mut Vec<u8>, bytes: &[u8]) {
    write_head(out, b'$', bytes.len());
    out.extend_from_slice(bytes);
    out.extend_from_slice(b"\r\n");
}

/// Writes the type and the length of what follows.
pub(super) fn write_head(out: &mut Vec<u8>, kind: u8, length: usize) {
    head(out, kind, i64::try_from(length).unwrap_or(i64::MAX));
}

fn items_of(out: &mut Vec<u8>, kind: u8, items: &[Value], protocol: Protocol) {
    write_head(out, kind, items.len());
    for item in items {
        write_value(out, item, protocol);
    }
}

fn head(out: &mut Vec<u8>, kind: u8, number: i64) {
    // Writing to a vector does not fail.
    let _ = write!(out, "{}{number}\r\n", char::from(kind));
}

/// A line, in which a line's end of the text would be taken for the line's.
fn line(out: &mut Vec<u8>, kind: u8, text: &[u8]) {
    out.push(kind);
    out.extend(text.iter().map(|byte| match byte {
        b'\r' | b'\n' => b' ',
        other => *other,
    }));
    out.extend_from_slice(b"\r\n");
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(value: &Value, protocol: Protocol) -> String {
        let mut out = Vec::new();
        write_value(&mut out, value, protocol);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn each_kind_of_value_has_its_form_in_both_protocols() {
        let nested = Value::Map(vec![(Value::bulk("a"), Value::Set(vec![Value::Int(1)]))]);
        let error = Value::Error(ServerError::new("ERR", "two\r\nlines"));
        let verbatim = Value::Verbatim {
            format: "txt".into(),
            text: "hi".into(),
        };
        let forms = [
            (Value::Nil, "$-1\r\n", "_\r\n"),
            (Value::Ok, "+OK\r\n", "+OK\r\n"),
            (Value::Int(-5), ":-5\r\n", ":-5\r\n"),
            (Value::bulk("ab"), "$2\r\nab\r\n", "$2\r\nab\r\n"),
            (
                nested,
                "*2\r\n$1\r\na\r\n*1\r\n:1\r\n",
                "%1\r\n$1\r\na\r\n~1\r\n:1\r\n",
            ),
            (Value::Double(1.5), "$3\r\n1.5\r\n", ",1.5\r\n"),
            (Value::Double(f64::INFINITY), "$3\r\ninf\r\n", ",inf\r\n"),
            (Value::Bool(true), ":1\r\n", "#t\r\n"),
            (Value::BigNumber("123".into()), "$3\r\n123\r\n", "(123\r\n"),
            (verbatim, "$2\r\nhi\r\n", "=6\r\ntxt:hi\r\n"),
            (error, "-ERR two  lines\r\n", "-ERR two  lines\r\n"),
        ];
        for (value, old, new) in forms {
            assert_eq!(written(&value, Protocol::Resp2), old);
            assert_eq!(written(&value, Protocol::Resp3), new);
        }
    }

    #[test]
    fn an_absent_list_is_a_null_array_in_resp2() {
        let mut out = Vec::new();
        let nothing = Ok(Value::Nil);
        write_reply(&mut out, b"blpop", 2, &nothing, Protocol::Resp2);
        write_reply(&mut out, b"get", 1, &nothing, Protocol::Resp2);
        write_reply(&mut out, b"exec", 0, &nothing, Protocol::Resp3);
        assert_eq!(out, b"*-1\r\n$-1\r\n_\r\n");
        out.clear();
        write_reply(&mut out, b"lpop", 1, &nothing, Protocol::Resp2);
        write_reply(&mut out, b"lpop", 2, &nothing, Protocol::Resp2);
        write_reply(&mut out, b"RPOP", 2, &nothing, Protocol::Resp2);
        write_reply(&mut out, b"xrange", 5, &nothing, Protocol::Resp2);
        assert_eq!(out, b"$-1\r\n*-1\r\n*-1\r\n*-1\r\n");
    }
}
