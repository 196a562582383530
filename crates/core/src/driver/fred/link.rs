//! One connection of the `fred` crate.

use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use ::fred::clients::{Client, WithOptions};
use ::fred::error::ErrorKind;
use ::fred::interfaces::{ClientLike, FredResult, Resp3Frame};
use ::fred::types::config::Options;
use ::fred::types::{ClusterHash, CustomCommand, Value as FredValue};
use async_trait::async_trait;
use parking_lot::{Mutex, RwLock};
use tokio::sync::oneshot;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout_at};
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use super::convert::{to_args, to_call_error, to_reply};
use super::outstanding::{Outstanding, Ticket};
use super::reply_shape::may_be_mistaken;
use super::sequence::{Broken, Sequence, Step, out_of_step};
use super::settings::MARGIN;
use super::typed::Typed;
use crate::backend::Capabilities;
use crate::command::Command;
use crate::driver::activity::Activity;
use crate::driver::hello::{Hello, Role};
use crate::driver::link::{CommandLink, Identity, Link, no_reply, outage};
use crate::error::{CallError, Fault, FaultKind, ServerError};
use crate::value::Value;

/// One connection. Dropping it closes the socket, whoever still waits for a reply.
pub(super) struct FredLink {
    client: Client,
    /// Read while one command is handed over, written while several are that belong together.
    order: RwLock<()>,
    closed: CancellationToken,
    outstanding: Arc<Outstanding>,
    activity: Arc<Activity>,
    probes: Mutex<JoinSet<()>>,
    capabilities: Capabilities,
    role: Role,
    identity: Option<Identity>,
    /// Whether its one user has sent `MULTI`, and not `EXEC`.
    is_queueing: Mutex<bool>,
    _tasks: Vec<AbortOnDropHandle<()>>,
}

impl FredLink {
    /// A connection of `client`'s, that `driver` runs until `closed`.
    pub(super) fn new(
        client: Client,
        driver: impl Future<Output = ()> + Send + 'static,
        closed: CancellationToken,
    ) -> Self {
        Self {
            client,
            order: RwLock::new(()),
            closed,
            outstanding: Arc::default(),
            activity: Arc::new(Activity::new()),
            probes: Mutex::default(),
            capabilities: Capabilities::UNKNOWN,
            role: Role::Unknown,
            identity: None,
            is_queueing: Mutex::new(false),
            _tasks: vec![AbortOnDropHandle::new(tokio::spawn(driver))],
        }
    }

    /// Takes over what the server says of itself.
    pub(super) fn is(&mut self, hello: &Hello) {
        self.capabilities = hello.capabilities;
        self.role = hello.role;
        self.identity = hello.id.map(Identity::new);
    }

    /// fred's client. It is dead when this link is.
    pub(super) fn client(&self) -> &Client {
        &self.client
    }

    /// Sends one command. The caller bounds the wait, by `deadline`.
    pub(super) async fn send(
        &self,
        command: &Command,
        deadline: Instant,
    ) -> Result<Value, CallError> {
        self.check_open()?;
        if may_be_mistaken(command) {
            let commands = std::slice::from_ref(command);
            let sequence = Sequence::shared(commands);
            let replies = self.run(&sequence, deadline).await?;
            return replies.into_iter().next().unwrap_or_else(|| Err(lost()));
        }
        check_name(command)?;
        let ticket = self.begin(command.byte_len()).await?;
        let options = backstop(deadline);
        let reply = async {
            let client = self.client.with_options(&options);
            match Typed::of(command) {
                Some(typed) => self.hand_over(typed.send(&client)).await,
                None => {
                    let sent = client.custom_raw(name(command.name()), to_args(command));
                    let frame = self.hand_over(sent).await;
                    frame.map_err(to_call_error).and_then(to_reply)
                }
            }
        };
        let reply = self.unless_closed(reply).await?;
        if matches!(reply, Ok(_) | Err(CallError::Replied(_))) {
            ticket.answered();
            self.count();
        }
        reply
    }

    /// Sends several commands back to back. The caller bounds the wait, by `deadline`.
    pub(super) async fn send_all(
        &self,
        commands: &[Command],
        deadline: Instant,
    ) -> Result<Vec<Result<Value, CallError>>, CallError> {
        self.run(&Sequence::shared(commands), deadline).await
    }

    /// Sends the steps of a sequence back to back, and gives the replies to its commands.
    pub(super) async fn run(
        &self,
        sequence: &Sequence<'_>,
        deadline: Instant,
    ) -> Result<Vec<Result<Value, CallError>>, CallError> {
        self.check_open()?;
        for step in &sequence.steps {
            if let Step::Caller(command) = step {
                check_name(command)?;
            }
        }
        let bytes = sequence.steps.iter().map(|step| match step {
            Step::Caller(command) => command.byte_len(),
            Step::Word(_) | Step::Echo(_) => 0,
        });
        let ticket = self.begin(bytes.sum()).await?;
        // fred drops what timed out from its queue. Of a sequence nothing may be left out.
        let options = backstop(deadline.max(Instant::now() + WHOLE));
        let client = self.client.with_options(&options);
        let replies = self.unless_closed(self.collect(sequence, &client)).await?;
        if replies.is_ok() {
            ticket.answered();
        }
        replies
            .and_then(|frames| sequence.replies(frames))
            .map_err(|broken| match broken {
                Broken::Failed(error) => error,
                Broken::OutOfStep(error) => {
                    self.closed.cancel();
                    error
                }
            })
    }

    async fn collect(
        &self,
        sequence: &Sequence<'_>,
        client: &WithOptions<Client>,
    ) -> Result<Vec<Result<Resp3Frame, CallError>>, Broken> {
        let steps = sequence.steps.iter();
        let mut sent: Vec<Pin<Box<dyn Future<Output = FredResult<Resp3Frame>> + Send>>> = steps
            .map(|step| {
                let (name, args) = match step {
                    Step::Caller(command) => (name(command.name()), to_args(command)),
                    Step::Word(word) => (name(word), Vec::new()),
                    Step::Echo(text) => (name("ECHO"), vec![FredValue::from(text.as_str())]),
                };
                Box::pin(client.custom_raw(name, args)) as _
            })
            .collect();
        let mut early = Vec::with_capacity(sent.len());
        poll_fn(|cx| {
            // Each is queued by its first poll; nobody else's comes in between.
            let _order = self.order.write();
            early.extend(sent.iter_mut().map(|future| future.as_mut().poll(cx)));
            Poll::Ready(())
        })
        .await;
        let mut frames = Vec::with_capacity(sent.len());
        for (at, (future, early)) in sent.into_iter().zip(early).enumerate() {
            let frame = match early {
                Poll::Ready(frame) => frame,
                Poll::Pending => future.await,
            };
            if frame.is_ok() {
                self.count();
            }
            if frame.as_ref().is_ok_and(|f| sequence.is_out_of_step(at, f)) {
                return Err(out_of_step());
            }
            frames.push(frame.map_err(to_call_error));
        }
        Ok(frames)
    }

    /// Waits for one command, which is queued by its first poll.
    async fn hand_over<T>(&self, sent: impl Future<Output = T>) -> T {
        let mut sent = pin!(sent);
        let mut is_queued = false;
        poll_fn(|cx| {
            let _order = (!is_queued).then(|| self.order.read());
            is_queued = true;
            sent.as_mut().poll(cx)
        })
        .await
    }

    /// fred answers what it had queued when the connection breaks, and keeps silent about what
    /// comes later.
    async fn unless_closed<T>(&self, reply: impl Future<Output = T>) -> Result<T, CallError> {
        tokio::select! {
            biased;
            reply = reply => Ok(reply),
            () = self.closed.cancelled() => Err(lost()),
        }
    }

    /// Sends a `PING`, which is waited for though the caller does not.
    async fn probe(&self) -> oneshot::Receiver<FredResult<Resp3Frame>> {
        let (answer, answered) = oneshot::channel();
        let client = self.client.with_options(&backstop(Instant::now()));
        let activity = Arc::clone(&self.activity);
        let outstanding = Arc::clone(&self.outstanding);
        let mut probe = Box::pin(async move {
            let number = outstanding.next(0);
            let none: Vec<FredValue> = Vec::new();
            // An error of the server's is an answer too: it lives.
            let outcome = client.custom_raw(name("PING"), none).await;
            if outcome.is_ok() {
                activity.heard();
                outstanding.answered(number);
            }
            drop(answer.send(outcome));
        });
        let queued = poll_fn(|cx| {
            let _order = self.order.read();
            Poll::Ready(probe.as_mut().poll(cx))
        });
        if queued.await.is_pending() {
            let mut probes = self.probes.lock();
            while probes.try_join_next().is_some() {}
            probes.spawn(probe);
        }
        answered
    }

    /// Notes a call of so many bytes, unless too much lies in fred's queue that nobody waits for.
    async fn begin(&self, bytes: usize) -> Result<Ticket<'_>, CallError> {
        let begun = self.outstanding.begin(bytes);
        if begun.is_err() && self.is_unprobed() {
            // The answer to this says that all of it has been answered, too.
            drop(self.probe().await);
        }
        begun
    }

    fn is_unprobed(&self) -> bool {
        let mut probes = self.probes.lock();
        while probes.try_join_next().is_some() {}
        probes.is_empty()
    }

    /// What is known to be closed before a command is handed over did not carry it.
    fn check_open(&self) -> Result<(), CallError> {
        if self.closed.is_cancelled() {
            return Err(Fault::new(FaultKind::Disconnected, "the connection is closed").not_sent());
        }
        Ok(())
    }

    fn count(&self) {
        self.activity.heard();
    }
}

#[async_trait]
impl Link for FredLink {
    fn close(&self) {
        self.closed.cancel();
    }

    async fn closed(&self) {
        self.closed.cancelled().await;
    }

    /// Its reply counts also when the probe has stopped waiting for it: fred shows no other sign
    /// that bytes arrive, only late. fred's own limit ends the task.
    async fn ping(&self) -> Result<Option<ServerError>, Fault> {
        let broken = || Fault::new(FaultKind::Disconnected, "the connection is closed");
        if self.closed.is_cancelled() {
            return Err(broken());
        }
        loop {
            return match self.unless_closed(self.probe().await).await {
                // An error of the server's is an answer too: it lives.
                Ok(Ok(Ok(frame))) => match to_reply(frame) {
                    Err(CallError::Replied(error)) => Ok(outage(error)),
                    _ => Ok(None),
                },
                // No answer yet says nothing about the connection: the caller ends the waiting.
                Ok(Ok(Err(error))) if *error.kind() == ErrorKind::Timeout => continue,
                Ok(Ok(Err(error))) => Err(broken().with_source(error)),
                Ok(Err(_)) | Err(_) => Err(broken()),
            };
        }
    }

    /// Replies, not bytes: fred shows no bytes. A single reply that takes longer than a probe to
    /// arrive looks like silence.
    fn activity(&self) -> &Activity {
        &self.activity
    }

    fn capabilities(&self) -> Capabilities {
        self.capabilities
    }

    fn identity(&self) -> Option<Identity> {
        self.identity
    }

    async fn holds_back(&self, other: Identity) -> bool {
        let answer = self.send(&other.question(), Instant::now()).await.ok();
        let answer = answer.and_then(|answer| answer.to::<String>().ok());
        answer.is_some_and(|answer| other.is_held_back(&answer))
    }
}

impl CommandLink for FredLink {
    async fn exchange(&self, command: &Command, deadline: Instant) -> Result<Value, CallError> {
        by(deadline, self.send(command, deadline)).await
    }

    async fn exchange_all(
        &self,
        commands: &[Command],
        deadline: Instant,
    ) -> Result<Vec<Result<Value, CallError>>, CallError> {
        by(deadline, self.send_all(commands, deadline)).await
    }

    async fn exchange_alone(
        &self,
        commands: &[Command],
        deadline: Instant,
    ) -> Result<Vec<Result<Value, CallError>>, CallError> {
        let sequence = Sequence::dedicated(commands, &mut self.is_queueing.lock());
        by(deadline, self.run(&sequence, deadline)).await
    }

    /// Refuses what fred cannot count the replies of, and what would change the protocol under it.
    fn check_alone(command: &Command) -> Result<(), CallError> {
        let name = command.name();
        let is_any_of = |names: &[&str]| names.iter().any(|known| name.eq_ignore_ascii_case(known));
        let first_is = |word: &[u8]| {
            command
                .get(0)
                .is_some_and(|sub| sub.eq_ignore_ascii_case(word))
        };
        let of_client = is_any_of(&["CLIENT"]) && (first_is(b"REPLY") || first_is(b"TRACKING"));
        let of_protocol = is_any_of(&["HELLO"]) && command.arg_count() > 0;
        let uncounted = [
            "MONITOR",
            "RESET",
            "QUIT",
            "SUBSCRIBE",
            "PSUBSCRIBE",
            "SSUBSCRIBE",
            "UNSUBSCRIBE",
            "PUNSUBSCRIBE",
            "SUNSUBSCRIBE",
        ];
        if !of_client && !of_protocol && !is_any_of(&uncounted) {
            return Ok(());
        }
        let message = format!(
            "{name} is not carried by the `fred` driver, because its replies cannot be told \
             apart; use `subscribe` for subscriptions"
        );
        Err(Fault::new(FaultKind::Unsupported, message).not_sent())
    }

    fn role(&self) -> Role {
        self.role
    }

    fn closer(&self) -> CancellationToken {
        self.closed.clone()
    }

    fn keep(&mut self, task: impl Future<Output = ()> + Send + 'static) {
        self._tasks.push(AbortOnDropHandle::new(tokio::spawn(task)));
    }
}

/// How long fred may keep a step of a sequence: as good as for ever. The link ends long before.
const WHOLE: Duration = Duration::from_secs(3600);

fn name(name: &str) -> CustomCommand {
    CustomCommand::new(name, ClusterHash::FirstKey, false)
}

/// fred splits a name at its spaces and trims it: what the checks of the client took for one
/// command would be sent as another.
fn check_name(command: &Command) -> Result<(), CallError> {
    let name = command.name();
    if !name.is_empty() && !name.contains(char::is_whitespace) {
        return Ok(());
    }
    let message = "a command's name is one word; give the rest as arguments";
    Err(Fault::new(FaultKind::Invalid, message).not_sent())
}

async fn by<T>(
    deadline: Instant,
    sent: impl Future<Output = Result<T, CallError>>,
) -> Result<T, CallError> {
    timeout_at(deadline, sent)
        .await
        .unwrap_or_else(|_| Err(no_reply()))
}

/// fred's own limit for a command, behind its deadline.
fn backstop(deadline: Instant) -> Options {
    Options {
        timeout: Some(deadline.saturating_duration_since(Instant::now()) + MARGIN),
        ..Options::default()
    }
}

#[cold]
fn lost() -> CallError {
    let message = "the connection broke before the reply came";
    Fault::new(FaultKind::Disconnected, message).maybe()
}
