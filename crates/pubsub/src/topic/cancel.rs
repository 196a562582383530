//! [`Topic::cancel`]: a message that waits for its time is not to come.

use std::time::Duration;

use redkit_core::Script;
use redkit_core::coordination::Token;

use super::Topic;
use super::scripts::ENTRY;
use crate::error::Error;
use crate::scripts::millis;

static CANCEL: Script = Script::of_parts(&[ENTRY, include_str!("../scripts/topic_cancel.lua")]);

/// For how long the server knows of a call that it was carried out: calls are repeated for seconds.
const KNOWN_FOR: Duration = Duration::from_secs(300);

impl<T> Topic<T> {
    /// Cancels the message with this [id](super::Publication::id) and [key](super::Publication::key) (an empty one when it
    /// was published without) that waits for its time. Gives whether it did: of a message that is due just now, either
    /// this is true, or the message is delivered, and never both. Then the id is not known any more, and can be published again;
    /// what [`KeepLast`](super::Deduplication::KeepLast) kept behind the message is cancelled with it.
    ///
    /// False for a message that was delivered, or cancelled before, and for one that there never was.
    ///
    /// ```
    /// use std::time::Duration;
    /// use redkit_pubsub::topic::{Publication, Topic};
    /// # use redkit_core::{Client, ClientConfig};
    /// # use redkit_embedded::Embedded;
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let client = Client::from_backend(std::sync::Arc::new(Embedded::new()), &ClientConfig::default())?;
    /// let orders: Topic<String> = Topic::builder(&client, "orders").build()?;
    /// let reminder = Publication::new().id("order-7-unpaid").delay(Duration::from_secs(3600));
    /// orders.publish_with("remind", reminder).await?;
    /// // It was paid in time.
    /// assert!(orders.cancel("order-7-unpaid", "").await?);
    /// assert!(!orders.cancel("order-7-unpaid", "").await?);
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// [`Error::Core`] when Redis could not be asked: then the message may have been cancelled, and calling once more
    /// gives false if it was.
    pub async fn cancel(&self, id: &str, key: impl AsRef<[u8]>) -> Result<bool, Error> {
        let inner = &self.inner;
        let Some(partition) = inner.partition_of(key.as_ref(), id) else {
            return Ok(false);
        };
        let keys = [
            &partition.delayed,
            &partition.bodies,
            &partition.record(id.as_bytes()),
            &partition.cancelled(Token::random()),
        ];
        let call = CANCEL.invoke(keys).arg(id).arg(millis(KNOWN_FOR));
        Ok(inner.client.eval::<u64>(call.idempotent(true)).await? == 1)
    }
}
