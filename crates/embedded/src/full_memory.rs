//! A server without memory: which commands it refuses, and how.

use redkit_core::ServerError;

use crate::args::is;

/// The commands with the server's flag `denyoom`, and families of which some have it, in alphabetical order.
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

/// Of a family of commands, the members with that flag.
const REFUSED_MEMBERS: &[(&str, &[&str])] = &[("XGROUP", &["CREATE", "CREATECONSUMER"])];

/// Whether a full server refuses the command of this name with these arguments.
pub(crate) fn is_refused(name: &str, args: &[&[u8]]) -> bool {
    if REFUSED.binary_search(&name).is_err() {
        return false;
    }
    let family = REFUSED_MEMBERS.iter().find(|(family, _)| *family == name);
    family.is_none_or(|(_, members)| {
        let member = args.first();
        member.is_some_and(|given| members.iter().any(|member| is(given, member)))
    })
}

/// Whether a full server runs the command of this name on a connection whose commands are queued for `EXEC`.
pub(crate) fn runs_while_queueing(name: &str) -> bool {
    matches!(name, "EXEC" | "DISCARD" | "QUIT" | "RESET")
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
        for (family, _) in REFUSED_MEMBERS {
            assert!(REFUSED.contains(family), "{family}");
        }
        assert!(is_refused("SET", &[]) && !is_refused("DEL", &[]) && !is_refused("PEXPIRE", &[]));
        assert!(is_refused("XGROUP", &[b"create"]) && !is_refused("XGROUP", &[b"destroy"]));
    }
}
