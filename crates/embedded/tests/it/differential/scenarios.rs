//! Rare cases that random sequences do not come upon: written scenarios give the same replies on the
//! engine and on Redis 7.0.
//!
//! A scenario is a row of commands on one connection, with no keys at its start.

use std::time::Duration;

use redkit_core::{Backend, CallError, Client, ClientConfig, Command, Value};
use redkit_embedded::Embedded;
use redkit_testkit::{Program, Server, ServerOptions};
use tokio::time::Instant;

use super::compare::{Strictness, same};
use super::grammar::{Line, words};
use super::is_queued;

/// Which argument is looked at first, and how numbers are read.
const ARGUMENTS: &[&str] = &[
    "SET k v ; LPUSH l a ; GETEX k EX x ; GETEX l EX x ; GETEX none EX x ; GETEX none EX 0 ; GETEX l EX 0",
    "SET k v ; LPUSH l a ; GETEX none FOO ; GETEX l FOO ; GETEX none PERSIST EX 5 ; GETEX k EX 0 ; GETEX k PX",
    "ZADD z 1 a ; LPUSH l a ; ZINTERCARD 0 z ; ZINTERCARD x z ; ZINTERCARD 3 z ; ZINTERCARD -1 z ; ZINTERCARD 2 z l",
    "ZADD z 1 a ; LPUSH l a ; ZINTERCARD 2 z l LIMIT x ; ZINTERCARD 1 z LIMIT x ; ZINTERCARD 1 z LIMIT -1 ; ZINTERCARD 1 z FOO 1",
    "ZADD z 1 a ; LPUSH l a ; ZINTERCARD 2 z l FOO 1 ; ZINTERCARD 1 z LIMIT ; SINTERCARD 2 z l LIMIT x ; SINTERCARD 0 z",
    "XADD x 1-1 a b ; XTRIM x MINID ` 1` ; XTRIM x MINID `1 ` ; XTRIM x MINID +1 ; XTRIM x MINID 01 ; XTRIM x MINID ~",
    "XADD x 1-1 a b ; XTRIM x MINID -1 ; XTRIM x MINID `1-` ; XTRIM x MINID `1- 1` ; XTRIM x MINID 0x1 ; XTRIM x MINID ` ` ; XTRIM x MINID +",
    "XADD x 1-1 a b ; XRANGE x ` 1` + ; XRANGE x +1 + ; XRANGE x `\t1` + ; XRANGE x `1-+1` + ; XRANGE x `1- 1` + ; XRANGE x `+ 1` +",
    "XADD x ` 2` a b ; XADD x ` *` a b ; XADD x +3-* a b ; XADD x `4 -*` a b ; XRANGE x - +",
    "XADD x 1-1 a b ; XADD x 0 a b ; XADD x 0-0 a ; XADD x 0-0 a b ; XADD x foo a ; XADD x 1-1 a",
    "LPUSH l a ; XADD l 0-0 a b ; XADD l x a b ; XADD l 1-1 a ; XADD l MAXLEN x 1-1 a b ; XADD l MAXLEN ~~ 1 LIMIT 5 1-1 a",
    "XADD x MAXLEN 1 LIMIT 5 foo a b ; XADD x LIMIT 5 foo a b ; XADD x LIMIT 5 9-9 a ; XADD x LIMIT 0 foo a b ; XADD x LIMIT 0 9 a b",
    "XADD x MAXLEN 1 LIMIT 5 9 a ; XADD x MAXLEN 5 ; XADD x MAXLEN 5 9 ; XADD x MAXLEN 5 9 a ; XADD x NOMKSTREAM 9 a",
    "XADD x NOMKSTREAM NOMKSTREAM NOMKSTREAM ; XADD x MAXLEN 1 MINID 1 foo a b ; XADD x MAXLEN -1 foo a b ; XADD x MAXLEN = a",
    "XADD x MAXLEN ~~ foo a b ; XADD x MAXLEN ~~ 5 LIMIT foo 9 a b ; XADD x MAXLEN ~~ 5 LIMIT -1 9 a ; XADD x MAXLEN ~~",
    "XADD none NOMKSTREAM 0-0 a b ; XADD none NOMKSTREAM 1-1 a b ; XADD none NOMKSTREAM 1-1 a ; XADD none 18446744073709551615-* a b",
    "XADD x 1 a b ; XTRIM x FOO 1 ; XTRIM x MAXLEN 1 LIMIT 5 ; XTRIM x LIMIT 5 FOO ; XTRIM x LIMIT 5 MAXLEN ; XTRIM x LIMIT 5",
    "XADD x 1 a b ; XTRIM x LIMIT 0 ; XTRIM x LIMIT x MAXLEN 1 ; XTRIM x MAXLEN x FOO ; XTRIM x MAXLEN 1 MINID x ; XTRIM x MAXLEN 1 MAXLEN 2",
    "XADD x 1 a b ; XTRIM x MAXLEN ~~ 1 LIMIT ; XTRIM x MAXLEN ~~ ; XTRIM x MAXLEN = ; XTRIM x MAXLEN ~~ -1 LIMIT -1 ; XTRIM x MINID x LIMIT 5",
    "LPUSH l a ; XTRIM l FOO 1 ; XTRIM l MAXLEN 1 ; XTRIM l MAXLEN x ; XTRIM none MAXLEN x ; XTRIM none FOO x ; XTRIM none LIMIT 5",
    "XTRIM none LIMIT 5 LIMIT 6 ; XTRIM none LIMIT 0 LIMIT 0 ; XTRIM none NOMKSTREAM MAXLEN 1 ; XTRIM none MAXLEN 1 NOMKSTREAM",
    "XTRIM none LIMIT 0 MAXLEN 5 ; XTRIM none MAXLEN 5 LIMIT 0 ; XTRIM none LIMIT 5 MAXLEN ~~ 5 ; XTRIM none MAXLEN ~~ 5 LIMIT 5",
];

/// Commands of which some change nothing: `EXEC` shows whether the watched key `k` counts as changed.
const CHANGES: &[&str] = &[
    "SADD k a ; SADD s a ; WATCH k ; SMOVE s k a ; MULTI ; PING ; EXEC ; EXISTS s",
    "SADD k a ; SADD s a ; WATCH k ; SMOVE k s a ; MULTI ; PING ; EXEC ; EXISTS k",
    "SADD k a ; SADD s b ; WATCH k ; SMOVE s k b ; MULTI ; PING ; EXEC",
    "SADD k a ; WATCH k ; SMOVE k k a ; MULTI ; PING ; EXEC",
    "SET k aaaa ; WATCH k ; BITFIELD k SET u8 0 97 ; MULTI ; PING ; EXEC",
    "SET k aaaa ; WATCH k ; BITFIELD k SET u8 0 98 ; MULTI ; PING ; EXEC",
    "SET k aaaa ; WATCH k ; BITFIELD k SET u8 0 97 SET u8 8 98 ; MULTI ; PING ; EXEC",
    "SET k aaaa ; WATCH k ; BITFIELD k INCRBY u8 0 0 ; MULTI ; PING ; EXEC",
    "SET k aaaa ; WATCH k ; BITFIELD k SET u8 64 0 ; MULTI ; PING ; EXEC ; STRLEN k",
    "WATCH k ; BITFIELD k SET u8 0 0 ; MULTI ; PING ; EXEC ; STRLEN k",
    "WATCH k ; BITFIELD k OVERFLOW FAIL SET u8 0 300 ; MULTI ; PING ; EXEC ; STRLEN k",
    "SET k aaaa ; WATCH k ; BITFIELD k OVERFLOW FAIL SET u8 64 300 ; MULTI ; PING ; EXEC ; STRLEN k",
    "SET k aaaa ; WATCH k ; BITFIELD k OVERFLOW SAT SET u8 64 300 ; MULTI ; PING ; EXEC ; STRLEN k",
    "SET k aaaa ; WATCH k ; SETBIT k 0 0 ; MULTI ; PING ; EXEC",
    "SET k aaaa ; WATCH k ; SETBIT k 100 0 ; MULTI ; PING ; EXEC",
    "SET k aaaa ; WATCH k ; SETRANGE k 0 aaaa ; MULTI ; PING ; EXEC",
    "SET k aaaa ; WATCH k ; SETRANGE k 0 ~ ; MULTI ; PING ; EXEC",
    "SET k aaaa ; WATCH k ; APPEND k ~ ; MULTI ; PING ; EXEC",
    "SET k aaaa ; WATCH k ; GETEX k ; MULTI ; PING ; EXEC",
    "SET k aaaa ; WATCH k ; RENAME k k ; MULTI ; PING ; EXEC",
    "ZADD k 1 a ; WATCH k ; ZADD k 1 a ; MULTI ; PING ; EXEC",
    "ZADD k 1 a ; WATCH k ; ZINCRBY k 0 a ; MULTI ; PING ; EXEC",
    "HSET k a 1 ; WATCH k ; HSET k a 1 ; MULTI ; PING ; EXEC",
    "HSET k a 1 ; WATCH k ; HINCRBY k a 0 ; MULTI ; PING ; EXEC",
    "RPUSH k a ; WATCH k ; LSET k 0 a ; MULTI ; PING ; EXEC",
    "RPUSH k a ; WATCH k ; LTRIM k 0 -1 ; MULTI ; PING ; EXEC",
    "RPUSH k a ; WATCH k ; LMOVE k k LEFT RIGHT ; MULTI ; PING ; EXEC",
    "RPUSH k a ; WATCH k ; SORT k ALPHA STORE k ; MULTI ; PING ; EXEC",
    "XADD k 1 a b ; WATCH k ; XTRIM k MAXLEN 5 ; MULTI ; PING ; EXEC",
    "XADD k 1 a b ; WATCH k ; XGROUP CREATE k g 0 ; MULTI ; PING ; EXEC",
    "WATCH k ; SUNIONSTORE k none ; MULTI ; PING ; EXEC",
    "WATCH k ; BITOP AND k none ; MULTI ; PING ; EXEC",
];

/// What scripts may call, and in which order they see sets.
const SCRIPTS: &[&str] = &[
    "SADD t z b a 10 9 c ; EVAL `return redis.call('sort', 't', 'by', 'nosort')` 0 ; EVAL `return redis.call('sort', 't', 'by', 'nosort', 'desc')` 0",
    "SADD t z b a 10 9 c ; EVAL `return redis.call('sort', 't', 'by', 'nosort', 'limit', '0', '2')` 0 ; EVAL `return redis.call('sort_ro', 't', 'by', 'nosort', 'get', '#')` 0",
    "ZADD z 1 b 2 a ; EVAL `return redis.call('sort', 'z', 'by', 'nosort')` 0 ; EVAL `return redis.call('sort', 'z', 'by', 'nosort', 'desc')` 0",
    "EVAL_RO `#!lua\nreturn 1` 0 ; EVAL_RO `#!lua flags=no-writes\nreturn 1` 0 ; EVAL_RO `#!lua flags=allow-oom\nreturn 1` 0 ; EVAL_RO `return 1` 0",
    "SCRIPT LOAD `#!lua\nreturn 1` ; EVALSHA_RO cb70127618f0b0be70c53cf6bfcfa54a29d9b0c0 0 ; EVALSHA cb70127618f0b0be70c53cf6bfcfa54a29d9b0c0 0",
    "EVAL `return redis.call('config', 'get', 'maxmemory')` 0 ; EVAL `return redis.call('config', 'resetstat')` 0",
    "EVAL `return redis.call('role')` 0 ; EVAL `return redis.call('wait', '0', '0')` 0 ; EVAL `return redis.call('client', 'id')` 0 ; EVAL `return redis.call('reset')` 0",
    "EVAL `return type(redis.call('slowlog', 'len'))` 0 ; EVAL `return redis.call('select', '0')` 0 ; EVAL `return redis.call('ping')` 0",
    "EVAL `return load('return 7')()` 0 ; EVAL `return load(5)` 0 ; EVAL `return load()` 0 ; EVAL `return load({})` 0 ; EVAL `return load(nil)` 0",
    "EVAL `local n = 0 return load(function() n = n + 1 if n == 1 then return 'return 7' end end)()` 0",
    "EVAL `local n = 0 return load(function() n = n + 1 if n == 1 then return 'return 7' end end, {})()` 0",
    "EVAL `local n = 0 return load(function() n = n + 1 if n == 1 then return 'return 7' end end, 7)()` 0",
    "EVAL `local n = 0 return load(function() n = n + 1 if n == 1 then return 5 end end)` 0",
    "EVAL `return select(2, load(function() return {} end))` 0 ; EVAL `return select(2, load(function() error('boom') end))` 0",
    "EVAL `local n = 0 return select(2, load(function() n = n + 1 if n < 3 then return 'x x ' end end))` 0",
    "EVAL `local n = 0 return select(2, load(function() n = n + 1 if n < 3 then return 'x x ' end end, 'chunk'))` 0",
    "EVAL `return loadstring()` 0 ; EVAL `return loadstring({})` 0 ; EVAL `return loadstring(5)` 0 ; EVAL `return loadstring('return 1', {})()` 0 ; EVAL `return select(2, loadstring('x x'))` 0",
    "RESET",
    "SET k v ; MULTI ; SET k w ; RESET",
    "MULTI ; SET k w ; QUIT",
];

/// Settings of `cjson`: `SCRIPT FLUSH` brings back their defaults.
const CJSON: &[&str] = &[
    "EVAL `local r = {} for k, v in pairs(cjson) do r[#r + 1] = k .. ':' .. type(v) end table.sort(r) return r` 0",
    "EVAL `local a, b, c = cjson.encode_sparse_array() return {tostring(a), b, c}` 0 ; EVAL `local a, b, c = cjson.encode_sparse_array(true, 3, 7) return {tostring(a), b, c}` 0 ; EVAL `return cjson.encode({[100] = 1})` 0",
    "EVAL `return cjson.encode({[100] = 1})` 0 ; EVAL `cjson.encode_sparse_array(false, 0, 10) return cjson.encode({[11] = 1})` 0 ; EVAL `cjson.encode_sparse_array(false, 2, 0) return cjson.encode({[3] = 1})` 0",
    "EVAL `return cjson.encode_sparse_array(1)` 0 ; EVAL `return cjson.encode_sparse_array('on')` 0 ; EVAL `return cjson.encode_sparse_array('off')` 0 ; EVAL `return cjson.encode_sparse_array('x')` 0",
    "EVAL `return cjson.encode_sparse_array(nil, -1)` 0 ; EVAL `return cjson.encode_sparse_array(nil, 'x')` 0 ; EVAL `return cjson.encode_sparse_array(nil, 1.5)` 0",
    "EVAL `return cjson.encode_sparse_array(nil, 3000000000)` 0 ; EVAL `return cjson.encode_sparse_array(true, 2, 10, 4)` 0",
    "EVAL `return {cjson.encode_max_depth(), cjson.encode_max_depth(5), cjson.encode_max_depth('6'), cjson.encode_max_depth(5)}` 0 ; EVAL `return cjson.encode({{{{{1}}}}})` 0 ; EVAL `return cjson.encode({{{{{{1}}}}}})` 0",
    "EVAL `return cjson.encode_max_depth(0)` 0 ; EVAL `return cjson.encode_max_depth('x')` 0 ; EVAL `return cjson.encode_max_depth(1, 2)` 0 ; EVAL `return cjson.encode_max_depth(false)` 0 ; EVAL `return cjson.encode_max_depth(2147483648)` 0",
    "EVAL `return {cjson.decode_max_depth(), cjson.decode_max_depth(3)}` 0 ; EVAL `return cjson.decode('[[[1]]]')` 0 ; EVAL `return cjson.decode('[[[[1]]]]')` 0",
    "EVAL `return {cjson.encode_number_precision(), cjson.encode_number_precision(3)}` 0 ; EVAL `return cjson.encode(3.14159)` 0 ; EVAL `return cjson.encode_number_precision(15)` 0 ; EVAL `return cjson.encode_number_precision(0)` 0",
    "EVAL `return {tostring(cjson.encode_keep_buffer()), tostring(cjson.encode_keep_buffer(false))}` 0 ; EVAL `return cjson.encode({1}) .. cjson.encode({2})` 0 ; EVAL `return cjson.encode_keep_buffer('x')` 0",
    "EVAL `return {tostring(cjson.encode_invalid_numbers()), tostring(cjson.encode_invalid_numbers(true))}` 0 ; EVAL `return cjson.encode({1/0, -1/0, 0/0})` 0 ; EVAL `return cjson.encode({[1/0] = 1})` 0",
    "EVAL `return tostring(cjson.encode_invalid_numbers('null'))` 0 ; EVAL `return cjson.encode({1/0, -1/0, 0/0})` 0 ; EVAL `return tostring(cjson.encode_invalid_numbers('on'))` 0",
    "EVAL `return tostring(cjson.encode_invalid_numbers('off'))` 0 ; EVAL `return cjson.encode({1/0})` 0 ; EVAL `return cjson.encode_invalid_numbers(1)` 0 ; EVAL `return cjson.encode_invalid_numbers({})` 0",
    "EVAL `return {tostring(cjson.decode_invalid_numbers()), tostring(cjson.decode('nan'))}` 0 ; EVAL `return {tostring(cjson.decode('[-inf]')[1]), tostring(cjson.decode('[+nan]')[1]), tostring(cjson.decode('[+inf]')[1])}` 0",
    "EVAL `return tostring(cjson.decode('[infx]')[1])` 0 ; EVAL `return tostring(cjson.decode('[infinityx]')[1])` 0 ; EVAL `return tostring(cjson.decode('[nan(1)]')[1])` 0 ; EVAL `return tostring(cjson.decode('[-infinity, 0x10, 1e400]')[2])` 0",
    "EVAL `return tostring(cjson.decode_invalid_numbers(false))` 0 ; EVAL `return cjson.decode('nan')` 0 ; EVAL `return cjson.decode('[inf]')` 0 ; EVAL `return cjson.decode('[-inf]')` 0 ; EVAL `return cjson.decode('[0x10]')` 0",
    "EVAL `cjson.decode_invalid_numbers('off') return cjson.decode('[01]')` 0 ; EVAL `return cjson.decode('[-01]')` 0 ; EVAL `return cjson.decode('[+1]')` 0 ; EVAL `return cjson.decode('[1., 0, 0.5, -1e3]')` 0 ; EVAL `return cjson.decode('[00]')` 0",
    "EVAL `return cjson.decode_invalid_numbers('null')` 0 ; EVAL `return {pcall(cjson.encode_max_depth, 0)}` 0 ; EVAL `return {pcall(cjson.encode_sparse_array, {})}` 0 ; EVAL `return {pcall(cjson.encode)}` 0",
    "EVAL `local own = cjson.new() own.encode_max_depth(2) return {cjson.encode_max_depth(), own.encode_max_depth(), own.encode({a = 1}), type(own.new), type(cjson.new(1, 2))}` 0",
    "EVAL `local own = cjson.new() own.x = 5 return own.x` 0 ; EVAL `cjson.x = 5` 0",
    "EVAL `return cjson.encode({[1.5] = 1})` 0 ; EVAL `return cjson.encode({[-1] = 1})` 0 ; EVAL `return cjson.encode({[0] = 1})` 0 ; EVAL `return cjson.encode({1, 2, [4] = 4})` 0 ; EVAL `return cjson.encode({[2147483648] = 1})` 0",
];

#[tokio::test(flavor = "multi_thread")]
async fn arguments_are_checked_in_the_servers_order() {
    compare(ARGUMENTS).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_that_changes_nothing_leaves_a_watched_key_unchanged() {
    compare(CHANGES).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn scripts_are_given_the_same_commands() {
    compare(SCRIPTS).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn cjson_has_its_settings() {
    compare(CJSON).await;
}

async fn compare(scenarios: &[&str]) {
    let server = Server::start(Program::Redis, ServerOptions::new())
        .await
        .unwrap();
    let config = ClientConfig::from_url(&server.url()).unwrap();
    let client = Client::connect(config).await.unwrap();
    let embedded = Embedded::new();
    let mut different = Vec::new();
    for scenario in scenarios {
        let expected = play(&**client.backend(), scenario).await;
        let actual = play(&embedded, scenario).await;
        let mut queued = Vec::new();
        for ((line, expected), (_, actual)) in expected.iter().zip(&actual) {
            if expected.as_ref().is_ok_and(is_queued) {
                queued.push(line.clone());
            }
            if !same(line, &queued, expected, actual, Strictness::Texts) {
                different.push(format!(
                    "{line}\n  server:   {expected:?}\n  embedded: {actual:?}\nin\n  {scenario}"
                ));
            }
        }
    }
    assert!(different.is_empty(), "{}", different.join("\n\n"));
}

type Reply = Result<Value, CallError>;

/// Every command of a scenario with its reply.
async fn play(backend: &dyn Backend, scenario: &str) -> Vec<(Line, Reply)> {
    let connection = backend.dedicated().await.unwrap();
    for clean in ["FLUSHALL", "SCRIPT FLUSH"] {
        connection
            .call(&deadlined(Line(words(clean)).command()))
            .await
            .unwrap();
    }
    let mut replies = Vec::new();
    for line in scenario.split(" ; ") {
        let line = Line(words(line));
        let reply = connection.call(&deadlined(line.command())).await;
        replies.push((line, reply));
    }
    replies
}

fn deadlined(command: Command) -> Command {
    command.deadline(Instant::now() + Duration::from_secs(20))
}
