//! Scripts for dead letters.

use std::time::Duration;

use bytes::Bytes;
use redkit_core::coordination::lua;
use redkit_core::{Script, Value};

use super::partition::Partition;
use super::reply::{Reply, wrong};
use crate::error::Error;

static LETTERS: Script = Script::new(include_str!("../../scripts/write_behind/letters.lua"));
static REDRIVE: Script = Script::of_parts(&[
    lua::WAKE_UP,
    include_str!("../../scripts/write_behind/redrive.lua"),
]);
static DISCARD: Script = Script::new(include_str!("../../scripts/write_behind/discard.lua"));

/// A dead letter as it is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in super::super) struct Letter {
    pub(in super::super) key: Bytes,
    pub(in super::super) is_superseded: bool,
    pub(in super::super) version: u64,
    /// Since 1970, on the server's clock.
    pub(in super::super) died: Duration,
    pub(in super::super) attempts: u32,
    pub(in super::super) error: String,
    /// `v` and the value, or `d`.
    pub(in super::super) change: Bytes,
}

impl Partition {
    /// At most `count` letters after the key.
    pub(in super::super) async fn letters(
        &self,
        after: Option<&[u8]>,
        count: usize,
    ) -> Result<Vec<Letter>, Error> {
        let bound = match after {
            None => b"-".to_vec(),
            Some(key) => [b"(", key].concat(),
        };
        let call = LETTERS
            .invoke([&self.keys.dead, &self.keys.letters])
            .arg(bound)
            .arg(count)
            .idempotent(true);
        let mut reply = Reply::new(self.client.eval::<Vec<Value>>(call).await?);
        let mut letters = Vec::new();
        while !reply.is_empty() {
            let (key, letter) = (reply.next()?, reply.next()?);
            let letter = parse(key, letter).ok_or_else(|| wrong("a dead letter", "other bytes"))?;
            letters.push(letter);
        }
        Ok(letters)
    }

    /// How many were put back, were written since, and were not found. Doing it twice puts back
    /// once; only the count is then another.
    pub(in super::super) async fn redrive(&self, keys: &[Bytes]) -> Result<[u64; 3], Error> {
        let own = &self.keys;
        let call = REDRIVE
            .invoke([
                &own.state,
                &own.changes,
                &own.age,
                &own.ready,
                &own.tries,
                &own.dead,
                &own.letters,
            ])
            .arg(&self.wake_ups.channel)
            .arg(&self.wake_ups.due)
            .idempotent(true);
        let call = keys.iter().fold(call, |call, key| call.arg(key));
        let mut reply = Reply::new(self.client.eval::<Vec<Value>>(call).await?);
        Ok([reply.next()?, reply.next()?, reply.next()?])
    }

    /// How many there were.
    pub(in super::super) async fn discard(&self, keys: &[Bytes]) -> Result<u64, Error> {
        if keys.is_empty() {
            return Ok(0);
        }
        let call = DISCARD
            .invoke([&self.keys.dead, &self.keys.letters])
            .idempotent(true);
        let call = keys.iter().fold(call, |call, key| call.arg(key));
        Ok(self.client.eval(call).await?)
    }
}

fn parse(key: Bytes, letter: Bytes) -> Option<Letter> {
    let mut rest = letter.clone();
    let mut word = || {
        let end = rest.iter().position(|&b| b == b' ')?;
        let word = rest.split_to(end);
        rest = rest.slice(1..);
        String::from_utf8(word.into()).ok()
    };
    let is_superseded = word()? == "s";
    let version = word()?.parse().ok()?;
    let died = Duration::from_micros(word()?.parse().ok()?);
    let attempts = word()?.parse().ok()?;
    let length: usize = word()?.parse().ok()?;
    let error = String::from_utf8_lossy(rest.get(..length)?).into_owned();
    Some(Letter {
        key,
        is_superseded,
        version,
        died,
        attempts,
        error,
        change: rest.slice(length..),
    })
}
