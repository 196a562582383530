//! The busiest slots of a cluster (`CLUSTER SLOT-STATS`).

use redkit_core::{Command, Value};

use super::Statistics;
use crate::error::Error;

/// A slot of a cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct SlotStats {
    /// The slot.
    pub slot: u16,
    /// Its keys.
    pub keys: u64,
    /// Processor time in µs, where the server counts it (`cluster-slot-stats-enabled yes`).
    pub cpu_micros: Option<u64>,
}

impl Statistics {
    /// The `most` slots with the most keys of each server; `None` when no server has the command (Valkey 8.0
    /// and Redis 8.2 have it, on a cluster).
    ///
    /// # Errors
    /// [`Error::NoServer`] when no server answered.
    pub async fn slots(&self, most: u16) -> Result<Option<Vec<SlotStats>>, Error> {
        let command = || {
            let slots = Command::new("CLUSTER")
                .arg("SLOT-STATS")
                .arg("ORDERBY")
                .arg("KEY-COUNT");
            slots.arg("LIMIT").arg(most.max(1)).arg("DESC")
        };
        let Some(replies) = self.ask_those_that_can::<Vec<Value>>(command).await? else {
            return Ok(None);
        };
        let rows = replies.into_iter().flat_map(|(_, rows)| rows);
        let mut slots: Vec<SlotStats> = rows.filter_map(parse).collect();
        slots.sort_by(|a, b| (b.keys, a.slot).cmp(&(a.keys, b.slot)));
        slots.truncate(most.into());
        Ok(Some(slots))
    }
}

fn parse(row: Value) -> Option<SlotStats> {
    let (slot, facts): (Value, Value) = row.to().ok()?;
    let facts: Vec<(String, u64)> = facts.to().ok()?;
    let fact = |wanted: &str| {
        facts
            .iter()
            .find(|(name, _)| name == wanted)
            .map(|(_, value)| *value)
    };
    Some(SlotStats {
        slot: slot.to().ok()?,
        keys: fact("key-count")?,
        cpu_micros: fact("cpu-usec"),
    })
}
