//! When two replies are the same.

use redkit_core::{CallError, Value};

use super::grammar::Line;

/// How closely texts are compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Strictness {
    /// The server of whose version the engine claims to be: everything.
    Texts,
    /// Another version: error codes, not their texts; numbers in texts by their value.
    Codes,
    /// The newest series: as [`Codes`](Self::Codes), without what they added to replies.
    Newest,
}

/// The newest servers differ in what an expiry of zero is refused for first, and in the texts that they take
/// as numbers to sort by. The data may differ from there on.
pub(super) fn is_changed_in_newest(expected: &Reply, actual: &Reply) -> bool {
    let expiry = "invalid expire time in 'getex' command";
    let sorting = "One or more scores can't be converted into double";
    let (theirs, ours) = (errors_of(expected), errors_of(actual));
    let has = |texts: &[String], known: &str| texts.iter().any(|text| text.contains(known));
    theirs != ours && (has(&theirs, expiry) || has(&theirs, sorting) || has(&ours, sorting))
}

fn errors_of(reply: &Reply) -> Vec<String> {
    let mut found = Vec::new();
    match reply {
        Ok(value) => errors_within(value, &mut found),
        Err(CallError::Replied(error)) => found.push(error.to_string()),
        Err(_) => {}
    }
    found
}

/// The texts of errors within a transaction's reply, or within what a script answered.
fn errors_within(value: &Value, found: &mut Vec<String>) {
    match value {
        Value::Array(items) => items.iter().for_each(|item| errors_within(item, found)),
        Value::Error(error) => found.push(error.to_string()),
        Value::Bulk(text) if text.starts_with(b"ERR ") => {
            found.push(String::from_utf8_lossy(text).into_owned());
        }
        _ => {}
    }
}

type Reply = Result<Value, CallError>;

/// `queued` are the commands of the transaction, for `EXEC`.
pub(super) fn same(
    line: &Line,
    queued: &[Line],
    expected: &Reply,
    actual: &Reply,
    strictness: Strictness,
) -> bool {
    let name = line.effective_name();
    match (expected, actual) {
        (Ok(Value::Array(expected)), Ok(Value::Array(actual))) if name == "EXEC" => {
            let pairs = expected.iter().zip(actual);
            expected.len() == actual.len()
                && expected.len() == queued.len()
                && queued.iter().zip(pairs).all(|(line, (expected, actual))| {
                    same(line, &[], &reply(expected), &reply(actual), strictness)
                })
        }
        (Ok(Value::Array(expected)), Ok(Value::Array(actual)))
            if ["SORT", "SORT_RO"].contains(&name.as_str()) && has_zero_bytes(expected) =>
        {
            let is_part = line.to_string().to_ascii_uppercase().contains("LIMIT");
            expected.len() == actual.len() && (is_part || in_any_order(expected, actual))
        }
        (Ok(expected), Ok(actual)) => {
            let (expected, actual) = (
                normalized(&name, expected, strictness),
                normalized(&name, actual, strictness),
            );
            same_values(&name, &expected, &actual, strictness)
        }
        (Err(CallError::Replied(expected)), Err(CallError::Replied(actual))) => {
            same_errors(expected, actual, strictness)
        }
        _ => false,
    }
}

/// For the collation of C, with which servers sort texts, a text ends at its first zero byte: of two that are the same until
/// there either may come first.
fn has_zero_bytes(items: &[Value]) -> bool {
    let has = |item: &Value| matches!(item, Value::Bulk(text) if text.contains(&0));
    items.iter().any(has)
}

fn in_any_order(a: &[Value], b: &[Value]) -> bool {
    let count = |items: &[Value], item| items.iter().filter(|other| *other == item).count();
    a.iter().all(|item| count(a, item) == count(b, item))
}

/// An item of a transaction's reply as a reply of its own.
fn reply(item: &Value) -> Reply {
    match item {
        Value::Error(error) => Err(CallError::Replied(error.clone())),
        value => Ok(value.clone()),
    }
}

fn same_errors(
    expected: &redkit_core::ServerError,
    actual: &redkit_core::ServerError,
    strictness: Strictness,
) -> bool {
    match strictness {
        Strictness::Texts => expected == actual,
        Strictness::Codes | Strictness::Newest => expected.code() == actual.code(),
    }
}

fn same_values(name: &str, expected: &Value, actual: &Value, strictness: Strictness) -> bool {
    let all = |a: &[Value], b: &[Value]| {
        a.len() == b.len()
            && a.iter()
                .zip(b)
                .all(|(a, b)| same_values(name, a, b, strictness))
    };
    match (expected, actual) {
        (Value::Array(a), Value::Array(b)) if name == "XPENDING" && is_pending(a) => {
            is_pending(b)
                && a[..2] == b[..2]
                && a[3] == b[3]
                && same_values("PTTL", &a[2], &b[2], strictness)
        }
        (Value::Array(a), Value::Array(b)) | (Value::Set(a), Value::Set(b)) => all(a, b),
        (Value::Map(a), Value::Map(b)) => {
            a.len() == b.len()
                && a.iter().zip(b).all(|((ak, av), (bk, bv))| {
                    same_values(name, ak, bk, strictness) && same_values(name, av, bv, strictness)
                })
        }
        (Value::Error(a), Value::Error(b)) => same_errors(a, b, strictness),
        // Random picks are only alike.
        (Value::Bulk(_), Value::Bulk(_)) | (Value::Double(_), Value::Double(_))
            if is_random(name) =>
        {
            true
        }
        // Later versions create a consumer also when there is nothing to read or to claim.
        (Value::Int(_), Value::Int(_)) if name == "XGROUP" && strictness != Strictness::Texts => {
            true
        }
        (Value::Int(a), Value::Int(b)) => match tolerance(name) {
            Some(tolerance) if *a >= 0 && *b >= 0 => a.abs_diff(*b) <= tolerance,
            _ => a == b,
        },
        (Value::Bulk(a), Value::Bulk(b)) if strictness != Strictness::Texts && a != b => {
            let number = |text: &[u8]| std::str::from_utf8(text).ok()?.parse::<f64>().ok();
            let is_error = |text: &[u8]| text.starts_with(b"ERR ");
            match (number(a), number(b)) {
                (Some(a), Some(b)) => a == b,
                _ => is_error(a) && is_error(b),
            }
        }
        (a, b) => a == b,
    }
}

fn is_random(name: &str) -> bool {
    [
        "SPOP",
        "SRANDMEMBER",
        "HRANDFIELD",
        "ZRANDMEMBER",
        "RANDOMKEY",
    ]
    .contains(&name)
}

/// How far replies of commands that depend on the time may lie apart.
fn tolerance(name: &str) -> Option<u64> {
    match name {
        "TTL" | "EXPIRETIME" => Some(2),
        "PTTL" | "PEXPIRETIME" => Some(2_000),
        _ => None,
    }
}

/// A row of `XPENDING`: id, consumer, idle time, deliveries.
fn is_pending(row: &[Value]) -> bool {
    matches!(
        row,
        [Value::Bulk(_), Value::Bulk(_), Value::Int(_), Value::Int(_)]
    )
}

/// Fields of `XINFO` about times, about the inside of the server, or of later versions only.
fn is_beside_the_point(name: &str, field: &Value, strictness: Strictness) -> bool {
    let fields = [
        "radix-tree-nodes",
        "idle",
        "seen-time",
        "inactive",
        "active-time",
    ];
    let Value::Bulk(field) = field else {
        return false;
    };
    let of_versions = strictness != Strictness::Texts && field == &b"consumers"[..];
    let of_newest = |field: &[u8]| {
        let added = ["idmp-", "pids-", "iids-"];
        // How many a group has read after entries were deleted is computed otherwise.
        let counted: [&[u8]; 2] = [b"entries-read", b"lag"];
        added
            .iter()
            .any(|start| field.starts_with(start.as_bytes()))
            || counted.contains(&field)
    };
    let of_versions = of_versions || strictness == Strictness::Newest && of_newest(field);
    name == "XINFO" && (of_versions || fields.iter().any(|one| field == one.as_bytes()))
}

/// A consumer without pending entries: whether it exists depends on the version. Within a script it is a flat list.
fn is_idle_consumer(name: &str, item: &Value) -> bool {
    let pairs: Vec<(&Value, &Value)> = match item {
        Value::Map(pairs) => pairs.iter().map(|(k, v)| (k, v)).collect(),
        Value::Array(items) => {
            let pairs = items.chunks_exact(2);
            pairs.map(|pair| (&pair[0], &pair[1])).collect()
        }
        _ => return false,
    };
    let has = |key: &str, value: Option<&Value>| {
        pairs.iter().any(|(k, v)| {
            **k == Value::bulk(key.to_owned()) && value.is_none_or(|value| *v == value)
        })
    };
    name == "XINFO" && has("pending", Some(&Value::Int(0))) && !has("last-delivered-id", None)
}

/// Milliseconds since the epoch are those of the run.
fn is_time(name: &str, value: &Value) -> bool {
    name == "XINFO" && matches!(value, Value::Int(millis) if *millis > 1_500_000_000_000)
}

/// Sorts replies that have no order.
fn normalized(name: &str, value: &Value, strictness: Strictness) -> Value {
    let sorted = |mut items: Vec<Value>| {
        items.sort_by_cached_key(|item| format!("{item:?}"));
        items
    };
    let inside = |items: &[Value]| {
        let mut items = items.iter();
        let mut kept = Vec::new();
        while let Some(item) = items.next() {
            if is_beside_the_point(name, item, strictness) {
                items.next();
            } else if strictness == Strictness::Texts || !is_idle_consumer(name, item) {
                kept.push(normalized(name, item, strictness));
            }
        }
        kept
    };
    match value {
        Value::Set(items) => Value::Set(sorted(inside(items))),
        Value::Map(pairs) => {
            let mut pairs: Vec<(Value, Value)> = pairs
                .iter()
                .filter(|(k, _)| !is_beside_the_point(name, k, strictness))
                .map(|(k, v)| {
                    (
                        normalized(name, k, strictness),
                        normalized(name, v, strictness),
                    )
                })
                .collect();
            pairs.sort_by_cached_key(|pair| format!("{pair:?}"));
            Value::Map(pairs)
        }
        Value::Array(items) if is_unordered(name) => Value::Array(sorted(inside(items))),
        Value::Array(items) => Value::Array(inside(items)),
        // Scores stand here as texts, which the servers write differently, and sort differently.
        Value::Bulk(text) if name == "ZSCAN" && strictness != Strictness::Texts => {
            let number = std::str::from_utf8(text)
                .ok()
                .and_then(|text| text.parse::<f64>().ok());
            number.map_or_else(
                || value.clone(),
                |number| Value::bulk(format!("{number:?}")),
            )
        }
        // How long a key was idle: real seconds at the server, whose numbers below 10,000 are one
        // object for all keys that have them.
        Value::Int(_) if name == "OBJECT" => Value::Int(0),
        time if is_time(name, time) => Value::Int(i64::MAX),
        other => other.clone(),
    }
}

fn is_unordered(name: &str) -> bool {
    [
        "KEYS",
        "HKEYS",
        "HVALS",
        "HGETALL",
        "SMEMBERS",
        "SUNION",
        "SINTER",
        "SDIFF",
        "SCAN",
        "HSCAN",
        "SSCAN",
        "ZSCAN",
        "SPOP",
        "SRANDMEMBER",
        "HRANDFIELD",
        "ZRANDMEMBER",
    ]
    .contains(&name)
}
