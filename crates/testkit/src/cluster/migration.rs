//! [`Migration`]: a slot on its way from one master to another.

use crate::admin::{ask, ask_bytes};
use crate::{Cluster, Error, RawReply, Server};

/// How many keys are moved by one `MIGRATE`.
const BATCH: usize = 100;

/// A slot on its way. The source answers `ASK` for keys that are gone already, until
/// [`finish`](Migration::finish). Dropping this leaves the slot half-way.
#[must_use = "the slot stays half-way until `finish`"]
#[derive(Debug)]
pub struct Migration<'a> {
    cluster: &'a Cluster,
    slot: u16,
    from: &'a Server,
    to: &'a Server,
}

impl<'a> Migration<'a> {
    pub(super) async fn begin(
        cluster: &'a Cluster,
        slot: u16,
        from: &'a Server,
        to: &'a Server,
    ) -> Result<Self, Error> {
        let (source, target) = (cluster.id(from).await?, cluster.id(to).await?);
        let number = slot.to_string();
        // The target first: between the two the source would send clients to a node that refuses.
        ask(to, &["CLUSTER", "SETSLOT", &number, "IMPORTING", &source]).await?;
        ask(from, &["CLUSTER", "SETSLOT", &number, "MIGRATING", &target]).await?;
        Ok(Self {
            cluster,
            slot,
            from,
            to,
        })
    }

    /// The slot.
    pub fn slot(&self) -> u16 {
        self.slot
    }

    /// The master that it leaves.
    pub fn from(&self) -> &'a Server {
        self.from
    }

    /// The master that it goes to.
    pub fn to(&self) -> &'a Server {
        self.to
    }

    /// Moves up to `most` keys and gives how many there were to move: 0 when none is left.
    ///
    /// # Errors
    /// [`Error`] when a server does not answer or refuses.
    pub async fn move_some(&self, most: usize) -> Result<usize, Error> {
        let (slot, most) = (self.slot.to_string(), most.to_string());
        let keys = ask(self.from, &["CLUSTER", "GETKEYSINSLOT", &slot, &most]).await?;
        let RawReply::Array(keys) = keys else {
            return Ok(0);
        };
        let keys: Vec<_> = keys
            .into_iter()
            .filter_map(|key| match key {
                RawReply::Bulk(key) => Some(key),
                _ => None,
            })
            .collect();
        for batch in keys.chunks(BATCH) {
            let addr = self.to.addr();
            let (ip, port) = (addr.ip().to_string(), addr.port().to_string());
            // No key here, since they follow; database 0; five seconds.
            let mut command = vec!["MIGRATE", &ip, &port, "", "0", "5000"];
            if let Some(password) = self.to.password() {
                command.extend(["AUTH", password]);
            }
            command.push("KEYS");
            let command = command.into_iter().map(|word| word.as_bytes().to_vec());
            let command = command.chain(batch.iter().cloned()).collect();
            ask_bytes(self.from, command).await?;
        }
        Ok(keys.len())
    }

    /// Moves the keys that are left, and gives the slot to the target: there first, then at the
    /// source, then at the other masters.
    ///
    /// # Errors
    /// [`Error`] when a server does not answer or refuses.
    pub async fn finish(self) -> Result<(), Error> {
        while self.move_some(BATCH).await? > 0 {}
        let masters = self.cluster.masters().await?;
        let others = masters
            .into_iter()
            .filter(|master| ![self.from.addr(), self.to.addr()].contains(&master.addr()));
        let (slot, target) = (self.slot.to_string(), self.cluster.id(self.to).await?);
        for node in [self.to, self.from].into_iter().chain(others) {
            ask(node, &["CLUSTER", "SETSLOT", &slot, "NODE", &target]).await?;
        }
        Ok(())
    }
}
