//! Publishing. Subscribing is the backend's, because messages need a place to go.

use bytes::Bytes;
use redkit_core::Value;

use super::{Spec, int, read, write};
use crate::args::{is, owned};
use crate::error::{self, Reply};
use crate::glob;
use crate::state::State;

pub(super) const COMMANDS: &[Spec] = &[
    // Messages count as writes: read-only scripts must not send them.
    write("PUBLISH", 3, publish),
    write("SPUBLISH", 3, publish_sharded),
    read("PUBSUB", -2, pubsub).with(&[
        ("CHANNELS", -2),
        ("NUMSUB", -2),
        ("NUMPAT", 2),
        ("SHARDCHANNELS", -2),
        ("SHARDNUMSUB", -2),
    ]),
];

fn publish(state: &mut State, args: &[&[u8]]) -> Reply {
    let [channel, payload] = args else {
        return Err(error::syntax());
    };
    Ok(int(state.pubsub.publish(&owned(channel), &owned(payload))))
}

fn publish_sharded(state: &mut State, args: &[&[u8]]) -> Reply {
    let [channel, payload] = args else {
        return Err(error::syntax());
    };
    Ok(int(state
        .pubsub
        .publish_sharded(&owned(channel), &owned(payload))))
}

fn pubsub(state: &mut State, args: &[&[u8]]) -> Reply {
    let pubsub = &state.pubsub;
    match args {
        [name] if is(name, "CHANNELS") => Ok(names(pubsub.channels(), b"*")),
        [name, pattern] if is(name, "CHANNELS") => Ok(names(pubsub.channels(), pattern)),
        [name] if is(name, "SHARDCHANNELS") => Ok(names(pubsub.sharded_channels(), b"*")),
        [name, pattern] if is(name, "SHARDCHANNELS") => {
            Ok(names(pubsub.sharded_channels(), pattern))
        }
        [name] if is(name, "NUMPAT") => Ok(int(pubsub.patterns())),
        [name, channels @ ..] if is(name, "NUMSUB") => {
            Ok(numbers(channels, |channel| pubsub.listening_to(channel)))
        }
        [name, channels @ ..] if is(name, "SHARDNUMSUB") => Ok(numbers(channels, |channel| {
            pubsub.listening_to_sharded(channel)
        })),
        _ => Err(error::syntax()),
    }
}

fn names<'a>(channels: impl Iterator<Item = &'a Bytes>, pattern: &[u8]) -> Value {
    let matching = channels.filter(|channel| glob::matches(pattern, channel));
    Value::Array(matching.cloned().map(Value::Bulk).collect())
}

fn numbers(channels: &[&[u8]], count: impl Fn(&[u8]) -> usize) -> Value {
    let pairs = channels
        .iter()
        .flat_map(|channel| [Value::Bulk(owned(channel)), int(count(channel))]);
    Value::Array(pairs.collect())
}
