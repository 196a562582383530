//! The executor: one command after the other, with transactions and scripts.

use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use parking_lot::Mutex;
use redkit_core::{ServerError, Value};
use smallvec::SmallVec;

use crate::blocking::{Attempt, Ticket};
use crate::commands::{self, Listed, Run, SessionCommand};
use crate::error::{self, Reply};
use crate::script::Scripts;
use crate::session::{Session, Transaction};
use crate::state::State;

/// The engine behind the backend's mutex, which makes it single-threaded like the server.
#[derive(Debug)]
pub(crate) struct Engine {
    /// Shared with the Lua state, whose `redis.call` comes back to it. The engine's own mutex is
    /// held all the while, so this one is never contended; it is never held across a script.
    state: Arc<Mutex<State>>,
    scripts: Scripts,
    sessions: i64,
}

/// What a command came to.
#[derive(Debug)]
pub(crate) enum Outcome {
    Done(Reply),
    /// The reply comes later.
    Waiting(Ticket),
}

impl Engine {
    pub(crate) fn new() -> Self {
        let state = Arc::new(Mutex::new(State::new()));
        Self {
            scripts: Scripts::new(Arc::clone(&state)),
            state,
            sessions: 0,
        }
    }

    pub(crate) fn new_session(&mut self) -> Session {
        self.sessions += 1;
        Session::new(self.sessions)
    }

    /// Runs `action` on the keys and subscriptions.
    pub(crate) fn with_state<R>(&self, action: impl FnOnce(&mut State) -> R) -> R {
        action(&mut self.state.lock())
    }

    /// Carries out a command, which is its name and its arguments, and serves those who waited for
    /// what it brought.
    pub(crate) fn execute(&mut self, session: &mut Session, argv: &[&[u8]]) -> Outcome {
        let start = Instant::now();
        let outcome = self.dispatch(session, argv);
        let mut state = self.state.lock();
        let at = state.micros() / 1_000_000;
        state
            .slow_log
            .note(at, start.elapsed(), argv, &session.name);
        state.settle();
        outcome
    }

    fn dispatch(&mut self, session: &mut Session, argv: &[&[u8]]) -> Outcome {
        let checked = {
            let mut state = self.state.lock();
            state.tick();
            check(&mut state, argv)
        };
        if let Some(transaction) = &mut session.transaction {
            return Outcome::Done(match checked {
                Ok((command, args)) => match command.spec.run {
                    Run::Session(
                        SessionCommand::Exec
                        | SessionCommand::Discard
                        | SessionCommand::Multi
                        | SessionCommand::Watch,
                    ) => self.run(command, session, args),
                    _ => {
                        let owned = argv.iter().map(|arg| Bytes::copy_from_slice(arg));
                        transaction.queued.push(owned.collect());
                        Ok(Value::Status("QUEUED".into()))
                    }
                },
                Err(refused) => {
                    transaction.broken = true;
                    Err(refused)
                }
            });
        }
        let (command, args) = match checked {
            Ok(checked) => checked,
            Err(refused) => return Outcome::Done(Err(refused)),
        };
        let Run::Blocking { handler, .. } = command.spec.run else {
            return Outcome::Done(self.run(command, session, args));
        };
        let mut state = self.state.lock();
        let start = Instant::now();
        let outcome = match handler(&mut state, args) {
            Ok(Attempt::Done(reply)) => Outcome::Done(reply),
            Ok(Attempt::Wait(wait)) => Outcome::Waiting(state.enqueue(session.id, wait)),
            Err(refused) => Outcome::Done(Err(refused)),
        };
        let failed = matches!(outcome, Outcome::Done(Err(_)));
        state.tally.ran(command.number, start.elapsed(), failed);
        outcome
    }

    /// Runs a command without waiting for anything.
    fn run(&mut self, command: Listed, session: &mut Session, args: &[&[u8]]) -> Reply {
        let Run::Session(family) = command.spec.run else {
            return self.state.lock().run_counted(command, args);
        };
        let start = Instant::now();
        let reply = self.run_session(family, session, args);
        let mut state = self.state.lock();
        state
            .tally
            .ran(command.number, start.elapsed(), reply.is_err());
        reply
    }

    fn run_session(
        &mut self,
        command: SessionCommand,
        session: &mut Session,
        args: &[&[u8]],
    ) -> Reply {
        match command {
            SessionCommand::Multi => {
                if session.transaction.is_some() {
                    return Err(error::err("MULTI calls can not be nested"));
                }
                session.transaction = Some(Transaction::default());
                Ok(Value::Ok)
            }
            SessionCommand::Exec => self.exec(session),
            SessionCommand::Discard => {
                if session.transaction.take().is_none() {
                    return Err(error::err("DISCARD without MULTI"));
                }
                session.unwatch(&mut self.state.lock().db);
                Ok(Value::Ok)
            }
            SessionCommand::Watch => {
                if session.transaction.is_some() {
                    return Err(error::err("WATCH inside MULTI is not allowed"));
                }
                let mut state = self.state.lock();
                for key in args {
                    session.watch(&mut state.db, key);
                }
                Ok(Value::Ok)
            }
            SessionCommand::Unwatch => {
                session.unwatch(&mut self.state.lock().db);
                Ok(Value::Ok)
            }
            SessionCommand::Client => commands::client::run(&mut self.state.lock(), session, args),
            SessionCommand::Hello => commands::client::hello(&mut self.state.lock(), session, args),
            SessionCommand::Auth => commands::client::auth(),
            // The backend is what closes a connection.
            SessionCommand::Quit => Ok(Value::Ok),
            SessionCommand::Reset => {
                session.transaction = None;
                session.unwatch(&mut self.state.lock().db);
                session.name = Bytes::new();
                Ok(Value::Status("RESET".into()))
            }
            SessionCommand::Eval { read_only } => self.scripts.eval(args, read_only),
            SessionCommand::EvalSha { read_only } => self.scripts.eval_sha(args, read_only),
            SessionCommand::Script => self.scripts.command(args),
        }
    }

    fn exec(&mut self, session: &mut Session) -> Reply {
        let Some(transaction) = session.transaction.take() else {
            return Err(error::err("EXEC without MULTI"));
        };
        let changed = {
            let mut state = self.state.lock();
            let changed = session.watched_changed(&mut state.db);
            session.unwatch(&mut state.db);
            changed
        };
        if transaction.broken {
            return Err(ServerError::new(
                "EXECABORT",
                "Transaction discarded because of previous errors.",
            ));
        }
        if changed {
            return Ok(Value::Nil);
        }
        let replies = transaction.queued.iter().map(|argv| {
            let argv: SmallVec<[&[u8]; 8]> = argv.iter().map(AsRef::as_ref).collect();
            let checked = check(&mut self.state.lock(), &argv);
            checked
                .and_then(|(command, args)| self.run(command, session, args))
                .unwrap_or_else(Value::Error)
        });
        Ok(Value::Array(replies.collect()))
    }
}

/// Finds the command and checks the number of its arguments.
fn check<'a, 'b>(
    state: &mut State,
    argv: &'a [&'b [u8]],
) -> Result<(Listed, &'a [&'b [u8]]), ServerError> {
    let (name, args) = argv
        .split_first()
        .map_or((&b""[..], &[][..]), |(name, args)| (*name, args));
    let command = commands::lookup(name).ok_or_else(|| error::unknown_command(name, args))?;
    match command.spec.check(args) {
        Ok(()) => Ok((command, args)),
        Err(misuse) => {
            state.tally.rejected(command.number);
            Err(command.spec.refusal(misuse, args))
        }
    }
}
