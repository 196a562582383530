//! Round trips: scripts and commands sent together, and their replies.

use bytes::Bytes;
use redkit_core::{CallError, Command, Error as CoreError, Invocation, Key, Value};

use super::Store;

impl<V> Store<V> {
    /// Runs scripts in one round trip.
    pub(crate) async fn run_all(
        &self,
        scripts: Vec<Invocation>,
    ) -> Result<Vec<Result<Value, CallError>>, CoreError> {
        self.client.eval_all(scripts).await
    }

    /// The same for a look-up, which does not wait longer than its budget.
    pub(crate) async fn run_all_in_time(
        &self,
        scripts: Vec<Invocation>,
    ) -> Result<Vec<Result<Value, CallError>>, CoreError> {
        self.hasty.eval_all(scripts).await
    }

    /// Commands that read the values at keys, in their order: one for many keys where one server has
    /// them all.
    pub(super) fn gets<'k>(&self, keys: impl IntoIterator<Item = &'k Key>) -> Vec<Command> {
        let keys = keys.into_iter();
        if self.is_cluster {
            return keys.map(|key| Command::new("GET").key(key)).collect();
        }
        let mut commands: Vec<Command> = Vec::new();
        for key in keys {
            let command = match commands.pop() {
                Some(open) if open.arg_count() < KEYS_PER_COMMAND => open,
                full => {
                    commands.extend(full);
                    Command::with_capacity("MGET", 1024)
                }
            };
            commands.push(command.key(key));
        }
        commands
    }

    /// The replies to [`Store::gets`] of so many keys.
    pub(super) fn got(
        &self,
        keys: usize,
        replies: &mut impl Iterator<Item = Result<Value, CallError>>,
    ) -> Vec<Result<Option<Bytes>, CoreError>> {
        let mut values = Vec::with_capacity(keys);
        while values.len() < keys {
            if self.is_cluster {
                values.push(next("GET", replies));
                continue;
            }
            let some = (keys - values.len()).min(KEYS_PER_COMMAND);
            match next::<Vec<Option<Bytes>>>("MGET", replies) {
                // One that were missing would be none.
                Ok(mut found) => {
                    found.resize(some, None);
                    values.extend(found.into_iter().map(Ok));
                }
                Err(error) => values.extend((0..some).map(|_| Err(error.clone()))),
            }
        }
        values
    }
}

/// A server is busy with so many for a few hundred microseconds.
const KEYS_PER_COMMAND: usize = 500;

/// The next reply of a pipeline.
pub(crate) fn next<T: redkit_core::FromValue>(
    command: &'static str,
    replies: &mut impl Iterator<Item = Result<Value, CallError>>,
) -> Result<T, CoreError> {
    let call = |error| CoreError::Call {
        command: command.into(),
        error,
    };
    let value = replies.next().unwrap_or(Ok(Value::Nil)).map_err(call)?;
    value.to().map_err(|error| CoreError::Reply {
        command: command.into(),
        error,
    })
}

pub(crate) fn next_value(
    replies: &mut impl Iterator<Item = Result<Value, CallError>>,
) -> Result<Value, CoreError> {
    next("EVALSHA", replies)
}

pub(crate) fn odd(error: redkit_core::ValueError) -> CoreError {
    CoreError::Reply {
        command: "EVALSHA".into(),
        error,
    }
}
