//! The lists of a group: its dead letters, and what is pending, from one partition after the other.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use redkit_core::inspection::{InspectError, Item, Page, Query};
use redkit_core::{Command, Value};

use super::Inspected;
use crate::inbox::ItemId;
use crate::scripts::Entries;
use crate::topic::keys::Partition;
use crate::topic::scripts::WAITING;

/// The longest text of a payload that a page shows.
const MOST_SHOWN: usize = 4_096;

/// Where a page begins: in which partition, and after which entry.
struct Start {
    partition: u32,
    after: Option<ItemId>,
}

impl Start {
    fn read(cursor: &str) -> Result<Self, InspectError> {
        if cursor.is_empty() {
            return Ok(Self {
                partition: 0,
                after: None,
            });
        }
        let read = cursor.split_once('/').and_then(|(partition, entry)| {
            Some(Self {
                partition: partition.parse().ok()?,
                after: Some(entry.parse().ok()?),
            })
        });
        let expected = "the cursor is that of the page before";
        read.ok_or_else(|| InspectError::Argument(expected.into()))
    }

    /// Where the range of a partition begins; nothing for those before.
    fn of(&self, partition: &Partition) -> Option<String> {
        if partition.number < self.partition {
            return None;
        }
        let after = self.after.filter(|_| partition.number == self.partition);
        Some(after.map_or_else(|| "-".to_owned(), |entry| format!("({entry}")))
    }
}

impl<T> Inspected<T> {
    pub(super) async fn dead_letters(&self, query: &Query) -> Result<Page, InspectError> {
        let (start, wanted) = (Start::read(&query.cursor)?, query.wanted());
        let client = &self.topic.inner.client;
        let mut page = Page::default();
        for partition in &self.topic.inner.partitions {
            let Some(from) = start.of(partition) else {
                continue;
            };
            let dead = partition.group(&self.group).dead;
            let left = wanted - page.items.len();
            let range = Command::new("XRANGE").key(&dead).arg(from).arg("+");
            let Entries(letters): Entries<(ItemId, Vec<Bytes>)> =
                client.call(range.arg("COUNT").arg(left)).await?;
            for (entry, fields) in letters {
                let mut fields = by_name(&fields);
                let mut text = |name: &str| lossy(&fields.remove(name).unwrap_or_default());
                let place = format!("{}/{entry}", partition.number);
                let item = Item::default()
                    .fact("id", text("i"))
                    .fact("reason", text("r"))
                    .fact("attempts", text("a").parse::<u64>().unwrap_or_default())
                    .fact("died_before", age(entry))
                    .fact("partition", u64::from(partition.number));
                let item = self.with_message(item, partition, &mut fields);
                page.next = Some(place.clone());
                page.items.push(item.action("redrive", place));
            }
            if page.items.len() >= wanted {
                return Ok(page);
            }
        }
        page.next = None;
        Ok(page)
    }

    pub(super) async fn pending(&self, query: &Query) -> Result<Page, InspectError> {
        let (start, wanted) = (Start::read(&query.cursor)?, query.wanted());
        let client = &self.topic.inner.client;
        let mut page = Page::default();
        for partition in &self.topic.inner.partitions {
            let Some(from) = start.of(partition) else {
                continue;
            };
            let left = wanted - page.items.len();
            let rows = Command::new("XPENDING").key(&partition.stream);
            let rows = rows.arg(&*self.group).arg(from).arg("+").arg(left);
            let rows = match client.call::<Vec<Vec<Value>>>(rows).await {
                Ok(rows) => rows.into_iter().filter_map(pending_row).collect::<Vec<_>>(),
                // The group was not made yet: there is nothing pending.
                Err(error) if is_no_group(&error) => continue,
                Err(error) => return Err(error.into()),
            };
            let entries = rows.iter().map(|(entry, ..)| {
                let range = Command::new("XRANGE").key(&partition.stream);
                range.arg(entry.to_string()).arg(entry.to_string())
            });
            let entries = match rows.is_empty() {
                true => Vec::new(),
                false => client.pipeline(entries.collect()).await?,
            };
            for ((entry, consumer, idle, deliveries), read) in rows.into_iter().zip(entries) {
                let read = read.ok().and_then(|read| {
                    let Entries(read): Entries<(ItemId, Vec<Bytes>)> = read.to().ok()?;
                    read.into_iter().next()
                });
                let (_, fields) = read.unwrap_or((entry, Vec::new()));
                let mut fields = by_name(&fields);
                let waits = consumer == WAITING;
                let item = Item::default()
                    .fact("id", lossy(&fields.remove("i").unwrap_or_default()))
                    .fact("age", age(entry))
                    .fact("attempts", deliveries)
                    .fact("waits_for_retry", waits)
                    .fact("idle", Duration::from_millis(idle))
                    .fact("consumer", if waits { String::new() } else { consumer })
                    .fact("partition", u64::from(partition.number));
                page.next = Some(format!("{}/{entry}", partition.number));
                page.items
                    .push(self.with_message(item, partition, &mut fields));
            }
            if page.items.len() >= wanted {
                return Ok(page);
            }
        }
        page.next = None;
        Ok(page)
    }

    /// Adds what not every reader may see.
    fn with_message(
        &self,
        item: Item,
        partition: &Partition,
        fields: &mut BTreeMap<String, Bytes>,
    ) -> Item {
        let mut take = |name: &str| fields.remove(name).unwrap_or_default();
        let (key, headers, payload) = (take("k"), take("h"), take("m"));
        let codec = self.topic.inner.client.codec();
        let bytes = payload.len();
        // JSON, compressed and encrypted or not, is shown as it reads; other formats tell nothing without their type.
        let read = codec.decode::<serde_json::Value>(partition.stream.as_bytes(), payload);
        let shown = match read {
            Ok(json) => shortened(json.to_string()),
            Err(_) => format!("{bytes} bytes that are no JSON"),
        };
        item.fact("bytes", bytes)
            .payload("key", lossy(&key))
            .payload("headers", shortened(lossy(&headers)))
            .payload("payload", shown)
    }
}

/// A row of `XPENDING`: the entry, its consumer, for how long it was left alone (ms), and its deliveries.
fn pending_row(row: Vec<Value>) -> Option<(ItemId, String, u64, u64)> {
    let [entry, consumer, idle, deliveries] = <[Value; 4]>::try_from(row).ok()?;
    Some((
        entry.to().ok()?,
        consumer.to().ok()?,
        idle.to().ok()?,
        deliveries.to().ok()?,
    ))
}

fn by_name(fields: &[Bytes]) -> BTreeMap<String, Bytes> {
    let pairs = fields.chunks_exact(2);
    let pairs = pairs.filter_map(|pair| Some((lossy(pair.first()?), pair.get(1)?.clone())));
    pairs.collect()
}

fn lossy(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn shortened(mut text: String) -> String {
    if text.len() > MOST_SHOWN {
        let mut end = MOST_SHOWN;
        while !text.is_char_boundary(end) {
            end -= 1;
        }
        text.truncate(end);
        text.push('…');
    }
    text
}

/// How long ago an entry was written, by this process's clock.
fn age(entry: ItemId) -> Duration {
    let written = UNIX_EPOCH + Duration::from_millis(entry.millis());
    let age = SystemTime::now().duration_since(written);
    age.unwrap_or_default()
}

fn is_no_group(error: &redkit_core::Error) -> bool {
    let redkit_core::Error::Call {
        error: redkit_core::CallError::Replied(reply),
        ..
    } = error
    else {
        return false;
    };
    reply.code() == "NOGROUP"
}
