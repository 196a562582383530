//! The server's error replies, word for word.

use redkit_core::{ServerError, Value};

/// What a command gives.
pub(crate) type Reply = Result<Value, ServerError>;

/// An error with the code `ERR`.
pub(crate) fn err(text: impl Into<Box<str>>) -> ServerError {
    ServerError::new("ERR", text)
}

/// From a line that a script made.
pub(crate) fn from_line(line: &str) -> ServerError {
    ServerError::parse(line)
}

pub(crate) fn wrong_type() -> ServerError {
    ServerError::new(
        "WRONGTYPE",
        "Operation against a key holding the wrong kind of value",
    )
}

pub(crate) fn syntax() -> ServerError {
    err("syntax error")
}

pub(crate) fn not_integer() -> ServerError {
    err("value is not an integer or out of range")
}

pub(crate) fn not_positive() -> ServerError {
    err("value is out of range, must be positive")
}

pub(crate) fn not_float() -> ServerError {
    err("value is not a valid float")
}

pub(crate) fn overflow() -> ServerError {
    err("increment or decrement would overflow")
}

pub(crate) fn no_such_key() -> ServerError {
    err("no such key")
}

pub(crate) fn index_out_of_range() -> ServerError {
    err("index out of range")
}

pub(crate) fn score_nan() -> ServerError {
    err("resulting score is not a number (NaN)")
}

pub(crate) fn too_long() -> ServerError {
    err("string exceeds maximum allowed size (proto-max-bulk-len)")
}

pub(crate) fn invalid_expire(command: &str) -> ServerError {
    err(format!("invalid expire time in '{command}' command"))
}

pub(crate) fn arity(command: &str) -> ServerError {
    err(format!(
        "wrong number of arguments for '{}' command",
        command.to_ascii_lowercase()
    ))
}

pub(crate) fn no_script() -> ServerError {
    ServerError::new("NOSCRIPT", "No matching script. Please use EVAL.")
}

/// The name and the beginnings of the arguments, each cut to 128 bytes as the server does.
pub(crate) fn unknown_command(name: &[u8], args: &[&[u8]]) -> ServerError {
    let mut shown = String::new();
    for arg in args {
        if shown.len() >= 128 {
            break;
        }
        let room = arg.len().min(128 - shown.len());
        shown.push('\'');
        shown.push_str(&String::from_utf8_lossy(arg.get(..room).unwrap_or(arg)));
        shown.push_str("' ");
    }
    let name = name.get(..128).unwrap_or(name);
    err(format!(
        "unknown command '{}', with args beginning with: {shown}",
        String::from_utf8_lossy(name)
    ))
}

pub(crate) fn unknown_subcommand(command: &str, subcommand: &[u8]) -> ServerError {
    let subcommand = subcommand.get(..128).unwrap_or(subcommand);
    err(format!(
        "unknown subcommand '{}'. Try {} HELP.",
        String::from_utf8_lossy(subcommand),
        command.to_ascii_uppercase()
    ))
}

/// For a subcommand that exists and was called wrongly.
pub(crate) fn subcommand_syntax(command: &str, subcommand: &[u8]) -> ServerError {
    err(format!(
        "unknown subcommand or wrong number of arguments for '{}'. Try {} HELP.",
        String::from_utf8_lossy(subcommand),
        command.to_ascii_uppercase()
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_unknown_command_error_quotes_what_was_sent() {
        assert_eq!(
            unknown_command(b"foo", &[b"a", b"b"]).to_string(),
            "ERR unknown command 'foo', with args beginning with: 'a' 'b' "
        );
    }
}
