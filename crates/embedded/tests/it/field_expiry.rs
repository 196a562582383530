//! Fields of hashes that expire by themselves, as Redis 7.4 and 8.0 document it.

use std::time::Duration;

use redkit_core::Backend;
use redkit_embedded::Embedded;
use tokio::time::advance;

use crate::shell::{run, session};

#[tokio::test(start_paused = true)]
async fn a_field_goes_when_its_time_is_up_and_the_hash_with_the_last_one() {
    let engine = Embedded::new();
    session(
        &engine,
        "
        HSET h a 1 b 2 c 3 => :3
        HEXPIRE h 10 FIELDS 2 a nope => [:1 :-2]
        HPEXPIRE h 20500 FIELDS 1 b => [:1]
        HTTL h FIELDS 4 a b c nope => [:10 :21 :-1 :-2]
        HPTTL h FIELDS 2 a b => [:10000 :20500]
        HTTL none FIELDS 2 a b => [:-2 :-2]
        HEXPIRE none 10 FIELDS 2 a b => [:-2 :-2]
        HPERSIST none FIELDS 1 a => [:-2]
        ",
    )
    .await;
    advance(Duration::from_millis(10_000)).await;
    session(&engine, "HGET h a => \"1\"\n HPTTL h FIELDS 1 a => [:0]").await;
    advance(Duration::from_millis(1)).await;
    session(
        &engine,
        "
        HGET h a => nil
        HEXISTS h a => :0
        HLEN h => :2
        HGETALL h => {\"c\": \"3\", \"b\": \"2\"}
        HSCAN h 0 => [\"0\" [\"b\" \"2\" \"c\" \"3\"]]
        HDEL h c => :1
        EXISTS h => :1
        ",
    )
    .await;
    advance(Duration::from_secs(11)).await;
    session(
        &engine,
        "DBSIZE => :0\n EXISTS h => :0\n KEYS * => []\n TYPE h => +none",
    )
    .await;
}

#[tokio::test(start_paused = true)]
async fn conditions_compare_with_the_present_expiry() {
    let engine = Embedded::new();
    session(
        &engine,
        "
        HSET h a 1 b 2 => :2
        HEXPIRE h 100 XX FIELDS 1 a => [:0]
        HEXPIRE h 100 GT FIELDS 1 a => [:0]
        HEXPIRE h 100 NX FIELDS 1 a => [:1]
        HEXPIRE h 200 NX FIELDS 2 a b => [:0 :1]
        HEXPIRE h 50 GT FIELDS 1 a => [:0]
        HEXPIRE h 100 GT FIELDS 1 a => [:0]
        HEXPIRE h 150 gt FIELDS 1 a => [:1]
        HEXPIRE h 150 LT FIELDS 1 a => [:0]
        HEXPIRE h 60 LT FIELDS 1 a => [:1]
        HEXPIRE h 70 XX FIELDS 1 a => [:1]
        HTTL h FIELDS 2 a b => [:70 :200]
        HPERSIST h FIELDS 3 a a nope => [:1 :-1 :-2]
        HEXPIRE h 60 LT FIELDS 1 a => [:1]
        HEXPIRE h 0 FIELDS 1 a => [:2]
        HPEXPIREAT h 1 FIELDS 2 a b => [:-2 :2]
        EXISTS h => :0
        ",
    )
    .await;
}

#[tokio::test(start_paused = true)]
async fn absolute_times_come_back_rounded_up() {
    let engine = Embedded::new();
    session(
        &engine,
        "
        HSET h a 1 => :1
        HEXPIREAT h 4102444800 FIELDS 1 a => [:1]
        HEXPIRETIME h FIELDS 1 a => [:4102444800]
        HPEXPIRETIME h FIELDS 1 a => [:4102444800000]
        HPEXPIREAT h 4102444800001 FIELDS 1 a => [:1]
        HEXPIRETIME h FIELDS 2 a b => [:4102444801 :-2]
        HPERSIST h FIELDS 1 a => [:1]
        HEXPIRETIME h FIELDS 1 a => [:-1]
        ",
    )
    .await;
}

#[tokio::test(start_paused = true)]
async fn writing_a_field_lets_it_stay_and_counting_does_not() {
    let engine = Embedded::new();
    session(
        &engine,
        "
        HSET h a 1 b 2 c 3 => :3
        HEXPIRE h 10 FIELDS 3 a b c => [:1 :1 :1]
        HSET h a 9 => :0
        HINCRBY h b 1 => :3
        HINCRBYFLOAT h c 0.5 => \"3.5\"
        HTTL h FIELDS 3 a b c => [:-1 :10 :10]
        COPY h copy => :1
        RENAME h moved => OK
        HTTL copy FIELDS 1 b => [:10]
        ",
    )
    .await;
    advance(Duration::from_secs(11)).await;
    session(
        &engine,
        "HGETALL moved => {\"a\": \"9\"}\n HGETALL copy => {\"a\": \"9\"}\n DBSIZE => :2",
    )
    .await;
}

#[tokio::test(start_paused = true)]
async fn reading_and_writing_with_an_expiry() {
    let engine = Embedded::new();
    session(
        &engine,
        "
        HSETEX h EX 10 FIELDS 2 a 1 b 2 => :1
        HTTL h FIELDS 2 a b => [:10 :10]
        HSETEX h FNX FIELDS 1 a 9 => :0
        HSETEX h FXX FIELDS 2 a 9 c 9 => :0
        HSETEX h FXX KEEPTTL FIELDS 1 a 3 => :1
        HSETEX h FNX PX 500 FIELDS 1 c 4 => :1
        HPTTL h FIELDS 2 a c => [:10000 :500]
        HGETEX h FIELDS 3 a b nope => [\"3\" \"2\" nil]
        HGETEX h PERSIST FIELDS 1 a => [\"3\"]
        HGETEX h EX 99 FIELDS 1 b => [\"2\"]
        HGETEX h EXAT 1 FIELDS 1 c => [\"4\"]
        HTTL h FIELDS 3 a b c => [:-1 :99 :-2]
        HSETEX h FIELDS 1 b 5 => :1
        HTTL h FIELDS 1 b => [:-1]
        HGETDEL h FIELDS 3 a b nope => [\"3\" \"5\" nil]
        EXISTS h => :0
        HGETDEL h FIELDS 1 a => [nil]
        HGETEX h FIELDS 1 a => [nil]
        HSETEX h PXAT 1 FIELDS 1 a 1 => :1
        EXISTS h => :0
        HSETEX h PX 5000 FNX FIELDS 2 a 1 b 2 => :1
        HPTTL h FIELDS 1 a => [:5000]
        HSETEX h KEEPTTL FXX FIELDS 1 a 3 => :1
        HPTTL h FIELDS 1 a => [:5000]
        HSETEX h EX 0 FIELDS 1 a 1 => :1
        HGET h a => nil
        HGETEX h EX 0 FIELDS 1 b => [\"2\"]
        EXISTS h => :0
        HSETEX h EXAT 0 FIELDS 1 a 1 => :1
        EXISTS h => :0
        ",
    )
    .await;
}

#[tokio::test]
async fn errors_are_those_of_the_server() {
    let engine = Embedded::new();
    session(
        &engine,
        "
        HEXPIRE h x FIELDS 1 a => -ERR value is not an integer or out of range
        HEXPIRE h -1 FIELDS 1 a => -ERR invalid expire time, must be >= 0
        HEXPIRE h 9223372036854775807 FIELDS 1 a => -ERR invalid expire time in 'hexpire' command
        HPEXPIREAT h 9223372036854775807 FIELDS 1 a => -ERR invalid expire time in 'hpexpireat' command
        HEXPIRE h 1 FOO 1 a => -ERR Mandatory argument FIELDS is missing or not at the right position
        HEXPIRE h 1 FIELDS 0 a => -ERR Parameter `numFields` should be greater than 0
        HEXPIRE h 1 FIELDS 2 a => -ERR The `numfields` parameter must match the number of arguments
        HTTL h FIELDS x a => -ERR Number of fields must be a positive integer
        HTTL h FIELDS 2 a => -ERR The `numfields` parameter must match the number of arguments
        HTTL h FOO 1 a => -ERR Mandatory argument FIELDS is missing or not at the right position
        HEXPIRE h 1 FIELDS 1 => -ERR wrong number of arguments for 'hexpire' command
        HSETEX h FIELDS 2 a 1 => -ERR wrong number of arguments for 'hsetex' command
        HSETEX h FIELDS 1 a 1 b => -ERR wrong number of arguments for 'hsetex' command
        HSETEX h FIELDS 0 a 1 => -ERR invalid number of fields
        HSETEX h FIELDS x a 1 => -ERR invalid number of fields
        HSETEX h EX -1 FIELDS 1 a 1 => -ERR invalid expire time, must be >= 0
        HGETEX h EX -1 FIELDS 1 a => -ERR invalid expire time, must be >= 0
        HSETEX h PX 9223372036854775807 FIELDS 1 a 1 => -ERR invalid expire time in 'hsetex' command
        HSETEX h EX 1 KEEPTTL FIELDS 1 a 1 => -ERR Only one of EX, PX, EXAT, PXAT or KEEPTTL arguments can be specified
        HSETEX h KEEPTTL PX 1 FIELDS 1 a 1 => -ERR Only one of EX, PX, EXAT, PXAT or KEEPTTL arguments can be specified
        HSETEX h FNX FXX FIELDS 1 a 1 => -ERR Only one of FXX or FNX arguments can be specified
        HSETEX h NX FIELDS 1 a 1 => -ERR unknown argument: NX
        EXISTS h => :0
        SET s v => OK
        HTTL s FIELDS 1 a => -WRONGTYPE Operation against a key holding the wrong kind of value
        HSETEX s NX FIELDS 1 a 1 => -ERR unknown argument: NX
        HSETEX s FIELDS 1 a 1 => -WRONGTYPE Operation against a key holding the wrong kind of value
        ",
    )
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_watched_hash_whose_field_expires_has_changed() {
    let engine = Embedded::new();
    let own = engine.dedicated().await.unwrap();
    session(
        &engine,
        "HSET h a 1 b 2 => :2\n HPEXPIRE h 100 FIELDS 1 a => [:1]",
    )
    .await;
    session(&*own, "WATCH h => OK\n HTTL h FIELDS 1 b => [:-1]").await;
    advance(Duration::from_millis(101)).await;
    session(&*own, "MULTI => OK\n PING => +QUEUED").await;
    assert_eq!(run(&*own, "EXEC").await, "nil");
}
