//! A server without memory: which commands it refuses, and how.

use redkit_core::ServerError;

/// The commands with the server's flag `denyoom`, in alphabetical order.
const REFUSED: &[&str] = &[
    "APPEND",
    "BITFIELD",
    "BITOP",
    "BLMOVE",
    "BRPOPLPUSH",
    "COPY",
    "DECR",
    "DECRBY",
    "GETSET",
    "HEXPIRE",
    "HEXPIREAT",
    "HINCRBY",
    "HINCRBYFLOAT",
    "HMSET",
    "HPEXPIRE",
    "HPEXPIREAT",
    "HSET",
    "HSETEX",
    "HSETNX",
    "INCR",
    "INCRBY",
    "INCRBYFLOAT",
    "LINSERT",
    "LMOVE",
    "LPUSH",
    "LPUSHX",
    "LSET",
    "MSET",
    "MSETNX",
    "PSETEX",
    "RPOPLPUSH",
    "RPUSH",
    "RPUSHX",
    "SADD",
    "SDIFFSTORE",
    "SET",
    "SETBIT",
    "SETEX",
    "SETNX",
    "SETRANGE",
    "SINTERSTORE",
    "SORT",
    "SUNIONSTORE",
    "XADD",
    "XGROUP",
    "XSETID",
    "ZADD",
    "ZDIFFSTORE",
    "ZINCRBY",
    "ZINTERSTORE",
    "ZRANGESTORE",
    "ZUNIONSTORE",
];

/// Whether a full server refuses the command of this name.
pub(crate) fn is_refused(name: &str) -> bool {
    REFUSED.binary_search(&name).is_ok()
}

/// The server's error.
pub(crate) fn refusal() -> ServerError {
    ServerError::new("OOM", "command not allowed when used memory > 'maxmemory'.")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands;

    #[test]
    fn every_refused_command_is_one_of_the_engine_and_the_list_is_sorted() {
        assert!(REFUSED.is_sorted());
        for name in REFUSED {
            assert!(commands::lookup(name.as_bytes()).is_some(), "{name}");
        }
        assert!(is_refused("SET") && !is_refused("DEL") && !is_refused("PEXPIRE"));
    }
}
