//! [`Script`]: a Lua script that is sent by its hash. The text is sent only when a server does not
//! have it yet, or no longer: after `SCRIPT FLUSH`, a restart or a failover.

use std::sync::OnceLock;

use sha1::{Digest, Sha1};

use tokio::time::Instant;

use crate::command::{Command, ToArg};

/// A Lua script. Keep one in a `static`, with its text in a `.lua` file of its own:
///
/// ```
/// use redkit_core::Script;
///
/// static ADD_IF_BELOW: Script = Script::new(
///     "local n = tonumber(redis.call('GET', KEYS[1]) or 0)
///      if n + ARGV[1] > tonumber(ARGV[2]) then return -1 end
///      return redis.call('INCRBY', KEYS[1], ARGV[1])",
/// );
/// # async fn example(client: redkit_core::Client) -> Result<(), redkit_core::Error> {
/// let total: i64 = client
///     .eval(ADD_IF_BELOW.invoke([client.key("stock")]).arg(3).arg(10))
///     .await?;
/// # Ok(()) }
/// ```
///
/// A script whose parts several scripts share is put together by [`Script::of_parts`]; the parts
/// that core offers are in [`coordination::lua`](crate::coordination::lua).
#[derive(Debug)]
pub struct Script {
    parts: Parts,
    sha: OnceLock<Box<str>>,
}

#[derive(Debug)]
enum Parts {
    One(&'static str),
    /// The parts, and the text that they make together.
    Several(&'static [&'static str], OnceLock<Box<str>>),
}

impl Script {
    /// From the script's text.
    pub const fn new(source: &'static str) -> Self {
        Self {
            parts: Parts::One(source),
            sha: OnceLock::new(),
        }
    }

    /// From several texts, one below the other: local functions first, and last the part that
    /// calls them.
    ///
    /// ```
    /// use redkit_core::Script;
    /// use redkit_core::coordination::lua;
    ///
    /// static NOW: Script = Script::of_parts(&[lua::CLOCK, "return now"]);
    /// ```
    pub const fn of_parts(parts: &'static [&'static str]) -> Self {
        Self {
            parts: Parts::Several(parts, OnceLock::new()),
            sha: OnceLock::new(),
        }
    }

    /// The text.
    pub fn source(&self) -> &str {
        match &self.parts {
            Parts::One(source) => source,
            Parts::Several(parts, whole) => whole.get_or_init(|| parts.join("\n").into()),
        }
    }

    /// The SHA-1 of the text in hexadecimal, by which servers know it.
    pub fn sha(&self) -> &str {
        self.sha.get_or_init(|| {
            let digest = Sha1::digest(self.source().as_bytes());
            digest
                .iter()
                .map(|byte| format!("{byte:02x}"))
                .collect::<String>()
                .into()
        })
    }

    /// Starts a call of the script with its `KEYS`, which must share a slot on a cluster.
    pub fn invoke<K: ToArg>(
        &'static self,
        keys: impl IntoIterator<Item = K, IntoIter: ExactSizeIterator>,
    ) -> Invocation {
        let keys = keys.into_iter();
        let command = Command::with_capacity("EVALSHA", 128)
            .arg(self.sha())
            .arg(keys.len());
        Invocation {
            script: self,
            command: keys.fold(command, Command::key),
        }
    }
}

/// One call of a [`Script`], for [`Client::eval`](crate::Client::eval).
#[derive(Debug, Clone)]
pub struct Invocation {
    script: &'static Script,
    command: Command,
}

impl Invocation {
    /// Adds one of the script's `ARGV`.
    #[must_use]
    pub fn arg(mut self, arg: impl ToArg) -> Self {
        self.command.push(arg);
        self
    }

    /// Says whether running the script twice is as good as once: see [`Command::idempotent`].
    #[must_use]
    pub fn idempotent(mut self, idempotent: bool) -> Self {
        self.command = self.command.idempotent(idempotent);
        self
    }

    /// Sets the instant after which no reply is waited for: see [`Command::deadline`].
    #[must_use]
    pub fn deadline(mut self, deadline: Instant) -> Self {
        self.command = self.command.deadline(deadline);
        self
    }

    /// The hash of the script that is called.
    pub(crate) fn sha(&self) -> &str {
        self.script.sha()
    }

    /// The command that calls the script by its hash.
    pub fn by_hash(&self) -> &Command {
        &self.command
    }

    pub(crate) fn by_hash_mut(&mut self) -> &mut Command {
        &mut self.command
    }

    /// The command that carries the script's text, after which the server knows its hash.
    pub fn by_source(&self) -> Command {
        let source = self.script.source();
        let start = Command::with_capacity("EVAL", source.len() + self.command.byte_len());
        let keys = self.command.keys().count();
        let command =
            self.command
                .iter()
                .skip(1)
                .enumerate()
                .fold(start.arg(source), |command, (i, arg)| match i {
                    i if (1..=keys).contains(&i) => command.key(arg),
                    _ => command.arg(arg),
                });
        command.like(&self.command)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    static SCRIPT: Script = Script::new("return {KEYS[1], ARGV[1]}");

    #[test]
    fn both_forms_carry_the_same_keys_and_arguments() {
        let invocation = SCRIPT.invoke(["k1", "k2"]).arg("a").idempotent(true);
        let (hash, source) = (invocation.by_hash(), invocation.by_source());
        assert_eq!((hash.name(), source.name()), ("EVALSHA", "EVAL"));
        assert_eq!(hash.get(0), Some(SCRIPT.sha().as_bytes()));
        assert_eq!(source.get(0), Some(SCRIPT.source().as_bytes()));
        assert!(hash.iter().skip(1).eq(source.iter().skip(1)));
        assert!(hash.keys().eq(source.keys()) && source.is_idempotent());
        assert_eq!(hash.keys().count(), 2);
        assert_eq!(SCRIPT.sha().len(), 40);
    }

    #[test]
    fn a_script_of_parts_is_their_text_line_by_line() {
        static PARTS: Script = Script::of_parts(&["local one = 1", "return one"]);
        static WHOLE: Script = Script::new("local one = 1\nreturn one");
        assert_eq!(PARTS.source(), WHOLE.source());
        assert_eq!(PARTS.sha(), WHOLE.sha());
    }
}
