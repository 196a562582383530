//! Items that go from one list to another.

use bytes::Bytes;
use serde::Serialize;
use serde::de::DeserializeOwned;

use redkit_core::Command;

use super::{End, List};
use crate::error::Error;
use crate::handle::check_slots;
use crate::write::{Shape, write};

impl<T: Serialize + DeserializeOwned> List<T> {
    /// Moves an item from one end of this list to one end of another, in one step; gives it. At no
    /// moment it is in none or in both. The other list may be this one, which is then rotated.
    /// The other list's time to live applies.
    ///
    /// # Errors
    /// [`Error::Core`] when the lists lie on different slots of a cluster; [`Error::Invalid`]
    /// when they are of different clients; [`Error::Bound`]
    /// when the codec encrypts and binds items of the two lists to different places;
    /// [`Error::Undecodable`] for an item that is not a `T`: it was moved.
    pub async fn move_to(&self, target: &List<T>, from: End, to: End) -> Result<Option<T>, Error> {
        self.check_move(target)?;
        let command = self.move_command("LMOVE", target, from, to);
        let handle = &target.handle;
        let taken: Option<Bytes> = write(
            &self.handle.client,
            &handle.key,
            handle.ttl,
            command,
            Shape::Refusable,
        )
        .await?;
        self.open_taken(taken)
    }

    /// Refuses a move whose items could not be read, or that the cluster would refuse.
    pub(super) fn check_move(&self, target: &List<T>) -> Result<(), Error> {
        self.handle.check_same_client(&target.handle)?;
        let example = self.move_command("LMOVE", target, End::Front, End::Back);
        check_slots(&self.handle.client, &example)?;
        if self.place() != target.place() && self.handle.client.codec().is_encrypting() {
            return Err(Error::Bound {
                from: self.key().clone(),
                to: target.key().clone(),
            });
        }
        Ok(())
    }

    pub(super) fn move_command(&self, name: &str, target: &List<T>, from: End, to: End) -> Command {
        self.handle
            .command(name)
            .key(target.key())
            .arg(from.word())
            .arg(to.word())
    }
}
