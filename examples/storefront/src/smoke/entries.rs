//! What the visit left behind the cache: every entry with its key, its time to live and its JSON,
//! read as any other program would, not through the cache.

use redkit::{Client, Command};
use serde_json::Value as Json;

use super::{Failure, Report, ensure};
use crate::model::Product;

/// How many entries are shown in full; the rest is counted.
const SHOWN: usize = 6;

/// How many characters of an entry are shown.
const WIDTH: usize = 110;

pub(super) async fn show(client: &Client, identity: &str, report: &mut Report) {
    match read(client, identity).await {
        Ok(entries) => {
            let (number, shown) = (entries.len(), SHOWN.min(entries.len()));
            report.step(
                "entries",
                Ok(format!(
                    "{number} keys, each JSON with a time to live; {shown} of them:"
                )),
            );
            for entry in entries.iter().take(SHOWN) {
                let json: String = entry.json.chars().take(WIDTH).collect();
                let cut = if json.len() < entry.json.len() {
                    "…"
                } else {
                    ""
                };
                let seconds = entry.ttl_millis / 1000;
                println!("      {} ({seconds} s)\n        {json}{cut}", entry.key);
            }
        }
        Err(failure) => report.step("entries", Err(failure)),
    }
}

struct Entry {
    key: String,
    ttl_millis: i64,
    json: String,
}

async fn read(client: &Client, identity: &str) -> Result<Vec<Entry>, Failure> {
    let mut entries = Vec::new();
    for key in keys(client, identity).await? {
        let ttl = client.call(Command::new("PTTL").key(&key)).await?;
        let text: Option<String> = client.call(Command::new("GET").key(&key)).await?;
        let json = text.ok_or_else(|| Failure::Unexpected(format!("{key} is gone")))?;
        ensure(ttl > 0, || format!("{key} has no time to live"))?;
        serde_json::from_str::<Json>(&json)?;
        entries.push(Entry {
            key,
            ttl_millis: ttl,
            json,
        });
    }
    // The product that was visited first is there, and any program can read it.
    let product = entries.iter().find(|entry| entry.key.ends_with("{17}"));
    let product = product.ok_or_else(|| Failure::Unexpected("product 17 is not there".into()))?;
    serde_json::from_str::<Product>(&product.json)?;
    Ok(entries)
}

/// The keys of this catalogue, in order.
async fn keys(client: &Client, identity: &str) -> Result<Vec<String>, Failure> {
    // The identity is hexadecimal, so nothing in the pattern needs escaping.
    let pattern = format!("*{identity}*");
    let mut keys = Vec::new();
    let mut cursor = "0".to_owned();
    loop {
        let scan = Command::new("SCAN")
            .arg(&cursor)
            .arg("MATCH")
            .arg(&pattern)
            .arg("COUNT");
        let (next, found): (String, Vec<String>) = client.call(scan.arg(500)).await?;
        keys.extend(found);
        cursor = next;
        if cursor == "0" {
            break;
        }
    }
    // A scan may give a key twice.
    keys.sort_unstable();
    keys.dedup();
    Ok(keys)
}
