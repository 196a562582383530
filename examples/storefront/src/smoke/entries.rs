//! What the visit left behind the cache: every entry with its key, its time to live and its JSON,
//! read as any other program would, not through the cache.

use redkit::{Client, Command, Key, Pattern};
use serde_json::Value as Json;

use super::{Failure, Report, ensure};
use crate::model::Product;

/// Keys of values that are encrypted: names and addresses.
const PERSONAL: [&str; 2] = [":cache:profiles:", ":cache:orders:"];

/// How many characters of an entry are shown.
const WIDTH: usize = 110;

pub(super) async fn show(client: &Client, identity: &str, report: &mut Report) {
    match read(client, identity).await {
        Ok((entries, others)) => {
            let number = entries.len();
            report.step(
                "entries",
                Ok(format!(
                    "{number} entries, each JSON with a time to live, and {others} other keys; one \
                     of each cache:"
                )),
            );
            for entry in one_of_each(&entries) {
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

/// The first entry of every cache.
fn one_of_each(entries: &[Entry]) -> impl Iterator<Item = &Entry> {
    let cache = |entry: &Entry| {
        let (_, rest) = entry.key.split_once(":cache:")?;
        Some(rest.split(':').next()?.to_owned())
    };
    let mut shown = None;
    entries.iter().filter(move |entry| {
        let own = cache(entry);
        std::mem::replace(&mut shown, own.clone()) != own
    })
}

struct Entry {
    key: String,
    ttl_millis: i64,
    json: String,
}

/// The entries in the order of their keys, and how many other keys the shop has.
async fn read(client: &Client, identity: &str) -> Result<(Vec<Entry>, usize), Failure> {
    let mut entries = Vec::new();
    let mut others = 0;
    for key in keys(client, identity).await? {
        let ttl = client.call(Command::new("PTTL").key(&key)).await?;
        let text = key.to_string();
        // A message stays until it is handled, however long that takes.
        ensure(ttl > 0 || text.contains(":topic:"), || {
            format!("{text} has no time to live")
        })?;
        let is_personal = PERSONAL.iter().any(|part| text.contains(part));
        if is_personal {
            let stored: Option<Vec<u8>> = client.call(Command::new("GET").key(&key)).await?;
            let stored = String::from_utf8_lossy(&stored.unwrap_or_default()).into_owned();
            ensure(!stored.contains("Mill Lane"), || {
                format!("{text} can be read by anybody")
            })?;
        }
        if is_personal || !text.contains(":cache:") {
            others += 1;
            continue;
        }
        let entry: Option<String> = client.call(Command::new("GET").key(&key)).await?;
        let entry = entry.ok_or_else(|| Failure::Unexpected(format!("{text} is gone")))?;
        // One line about the entry, and then the value as it is.
        let (_, json) = entry
            .split_once('\n')
            .ok_or_else(|| Failure::Unexpected(format!("{text} has no first line")))?;
        serde_json::from_str::<Json>(json)?;
        entries.push(Entry {
            key: text,
            ttl_millis: ttl,
            json: json.to_owned(),
        });
    }
    // The product that was visited first is there, and any program can read it.
    let product = entries.iter().find(|entry| entry.key.ends_with("{17}"));
    let product = product.ok_or_else(|| Failure::Unexpected("product 17 is not there".into()))?;
    serde_json::from_str::<Product>(&product.json)?;
    Ok((entries, others))
}

/// The keys of this catalogue, in order.
async fn keys(client: &Client, identity: &str) -> Result<Vec<Key>, Failure> {
    let pattern = Pattern::prefix(format!("storefront-{identity}:"));
    let mut found = client.scan(pattern).keys();
    let mut keys = Vec::new();
    while let Some(key) = found.next().await {
        // A scan gives keys without the client's namespace.
        keys.push(client.key(key?));
    }
    // It may give a key twice.
    keys.sort_unstable();
    keys.dedup();
    Ok(keys)
}
