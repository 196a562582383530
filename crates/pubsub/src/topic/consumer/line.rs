//! [`Line`]: a connection of one's own, on which a reader waits at the server for new entries.

use std::time::Duration;

use redkit_core::{Client, Command, Error, Topology};
use tokio::time::Instant;

use crate::topic::entry::{NewEntries, RawEntry};
use crate::topic::scripts::Seat;

#[derive(Default)]
pub(super) struct Line {
    /// Taken out while a command is under way: when that is dropped or gets no reply, so is the connection.
    own: Option<Client>,
}

/// How long a reply may take beyond the wait.
const MARGIN: Duration = Duration::from_secs(2);

impl Line {
    /// Reads new entries; waits for the first of them at most for `wait`.
    pub(super) async fn read(
        &mut self,
        client: &Client,
        seat: &Seat,
        most: usize,
        wait: Option<Duration>,
    ) -> Result<Vec<RawEntry>, Error> {
        let own = match self.own.take() {
            Some(own) => own,
            None => connect(client, seat).await?,
        };
        let read = Command::new("XREADGROUP")
            .arg("GROUP")
            .arg(&*seat.group)
            .arg(&*seat.consumer)
            .arg("COUNT")
            .arg(most);
        let read = match wait {
            Some(wait) => {
                let wait = u64::try_from(wait.as_millis()).unwrap_or(1).max(1);
                read.arg("BLOCK").arg(wait)
            }
            None => read,
        };
        let read = read
            .arg("STREAMS")
            .key(&seat.partition.stream)
            .arg(">")
            .deadline(Instant::now() + wait.unwrap_or_default() + MARGIN);
        let reply = own.call(read).await;
        let is_good = match &reply {
            Ok(_) => true,
            Err(error) => is_group_missing(error),
        };
        if is_good {
            self.own = Some(own);
        }
        reply.map(|NewEntries(entries)| entries)
    }
}

async fn connect(client: &Client, seat: &Seat) -> Result<Client, Error> {
    let own = client.dedicated().await?;
    if client.topology() == Topology::Cluster {
        // The first command makes the connection, and its key says to which node. That is not to be one that
        // waits, whose time would begin late.
        let first = Command::new("EXISTS").key(&seat.partition.stream);
        own.call::<u64>(first).await?;
    }
    Ok(own)
}

/// The server knows no such group, or no such stream.
pub(super) fn is_group_missing(error: &Error) -> bool {
    let replied = error.call_error().and_then(|error| error.server_error());
    replied.is_some_and(|error| error.code() == "NOGROUP" || error.message().contains("NOGROUP"))
}
