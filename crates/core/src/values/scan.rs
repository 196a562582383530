//! [`Scan`]: the keys of the namespace, page by page, from every master.

use std::collections::VecDeque;
use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use futures_core::Stream;
use futures_util::StreamExt;
use futures_util::stream::{self, BoxStream};

use super::group::Grouping;
use super::key_type::KeyType;
use super::pattern::Pattern;
use super::sweep::Sweep;
use crate::client::Client;
use crate::command::Command;
use crate::error::Error;

/// Going through keys.
impl Client {
    /// The keys of this namespace that match, to be streamed, counted, grouped or deleted. Nothing
    /// is sent before that.
    ///
    /// ```
    /// # use redkit_core::{Client, ClientConfig};
    /// use redkit_core::Pattern;
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), redkit_core::Error> {
    /// # let engine = std::sync::Arc::new(redkit_embedded::Embedded::new());
    /// # let client = Client::from_backend(engine, &ClientConfig::default())?;
    /// client.set("cart:1", &1).await?;
    /// let mut keys = client.scan(Pattern::prefix("cart:")).keys();
    /// while let Some(key) = keys.next().await {
    ///     println!("{}", key?.escape_ascii());
    /// }
    /// let swept = client.scan(Pattern::prefix("cart:")).delete().run().await;
    /// assert!(swept.is_complete() && swept.deleted == 1);
    /// # Ok(()) }
    /// ```
    pub fn scan(&self, pattern: Pattern) -> Scan {
        Scan {
            client: self.clone(),
            pattern,
            kind: None,
            page: PAGE,
        }
    }
}

/// How many keys a server looks at for one page.
const PAGE: u32 = 1000;

/// A scan: see [`Client::scan`]. It goes through one master after the other with `SCAN`, never
/// `KEYS`.
///
/// **What it sees.** A key that is there from beginning to end is seen at least once; it may be
/// seen *twice*, when the server's table grows or shrinks meanwhile. Keys that come or go meanwhile
/// may be seen or not. On a cluster, a master that fails over and a slot that is given to another
/// master meanwhile would mean keys that are never seen; the scan then ends with an error
/// ([`FaultKind::LayoutChanged`](crate::FaultKind::LayoutChanged), retryable): scan again from the
/// beginning. What goes unnoticed are keys of a slot whose move began and did not end during the
/// scan.
///
/// **Cost.** The servers go through all of their keys, those of other namespaces too: one round
/// trip per [page](Scan::page), O(1) per key there is; on a cluster one more at the end, to see that
/// its layout is still the same. In memory here: one page.
///
/// **Errors.** Every page is a call like any other: it has a deadline, and is repeated when it got
/// no answer. When that was in vain the error comes as an item, and the stream ends with it.
#[derive(Clone)]
pub struct Scan {
    client: Client,
    pattern: Pattern,
    kind: Option<KeyType>,
    page: u32,
}

impl Scan {
    /// Only keys of this type.
    #[must_use]
    pub fn kind(mut self, kind: KeyType) -> Self {
        self.kind = Some(kind);
        self
    }

    /// How many keys a server looks at for one page (`COUNT`), at least 1; 1,000 at first. Larger
    /// pages need fewer round trips and hold up other callers for longer, about a microsecond per
    /// key.
    #[must_use]
    pub fn page(mut self, keys: u32) -> Self {
        self.page = keys.max(1);
        self
    }

    /// The keys, without the namespace. See [`Scan`] for what may come twice.
    pub fn keys(self) -> ScanStream {
        let client = self.client.clone();
        let strip = move |key: Bytes| {
            let own = client.strip(&key)?;
            Some(key.slice_ref(own))
        };
        let state = (Pages::new(self), VecDeque::<Bytes>::new());
        let keys = stream::unfold(state, move |(mut pages, mut page)| {
            let strip = strip.clone();
            async move {
                loop {
                    if let Some(key) = page.pop_front() {
                        match strip(key) {
                            Some(own) => return Some((Ok(own), (pages, page))),
                            None => continue,
                        }
                    }
                    match pages.next().await {
                        Some(Ok(keys)) => page = keys.into(),
                        Some(Err(error)) => return Some((Err(error), (pages, page))),
                        None => return None,
                    }
                }
            }
        });
        ScanStream(keys.fuse().boxed())
    }

    /// One page by itself, for a reader who pages on later: the keys, without the namespace, and the cursor of the next
    /// page, if there is one. The first page has the cursor 0. A page may be empty, and a reader who pages on
    /// after the layout of a cluster has changed is not told.
    ///
    /// # Errors
    /// [`Error::Call`] when the page could not be had.
    pub async fn page_from(&self, cursor: u64) -> Result<(Vec<Bytes>, Option<u64>), Error> {
        let command = self.command(cursor);
        let (next, keys) = self.client.call::<(u64, Vec<Bytes>)>(command).await?;
        let own = keys.iter().filter_map(|key| {
            let own = self.client.strip(key)?;
            Some(key.slice_ref(own))
        });
        Ok((own.collect(), Some(next).filter(|&next| next != 0)))
    }

    /// How many keys match; those that are seen twice are counted twice.
    ///
    /// # Errors
    /// [`Error::Call`] when a page could not be had.
    pub async fn count_keys(self) -> Result<u64, Error> {
        let mut pages = Pages::new(self);
        let mut count = 0;
        while let Some(page) = pages.next().await {
            count += page?.len() as u64;
        }
        Ok(count)
    }

    /// Deletes the keys that match: see [`Sweep`].
    pub fn delete(self) -> Sweep {
        Sweep::new(self)
    }

    /// Groups the keys by the part that the pattern [captures](Pattern::capture).
    pub fn group(self) -> Grouping {
        Grouping::new(self)
    }

    pub(super) fn client(&self) -> &Client {
        &self.client
    }

    pub(super) fn pattern(&self) -> &Pattern {
        &self.pattern
    }

    fn command(&self, cursor: u64) -> Command {
        let mut command = Command::new("SCAN").arg(cursor);
        let prefix = self.client.prefix();
        if !(prefix.is_empty() && self.pattern.is_all()) {
            command = command.arg("MATCH").arg(self.pattern.glob_in(prefix));
        }
        command = command.arg("COUNT").arg(self.page);
        match &self.kind {
            Some(kind) => command.arg("TYPE").arg(kind.name()),
            None => command,
        }
    }
}

impl fmt::Debug for Scan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Scan")
            .field("namespace", &self.client.namespace())
            .field("pattern", &self.pattern.to_string())
            .field("kind", &self.kind)
            .field("page", &self.page)
            .finish()
    }
}

/// Full names, page by page.
pub(super) struct Pages {
    scan: Scan,
    /// `None` after the last page and after an error.
    cursor: Option<u64>,
}

impl Pages {
    pub(super) fn new(scan: Scan) -> Self {
        Self {
            scan,
            cursor: Some(0),
        }
    }

    /// The next page, which may be empty; `None` after the last, and after an error.
    pub(super) async fn next(&mut self) -> Option<Result<Vec<Bytes>, Error>> {
        let command = self.scan.command(self.cursor.take()?);
        match self.scan.client.call::<(u64, Vec<Bytes>)>(command).await {
            Ok((cursor, keys)) => {
                self.cursor = Some(cursor).filter(|&cursor| cursor != 0);
                Some(Ok(keys))
            }
            Err(error) => Some(Err(error)),
        }
    }
}

/// The keys of a [`Scan`]: a [`Stream`], with a [`next`](ScanStream::next) of its own for programs
/// without the traits. Dropping it ends the scan.
#[must_use = "nothing is sent before the stream is polled"]
pub struct ScanStream(BoxStream<'static, Result<Bytes, Error>>);

impl ScanStream {
    /// The next key; an error is the last item. Dropping the future loses nothing but a page that
    /// was on its way.
    pub async fn next(&mut self) -> Option<Result<Bytes, Error>> {
        StreamExt::next(&mut self.0).await
    }
}

impl Stream for ScanStream {
    type Item = Result<Bytes, Error>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.0.poll_next_unpin(context)
    }
}

impl fmt::Debug for ScanStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ScanStream")
    }
}
