//! The commands: their names, how many arguments they take, and the functions that carry them out.

mod bitfields;
mod bitmaps;
mod blocking_pops;
pub(crate) mod client;
mod counters;
mod expiry;
mod field_expiry;
mod hashes;
mod info;
mod keys;
mod lcs;
mod lists;
mod objects;
mod pubsub;
mod random;
mod scan;
mod server;
mod set_algebra;
mod sets;
mod sort;
mod sorted_set_algebra;
mod sorted_set_ranges;
mod sorted_sets;
mod streams;
mod strings;

use std::collections::HashMap;
use std::sync::LazyLock;

use redkit_core::{ServerError, Value};

use crate::args;
use crate::blocking::Attempt;
use crate::error::{self, Reply};
use crate::state::State;

/// Carries out a command on the state; the arguments are those after the name.
pub(crate) type Handler = fn(&mut State, &[&[u8]]) -> Reply;

/// Like [`Handler`], for a command that may wait for a key.
pub(crate) type BlockingHandler = fn(&mut State, &[&[u8]]) -> Result<Attempt, ServerError>;

/// Arguments that were split in two.
pub(crate) type Split<'a, 'b> = (&'a [&'b [u8]], &'a [&'b [u8]]);

/// One command.
#[derive(Debug)]
pub(crate) struct Spec {
    pub(crate) name: &'static str,
    /// The number of arguments with the name; negative for a minimum.
    arity: i8,
    /// For a command that is a family: its members, with their arities.
    subcommands: &'static [(&'static str, i8)],
    pub(crate) access: Access,
    pub(crate) run: Run,
}

/// What a command does to the keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Access {
    Read,
    Write,
}

#[derive(Debug)]
pub(crate) enum Run {
    Data(Handler),
    /// Asks about the connection or the server; not allowed in scripts.
    OutsideScripts(Handler),
    /// May wait for a key, unless it runs in a transaction or a script.
    Blocking {
        handler: BlockingHandler,
        in_scripts: bool,
    },
    /// Concerns the connection or runs other commands; not allowed in scripts.
    Session(SessionCommand),
}

#[derive(Debug, Clone, Copy)]
pub(crate) enum SessionCommand {
    Multi,
    Exec,
    Discard,
    Watch,
    Unwatch,
    Client,
    Hello,
    Auth,
    Quit,
    Reset,
    Eval { read_only: bool },
    EvalSha { read_only: bool },
    Script,
}

/// How a command was called wrongly.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Misuse {
    UnknownSubcommand,
    /// The wrong number of arguments, for a subcommand or the command itself.
    Arguments(Option<&'static str>),
}

impl Spec {
    /// What the server refuses before it carries a command out, or queues it.
    pub(crate) fn check(&self, args: &[&[u8]]) -> Result<(), Misuse> {
        let (arity, subcommand) = match args.first() {
            Some(given) if !self.subcommands.is_empty() => self
                .subcommands
                .iter()
                .find(|(name, _)| args::is(given, name))
                .map(|(name, arity)| (*arity, Some(*name)))
                .ok_or(Misuse::UnknownSubcommand)?,
            _ => (self.arity, None),
        };
        let wanted = usize::from(arity.unsigned_abs());
        let accepted = match arity < 0 {
            true => args.len() + 1 >= wanted,
            false => args.len() + 1 == wanted,
        };
        accepted.then_some(()).ok_or(Misuse::Arguments(subcommand))
    }

    /// The error for it.
    pub(crate) fn refusal(&self, misuse: Misuse, args: &[&[u8]]) -> ServerError {
        match misuse {
            Misuse::UnknownSubcommand => {
                error::unknown_subcommand(self.name, args.first().copied().unwrap_or_default())
            }
            Misuse::Arguments(None) => error::arity(self.name),
            Misuse::Arguments(Some(name)) => error::arity(&format!("{}|{name}", self.name)),
        }
    }

    /// Carries out a command that concerns the state alone, and does not wait.
    fn run_at_once(&self, state: &mut State, args: &[&[u8]]) -> Reply {
        match self.run {
            Run::Data(handler) | Run::OutsideScripts(handler) => handler(state, args),
            Run::Blocking { handler, .. } => match handler(state, args)? {
                Attempt::Done(reply) => reply,
                Attempt::Wait(_) => Ok(Value::Nil),
            },
            Run::Session(_) => Err(error::syntax()),
        }
    }

    /// Its name and the names of its subcommands, as the server lists them.
    fn names(&self) -> impl Iterator<Item = String> {
        let own = self.name.to_ascii_lowercase();
        let subcommands = self.subcommands.iter();
        let subcommands: Vec<String> = subcommands
            .map(|(name, _)| format!("{own}|{}", name.to_ascii_lowercase()))
            .collect();
        std::iter::once(own).chain(subcommands)
    }

    /// Makes the command a family.
    const fn with(mut self, subcommands: &'static [(&'static str, i8)]) -> Self {
        self.subcommands = subcommands;
        self
    }
}

/// A command and its number, which is that of its place in [`all`].
#[derive(Debug, Clone, Copy)]
pub(crate) struct Listed {
    pub(crate) spec: &'static Spec,
    pub(crate) number: usize,
}

impl State {
    /// Carries out a command that concerns the state alone, without waiting.
    pub(crate) fn run(&mut self, spec: &Spec, args: &[&[u8]]) -> Reply {
        self.db.lookups.counting = spec.access == Access::Read;
        let reply = spec.run_at_once(self, args);
        self.db.lookups.counting = false;
        reply
    }

    /// The same for a command within another one, which is counted by itself.
    pub(crate) fn run_counted(&mut self, command: Listed, args: &[&[u8]]) -> Reply {
        let watch = self.stopwatch();
        let reply = self.run(command.spec, args);
        self.command_stats
            .ran(command.number, watch.elapsed(), reply.is_err());
        reply
    }
}

/// The command of this name, in any case.
pub(crate) fn lookup(name: &[u8]) -> Option<Listed> {
    static TABLE: LazyLock<HashMap<&'static [u8], Listed>> = LazyLock::new(|| {
        all()
            .enumerate()
            .map(|(number, spec)| (spec.name.as_bytes(), Listed { spec, number }))
            .collect()
    });
    let mut upper = [0; 24];
    let upper = upper.get_mut(..name.len())?;
    upper.copy_from_slice(name);
    upper.make_ascii_uppercase();
    TABLE.get(&*upper).copied()
}

/// All commands.
pub(crate) fn all() -> impl Iterator<Item = &'static Spec> {
    MODULES.iter().flat_map(|module| module.iter())
}

const MODULES: &[&[Spec]] = &[
    strings::COMMANDS,
    bitmaps::COMMANDS,
    bitfields::COMMANDS,
    lcs::COMMANDS,
    counters::COMMANDS,
    keys::COMMANDS,
    sort::COMMANDS,
    expiry::COMMANDS,
    hashes::COMMANDS,
    field_expiry::COMMANDS,
    lists::COMMANDS,
    blocking_pops::COMMANDS,
    sets::COMMANDS,
    set_algebra::COMMANDS,
    sorted_sets::COMMANDS,
    sorted_set_ranges::COMMANDS,
    sorted_set_algebra::COMMANDS,
    scan::COMMANDS,
    pubsub::COMMANDS,
    server::COMMANDS,
    info::COMMANDS,
    objects::COMMANDS,
    streams::COMMANDS[0],
    streams::COMMANDS[1],
    streams::COMMANDS[2],
    streams::COMMANDS[3],
    streams::COMMANDS[4],
    streams::COMMANDS[5],
    SESSION,
];

const SESSION: &[Spec] = &[
    session("MULTI", 1, SessionCommand::Multi),
    session("EXEC", 1, SessionCommand::Exec),
    session("DISCARD", 1, SessionCommand::Discard),
    session("WATCH", -2, SessionCommand::Watch),
    session("UNWATCH", 1, SessionCommand::Unwatch),
    session("CLIENT", -2, SessionCommand::Client).with(client::SUBCOMMANDS),
    session("HELLO", -1, SessionCommand::Hello),
    session("AUTH", -2, SessionCommand::Auth),
    session("QUIT", -1, SessionCommand::Quit),
    session("RESET", 1, SessionCommand::Reset),
    session("EVAL", -3, SessionCommand::Eval { read_only: false }),
    session("EVAL_RO", -3, SessionCommand::Eval { read_only: true }),
    session("EVALSHA", -3, SessionCommand::EvalSha { read_only: false }),
    session(
        "EVALSHA_RO",
        -3,
        SessionCommand::EvalSha { read_only: true },
    ),
    session("SCRIPT", -2, SessionCommand::Script).with(&[
        ("LOAD", 3),
        ("EXISTS", -3),
        ("FLUSH", -2),
        ("KILL", 2),
    ]),
];

const fn read(name: &'static str, arity: i8, handler: Handler) -> Spec {
    Spec {
        name,
        arity,
        subcommands: &[],
        access: Access::Read,
        run: Run::Data(handler),
    }
}

/// A command that reads and that scripts may not call.
const fn outside_scripts(name: &'static str, arity: i8, handler: Handler) -> Spec {
    Spec {
        run: Run::OutsideScripts(handler),
        ..read(name, arity, handler)
    }
}

const fn write(name: &'static str, arity: i8, handler: Handler) -> Spec {
    Spec {
        name,
        arity,
        subcommands: &[],
        access: Access::Write,
        run: Run::Data(handler),
    }
}

const fn blocking(name: &'static str, arity: i8, handler: BlockingHandler) -> Spec {
    Spec {
        name,
        arity,
        subcommands: &[],
        access: Access::Write,
        run: Run::Blocking {
            handler,
            in_scripts: false,
        },
    }
}

const fn session(name: &'static str, arity: i8, command: SessionCommand) -> Spec {
    Spec {
        name,
        arity,
        subcommands: &[],
        access: Access::Read,
        run: Run::Session(command),
    }
}

/// A count as a reply.
fn int(count: usize) -> Value {
    Value::Int(i64::try_from(count).unwrap_or(i64::MAX))
}

/// Splits `numkeys key [key …]` from the options, for the commands that pop from the first key that is
/// not empty.
fn counted_keys<'a, 'b>(args: &'a [&'b [u8]]) -> Result<Split<'a, 'b>, ServerError> {
    let (number, rest) = args.split_first().ok_or_else(error::syntax)?;
    let number = args::parse_integer(number)
        .filter(|&n| n > 0)
        .and_then(|n| usize::try_from(n).ok())
        .ok_or_else(|| error::err("numkeys should be greater than 0"))?;
    rest.split_at_checked(number).ok_or_else(error::syntax)
}

/// `[COUNT count]` of the same commands.
fn pop_count(args: &[&[u8]]) -> Result<usize, ServerError> {
    match args {
        [] => Ok(1),
        [option, count] if args::is(option, "COUNT") => args::parse_integer(count)
            .filter(|&n| n > 0)
            .and_then(|n| usize::try_from(n).ok())
            .ok_or_else(|| error::err("count should be greater than 0")),
        _ => Err(error::syntax()),
    }
}
