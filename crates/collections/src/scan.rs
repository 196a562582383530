//! Scans and pages: collections of any size in bounded memory.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::task::{Context, Poll};
use std::vec::IntoIter;

use bytes::Bytes;
use futures_core::Stream;
use futures_util::stream::unfold;
use redkit_core::Pattern;

use crate::error::Error;
use crate::handle::Handle;

/// A collection's items, one page at a time: a [`Stream`], and [`next`](Self::next) for a loop that needs
/// no more. Nothing is sent before the first is asked for. It holds one page in memory, and asks
/// for the next when that is used up.
///
/// An item that cannot be decoded is an error, after which the stream goes on; after any other
/// error it ends.
#[must_use = "streams do nothing unless polled"]
pub struct Scanned<T> {
    inner: Pin<Box<dyn Stream<Item = Result<T, Error>> + Send>>,
    page: Arc<AtomicU32>,
}

/// How many items are asked for at a time.
const PAGE: u32 = 100;

impl<T> Scanned<T> {
    /// How many items a page has (of a list), or the server looks at for one (of a hash or set);
    /// 100 at first, and zero counts as one. Larger pages need fewer round trips and hold up the
    /// server for longer at a time.
    pub fn page(self, items: u32) -> Self {
        self.page.store(items.max(1), Ordering::Relaxed);
        self
    }

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

/// A stream over pages. `fetch` is told where a page starts and how long it is; `decode` takes the
/// items that make up one of the stream's.
pub(crate) fn paged<T, C, F, Fut, D>(start: C, fetch: F, decode: D) -> Scanned<T>
where
    C: Send + 'static,
    F: Fn(C, u32) -> Fut + Send + 'static,
    Fut: Future<Output = Result<Page<C>, Error>> + Send + 'static,
    D: FnMut(&mut IntoIter<Bytes>) -> Option<Result<T, Error>> + Send + 'static,
    T: 'static,
{
    let page = Arc::new(AtomicU32::new(PAGE));
    let len = Arc::clone(&page);
    let fetch = move |start| fetch(start, len.load(Ordering::Relaxed));
    let state = (Vec::new().into_iter(), Some(start), fetch, decode);
    let stream = unfold(state, |(mut items, mut next, fetch, mut decode)| async {
        loop {
            if let Some(item) = decode(&mut items) {
                return Some((item, (items, next, fetch, decode)));
            }
            match fetch(next.take()?).await {
                Ok(page) => (items, next) = (page.items.into_iter(), page.next),
                Err(error) => {
                    let ended = (Vec::new().into_iter(), None, fetch, decode);
                    return Some((Err(error), ended));
                }
            }
        }
    });
    Scanned {
        inner: Box::pin(stream),
        page,
    }
}

/// A stream over `HSCAN`, `SSCAN` or `ZSCAN`.
pub(crate) fn scanned<T: 'static>(
    handle: &Handle,
    name: &'static str,
    pattern: &Pattern,
    decode: impl FnMut(&mut IntoIter<Bytes>) -> Option<Result<T, Error>> + Send + 'static,
) -> Scanned<T> {
    let (handle, glob) = (handle.clone(), pattern.to_glob());
    let fetch = move |cursor: String, page: u32| {
        let mut command = handle.command(name).arg(&cursor);
        if glob != b"*" {
            command = command.arg("MATCH").arg(&glob);
        }
        command = command.arg("COUNT").arg(page);
        let handle = handle.clone();
        async move {
            let (cursor, items) = handle.call::<(String, Vec<Bytes>)>(command).await?;
            let next = (cursor != "0").then_some(cursor);
            Ok(Page { items, next })
        }
    };
    paged("0".to_owned(), fetch, decode)
}
