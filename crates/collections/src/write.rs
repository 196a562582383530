//! Writes: as they are, or with a time to live by `scripts/write.lua`.

use redkit_core::{Client, Command, FromValue, Invocation, Key, Script};

use crate::error::Error;
use crate::lifetime::{Lifetime, script_args};

static WRITE: Script = Script::new(include_str!("scripts/write.lua"));

/// The most words of a command that a script can pass on at once, as in `scripts/write.lua`.
const MOST: usize = 7_000;

/// What a write's reply means, and whether it can be carried out in parts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Shape {
    /// A fixed number of arguments.
    Once,
    /// The same; nothing, 0 and -1 say that nothing was done.
    Refusable,
    /// After this many words come items; the reply counts some of them.
    Sum(usize),
    /// After this many words come items; the reply is a state.
    Last(usize),
    /// After this many words come items; the reply counts those that did something. If none did,
    /// nothing was done.
    Changed(usize),
    /// The same for a sorted set, which is asked for, while the reply counts its new members.
    Grown(usize),
}

/// Carries out a write on `key`.
pub(crate) async fn write<R: FromValue>(
    client: &Client,
    key: &Key,
    ttl: Option<Lifetime>,
    command: Command,
    shape: Shape,
) -> Result<R, Error> {
    let Some(ttl) = ttl else {
        return Ok(client.call(command).await?);
    };
    let is_whole = matches!(shape, Shape::Once | Shape::Refusable);
    if is_whole && command.arg_count() > MOST {
        let problem = format!("{} with a time to live, over {MOST}", command.arg_count());
        let fix = "name fewer keys, or use a handle without a time to live";
        return Err(Error::invalid("the number of arguments", problem, fix));
    }
    Ok(client.eval(invocation(key, ttl, &command, shape)).await?)
}

/// The call of the script that does the same as `command` and gives `key` its time.
pub(crate) fn invocation(key: &Key, ttl: Lifetime, command: &Command, shape: Shape) -> Invocation {
    let mut keys = vec![key.as_bytes()];
    keys.extend(command.keys().filter(|other| *other != key.as_bytes()));
    let (word, head) = match shape {
        Shape::Once => ("once", 0),
        Shape::Refusable => ("refusable", 0),
        Shape::Sum(head) => ("sum", head),
        Shape::Last(head) => ("last", head),
        Shape::Changed(head) => ("changed", head),
        Shape::Grown(head) => ("grown", head),
    };
    let (millis, policy) = script_args(Some(ttl));
    let start = WRITE
        .invoke(keys)
        .arg(millis)
        .arg(policy)
        .arg(word)
        .arg(head)
        .arg(command.name())
        .idempotent(command.is_idempotent());
    command.iter().fold(start, Invocation::arg)
}
