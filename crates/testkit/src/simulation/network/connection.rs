//! [`Connection`]: one connection between a process and a server.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::sync::oneshot;

use super::driver::{DriverId, Lane};
use crate::simulation::event::Answer;
use crate::simulation::{ProcessId, ServerId};

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::simulation) struct ConnectionId(pub(super) u64);

pub(in crate::simulation) struct Connection {
    pub(super) process: ProcessId,
    pub(super) incarnation: u32,
    pub(super) server: ServerId,
    /// Which driver's; none for a dedicated one, which nobody makes anew.
    pub(super) lane: Option<(DriverId, Lane)>,
    /// The network has broken it; the process may not have noticed.
    pub(super) is_broken: bool,
    /// The process has noticed, or has given it up.
    pub(super) is_closed: bool,
    /// Requests from this number on do not arrive.
    pub(super) lost_from: Option<u64>,
    /// The number of the first request that has not arrived.
    pub(super) arrived: u64,
    /// The calls that wait for answers, by the numbers of their requests.
    pub(super) calls: BTreeMap<u64, oneshot::Sender<Answer>>,
    sent: u64,
    last_arrival: Duration,
    last_delivery: Duration,
}

impl Connection {
    pub(super) fn new(
        process: ProcessId,
        incarnation: u32,
        server: ServerId,
        lane: Option<(DriverId, Lane)>,
    ) -> Self {
        Self {
            process,
            incarnation,
            server,
            lane,
            is_broken: false,
            is_closed: false,
            lost_from: None,
            arrived: 0,
            calls: BTreeMap::new(),
            sent: 0,
            last_arrival: Duration::ZERO,
            last_delivery: Duration::ZERO,
        }
    }

    pub(super) fn is_dedicated(&self) -> bool {
        self.lane.is_none()
    }

    pub(super) fn next_request(&mut self, answered: oneshot::Sender<Answer>) -> u64 {
        let number = self.sent;
        self.sent += 1;
        self.calls.insert(number, answered);
        number
    }

    /// The number of the next request.
    pub(super) fn sent(&self) -> u64 {
        self.sent
    }

    /// When a message to the server arrives that would by itself at this time: after those before it.
    pub(super) fn arrival(&mut self, at: Duration) -> Duration {
        self.last_arrival = self.last_arrival.max(at);
        self.last_arrival
    }

    /// The same for a message to the process.
    pub(super) fn delivery(&mut self, at: Duration) -> Duration {
        self.last_delivery = self.last_delivery.max(at);
        self.last_delivery
    }
}
