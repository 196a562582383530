//! [`IdempotencyBody`]: the body of an answer, the service's own or one that the layer has; and how bodies
//! are read whole.

use std::collections::VecDeque;
use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Bytes, BytesMut};
use http_body::{Body, Frame, SizeHint};

/// The body of an answer that went through an [`IdempotencyLayer`](crate::tower::IdempotencyLayer).
pub struct IdempotencyBody<B> {
    /// What was read already, or is the layer's own.
    ahead: VecDeque<Frame<Bytes>>,
    rest: Option<Pin<Box<B>>>,
}

impl<B> IdempotencyBody<B> {
    pub(super) fn of_service(body: B) -> Self {
        Self {
            ahead: VecDeque::new(),
            rest: Some(Box::pin(body)),
        }
    }

    pub(super) fn of_layer(body: Bytes) -> Self {
        Self::begun(body, None)
    }

    fn begun(read: Bytes, rest: Option<Pin<Box<B>>>) -> Self {
        let read = Some(read).filter(|read| !read.is_empty());
        Self {
            ahead: read.map(Frame::data).into_iter().collect(),
            rest,
        }
    }
}

/// A body as far as it was read.
pub(super) enum Read<B: Body> {
    Whole(Bytes),
    /// It is longer than may be kept, or has trailers; with the body as if nobody had read it.
    NotWhole(IdempotencyBody<B>),
    /// The body broke; what was read of it, and then nothing.
    Failed(B::Error),
}

/// Reads a body of at most `limit` bytes.
pub(super) async fn read<B: Body<Data = Bytes>>(body: B, limit: usize) -> Read<B> {
    let mut rest = Box::pin(body);
    let mut read = BytesMut::new();
    let is_longer = rest.size_hint().lower() > u64::try_from(limit).unwrap_or(u64::MAX);
    while !is_longer && read.len() <= limit {
        // Frames that are there at once would not let others run.
        tokio::task::coop::consume_budget().await;
        let next = std::future::poll_fn(|cx| rest.as_mut().poll_frame(cx));
        match next.await {
            None => return Read::Whole(read.freeze()),
            Some(Err(error)) => return Read::Failed(error),
            Some(Ok(frame)) => match frame.into_data() {
                Ok(data) => read.extend_from_slice(&data),
                Err(trailers) => {
                    let mut body = IdempotencyBody::begun(read.freeze(), Some(rest));
                    body.ahead.push_back(trailers);
                    return Read::NotWhole(body);
                }
            },
        }
    }
    Read::NotWhole(IdempotencyBody::begun(read.freeze(), Some(rest)))
}

/// The part that could be pinned is in a box.
impl<B> Unpin for IdempotencyBody<B> {}

impl<B: Body<Data = Bytes>> Body for IdempotencyBody<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        if let Some(frame) = self.ahead.pop_front() {
            return Poll::Ready(Some(Ok(frame)));
        }
        match &mut self.rest {
            Some(rest) => Poll::Ready(ready!(rest.as_mut().poll_frame(cx))),
            None => Poll::Ready(None),
        }
    }

    fn is_end_stream(&self) -> bool {
        let rest_ends = self.rest.as_ref().is_none_or(|rest| rest.is_end_stream());
        self.ahead.is_empty() && rest_ends
    }

    fn size_hint(&self) -> SizeHint {
        let lengths = self
            .ahead
            .iter()
            .filter_map(|frame| Some(frame.data_ref()?.len()));
        let ahead = u64::try_from(lengths.sum::<usize>()).unwrap_or(u64::MAX);
        let Some(rest) = self.rest.as_ref().map(|rest| rest.size_hint()) else {
            return SizeHint::with_exact(ahead);
        };
        let mut hint = SizeHint::new();
        hint.set_lower(ahead.saturating_add(rest.lower()));
        if let Some(upper) = rest.upper() {
            hint.set_upper(ahead.saturating_add(upper));
        }
        hint
    }
}

impl<B> fmt::Debug for IdempotencyBody<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("IdempotencyBody").finish_non_exhaustive()
    }
}
