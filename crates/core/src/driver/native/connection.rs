//! [`Connection`]: one socket that many callers share.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use futures_util::task::AtomicWaker;
use parking_lot::Mutex;
use tokio::time::{Instant, Sleep, sleep_until};

use super::decoder::{Decoder, Frame, Limits, Violation};
use super::encode::segments;
use super::exchanges::{Confirm, Exchanges, Next, Refusal, Request, Unasked};
use super::slots::Taken;
use super::wire::{Source, Wire};
use crate::command::Command;
use crate::driver::activity::Activity;
use crate::error::{CallError, Fault, FaultKind, ServerError};
use crate::value::Value;

/// Takes what the server pushes, except for the confirmations that a command waits for.
pub(super) trait Pushes: Send + 'static {
    /// One frame: its kind, and the rest.
    fn push(&mut self, kind: &[u8], rest: &[Value]);
}

/// For a connection on which nothing is subscribed.
pub(super) struct NoPushes;

impl Pushes for NoPushes {
    fn push(&mut self, _: &[u8], _: &[Value]) {}
}

/// The callers' side.
pub(super) struct Connection {
    exchanges: Mutex<Exchanges>,
    wire: Box<dyn Wire>,
    task: AtomicWaker,
    activity: Activity,
}

impl Connection {
    /// A connection, and its task, which somebody has to run: it reads, writes what callers do not
    /// write themselves, and ends calls whose deadlines have passed.
    pub(super) fn new(
        source: Source,
        wire: Box<dyn Wire>,
        limits: Limits,
        pushes: Box<dyn Pushes>,
    ) -> (Arc<Self>, Task) {
        let connection = Arc::new(Self {
            exchanges: Mutex::new(Exchanges::new()),
            wire,
            task: AtomicWaker::new(),
            activity: Activity::new(),
        });
        let task = Task {
            connection: Arc::clone(&connection),
            source,
            decoder: Decoder::new(limits),
            pushes,
            frames: Vec::new(),
            wakers: Vec::new(),
            has_waited: false,
            is_flushed: true,
            sleep: None,
        };
        (connection, task)
    }

    /// Sends a command, and waits for its reply until `deadline`.
    pub(super) async fn call(
        &self,
        command: &Command,
        deadline: Option<Instant>,
    ) -> Result<Value, CallError> {
        let commands = std::slice::from_ref(command);
        match self.exchange(commands, None, deadline).await? {
            Taken::One(reply) => reply,
            Taken::Many(_) => Err(miscounted()),
        }
    }

    /// Sends commands back to back, and waits for their replies until `deadline`.
    pub(super) async fn call_all(
        &self,
        commands: &[Command],
        deadline: Option<Instant>,
    ) -> Result<Vec<Result<Value, CallError>>, CallError> {
        self.call_confirmed(commands, None, deadline).await
    }

    /// The same for commands whose replies are pushed frames.
    pub(super) async fn call_confirmed(
        &self,
        commands: &[Command],
        confirms: Option<Box<[Confirm]>>,
        deadline: Option<Instant>,
    ) -> Result<Vec<Result<Value, CallError>>, CallError> {
        if commands.is_empty() {
            return Ok(Vec::new());
        }
        match self.exchange(commands, confirms, deadline).await? {
            Taken::One(reply) => Ok(vec![reply]),
            Taken::Many(replies) => Ok(replies),
        }
    }

    fn exchange<'c>(
        &'c self,
        commands: &'c [Command],
        confirms: Option<Box<[Confirm]>>,
        deadline: Option<Instant>,
    ) -> Exchange<'c> {
        Exchange {
            connection: self,
            request: Request {
                commands,
                segments: segments(commands),
                confirms,
                deadline,
            },
            slot: None,
            ticket: None,
            room: None,
        }
    }

    pub(super) fn activity(&self) -> &Activity {
        &self.activity
    }

    /// Ends the connection for its callers: from here on nothing is sent.
    pub(super) fn close(&self, fault: &Fault) {
        let wakers = self.exchanges.lock().close(fault);
        self.wire.close();
        wakers.into_iter().for_each(Waker::wake);
    }

    /// Writes what waits, in the place of the task, when the socket takes it.
    fn write_now(&self) {
        let Some(batch) = self.exchanges.lock().hand_over() else {
            return;
        };
        let written = self.wire.try_write(&batch.slices());
        let count = written.as_ref().copied().unwrap_or(0);
        let mut exchanges = self.exchanges.lock();
        let wakers = exchanges.settle(batch, count);
        // An error is for the task to find, which tells everybody.
        let is_left = exchanges.wants_writer() || exchanges.is_violated();
        drop(exchanges);
        if is_left {
            self.task.wake();
        }
        wakers.into_iter().for_each(Waker::wake);
    }
}

/// A call under way. Dropping it leaves the reply to nobody, and what was not sent unsent.
struct Exchange<'c> {
    connection: &'c Connection,
    request: Request<'c>,
    slot: Option<u32>,
    /// The place among those who wait for room.
    ticket: Option<u64>,
    /// Ends the wait for room.
    room: Option<Pin<Box<Sleep>>>,
}

impl Future for Exchange<'_> {
    type Output = Result<Taken, CallError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = &mut *self;
        let mut exchanges = this.connection.exchanges.lock();
        if let Some(slot) = this.slot {
            let Some(outcome) = exchanges.outcome(slot, cx.waker()) else {
                return Poll::Pending;
            };
            this.slot = None;
            return Poll::Ready(outcome);
        }
        match exchanges.submit(&mut this.request, &mut this.ticket, cx.waker()) {
            Ok((slot, next)) => {
                drop(exchanges);
                this.slot = Some(slot);
                this.room = None;
                match next {
                    Next::Write => this.connection.write_now(),
                    Next::Wake => this.connection.task.wake(),
                    Next::Nothing => {}
                }
                Poll::Pending
            }
            Err(Refusal::Closed(error)) => Poll::Ready(Err(error)),
            Err(Refusal::Full) => {
                drop(exchanges);
                let Some(deadline) = this.request.deadline else {
                    return Poll::Pending;
                };
                let room = this
                    .room
                    .get_or_insert_with(|| Box::pin(sleep_until(deadline)));
                match room.as_mut().poll(cx) {
                    Poll::Ready(()) => Poll::Ready(Err(no_room())),
                    Poll::Pending => Poll::Pending,
                }
            }
        }
    }
}

impl Drop for Exchange<'_> {
    fn drop(&mut self) {
        if let Some(slot) = self.slot.take() {
            let wakers = self.connection.exchanges.lock().abandon(slot);
            wakers.into_iter().for_each(Waker::wake);
        }
        if let Some(ticket) = self.ticket.take() {
            self.connection.exchanges.lock().leave_room(ticket);
        }
    }
}

/// The connection's task. It ends when the connection has, or when it is dropped, and with it every
/// call.
pub(super) struct Task {
    connection: Arc<Connection>,
    source: Source,
    decoder: Decoder,
    pushes: Box<dyn Pushes>,
    frames: Vec<Frame>,
    wakers: Vec<Waker>,
    /// It has let others go first, so that what they bring goes out in the same write.
    has_waited: bool,
    is_flushed: bool,
    sleep: Option<(Instant, Pin<Box<Sleep>>)>,
}

/// How often the socket is read, or written, before others get their turn.
const TURNS: usize = 16;

/// How many frames are read before they are handed out.
const FRAMES: usize = 128;

impl Future for Task {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = &mut *self;
        this.connection.task.register(cx.waker());
        let fault = match this.run(cx) {
            Ok(()) => return Poll::Pending,
            Err(fault) => fault,
        };
        this.hand_out().ok();
        this.connection.close(&fault);
        Poll::Ready(())
    }
}

impl Drop for Task {
    fn drop(&mut self) {
        self.connection.close(&broken(None));
    }
}

impl Task {
    fn run(&mut self, cx: &mut Context<'_>) -> Result<(), Fault> {
        let is_more_to_read = self.read(cx)?;
        let is_more_to_write = self.write(cx)?;
        if is_more_to_read || is_more_to_write {
            cx.waker().wake_by_ref();
        }
        self.look_at_deadlines(cx);
        Ok(())
    }

    /// Reads what has come; `true` when there may be more.
    fn read(&mut self, cx: &mut Context<'_>) -> Result<bool, Fault> {
        for _ in 0..TURNS {
            let (buffer, room) = self.decoder.space();
            let before = buffer.len();
            let polled = poll_read(&mut self.source, cx, buffer, room);
            match polled {
                Poll::Pending => return Ok(false),
                Poll::Ready(Err(error)) => return Err(broken(Some(error))),
                Poll::Ready(Ok(())) => {}
            }
            let count = buffer.len() - before;
            if count == 0 {
                return Err(broken(None));
            }
            self.connection.activity.heard();
            loop {
                let next = self.decoder.next();
                let is_over = !matches!(next, Ok(Some(_)));
                match next {
                    Ok(Some(frame)) => self.frames.push(frame),
                    Ok(None) => {}
                    Err(violation) => {
                        self.hand_out()?;
                        return Err(violated(&violation));
                    }
                }
                if is_over || self.frames.len() >= FRAMES {
                    self.hand_out()?;
                }
                if is_over {
                    break;
                }
            }
        }
        Ok(true)
    }

    /// Gives replies to callers, and pushed frames to who listens, in their order.
    fn hand_out(&mut self) -> Result<(), Fault> {
        let mut outcome = Ok(());
        let mut exchanges = self.connection.exchanges.lock();
        for frame in self.frames.drain(..) {
            match frame {
                Frame::Reply(reply) => match exchanges.answer(reply) {
                    Ok(waker) => self.wakers.extend(waker),
                    Err(Unasked(error)) => {
                        outcome = Err(unasked(error.as_ref()));
                        break;
                    }
                },
                Frame::Push(items) => {
                    let Some((kind, rest)) = items.split_first() else {
                        continue;
                    };
                    let kind = bytes_of(kind);
                    let name = rest.first().map(bytes_of).unwrap_or_default();
                    match exchanges.confirm(kind, name) {
                        Some(waker) => self.wakers.extend(waker),
                        None => {
                            parking_lot::MutexGuard::unlocked(&mut exchanges, || {
                                self.pushes.push(kind, rest);
                            });
                        }
                    }
                }
            }
        }
        self.wakers.extend(exchanges.room());
        drop(exchanges);
        self.wakers.drain(..).for_each(Waker::wake);
        outcome
    }

    /// Writes what waits; `true` when there is more.
    fn write(&mut self, cx: &mut Context<'_>) -> Result<bool, Fault> {
        let exchanges = self.connection.exchanges.lock();
        if exchanges.is_violated() {
            return Err(unasked(None));
        }
        if !self.has_waited && exchanges.wants_writer() {
            self.has_waited = true;
            return Ok(true);
        }
        drop(exchanges);
        self.has_waited = false;
        let mut is_more = true;
        for _ in 0..TURNS {
            let batch = self.connection.exchanges.lock().hand_over();
            let Some(batch) = batch else {
                is_more = false;
                break;
            };
            let polled = match self.connection.wire.poll_write(cx, &batch.slices()) {
                // An encrypted stream may have sent a part of what it fails with. The batch stays
                // with the writer, so that its calls end as ones that may have left.
                Poll::Ready(Err(error)) => return Err(broken(Some(error))),
                Poll::Ready(Ok(count)) => Poll::Ready(count),
                Poll::Pending => Poll::Pending,
            };
            let count = match polled {
                Poll::Ready(count) => count,
                Poll::Pending => 0,
            };
            let mut exchanges = self.connection.exchanges.lock();
            let was_blocked = exchanges.is_blocked;
            exchanges.is_blocked = polled.is_pending();
            match polled.is_pending() {
                true => self.connection.activity.upload_blocked(),
                false if was_blocked && count > 0 => self.connection.activity.upload_went_on(),
                false => {}
            }
            let wakers = exchanges.settle(batch, count);
            let is_violated = exchanges.is_violated();
            drop(exchanges);
            wakers.into_iter().for_each(Waker::wake);
            self.is_flushed = false;
            if is_violated {
                return Err(unasked(None));
            }
            match polled {
                Poll::Ready(1..) => {}
                Poll::Ready(0) => return Err(broken(None)),
                Poll::Pending => {
                    is_more = false;
                    break;
                }
            }
        }
        if !self.is_flushed {
            match self.connection.wire.poll_flush(cx) {
                Poll::Ready(Ok(())) => self.is_flushed = true,
                Poll::Ready(Err(error)) => return Err(broken(Some(error))),
                Poll::Pending => {}
            }
        }
        Ok(is_more)
    }

    fn look_at_deadlines(&mut self, cx: &mut Context<'_>) {
        loop {
            let armed = self.connection.exchanges.lock().armed();
            let Some(armed) = armed else {
                self.sleep = None;
                return;
            };
            let (at, sleep) = self
                .sleep
                .get_or_insert_with(|| (armed, Box::pin(sleep_until(armed))));
            if armed != *at {
                *at = armed;
                sleep.as_mut().reset(armed);
            }
            if sleep.as_mut().poll(cx).is_pending() {
                return;
            }
            let wakers = self.connection.exchanges.lock().expire(Instant::now());
            wakers.into_iter().for_each(Waker::wake);
        }
    }
}

/// Reads into the spare room of `buffer`.
fn poll_read(
    source: &mut Source,
    cx: &mut Context<'_>,
    buffer: &mut bytes::BytesMut,
    room: usize,
) -> Poll<io::Result<()>> {
    use bytes::BufMut;
    let mut limited = buffer.limit(room);
    let reading = tokio_util::io::poll_read_buf(Pin::new(source), cx, &mut limited);
    reading.map_ok(drop)
}

/// What a pushed frame is called, or concerns.
pub(super) fn bytes_of(value: &Value) -> &[u8] {
    match value {
        Value::Bulk(bytes) => bytes,
        Value::Status(text) => text.as_bytes(),
        Value::Ok => b"OK",
        _ => b"",
    }
}

fn broken(error: Option<io::Error>) -> Fault {
    let fault = Fault::new(
        FaultKind::Disconnected,
        "the connection broke before the reply came",
    );
    match error {
        Some(error) => fault.with_source(error),
        None => fault,
    }
}

fn violated(violation: &Violation) -> Fault {
    Fault::new(FaultKind::Protocol, format!("{violation}")).with_source(violation.clone())
}

/// A server says something before it hangs up: that it has too many clients, that a command was
/// malformed.
fn unasked(error: Option<&ServerError>) -> Fault {
    match error {
        Some(error) => Fault::new(
            FaultKind::Protocol,
            format!("the server said, without being asked: {error}"),
        ),
        None => Fault::new(
            FaultKind::Protocol,
            "the server sent a reply to no command; check that the address is a Redis or Valkey \
             server's",
        ),
    }
}

#[cold]
fn no_room() -> CallError {
    let message =
        "too much waits on this connection already; the server is slower than its callers";
    Fault::new(FaultKind::Overloaded, message).not_sent()
}

#[cold]
fn miscounted() -> CallError {
    Fault::new(FaultKind::Protocol, "the replies cannot be told apart").maybe()
}

#[cfg(test)]
mod tests;
