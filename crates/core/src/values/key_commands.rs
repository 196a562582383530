//! Keys of any type.

use std::time::{Duration, SystemTime};

use super::expiry::{ExpireIf, Ttl, millis, millis_since_epoch, wrong};
use super::key::ToKey;
use super::key_type::KeyType;
use super::same_slot::check_same_slot;
use crate::client::Client;
use crate::command::Command;
use crate::error::Error;
use crate::keys::Key;

/// Keys of any type. Each is one round trip, O(1) unless it says otherwise, to the node that has
/// the key.
impl Client {
    /// Whether there is such a key.
    ///
    /// # Errors
    /// [`Error::Call`] when there is no answer.
    pub async fn exists(&self, key: impl ToKey) -> Result<bool, Error> {
        self.call(Command::new("EXISTS").key(key.to_key(self)))
            .await
    }

    /// Deletes a key, and says whether it was there. The server frees large ones in the background
    /// (`UNLINK`).
    ///
    /// # Errors
    /// [`Error::Call`] when there is no answer; it is not sent twice, because the second answer
    /// would be wrong.
    pub async fn delete(&self, key: impl ToKey) -> Result<bool, Error> {
        self.call(Command::new("UNLINK").key(key.to_key(self)))
            .await
    }

    /// Marks a key as used, for servers that evict what was not used for long, and says whether it
    /// is there.
    ///
    /// # Errors
    /// [`Error::Call`] when there is no answer.
    pub async fn touch(&self, key: impl ToKey) -> Result<bool, Error> {
        let command = Command::new("TOUCH").key(key.to_key(self));
        self.call(command.idempotent(true)).await
    }

    /// Lets a key expire after this time, rounded up to the millisecond; `false` when there is no
    /// such key.
    ///
    /// # Errors
    /// [`Error::Call`] before anything is sent for a time of zero or more than 1,000 years, and when
    /// there is no answer; it is not sent twice, because the second could hit a newer value.
    pub async fn expire(&self, key: impl ToKey, ttl: Duration) -> Result<bool, Error> {
        let command = self.expiring(key, ttl)?;
        self.call(command).await
    }

    /// [`expire`](Self::expire) under a condition; `false` also when that does not hold.
    ///
    /// # Errors
    /// As [`expire`](Self::expire).
    pub async fn expire_if(
        &self,
        key: impl ToKey,
        ttl: Duration,
        condition: ExpireIf,
    ) -> Result<bool, Error> {
        let command = self.expiring(key, ttl)?;
        self.call(command.arg(condition.word())).await
    }

    /// Lets a key expire at this time, by the server's clock: at once when that is past. `false`
    /// when there is no such key.
    ///
    /// # Errors
    /// [`Error::Call`] before anything is sent for a time before 1970 or after 2970, and when there
    /// is no answer.
    pub async fn expire_at(&self, key: impl ToKey, time: SystemTime) -> Result<bool, Error> {
        let command = self.expiring_at(key, time)?;
        self.call(command).await
    }

    /// [`expire_at`](Self::expire_at) under a condition; `false` also when that does not hold.
    ///
    /// # Errors
    /// As [`expire_at`](Self::expire_at).
    pub async fn expire_at_if(
        &self,
        key: impl ToKey,
        time: SystemTime,
        condition: ExpireIf,
    ) -> Result<bool, Error> {
        let command = self.expiring_at(key, time)?;
        self.call(command.arg(condition.word())).await
    }

    /// Lets a key stay for ever; `false` when there is no such key or it did not expire.
    ///
    /// # Errors
    /// [`Error::Call`] when there is no answer.
    pub async fn persist(&self, key: impl ToKey) -> Result<bool, Error> {
        self.call(Command::new("PERSIST").key(key.to_key(self)))
            .await
    }

    /// What is left of a key's time.
    ///
    /// # Errors
    /// [`Error::Call`] when there is no answer.
    pub async fn ttl(&self, key: impl ToKey) -> Result<Ttl, Error> {
        let left = self
            .call(Command::new("PTTL").key(key.to_key(self)))
            .await?;
        Ok(Ttl::from_millis(left))
    }

    /// The type of a key's content; `None` when there is no such key.
    ///
    /// # Errors
    /// [`Error::Call`] when there is no answer.
    pub async fn kind(&self, key: impl ToKey) -> Result<Option<KeyType>, Error> {
        let name: String = self
            .call(Command::new("TYPE").key(key.to_key(self)))
            .await?;
        Ok(KeyType::parse(&name))
    }

    /// Gives a key another name, under which whatever was there is lost. O(1), and what is freed.
    ///
    /// # Errors
    /// [`Error::Call`] before anything is sent when the names are in different slots of a cluster,
    /// and when the codec encrypts, because the values would not open under the new name; the
    /// server's error when there is no such key.
    pub async fn rename(&self, from: impl ToKey, to: impl ToKey) -> Result<(), Error> {
        self.call(self.two_names("RENAME", from, to)?).await
    }

    /// [`rename`](Self::rename) unless the new name is taken: `false` then.
    ///
    /// # Errors
    /// As [`rename`](Self::rename).
    pub async fn rename_if_free(&self, from: impl ToKey, to: impl ToKey) -> Result<bool, Error> {
        self.call(self.two_names("RENAMENX", from, to)?).await
    }

    /// Copies a key's content, with its time to live, unless the name is taken or there is nothing
    /// to copy: `false` then. O(N) in the content.
    ///
    /// # Errors
    /// As [`rename`](Self::rename), but a key that is not there is no error.
    pub async fn copy(&self, from: impl ToKey, to: impl ToKey) -> Result<bool, Error> {
        self.call(self.two_names("COPY", from, to)?).await
    }

    /// [`copy`](Self::copy) over whatever was there; `false` when there is nothing to copy.
    ///
    /// # Errors
    /// As [`copy`](Self::copy).
    pub async fn copy_over(&self, from: impl ToKey, to: impl ToKey) -> Result<bool, Error> {
        self.call(self.two_names("COPY", from, to)?.arg("REPLACE"))
            .await
    }

    fn expiring(&self, key: impl ToKey, ttl: Duration) -> Result<Command, Error> {
        let millis = millis("PEXPIRE", ttl)?;
        Ok(Command::new("PEXPIRE").key(key.to_key(self)).arg(millis))
    }

    fn expiring_at(&self, key: impl ToKey, time: SystemTime) -> Result<Command, Error> {
        let millis = millis_since_epoch("PEXPIREAT", time)?;
        Ok(Command::new("PEXPIREAT").key(key.to_key(self)).arg(millis))
    }

    fn two_names(
        &self,
        name: &'static str,
        from: impl ToKey,
        to: impl ToKey,
    ) -> Result<Command, Error> {
        if self.codec().is_encrypting() {
            return Err(wrong(
                name,
                "encrypted values are bound to their key's name and would not open under another; \
                 read the value and write it there",
            ));
        }
        let (from, to): (Key, Key) = (from.to_key(self), to.to_key(self));
        check_same_slot(self, name, [from.as_bytes(), to.as_bytes()])?;
        Ok(Command::new(name).key(&from).key(&to))
    }
}
