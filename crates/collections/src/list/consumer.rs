//! [`ListConsumer`]: waiting for a list's items.

use std::fmt;
use std::time::Duration;

use bytes::Bytes;
use redkit_core::Command;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::{End, List};
use crate::blocking::{Line, seconds};
use crate::encoding::decode_taken;
use crate::error::Error;

/// Waits for items of a list, on a connection of its own that it keeps, so that nobody else waits
/// with it. When the connection is lost the next call makes another.
///
/// ```no_run
/// use std::time::Duration;
/// use redkit_collections::{End, List, Occurrences};
///
/// # async fn example(client: redkit_core::Client) -> Result<(), redkit_collections::Error> {
/// let jobs: List<String> = List::new(&client, "{jobs}:waiting");
/// let mine: List<String> = List::new(&client, "{jobs}:in-progress:worker-1");
///
/// let mut consumer = jobs.consumer().await?;
/// loop {
///     let next = consumer.move_to(&mine, End::Front, End::Back, Duration::from_secs(5)).await?;
///     if let Some(job) = next {
///         println!("working on {job}");
///         mine.remove(&job, Occurrences::First(1)).await?; // done
///     }
/// }
/// # }
/// ```
///
/// # What can be lost
/// `pop_front` and `pop_back` take an item and then send it. It is lost when the connection breaks
/// in between (the call ends with an error for which [`Error::is_maybe`] holds), when the process
/// dies, and when the call's future is dropped, as in a `select!`, at the moment an item arrives.
/// Dropping it while nothing arrives is fine; the consumer then goes on with a new connection. A
/// server that hangs may carry a wait out, and take an item, after it was given up here.
///
/// `move_to` loses nothing: the item goes into a list of work in progress in the same step, and is
/// there in all of these cases. Remove it there when the work is done; what a dead worker left
/// behind goes back with [`List::move_to`]. After an error for which `is_maybe` holds, look there.
///
/// # Cost and cluster
/// One round trip per call, and one connection. In a cluster the connection is to the node that
/// serves the list, and moves with it; both lists of `move_to` need the same slot.
///
/// Every call ends by its wait and a [margin](Self::margin) of 1 s.
pub struct ListConsumer<T> {
    list: List<T>,
    line: Line,
}

impl<T> List<T> {
    /// A consumer that waits for this list's items, on a connection of its own.
    ///
    /// # Errors
    /// [`Error::Core`] when the connection cannot be made.
    pub async fn consumer(&self) -> Result<ListConsumer<T>, Error> {
        Ok(ListConsumer {
            line: Line::open(&self.handle.client, self.key()).await?,
            list: self.clone(),
        })
    }
}

impl<T: Serialize + DeserializeOwned> ListConsumer<T> {
    /// How much longer than its wait a call may take, for the way there and back: half of it for
    /// making a connection, if need be. Default: 1 s; at most a day.
    #[must_use]
    pub fn margin(mut self, margin: Duration) -> Self {
        self.line.set_margin(margin);
        self
    }

    /// Takes the first item; waits for one until `wait` is over. A wait of zero is none.
    ///
    /// # Errors
    /// [`Error::Core`]: see what can be lost, above. [`Error::Undecodable`] for an item that is not
    /// a `T`; [`Error::Invalid`] for a wait of more than a day.
    pub async fn pop_front(&mut self, wait: Duration) -> Result<Option<T>, Error> {
        Ok(self.pop(End::Front, 1, wait).await?.pop())
    }

    /// Takes the last item; waits for one until `wait` is over. A wait of zero is none.
    ///
    /// # Errors
    /// As [`pop_front`](Self::pop_front).
    pub async fn pop_back(&mut self, wait: Duration) -> Result<Option<T>, Error> {
        Ok(self.pop(End::Back, 1, wait).await?.pop())
    }

    /// Takes up to `count` items from an end, the outermost first; waits for one until `wait` is
    /// over. A wait of zero is none.
    ///
    /// # Errors
    /// As [`pop_front`](Self::pop_front); [`Error::Invalid`] when `count` is 0.
    pub async fn pop_many(
        &mut self,
        end: End,
        count: u32,
        wait: Duration,
    ) -> Result<Vec<T>, Error> {
        if count == 0 {
            return Err(Error::invalid("count", "it is zero", "give at least one"));
        }
        self.pop(end, count, wait).await
    }

    /// Moves an item to another list; waits for one until `wait` is over. A wait of zero is none.
    ///
    /// # Errors
    /// As [`pop_front`](Self::pop_front) and [`List::move_to`]. [`Error::Invalid`] when the other
    /// list's handle has a time to live: a command that waits cannot set one in the same step.
    pub async fn move_to(
        &mut self,
        target: &List<T>,
        from: End,
        to: End,
        wait: Duration,
    ) -> Result<Option<T>, Error> {
        let list = &self.list;
        if target.handle.ttl.is_some() {
            let problem = "it has a time to live, which a move that waits cannot set in one step";
            let fix = "give a list without; set a time with `List::move_to`, which does not wait";
            return Err(Error::invalid("target", problem, fix));
        }
        list.check_move(target)?;
        let taken: Option<Bytes> = self
            .line
            .call(wait, |left| match left.is_zero() {
                true => list.move_command("LMOVE", target, from, to),
                false => list
                    .move_command("BLMOVE", target, from, to)
                    .arg(seconds(left)),
            })
            .await?;
        list.open_taken(taken)
    }

    async fn pop(&mut self, end: End, count: u32, wait: Duration) -> Result<Vec<T>, Error> {
        let key = self.list.key();
        let taken: Option<(Bytes, Vec<Bytes>)> = self
            .line
            .call(wait, |left| {
                let command = match left.is_zero() {
                    true => Command::new("LMPOP"),
                    false => Command::new("BLMPOP").arg(seconds(left)),
                };
                let command = command.arg(1).key(key).arg(end.word());
                command.arg("COUNT").arg(count)
            })
            .await?;
        let taken = taken.map(|(_, items)| items).unwrap_or_default();
        decode_taken(&self.list.handle.client, self.list.place(), taken)
    }
}

impl<T> fmt::Debug for ListConsumer<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ListConsumer")
            .field("list", &self.list)
            .finish_non_exhaustive()
    }
}
