//! Scans and pages: collections of any size in bounded memory.

use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::vec::IntoIter;

use bytes::Bytes;
use futures_core::Stream;
use futures_util::stream::unfold;
use redkit_core::{ToArg, escape_glob};

use crate::error::Error;
use crate::handle::{Handle, bytes_of};

/// What a scan looks for, and how much it asks for at a time.
///
/// Of a hash the pattern is matched against field names, of sets and sorted sets against members
/// as they are stored: with JSON the text `abc` is stored as `"abc"`, with its quotes.
#[derive(Debug, Clone, Default)]
#[must_use = "it is an argument of `scan`"]
pub struct Scan {
    pattern: Option<Vec<u8>>,
    count: Option<usize>,
}

impl Scan {
    /// Everything.
    pub fn all() -> Self {
        Self::default()
    }

    /// What matches a glob, in which `*`, `?`, `[…]` and `\` have their meaning.
    pub fn matching(glob: impl ToArg) -> Self {
        Self {
            pattern: Some(bytes_of(glob)),
            count: None,
        }
    }

    /// What begins with these bytes, taken literally.
    pub fn prefix(literal: impl ToArg) -> Self {
        let mut pattern = escape_glob(&bytes_of(literal));
        pattern.push(b'*');
        Self::matching(pattern)
    }

    /// About how many items the server looks at per round trip: more is faster, and blocks the
    /// server longer at a time. Default: 100. Zero counts as one.
    pub fn count(mut self, count: usize) -> Self {
        self.count = Some(count.max(1));
        self
    }
}

const DEFAULT_COUNT: usize = 100;

/// A collection's items, one page at a time: a [`Stream`], and [`next`](Self::next) for who needs
/// no more. It holds one page in memory, and asks for the next when that is used up.
///
/// An item that cannot be decoded is an error, after which the stream goes on; after any other
/// error it ends.
#[must_use = "streams do nothing unless polled"]
pub struct Scanned<T> {
    inner: Pin<Box<dyn Stream<Item = Result<T, Error>> + Send>>,
}

impl<T> Scanned<T> {
    /// The next item; `None` after the last.
    pub async fn next(&mut self) -> Option<Result<T, Error>> {
        std::future::poll_fn(|cx| self.inner.as_mut().poll_next(cx)).await
    }

    /// Everything that is left, in memory; the first error in its place.
    pub async fn collect(mut self) -> Result<Vec<T>, Error> {
        let mut items = Vec::new();
        while let Some(item) = self.next().await {
            items.push(item?);
        }
        Ok(items)
    }
}

impl<T> Stream for Scanned<T> {
    type Item = Result<T, Error>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.inner.as_mut().poll_next(cx)
    }
}

impl<T> fmt::Debug for Scanned<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Scanned").finish_non_exhaustive()
    }
}

/// One page, and what to ask for after it; `None` after the last.
pub(crate) struct Page<C> {
    pub(crate) items: Vec<Bytes>,
    pub(crate) next: Option<C>,
}

/// A stream over pages. `decode` takes the items that make up one of the stream's.
pub(crate) fn paged<T, C, F, Fut, D>(start: C, fetch: F, decode: D) -> Scanned<T>
where
    C: Send + 'static,
    F: Fn(C) -> Fut + Send + 'static,
    Fut: Future<Output = Result<Page<C>, Error>> + Send + 'static,
    D: FnMut(&mut IntoIter<Bytes>) -> Option<Result<T, Error>> + Send + 'static,
    T: 'static,
{
    let state = (Vec::new().into_iter(), Some(start), fetch, decode);
    let stream = unfold(state, |(mut items, mut next, fetch, mut decode)| async {
        loop {
            if let Some(item) = decode(&mut items) {
                return Some((item, (items, next, fetch, decode)));
            }
            match fetch(next.take()?).await {
                Ok(page) => (items, next) = (page.items.into_iter(), page.next),
                Err(error) => {
                    return Some((Err(error), (Vec::new().into_iter(), None, fetch, decode)));
                }
            }
        }
    });
    Scanned {
        inner: Box::pin(stream),
    }
}

/// A stream over `HSCAN`, `SSCAN` or `ZSCAN`.
pub(crate) fn scanned<T: 'static>(
    handle: &Handle,
    name: &'static str,
    scan: Scan,
    decode: impl FnMut(&mut IntoIter<Bytes>) -> Option<Result<T, Error>> + Send + 'static,
) -> Scanned<T> {
    let handle = handle.clone();
    let fetch = move |cursor: String| {
        let mut command = handle.command(name).arg(&cursor);
        if let Some(pattern) = &scan.pattern {
            command = command.arg("MATCH").arg(pattern);
        }
        command = command
            .arg("COUNT")
            .arg(scan.count.unwrap_or(DEFAULT_COUNT));
        let handle = handle.clone();
        async move {
            let (cursor, items) = handle.call::<(String, Vec<Bytes>)>(command).await?;
            let next = (cursor != "0").then_some(cursor);
            Ok(Page { items, next })
        }
    };
    paged("0".to_owned(), fetch, decode)
}
