//! One connection of the `fred` crate, and how it is made.

use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::Poll;
use std::time::Duration;

use ::fred::clients::{Client, WithOptions};
use ::fred::error::Error as FredError;
use ::fred::interfaces::{ClientLike, FredResult, Resp3Frame};
use ::fred::types::config::Options;
use ::fred::types::{ClusterHash, CustomCommand, Value as FredValue};
use async_trait::async_trait;
use parking_lot::{Mutex, RwLock};
use tokio::sync::oneshot;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use super::convert::{to_args, to_call_error, to_handshake_fault, to_reply};
use super::reply_shape::may_be_mistaken;
use super::sequence::{Broken, Sequence, Step, out_of_step};
use super::settings::{MARGIN, Settings, Use};
use super::typed::Typed;
use crate::backend::Capabilities;
use crate::command::Command;
use crate::config::{ClientConfig, ConfigError};
use crate::driver::hello::Hello;
use crate::driver::supervisor::{Connector, Link};
use crate::error::{CallError, Fault, FaultKind};
use crate::value::Value;

/// One connection. Dropping it closes the socket, whoever still waits for a reply.
pub(super) struct FredLink {
    client: Client,
    /// Read while one command is handed over, written while several are that belong together.
    order: RwLock<()>,
    closed: CancellationToken,
    replies: Arc<AtomicU64>,
    probes: Mutex<JoinSet<()>>,
    capabilities: Capabilities,
    _connection: AbortOnDropHandle<()>,
}

impl FredLink {
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
        // fred drops what timed out from its queue. Of a sequence nothing may be left out.
        let options = backstop(deadline.max(Instant::now() + WHOLE));
        let client = self.client.with_options(&options);
        let replies = self.unless_closed(self.collect(sequence, &client)).await?;
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

    /// What is known to be closed before a command is handed over did not carry it.
    fn check_open(&self) -> Result<(), CallError> {
        if self.closed.is_cancelled() {
            return Err(Fault::new(FaultKind::Disconnected, "the connection is closed").not_sent());
        }
        Ok(())
    }

    fn count(&self) {
        self.replies.fetch_add(1, Ordering::Relaxed);
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
    async fn ping(&self) -> Result<(), Fault> {
        let broken = || Fault::new(FaultKind::Disconnected, "the connection is closed");
        if self.closed.is_cancelled() {
            return Err(broken());
        }
        let (answer, answered) = oneshot::channel();
        let client = self.client.with_options(&backstop(Instant::now()));
        let replies = Arc::clone(&self.replies);
        let mut probe = Box::pin(async move {
            let none: Vec<FredValue> = Vec::new();
            // An error of the server's is an answer too: it lives.
            let outcome = client.custom_raw(name("PING"), none).await;
            if outcome.is_ok() {
                replies.fetch_add(1, Ordering::Relaxed);
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
        match self.unless_closed(answered).await {
            Ok(Ok(Ok(_))) => Ok(()),
            Ok(Ok(Err(error))) => Err(broken().with_source(error)),
            Ok(Err(_)) | Err(_) => Err(broken()),
        }
    }

    /// Replies, not bytes: fred shows no bytes. A single reply that takes longer than a probe to
    /// arrive looks like silence.
    fn bytes_read(&self) -> u64 {
        self.replies.load(Ordering::Relaxed)
    }

    fn capabilities(&self) -> Capabilities {
        self.capabilities
    }
}

/// Makes connections to one server.
#[derive(Clone)]
pub(super) struct FredConnector {
    settings: Settings,
    client_name: Option<String>,
    timeout: Duration,
}

impl FredConnector {
    pub(super) fn new(config: &ClientConfig) -> Result<Self, ConfigError> {
        Ok(Self {
            settings: Settings::new(config)?,
            client_name: config.client_name.clone(),
            timeout: config.connect_timeout,
        })
    }

    pub(super) async fn connect_for(&self, use_of: Use) -> Result<FredLink, Fault> {
        let client = self.settings.client(use_of).await?;
        let closed = CancellationToken::new();
        let refused = |error| {
            let (target, encrypted) = (self.settings.target(), self.settings.is_encrypted());
            to_handshake_fault(error, target, encrypted)
        };
        let connection = {
            let mut connected = pin!(client.wait_for_connect());
            // Its first poll begins to listen: the outcome must not come before that.
            let early = poll_fn(|cx| Poll::Ready(connected.as_mut().poll(cx))).await;
            // fred spawns the connection's task. Whoever gives up waiting must not leave it behind.
            let mut task = AbortOnDropHandle::new(client.connect());
            let connected = async {
                match early {
                    Poll::Ready(outcome) => outcome,
                    Poll::Pending => connected.await,
                }
            };
            tokio::select! {
                biased;
                outcome = connected => outcome.map_err(refused)?,
                ended = &mut task => {
                    let error = ended.map_err(FredError::from).and_then(|ended| ended).err();
                    return Err(refused(error.unwrap_or_else(FredError::new_canceled)));
                }
            }
            AbortOnDropHandle::new(tokio::spawn(drive(task, closed.clone())))
        };
        let mut link = FredLink {
            client,
            order: RwLock::new(()),
            closed,
            replies: Arc::default(),
            probes: Mutex::default(),
            capabilities: Capabilities::UNKNOWN,
            _connection: connection,
        };
        link.capabilities = self.introduce(&link).await?;
        Ok(link)
    }

    /// Names the connection and asks what the server is. A user who may not do either can still
    /// use the connection.
    async fn introduce(&self, link: &FredLink) -> Result<Capabilities, Fault> {
        let deadline = Instant::now() + self.timeout;
        let mut commands = vec![Command::new("HELLO")];
        if let Some(name) = &self.client_name {
            commands.push(Command::new("CLIENT").arg("SETNAME").arg(name));
        }
        match link.send_all(&commands, deadline).await {
            Ok(replies) => {
                let hello = replies.into_iter().next().and_then(Result::ok);
                match hello.and_then(Hello::parse) {
                    Some(hello) if hello.is_cluster_node() => Err(self.is_cluster_node()),
                    Some(hello) => Ok(hello.capabilities),
                    None => Ok(Capabilities::UNKNOWN),
                }
            }
            Err(CallError::Replied(_)) => Ok(Capabilities::UNKNOWN),
            Err(CallError::NotSent(fault) | CallError::Maybe(fault)) => Err(fault),
        }
    }
}

impl FredConnector {
    fn is_cluster_node(&self) -> Fault {
        let message = format!(
            "{} is a node of a cluster and serves a part of the keys only; write redis-cluster:// \
             and leave the choice of the driver out, because fred is not used for clusters",
            self.settings.target()
        );
        Fault::new(FaultKind::Handshake, message)
    }
}

#[async_trait]
impl Connector for FredConnector {
    type Link = FredLink;

    async fn connect(&self) -> Result<FredLink, Fault> {
        self.connect_for(Use::Commands).await
    }

    fn target(&self) -> String {
        self.settings.target().to_owned()
    }
}

/// How long fred may keep a step of a sequence: as good as for ever. The link ends long before.
const WHOLE: Duration = Duration::from_secs(3600);

async fn drive(task: AbortOnDropHandle<FredResult<()>>, closed: CancellationToken) {
    let _closed = closed.clone().drop_guard();
    tokio::select! {
        ended = task => tracing::debug!(target: "redkit::connection", ?ended, "fred's task ended"),
        () = closed.cancelled() => {}
    }
}

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
