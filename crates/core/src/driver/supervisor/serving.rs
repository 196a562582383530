//! Keeping a connection in service, and looking at one that is silent.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep_until, timeout};

use super::Shared;
use super::connecting::{IMPATIENCE, replacement};
use crate::backend::ConnectionState;
use crate::driver::link::{Connector, Link, Timing};
use crate::error::{Fault, FaultKind};

/// Why a connection went out of service.
pub(super) enum End<L> {
    Lost(Fault),
    /// It gave no sign of life, and this new one did.
    Replaced(L),
    Shutdown,
}

/// Keeps one connection in service, and looks at it when it has been silent for too long.
pub(super) async fn serve<C: Connector>(
    shared: &Shared<C::Link>,
    connector: &C,
    link: &Arc<C::Link>,
    number: u64,
    timing: Timing,
) -> End<C::Link> {
    shared.current.store(Some(Arc::clone(link)));
    *shared.fault.lock() = None;
    if !shared.enter(ConnectionState::Connected(number)) {
        return End::Shutdown;
    }
    tracing::info!(target: "redkit::connection", server = %shared.target, number, "connected");
    let activity = link.activity();
    let mut breaker = shared.breaker.events();
    // Whatever else opened the breaker, the old connection did not survive it.
    shared.breaker.hint_recovered();
    let mut next_question = Instant::now();
    loop {
        let silent = activity.silent_since();
        let mut due = match silent {
            Some(since) => since + timing.stall_timeout / 2,
            None => activity.last_sign() + timing.probe_interval,
        };
        breaker.mark_unchanged();
        if shared.breaker.awaits_answer() {
            due = due.min(next_question);
        }
        if due > Instant::now() {
            tokio::select! {
                biased;
                () = link.closed() => return End::Lost(closed()),
                () = shared.shutdown.cancelled() => return End::Shutdown,
                () = shared.suspect.notified() => {}
                // What is due may have changed.
                () = sleep_until(due) => continue,
                () = activity.request(), if silent.is_none() => continue,
                Ok(()) = breaker.changed() => continue,
            }
        }
        if let Err(end) = examine(shared, connector, link, number, timing).await {
            return end;
        }
        next_question = Instant::now() + QUESTIONS;
    }
}

/// How often a server is asked whether it serves again, while its breaker waits for that.
const QUESTIONS: Duration = Duration::from_millis(50);

/// Asks the server for a sign of life, and tries a new connection meanwhile: when the server answers
/// there and not here, and does not hold back what was sent here, this connection is dead. When nothing has come for the stall timeout, the
/// breaker opens; calls that wait already go on, because they may yet be answered. The error says
/// why the connection is of no more use.
async fn examine<C: Connector>(
    shared: &Shared<C::Link>,
    connector: &C,
    link: &C::Link,
    number: u64,
    timing: Timing,
) -> Result<(), End<C::Link>> {
    let activity = link.activity();
    let seen = activity.signs();
    let silent_since = activity.silent_since().unwrap_or_else(Instant::now);
    // When this process itself was held up, what came meanwhile is still to be read.
    let mut limit = (silent_since.max(activity.last_sign()) + timing.stall_timeout)
        .max(Instant::now() + PROBE_TIME);
    let mut is_stalled = false;
    // Whoever waits for the server to recover sees the way back to `Connected`.
    shared.enter(ConnectionState::Suspect(number));
    let mut ping = pin!(link.ping());
    // While the server owes nothing for long, or an upload goes on, another connection proves nothing.
    let quiet_since = activity
        .silent_since()
        .unwrap_or_else(|| activity.last_sign());
    let begin = (quiet_since + timing.stall_timeout / 2).max(Instant::now() + IMPATIENCE);
    let mut next = pin!(replacement(connector, timing, begin, link.identity()));
    let refusal = loop {
        tokio::select! {
            biased;
            answer = &mut ping => break answer.map_err(End::Lost)?,
            () = activity.sign_after(seen) => {
                if is_stalled || !shared.breaker.awaits_answer() {
                    break None;
                }
                // Only the answer itself says whether the server serves.
                match timeout(timing.probe_timeout, &mut ping).await {
                    Ok(answer) => break answer.map_err(End::Lost)?,
                    Err(_) => return shared.is_alive(number),
                }
            }
            replacement = &mut next => match activity.signs() == seen {
                true => return Err(End::Replaced(replacement)),
                false => break None,
            },
            () = link.closed() => return Err(End::Lost(closed())),
            () = shared.shutdown.cancelled() => return Err(End::Shutdown),
            () = sleep_until(limit) => {
                if !is_stalled {
                    shared.breaker.suspend();
                    is_stalled = true;
                }
                if activity.waiting() == 0 {
                    return Err(End::Lost(no_answer()));
                }
                limit = Instant::now() + STILL_WAITING;
            }
        }
    };
    shared.is_alive(number)?;
    if refusal.is_none() {
        shared.breaker.resume();
    }
    Ok(())
}

/// How long a probe has at least.
const PROBE_TIME: Duration = Duration::from_millis(20);

/// How soon it is noticed that nobody waits any more for a server that does not answer.
const STILL_WAITING: Duration = Duration::from_millis(10);

fn closed() -> Fault {
    Fault::new(FaultKind::Disconnected, "the connection was closed")
}

fn no_answer() -> Fault {
    Fault::new(FaultKind::Timeout, "the server no longer answers")
}
