//! Which replies the `fred` crate could mistake for pushed messages.
//!
//! fred looks at every whole reply, in RESP3 too: an *array* of three to five items whose first is
//! a text such as `message`, `pmessage`, `smessage`, `pubsub`, `subscribe` or `unsubscribe` is
//! taken for a message, whether or not anything is subscribed. It is delivered to nobody, and
//! every later reply goes to the wrong caller. Sets, maps, and arrays that hold the array one level
//! deeper are not looked at.

use crate::command::Command;

/// Whether the reply may be such an array. A command that is not known here may.
pub(super) fn may_be_mistaken(command: &Command) -> bool {
    let name = command.name();
    let mut upper = [0_u8; 20];
    let Some(upper) = upper.get_mut(..name.len()) else {
        return true;
    };
    upper.copy_from_slice(name.as_bytes());
    upper.make_ascii_uppercase();
    !is_harmless(upper) && !is_short_or_long(upper, command.arg_count())
}

/// Where the number of arguments tells that the reply is no array of three to five items.
fn is_short_or_long(name: &[u8], args: usize) -> bool {
    match name {
        b"LPOP" | b"RPOP" | b"SPOP" | b"SRANDMEMBER" | b"HRANDFIELD" | b"ZRANDMEMBER" => args == 1,
        b"MGET" => !(3..=5).contains(&args),
        b"HMGET" => !(4..=6).contains(&args),
        _ => false,
    }
}

/// Commands that reply with a number, a status, one text, a map, a set, nested arrays, or an array
/// that starts with a number.
fn is_harmless(name: &[u8]) -> bool {
    matches!(
        name,
        b"GET"
            | b"SET"
            | b"SETEX"
            | b"PSETEX"
            | b"SETNX"
            | b"GETSET"
            // Maps, and an address; sentinels have no MULTI.
            | b"SENTINEL"
            | b"GETDEL"
            | b"GETEX"
            | b"STRLEN"
            | b"APPEND"
            | b"GETRANGE"
            | b"SETRANGE"
            | b"INCR"
            | b"INCRBY"
            | b"DECR"
            | b"DECRBY"
            | b"INCRBYFLOAT"
            | b"MSET"
            | b"MSETNX"
            | b"GETBIT"
            | b"SETBIT"
            | b"BITCOUNT"
            | b"BITPOS"
            | b"BITOP"
            | b"DEL"
            | b"UNLINK"
            | b"EXISTS"
            | b"TTL"
            | b"PTTL"
            | b"EXPIRE"
            | b"PEXPIRE"
            | b"EXPIREAT"
            | b"PEXPIREAT"
            | b"EXPIRETIME"
            | b"PEXPIRETIME"
            | b"PERSIST"
            | b"TYPE"
            | b"RENAME"
            | b"RENAMENX"
            | b"COPY"
            | b"MOVE"
            | b"TOUCH"
            | b"DUMP"
            | b"RESTORE"
            | b"RANDOMKEY"
            | b"SCAN"
            | b"DBSIZE"
            | b"FLUSHDB"
            | b"FLUSHALL"
            | b"HGET"
            | b"HSET"
            | b"HSETNX"
            | b"HMSET"
            | b"HDEL"
            | b"HLEN"
            | b"HEXISTS"
            | b"HSTRLEN"
            | b"HINCRBY"
            | b"HINCRBYFLOAT"
            | b"HGETALL"
            | b"HSCAN"
            | b"LPUSH"
            | b"LPUSHX"
            | b"RPUSH"
            | b"RPUSHX"
            | b"LLEN"
            | b"LINDEX"
            | b"LSET"
            | b"LREM"
            | b"LTRIM"
            | b"LINSERT"
            | b"LMOVE"
            | b"RPOPLPUSH"
            | b"BLMOVE"
            | b"BRPOPLPUSH"
            | b"BLPOP"
            | b"BRPOP"
            | b"BLMPOP"
            | b"LMPOP"
            | b"SADD"
            | b"SREM"
            | b"SCARD"
            | b"SISMEMBER"
            | b"SMISMEMBER"
            | b"SMOVE"
            | b"SMEMBERS"
            | b"SINTER"
            | b"SUNION"
            | b"SDIFF"
            | b"SINTERSTORE"
            | b"SUNIONSTORE"
            | b"SDIFFSTORE"
            | b"SINTERCARD"
            | b"SSCAN"
            | b"ZADD"
            | b"ZREM"
            | b"ZCARD"
            | b"ZCOUNT"
            | b"ZLEXCOUNT"
            | b"ZSCORE"
            | b"ZMSCORE"
            | b"ZINCRBY"
            | b"ZREMRANGEBYRANK"
            | b"ZREMRANGEBYSCORE"
            | b"ZREMRANGEBYLEX"
            | b"ZRANGESTORE"
            | b"ZUNIONSTORE"
            | b"ZINTERSTORE"
            | b"ZDIFFSTORE"
            | b"ZINTERCARD"
            | b"ZSCAN"
            | b"ZMPOP"
            | b"BZMPOP"
            | b"XRANGE"
            | b"XREVRANGE"
            | b"XAUTOCLAIM"
            | b"XPENDING"
            | b"XADD"
            | b"XLEN"
            | b"XDEL"
            | b"XTRIM"
            | b"XACK"
            | b"XREAD"
            | b"XREADGROUP"
            | b"XGROUP"
            | b"PFADD"
            | b"PFCOUNT"
            | b"PFMERGE"
            | b"PUBLISH"
            | b"SPUBLISH"
            | b"PING"
            | b"ECHO"
            | b"TIME"
            | b"INFO"
            | b"HELLO"
            | b"SELECT"
            | b"AUTH"
            | b"MULTI"
            | b"DISCARD"
            | b"WATCH"
            | b"UNWATCH"
            | b"WAIT"
            | b"SCRIPT"
            | b"SAVE"
            | b"BGSAVE"
            | b"BGREWRITEAOF"
            | b"LASTSAVE"
            | b"CLIENT"
            | b"SHUTDOWN"
            | b"FAILOVER"
            | b"REPLICAOF"
            | b"SLAVEOF"
            | b"MIGRATE"
            | b"DEBUG"
            | b"ROLE"
            | b"SWAPDB"
            | b"ASKING"
            | b"READONLY"
            | b"READWRITE"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_of_texts_and_what_is_unknown_may_be_mistaken() {
        for name in [
            "LRANGE",
            "lrange",
            "HKEYS",
            "HVALS",
            "KEYS",
            "ZRANGE",
            "SORT",
            "SRANDMEMBER",
            "LPOP",
            "EVAL",
            "EVALSHA",
            "FCALL",
            "EXEC",
            "BZPOPMIN",
            "ZPOPMIN",
            "CONFIG",
            "ACL",
            "NEW.COMMAND",
            "",
            "A-NAME-LONGER-THAN-ANY-COMMAND",
        ] {
            assert!(may_be_mistaken(&Command::new(name)), "{name}");
        }
        for name in [
            "GET", "set", "HGETALL", "SMEMBERS", "XREAD", "SCAN", "EXISTS",
        ] {
            assert!(!may_be_mistaken(&Command::new(name)), "{name}");
        }
        let of = |name: &str, args: usize| Command::new(name).args(vec!["x"; args]);
        for (name, args, expected) in [
            ("MGET", 2, false),
            ("MGET", 3, true),
            ("MGET", 5, true),
            ("MGET", 6, false),
            ("HMGET", 3, false),
            ("HMGET", 4, true),
            ("LPOP", 1, false),
            ("LPOP", 2, true),
        ] {
            assert_eq!(may_be_mistaken(&of(name, args)), expected, "{name} {args}");
        }
    }
}
