//! Which node serves which slot.

use std::collections::BTreeSet;
use std::ops::RangeInclusive;

use crate::backend::ServerNode;
use crate::command::Command;
use crate::config::Address;
use crate::error::{CallError, Fault, FaultKind, ServerError};
use crate::keys::slot;
use crate::value::Value;

pub(super) const SLOTS: u16 = 16_384;

/// A view of the cluster: the master of every slot, and the replicas of every master.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct SlotMap {
    /// An index into `nodes`, or [`NOBODY`].
    owners: Vec<u16>,
    nodes: Vec<Address>,
    /// Each master's, as (master, replica).
    replicas: BTreeSet<(Node, Node)>,
}

/// An address that can be sorted by.
type Node = (String, u16);

const NOBODY: u16 = u16::MAX;

impl SlotMap {
    /// Nobody serves anything.
    pub(super) fn empty() -> Self {
        Self {
            owners: vec![NOBODY; usize::from(SLOTS)],
            nodes: Vec::new(),
            replicas: BTreeSet::new(),
        }
    }

    /// Reads the reply to `CLUSTER SLOTS` from the node at `asked`; `None` when it is none.
    pub(super) fn parse(reply: Value, asked: &Address) -> Option<Self> {
        let mut map = Self::empty();
        for range in reply.to::<Vec<Value>>().ok()? {
            let mut parts = range.to::<Vec<Value>>().ok()?.into_iter();
            let first: u16 = parts.next()?.to().ok()?;
            let last: u16 = parts.next()?.to().ok()?;
            let master = node(parts.next()?, asked)?;
            for slot in first..=last.min(SLOTS - 1) {
                map.set_owner(slot, &master);
            }
            map.replicas.extend(parts.filter_map(|part| {
                let replica = node(part, asked)?;
                Some((
                    (master.host.clone(), master.port),
                    (replica.host, replica.port),
                ))
            }));
        }
        Some(map)
    }

    pub(super) fn owner(&self, slot: u16) -> Option<&Address> {
        self.nodes
            .get(usize::from(*self.owners.get(usize::from(slot))?))
    }

    pub(super) fn set_owner(&mut self, slot: u16, address: &Address) {
        let known = self.nodes.iter().position(|node| node == address);
        let index = known.unwrap_or_else(|| {
            self.nodes.push(address.clone());
            self.nodes.len() - 1
        });
        if let (Some(owner), Ok(index)) =
            (self.owners.get_mut(usize::from(slot)), u16::try_from(index))
        {
            *owner = index;
        }
    }

    /// The masters that serve slots, in an order that depends on their addresses alone.
    pub(super) fn masters(&self) -> Vec<Address> {
        let serving: BTreeSet<u16> = self
            .owners
            .iter()
            .copied()
            .filter(|&owner| owner != NOBODY)
            .collect();
        let mut masters: Vec<Address> = serving
            .into_iter()
            .filter_map(|i| self.nodes.get(usize::from(i)).cloned())
            .collect();
        masters.sort_by(|a, b| (&a.host, a.port).cmp(&(&b.host, b.port)));
        masters
    }

    /// The masters with their slots.
    pub(super) fn servers(&self) -> Vec<ServerNode> {
        let mut ranges: Vec<Vec<RangeInclusive<u16>>> = vec![Vec::new(); self.nodes.len()];
        for (slot, owner) in (0..SLOTS).zip(&self.owners) {
            let Some(own) = ranges.get_mut(usize::from(*owner)) else {
                continue;
            };
            match own.last_mut() {
                Some(last) if last.end() + 1 == slot => *last = *last.start()..=slot,
                _ => own.push(slot..=slot),
            }
        }
        let nodes = self.nodes.iter().zip(ranges);
        let mut masters: Vec<_> = nodes.filter(|(_, ranges)| !ranges.is_empty()).collect();
        masters.sort_by(|(a, _), (b, _)| (&a.host, a.port).cmp(&(&b.host, b.port)));
        let server = |(node, ranges): (&Address, _)| ServerNode::new(&node.to_string(), ranges);
        masters.into_iter().map(server).collect()
    }

    /// The replicas of a master.
    pub(super) fn replicas_of(&self, master: &Address) -> impl Iterator<Item = Address> {
        let of_master =
            move |(known, _): &&(Node, Node)| known.0 == master.host && known.1 == master.port;
        self.replicas
            .iter()
            .filter(of_master)
            .map(|(_, replica)| to_address(replica))
    }

    /// Whether nobody serves anything.
    pub(super) fn is_empty(&self) -> bool {
        self.owners.iter().all(|owner| *owner == NOBODY)
    }

    /// Every node of the view.
    pub(super) fn all(&self) -> Vec<Address> {
        let replicas = self.replicas.iter().map(|(_, replica)| to_address(replica));
        self.masters().into_iter().chain(replicas).collect()
    }
}

fn to_address((host, port): &Node) -> Address {
    Address {
        host: host.clone(),
        port: *port,
    }
}

fn node(value: Value, asked: &Address) -> Option<Address> {
    let mut parts = value.to::<Vec<Value>>().ok()?.into_iter();
    let host: Option<String> = parts.next()?.to().ok()?;
    let port: u16 = parts.next()?.to().ok()?;
    let host = named_or_asked(host.as_deref().unwrap_or_default(), asked).to_owned();
    Some(Address { host, port })
}

/// A node that has no name to give leaves it empty, or writes `?`: it is where the one is that was asked.
fn named_or_asked<'h>(host: &'h str, asked: &'h Address) -> &'h str {
    match host {
        "" | "?" => &asked.host,
        host => host,
    }
}

/// The slot that a command's keys share; `None` when it has no keys.
pub(super) fn slot_of(command: &Command) -> Result<Option<u16>, CallError> {
    common_slot(command.name(), command.keys())
}

/// The slot that all keys of several commands share.
pub(super) fn slot_of_all(commands: &[Command]) -> Result<Option<u16>, CallError> {
    common_slot("a transaction", commands.iter().flat_map(Command::keys))
}

fn common_slot<'k>(
    what: &str,
    mut keys: impl Iterator<Item = &'k [u8]>,
) -> Result<Option<u16>, CallError> {
    let Some(first) = keys.next() else {
        return Ok(None);
    };
    let expected = slot(first);
    match keys.find(|key| slot(key) != expected) {
        None => Ok(Some(expected)),
        Some(other) => {
            let message = format!(
                "{what} names keys of different slots (`{}` in {expected}, `{}` in {}); on a \
                 cluster they must share one: give them the same hash tag, such as `{{tag}}` in \
                 the key or in the namespace of `Client::key`, or send a command for each",
                first.escape_ascii(),
                other.escape_ascii(),
                slot(other)
            );
            Err(Fault::new(FaultKind::Invalid, message).not_sent())
        }
    }
}

/// Where a server says that a slot is.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Redirect {
    /// For good.
    Moved(u16, Address),
    /// For this one command.
    Ask(u16, Address),
}

/// Where the node at `from` sends a command, of which nothing was carried out then. `None` for any other error. A script
/// can make up a redirection too, after it has written: one to another slot than its keys' is certainly not the server's.
pub(super) fn redirection(
    command: &Command,
    error: &ServerError,
    from: &Address,
) -> Option<Redirect> {
    let redirect = redirect(error.code(), error.message(), from)?;
    let (Redirect::Moved(named, _) | Redirect::Ask(named, _)) = redirect;
    match slot_of(command) {
        Ok(Some(own)) if own != named => None,
        _ => Some(redirect),
    }
}

/// Reads `MOVED slot host:port` and `ASK slot host:port` from the node at `from`.
pub(super) fn redirect(code: &str, message: &str, from: &Address) -> Option<Redirect> {
    let (slot, address) = message.split_once(' ')?;
    let slot = slot.parse().ok().filter(|&slot| slot < SLOTS)?;
    let (host, port) = address.rsplit_once(':')?;
    let host = host.trim_start_matches('[').trim_end_matches(']');
    let address = Address {
        host: named_or_asked(host, from).to_owned(),
        port: port.parse().ok()?,
    };
    match code {
        "MOVED" => Some(Redirect::Moved(slot, address)),
        "ASK" => Some(Redirect::Ask(slot, address)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(host: &str, port: u16) -> Address {
        Address {
            host: host.to_owned(),
            port,
        }
    }

    #[test]
    fn a_view_is_read_and_changed() {
        let node = |host: &str, port: i64| {
            Value::Array(vec![
                Value::bulk(host.to_owned()),
                Value::Int(port),
                Value::bulk("id"),
            ])
        };
        let range = |first: i64, last: i64, nodes: Vec<Value>| {
            let mut items = vec![Value::Int(first), Value::Int(last)];
            items.extend(nodes);
            Value::Array(items)
        };
        let reply = Value::Array(vec![
            range(0, 99, vec![node("a", 1), node("b", 2)]),
            range(100, 199, vec![node("?", 4)]),
            range(200, 16_383, vec![node("", 3)]),
        ]);
        let mut map = SlotMap::parse(reply, &at("asked", 9)).unwrap();
        assert_eq!(
            (map.owner(99), map.owner(100), map.owner(200)),
            (
                Some(&at("a", 1)),
                Some(&at("asked", 4)),
                Some(&at("asked", 3))
            )
        );
        assert_eq!(map.masters(), [at("a", 1), at("asked", 3), at("asked", 4)]);
        let all = [at("a", 1), at("asked", 3), at("asked", 4), at("b", 2)];
        assert_eq!(map.all(), all);
        map.set_owner(100, &at("b", 2));
        assert_eq!(map.owner(100), Some(&at("b", 2)));
        assert_eq!(SlotMap::empty().owner(0), None);
        assert!(SlotMap::empty().is_empty() && !map.is_empty());
        assert!(SlotMap::parse(Value::Ok, &at("a", 1)).is_none());
        assert!(SlotMap::parse(Value::Array(vec![Value::Int(1)]), &at("a", 1)).is_none());
    }

    #[test]
    fn redirects_are_read_and_nonsense_is_not() {
        let from = at("from", 1);
        assert_eq!(
            redirect("MOVED", "5 h:2", &from),
            Some(Redirect::Moved(5, at("h", 2)))
        );
        assert_eq!(
            redirect("ASK", "5 [::1]:2", &from),
            Some(Redirect::Ask(5, at("::1", 2)))
        );
        assert_eq!(
            redirect("MOVED", "5 :2", &from),
            Some(Redirect::Moved(5, at("from", 2)))
        );
        assert_eq!(
            redirect("MOVED", "5 ?:2", &from),
            Some(Redirect::Moved(5, at("from", 2)))
        );
        for wrong in ["", "5", "16384 h:1", "x h:1", "5 h", "5 h:99999"] {
            assert_eq!(redirect("MOVED", wrong, &from), None, "{wrong}");
        }
    }

    #[test]
    fn a_redirection_to_another_slot_than_the_keys_is_none() {
        let get = Command::new("GET").key("a");
        let (own, from) = (slot(b"a"), at("from", 1));
        let moved = |slot: u16| ServerError::new("MOVED", format!("{slot} h:2"));
        let expected = Some(Redirect::Moved(own, at("h", 2)));
        assert_eq!(redirection(&get, &moved(own), &from), expected);
        assert_eq!(redirection(&get, &moved(own + 1), &from), None);
        // Keys that nobody has marked as such are known to the server.
        let unmarked = Command::new("GET").arg("a");
        assert_eq!(redirection(&unmarked, &moved(own), &from), expected);
    }

    #[test]
    fn keys_of_different_slots_are_refused_by_name() {
        let one = Command::new("MGET").key("{a}1").key("{a}2");
        assert_eq!(slot_of(&one).unwrap(), Some(slot(b"a")));
        let error = slot_of(&Command::new("MGET").key("a").key("b"))
            .unwrap_err()
            .to_string();
        assert!(
            error.contains("MGET") && error.contains("15495") && error.contains("3300"),
            "{error}"
        );
        assert!(error.contains("hash tag"), "{error}");
        assert_eq!(slot_of(&Command::new("PING")).unwrap(), None);
    }
}
