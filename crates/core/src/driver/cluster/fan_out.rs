//! Commands without keys: some concern every master, the rest goes to any.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

use bytes::Bytes;
use futures_util::future::join_all;
use tokio::time::{Instant, sleep};

use super::slots::{SLOTS, SlotMap};
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
            "SCRIPT" if is_first(command, b"EXISTS") => {
                everywhere(self.on_every_master(command).await?)
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
        loop {
            let reached = self.nodes.reach(address, deadline).await?;
            let reply = self.send(&reached, command, false, deadline).await;
            let follow = match &reply {
                Err(CallError::Replied(error)) => self.follow(command, error, &reached.address),
                _ => Follow::No,
            };
            if !matches!(follow, Follow::Later) || Instant::now() + NOT_NOW >= deadline {
                reached.settle(&reply, |breaker| breaker.judge(command, &reply));
                return reply;
            }
            drop(reached);
            sleep(NOT_NOW).await;
        }
    }

    async fn masters(&self, deadline: Instant) -> Result<Vec<Address>, CallError> {
        // Waits for a view when there is none yet.
        self.nodes.serving(None, deadline).await?;
        Ok(self.nodes.view().masters())
    }

    /// One master after the other. The cursor that goes out holds the node's own, the master's place
    /// in the list, and a fingerprint of who served which slots when the scan began: another list,
    /// or slots that were passed from a master not yet scanned to one that was, would mean keys
    /// that are never seen. Before the last page goes out the view is made anew, so that a change
    /// that nobody had noticed yet comes out too.
    async fn scan(&self, command: &Command) -> Result<Value, CallError> {
        let cursor = command
            .get(0)
            .and_then(|arg| std::str::from_utf8(arg).ok()?.parse().ok());
        let Some(cursor) = cursor else {
            // The server's own error is the right one.
            return self.call_on(command, None).await;
        };
        let deadline = self.limits.deadline(command);
        self.nodes.serving(None, deadline).await?;
        let view = self.nodes.view();
        let layout = Layout::of(&view);
        let (place, own) = layout.open(cursor).ok_or_else(changed)?;
        let Some(address) = layout.masters.get(place) else {
            return Err(changed());
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
            0 if place + 1 < layout.masters.len() => layout.cursor(place + 1, 0),
            0 => {
                let left = deadline.saturating_duration_since(Instant::now());
                let looked = self.nodes.look(left).await;
                looked.map_err(Fault::not_sent)?;
                Some(0)
            }
            next => layout.cursor(place, next),
        };
        // What this page holds may come from a master that was one no longer.
        let now = self.nodes.view();
        if !Arc::ptr_eq(&now, &view) && Layout::of(&now) != layout {
            return Err(changed());
        }
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

/// Servers' cursors are positions in tables of less than 2^44 entries; the rest is shared by the
/// master's place, in as many bits as the number of masters needs, and the fingerprint. The sign
/// bit stays free, for whoever reads cursors as signed.
const OWN_BITS: u32 = 44;
const OUR_BITS: u32 = u64::BITS - 1 - OWN_BITS;

/// What a scan depends on.
#[derive(Debug, PartialEq, Eq)]
struct Layout {
    masters: Vec<Address>,
    fingerprint: u64,
}

impl Layout {
    fn of(view: &SlotMap) -> Self {
        let mut hasher = DefaultHasher::new();
        let mut before: Option<&Address> = None;
        for slot in 0..SLOTS {
            let owner = view.owner(slot);
            // Few slots have another owner than the one before.
            if owner.map(std::ptr::from_ref) != before.map(std::ptr::from_ref) {
                (slot, owner.map(|node| (&node.host, node.port))).hash(&mut hasher);
            }
            before = owner;
        }
        Self {
            masters: view.masters(),
            fingerprint: hasher.finish(),
        }
    }

    /// The cursor that goes out; `None` when the node's own is too large.
    fn cursor(&self, place: usize, own: u64) -> Option<u64> {
        let (place_bits, fingerprint) = self.parts()?;
        let place = u64::try_from(place).ok()?;
        (own >> OWN_BITS == 0 && place >> place_bits == 0)
            .then_some(fingerprint << (OWN_BITS + place_bits) | place << OWN_BITS | own)
    }

    /// The place and the node's own cursor; `None` when it was given out under another layout. Zero
    /// is where every scan begins.
    fn open(&self, cursor: u64) -> Option<(usize, u64)> {
        if cursor == 0 {
            return Some((0, 0));
        }
        let (place_bits, fingerprint) = self.parts()?;
        if cursor >> (OWN_BITS + place_bits) != fingerprint {
            return None;
        }
        let place = cursor >> OWN_BITS & ((1 << place_bits) - 1);
        Some((usize::try_from(place).ok()?, cursor & ((1 << OWN_BITS) - 1)))
    }

    /// How many bits the place takes, and as much of the fingerprint as there is room for beside it.
    fn parts(&self) -> Option<(u32, u64)> {
        let most = u64::try_from(self.masters.len().checked_sub(1)?).ok()?;
        let place_bits = u64::BITS - most.leading_zeros();
        let room = OUR_BITS.checked_sub(place_bits)?;
        Some((place_bits, self.fingerprint & ((1 << room) - 1)))
    }
}

fn changed() -> CallError {
    Fault::new(
        FaultKind::LayoutChanged,
        "the masters of the cluster, or their slots, changed during the scan, so that keys may have \
         been missed; scan again from the beginning",
    )
    .not_sent()
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
    let mut merged: Vec<(Value, Option<i64>)> = Vec::new();
    // Every master may name the same thousands of channels.
    let mut places: HashMap<Bytes, usize> = HashMap::new();
    for reply in replies {
        let Value::Array(items) = reply else { continue };
        let mut items = items.into_iter().peekable();
        while let Some(name) = items.next() {
            let count = items.next_if(|next| matches!(next, Value::Int(_)));
            let count = count.map(|count| count.to::<i64>().unwrap_or(0));
            let Value::Bulk(bytes) = &name else {
                merged.push((name, count));
                continue;
            };
            let place = *places.entry(bytes.clone()).or_insert(merged.len());
            match merged.get_mut(place) {
                Some((_, Some(total))) => *total = total.saturating_add(count.unwrap_or(0)),
                Some((_, total)) => *total = count,
                None => merged.push((name, count)),
            }
        }
    }
    let items = merged
        .into_iter()
        .flat_map(|(name, count)| std::iter::once(name).chain(count.map(Value::Int)));
    Ok(Value::Array(items.collect()))
}

/// Which scripts all masters know: a list of 1 and 0 from each.
fn everywhere(replies: Vec<Value>) -> Result<Value, CallError> {
    let mut everywhere: Option<Vec<i64>> = None;
    for reply in replies {
        let known: Vec<i64> = reply
            .to()
            .map_err(|error| Fault::new(FaultKind::Protocol, error.to_string()).maybe())?;
        everywhere = Some(match everywhere {
            None => known,
            Some(before) => before
                .into_iter()
                .zip(known)
                .map(|(a, b)| a.min(b))
                .collect(),
        });
    }
    let known = everywhere.ok_or_else(no_master)?.into_iter();
    Ok(Value::Array(known.map(Value::Int).collect()))
}

/// Whether a command's first argument is this word.
fn is_first(command: &Command, word: &[u8]) -> bool {
    command
        .get(0)
        .is_some_and(|first| first.eq_ignore_ascii_case(word))
}

fn first(replies: Vec<Value>) -> Result<Value, CallError> {
    replies.into_iter().next().ok_or_else(no_master)
}

fn no_master() -> CallError {
    Fault::new(FaultKind::Connect, "no master of the cluster is known").not_sent()
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
    fn names_of_many_channels_are_merged_in_no_time() {
        let names = |from: u32| {
            let names = (from..from + 30_000).map(|n| Value::bulk(format!("channel-{n}")));
            Value::Array(names.collect())
        };
        let began = std::time::Instant::now();
        let merged = merge(vec![names(0), names(10_000), names(20_000)]).unwrap();
        assert!(matches!(merged, Value::Array(all) if all.len() == 50_000));
        let took = began.elapsed();
        assert!(took < std::time::Duration::from_secs(2), "{took:?}");
    }

    #[test]
    fn a_script_exists_that_every_master_knows() {
        let known = |known: [i64; 3]| Value::Array(known.map(Value::Int).into());
        let replies = vec![known([1, 1, 0]), known([1, 0, 1]), known([1, 1, 1])];
        assert_eq!(everywhere(replies).unwrap(), known([1, 0, 0]));
    }

    #[test]
    fn a_command_that_reached_one_master_is_not_called_not_sent() {
        let not_sent = || Err(Fault::new(FaultKind::Disconnected, "x").not_sent());
        let mixed = combine(vec![Ok(Value::Ok), not_sent()]);
        assert!(matches!(mixed, Err(CallError::Maybe(_))), "{mixed:?}");
        let none = combine(vec![not_sent(), not_sent()]);
        assert!(matches!(none, Err(CallError::NotSent(_))), "{none:?}");
        assert_eq!(combine(vec![Ok(Value::Ok)]).unwrap(), [Value::Ok]);
    }

    fn layout(owners: &[(u16, u16)]) -> Layout {
        let mut view = SlotMap::empty();
        let mut first = 0;
        for &(last, port) in owners {
            let address = Address {
                host: "h".to_owned(),
                port,
            };
            (first..=last).for_each(|slot| view.set_owner(slot, &address));
            first = last + 1;
        }
        Layout::of(&view)
    }

    const LAST: u16 = SLOTS - 1;

    #[test]
    fn cursors_carry_the_master_and_the_layout() {
        let three = layout(&[(5000, 1), (9000, 2), (LAST, 3)]);
        for (place, own) in [(0, 5), (1, 0), (2, 0), (2, (1 << OWN_BITS) - 1)] {
            let cursor = three.cursor(place, own).unwrap();
            assert!(cursor != 0 && i64::try_from(cursor).is_ok());
            assert_eq!(three.open(cursor), Some((place, own)));
        }
        assert_eq!(three.open(0), Some((0, 0)));
        assert_eq!(three.cursor(0, 1 << OWN_BITS), None, "no room");
        let one = layout(&[(LAST, 1)]);
        assert_eq!(one.open(one.cursor(0, 7).unwrap()), Some((0, 7)));
        let many: Vec<(u16, u16)> = (0..1000).map(|i| (i * 16 + 15, i)).collect();
        let many = layout(&many);
        assert_eq!(many.open(many.cursor(999, 7).unwrap()), Some((999, 7)));
    }

    #[test]
    fn a_cursor_is_worth_nothing_under_another_layout() {
        let before = layout(&[(5000, 1), (9000, 2), (LAST, 3)]);
        for after in [
            layout(&[(5001, 1), (9000, 2), (LAST, 3)]),
            layout(&[(5000, 1), (9000, 4), (LAST, 3)]),
            layout(&[(5000, 2), (9000, 1), (LAST, 3)]),
            layout(&[(5000, 1), (LAST, 3)]),
            layout(&[(5000, 1), (9000, 2), (9001, 4), (LAST, 3)]),
            layout(&[(LAST, 1)]),
        ] {
            for (place, own) in [(0, 5), (1, 0), (2, 77)] {
                let cursor = before.cursor(place, own).unwrap();
                assert_eq!(after.open(cursor), None, "{after:?}");
            }
        }
        assert_eq!(before, layout(&[(5000, 1), (9000, 2), (LAST, 3)]));
    }
}
