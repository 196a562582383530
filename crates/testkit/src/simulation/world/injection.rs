//! What a [`Fault`] does to a world, and how its faults end.

use std::time::Duration;

use rand::RngExt;
use redkit_core::Command;

use super::World;
use crate::simulation::event::Event;
use crate::simulation::fault::{Data, Fault};
use crate::simulation::history::ProcessId;
use crate::simulation::process::ServerId;

/// The server whose data of so long before a fault needs.
pub(super) fn lag_of(fault: &Fault) -> Option<(ServerId, Duration)> {
    match *fault {
        Fault::Failover { server, lag, .. }
        | Fault::RestartServer {
            server,
            data: Data::OlderBy(lag),
            ..
        } => Some((server, lag)),
        _ => None,
    }
}

impl World {
    pub(super) fn happen(&mut self, fault: &Fault) {
        if !self.is_there(fault) {
            return;
        }
        self.tell(fault);
        let now = self.now();
        match *fault {
            Fault::Cut { process, server } => self.network.lock().cut((process, server)),
            Fault::LoseRequest { process, server } => {
                self.network.lock().lose_next_request((process, server));
            }
            Fault::LoseReply { process, server } => {
                self.network.lock().lose_next_reply((process, server));
            }
            Fault::LosePush { process, server } => {
                self.network.lock().lose_next_push((process, server));
            }
            Fault::MutePushes {
                process,
                server,
                lasts,
            } => self.network.lock().mute_pushes((process, server), lasts),
            Fault::DelayRequest {
                process,
                server,
                by,
            } => {
                let mut network = self.network.lock();
                network.delay_next_request((process, server), by);
            }
            Fault::DelayReply {
                process,
                server,
                by,
            } => {
                let mut network = self.network.lock();
                network.delay_next_reply((process, server), by);
            }
            Fault::Partition {
                process,
                server,
                direction,
                lasts,
            } => {
                let mut network = self.network.lock();
                network.partition((process, server), direction, lasts);
            }
            Fault::PauseProcess { process, lasts } => {
                self.processes[process.index()].stop_until(now + lasts);
                self.later(lasts, Event::ProcessGoesOn(process));
            }
            Fault::KillProcess {
                process,
                restart_after,
            } => self.kill(process, restart_after),
            Fault::JumpClock { process, by } => self.processes[process.index()].leap(by, now),
            Fault::PauseServer { server, lasts } => {
                let slot = &mut self.servers[server.0];
                slot.stopped_until = slot.stopped_until.max(now + lasts);
                self.later(lasts, Event::ServerGoesOn(server));
            }
            Fault::RestartServer { server, down, data } => self.restart(server, down, data),
            Fault::Failover { server, lag, down } => {
                self.restart(server, down, Data::OlderBy(lag));
            }
            Fault::FullMemory { server, lasts } => {
                self.servers[server.0].server.engine().set_full(true);
                self.later(lasts, Event::MemoryIsFree(server));
            }
            Fault::ForgetScripts { server } => {
                drop(self.ask(server, Command::new("SCRIPT").arg("FLUSH")));
            }
            Fault::FlushAll { server } => drop(self.ask(server, Command::new("FLUSHALL"))),
            Fault::JumpServerClock { server, by_micros } => {
                self.servers[server.0].server.set_clock(now, by_micros);
            }
        }
    }

    /// Ends all that goes wrong, and forgets what was planned to.
    pub(super) fn end_faults(&mut self) {
        let planned = |event: &Event| matches!(event, Event::Fault(_) | Event::Snapshot(_));
        let mut network = self.network.lock();
        network.events.take(planned);
        network.heal();
        drop(network);
        let mut going_on = Vec::new();
        for number in 0..self.servers.len() {
            self.servers[number].server.engine().set_full(false);
            self.server_starts(ServerId(number));
            self.servers[number].stopped_until = Duration::ZERO;
            self.server_goes_on(ServerId(number));
        }
        for (id, slot) in (0..).map(ProcessId).zip(&mut self.processes) {
            slot.stopped_until = Duration::ZERO;
            going_on.push(id);
        }
        for id in going_on {
            self.process_goes_on(id);
        }
    }

    pub(super) fn server_goes_on(&mut self, server: ServerId) {
        let now = self.now();
        let slot = &mut self.servers[server.0];
        if now < slot.stopped_until {
            return;
        }
        let inbox = std::mem::take(&mut slot.inbox);
        let mut network = self.network.lock();
        for event in inbox {
            network.events.add(now, event);
        }
    }

    pub(super) fn server_starts(&mut self, server: ServerId) {
        let now = self.now();
        self.servers[server.0].server.start(now);
        self.network.lock().servers_up[server.0] = true;
    }

    /// What came while the process was stopped is noticed together, after what its clock has made due or
    /// before that.
    pub(super) fn process_goes_on(&mut self, process: ProcessId) {
        const SOON: u64 = 1_000_000;
        let now = self.now();
        let slot = &mut self.processes[process.index()];
        if now < slot.stopped_until {
            return;
        }
        slot.go_on(now);
        let after = Duration::from_nanos(self.random.random_range(0..=SOON));
        let mut network = self.network.lock();
        for event in std::mem::take(&mut slot.inbox) {
            network.events.add(now + after, event);
        }
    }

    pub(super) fn process_starts(&mut self, process: ProcessId) {
        let now = self.now();
        let slot = &mut self.processes[process.index()];
        if !slot.awaits_successor {
            return;
        }
        {
            let mut network = self.network.lock();
            let endpoint = &mut network.processes[process.index()];
            endpoint.is_alive = true;
            let name = std::sync::Arc::clone(&endpoint.name);
            network.trace.note(now, &name);
            network.trace.tell(now, &name, "starts again");
        }
        let (seed, notice) = (self.seed, self.options.notice);
        slot.start(process, seed, notice, now, &self.network);
    }

    fn kill(&mut self, process: ProcessId, restart_after: Option<Duration>) {
        {
            let mut network = self.network.lock();
            network.cut_off(process);
            let endpoint = &mut network.processes[process.index()];
            endpoint.is_alive = false;
            endpoint.incarnation += 1;
        }
        let slot = &mut self.processes[process.index()];
        slot.kill();
        slot.awaits_successor = restart_after.is_some();
        if let Some(after) = restart_after {
            self.later(after, Event::ProcessStarts(process));
        }
    }

    fn restart(&mut self, server: ServerId, down: Duration, data: Data) {
        let now = self.now();
        {
            let mut network = self.network.lock();
            network.servers_up[server.0] = false;
            network.cut_server(server);
        }
        let slot = &mut self.servers[server.0];
        slot.server.stop(now, data);
        slot.stopped_until = Duration::ZERO;
        slot.inbox.clear();
        self.later(down, Event::ServerStarts(server));
    }

    fn later(&self, after: Duration, event: Event) {
        let mut network = self.network.lock();
        let at = network.now + after;
        network.events.add(at, event);
    }

    /// Whether the ends of a fault are there: a process that lives, a server that is up.
    fn is_there(&self, fault: &Fault) -> bool {
        let process = fault.process().is_none_or(|id| self.is_alive(id));
        let server = fault.server().is_none_or(|id| {
            let slot = self.servers.get(id.0);
            slot.is_some_and(|slot| slot.server.is_up())
        });
        process && server
    }

    fn tell(&self, fault: &Fault) {
        let mut network = self.network.lock();
        let now = network.now;
        let process = fault.process().map(|id| network.name(id).to_string());
        let server = fault.server().map(|id| match self.servers.len() {
            1 => "server".to_owned(),
            _ => format!("server {}", id.0),
        });
        let actor = match (process, server) {
            (Some(process), Some(server)) => format!("{process}–{server}"),
            (Some(one), None) | (None, Some(one)) => one,
            (None, None) => String::new(),
        };
        let line = format!("⚡ {fault}");
        network.trace.fault(now, fault.kind(), &actor, &line);
    }
}
