//! [`Attempt`]: a command or a pipeline, as it is sent once or several times.

use crate::backend::Backend;
use crate::breaker::{Breaker, Outcome};
use crate::command::Command;
use crate::error::CallError;
use crate::value::Value;

/// One way to ask a backend, as often as need be.
pub(super) trait Attempt: Sync {
    type Reply: Send;

    fn send(&self) -> impl Future<Output = Result<Self::Reply, CallError>> + Send;
    /// What the end says about the server.
    fn judge(&self, result: &Result<Self::Reply, CallError>, breaker: &Breaker) -> Outcome;
    fn name(&self) -> &str;
    fn commands(&self) -> &[Command];
    fn is_idempotent(&self) -> bool;
    fn runs_script(&self) -> bool;
}

pub(super) struct Single<'a> {
    pub(super) backend: &'a dyn Backend,
    pub(super) command: &'a Command,
}

impl Attempt for Single<'_> {
    type Reply = Value;

    fn send(&self) -> impl Future<Output = Result<Value, CallError>> + Send {
        self.backend.call(self.command)
    }

    fn judge(&self, result: &Result<Value, CallError>, breaker: &Breaker) -> Outcome {
        breaker.judge(self.command, result)
    }

    fn name(&self) -> &str {
        self.command.name()
    }

    fn commands(&self) -> &[Command] {
        std::slice::from_ref(self.command)
    }

    fn is_idempotent(&self) -> bool {
        self.command.is_idempotent()
    }

    fn runs_script(&self) -> bool {
        self.command.runs_script()
    }
}

pub(super) struct Batch<'a> {
    pub(super) backend: &'a dyn Backend,
    pub(super) commands: &'a [Command],
}

impl Attempt for Batch<'_> {
    type Reply = Vec<Result<Value, CallError>>;

    fn send(&self) -> impl Future<Output = Result<Self::Reply, CallError>> + Send {
        self.backend.pipeline(self.commands)
    }

    fn judge(&self, result: &Result<Self::Reply, CallError>, breaker: &Breaker) -> Outcome {
        match result {
            Ok(replies) => breaker.judge_all(self.commands, replies),
            Err(error) => breaker.classify(error),
        }
    }

    fn name(&self) -> &str {
        "pipeline"
    }

    fn commands(&self) -> &[Command] {
        self.commands
    }

    fn is_idempotent(&self) -> bool {
        self.commands.iter().all(Command::is_idempotent)
    }

    fn runs_script(&self) -> bool {
        self.commands.iter().any(Command::runs_script)
    }
}
