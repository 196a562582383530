//! Times to live of single fields, where the server has them.

use std::borrow::Borrow;
use std::time::Duration;

use redkit_core::{Command, Script, ToArg, Ttl};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::Hash;
use crate::encoding::encode;
use crate::error::Error;
use crate::handle::bytes_of;
use crate::lifetime::{milliseconds, script_args, time_left};

static SET_EXPIRING: Script = Script::new(include_str!("../scripts/set_expiring.lua"));

/// Fields that expire by themselves, on Redis from 7.4 on and Valkey from 9.0 on.
///
/// Setting a field anew takes its time to live away again, except by
/// [`set_expiring`](Hash::set_expiring).
impl<V, F> Hash<V, F> {
    /// Gives fields that are there a time to live; says of each whether it was there.
    ///
    /// # Errors
    /// [`Error::Unsupported`] on older servers; [`Error::Invalid`] for a time under a millisecond.
    pub async fn expire_fields<N: ToArg>(
        &self,
        fields: impl IntoIterator<Item = N>,
        time: Duration,
    ) -> Result<Vec<bool>, Error> {
        let millis = milliseconds("time", time)?;
        let command = self.handle.command("HPEXPIRE").arg(millis);
        let replies = self.of_fields(command, fields).await?;
        Ok(replies.into_iter().map(|reply| reply > 0).collect())
    }

    /// How long fields still live.
    ///
    /// # Errors
    /// [`Error::Unsupported`] on older servers.
    pub async fn fields_time_left<N: ToArg>(
        &self,
        fields: impl IntoIterator<Item = N>,
    ) -> Result<Vec<Ttl>, Error> {
        let replies = self.of_fields(self.handle.command("HPTTL"), fields).await?;
        Ok(replies.into_iter().map(time_left).collect())
    }

    /// Takes fields' time to live away; says of each whether it had one.
    ///
    /// # Errors
    /// [`Error::Unsupported`] on older servers.
    pub async fn persist_fields<N: ToArg>(
        &self,
        fields: impl IntoIterator<Item = N>,
    ) -> Result<Vec<bool>, Error> {
        let command = self.handle.command("HPERSIST");
        let replies = self.of_fields(command, fields).await?;
        Ok(replies.into_iter().map(|reply| reply > 0).collect())
    }

    async fn of_fields<N: ToArg>(
        &self,
        command: Command,
        fields: impl IntoIterator<Item = N>,
    ) -> Result<Vec<i64>, Error> {
        let fields: Vec<Vec<u8>> = fields.into_iter().map(bytes_of).collect();
        if fields.is_empty() {
            return Ok(Vec::new());
        }
        self.require_field_expiry()?;
        let command = command.arg("FIELDS").arg(fields.len()).args(&fields);
        let replies: Vec<i64> = self
            .handle
            .call(command)
            .await
            .map_err(|error| self.without_field_expiry(error))?;
        // Of a key that is not there some servers say so once, not once per field.
        Ok(match replies.len() == fields.len() {
            true => replies,
            false => vec![-2; fields.len()],
        })
    }

    /// Refuses before anything is sent, when it is known what the server can do.
    fn require_field_expiry(&self) -> Result<(), Error> {
        let capabilities = self.handle.client.capabilities();
        match capabilities.field_expiry || capabilities.version == (0, 0, 0) {
            true => Ok(()),
            false => Err(self.unsupported()),
        }
    }

    /// A server that was not known yet may turn out not to know the command.
    fn without_field_expiry(&self, error: Error) -> Error {
        let unknown = error.replied().is_some_and(|error| {
            let message = error.message().to_ascii_lowercase();
            message.contains("unknown") && message.contains("command")
        });
        match unknown {
            true => self.unsupported(),
            false => error,
        }
    }

    fn unsupported(&self) -> Error {
        let capabilities = self.handle.client.capabilities();
        let (major, minor, patch) = capabilities.version;
        Error::Unsupported {
            what: "a time to live of single fields",
            needs: "Redis 7.4 or Valkey 9.0",
            found: format!("{:?} {major}.{minor}.{patch}", capabilities.server).into(),
        }
    }
}

impl<V: Serialize + DeserializeOwned, F> Hash<V, F> {
    /// Sets a field together with its own time to live, in one step; says whether it is new.
    ///
    /// # Errors
    /// [`Error::Unsupported`] on older servers, and nothing is written;
    /// [`Error::Invalid`] for a time under a millisecond.
    pub async fn set_expiring<Q>(
        &self,
        field: impl ToArg,
        value: &Q,
        time: Duration,
    ) -> Result<bool, Error>
    where
        V: Borrow<Q>,
        Q: Serialize + ?Sized,
    {
        let field_millis = milliseconds("time", time)?;
        self.require_field_expiry()?;
        let field = bytes_of(field);
        let raw = encode(&self.handle.client, self.places().of(&field), value)?;
        let (millis, policy) = script_args(self.handle.ttl);
        let call = SET_EXPIRING
            .invoke([&self.handle.key])
            .arg(field)
            .arg(raw)
            .arg(field_millis)
            .arg(millis)
            .arg(policy);
        let result = self.handle.client.eval(call).await;
        result.map_err(|error| self.without_field_expiry(error.into()))
    }
}
