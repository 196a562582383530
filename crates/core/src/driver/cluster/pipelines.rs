//! Pipelines: split by node, sent at the same time, put back in order.

use std::collections::BTreeMap;

use futures_util::future::join_all;

use super::nodes::Reached;
use super::slots::{slot_of, slot_of_all};
use super::{Follow, NOT_NOW, Shared};
use crate::breaker::Outcome;
use crate::command::Command;
use crate::config::Address;
use crate::driver::link::CommandLink;
use crate::error::CallError;
use crate::value::Value;
use tokio::time::{Instant, sleep};

type Replies = Vec<Result<Value, CallError>>;

impl Shared {
    pub(super) async fn pipeline(&self, commands: &[Command]) -> Result<Replies, CallError> {
        let Some(deadline) = self.limits.latest(commands) else {
            return Ok(Vec::new());
        };
        if commands
            .iter()
            .any(|command| command.name().eq_ignore_ascii_case("MULTI"))
        {
            return self.transaction(commands, deadline).await;
        }
        let mut replies: Vec<Option<Result<Value, CallError>>> =
            commands.iter().map(|_| None).collect();
        let mut by_node: BTreeMap<Option<NodeKey>, Vec<usize>> = BTreeMap::new();
        let view = self.nodes.view();
        for (index, command) in commands.iter().enumerate() {
            match slot_of(command) {
                // Without a key, or without a known owner: each by itself, below.
                Ok(slot) => {
                    let owner = slot.and_then(|slot| view.owner(slot)).map(NodeKey::from);
                    by_node.entry(owner).or_default().push(index);
                }
                // The error belongs to its command; the others are sent.
                Err(error) => {
                    if let Some(reply) = replies.get_mut(index) {
                        *reply = Some(Err(error));
                    }
                }
            }
        }
        let groups = by_node.into_iter().map(|(node, indices)| async move {
            let group: Vec<Command> = indices
                .iter()
                .filter_map(|&index| commands.get(index).cloned())
                .collect();
            let replies = self.group(node, &group, deadline).await;
            indices.into_iter().zip(replies).collect::<Vec<_>>()
        });
        for (index, reply) in join_all(groups).await.into_iter().flatten() {
            if let Some(place) = replies.get_mut(index) {
                *place = Some(reply);
            }
        }
        // Every place has been filled: by its own error or by its group.
        all_lost(replies.into_iter().flatten().collect())
    }

    /// The part of a pipeline for one node. What the node sends elsewhere is sent there, one
    /// command after the other, in their order.
    async fn group(&self, node: Option<NodeKey>, group: &[Command], deadline: Instant) -> Replies {
        let sent = match node {
            Some(node) => self.send_group(&node.into(), group, deadline).await,
            None => Ok(group.iter().map(|_| None).collect()),
        };
        let first = match sent {
            Ok(first) => first,
            Err(error) => return group.iter().map(|_| Err(error.clone())).collect(),
        };
        let mut replies = Vec::with_capacity(group.len());
        for (command, reply) in group.iter().zip(first) {
            replies.push(match reply {
                Some(reply) => reply,
                None => self.alone(command).await,
            });
        }
        replies
    }

    /// The replies of a node; `None` for what it did not carry out and another node, or another
    /// time, is to be asked for.
    async fn send_group(
        &self,
        address: &Address,
        group: &[Command],
        deadline: Instant,
    ) -> Result<Vec<Option<Result<Value, CallError>>>, CallError> {
        let reached = match self.nodes.reach_if_connected(address) {
            Some(reached) => reached,
            // It may be gone for good: each command finds its own way.
            None => return Ok(group.iter().map(|_| None).collect()),
        };
        let sent = reached.link.exchange_all(group, deadline);
        let replies = match self.bounded(&reached, sent).await {
            Ok(replies) => replies,
            Err(error) => {
                let outcome: Result<(), _> = Err(error.clone());
                reached.settle(&outcome, |breaker| breaker.classify(&error));
                return Err(error);
            }
        };
        let mut judged = Outcome::Success;
        let from = reached.address.clone();
        let elsewhere = |(command, reply): (&Command, Result<Value, CallError>)| match &reply {
            Err(CallError::Replied(error)) => match self.follow(command, error, &from) {
                Follow::To(_) | Follow::Again(_) | Follow::Later => None,
                Follow::No => Some(reply),
            },
            _ => Some(reply),
        };
        let replies: Vec<_> = group.iter().zip(replies).map(elsewhere).collect();
        reached.settle(&Ok(()), |breaker| {
            let answered = group.iter().zip(&replies);
            for (command, reply) in answered {
                let outcome = reply.as_ref().map(|reply| breaker.judge(command, reply));
                judged = outcome.filter(|o| o.is_failure()).unwrap_or(judged);
            }
            judged
        });
        Ok(replies)
    }

    async fn alone(&self, command: &Command) -> Result<Value, CallError> {
        match slot_of(command)? {
            Some(slot) => self.call_on(command, Some(slot)).await,
            None => Box::pin(self.call_without_keys(command)).await,
        }
    }

    /// A pipeline with a transaction goes to one node as a whole. When it is the transaction and
    /// nothing else, and the node refused a part of it because the slot is elsewhere, nothing of
    /// it was carried out, and it is sent again.
    async fn transaction(
        &self,
        commands: &[Command],
        deadline: Instant,
    ) -> Result<Replies, CallError> {
        let slot = slot_of_all(commands)?;
        let is_whole = is_one_transaction(commands);
        let mut ask: Option<Address> = None;
        loop {
            let asking = ask.is_some();
            let reached = match ask.take() {
                Some(address) => self.nodes.reach(&address, deadline).await?,
                None => self.nodes.serving(slot, deadline).await?,
            };
            let sent = self.send_transaction(&reached, commands, asking, deadline);
            let replies = match sent.await {
                Ok(replies) => replies,
                Err(error) => {
                    let outcome: Result<(), _> = Err(error.clone());
                    reached.settle(&outcome, |breaker| breaker.classify(&error));
                    return Err(error);
                }
            };
            let mut again = false;
            for (command, reply) in commands.iter().zip(&replies) {
                if let Err(CallError::Replied(error)) = reply {
                    match self.follow(command, error, &reached.address) {
                        Follow::No => {}
                        Follow::To(address) => (again, ask) = (true, Some(address)),
                        Follow::Again(_) | Follow::Later => again = true,
                    }
                }
            }
            let late = Instant::now() + NOT_NOW >= deadline;
            if !(is_whole && again && is_aborted(&replies)) || late {
                reached.settle(&Ok(()), |breaker| breaker.judge_all(commands, &replies));
                return Ok(replies);
            }
            drop(reached);
            // Who was asked with permission, and sends back, needs time: keys are being moved.
            if asking || ask.is_none() {
                ask = None;
                sleep(NOT_NOW).await;
            }
        }
    }

    /// The replies to a transaction. The permission to ask holds until its `EXEC`.
    async fn send_transaction(
        &self,
        reached: &Reached,
        commands: &[Command],
        asking: bool,
        deadline: Instant,
    ) -> Result<Replies, CallError> {
        if !asking {
            let sent = reached.link.exchange_all(commands, deadline);
            return self.bounded(reached, sent).await;
        }
        let mut all = Vec::with_capacity(commands.len() + 1);
        all.push(Command::new("ASKING"));
        all.extend_from_slice(commands);
        let sent = reached.link.exchange_all(&all, deadline);
        let mut replies = self.bounded(reached, sent).await?;
        drop(replies.drain(..1));
        Ok(replies)
    }
}

/// Whether commands are one transaction, and nothing else.
pub(super) fn is_one_transaction(commands: &[Command]) -> bool {
    let is = |command: Option<&Command>, name: &str| {
        command.is_some_and(|command| command.name().eq_ignore_ascii_case(name))
    };
    let multis = commands
        .iter()
        .filter(|command| is(Some(*command), "MULTI"));
    multis.count() == 1 && is(commands.first(), "MULTI") && is(commands.last(), "EXEC")
}

/// Whether a transaction was begun and then discarded by the server. Where `MULTI` was refused, by
/// a right that is missing, the commands were carried out one by one.
pub(super) fn is_aborted(replies: &[Result<Value, CallError>]) -> bool {
    let has_begun = matches!(replies.first(), Some(Ok(Value::Ok)));
    // `EXEC` itself can be what is sent elsewhere. One that is refused for another reason has not
    // ended the transaction.
    let is_discarded = matches!(
        replies.last(),
        Some(Err(CallError::Replied(error)))
            if error.code() == "EXECABORT" || error.is_server_state()
                || matches!(error.code(), "MOVED" | "ASK")
    );
    has_begun && is_discarded
}

/// When nothing was answered the batch failed as a whole.
fn all_lost(replies: Replies) -> Result<Replies, CallError> {
    let mut lost = None;
    for reply in &replies {
        match reply {
            Err(error @ CallError::Maybe(_)) => lost = Some(error),
            Err(error @ CallError::NotSent(_)) => lost = lost.or(Some(error)),
            _ => return Ok(replies),
        }
    }
    match lost.cloned() {
        Some(error) => Err(error),
        None => Ok(replies),
    }
}

/// An address that can be sorted by.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct NodeKey(String, u16);

impl From<&Address> for NodeKey {
    fn from(address: &Address) -> Self {
        Self(address.host.clone(), address.port)
    }
}

impl From<NodeKey> for Address {
    fn from(NodeKey(host, port): NodeKey) -> Self {
        Self { host, port }
    }
}
