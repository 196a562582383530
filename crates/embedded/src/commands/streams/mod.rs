//! Streams.

mod add;
mod claims;
mod groups;
mod info;
mod options;
mod range;
mod read;

use redkit_core::ServerError;

use super::Spec;
use crate::state::State;
use crate::value::stream::Stream;
use crate::value::stream::group::Group;

pub(super) const COMMANDS: [&[Spec]; 6] = [
    add::COMMANDS,
    range::COMMANDS,
    read::COMMANDS,
    groups::COMMANDS,
    claims::COMMANDS,
    info::COMMANDS,
];

fn text(bytes: &[u8]) -> std::borrow::Cow<'_, str> {
    String::from_utf8_lossy(bytes)
}

/// Milliseconds since the Unix epoch, as ids have them.
fn now(state: &State) -> u64 {
    u64::try_from(state.db.now()).unwrap_or(0)
}

fn no_such_group(key: &[u8], group: &[u8]) -> ServerError {
    ServerError::new(
        "NOGROUP",
        format!(
            "No such key '{}' or consumer group '{}'",
            text(key),
            text(group)
        ),
    )
}

/// A group that must exist.
fn group_of<'s>(
    state: &'s mut State,
    key: &[u8],
    group: &[u8],
) -> Result<&'s mut Group, ServerError> {
    state
        .db
        .edit::<Stream>(key)?
        .and_then(|stream| stream.groups.get_mut(group))
        .ok_or_else(|| no_such_group(key, group))
}
