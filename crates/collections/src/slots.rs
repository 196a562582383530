//! Whether one operation may name several keys.

use redkit_core::{Client, Command, Key, Topology, slot};

use crate::error::Error;

/// On a cluster, refuses a command whose keys lie on different slots, before it is sent. (The
/// client would refuse it too; this says which keys.)
pub(crate) fn check(client: &Client, command: &Command) -> Result<(), Error> {
    if client.topology() != Topology::Cluster {
        return Ok(());
    }
    let mut keys = command.keys();
    let Some(first) = keys.next() else {
        return Ok(());
    };
    match keys.find(|key| slot(key) != slot(first)) {
        None => Ok(()),
        Some(second) => Err(Error::CrossSlot {
            first: Key::from_raw(first.to_vec()),
            second: Key::from_raw(second.to_vec()),
        }),
    }
}
