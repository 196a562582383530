//! Groups and their consumers: `XGROUP` and `XACK`. What a group knows is not part of the value that
//! `WATCH` and near caches look at, as on the server.

use redkit_core::{ServerError, Value};

use super::super::{Spec, int, write};
use super::text;
use crate::args::{integer, is, owned};
use crate::error::{self, Reply};
use crate::state::State;
use crate::value::stream::Stream;
use crate::value::stream::group::Group;
use crate::value::stream::id::StreamId;

pub(super) const COMMANDS: &[Spec] = &[
    write("XGROUP", -2, xgroup).with(&[
        ("CREATE", -5),
        ("SETID", -5),
        ("DESTROY", 4),
        ("CREATECONSUMER", 5),
        ("DELCONSUMER", 5),
    ]),
    write("XACK", -4, xack),
];

/// The options of `CREATE` and `SETID`.
#[derive(Default)]
struct Options {
    make_stream: bool,
    entries_read: Option<u64>,
}

impl Options {
    fn parse(args: &[&[u8]], subcommand: &[u8], creates: bool) -> Result<Self, ServerError> {
        let mut options = Self::default();
        let mut rest = args;
        loop {
            rest = match rest {
                [] => return Ok(options),
                [option, rest @ ..] if creates && is(option, "MKSTREAM") => {
                    options.make_stream = true;
                    rest
                }
                [option, amount, rest @ ..] if is(option, "ENTRIESREAD") => {
                    options.entries_read = match integer(amount)? {
                        -1 => None,
                        amount => Some(u64::try_from(amount).map_err(|_| {
                            error::err("value for ENTRIESREAD must be positive or -1")
                        })?),
                    };
                    rest
                }
                _ => return Err(error::subcommand_syntax("xgroup", subcommand)),
            };
        }
    }
}

fn xgroup(state: &mut State, args: &[&[u8]]) -> Reply {
    let [subcommand, key, group, rest @ ..] = args else {
        return Err(error::syntax());
    };
    match rest {
        [id, options @ ..] if is(subcommand, "CREATE") => {
            let options = Options::parse(options, subcommand, true)?;
            create(state, key, group, id, &options)
        }
        [id, options @ ..] if is(subcommand, "SETID") => {
            let options = Options::parse(options, subcommand, false)?;
            set_id(state, key, group, id, &options)
        }
        [] if is(subcommand, "DESTROY") => {
            let destroyed = stream_of(state, key)?.groups.remove(*group).is_some();
            if destroyed {
                // Who waits for it is told.
                state.db.observers.ready(key);
            }
            Ok(Value::Int(destroyed.into()))
        }
        [consumer] if is(subcommand, "CREATECONSUMER") => {
            let now = state.db.now();
            let created = group_of(state, key, group)?.add_consumer(&owned(consumer), now);
            Ok(Value::Int(created.into()))
        }
        [consumer] if is(subcommand, "DELCONSUMER") => {
            let pending = group_of(state, key, group)?.remove_consumer(consumer);
            Ok(int(pending))
        }
        _ => Err(error::subcommand_syntax("xgroup", subcommand)),
    }
}

fn create(state: &mut State, key: &[u8], group: &[u8], id: &[u8], options: &Options) -> Reply {
    let present = state.db.view::<Stream>(key)?;
    if present.is_none() && !options.make_stream {
        return Err(no_stream());
    }
    let last = match id {
        b"$" => present.map(Stream::last_id).unwrap_or_default(),
        id => StreamId::parse(id, 0)?,
    };
    if present.is_some_and(|stream| stream.groups.contains_key(group)) {
        return Err(ServerError::new(
            "BUSYGROUP",
            "Consumer Group name already exists",
        ));
    }
    let creates_stream = present.is_none();
    let stream = state.db.edit_or_new::<Stream>(key)?;
    let created = Group::new(last, options.entries_read);
    stream.groups.insert(owned(group), created);
    if creates_stream {
        state.db.changed(key);
    }
    Ok(Value::Ok)
}

fn set_id(state: &mut State, key: &[u8], group: &[u8], id: &[u8], options: &Options) -> Reply {
    let last = stream_of(state, key)?.last_id();
    let group = group_of(state, key, group)?;
    group.last_id = match id {
        b"$" => last,
        b"-" => StreamId::MIN,
        b"+" => StreamId::MAX,
        id => StreamId::parse(id, 0)?,
    };
    group.entries_read = options.entries_read;
    Ok(Value::Ok)
}

fn stream_of<'s>(state: &'s mut State, key: &[u8]) -> Result<&'s mut Stream, ServerError> {
    state.db.edit::<Stream>(key)?.ok_or_else(no_stream)
}

fn group_of<'s>(
    state: &'s mut State,
    key: &[u8],
    group: &[u8],
) -> Result<&'s mut Group, ServerError> {
    let groups = &mut stream_of(state, key)?.groups;
    groups
        .get_mut(group)
        .ok_or_else(|| no_such_group(key, group))
}

pub(super) fn no_such_group(key: &[u8], group: &[u8]) -> ServerError {
    ServerError::new(
        "NOGROUP",
        format!(
            "No such consumer group '{}' for key name '{}'",
            text(group),
            text(key)
        ),
    )
}

fn no_stream() -> ServerError {
    error::err(
        "The XGROUP subcommand requires the key to exist. Note that for CREATE you may want to use the MKSTREAM option to create an empty stream automatically.",
    )
}

fn xack(state: &mut State, args: &[&[u8]]) -> Reply {
    let [key, group, ids @ ..] = args else {
        return Err(error::syntax());
    };
    let group = match state.db.edit::<Stream>(key)? {
        Some(stream) => stream.groups.get_mut(*group),
        None => None,
    };
    let Some(group) = group else {
        return Ok(Value::Int(0));
    };
    let ids = ids
        .iter()
        .map(|id| StreamId::parse(id, 0))
        .collect::<Result<Vec<_>, _>>()?;
    Ok(int(ids
        .into_iter()
        .filter(|id| group.acknowledge(*id))
        .count()))
}
