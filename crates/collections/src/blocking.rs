//! [`Line`]: a connection of one's own for commands that wait at the server.

use std::time::Duration;

use redkit_core::{
    CallError, Client, Command, Error as CoreError, Fault, FaultKind, FromValue, Key, Topology,
    Value,
};
use tokio::time::{Instant, sleep, timeout_at};

use crate::error::Error;

/// A dedicated connection, made anew when it is lost. One command at a time.
#[derive(Debug)]
pub(crate) struct Line {
    client: Client,
    /// What is waited for, which in a cluster says at which node.
    key: Key,
    /// Taken out while a command is under way: when that is dropped, so is the connection, whose
    /// state is not known then.
    own: Option<Client>,
    last_reply: Instant,
    margin: Duration,
}

/// How long a connection may be silent before it is tried with a `PING`: then nothing that it
/// might carry is in doubt.
const SILENCE: Duration = Duration::from_secs(5);

/// The longest wait: longer ones are a loop. And the longest margin.
const LONGEST: Duration = Duration::from_secs(24 * 3600);

/// How long the first connection may take.
const OPENING: Duration = Duration::from_secs(10);

/// How long to wait before another attempt, while the wait lasts: first, and at most.
const PAUSES: (Duration, Duration) = (Duration::from_millis(20), Duration::from_secs(1));

impl Line {
    pub(crate) async fn open(client: &Client, key: &Key) -> Result<Self, Error> {
        let mut line = Self {
            client: client.clone(),
            key: key.clone(),
            own: None,
            last_reply: Instant::now(),
            margin: Duration::from_secs(1),
        };
        line.own = Some(line.connect(Instant::now() + OPENING).await?);
        line.last_reply = Instant::now();
        Ok(line)
    }

    pub(crate) fn set_margin(&mut self, margin: Duration) {
        self.margin = margin.min(LONGEST);
    }

    /// Carries out the command that `build` makes for the time that is left to wait. It ends by
    /// `wait` and the margin.
    ///
    /// While nothing can have been taken (no connection, a failover, a slot that moved away) it is
    /// tried again until `wait` is over. After a command without a reply it is not: what it took
    /// may be lost.
    pub(crate) async fn call<R: FromValue>(
        &mut self,
        wait: Duration,
        build: impl Fn(Duration) -> Command,
    ) -> Result<R, Error> {
        if wait > LONGEST {
            let fix = "wait for less, in a loop";
            return Err(Error::invalid("wait", "it is over a day", fix));
        }
        let end = Instant::now() + wait;
        // One more attempt is made at once, even when nothing is waited for: the first may only
        // have shown that the connection was gone.
        let mut pause = Duration::ZERO;
        loop {
            let error = match self.attempt(end, &build).await {
                Ok(reply) => return Ok(reply),
                Err(error) => error,
            };
            let may_go_on = pause.is_zero() || Instant::now() + pause < end;
            if !took_nothing(&error) || !may_go_on {
                return Err(error);
            }
            tracing::debug!(target: "redkit::collections", %error, "waiting on a new connection");
            sleep(pause).await;
            pause = (pause * 2).clamp(PAUSES.0, PAUSES.1);
        }
    }

    /// What is left to wait is known when there is a connection: a server that was asked to wait
    /// for longer would still take something after the deadline, when no caller is there.
    async fn attempt<R: FromValue>(
        &mut self,
        end: Instant,
        build: impl Fn(Duration) -> Command,
    ) -> Result<R, Error> {
        // The other half of the margin is the command's.
        let connected_by = end + self.margin / 2;
        let own = timeout_at(connected_by, self.connection(connected_by))
            .await
            .unwrap_or_else(|_| {
                let message = "no connection within the wait and half the margin";
                Err(not_connected(Fault::new(FaultKind::Timeout, message)))
            })?;
        let left = end.saturating_duration_since(Instant::now());
        let command = build(left).deadline(end + self.margin);
        let result = own.call(command).await;
        self.last_reply = Instant::now();
        let result = result.map_err(Error::from);
        // After a refusal that has nothing to do with the server's state the connection is good.
        let is_good = match &result {
            Ok(_) => true,
            Err(error) => error.replied().is_some() && !took_nothing(error),
        };
        if is_good {
            self.own = Some(own);
        }
        result
    }

    /// The connection, which leaves `self` until its command was answered.
    async fn connection(&mut self, deadline: Instant) -> Result<Client, Error> {
        if let Some(own) = self.own.take() {
            if self.last_reply.elapsed() < SILENCE {
                return Ok(own);
            }
            if own.call::<String>(Command::new("PING")).await.is_ok() {
                return Ok(own);
            }
        }
        self.connect(deadline).await
    }

    async fn connect(&self, deadline: Instant) -> Result<Client, Error> {
        let own = self.client.dedicated().await?;
        if self.client.topology() != Topology::Cluster {
            return Ok(own);
        }
        // There the connection is made by the first command, whose key says to which node. That is
        // not to be one that waits: it would be told how long before the time that this takes.
        let first = Command::new("EXISTS").key(&self.key).deadline(deadline);
        let answer = own.call::<Value>(first).await;
        // An error for an answer, too, shows that there is a connection.
        match answer.as_ref().err().and_then(CoreError::call_error) {
            Some(CallError::NotSent(fault) | CallError::Maybe(fault)) => {
                Err(not_connected(fault.clone()))
            }
            _ => Ok(own),
        }
    }
}

/// Whatever became of what was sent to make a connection: nothing was asked for.
fn not_connected(fault: Fault) -> Error {
    Error::Core(CoreError::Call {
        command: "CONNECT".into(),
        error: fault.not_sent(),
    })
}

/// Whether the failure certainly came before anything was taken, and another connection may do.
fn took_nothing(error: &Error) -> bool {
    let Error::Core(error) = error else {
        return false;
    };
    match error.call_error() {
        // Also "this connection is to another node", which is not transient on that connection.
        Some(CallError::NotSent(fault)) => {
            !matches!(fault.kind(), FaultKind::Unsupported | FaultKind::Shutdown)
        }
        // The server that was asked is not, or no longer, the one to ask.
        Some(CallError::Replied(error)) => matches!(
            error.code(),
            "UNBLOCKED"
                | "MOVED"
                | "ASK"
                | "TRYAGAIN"
                | "READONLY"
                | "LOADING"
                | "MASTERDOWN"
                | "CLUSTERDOWN"
        ),
        _ => false,
    }
}

/// A time as blocking commands take it: seconds, and never 0, which would mean for ever.
pub(crate) fn seconds(wait: Duration) -> f64 {
    wait.as_secs_f64().max(0.001)
}
