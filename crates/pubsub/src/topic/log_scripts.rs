//! The script by which a log is read without a group.

use redkit_core::coordination::lua;
use redkit_core::{Invocation, Script};

use super::keys::Partition;
use super::scripts::{DELAYED, ENTRY, FINISH, MOST_READ};
use crate::inbox::ItemId;

static READ: Script = Script::of_parts(&[
    lua::CLOCK,
    ENTRY,
    FINISH,
    DELAYED,
    include_str!("../scripts/topic_read.lua"),
]);

/// How many entries of a log are read at once.
const PAGE: u32 = 100;

/// Reads a log behind an entry, up to which so many had ever been added.
pub(crate) fn read_log(partition: &Partition, after: ItemId, count: u64) -> Invocation {
    let call = read_script(partition).arg(after.to_string());
    let call = call.arg(count).arg(PAGE).arg(MOST_READ);
    call.idempotent(true)
}

/// Where a log ends.
pub(crate) fn end_of_log(partition: &Partition) -> Invocation {
    let call = read_script(partition).arg("$").arg(0);
    call.arg(0).arg(0).idempotent(true)
}

fn read_script(partition: &Partition) -> Invocation {
    READ.invoke([&partition.stream, &partition.delayed, &partition.bodies])
}
