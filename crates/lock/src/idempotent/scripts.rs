//! The scripts of idempotent executions: the only place that orders their arguments and reads their
//! replies.

use std::time::Duration;

use bytes::Bytes;
use redkit_core::coordination::{LeaseRenewal, Token, lua};
use redkit_core::{Error as CoreError, FromValue, Invocation, Key, Script, Value, ValueError};

use crate::confirmation::Wire;
use crate::time::micros;

static BEGIN: Script =
    Script::of_parts(&[lua::CLOCK, include_str!("../scripts/idempotent_begin.lua")]);
static RENEW: Script =
    Script::of_parts(&[lua::CLOCK, include_str!("../scripts/idempotent_renew.lua")]);
static FINISH: Script =
    Script::of_parts(&[lua::CLOCK, include_str!("../scripts/idempotent_finish.lua")]);
static FORGET: Script = Script::new(include_str!("../scripts/idempotent_forget.lua"));

/// What the server says to a call.
#[derive(PartialEq, Eq)]
pub(super) enum Begin {
    Begun,
    InFlight,
    OtherFingerprint,
    Ended(Bytes),
    NotKept,
}

pub(super) async fn begin(
    wire: &Wire<'_>,
    key: &Key,
    token: Token,
    fingerprint: &str,
    lease: Duration,
) -> Result<Begin, CoreError> {
    let call = BEGIN
        .invoke([key])
        .arg(token)
        .arg(fingerprint)
        .arg(micros(lease));
    // By its token it begins once.
    let reply = wire.eval(call.idempotent(true)).await?;
    let reply = reply.to::<Vec<Value>>().map_err(unexpected)?;
    let mut reply = reply.into_iter();
    let status = reply.next();
    Ok(match (status, reply.next()) {
        (Some(Value::Int(1)), _) => Begin::Begun,
        (Some(Value::Int(3)), _) => Begin::OtherFingerprint,
        (Some(Value::Int(4)), Some(result)) => {
            Begin::Ended(Bytes::from_value(result).map_err(unexpected)?)
        }
        (Some(Value::Int(5)), _) => Begin::NotKept,
        _ => Begin::InFlight,
    })
}

fn unexpected(error: ValueError) -> CoreError {
    CoreError::Reply {
        command: "EVALSHA".into(),
        error,
    }
}

/// The reply is 1 when the result is kept.
pub(super) fn finish(
    key: &Key,
    token: Token,
    keep_for: Duration,
    result: Option<Bytes>,
) -> Invocation {
    let millis = u64::try_from(keep_for.as_millis()).unwrap_or(u64::MAX);
    let call = FINISH.invoke([key]).arg(token).arg(millis).idempotent(true);
    match result {
        Some(result) => call.arg(result),
        None => call,
    }
}

/// Reads the reply to [`finish`]: whether the result is kept.
pub(super) fn finished(reply: Result<Value, CoreError>) -> Result<bool, CoreError> {
    let kept = reply?.to::<i64>().map_err(unexpected)?;
    Ok(kept == 1)
}

/// The reply is 1 when there was something. Without a token it forgets whatever is there.
pub(super) fn forget(key: &Key, token: Option<Token>) -> Invocation {
    let token = token.map(|token| token.to_string());
    FORGET
        .invoke([key])
        .arg(token.as_deref().unwrap_or_default())
        .idempotent(true)
}

/// Renews the lease of a runner.
pub(super) struct Renewal {
    key: Key,
    token: Token,
}

impl Renewal {
    pub(super) fn new(key: &Key, token: Token) -> Self {
        Self {
            key: key.clone(),
            token,
        }
    }
}

impl LeaseRenewal for Renewal {
    fn renew(&self, ttl: Duration) -> Invocation {
        RENEW.invoke([&self.key]).arg(self.token).arg(micros(ttl))
    }
}
