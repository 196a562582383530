//! The check that the keys of one operation are on one node, before anything is sent.

use crate::backend::Topology;
use crate::client::Client;
use crate::error::Error;
use crate::keys::slot;

use super::expiry::wrong;

/// On a cluster, refuses keys of different slots, by name and with the remedy; elsewhere any keys
/// will do.
///
/// # Errors
/// [`Error::Call`], of which nothing was sent.
pub fn check_same_slot<'k>(
    client: &Client,
    command: &str,
    keys: impl IntoIterator<Item = &'k [u8]>,
) -> Result<(), Error> {
    if client.topology() != Topology::Cluster {
        return Ok(());
    }
    let mut keys = keys.into_iter();
    let Some(first) = keys.next() else {
        return Ok(());
    };
    let slot_of_first = slot(first);
    match keys.find(|key| slot(key) != slot_of_first) {
        None => Ok(()),
        Some(other) => Err(wrong(
            command,
            format!(
                "`{}` is in slot {slot_of_first} of the cluster and `{}` in slot {}; give them a \
                 common hash tag, such as `{{42}}` in `order:{{42}}:total`",
                first.escape_ascii(),
                other.escape_ascii(),
                slot(other)
            ),
        )),
    }
}
