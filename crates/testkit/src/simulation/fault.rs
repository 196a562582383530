//! [`Fault`]: what goes wrong in a world.

use std::fmt;
use std::time::Duration;

use super::{ProcessId, ServerId};

/// Something that goes wrong.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum Fault {
    /// The connections between a process and a server break. Of the requests on their way the first ones
    /// arrive, up to any one of them; no reply does.
    Cut {
        /// The one end.
        process: ProcessId,
        /// The other.
        server: ServerId,
    },
    /// The next request is lost, and its connection breaks.
    LoseRequest {
        /// The sender.
        process: ProcessId,
        /// The receiver.
        server: ServerId,
    },
    /// The next request is carried out, its reply is lost, and the connection breaks.
    LoseReply {
        /// The sender of the request.
        process: ProcessId,
        /// Its receiver.
        server: ServerId,
    },
    /// The next request takes so much longer, and what follows on its connection waits behind it.
    DelayRequest {
        /// The sender.
        process: ProcessId,
        /// The receiver.
        server: ServerId,
        /// The time on top of the usual one.
        by: Duration,
    },
    /// The next reply takes so much longer, and what follows on its connection waits behind it.
    DelayReply {
        /// The sender of the request.
        process: ProcessId,
        /// Its receiver.
        server: ServerId,
        /// The time on top of the usual one.
        by: Duration,
    },
    /// The next published message is lost, and nobody is told: as on the bus of a cluster. No part of
    /// [`FaultMenu::all`](super::FaultMenu::all).
    LosePush {
        /// The subscriber.
        process: ProcessId,
        /// The sender.
        server: ServerId,
    },
    /// The connections for subscriptions break, and no further ones are accepted for a time, as for a user who may
    /// not subscribe. Commands are carried out. No part of [`FaultMenu::all`](super::FaultMenu::all).
    MutePushes {
        /// The subscriber.
        process: ProcessId,
        /// The sender.
        server: ServerId,
        /// How long.
        lasts: Duration,
    },
    /// Nothing gets through. It is not lost: it arrives when the time is up, also when the driver has given
    /// the connection up by then, as what an operating system sends again does. Replies and pushed
    /// messages of a connection that was given up are thrown away.
    Partition {
        /// The one end.
        process: ProcessId,
        /// The other.
        server: ServerId,
        /// Which way nothing gets through.
        direction: Direction,
        /// How long.
        lasts: Duration,
    },
    /// The process is stopped, and goes on later without having noticed.
    PauseProcess {
        /// Which.
        process: ProcessId,
        /// How long.
        lasts: Duration,
    },
    /// The process is killed, wherever its tasks stand: its network is cut first, so that nothing that
    /// they drop sends anything.
    KillProcess {
        /// Which.
        process: ProcessId,
        /// After how long another takes its place, if one does.
        restart_after: Option<Duration>,
    },
    /// The process's clock leaps ahead.
    JumpClock {
        /// Whose.
        process: ProcessId,
        /// By how much.
        by: Duration,
    },
    /// The server is stopped, and goes on later; what was sent meanwhile is carried out then.
    PauseServer {
        /// Which.
        server: ServerId,
        /// How long.
        lasts: Duration,
    },
    /// The server ends and starts again. It forgets scripts, and connections break.
    RestartServer {
        /// Which.
        server: ServerId,
        /// How long nobody can connect.
        down: Duration,
        /// What it still has.
        data: Data,
    },
    /// A replica that is behind takes over: acknowledged writes are lost, scripts are forgotten,
    /// connections break.
    Failover {
        /// Whose place is taken.
        server: ServerId,
        /// How far the replica is behind.
        lag: Duration,
        /// How long nobody can connect.
        down: Duration,
    },
    /// The server refuses what may need more memory.
    FullMemory {
        /// Which.
        server: ServerId,
        /// How long.
        lasts: Duration,
    },
    /// `SCRIPT FLUSH`.
    ForgetScripts {
        /// Where.
        server: ServerId,
    },
    /// `FLUSHALL`.
    FlushAll {
        /// Where.
        server: ServerId,
    },
    /// The server's wall clock is set.
    JumpServerClock {
        /// Whose.
        server: ServerId,
        /// By so many microseconds, forward or back.
        by_micros: i64,
    },
}

/// Which messages a partition holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// All.
    Both,
    /// Those to the server.
    Requests,
    /// Those from the server.
    Replies,
}

/// What a server still has after a restart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Data {
    /// Everything.
    Kept,
    /// Nothing.
    Lost,
    /// What it had so long ago.
    OlderBy(Duration),
}

/// The kinds of [`Fault`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum FaultKind {
    /// [`Fault::Cut`]
    Cut,
    /// [`Fault::LoseRequest`]
    LoseRequest,
    /// [`Fault::LoseReply`]
    LoseReply,
    /// [`Fault::DelayRequest`]
    DelayRequest,
    /// [`Fault::DelayReply`]
    DelayReply,
    /// [`Fault::LosePush`]
    LosePush,
    /// [`Fault::MutePushes`]
    MutePushes,
    /// [`Fault::Partition`]
    Partition,
    /// [`Fault::PauseProcess`]
    PauseProcess,
    /// [`Fault::KillProcess`]
    KillProcess,
    /// [`Fault::JumpClock`]
    JumpClock,
    /// [`Fault::PauseServer`]
    PauseServer,
    /// [`Fault::RestartServer`]
    RestartServer,
    /// [`Fault::Failover`]
    Failover,
    /// [`Fault::FullMemory`]
    FullMemory,
    /// [`Fault::ForgetScripts`]
    ForgetScripts,
    /// [`Fault::FlushAll`]
    FlushAll,
    /// [`Fault::JumpServerClock`]
    JumpServerClock,
}

impl FaultKind {
    /// All kinds.
    pub const ALL: [Self; 18] = [
        Self::Cut,
        Self::LoseRequest,
        Self::LoseReply,
        Self::DelayRequest,
        Self::DelayReply,
        Self::LosePush,
        Self::MutePushes,
        Self::Partition,
        Self::PauseProcess,
        Self::KillProcess,
        Self::JumpClock,
        Self::PauseServer,
        Self::RestartServer,
        Self::Failover,
        Self::FullMemory,
        Self::ForgetScripts,
        Self::FlushAll,
        Self::JumpServerClock,
    ];

    /// Its name, as statistics show it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Cut => "cut",
            Self::LoseRequest => "lost request",
            Self::LoseReply => "lost reply",
            Self::DelayRequest => "late request",
            Self::DelayReply => "late reply",
            Self::LosePush => "lost push",
            Self::MutePushes => "muted subscriptions",
            Self::Partition => "partition",
            Self::PauseProcess => "paused process",
            Self::KillProcess => "killed process",
            Self::JumpClock => "clock leap",
            Self::PauseServer => "paused server",
            Self::RestartServer => "restarted server",
            Self::Failover => "failover",
            Self::FullMemory => "full memory",
            Self::ForgetScripts => "forgotten scripts",
            Self::FlushAll => "flush",
            Self::JumpServerClock => "server clock leap",
        }
    }
}

impl fmt::Display for FaultKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl Fault {
    /// Its kind.
    pub fn kind(&self) -> FaultKind {
        match self {
            Self::Cut { .. } => FaultKind::Cut,
            Self::LoseRequest { .. } => FaultKind::LoseRequest,
            Self::LoseReply { .. } => FaultKind::LoseReply,
            Self::DelayRequest { .. } => FaultKind::DelayRequest,
            Self::DelayReply { .. } => FaultKind::DelayReply,
            Self::LosePush { .. } => FaultKind::LosePush,
            Self::MutePushes { .. } => FaultKind::MutePushes,
            Self::Partition { .. } => FaultKind::Partition,
            Self::PauseProcess { .. } => FaultKind::PauseProcess,
            Self::KillProcess { .. } => FaultKind::KillProcess,
            Self::JumpClock { .. } => FaultKind::JumpClock,
            Self::PauseServer { .. } => FaultKind::PauseServer,
            Self::RestartServer { .. } => FaultKind::RestartServer,
            Self::Failover { .. } => FaultKind::Failover,
            Self::FullMemory { .. } => FaultKind::FullMemory,
            Self::ForgetScripts { .. } => FaultKind::ForgetScripts,
            Self::FlushAll { .. } => FaultKind::FlushAll,
            Self::JumpServerClock { .. } => FaultKind::JumpServerClock,
        }
    }

    /// The process that it hits, if it hits one.
    pub fn process(&self) -> Option<ProcessId> {
        match *self {
            Self::Cut { process, .. }
            | Self::LoseRequest { process, .. }
            | Self::LoseReply { process, .. }
            | Self::DelayRequest { process, .. }
            | Self::DelayReply { process, .. }
            | Self::LosePush { process, .. }
            | Self::MutePushes { process, .. }
            | Self::Partition { process, .. }
            | Self::PauseProcess { process, .. }
            | Self::KillProcess { process, .. }
            | Self::JumpClock { process, .. } => Some(process),
            _ => None,
        }
    }

    /// The server that it hits, if it hits one.
    pub fn server(&self) -> Option<ServerId> {
        match *self {
            Self::Cut { server, .. }
            | Self::LoseRequest { server, .. }
            | Self::LoseReply { server, .. }
            | Self::DelayRequest { server, .. }
            | Self::DelayReply { server, .. }
            | Self::LosePush { server, .. }
            | Self::MutePushes { server, .. }
            | Self::Partition { server, .. }
            | Self::PauseServer { server, .. }
            | Self::RestartServer { server, .. }
            | Self::Failover { server, .. }
            | Self::FullMemory { server, .. }
            | Self::ForgetScripts { server }
            | Self::FlushAll { server }
            | Self::JumpServerClock { server, .. } => Some(server),
            _ => None,
        }
    }
}

/// What a story says of it. The ends of a link are named by the line that it stands in.
impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cut { .. } => f.write_str("the connections break"),
            Self::LoseRequest { .. } => f.write_str("the next request will be lost"),
            Self::LoseReply { .. } => f.write_str("the next reply will be lost"),
            Self::DelayRequest { by, .. } => write!(f, "the next request will be {by:?} late"),
            Self::DelayReply { by, .. } => write!(f, "the next reply will be {by:?} late"),
            Self::LosePush { .. } => f.write_str("the next published message will be lost"),
            Self::MutePushes { lasts, .. } => write!(f, "no subscription stands for {lasts:?}"),
            Self::Partition {
                direction, lasts, ..
            } => match direction {
                Direction::Both => write!(f, "nothing gets through for {lasts:?}"),
                Direction::Requests => write!(f, "no request gets through for {lasts:?}"),
                Direction::Replies => write!(f, "no reply gets through for {lasts:?}"),
            },
            Self::PauseProcess { lasts, .. } => write!(f, "is stopped for {lasts:?}"),
            Self::KillProcess {
                restart_after: Some(after),
                ..
            } => write!(f, "is killed; its successor starts {after:?} later"),
            Self::KillProcess { .. } => f.write_str("is killed"),
            Self::JumpClock { by, .. } => write!(f, "its clock leaps ahead by {by:?}"),
            Self::PauseServer { lasts, .. } => write!(f, "is stopped for {lasts:?}"),
            Self::RestartServer { down, data, .. } => match data {
                Data::Kept => write!(f, "restarts with its data, down for {down:?}"),
                Data::Lost => write!(f, "restarts without data, down for {down:?}"),
                Data::OlderBy(lag) => {
                    write!(f, "restarts with data {lag:?} old, down for {down:?}")
                }
            },
            Self::Failover { lag, down, .. } => {
                write!(
                    f,
                    "is replaced by a replica {lag:?} behind, down for {down:?}"
                )
            }
            Self::FullMemory { lasts, .. } => write!(f, "its memory is full for {lasts:?}"),
            Self::ForgetScripts { .. } => f.write_str("forgets its scripts"),
            Self::FlushAll { .. } => f.write_str("is emptied"),
            Self::JumpServerClock { by_micros, .. } => {
                write!(f, "its clock is set by {by_micros} µs")
            }
        }
    }
}
