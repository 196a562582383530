//! Several sets at once.

use redkit_core::{Command, Key};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::Set;
use crate::error::Error;
use crate::handle::check_slots;
use crate::write::Shape;

/// Operations on several sets. What stores replaces what was in the set, its time to live
/// included; without members in the result the set is gone. With a time to live it takes up to
/// 7,000 arguments, sets and weights together; more are refused before anything is sent.
impl<T: Serialize + DeserializeOwned> Set<T> {
    /// The members of this set or of any of the others.
    ///
    /// # Errors
    /// [`Error::Core`] when the sets lie on different slots of a cluster.
    pub async fn union<'s>(
        &self,
        others: impl IntoIterator<Item = &'s Set<T>>,
    ) -> Result<Vec<T>, Error>
    where
        T: 's,
    {
        self.read(self.with_others("SUNION", others)?).await
    }

    /// The members of this set that all of the others have too.
    ///
    /// # Errors
    /// [`Error::Core`] when the sets lie on different slots of a cluster.
    pub async fn intersection<'s>(
        &self,
        others: impl IntoIterator<Item = &'s Set<T>>,
    ) -> Result<Vec<T>, Error>
    where
        T: 's,
    {
        self.read(self.with_others("SINTER", others)?).await
    }

    /// The members of this set that none of the others has.
    ///
    /// # Errors
    /// [`Error::Core`] when the sets lie on different slots of a cluster.
    pub async fn difference<'s>(
        &self,
        others: impl IntoIterator<Item = &'s Set<T>>,
    ) -> Result<Vec<T>, Error>
    where
        T: 's,
    {
        self.read(self.with_others("SDIFF", others)?).await
    }

    /// How many members of this set all of the others have too, counted to `limit` at most.
    ///
    /// # Errors
    /// [`Error::Core`] when the sets lie on different slots of a cluster.
    pub async fn intersection_len<'s>(
        &self,
        others: impl IntoIterator<Item = &'s Set<T>>,
        limit: Option<u32>,
    ) -> Result<usize, Error>
    where
        T: 's,
    {
        // To the server zero means without a limit.
        if limit == Some(0) {
            return Ok(0);
        }
        let mut sets: Vec<&Key> = vec![self.key()];
        for other in others {
            self.handle.check_same_client(&other.handle)?;
            sets.push(other.key());
        }
        let command = Command::new("SINTERCARD").arg(sets.len()).keys_from(sets);
        let command = command.arg("LIMIT").arg(limit.unwrap_or(0));
        check_slots(&self.handle.client, &command)?;
        self.handle.call(command).await
    }

    /// Makes this set the union of others; gives its number of members.
    ///
    /// # Errors
    /// [`Error::Core`] when the sets lie on different slots of a cluster; [`Error::Invalid`]
    /// when no set is named, or too many are.
    pub async fn store_union<'s>(
        &self,
        sets: impl IntoIterator<Item = &'s Set<T>>,
    ) -> Result<usize, Error>
    where
        T: 's,
    {
        self.store("SUNIONSTORE", sets).await
    }

    /// Makes this set the intersection of others; gives its number of members.
    ///
    /// # Errors
    /// As [`store_union`](Self::store_union).
    pub async fn store_intersection<'s>(
        &self,
        sets: impl IntoIterator<Item = &'s Set<T>>,
    ) -> Result<usize, Error>
    where
        T: 's,
    {
        self.store("SINTERSTORE", sets).await
    }

    /// Makes this set the members of the first of others that no other of them has; gives its
    /// number of members.
    ///
    /// # Errors
    /// As [`store_union`](Self::store_union).
    pub async fn store_difference<'s>(
        &self,
        sets: impl IntoIterator<Item = &'s Set<T>>,
    ) -> Result<usize, Error>
    where
        T: 's,
    {
        self.store("SDIFFSTORE", sets).await
    }

    async fn store<'s>(
        &self,
        name: &str,
        sets: impl IntoIterator<Item = &'s Set<T>>,
    ) -> Result<usize, Error>
    where
        T: 's,
    {
        let command = self.with_others(name, sets)?;
        if command.arg_count() < 2 {
            return Err(Error::invalid("sets", "none is named", "name at least one"));
        }
        self.handle.write(command, Shape::Once).await
    }

    /// A command on this set and others.
    fn with_others<'s>(
        &self,
        name: &str,
        others: impl IntoIterator<Item = &'s Set<T>>,
    ) -> Result<Command, Error>
    where
        T: 's,
    {
        let mut command = self.handle.command(name);
        for other in others {
            self.handle.check_same_client(&other.handle)?;
            command = command.key(other.key());
        }
        check_slots(&self.handle.client, &command)?;
        Ok(command)
    }
}
