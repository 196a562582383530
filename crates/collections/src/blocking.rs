//! [`Line`]: a connection of one's own for commands that wait at the server.

use std::time::Duration;

use redkit_core::{CallError, Client, Command, Error as CoreError, Fault, FaultKind, FromValue};
use tokio::time::{Instant, sleep, timeout_at};

use crate::error::Error;

/// A dedicated connection, made anew when it is lost. One command at a time.
#[derive(Debug)]
pub(crate) struct Line {
    client: Client,
    /// Taken out while a command is under way: when that is dropped, so is the connection, whose
    /// state nobody knows then.
    own: Option<Client>,
    last_reply: Instant,
    margin: Duration,
}

/// How long a connection may be silent before it is tried with a `PING`: then nothing that it
/// might carry is in doubt.
const SILENCE: Duration = Duration::from_secs(5);

/// The longest wait: longer ones are a loop.
const LONGEST: Duration = Duration::from_secs(24 * 3600);

/// How long to wait before another attempt, while the wait lasts: first, and at most.
const PAUSES: (Duration, Duration) = (Duration::from_millis(20), Duration::from_secs(1));

impl Line {
    pub(crate) async fn open(client: &Client) -> Result<Self, Error> {
        Ok(Self {
            own: Some(client.dedicated().await?),
            client: client.clone(),
            last_reply: Instant::now(),
            margin: Duration::from_secs(1),
        })
    }

    pub(crate) fn set_margin(&mut self, margin: Duration) {
        self.margin = margin;
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
            let left = end.saturating_duration_since(Instant::now());
            let error = match self.attempt(end + self.margin, build(left)).await {
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

    async fn attempt<R: FromValue>(
        &mut self,
        deadline: Instant,
        command: Command,
    ) -> Result<R, Error> {
        let own = timeout_at(deadline, self.connection())
            .await
            .unwrap_or_else(|_| Err(no_connection()))?;
        let result = own.call(command.deadline(deadline)).await;
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
    async fn connection(&mut self) -> Result<Client, Error> {
        if let Some(own) = self.own.take() {
            if self.last_reply.elapsed() < SILENCE {
                return Ok(own);
            }
            if own.call::<String>(Command::new("PING")).await.is_ok() {
                return Ok(own);
            }
        }
        Ok(self.client.dedicated().await?)
    }
}

fn no_connection() -> Error {
    let fault = Fault::new(
        FaultKind::Timeout,
        "no connection within the wait and the margin",
    );
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
