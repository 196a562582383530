//! The limits of scripts. Their conversions and errors are compared in `differential`.

use std::time::{Duration, Instant};

use bytes::Bytes;
use redkit_core::{Backend, Command, Value};
use redkit_embedded::Embedded;

use crate::shell::{run, session, write};

async fn eval(engine: &Embedded, script: &str) -> String {
    write(engine.call(&Command::new("EVAL").arg(script).arg(0)).await)
}

#[tokio::test]
async fn a_script_without_end_is_ended_even_if_it_catches_that() {
    for script in [
        "while true do end",
        "while true do pcall(function() while true do end end) end",
        "while true do coroutine.resume(coroutine.create(function() while true do end end)) end",
    ] {
        let engine = Embedded::new();
        let started = Instant::now();
        let reply = eval(&engine, script).await;
        assert!(
            reply.starts_with("-ERR Error running script (timeout)"),
            "{reply}"
        );
        assert!(started.elapsed() < Duration::from_secs(20));
        assert_eq!(eval(&engine, "return 1").await, ":1");
    }
}

#[tokio::test]
async fn a_script_without_measure_is_ended() {
    let engine = Embedded::new();
    let script = "local t = {} for i = 1, 1e9 do t[i] = string.rep(tostring(i), 200000) end";
    let reply = eval(&engine, script).await;
    assert!(reply.contains("not enough memory"), "{reply}");
    assert_eq!(eval(&engine, "return 1").await, ":1");
}

#[tokio::test]
async fn a_deep_or_cyclic_value_is_no_trouble() {
    let engine = Embedded::new();
    let nested = "local t = {} for i = 1, 5000 do t = {t} end return t";
    assert!(
        eval(&engine, nested)
            .await
            .contains("reached lua stack limit")
    );
    let cyclic = "local t = {} t[1] = t return t";
    assert!(
        eval(&engine, cyclic)
            .await
            .contains("reached lua stack limit")
    );
    let json = "return cjson.decode(string.rep('[', 999) .. string.rep(']', 999)) ~= nil";
    assert_eq!(eval(&engine, json).await, ":1");
    let json = "return cjson.decode(string.rep('[', 100000))";
    assert!(
        eval(&engine, json)
            .await
            .contains("too many nested data structures (1001)")
    );
    // Whatever the settings allow.
    let array = "cjson.encode_max_depth(1e9) local t = {} t[1] = t return cjson.encode(t)";
    let reply = eval(&engine, array).await;
    assert!(reply.contains("excessive nesting (7501)"), "{reply}");
    for open in ["[", "{\"a\":"] {
        let json = format!(
            "cjson.decode_max_depth(1e9) return cjson.decode(string.rep('{open}', 100000))"
        );
        let reply = eval(&engine, &json).await;
        assert!(reply.contains("too many nested data structures"), "{reply}");
    }
    let wide = "local t = {} for i = 1, 20000 do t['k' .. i] = {} end return #cjson.encode(t)";
    assert_eq!(eval(&engine, wide).await, ":228895");
}

#[tokio::test]
async fn writes_before_an_error_stay() {
    let engine = Embedded::new();
    let script = "redis.call('set', 'k', 'v') redis.call('lpush', 'k', 'x')";
    let reply = eval(&engine, script).await;
    assert!(reply.starts_with("-WRONGTYPE"), "{reply}");
    assert_eq!(run(&engine, "GET k").await, "\"v\"");
}

#[tokio::test]
async fn scripts_reach_nothing_outside() {
    let engine = Embedded::new();
    for name in [
        "io", "require", "dofile", "loadfile", "debug", "package", "print", "newproxy",
    ] {
        let reply = eval(&engine, &format!("return {name}")).await;
        assert!(reply.contains("nonexistent global variable"), "{reply}");
    }
    for script in [
        "redis.call = 1",
        "string.x = 1",
        "_G.x = 1",
        "rawset(_G, 'x', 1)",
        "setmetatable(_G, {})",
        "getmetatable('').__index.x = 1",
    ] {
        assert!(eval(&engine, script).await.starts_with('-'), "{script}");
    }
    assert_eq!(eval(&engine, "return os.execute == nil").await, ":1");
    // Bytecode could break out of the interpreter.
    for load in [
        "loadstring(code)",
        "load(coroutine.wrap(function() coroutine.yield(code) end))",
    ] {
        let script = format!("local code = string.char(27) .. 'Lua' return select(2, {load})");
        let reply = eval(&engine, &script).await;
        assert!(reply.contains("precompiled"), "{reply}");
    }
    let pieces = "coroutine.wrap(function() coroutine.yield('return ') coroutine.yield('7') end)";
    assert_eq!(
        eval(&engine, &format!("return load({pieces})()")).await,
        ":7"
    );
}

#[tokio::test]
async fn scripts_are_known_by_their_digest() {
    let engine = Embedded::new();
    session(
        &engine,
        "
        EVALSHA e0e1f9fabfc9d4800c877a703b823ac0578ff8db 0 => -NOSCRIPT No matching script. Please use EVAL.
        SCRIPT LOAD 'return 1' => \"e0e1f9fabfc9d4800c877a703b823ac0578ff8db\"
        EVALSHA e0e1f9fabfc9d4800c877a703b823ac0578ff8db 0 => :1
        EVALSHA_RO E0E1F9FABFC9D4800C877A703B823AC0578FF8DB 0 => :1
        SCRIPT EXISTS e0e1f9fabfc9d4800c877a703b823ac0578ff8db x => [:1 :0]
        SCRIPT FLUSH => OK
        EVALSHA e0e1f9fabfc9d4800c877a703b823ac0578ff8db 0 => -NOSCRIPT No matching script. Please use EVAL.
        EVAL 'return 1' 0 => :1
        EVALSHA e0e1f9fabfc9d4800c877a703b823ac0578ff8db 0 => :1
        ",
    )
    .await;
}

#[tokio::test]
async fn a_shebang_sets_flags() {
    let engine = Embedded::new();
    let reply = eval(
        &engine,
        "#!lua flags=no-writes\nreturn redis.call('set', 'k', 'v')",
    )
    .await;
    assert!(
        reply.starts_with("-ERR Write commands are not allowed"),
        "{reply}"
    );
    assert_eq!(eval(&engine, "#!lua\nreturn 1").await, ":1");
    engine.set_full(true);
    let set = "return redis.call('set', 'k', 'v')";
    for (first_line, runs) in [
        ("#!lua", false),
        ("#!lua flags=allow-stale", false),
        ("#!lua flags=allow-oom", true),
    ] {
        let script = format!("{first_line}\n{set}");
        let reply = eval(&engine, &script).await;
        assert_eq!(!reply.starts_with("-OOM"), runs, "{first_line}: {reply}");
    }
    assert_eq!(eval(&engine, "#!lua flags=no-writes\nreturn 1").await, ":1");
    assert!(eval(&engine, "#!lua\nreturn 1").await.starts_with("-OOM"));
    assert_eq!(eval(&engine, "return 1").await, ":1");
    engine.set_full(false);
    let reply = eval(&engine, "#!python\nreturn 1").await;
    assert_eq!(reply, "-ERR Unexpected engine in script shebang: python");
}

#[tokio::test]
async fn lists_of_any_length_shape_and_bytes_are_replies() {
    let engine = Embedded::new();
    let many = "local t = {} for i = 1, 20000 do t[i] = 'x' .. i end return t";
    let reply = eval(&engine, many).await;
    assert!(reply.contains("x19999") && reply.contains("x20000"));
    let shapes = [
        ("return {1, 'a', false, true}", "[:1 \"a\" nil :1]"),
        ("return {1, nil, 3}", "[:1]"),
        (
            "local t = {} t[2] = 'b' t[1] = 'a' return t",
            "[\"a\" \"b\"]",
        ),
        ("return {1, {2, {3}}, 4}", "[:1 [:2 [:3]] :4]"),
        ("return {}", "[]"),
        ("return {ok = 'fine', 1, 2}", "+fine"),
        ("return {1, 2, err = 'ERR no'}", "-ERR no"),
        ("return {1, other = 2}", "[:1]"),
        ("return {[1.5] = 1, 7}", "[:7]"),
    ];
    for (script, expected) in shapes {
        assert_eq!(eval(&engine, script).await, expected, "{script}");
    }
    // One that is no list, within one that is none: quick all the same.
    let deep = "local t = {'x', a = 1} for i = 1, 90 do t = {t, a = 1} end return t";
    assert!(eval(&engine, deep).await.contains('x'));
    let bytes = "return {ARGV[1], KEYS[1], #KEYS, #ARGV}";
    let call = Command::new("EVAL").arg(bytes).arg(1).key(&b"\xff\x00"[..]);
    let reply = engine.call(&call.arg(&b"\xfe"[..])).await.unwrap();
    let bulk = |bytes: &'static [u8]| Value::Bulk(Bytes::from_static(bytes));
    let expected = [
        bulk(b"\xfe"),
        bulk(b"\xff\x00"),
        Value::Int(1),
        Value::Int(1),
    ];
    assert_eq!(reply, Value::Array(expected.to_vec()));
}

#[tokio::test]
async fn any_number_of_scripts_can_be_run_and_the_ones_evaluated_long_ago_are_forgotten() {
    let engine = Embedded::new();
    let load = Command::new("SCRIPT").arg("LOAD").arg("return 'loaded'");
    let loaded = write(engine.call(&load).await);
    let by_sha = format!("EVALSHA {} 0", loaded.trim_matches('"'));
    for number in 0..10_000 {
        let reply = eval(&engine, &format!("return {number}")).await;
        assert_eq!(reply, format!(":{number}"));
    }
    assert_eq!(run(&engine, &by_sha).await, "\"loaded\"", "for ever");
    let known = async |script: &str| {
        let digest = eval(&engine, &format!("return redis.sha1hex('{script}')")).await;
        let exists = format!("SCRIPT EXISTS {}", digest.trim_matches('"'));
        run(&engine, &exists).await
    };
    assert_eq!(known("return 9999").await, "[:1]");
    assert_eq!(known("return 1").await, "[:0]");
    assert_eq!(eval(&engine, "return 1").await, ":1");
    let many =
        "local t = {} for i = 1, 5000 do t[i] = i end return redis.call('SADD', 'set', unpack(t))";
    assert_eq!(eval(&engine, many).await, ":5000");
}

async fn digest(engine: &Embedded, text: &str) -> String {
    let load = Command::new("SCRIPT").args(["LOAD", text]);
    engine.call(&load).await.unwrap().to().unwrap()
}

#[tokio::test]
async fn scripts_with_long_constants_do_not_use_up_the_memory() {
    let engine = Embedded::new();
    let long = "x".repeat(1_000_000);
    for number in 0..400 {
        let text = format!("local long = '{number}{long}' return {number}");
        assert_eq!(eval(&engine, &text).await, format!(":{number}"));
    }
}

#[tokio::test]
async fn large_arguments_of_the_last_call_do_not_have_scripts_forgotten() {
    let engine = Embedded::new();
    assert_eq!(eval(&engine, "return 'kept'").await, "\"kept\"");
    let sha = eval(&engine, "return redis.sha1hex(\"return 'kept'\")").await;
    let large = Bytes::from(vec![b'x'; 150_000_000]);
    for (keys, length) in [(0, "return #ARGV[1]"), (1, "return #KEYS[1]")] {
        let call = Command::new("EVAL").arg(length).arg(keys).arg(&large);
        assert_eq!(write(engine.call(&call).await), ":150000000");
        assert_eq!(eval(&engine, "return 1").await, ":1");
        let exists = format!("SCRIPT EXISTS {}", sha.trim_matches('"'));
        assert_eq!(run(&engine, &exists).await, "[:1]", "{length}");
    }
}

/// A collection goes through all that the scripts' texts hold.
#[tokio::test]
async fn garbage_beside_many_loaded_scripts_is_collected_when_it_is_much_and_not_before_every_call()
{
    let engine = Embedded::new();
    let long = "x".repeat(10_000_000);
    for number in 0..14 {
        digest(
            &engine,
            &format!("local long = '{number}{long}' return {number}"),
        )
        .await;
    }
    // Leaves twice the text behind.
    let used = async |number: usize, length: usize| {
        let script =
            "local left = ARGV[1] .. 'x' return math.floor(collectgarbage('count') / 1024)";
        let text = format!("{number}{}", &long[..length]);
        let call = Command::new("EVAL").arg(script).arg(0).arg(text);
        let reply: i64 = engine.call(&call).await.unwrap().to().unwrap();
        reply
    };
    let mut megabytes = Vec::new();
    for number in 0..10 {
        megabytes.push(used(number, 500_000).await);
    }
    assert!(megabytes[0] >= 130, "{megabytes:?}");
    assert!(megabytes.is_sorted(), "{megabytes:?}");
    assert!(megabytes[9] - megabytes[0] >= 7, "{megabytes:?}");
    for number in 0..30 {
        let now = used(number, 10_000_000).await;
        assert!(now < 250, "{now} MB");
    }
}

#[tokio::test]
async fn a_script_that_is_evaluated_again_and_again_is_not_forgotten() {
    let other = Embedded::new();
    let sha = digest(&other, "return 'often'").await;
    let engine = Embedded::new();
    for number in 0..1_000 {
        if number % 100 == 0 {
            assert_eq!(eval(&engine, "return 'often'").await, "\"often\"");
        }
        eval(&engine, &format!("return {number}")).await;
    }
    assert_eq!(run(&engine, &format!("SCRIPT EXISTS {sha}")).await, "[:1]");
}

#[tokio::test]
async fn a_script_that_was_evaluated_and_then_loaded_is_not_forgotten() {
    let engine = Embedded::new();
    assert_eq!(eval(&engine, "return 'loaded'").await, "\"loaded\"");
    let sha = digest(&engine, "return 'loaded'").await;
    for number in 0..600 {
        eval(&engine, &format!("return {number}")).await;
    }
    assert_eq!(
        run(&engine, &format!("EVALSHA {sha} 0")).await,
        "\"loaded\""
    );
}
