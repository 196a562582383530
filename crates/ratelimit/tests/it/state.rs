//! What a server holds: every key with its value and its time to live.

use redkit_core::{Client, Command, Value};

/// A key with its value and when it expires (ms since 1970; -1: never).
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Stored {
    pub(crate) key: String,
    pub(crate) value: Value,
    pub(crate) expires: i64,
}

/// Everything that one server holds, by key.
pub(crate) async fn dump(client: &Client) -> Vec<Stored> {
    let mut keys = Vec::new();
    let mut cursor = "0".to_owned();
    loop {
        let scan = Command::new("SCAN").arg(&cursor).arg("COUNT").arg(1000);
        let (next, some): (String, Value) = client.call(scan).await.unwrap();
        keys.extend(some.to::<Vec<String>>().unwrap());
        cursor = next;
        if cursor == "0" {
            break;
        }
    }
    keys.sort();
    keys.dedup();
    let mut dump = Vec::new();
    for key in keys {
        let kind: String = client.call(Command::new("TYPE").key(&key)).await.unwrap();
        let read = match kind.as_str() {
            "none" => continue,
            "string" => Command::new("GET").key(&key),
            "hash" => Command::new("HGETALL").key(&key),
            "list" => Command::new("LRANGE").key(&key).arg(0).arg(-1),
            "zset" => Command::new("ZRANGE")
                .key(&key)
                .arg(0)
                .arg(-1)
                .arg("WITHSCORES"),
            other => panic!("a key of type {other}"),
        };
        let value = client.call(read).await.unwrap();
        let expires = client
            .call(Command::new("PEXPIRETIME").key(&key))
            .await
            .unwrap();
        dump.push(Stored {
            key,
            value,
            expires,
        });
    }
    dump
}

/// The server's clock, in µs.
pub(crate) async fn now(client: &Client) -> i128 {
    let (seconds, micros): (i64, i64) = client.call(Command::new("TIME")).await.unwrap();
    i128::from(seconds) * 1_000_000 + i128::from(micros)
}
