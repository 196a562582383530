//! [`Path`]: what goes wrong between one process and one server, and how connections break.

use std::time::Duration;

use rand::RngExt;

use super::Network;
use super::connection::ConnectionId;
use super::driver::Lane;
use crate::simulation::event::{Event, ToProcess, ToServer};
use crate::simulation::fault::Direction;
use crate::simulation::{ProcessId, ServerId};

/// The way between a process and a server, whichever incarnation of the process uses it.
#[derive(Default)]
pub(super) struct Path {
    requests_held_until: Duration,
    replies_held_until: Duration,
    held_requests: Vec<(ConnectionId, ToServer)>,
    held_replies: Vec<(ConnectionId, ToProcess)>,
    loses_next_request: bool,
    loses_next_reply: bool,
    loses_next_push: bool,
    /// Until when no connection for subscriptions is made.
    pushes_muted_until: Duration,
    late_request: Duration,
    late_reply: Duration,
}

impl Path {
    pub(super) fn loses_request(&mut self) -> bool {
        std::mem::take(&mut self.loses_next_request)
    }

    pub(super) fn loses_reply(&mut self) -> bool {
        std::mem::take(&mut self.loses_next_reply)
    }

    pub(super) fn loses_push(&mut self) -> bool {
        std::mem::take(&mut self.loses_next_push)
    }

    pub(super) fn mutes_pushes(&self, now: Duration) -> bool {
        now < self.pushes_muted_until
    }

    pub(super) fn late_request(&mut self) -> Duration {
        std::mem::take(&mut self.late_request)
    }

    pub(super) fn late_reply(&mut self) -> Duration {
        std::mem::take(&mut self.late_reply)
    }

    pub(super) fn holds_requests(&self, now: Duration) -> bool {
        now < self.requests_held_until
    }

    pub(super) fn holds_replies(&self, now: Duration) -> bool {
        now < self.replies_held_until
    }

    pub(super) fn holds_anything(&self, now: Duration) -> bool {
        self.holds_requests(now) || self.holds_replies(now)
    }

    pub(super) fn hold_request(&mut self, connection: ConnectionId, message: ToServer) {
        self.held_requests.push((connection, message));
    }

    pub(super) fn hold_reply(&mut self, connection: ConnectionId, message: ToProcess) {
        self.held_replies.push((connection, message));
    }
}

impl Network {
    pub(in crate::simulation) fn lose_next_request(&mut self, ends: (ProcessId, ServerId)) {
        self.paths.entry(ends).or_default().loses_next_request = true;
    }

    pub(in crate::simulation) fn lose_next_reply(&mut self, ends: (ProcessId, ServerId)) {
        self.paths.entry(ends).or_default().loses_next_reply = true;
    }

    pub(in crate::simulation) fn lose_next_push(&mut self, ends: (ProcessId, ServerId)) {
        self.paths.entry(ends).or_default().loses_next_push = true;
    }

    /// The connections for subscriptions break, and none is made for so long.
    pub(in crate::simulation) fn mute_pushes(
        &mut self,
        ends: (ProcessId, ServerId),
        lasts: Duration,
    ) {
        let until = self.now + lasts;
        let path = self.paths.entry(ends).or_default();
        path.pushes_muted_until = path.pushes_muted_until.max(until);
        for id in self.open_between(|process, server| (process, server) == ends) {
            let connection = self.connections.get(&id);
            let lane = connection.and_then(|connection| connection.lane);
            if matches!(lane, Some((_, Lane::Pushes))) {
                self.break_connection(id, u64::MAX);
            }
        }
    }

    pub(in crate::simulation) fn delay_next_request(
        &mut self,
        ends: (ProcessId, ServerId),
        by: Duration,
    ) {
        self.paths.entry(ends).or_default().late_request += by;
    }

    pub(in crate::simulation) fn delay_next_reply(
        &mut self,
        ends: (ProcessId, ServerId),
        by: Duration,
    ) {
        self.paths.entry(ends).or_default().late_reply += by;
    }

    /// Nothing gets through from now on, for so long.
    pub(in crate::simulation) fn partition(
        &mut self,
        (process, server): (ProcessId, ServerId),
        direction: Direction,
        lasts: Duration,
    ) {
        let until = self.now + lasts;
        let path = self.paths.entry((process, server)).or_default();
        if direction != Direction::Replies {
            path.requests_held_until = path.requests_held_until.max(until);
        }
        if direction != Direction::Requests {
            path.replies_held_until = path.replies_held_until.max(until);
        }
        self.events
            .add(until, Event::PartitionEnds(process, server));
        let silence = self.silence.mul_f64(self.random.random_range(1.0..=1.5));
        self.events
            .add(self.now + silence, Event::Silence(process, server));
    }

    /// What was held by a partition that is over goes on its way.
    pub(in crate::simulation) fn release(&mut self, ends: (ProcessId, ServerId)) {
        let now = self.now;
        let path = self.paths.entry(ends).or_default();
        if !path.holds_requests(now) {
            for (connection, message) in std::mem::take(&mut path.held_requests) {
                self.send_to_server(connection, message, Duration::ZERO);
            }
        }
        let path = self.paths.entry(ends).or_default();
        if !path.holds_replies(now) {
            for (connection, message) in std::mem::take(&mut path.held_replies) {
                self.send_to_process(connection, message, Duration::ZERO);
            }
        }
    }

    /// Ends everything that goes wrong on the network.
    pub(in crate::simulation) fn heal(&mut self) {
        let all: Vec<_> = self.paths.keys().copied().collect();
        for ends in all {
            let path = self.paths.entry(ends).or_default();
            *path = Path {
                held_requests: std::mem::take(&mut path.held_requests),
                held_replies: std::mem::take(&mut path.held_replies),
                ..Path::default()
            };
            self.release(ends);
        }
    }

    /// The drivers of a process give up the connections through which nothing gets. What is held of their
    /// requests arrives all the same.
    pub(in crate::simulation) fn give_up_silent(&mut self, ends: (ProcessId, ServerId)) {
        let path = self.paths.entry(ends).or_default();
        if !path.holds_anything(self.now) {
            return;
        }
        for id in self.open_between(|process, server| (process, server) == ends) {
            self.notice_later(id, Duration::ZERO);
            self.send_to_server(id, ToServer::Closed, Duration::ZERO);
        }
    }

    /// The connections between a process and a server break.
    pub(in crate::simulation) fn cut(&mut self, ends: (ProcessId, ServerId)) {
        for id in self.open_between(|process, server| (process, server) == ends) {
            let lost_from = self.some_request_under_way(id);
            self.break_connection(id, lost_from);
        }
    }

    /// All connections of a process break, and it does not notice any more.
    pub(in crate::simulation) fn cut_off(&mut self, process: ProcessId) {
        for id in self.open_between(|its, _| its == process) {
            let lost_from = self.some_request_under_way(id);
            self.break_connection(id, lost_from);
        }
    }

    /// All connections to a server break, and what has not arrived there is lost.
    pub(in crate::simulation) fn cut_server(&mut self, server: ServerId) {
        for id in self.open_between(|_, its| its == server) {
            let arrived = self.connections.get(&id).map_or(0, |found| found.arrived);
            self.break_connection(id, arrived);
        }
    }

    /// A connection breaks; requests from this number on do not arrive.
    pub(super) fn break_connection(&mut self, id: ConnectionId, lost_from: u64) {
        let Some(connection) = self.connections.get_mut(&id) else {
            return;
        };
        connection.is_broken = true;
        let lost = connection.lost_from.unwrap_or(u64::MAX);
        connection.lost_from = Some(lost.min(lost_from));
        let after = self.one_way();
        self.notice_later(id, after);
        // The server notices by itself, whatever the network holds, after what still arrives.
        let now = self.now;
        if let Some(connection) = self.connections.get_mut(&id) {
            let at = connection.arrival(now + after);
            let event = Event::ToServer(connection.server, id, ToServer::Closed);
            self.events.add(at, event);
        }
    }

    fn notice_later(&mut self, id: ConnectionId, after: Duration) {
        if let Some(connection) = self.connections.get(&id) {
            let (process, incarnation) = (connection.process, connection.incarnation);
            let event = Event::ToProcess(process, incarnation, ToProcess::Broken(id));
            self.events.add(self.now + after, event);
        }
    }

    /// The number of the first request that will be lost: any of those under way, or none of them.
    fn some_request_under_way(&mut self, id: ConnectionId) -> u64 {
        let Some(connection) = self.connections.get(&id) else {
            return 0;
        };
        let (arrived, sent) = (connection.arrived, connection.sent());
        self.random.random_range(arrived.min(sent)..=sent)
    }

    fn open_between(&self, is_meant: impl Fn(ProcessId, ServerId) -> bool) -> Vec<ConnectionId> {
        let open = self.connections.iter().filter(|(_, connection)| {
            !connection.is_broken
                && !connection.is_closed
                && is_meant(connection.process, connection.server)
        });
        open.map(|(id, _)| *id).collect()
    }
}
