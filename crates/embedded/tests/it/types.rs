//! Replies and error texts per type. What is compared with a server at random in `differential`
//! is written down here once, to be read.

use redkit_embedded::Embedded;

use crate::shell::session;

#[tokio::test]
async fn strings() {
    session(
        &Embedded::new(),
        "
        SET k v => OK
        set k w NX => nil
        SET k w XX GET => \"v\"
        SET k v EX 0 => -ERR invalid expire time in 'set' command
        SET k v EX x => -ERR value is not an integer or out of range
        SET k v NX XX => -ERR syntax error
        GET => -ERR wrong number of arguments for 'get' command
        NOPE a b => -ERR unknown command 'NOPE', with args beginning with: 'a' 'b' 
        APPEND k 12 => :3
        GETRANGE k -2 -1 => \"12\"
        SETRANGE k 5 x => :6
        GET k => \"w12\\0\\0x\"
        MSET a 1 b 2 a => -ERR wrong number of arguments for 'mset' command
        MSETNX a 1 k 2 => :0
        MGET a k => [nil \"w12\\0\\0x\"]
        SETBIT bits 7 1 => :0
        GET bits => \"\\u{1}\"
        SETBIT bits 4294967296 1 => -ERR bit offset is not an integer or out of range
        GETDEL bits => \"\\u{1}\"
        LPUSH k 1 => -WRONGTYPE Operation against a key holding the wrong kind of value
        ",
    )
    .await;
}

#[tokio::test]
async fn counters() {
    session(
        &Embedded::new(),
        "
        INCR n => :1
        DECRBY n 5 => :-4
        INCRBY n x => -ERR value is not an integer or out of range
        SET n 9223372036854775807 => OK
        INCR n => -ERR increment or decrement would overflow
        DECRBY n -9223372036854775808 => -ERR decrement would overflow
        INCRBYFLOAT f 0.1 => \"0.1\"
        INCRBYFLOAT f 0.2 => \"0.3\"
        INCRBYFLOAT f inf => -ERR increment would produce NaN or Infinity
        INCRBYFLOAT f x => -ERR value is not a valid float
        ",
    )
    .await;
}

#[tokio::test]
async fn hashes() {
    session(
        &Embedded::new(),
        "
        HSET h a 1 b x => :2
        HSET h a 2 c => -ERR wrong number of arguments for 'hset' command
        HGETALL h => {\"a\": \"1\", \"b\": \"x\"}
        HINCRBY h b 1 => -ERR hash value is not an integer
        HINCRBYFLOAT h b 1 => -ERR hash value is not a float
        HINCRBYFLOAT h a 0.5 => \"1.5\"
        HMGET h a z => [\"1.5\" nil]
        HRANDFIELD h -2 WITHVALUES x => -ERR syntax error
        HDEL h a b z => :2
        EXISTS h => :0
        HGETALL h => {}
        ",
    )
    .await;
}

#[tokio::test]
async fn lists() {
    session(
        &Embedded::new(),
        "
        RPUSH l a b c b => :4
        LPOP l -1 => -ERR value is out of range, must be positive
        LINDEX l -1 => \"b\"
        LSET l 9 x => -ERR index out of range
        LSET none 0 x => -ERR no such key
        LPOS l b RANK 2 => :3
        LPOS l b COUNT 0 => [:1 :3]
        LREM l -1 b => :1
        LINSERT l AFTER a z => :4
        LRANGE l 0 -1 => [\"a\" \"z\" \"b\" \"c\"]
        LMOVE l m LEFT RIGHT => \"a\"
        LMPOP 2 none l RIGHT COUNT 2 => [\"l\" [\"c\" \"b\"]]
        LPOP l => \"z\"
        LPOP l => nil
        TYPE l => +none
        ",
    )
    .await;
}

#[tokio::test]
async fn sets() {
    session(
        &Embedded::new(),
        "
        SADD a 1 2 2 => :2
        SADD b 2 => :1
        SINTER a b => ~[\"2\"]
        SDIFFSTORE c a b => :1
        SMEMBERS c => ~[\"1\"]
        SMISMEMBER a 1 9 => [:1 :0]
        SINTERCARD 0 a => -ERR numkeys should be greater than 0
        SINTERCARD 2 a => -ERR Number of keys can't be greater than number of args
        SPOP c 5 => ~[\"1\"]
        SPOP c => nil
        SINTERSTORE a c b => :0
        EXISTS a => :0
        SRANDMEMBER b 5 => [\"2\"]
        ",
    )
    .await;
}

#[tokio::test]
async fn sorted_sets() {
    session(
        &Embedded::new(),
        "
        ZADD z 1 a 2 b 2 c => :3
        ZADD z NX XX 1 a => -ERR XX and NX options at the same time are not compatible
        ZADD z GT LT 1 a => -ERR GT, LT, and/or NX options at the same time are not compatible
        ZADD z INCR 1 a 2 b => -ERR INCR option supports a single increment-element pair
        ZADD z nan a => -ERR value is not a valid float
        ZADD z GT CH 5 a 1 b => :1
        ZADD z LT INCR 1 a => nil
        ZSCORE z a => ,5
        ZRANGE z 0 -1 WITHSCORES => [[\"b\" ,2] [\"c\" ,2] [\"a\" ,5]]
        ZRANGE z (2 +inf BYSCORE => [\"a\"]
        ZRANGE z 5 2 BYSCORE REV LIMIT 1 1 => [\"c\"]
        ZRANGE z 0 1 LIMIT 0 1 => -ERR syntax error, LIMIT is only supported in combination with either BYSCORE or BYLEX
        ZRANGEBYSCORE z x 1 => -ERR min or max is not a float
        ZRANGEBYLEX z a b => -ERR min or max not valid string range item
        ZREVRANK z b => :2
        ZADD z inf i => :1
        ZINCRBY z -inf i => -ERR resulting score is not a number (NaN)
        ZPOPMAX z => [\"i\" ,inf]
        ZPOPMIN z 1 => [[\"b\" ,2]]
        ZUNION 0 z => -ERR at least 1 input key is needed for 'zunion' command
        ZUNIONSTORE u 2 z z WEIGHTS 1 2 => :2
        ZREMRANGEBYSCORE u -inf +inf => :2
        EXISTS u => :0
        ",
    )
    .await;
}

#[tokio::test]
async fn the_server() {
    let engine = Embedded::new();
    session(
        &engine,
        "
        PING => +PONG
        PING hi => \"hi\"
        CONFIG GET maxmemory => {}
        SCRIPT NOPE => -ERR unknown subcommand 'NOPE'. Try SCRIPT HELP.
        GEOADD s 1 2 b => -ERR unknown command 'GEOADD', with args beginning with: 's' '1' '2' 'b' 
        NOSUCH l 0 => -ERR unknown command 'NOSUCH', with args beginning with: 'l' '0' 
        ",
    )
    .await;
    let info = crate::shell::run(&engine, "INFO server").await;
    assert!(info.contains("redis_version:7.0.15"), "{info}");
}
