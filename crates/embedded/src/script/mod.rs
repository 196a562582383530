//! `EVAL` and its kin: Lua 5.1 with the server's libraries, error texts and conversions.

mod bit;
mod cjson;
mod cjson_settings;
mod convert;
mod json_parser;
mod known;
mod raise;
mod random;
mod redis_api;
mod sandbox;

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use mlua::{Function, Lua, Table};
use parking_lot::Mutex;
use redkit_core::{ServerError, Value};
use sha1::{Digest, Sha1};

use self::known::{Known, Origin};
use crate::args::{integer, is};
use crate::commands::{SessionCommand, Split};
use crate::error::{self, Reply};
use crate::state::{Protocol, State};

/// How long a script may run. The server would go on and refuse other clients with `BUSY`; here
/// the caller's thread runs it, so it is ended.
const TIME_LIMIT: Duration = Duration::from_secs(5);
/// How much memory scripts may use together.
const MEMORY_LIMIT: usize = 256 * 1024 * 1024;
/// Lua instructions between two looks at the clock: well under a millisecond of work.
const INSTRUCTIONS_PER_CHECK: u32 = 50_000;

/// The scripts of an engine. Lua is started by the first one.
pub(crate) struct Scripts {
    state: Arc<Mutex<State>>,
    host: Option<Host>,
}

/// A Lua state with the scripts that were compiled in it.
struct Host {
    lua: Lua,
    /// The table that scripts see as their globals, behind its protection.
    globals: Table,
    /// Calls a script and turns a raised error into a table.
    runner: Function,
    run: Arc<Mutex<Run>>,
    known: Known,
    /// How much memory the known scripts, and Lua's own libraries, took when garbage was collected last, in bytes.
    baseline: usize,
}

/// What the first line of a script says.
#[derive(Debug, Clone, Copy)]
struct Flags {
    writes: Writes,
    /// Whether a full server lets it write.
    allows_full: bool,
}

impl Flags {
    /// Whether a full server refuses the script before it begins.
    fn needs_memory(self) -> bool {
        self.writes == Writes::Allowed && !self.allows_full
    }
}

/// What the first line of a script says about writing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Writes {
    /// There is no line `#!lua`.
    Unsaid,
    /// There is one without the flag `no-writes`.
    Allowed,
    Forbidden,
}

/// The settings of one run of a script.
struct Run {
    protocol: Protocol,
    read_only: bool,
    /// Whether it may write though memory is full.
    allows_full: bool,
    /// Whether it has called a command that writes: then memory stops it no more.
    has_written: bool,
    deadline: Instant,
}

impl Run {
    fn is_overdue(&self) -> bool {
        Instant::now() > self.deadline
    }
}

impl fmt::Debug for Scripts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Scripts")
            .field("compiled", &self.host.as_ref().map(|h| h.known.len()))
            .finish_non_exhaustive()
    }
}

impl Scripts {
    pub(crate) fn new(state: Arc<Mutex<State>>) -> Self {
        Self { state, host: None }
    }

    /// `EVAL script numkeys …`, after the name.
    pub(crate) fn eval(&mut self, args: &[&[u8]], read_only: bool) -> Reply {
        let [body, rest @ ..] = args else {
            return Err(error::syntax());
        };
        let (keys, argv) = split_keys(rest)?;
        let host = self.host()?;
        let sha = hex_sha1(body);
        let flags = host.compile(&sha, body, Origin::Eval)?;
        host.execute(&sha, flags, keys, argv, read_only)
    }

    /// `EVALSHA sha numkeys …`, after the name.
    pub(crate) fn eval_sha(&mut self, args: &[&[u8]], read_only: bool) -> Reply {
        let [sha, rest @ ..] = args else {
            return Err(error::syntax());
        };
        let sha = match std::str::from_utf8(sha) {
            Ok(sha) if sha.len() == 40 => sha.to_ascii_lowercase(),
            _ => return Err(error::no_script()),
        };
        let (keys, argv) = split_keys(rest)?;
        let host = self.host()?;
        let flags = host.known.note_use(&sha, Origin::Eval);
        let flags = flags.ok_or_else(error::no_script)?;
        host.execute(&sha, flags, keys, argv, read_only)
    }

    /// Whether a full server refuses this command, which may run a script, with these arguments: a script whose first line
    /// says neither that it writes nothing nor that it may write without memory.
    pub(crate) fn needs_memory(&self, command: SessionCommand, args: &[&[u8]]) -> bool {
        let Some(script) = args.first() else {
            return false;
        };
        let flags = match command {
            SessionCommand::Eval { .. } => split_shebang(script).ok().map(|(_, flags)| flags),
            SessionCommand::EvalSha { .. } => {
                let sha = String::from_utf8_lossy(script).to_ascii_lowercase();
                self.host.as_ref().and_then(|host| host.known.flags(&sha))
            }
            _ => None,
        };
        flags.is_some_and(Flags::needs_memory)
    }

    /// `SCRIPT …`, after the name.
    pub(crate) fn command(&mut self, args: &[&[u8]]) -> Reply {
        match args {
            [name, body] if is(name, "LOAD") => {
                let sha = hex_sha1(body);
                self.host()?.compile(&sha, body, Origin::Load)?;
                Ok(Value::bulk(sha))
            }
            [name, shas @ ..] if is(name, "EXISTS") => {
                let host = self.host.as_ref();
                let known = shas.iter().map(|sha| {
                    let sha = String::from_utf8_lossy(sha).to_ascii_lowercase();
                    let known = host.is_some_and(|host| host.known.flags(&sha).is_some());
                    Value::Int(known.into())
                });
                Ok(Value::Array(known.collect()))
            }
            [name, mode @ ..] if is(name, "FLUSH") => match mode {
                [] => self.flush(),
                [mode] if is(mode, "SYNC") || is(mode, "ASYNC") => self.flush(),
                _ => Err(error::err("SCRIPT FLUSH only support SYNC|ASYNC option")),
            },
            [name] if is(name, "KILL") => Err(ServerError::new(
                "NOTBUSY",
                "No scripts in execution right now.",
            )),
            _ => Err(error::syntax()),
        }
    }

    fn flush(&mut self) -> Reply {
        self.forget();
        Ok(Value::Ok)
    }

    /// Forgets all scripts. A new Lua state comes with the next one.
    pub(crate) fn forget(&mut self) {
        self.host = None;
    }

    fn host(&mut self) -> Result<&mut Host, ServerError> {
        let mut host = match self.host.take() {
            Some(host) => host,
            None => Host::start(&self.state)
                .map_err(|error| error::err(format!("Error starting Lua: {error}")))?,
        };
        host.make_room()?;
        Ok(self.host.insert(host))
    }
}

impl Host {
    fn start(state: &Arc<Mutex<State>>) -> mlua::Result<Self> {
        let run = Arc::new(Mutex::new(Run {
            protocol: Protocol::Resp2,
            read_only: false,
            allows_full: false,
            has_written: false,
            deadline: Instant::now(),
        }));
        let sandbox = sandbox::start(state, &run)?;
        Ok(Self {
            known: Known::new(sandbox.lua.create_table()?),
            lua: sandbox.lua,
            globals: sandbox.globals,
            runner: sandbox.runner,
            run,
            baseline: 0,
        })
    }

    /// Lua 5.1 does not collect its garbage when memory runs out; what one script left behind must
    /// not be missing in the next. Garbage is collected when half of the memory that the known scripts leave is in use:
    /// to collect it before every call, beside many of them, would go through all of them in vain.
    fn make_room(&mut self) -> Result<(), ServerError> {
        if self.lua.used_memory() <= self.baseline.midpoint(MEMORY_LIMIT) {
            return Ok(());
        }
        self.collect_garbage()
            .map_err(|error| error::err(format!("Error collecting garbage: {error}")))
    }

    /// The memory that is in use after this belongs to the scripts that are known, with the constants in their texts: when
    /// it is too much, the older half of the scripts that came by `EVAL` is forgotten.
    fn collect_garbage(&mut self) -> mlua::Result<()> {
        // The arguments of the last call are no part of its script.
        without_limit(&self.lua, || {
            self.globals.raw_set("KEYS", mlua::Value::Nil)?;
            self.globals.raw_set("ARGV", mlua::Value::Nil)
        })?;
        self.lua.gc_collect()?;
        if self.lua.used_memory() > MEMORY_LIMIT / 2 && self.known.has_evaluated() {
            let known = &mut self.known;
            without_limit(&self.lua, || known.forget_older_half())?;
            self.lua.gc_collect()?;
        }
        self.baseline = self.lua.used_memory();
        Ok(())
    }

    fn compile(&mut self, sha: &str, body: &[u8], origin: Origin) -> Result<Flags, ServerError> {
        if let Some(flags) = self.known.note_use(sha, origin) {
            return Ok(flags);
        }
        let (code, flags) = split_shebang(body)?;
        let refused =
            |text: String| error::err(format!("Error compiling script (new function): {text}"));
        let function = self
            .lua
            .load(code)
            .set_name("@user_script")
            .set_mode(mlua::chunk::ChunkMode::Text)
            .into_function()
            .map_err(|error| match &error {
                mlua::Error::SyntaxError { message, .. } => refused(message.clone()),
                other => refused(other.to_string()),
            })?;
        let known = &mut self.known;
        without_limit(&self.lua, || known.add(sha, function, flags, origin))
            .map_err(|error| refused(error.to_string()))?;
        Ok(flags)
    }

    fn execute(
        &self,
        sha: &str,
        flags: Flags,
        keys: &[&[u8]],
        argv: &[&[u8]],
        read_only: bool,
    ) -> Reply {
        if read_only && flags.writes == Writes::Allowed {
            return Err(error::err(
                "Can not execute a script with write flag using *_ro command.",
            ));
        }
        *self.run.lock() = Run {
            protocol: Protocol::Resp2,
            read_only: read_only || flags.writes == Writes::Forbidden,
            allows_full: flags.allows_full,
            has_written: false,
            deadline: Instant::now() + TIME_LIMIT,
        };
        self.call(sha, keys, argv)
            .unwrap_or_else(|error| Err(raise::reply(&error, sha)))
    }

    fn call(&self, sha: &str, keys: &[&[u8]], argv: &[&[u8]]) -> mlua::Result<Reply> {
        let function = without_limit(&self.lua, || {
            self.globals.raw_set("KEYS", self.strings(keys)?)?;
            self.globals.raw_set("ARGV", self.strings(argv)?)?;
            self.known.function(sha)
        })?;
        let (done, result): (bool, mlua::Value) = self.runner.call(&function)?;
        match done {
            true => {
                let protocol = self.run.lock().protocol;
                without_limit(&self.lua, || convert::to_reply(result, protocol))
            }
            false => Ok(Err(raise::uncaught(&result, sha))),
        }
    }

    fn strings(&self, items: &[&[u8]]) -> mlua::Result<Table> {
        convert::strings(&self.lua, items.len(), items.iter().copied())
    }
}

/// Runs `action` without the limit on memory. With it, every single step from Rust into Lua is
/// guarded against running out, which costs more than the step; what Rust puts there is no larger
/// than what is stored or was sent, and the script's next allocation meets the limit again.
fn without_limit<R>(lua: &Lua, action: impl FnOnce() -> mlua::Result<R>) -> mlua::Result<R> {
    let limit = lua.set_memory_limit(0)?;
    let result = action();
    lua.set_memory_limit(limit)?;
    result
}

/// Splits `numkeys key … arg …`.
fn split_keys<'a, 'b>(args: &'a [&'b [u8]]) -> Result<Split<'a, 'b>, ServerError> {
    let (number, rest) = args.split_first().ok_or_else(error::syntax)?;
    let number = usize::try_from(integer(number)?)
        .map_err(|_| error::err("Number of keys can't be negative"))?;
    rest.split_at_checked(number)
        .ok_or_else(|| error::err("Number of keys can't be greater than number of args"))
}

/// Cuts off a first line `#!lua flags=…`, and gives what it says.
fn split_shebang(body: &[u8]) -> Result<(&[u8], Flags), ServerError> {
    let Some(after) = body.strip_prefix(b"#!") else {
        let unsaid = Flags {
            writes: Writes::Unsaid,
            allows_full: false,
        };
        return Ok((body, unsaid));
    };
    let Some(end) = after.iter().position(|&b| b == b'\n') else {
        return Err(error::err("Invalid script shebang"));
    };
    let (line, code) = after.split_at(end);
    let line = String::from_utf8_lossy(line);
    let mut words = line.split_ascii_whitespace();
    let engine = words.next().unwrap_or_default();
    if engine != "lua" {
        return Err(error::err(format!(
            "Unexpected engine in script shebang: {engine}"
        )));
    }
    let mut flags = Flags {
        writes: Writes::Allowed,
        allows_full: false,
    };
    for word in words {
        let Some(given) = word.strip_prefix("flags=") else {
            return Err(error::err(format!("Unknown lua shebang option: {word}")));
        };
        for flag in given.split(',').filter(|flag| !flag.is_empty()) {
            match flag {
                "no-writes" => flags.writes = Writes::Forbidden,
                "allow-oom" => flags.allows_full = true,
                "allow-stale" | "no-cluster" | "allow-cross-slot-keys" => {}
                _ => {
                    return Err(error::err(format!(
                        "Unexpected flag in script shebang: {flag}"
                    )));
                }
            }
        }
    }
    Ok((code, flags))
}

fn hex_sha1(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let digest = Sha1::digest(bytes);
    digest
        .iter()
        .flat_map(|byte| [byte >> 4, byte & 15])
        .filter_map(|nibble| DIGITS.get(usize::from(nibble)))
        .map(|&digit| char::from(digit))
        .collect()
}
