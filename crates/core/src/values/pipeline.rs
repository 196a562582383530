//! [`Pipeline`]: typed commands in one round trip.

use std::fmt;
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::key::ToKey;
use super::queue::{Queue, Queued, Replies, queue_commands};
use super::set_options::SetOptions;
use crate::client::Client;
use crate::command::Command;
use crate::error::Error;
use crate::value::FromValue;

/// Commands that are sent together, with an outcome each. Other callers' commands may come in
/// between; for all or nothing see [`Transaction`](crate::Transaction).
///
/// ```
/// # use redkit_core::{Client, ClientConfig};
/// use redkit_core::{Pipeline, SetOptions};
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), redkit_core::Error> {
/// # let engine = std::sync::Arc::new(redkit_embedded::Embedded::new());
/// # let client = Client::from_backend(engine, &ClientConfig::default())?;
/// let mut pipeline = Pipeline::new(&client);
/// let written = pipeline.set("name", "Ada", SetOptions::new());
/// let visits = pipeline.increment("visits", 1);
/// let name = pipeline.get::<String>("name");
///
/// let mut replies = pipeline.send().await?;
/// assert!(replies.take(written)?);
/// assert_eq!(replies.take(visits)?, 1);
/// assert_eq!(replies.take(name)?.as_deref(), Some("Ada"));
/// # Ok(()) }
/// ```
///
/// One round trip; on a cluster one per node that has keys of it, at the same time. The commands
/// of one node keep their order, and so do those of one key, except while its slot moves: what the
/// old node sends on is carried out after the others, which may then include a later command for
/// the same key. Where the order matters all the same, use a [`Transaction`](crate::Transaction). It is
/// held in memory as a whole, so keep it to some thousands.
pub struct Pipeline(Queue);

impl Pipeline {
    /// An empty one.
    pub fn new(client: &Client) -> Self {
        Self(Queue::new(client))
    }

    queue_commands!();

    /// Sends the commands. One that cannot be sent (a value that does not encode, a time of zero)
    /// is left out, and its own outcome says so.
    ///
    /// # Errors
    /// [`Error::Call`] when nothing is known of any of the commands: see [`Client::pipeline`].
    pub async fn send(self) -> Result<Replies, Error> {
        let mut commands: Vec<Command> = self.0.entries.iter().flatten().cloned().collect();
        let replies = match commands.is_empty() {
            true => Vec::new(),
            false => self.0.client.pipeline_ref(&mut commands).await?,
        };
        let named: Vec<_> = commands
            .iter()
            .zip(replies)
            .map(|(command, reply)| reply.map_err(|error| Error::call(command.name(), error)))
            .collect();
        Ok(self.0.replies(commands, named))
    }
}

impl fmt::Debug for Pipeline {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pipeline")
            .field("len", &self.len())
            .finish_non_exhaustive()
    }
}
