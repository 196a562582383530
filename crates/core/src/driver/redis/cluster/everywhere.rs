//! Commands without keys: some concern every master, the rest goes to any.

use futures_util::future::join_all;
use tokio::time::{Instant, sleep};

use super::{Follow, NOT_NOW, Shared};
use crate::command::Command;
use crate::config::Address;
use crate::error::{CallError, Fault, FaultKind};
use crate::value::Value;

impl Shared {
    pub(super) async fn call_without_keys(&self, command: &Command) -> Result<Value, CallError> {
        match command.name().to_ascii_uppercase().as_str() {
            "SCAN" => self.scan(command).await,
            "DBSIZE" => sum(self.on_every_master(command).await?),
            "PUBSUB" => merge(self.on_every_master(command).await?),
            "KEYS" => concatenate(self.on_every_master(command).await?),
            "RANDOMKEY" => {
                let mut keys = self.on_every_master(command).await?;
                keys.retain(|key| *key != Value::Nil);
                match keys.len() {
                    0 => Ok(Value::Nil),
                    n => Ok(keys.swap_remove(rand::random_range(0..n))),
                }
            }
            "FLUSHALL" | "FLUSHDB" | "SCRIPT" | "FUNCTION" => {
                let replies = self.on_every_master(command).await?;
                first(replies)
            }
            _ => self.call_on(command, None).await,
        }
    }

    /// The same command on every master at once. When it reached some of them and not others, the
    /// outcome is unknown: it must not be repeated as if nothing had happened.
    async fn on_every_master(&self, command: &Command) -> Result<Vec<Value>, CallError> {
        let deadline = self.limits.deadline(command);
        let masters = self.masters(deadline).await?;
        let calls = masters
            .iter()
            .map(|address| self.on_master(address, command, deadline));
        combine(join_all(calls).await)
    }

    async fn on_master(
        &self,
        address: &Address,
        command: &Command,
        deadline: Instant,
    ) -> Result<Value, CallError> {
        let mut redirects = 0;
        loop {
            let reached = self.nodes.reach(address, deadline).await?;
            let error = match self.send(&reached, command, false, deadline).await {
                Err(CallError::Replied(error)) => error,
                other => return other,
            };
            match self.follow(&error, &reached, &mut redirects) {
                Follow::Later if Instant::now() + NOT_NOW < deadline => sleep(NOT_NOW).await,
                _ => return Err(CallError::Replied(error)),
            }
        }
    }

    async fn masters(&self, deadline: Instant) -> Result<Vec<Address>, CallError> {
        // Waits for a view when there is none yet.
        self.nodes.serving(None, deadline).await?;
        Ok(self.nodes.view().masters())
    }

    /// One master after the other. The cursor that goes out is the node's own and the master's
    /// place in the list in one number; a scan during which masters come and go may see keys twice
    /// or not at all, as the keys themselves move.
    async fn scan(&self, command: &Command) -> Result<Value, CallError> {
        let cursor = command
            .get(0)
            .and_then(|arg| std::str::from_utf8(arg).ok()?.parse().ok());
        let Some(cursor) = cursor else {
            // The server's own error is the right one.
            return self.call_on(command, None).await;
        };
        let deadline = self.limits.deadline(command);
        let masters = self.masters(deadline).await?;
        let (place, own) = split(cursor);
        let Some(address) = masters.get(place) else {
            return Ok(reply(0, Vec::new()));
        };
        let mut scan = Command::new(command.name()).arg(own);
        for arg in command.iter().skip(1) {
            scan = scan.arg(arg);
        }
        let (next, keys): (u64, Vec<Value>) = self
            .on_master(address, &scan, deadline)
            .await?
            .to()
            .map_err(|error| Fault::new(FaultKind::Protocol, error.to_string()).maybe())?;
        let next = match next {
            0 if place + 1 < masters.len() => join(place + 1, 0),
            0 => Some(0),
            next => join(place, next),
        };
        match next {
            Some(next) => Ok(reply(next, keys)),
            None => Err(Fault::new(
                FaultKind::Unsupported,
                "a node's cursor leaves no room for the node's number; scan the nodes one by one",
            )
            .not_sent()),
        }
    }
}

/// All values, or one error for all: `NotSent` only when no master has seen the command.
fn combine(outcomes: Vec<Result<Value, CallError>>) -> Result<Vec<Value>, CallError> {
    let untouched = outcomes
        .iter()
        .all(|outcome| matches!(outcome, Err(CallError::NotSent(_))));
    outcomes
        .into_iter()
        .map(|outcome| match outcome {
            Err(CallError::NotSent(fault)) if !untouched => Err(CallError::Maybe(fault)),
            other => other,
        })
        .collect()
}

/// Servers' cursors are positions in tables of less than 2^48 entries; the rest names the master.
const CURSOR_BITS: u32 = 48;

fn split(cursor: u64) -> (usize, u64) {
    let place = usize::try_from(cursor >> CURSOR_BITS).unwrap_or(usize::MAX);
    (place, cursor & ((1 << CURSOR_BITS) - 1))
}

fn join(place: usize, own: u64) -> Option<u64> {
    let place = u64::try_from(place).ok()?;
    (own >> CURSOR_BITS == 0 && place < 1 << (64 - CURSOR_BITS))
        .then_some(place << CURSOR_BITS | own)
}

fn reply(cursor: u64, keys: Vec<Value>) -> Value {
    Value::Array(vec![Value::bulk(cursor.to_string()), Value::Array(keys)])
}

fn sum(replies: Vec<Value>) -> Result<Value, CallError> {
    let mut total = 0_i64;
    for reply in replies {
        let count: i64 = reply
            .to()
            .map_err(|error| Fault::new(FaultKind::Protocol, error.to_string()).maybe())?;
        total = total.saturating_add(count);
    }
    Ok(Value::Int(total))
}

fn concatenate(replies: Vec<Value>) -> Result<Value, CallError> {
    let mut all = Vec::new();
    for reply in replies {
        let items: Vec<Value> = reply
            .to()
            .map_err(|error| Fault::new(FaultKind::Protocol, error.to_string()).maybe())?;
        all.extend(items);
    }
    Ok(Value::Array(all))
}

/// Channels with their counts are added up, whichever node they live on; plain counts too; names
/// stand once.
fn merge(replies: Vec<Value>) -> Result<Value, CallError> {
    if replies.iter().all(|reply| matches!(reply, Value::Int(_))) {
        return sum(replies);
    }
    let mut names: Vec<Value> = Vec::new();
    let mut counts: Vec<(Value, i64)> = Vec::new();
    for reply in replies {
        let Value::Array(items) = reply else { continue };
        let mut items = items.into_iter().peekable();
        while let Some(name) = items.next() {
            let Some(count) = items.next_if(|next| matches!(next, Value::Int(_))) else {
                if !names.contains(&name) {
                    names.push(name);
                }
                continue;
            };
            let count = count.to::<i64>().unwrap_or(0);
            match counts.iter_mut().find(|(known, _)| *known == name) {
                Some((_, total)) => *total = total.saturating_add(count),
                None => counts.push((name, count)),
            }
        }
    }
    let counts = counts
        .into_iter()
        .flat_map(|(name, count)| [name, Value::Int(count)]);
    Ok(Value::Array(names.into_iter().chain(counts).collect()))
}

fn first(replies: Vec<Value>) -> Result<Value, CallError> {
    replies.into_iter().next().ok_or_else(|| {
        Fault::new(FaultKind::Connect, "no master of the cluster is known").not_sent()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_of_subscribers_are_added_up() {
        let reply = |a: i64, b: i64| {
            Value::Array(vec![
                Value::bulk("a"),
                Value::Int(a),
                Value::bulk("b"),
                Value::Int(b),
            ])
        };
        assert_eq!(merge(vec![reply(1, 0), reply(2, 5)]).unwrap(), reply(3, 5));
        assert_eq!(
            merge(vec![Value::Int(1), Value::Int(2)]).unwrap(),
            Value::Int(3)
        );
        let names = |names: &[&'static str]| {
            Value::Array(names.iter().map(|name| Value::bulk(*name)).collect())
        };
        assert_eq!(
            merge(vec![names(&["a"]), names(&["a", "b"])]).unwrap(),
            names(&["a", "b"])
        );
    }

    #[test]
    fn what_reached_one_master_may_not_be_called_not_sent() {
        let not_sent = || Err(Fault::new(FaultKind::Disconnected, "x").not_sent());
        let mixed = combine(vec![Ok(Value::Ok), not_sent()]);
        assert!(matches!(mixed, Err(CallError::Maybe(_))), "{mixed:?}");
        let none = combine(vec![not_sent(), not_sent()]);
        assert!(matches!(none, Err(CallError::NotSent(_))), "{none:?}");
        assert_eq!(combine(vec![Ok(Value::Ok)]).unwrap(), [Value::Ok]);
    }

    #[test]
    fn cursors_carry_the_master() {
        for (place, own) in [(0, 0), (0, 5), (3, 0), (3, (1 << CURSOR_BITS) - 1)] {
            assert_eq!(split(join(place, own).unwrap()), (place, own));
        }
        assert_eq!(join(0, 1 << CURSOR_BITS), None);
        assert_eq!(join(1 << 16, 0), None);
    }
}
