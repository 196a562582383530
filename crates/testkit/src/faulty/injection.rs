//! [`Rule`] and [`Injection`]: which calls fail, and how.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use redkit_core::{CallError, Command, Fault, FaultKind, ServerError};
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
    /// A mistake in the driver.
    Panic,
}

/// Which calls meet an [`Injection`].
pub struct Rule {
    is_meant: Box<dyn Fn(&Command) -> bool + Send + Sync>,
    injection: Injection,
    skip: usize,
    times: usize,
    is_alone: bool,
}

/// Holds calls until it is opened.
#[derive(Clone)]
pub struct Gate(Arc<watch::Sender<(bool, usize)>>);

impl Rule {
    /// Does this to every call.
    pub fn new(injection: Injection) -> Self {
        Self {
            is_meant: Box::new(|_| true),
            injection,
            skip: 0,
            times: usize::MAX,
            is_alone: false,
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

    /// What becomes of each command of a pipeline, if the rule is meant for some of them alone.
    pub(super) fn decide_each(&mut self, commands: &[Command]) -> Option<Vec<Injection>> {
        if !self.is_alone || commands.len() < 2 {
            return None;
        }
        let injection = self.decide(commands)?;
        let of = |command| match (self.is_meant)(command) {
            true => injection.clone(),
            false => Injection::Pass,
        };
        Some(commands.iter().map(of).collect())
    }

    pub(super) fn decide(&mut self, commands: &[Command]) -> Option<Injection> {
        if self.times == 0 || !commands.iter().any(&self.is_meant) {
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
    #[expect(clippy::panic, reason = "a test asks for it")]
    pub(super) async fn apply<T>(
        self,
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
            Injection::Panic => panic!("a driver that panics"),
        }
    }
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

impl fmt::Debug for Gate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Gate").field(&*self.0.borrow()).finish()
    }
}
