//! The executor: one command after the other, with transactions and scripts.

use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;
use redkit_core::{ServerError, Value};
use smallvec::SmallVec;

use crate::blocking::{Attempt, Ticket};
use crate::commands::{self, Run, SessionCommand, Spec};
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
        let outcome = self.dispatch(session, argv);
        self.state.lock().settle();
        outcome
    }

    fn dispatch(&mut self, session: &mut Session, argv: &[&[u8]]) -> Outcome {
        self.state.lock().tick();
        let checked = check(argv);
        if let Some(transaction) = &mut session.transaction {
            return Outcome::Done(match checked {
                Ok((
                    Spec {
                        run:
                            Run::Session(
                                command @ (SessionCommand::Exec
                                | SessionCommand::Discard
                                | SessionCommand::Multi
                                | SessionCommand::Watch),
                            ),
                        ..
                    },
                    args,
                )) => self.run_session(*command, session, args),
                Ok(_) => {
                    let owned = argv.iter().map(|arg| Bytes::copy_from_slice(arg));
                    transaction.queued.push(owned.collect());
                    Ok(Value::Status("QUEUED".into()))
                }
                Err(refused) => {
                    transaction.broken = true;
                    Err(refused)
                }
            });
        }
        let (spec, args) = match checked {
            Ok(checked) => checked,
            Err(refused) => return Outcome::Done(Err(refused)),
        };
        let Run::Blocking { handler, .. } = spec.run else {
            return Outcome::Done(self.run(spec, session, args));
        };
        let mut state = self.state.lock();
        match handler(&mut state, args) {
            Ok(Attempt::Done(reply)) => Outcome::Done(reply),
            Ok(Attempt::Wait(wait)) => Outcome::Waiting(state.enqueue(session.id, wait)),
            Err(refused) => Outcome::Done(Err(refused)),
        }
    }

    /// Runs a command without waiting for anything.
    fn run(&mut self, spec: &Spec, session: &mut Session, args: &[&[u8]]) -> Reply {
        match spec.run {
            Run::Session(command) => self.run_session(command, session, args),
            _ => spec.run_at_once(&mut self.state.lock(), args),
        }
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
            SessionCommand::Client => commands::client::run(session, args),
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
            check(&argv)
                .and_then(|(spec, args)| self.run(spec, session, args))
                .unwrap_or_else(Value::Error)
        });
        Ok(Value::Array(replies.collect()))
    }
}

/// Finds the command and checks the number of its arguments.
fn check<'a, 'b>(argv: &'a [&'b [u8]]) -> Result<(&'static Spec, &'a [&'b [u8]]), ServerError> {
    let (name, args) = argv
        .split_first()
        .map_or((&b""[..], &[][..]), |(name, args)| (*name, args));
    let spec = commands::lookup(name).ok_or_else(|| error::unknown_command(name, args))?;
    match spec.check(args) {
        Ok(()) => Ok((spec, args)),
        Err(misuse) => Err(spec.refusal(misuse, args)),
    }
}
