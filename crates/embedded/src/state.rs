//! The state that commands act on: keys, subscriptions, time.

use std::collections::BTreeMap;

use bytes::Bytes;
use redkit_core::Value;

use crate::blocking::Waiters;
use crate::clock::{Clock, Stopwatch};
use crate::command_stats::CommandStats;
use crate::keyspace::Keyspace;
use crate::pubsub::PubSub;
use crate::session::Session;
use crate::slow_log::SlowLog;
use crate::tracking::Trackers;

/// The state of an engine, apart from its scripts.
#[derive(Debug)]
pub(crate) struct State {
    pub(crate) db: Keyspace,
    pub(crate) pubsub: PubSub,
    pub(crate) waiters: Waiters,
    pub(crate) trackers: Trackers,
    pub(crate) command_stats: CommandStats,
    pub(crate) slow_log: SlowLog,
    /// Connections of their own, by their ids.
    pub(crate) connections: BTreeMap<i64, Connection>,
    /// How many there ever were.
    pub(crate) connected: u64,
    /// The shapes in which replies are wanted: the connection's for a command of its own, RESP2 within
    /// scripts unless they ask for more.
    pub(crate) protocol: Protocol,
    /// Whether a script runs the command: the order of a set must not decide what a script does.
    pub(crate) in_script: bool,
    /// The name of a command, as a script wrote it, that must not even ask to wait.
    pub(crate) waiting_refused: Option<Box<str>>,
    /// Whether commands that may need more memory are refused.
    pub(crate) is_full: bool,
    clock: Clock,
    micros: i64,
    started: i64,
}

/// A connection as others see it.
#[derive(Debug)]
pub(crate) struct Connection {
    pub(crate) name: Bytes,
    /// Microseconds since the Unix epoch.
    pub(crate) since: i64,
    pub(crate) protocol: Protocol,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Protocol {
    Resp2,
    Resp3,
}

impl Protocol {
    /// Its number in `HELLO` and in `CLIENT LIST`.
    pub(crate) fn number(self) -> i64 {
        match self {
            Protocol::Resp2 => 2,
            Protocol::Resp3 => 3,
        }
    }
}

impl State {
    pub(crate) fn new(clock: Clock) -> Self {
        let micros = clock.micros();
        Self {
            db: Keyspace::default(),
            pubsub: PubSub::default(),
            waiters: Waiters::default(),
            trackers: Trackers::default(),
            command_stats: CommandStats::default(),
            slow_log: SlowLog::default(),
            connections: BTreeMap::new(),
            connected: 0,
            protocol: Protocol::Resp3,
            in_script: false,
            waiting_refused: None,
            is_full: false,
            clock,
            micros,
            started: micros,
        }
    }

    /// Reads the clock. Until the next time, everything happens at this instant, as commands in a
    /// script or a transaction do on the server.
    pub(crate) fn tick(&mut self) {
        self.micros = self.clock.micros();
        self.db.set_now(self.micros / 1_000);
    }

    /// Starts to measure how long a command takes.
    pub(crate) fn stopwatch(&self) -> Stopwatch {
        self.clock.stopwatch()
    }

    /// Sets the clock forward or back.
    pub(crate) fn adjust_clock(&mut self, by_micros: i64) {
        self.clock.adjust(by_micros);
        self.tick();
    }

    /// Ends a command: callers that wait for a key it changed are served, and near caches that may hold
    /// such a key are told.
    pub(crate) fn settle(&mut self) {
        self.serve_waiters();
        self.tell_trackers();
    }

    /// Adds a connection.
    pub(crate) fn connect(&mut self, id: i64, protocol: Protocol) {
        self.tick();
        self.connected += 1;
        self.connections.insert(
            id,
            Connection {
                name: Bytes::new(),
                since: self.micros,
                protocol,
            },
        );
    }

    /// Gives a connection a name, which `CLIENT LIST` shows.
    pub(crate) fn rename_connection(&mut self, session: &mut Session, name: Bytes) {
        if let Some(connection) = self.connections.get_mut(&session.id) {
            connection.name = name.clone();
        }
        session.name = name;
    }

    /// Sets the protocol of a connection, which `CLIENT LIST` shows.
    pub(crate) fn speak(&mut self, session: &mut Session, protocol: Protocol) {
        if let Some(connection) = self.connections.get_mut(&session.id) {
            connection.protocol = protocol;
        }
        session.protocol = protocol;
    }

    /// Removes all keys that have expired.
    pub(crate) fn remove_expired(&mut self) {
        self.db.len();
    }

    /// Microseconds since the Unix epoch.
    pub(crate) fn micros(&self) -> i64 {
        self.micros
    }

    /// Seconds since the engine was made.
    pub(crate) fn uptime(&self) -> i64 {
        (self.micros - self.started) / 1_000_000
    }

    /// Pairs that RESP3 nests and RESP2 flattens (members with scores, fields with values).
    pub(crate) fn pairs(&self, pairs: impl Iterator<Item = (Value, Value)>) -> Value {
        Value::Array(match self.protocol {
            Protocol::Resp2 => pairs.flat_map(|(a, b)| [a, b]).collect(),
            Protocol::Resp3 => pairs.map(|(a, b)| Value::Array(vec![a, b])).collect(),
        })
    }
}
