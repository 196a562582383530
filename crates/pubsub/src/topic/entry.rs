//! An entry of a topic's stream as it is read.

use std::collections::BTreeMap;

use bytes::Bytes;
use redkit_core::{FromValue, Value, ValueError};

use crate::inbox::ItemId;

/// An entry, with the number of its deliveries as the server's pending list has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct RawEntry {
    pub(crate) entry: ItemId,
    pub(crate) deliveries: u32,
    /// Fields that are not there are empty: another program may have written the entry.
    pub(crate) id: Bytes,
    pub(crate) key: Bytes,
    pub(crate) headers: Bytes,
    /// `None` when there is no field for it.
    pub(crate) payload: Option<Bytes>,
    /// The only group that it is for, or empty.
    pub(crate) group: Bytes,
    /// `0` when no deduplication record is to be looked at: see `topic_entry.lua`.
    pub(crate) recorded: Bytes,
}

impl RawEntry {
    fn new(entry: ItemId, fields: Vec<Bytes>, deliveries: u32) -> Self {
        let mut raw = Self {
            entry,
            deliveries,
            id: Bytes::new(),
            key: Bytes::new(),
            headers: Bytes::new(),
            payload: None,
            group: Bytes::new(),
            recorded: Bytes::from_static(b"0"),
        };
        let mut fields = fields.into_iter();
        while let (Some(name), Some(value)) = (fields.next(), fields.next()) {
            match &*name {
                b"i" => raw.id = value,
                b"k" => raw.key = value,
                b"h" => raw.headers = value,
                b"m" => raw.payload = Some(value),
                b"g" => raw.group = value,
                b"d" => raw.recorded = value,
                _ => {}
            }
        }
        raw
    }

    /// The headers; none when they are not what this crate writes.
    pub(crate) fn read_headers(&self) -> BTreeMap<String, String> {
        if self.headers.is_empty() || *self.headers == *b"{}" {
            return BTreeMap::new();
        }
        serde_json::from_slice(&self.headers).unwrap_or_default()
    }
}

/// The parts of a handled entry by which the server acknowledges it or puts it off.
#[derive(Debug, Clone)]
pub(crate) struct HandledEntry {
    pub(crate) entry: ItemId,
    pub(crate) deliveries: u32,
    /// The deduplication record that is to be looked at.
    pub(crate) record: Option<Record>,
}

/// How a deduplication record knows its message.
#[derive(Debug, Clone)]
pub(crate) struct Record {
    /// The message's id.
    pub(crate) id: Bytes,
    /// The entry's field `d`.
    pub(crate) recorded: Bytes,
}

impl From<&RawEntry> for HandledEntry {
    fn from(entry: &RawEntry) -> Self {
        Self {
            entry: entry.entry,
            deliveries: entry.deliveries,
            record: (*entry.recorded != *b"0").then(|| Record {
                id: entry.id.clone(),
                recorded: entry.recorded.clone(),
            }),
        }
    }
}

/// `{id, fields, deliveries}`.
impl FromValue for RawEntry {
    fn from_value(value: Value) -> Result<Self, ValueError> {
        let (entry, fields, deliveries): (ItemId, Vec<Bytes>, u64) = value.to()?;
        let deliveries = u32::try_from(deliveries).unwrap_or(u32::MAX);
        Ok(Self::new(entry, fields, deliveries))
    }
}

/// What `XREADGROUP` gives for one stream: entries that are delivered for the first time.
pub(crate) struct NewEntries(pub(crate) Vec<RawEntry>);

impl FromValue for NewEntries {
    fn from_value(value: Value) -> Result<Self, ValueError> {
        if value == Value::Nil {
            return Ok(Self(Vec::new()));
        }
        let streams: Vec<(Value, Vec<Value>)> = value.to()?;
        let mut entries = Vec::new();
        for entry in streams.into_iter().flat_map(|(_, entries)| entries) {
            let (id, fields): (ItemId, Option<Vec<Bytes>>) = entry.to()?;
            entries.push(RawEntry::new(id, fields.unwrap_or_default(), 1));
        }
        Ok(Self(entries))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bulk(text: &'static str) -> Value {
        Value::bulk(text)
    }

    #[test]
    fn entries_are_read_from_both_forms_of_a_reply() {
        let fields = [
            "i",
            "a",
            "k",
            "b",
            "h",
            "{\"x\":\"y\"}",
            "m",
            "1",
            "g",
            "",
            "d",
            "1",
        ];
        let fields = Value::Array(fields.into_iter().map(bulk).collect());
        let entry = Value::Array(vec![bulk("7-1"), fields]);
        let entries = Value::Array(vec![entry]);
        let map = Value::Map(vec![(bulk("s"), entries.clone())]);
        let list = Value::Array(vec![Value::Array(vec![bulk("s"), entries])]);
        for reply in [map, list] {
            let NewEntries(read) = reply.to().unwrap();
            let [entry] = read.try_into().unwrap();
            assert_eq!(
                (entry.entry.to_string().as_str(), entry.deliveries),
                ("7-1", 1)
            );
            assert_eq!(entry.read_headers()["x"], "y");
            assert_eq!((&*entry.id, &*entry.key), (&b"a"[..], &b"b"[..]));
            assert!(&*entry.recorded == b"1" && entry.group.is_empty());
        }
        assert!(Value::Nil.to::<NewEntries>().unwrap().0.is_empty());
    }
}
