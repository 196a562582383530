//! The executor: one command after the other, with transactions and scripts.

use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;
use redkit_core::{ServerError, Value};
use smallvec::SmallVec;

use crate::blocking::{Attempt, Ticket};
use crate::clock::Clock;
use crate::commands::{self, Listed, Run, SessionCommand};
use crate::error::{self, Reply};
use crate::full_memory;
use crate::keyspace::Contents;
use crate::script::Scripts;
use crate::session::{Session, Transaction};
use crate::state::{Protocol, State};

/// The engine behind the backend's mutex, which makes it single-threaded like the server.
#[derive(Debug)]
pub(crate) struct Engine {
    /// Shared with the Lua state, whose `redis.call` comes back to it. The engine's own mutex is
    /// held all the while, so this one is never contended; it is never held across a script.
    state: Arc<Mutex<State>>,
    scripts: Scripts,
    sessions: i64,
}

/// The result of a command.
#[derive(Debug)]
pub(crate) enum Outcome {
    Done(Reply),
    /// The reply comes later.
    Waiting(Ticket),
}

impl Engine {
    pub(crate) fn new(clock: Clock) -> Self {
        let state = Arc::new(Mutex::new(State::new(clock)));
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

    /// Replaces the data, as when another server takes over: it knows no script, and what was watched or
    /// tracked has changed.
    pub(crate) fn replace(&mut self, contents: Contents) {
        self.scripts.forget();
        let mut state = self.state.lock();
        state.tick();
        state.db.replace(contents);
        state.settle();
    }

    /// Runs `action` on the keys and subscriptions.
    pub(crate) fn with_state<R>(&self, action: impl FnOnce(&mut State) -> R) -> R {
        action(&mut self.state.lock())
    }

    /// Carries out a command, which is its name and its arguments, and serves the callers that
    /// waited for a key which it changed.
    pub(crate) fn execute(&mut self, session: &mut Session, argv: &[&[u8]]) -> Outcome {
        let watch = self.state.lock().stopwatch();
        let (outcome, ran) = self.dispatch(session, argv);
        let took = watch.elapsed();
        let mut state = self.state.lock();
        if let Some(command) = ran {
            let failed = matches!(outcome, Outcome::Done(Err(_)));
            state.command_stats.ran(command.number, took, failed);
        }
        let at = state.micros() / 1_000_000;
        state.slow_log.note(at, took, argv, &session.name);
        state.settle();
        outcome
    }

    /// Gives the command, too, if one ran.
    fn dispatch(&mut self, session: &mut Session, argv: &[&[u8]]) -> (Outcome, Option<Listed>) {
        let mut state = self.state.lock();
        state.tick();
        state.protocol = session.protocol;
        let is_queueing = session.transaction.is_some();
        let checked = check(&mut state, argv).and_then(|(command, args)| {
            // What is queued takes memory, whatever it is.
            let needs_memory = state.is_full
                && (self.scripts_need_memory(command, args)
                    || is_queueing && !full_memory::runs_while_queueing(command.spec.name));
            match needs_memory {
                false => Ok((command, args)),
                true => {
                    state.command_stats.rejected(command.number);
                    Err(full_memory::refusal())
                }
            }
        });
        if let Some(transaction) = &mut session.transaction {
            let ends = matches!(
                checked,
                Ok((command, _)) if matches!(
                    command.spec.run,
                    Run::Session(
                        SessionCommand::Exec
                        | SessionCommand::Quit
                        | SessionCommand::Reset
                        | SessionCommand::Discard
                        | SessionCommand::Multi
                        | SessionCommand::Watch
                    )
                )
            );
            if !ends {
                return (Outcome::Done(transaction.queue(checked, argv)), None);
            }
        }
        let (command, args) = match checked {
            Ok(checked) => checked,
            Err(refused) => return (Outcome::Done(Err(refused)), None),
        };
        let outcome = match command.spec.run {
            Run::Blocking { handler, .. } => match handler(&mut state, args) {
                Ok(Attempt::Done(reply)) => Outcome::Done(reply),
                Ok(Attempt::Wait(wait)) => Outcome::Waiting(state.enqueue(session.id, wait)),
                Err(refused) => Outcome::Done(Err(refused)),
            },
            Run::Session(family) => {
                drop(state);
                Outcome::Done(self.run_session(family, session, args))
            }
            _ => Outcome::Done(state.run(command.spec, args)),
        };
        (outcome, Some(command))
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
            // The backend closes the connection; what was queued on it is gone.
            SessionCommand::Quit => {
                session.transaction = None;
                session.unwatch(&mut self.state.lock().db);
                Ok(Value::Ok)
            }
            SessionCommand::Reset => {
                session.transaction = None;
                let mut state = self.state.lock();
                if session.is_from_outside {
                    state.speak(session, Protocol::Resp2);
                }
                session.unwatch(&mut state.db);
                state.rename_connection(session, Bytes::new());
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
        let (changed, is_full) = {
            let mut state = self.state.lock();
            let changed = session.watched_changed(&mut state.db);
            session.unwatch(&mut state.db);
            (changed, state.is_full)
        };
        if is_full
            && transaction
                .queued
                .iter()
                .any(|argv| self.needs_memory(argv))
        {
            let reason = full_memory::refusal();
            return Err(ServerError::new(
                "EXECABORT",
                format!("Transaction discarded because of: {reason}"),
            ));
        }
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
            self.run_queued(session, &argv).unwrap_or_else(Value::Error)
        });
        Ok(Value::Array(replies.collect()))
    }

    /// Whether a full server refuses a command that was queued.
    fn needs_memory(&self, argv: &[Bytes]) -> bool {
        let argv: SmallVec<[&[u8]; 8]> = argv.iter().map(AsRef::as_ref).collect();
        let Some((name, args)) = argv.split_first() else {
            return false;
        };
        commands::lookup(name).is_some_and(|command| {
            full_memory::is_refused(command.spec.name, args)
                || self.scripts_need_memory(command, args)
        })
    }

    fn scripts_need_memory(&self, command: Listed, args: &[&[u8]]) -> bool {
        match command.spec.run {
            Run::Session(family) => self.scripts.needs_memory(family, args),
            _ => false,
        }
    }

    /// Runs a command of a transaction, which does not wait.
    fn run_queued(&mut self, session: &mut Session, argv: &[&[u8]]) -> Reply {
        let mut state = self.state.lock();
        let (command, args) = check(&mut state, argv)?;
        let Run::Session(family) = command.spec.run else {
            return state.run_counted(command, args);
        };
        let watch = state.stopwatch();
        drop(state);
        let reply = self.run_session(family, session, args);
        let mut state = self.state.lock();
        state
            .command_stats
            .ran(command.number, watch.elapsed(), reply.is_err());
        reply
    }
}

impl Transaction {
    /// Queues a command, or notes that a command could not be queued.
    fn queue<T>(&mut self, checked: Result<T, ServerError>, argv: &[&[u8]]) -> Reply {
        match checked {
            Ok(_) => {
                // `EXEC` will refuse a transaction that is broken.
                if !self.broken {
                    let owned = argv.iter().map(|arg| Bytes::copy_from_slice(arg));
                    self.queued.push(owned.collect());
                }
                Ok(Value::Status("QUEUED".into()))
            }
            Err(refused) => {
                self.broken = true;
                Err(refused)
            }
        }
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
        Ok(()) if state.is_full && full_memory::is_refused(command.spec.name, args) => {
            state.command_stats.rejected(command.number);
            Err(full_memory::refusal())
        }
        Ok(()) => Ok((command, args)),
        Err(misuse) => {
            state.command_stats.rejected(command.number);
            Err(command.spec.refusal(misuse, args))
        }
    }
}
