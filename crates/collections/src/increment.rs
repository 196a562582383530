//! Increments of integers together with a time to live, by `scripts/increment.lua`.

use redkit_core::{Client, Invocation, Key, Script};

use crate::error::Error;
use crate::lifetime::{Lifetime, script_args};

static INCREMENT: Script = Script::new(include_str!("scripts/increment.lua"));

/// Adds `by` to the integer at `key`, or in its `field`.
pub(crate) async fn increment(
    client: &Client,
    key: &Key,
    field: Option<&[u8]>,
    by: i64,
    ttl: Lifetime,
) -> Result<i64, Error> {
    Ok(client.eval(invocation(key, field, by, ttl)).await?)
}

/// The call of the script.
pub(crate) fn invocation(key: &Key, field: Option<&[u8]>, by: i64, ttl: Lifetime) -> Invocation {
    let (millis, policy) = script_args(Some(ttl));
    let call = INCREMENT.invoke([key]).arg(by).arg(millis).arg(policy);
    match field {
        Some(field) => call.arg(field),
        None => call,
    }
}
