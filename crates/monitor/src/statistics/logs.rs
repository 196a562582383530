//! The servers' logs of slow and large commands, and their hottest keys.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use redkit_core::{Command, Value};

use super::{Statistics, is_unknown};
use crate::error::Error;

/// Which log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum LogKind {
    /// Commands that took long: `SLOWLOG`, which every server has.
    Slow,
    /// Commands with large requests: `COMMANDLOG` of Valkey 8.1 and later.
    LargeRequest,
    /// Commands with large replies: `COMMANDLOG` of Valkey 8.1 and later.
    LargeReply,
}

/// A row of a log.
#[derive(Clone, PartialEq)]
#[non_exhaustive]
pub struct LogEntry {
    /// Its number at the server.
    pub id: u64,
    /// When the command was carried out.
    pub at: SystemTime,
    /// Microseconds that it took, or bytes of the request or reply.
    pub amount: u64,
    /// The command's name.
    pub command: String,
    /// Where the client is.
    pub address: String,
    /// The client's name.
    pub client: String,
    arguments: Vec<Bytes>,
}

impl LogEntry {
    /// How long the command took, when it stands in the [slow log](LogKind::Slow).
    pub fn took(&self) -> Duration {
        Duration::from_micros(self.amount)
    }

    /// The arguments as far as the server keeps them. They may be secrets or personal data, and so stand in
    /// no `Debug`.
    pub fn arguments(&self) -> &[Bytes] {
        &self.arguments
    }

    fn parse(row: Value) -> Option<Self> {
        let mut parts = row.to::<Vec<Value>>().ok()?.into_iter();
        let mut count = || parts.next()?.to::<u64>().ok();
        let (id, at, amount) = (count()?, count()?, count()?);
        let mut arguments = parts.next()?.to::<Vec<Bytes>>().ok()?;
        let command = match arguments.is_empty() {
            true => Bytes::new(),
            false => arguments.remove(0),
        };
        let mut text = || {
            parts
                .next()
                .and_then(|part| part.to::<String>().ok())
                .unwrap_or_default()
        };
        Some(Self {
            id,
            at: SystemTime::UNIX_EPOCH + Duration::from_secs(at),
            amount,
            command: String::from_utf8_lossy(&command).to_ascii_uppercase(),
            address: text(),
            client: text(),
            arguments,
        })
    }
}

impl fmt::Debug for LogEntry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LogEntry")
            .field("id", &self.id)
            .field("amount", &self.amount)
            .field("command", &self.command)
            .field("arguments", &self.arguments.len())
            .finish_non_exhaustive()
    }
}

/// A key that is used much.
#[derive(Clone, PartialEq)]
#[non_exhaustive]
pub struct HotKey {
    /// The key.
    pub key: Bytes,
    /// What the server says that it uses, in the unit of the metric.
    pub amount: f64,
}

impl fmt::Debug for HotKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HotKey")
            .field("amount", &self.amount)
            .finish_non_exhaustive()
    }
}

impl Statistics {
    /// The latest `most` rows of each server's log; `None` when no server has this log.
    ///
    /// # Errors
    /// [`Error::NoServer`] when no server answered.
    pub async fn log(
        &self,
        kind: LogKind,
        most: usize,
    ) -> Result<Option<Vec<(Arc<str>, Vec<LogEntry>)>>, Error> {
        let command = || match kind {
            LogKind::Slow => Command::new("SLOWLOG").arg("GET").arg(most),
            LogKind::LargeRequest => Command::new("COMMANDLOG")
                .arg("GET")
                .arg(most)
                .arg("large-request"),
            LogKind::LargeReply => Command::new("COMMANDLOG")
                .arg("GET")
                .arg(most)
                .arg("large-reply"),
        };
        let Some(replies) = self.ask_those_that_can::<Vec<Value>>(command).await? else {
            return Ok(None);
        };
        let read = |(server, rows): (Arc<str>, Vec<Value>)| {
            (
                server,
                rows.into_iter()
                    .filter_map(LogEntry::parse)
                    .take(most)
                    .collect(),
            )
        };
        Ok(Some(replies.into_iter().map(read).collect()))
    }

    /// The keys that took the most processor time since the server began to track them (`HOTKEYS` of Redis
    /// 8.6 and later, after somebody's `HOTKEYS START`); `None` when no server has the command or tracks.
    ///
    /// # Errors
    /// [`Error::NoServer`] when no server answered.
    pub async fn hot_keys(&self) -> Result<Option<Vec<(Arc<str>, Vec<HotKey>)>>, Error> {
        let command = || Command::new("HOTKEYS").arg("GET");
        let Some(replies) = self.ask_those_that_can::<Value>(command).await? else {
            return Ok(None);
        };
        let read = |(server, reply): (Arc<str>, Value)| Some((server, hot_keys_of(reply)?));
        let read: Vec<_> = replies.into_iter().filter_map(read).collect();
        Ok((!read.is_empty()).then_some(read))
    }

    /// [`ask_all`](Self::ask_all) for a command that not every server has; `None` when no server has it.
    pub(super) async fn ask_those_that_can<T: redkit_core::FromValue>(
        &self,
        command: impl Fn() -> Command,
    ) -> Result<Option<Vec<(Arc<str>, T)>>, Error> {
        let replies = match self.ask_all::<T>(command).await {
            Err(Error::NoServer { first, .. }) if is_unknown(&first) => return Ok(None),
            replies => replies?,
        };
        let answered = replies
            .into_iter()
            .filter_map(|(server, reply)| Some((server, reply.ok()?)));
        Ok(Some(answered.collect()))
    }
}

/// The list under `by-cpu-time…` (its unit is in its name since 8.6.1). The fields come as a map or a flat list, in
/// a list of one by some releases.
fn hot_keys_of(reply: Value) -> Option<Vec<HotKey>> {
    let fields = match reply {
        Value::Array(mut items) if items.len() == 1 => items.pop()?,
        other => other,
    };
    let fields = fields.to::<Vec<(String, Value)>>().ok()?;
    let mut fields = fields.into_iter();
    let (_, list) = fields.find(|(name, _)| name.starts_with("by-cpu-time"))?;
    let rows = list.to::<Vec<(Bytes, f64)>>().ok()?;
    Some(
        rows.into_iter()
            .map(|(key, amount)| HotKey { key, amount })
            .collect(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_is_read_and_its_arguments_stay_out_of_debug() {
        let row = Value::Array(vec![
            Value::Int(3),
            Value::Int(1_700_000_000),
            Value::Int(12_345),
            Value::Array(vec![
                Value::bulk("set"),
                Value::bulk("token"),
                Value::bulk("secret"),
            ]),
            Value::bulk("10.0.0.1:5"),
            Value::bulk("web"),
        ]);
        let entry = LogEntry::parse(row).unwrap();
        assert_eq!(
            (entry.command.as_str(), entry.took()),
            ("SET", Duration::from_micros(12_345))
        );
        assert_eq!(entry.arguments().len(), 2);
        assert!(!format!("{entry:?}").contains("secret"));
    }

    #[test]
    fn hot_keys_are_found_in_the_reply_of_redis_8_6() {
        let list = Value::Array(vec![Value::bulk("k"), Value::Int(9)]);
        let fields = [
            (Value::bulk("tracking-active"), Value::Int(1)),
            (Value::bulk("by-cpu-time-us"), list),
        ];
        let flat = fields
            .clone()
            .into_iter()
            .flat_map(|(name, value)| [name, value]);
        let flat = Value::Array(flat.collect());
        let map = Value::Map(fields.to_vec());
        for reply in [
            Value::Array(vec![map.clone()]),
            Value::Array(vec![flat.clone()]),
            map,
            flat,
        ] {
            let keys = hot_keys_of(reply).unwrap();
            assert_eq!((keys[0].key.as_ref(), keys[0].amount), (&b"k"[..], 9.0));
        }
        assert_eq!(hot_keys_of(Value::Nil), None);
    }
}
