//! How many keys there are, and one of them by chance.

use bytes::Bytes;

use crate::client::Client;
use crate::command::Command;
use crate::error::Error;

/// What [`Client::random_key`] came to.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum RandomKey {
    /// A key, without the namespace.
    Key(Bytes),
    /// The server has no keys at all.
    Empty,
    /// Every key drawn was of another namespace. There may be keys of this one all the same.
    OthersOnly {
        /// How many were drawn.
        draws: u32,
    },
}

/// How often a key is drawn at most.
const DRAWS: u32 = 64;

/// Numbers of keys.
impl Client {
    /// How many keys the server has, of every namespace; on a cluster all masters together, each
    /// asked at the same time. O(1). For one namespace see [`Scan::count_keys`](crate::Scan).
    ///
    /// # Errors
    /// [`Error::Call`] when there is no answer, on a cluster from one of the masters.
    pub async fn dbsize(&self) -> Result<u64, Error> {
        self.call(Command::new("DBSIZE")).await
    }

    /// A key of this namespace by chance, where most keys are of this namespace: servers draw from
    /// all of their keys, so up to 64 are drawn, in rounds of 8, until one fits. Where others'
    /// keys are in the majority it does not find one, and says so.
    ///
    /// What is drawn is not evenly distributed: the server prefers keys that lie alone in its
    /// table, and on a cluster a key on a node with few of them is likelier. One round trip for a
    /// round; on a cluster 8, one after the other, each to all masters at once: up to 64 in all.
    ///
    /// # Errors
    /// [`Error::Call`] when there is no answer.
    pub async fn random_key(&self) -> Result<RandomKey, Error> {
        const ROUND: u32 = 8;
        let mut draws = 0;
        while draws < DRAWS {
            let round = (0..ROUND).map(|_| Command::new("RANDOMKEY")).collect();
            for reply in self.pipeline(round).await? {
                let reply = reply.map_err(|error| Error::call("RANDOMKEY", error))?;
                let drawn: Option<Bytes> = super::reply::converted("RANDOMKEY", reply)?;
                let Some(key) = drawn else {
                    return Ok(RandomKey::Empty);
                };
                if let Some(own) = self.strip(&key) {
                    return Ok(RandomKey::Key(key.slice_ref(own)));
                }
            }
            draws += ROUND;
        }
        Ok(RandomKey::OthersOnly { draws })
    }
}
