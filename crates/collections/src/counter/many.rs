//! [`Counters`]: many counters at once.

use redkit_core::{CallError, Client, Command, Error as CoreError, FromValue, Key, ToKey, Value};

use crate::error::Error;
use crate::increment::invocation;
use crate::lifetime::Lifetime;

/// Many [`Counter`](crate::Counter)s at once, in one round trip, with an answer of its own for
/// each.
///
/// ```
/// use redkit_collections::Counters;
/// # use redkit_core::{Client, ClientConfig};
/// # use redkit_embedded::Embedded;
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let client = Client::from_backend(std::sync::Arc::new(Embedded::new()), &ClientConfig::default())?;
/// let counters = Counters::new(&client);
/// for sum in counters.incr_many([("clicks:home", 1), ("clicks:all", 1)]).await? {
///     println!("{}", sum?);
/// }
/// let sum: i64 = counters.get_many(["clicks:home", "clicks:all"]).await?.into_iter().flatten().sum();
/// assert_eq!(sum, 2);
/// # Ok(()) }
/// ```
///
/// # Cost
/// One round trip for all; with a time to live a second one when a server does not know the script
/// yet. O(1) per counter.
///
/// # Errors
/// The outer error means that nothing is known of any of them; the inner ones are their counter's:
/// [`Error::NotANumber`], [`Error::Overflow`], [`Error::Core`]. They are not a transaction: some
/// can be counted and others not.
///
/// # In a cluster
/// The counters may lie anywhere: each node is sent its part, all at the same time.
#[derive(Debug, Clone)]
pub struct Counters {
    client: Client,
    ttl: Option<Lifetime>,
}

impl Counters {
    /// Counters in the client's namespace.
    pub fn new(client: &Client) -> Self {
        Self {
            client: client.clone(),
            ttl: None,
        }
    }

    /// Gives counters a time to live with these increments, each in one step with its own: see
    /// [`Lifetime`].
    #[must_use]
    pub fn with_ttl(mut self, ttl: Lifetime) -> Self {
        self.ttl = Some(ttl);
        self
    }

    /// What they are, in the order of the keys; 0 for those that are not there.
    pub async fn get_many<K: ToKey>(
        &self,
        keys: impl IntoIterator<Item = K>,
    ) -> Result<Vec<Result<i64, Error>>, Error> {
        let keys: Vec<Key> = keys
            .into_iter()
            .map(|key| key.to_key(&self.client))
            .collect();
        let reads = keys.iter().map(|key| Command::new("GET").key(key));
        let replies = self.send(reads.collect()).await?;
        let values = replies.into_iter().zip(&keys);
        Ok(values
            .map(|(reply, key)| Ok(answer::<Option<i64>>("GET", reply, key)?.unwrap_or(0)))
            .collect())
    }

    /// Adds to each what is given with it; gives the sums, in the order of the keys.
    pub async fn incr_many<K: ToKey>(
        &self,
        increments: impl IntoIterator<Item = (K, i64)>,
    ) -> Result<Vec<Result<i64, Error>>, Error> {
        let increments: Vec<(Key, i64)> = increments
            .into_iter()
            .map(|(key, by)| (key.to_key(&self.client), by))
            .collect();
        let replies = match self.ttl {
            None => {
                let commands = increments
                    .iter()
                    .map(|(key, by)| Command::new("INCRBY").key(key).arg(*by));
                self.send(commands.collect()).await?
            }
            Some(ttl) => {
                let calls = increments
                    .iter()
                    .map(|(key, by)| invocation(key, None, *by, ttl));
                self.client.eval_all(calls).await?
            }
        };
        let sums = replies.into_iter().zip(&increments);
        Ok(sums
            .map(|(reply, (key, _))| answer("INCRBY", reply, key))
            .collect())
    }

    async fn send(&self, commands: Vec<Command>) -> Result<Vec<Result<Value, CallError>>, Error> {
        match commands.is_empty() {
            true => Ok(Vec::new()),
            false => Ok(self.client.pipeline(commands).await?),
        }
    }
}

/// One counter's own answer.
fn answer<N: FromValue>(
    command: &str,
    reply: Result<Value, CallError>,
    key: &Key,
) -> Result<N, Error> {
    let name = || key.to_string().into();
    let value = reply.map_err(|error| {
        let command = command.into();
        Error::Core(CoreError::Call { command, error }).numeric(name)
    })?;
    value.to().map_err(|_| Error::NotANumber { key: name() })
}
