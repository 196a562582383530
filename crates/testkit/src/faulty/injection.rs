//! [`Rule`] and [`Injection`]: which calls fail, and how.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use redkit_core::{Backend, CallError, Command, Fault, FaultKind, PushStream, ServerError, Value};
use tokio::sync::watch;
use tokio::time::sleep;

/// What becomes of a call.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum Injection {
    /// It is carried out.
    Pass,
    /// No connection can be made: [`CallError::NotSent`].
    NotSent,
    /// The request is lost on its way: [`CallError::Maybe`], and it is not carried out.
    LoseRequest,
    /// It is carried out and the reply is lost: [`CallError::Maybe`].
    LoseReply,
    /// Nothing comes until the deadline, and it is not carried out.
    HangBefore,
    /// It is carried out, and nothing comes until the deadline.
    HangAfter,
    /// The request arrives this much later.
    DelayRequest(Duration),
    /// It is carried out, and the reply arrives this much later.
    DelayReply(Duration),
    /// The request arrives when the gate is open, unless its deadline passes before.
    HoldRequest(Gate),
    /// The server refuses it with this code and text.
    Refuse(&'static str, &'static str),
    /// It is not carried out, and this is the outcome of each of its commands: see [`Injection::answer`].
    Answer(Function<Result<Value, CallError>>),
    /// Another command is carried out right before it, as if another client had sent it: see
    /// [`Injection::precede`].
    Precede(Function<Command>),
    /// A mistake in the driver.
    Panic,
}

/// A function of a command, such as the outcome in the server's place.
pub struct Function<T>(Arc<dyn Fn(&Command) -> T + Send + Sync>);

/// A call, as rules see it.
#[derive(Clone, Copy)]
pub(super) struct Call<'c> {
    pub(super) commands: &'c [Command],
    /// The server that it is meant for.
    pub(super) server: Option<&'c str>,
    pub(super) is_pipeline: bool,
    /// It is the first on a dedicated connection.
    pub(super) is_first: bool,
}

/// Which calls meet an [`Injection`].
pub struct Rule {
    is_meant: Box<dyn Fn(&Command) -> bool + Send + Sync>,
    server: Option<&'static str>,
    injection: Injection,
    skip: usize,
    times: usize,
    is_alone: bool,
    is_on_first_call: bool,
}

/// Holds calls until it is opened.
#[derive(Clone)]
pub struct Gate(Arc<watch::Sender<(bool, usize)>>);

impl Rule {
    /// Does this to every call.
    pub fn new(injection: Injection) -> Self {
        Self {
            is_meant: Box::new(|_| true),
            server: None,
            injection,
            skip: 0,
            times: usize::MAX,
            is_alone: false,
            is_on_first_call: false,
        }
    }

    /// To calls with such a command only.
    #[must_use]
    pub fn on(mut self, is_meant: impl Fn(&Command) -> bool + Send + Sync + 'static) -> Self {
        self.is_meant = Box::new(is_meant);
        self
    }

    /// To calls with a command of this name only.
    #[must_use]
    pub fn on_name(self, name: &'static str) -> Self {
        self.on(move |command| command.name().eq_ignore_ascii_case(name))
    }

    /// To calls with an argument, a key among them, that contains this text.
    #[must_use]
    pub fn on_part(self, part: &'static str) -> Self {
        let contains = move |arg: &[u8]| String::from_utf8_lossy(arg).contains(part);
        self.on(move |command| command.iter().any(contains))
    }

    /// To calls of this script, by hash and by text.
    #[must_use]
    pub fn on_script(self, script: &'static redkit_core::Script) -> Self {
        self.on(move |command| {
            let first = command.get(0).unwrap_or_default();
            first == script.sha().as_bytes() || first == script.source().as_bytes()
        })
    }

    /// To calls that are meant for this one of [the servers](redkit_core::Backend::servers) only.
    #[must_use]
    pub fn on_server(mut self, server: &'static str) -> Self {
        self.server = Some(server);
        self
    }

    /// To the first call on each dedicated connection only. On a cluster that call makes the connection.
    #[must_use]
    pub fn on_first_call(mut self) -> Self {
        self.is_on_first_call = true;
        self
    }

    /// Not to the first so many of them.
    #[must_use]
    pub fn skip(mut self, calls: usize) -> Self {
        self.skip = calls;
        self
    }

    /// To so many of them only.
    #[must_use]
    pub fn times(mut self, calls: usize) -> Self {
        self.times = calls;
        self
    }

    /// Of a pipeline only to the commands that match: the others pass.
    #[must_use]
    pub fn alone(mut self) -> Self {
        self.is_alone = true;
        self
    }

    /// What becomes of a call that the rule is meant for, as a whole.
    pub(super) fn decide(&mut self, call: Call<'_>) -> Option<Injection> {
        match self.is_alone && call.is_pipeline {
            true => None,
            false => self.next(call),
        }
    }

    /// Puts what becomes of them to the commands of a pipeline that the rule is meant for alone, unless a
    /// rule before it has done so.
    pub(super) fn decide_each(&mut self, call: Call<'_>, decided: &mut [Option<Injection>]) {
        if !self.is_alone {
            return;
        }
        let Some(injection) = self.next(call) else {
            return;
        };
        for (command, decided) in call.commands.iter().zip(decided) {
            if decided.is_none() && (self.is_meant)(command) {
                *decided = Some(injection.clone());
            }
        }
    }

    fn next(&mut self, call: Call<'_>) -> Option<Injection> {
        let is_there = self.server.is_none() || self.server == call.server;
        let is_then = call.is_first || !self.is_on_first_call;
        if self.times == 0 || !is_there || !is_then || !call.commands.iter().any(&self.is_meant) {
            return None;
        }
        if self.skip > 0 {
            self.skip -= 1;
            return None;
        }
        self.times -= 1;
        Some(self.injection.clone())
    }
}

impl Injection {
    /// The outcome that this function gives, for each command.
    pub fn answer(
        answer: impl Fn(&Command) -> Result<Value, CallError> + Send + Sync + 'static,
    ) -> Self {
        Self::Answer(Function(Arc::new(answer)))
    }

    /// The command that this function makes comes right before.
    pub fn precede(command: impl Fn(&Command) -> Command + Send + Sync + 'static) -> Self {
        Self::Precede(Function(Arc::new(command)))
    }

    /// Carries a call of these commands out, or not. `inner` is the backend that it goes to.
    #[expect(clippy::panic, reason = "a test asks for it")]
    pub(super) async fn apply<T: Outcome>(
        self,
        inner: &dyn Backend,
        commands: &[Command],
        call: impl Future<Output = Result<T, CallError>>,
    ) -> Result<T, CallError> {
        match self {
            Injection::Pass => call.await,
            Injection::NotSent => Err(Fault::new(FaultKind::Connect, "refused").not_sent()),
            Injection::LoseRequest => Err(lost()),
            Injection::LoseReply => {
                drop(call.await);
                Err(lost())
            }
            Injection::HangBefore => std::future::pending().await,
            Injection::HangAfter => {
                drop(call.await);
                std::future::pending().await
            }
            Injection::DelayRequest(time) => {
                sleep(time).await;
                call.await
            }
            Injection::DelayReply(time) => {
                let result = call.await;
                sleep(time).await;
                result
            }
            Injection::HoldRequest(gate) => {
                gate.pass().await;
                call.await
            }
            Injection::Refuse(code, text) => Err(CallError::Replied(ServerError::new(code, text))),
            Injection::Answer(answer) => T::of(commands.iter().map(&*answer.0).collect()),
            Injection::Precede(other) => {
                if let Some(command) = commands.first() {
                    inner.call(&other.0(command)).await?;
                }
                call.await
            }
            Injection::Panic => panic!("a driver that panics"),
        }
    }
}

/// The outcome of a call, from those of its commands.
pub(super) trait Outcome: Sized {
    fn of(answers: Vec<Result<Value, CallError>>) -> Result<Self, CallError>;
}

impl Outcome for Value {
    fn of(mut answers: Vec<Result<Value, CallError>>) -> Result<Self, CallError> {
        answers.remove(0)
    }
}

impl Outcome for Vec<Result<Value, CallError>> {
    fn of(answers: Vec<Result<Value, CallError>>) -> Result<Self, CallError> {
        Ok(answers)
    }
}

impl Outcome for PushStream {
    fn of(_: Vec<Result<Value, CallError>>) -> Result<Self, CallError> {
        Err(no_connection())
    }
}

impl Outcome for Arc<dyn Backend> {
    fn of(_: Vec<Result<Value, CallError>>) -> Result<Self, CallError> {
        Err(no_connection())
    }
}

/// An answer is none to the making of a connection.
fn no_connection() -> CallError {
    Fault::new(FaultKind::Unsupported, "only commands are answered").not_sent()
}

impl Gate {
    /// A gate that is closed.
    pub fn closed() -> Self {
        Self(Arc::new(watch::Sender::new((false, 0))))
    }

    /// Lets every call through from now on.
    pub fn open(&self) {
        self.0.send_modify(|(is_open, _)| *is_open = true);
    }

    /// Holds calls from now on.
    pub fn close(&self) {
        self.0.send_modify(|(is_open, _)| *is_open = false);
    }

    /// Waits until so many calls have come to the gate.
    pub async fn reached(&self, calls: usize) {
        let mut state = self.0.subscribe();
        let _ = state.wait_for(|(_, reached)| *reached >= calls).await;
    }

    async fn pass(&self) {
        self.0.send_modify(|(_, reached)| *reached += 1);
        let mut state = self.0.subscribe();
        let _ = state.wait_for(|(is_open, _)| *is_open).await;
    }
}

fn lost() -> CallError {
    Fault::new(FaultKind::Disconnected, "the connection broke").maybe()
}

pub(super) fn late() -> CallError {
    Fault::new(FaultKind::Timeout, "no reply by the deadline").maybe()
}

impl fmt::Debug for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Rule")
            .field("injection", &self.injection)
            .finish_non_exhaustive()
    }
}

impl<T> Clone for Function<T> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<T> fmt::Debug for Function<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Function")
    }
}

impl fmt::Debug for Gate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Gate").field(&*self.0.borrow()).finish()
    }
}
