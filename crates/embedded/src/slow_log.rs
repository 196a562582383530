//! The commands that took long.

use std::collections::VecDeque;
use std::time::Duration;

use bytes::Bytes;
use redkit_core::Value;

/// From here on a command is slow, and so many of them are kept: what the server does when nothing
/// else is configured.
const SLOW: Duration = Duration::from_millis(10);
const KEPT: usize = 128;
/// How many arguments of a command are kept, and how many bytes of each.
const MOST_ARGS: usize = 32;
const MOST_BYTES: usize = 128;

/// Slow commands, the latest first.
#[derive(Debug, Default)]
pub(crate) struct SlowLog {
    entries: VecDeque<Entry>,
    next: i64,
}

#[derive(Debug)]
struct Entry {
    id: i64,
    /// Seconds since the Unix epoch.
    at: i64,
    took: Duration,
    argv: Vec<Bytes>,
    client: Bytes,
}

impl SlowLog {
    /// Notes a command, if it was slow.
    pub(crate) fn note(&mut self, at: i64, took: Duration, argv: &[&[u8]], client: &Bytes) {
        if took < SLOW {
            return;
        }
        let id = self.next;
        self.next += 1;
        self.entries.truncate(KEPT - 1);
        self.entries.push_front(Entry {
            id,
            at,
            took,
            argv: shortened(argv),
            client: client.clone(),
        });
    }

    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }

    pub(crate) fn clear(&mut self) {
        self.entries.clear();
    }

    /// The latest entries as `SLOWLOG GET` shows them.
    pub(crate) fn show(&self, count: usize) -> Value {
        let rows = self.entries.iter().take(count).map(|entry| {
            let micros = i64::try_from(entry.took.as_micros()).unwrap_or(i64::MAX);
            let argv = entry.argv.iter().cloned().map(Value::Bulk);
            Value::Array(vec![
                Value::Int(entry.id),
                Value::Int(entry.at),
                Value::Int(micros),
                Value::Array(argv.collect()),
                Value::bulk("embedded"),
                Value::Bulk(entry.client.clone()),
            ])
        });
        Value::Array(rows.collect())
    }
}

fn shortened(argv: &[&[u8]]) -> Vec<Bytes> {
    let kept = match argv.len() > MOST_ARGS {
        true => MOST_ARGS - 1,
        false => argv.len(),
    };
    let mut shown: Vec<Bytes> = argv
        .iter()
        .take(kept)
        .map(|arg| match arg.get(..MOST_BYTES) {
            Some(head) if arg.len() > MOST_BYTES => {
                let more = format!("... ({} more bytes)", arg.len() - MOST_BYTES);
                Bytes::from([head, more.as_bytes()].concat())
            }
            _ => Bytes::copy_from_slice(arg),
        })
        .collect();
    if kept < argv.len() {
        let more = argv.len() - kept;
        shown.push(Bytes::from(format!("... ({more} more arguments)")));
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_latest_slow_commands_are_kept_shortened() {
        let mut log = SlowLog::default();
        let long = vec![b'x'; 200];
        let many = vec![&b"a"[..]; 40];
        log.note(1, Duration::from_millis(9), &[b"GET"], &Bytes::new());
        assert_eq!(log.len(), 0);
        for _ in 0..200 {
            log.note(1, SLOW, &[b"GET"], &Bytes::new());
        }
        log.note(2, SLOW, &[b"SET", &long], &Bytes::from("me"));
        log.note(3, Duration::from_secs(1), &many, &Bytes::new());
        assert_eq!(log.len(), KEPT);
        let shown = format!("{:?}", log.show(2));
        assert!(
            shown.starts_with("Array([Array([Int(201), Int(3), Int(1000000)"),
            "{shown}"
        );
        assert!(shown.contains("... (9 more arguments)") && shown.contains("... (72 more bytes)"));
        log.clear();
        assert_eq!(log.show(10), Value::Array(Vec::new()));
    }
}
