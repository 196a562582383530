//! [`Event`]: what is to happen in a world, and [`EventQueue`]: in which order.

use std::cmp::Ordering;
use std::collections::BinaryHeap;
use std::time::Duration;

use redkit_core::{CallError, Command, Interest, Push, Value};
use tokio::sync::oneshot;

use super::fault::Fault;
use super::network::{ConnectionId, DriverId, Lane, SubscriptionId};
use super::{ProcessId, ServerId};

/// The replies to the commands of a request, or why there are none.
pub(super) type Answer = Result<Vec<Result<Value, CallError>>, CallError>;

/// What is to happen.
pub(super) enum Event {
    /// A message reaches a server.
    ToServer(ServerId, ConnectionId, ToServer),
    /// Something reaches a process: the one of this incarnation, or nobody.
    ToProcess(ProcessId, u32, ToProcess),
    /// A partition ends, unless it was prolonged.
    PartitionEnds(ProcessId, ServerId),
    /// Drivers give up connections through which nothing gets.
    Silence(ProcessId, ServerId),
    /// The state of a server now is what a replica will have later.
    Snapshot(ServerId),
    ServerGoesOn(ServerId),
    ServerStarts(ServerId),
    MemoryIsFree(ServerId),
    ProcessGoesOn(ProcessId),
    /// A process takes the place of one that was killed.
    ProcessStarts(ProcessId),
    Fault(Fault),
}

/// What reaches a server on a connection.
pub(super) enum ToServer {
    Request {
        number: u64,
        commands: Vec<Command>,
        /// On a connection of its own, where commands may wait.
        is_dedicated: bool,
    },
    Subscribe(SubscriptionId, Interest),
    Unsubscribe(SubscriptionId),
    /// The connection is closed.
    Closed,
}

/// What reaches a process.
pub(super) enum ToProcess {
    Reply {
        connection: ConnectionId,
        number: u64,
        answer: Answer,
    },
    Subscribed(ConnectionId, SubscriptionId, Result<(), CallError>),
    Push(ConnectionId, SubscriptionId, Push),
    /// It notices that a connection is broken.
    Broken(ConnectionId),
    /// A driver tries to connect.
    Connect(DriverId, Lane),
    Connected(DriverId, Lane),
    /// A connection of its own stands, or cannot be had.
    Opened(
        oneshot::Sender<Result<ConnectionId, CallError>>,
        Result<ConnectionId, CallError>,
    ),
}

/// The events to come. Those of the same time happen in the order in which they were added.
#[derive(Default)]
pub(super) struct EventQueue {
    heap: BinaryHeap<Entry>,
    added: u64,
}

struct Entry {
    at: Duration,
    number: u64,
    event: Event,
}

impl EventQueue {
    pub(super) fn add(&mut self, at: Duration, event: Event) {
        self.added += 1;
        let number = self.added;
        self.heap.push(Entry { at, number, event });
    }

    /// When the next event is.
    pub(super) fn next_at(&self) -> Option<Duration> {
        self.heap.peek().map(|entry| entry.at)
    }

    pub(super) fn pop(&mut self) -> Option<Event> {
        self.heap.pop().map(|entry| entry.event)
    }

    /// Takes out the events that `is_meant` says, in their order.
    pub(super) fn take(&mut self, is_meant: impl Fn(&Event) -> bool) -> Vec<Event> {
        let mut taken = Vec::new();
        let all = std::mem::take(&mut self.heap).into_sorted_vec();
        // The sorted order is that of the heap: the next one is the last.
        for entry in all.into_iter().rev() {
            match is_meant(&entry.event) {
                true => taken.push(entry.event),
                false => self.heap.push(entry),
            }
        }
        taken
    }
}

/// The earliest is the greatest, as the heap gives the greatest first.
impl Ord for Entry {
    fn cmp(&self, other: &Self) -> Ordering {
        (other.at, other.number).cmp(&(self.at, self.number))
    }
}

impl PartialOrd for Entry {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Entry {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Entry {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_come_in_the_order_of_their_times_and_then_of_their_adding() {
        let mut queue = EventQueue::default();
        for (at, server) in [(5, 0), (3, 1), (5, 2), (3, 3), (4, 4)] {
            queue.add(Duration::from_secs(at), Event::Snapshot(ServerId(server)));
        }
        let is_third = |event: &Event| matches!(event, Event::Snapshot(ServerId(3)));
        assert_eq!(queue.take(is_third).len(), 1);
        assert_eq!(queue.next_at(), Some(Duration::from_secs(3)));
        let servers = std::iter::from_fn(|| queue.pop()).map(|event| match event {
            Event::Snapshot(server) => server.0,
            _ => unreachable!("only these were added"),
        });
        assert_eq!(servers.collect::<Vec<_>>(), [1, 4, 0, 2]);
    }
}
