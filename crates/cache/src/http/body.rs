//! [`CacheBody`]: the body of a response, stored or the handler's own; and how one is read to be
//! stored.

use std::collections::VecDeque;
use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Bytes, BytesMut};
use http_body::{Body, Frame, SizeHint};
use tokio::time::{Instant, timeout_at};

use super::storable::Why;

/// The body of a response that went through a [`ResponseCacheLayer`](super::ResponseCacheLayer).
pub struct CacheBody<B: Body> {
    inner: Inner<B>,
}

enum Inner<B: Body> {
    Handler(Pin<Box<B>>),
    /// What was read of a handler's body before it turned out that it is not to be stored, and the
    /// rest of it.
    Begun(VecDeque<Result<Frame<B::Data>, B::Error>>, Pin<Box<B>>),
    Stored(Option<Bytes>),
}

impl<B: Body> CacheBody<B> {
    pub(super) fn of_handler(body: B) -> Self {
        Self {
            inner: Inner::Handler(Box::pin(body)),
        }
    }

    pub(super) fn stored(body: Bytes) -> Self {
        Self {
            inner: Inner::Stored(Some(body).filter(|body| !body.is_empty())),
        }
    }
}

/// Reads a body. When it is longer than `limit`, has trailers, fails or takes longer than until
/// `deadline`, gives it back as if nobody had read it.
pub(super) async fn read<B: Body<Data = Bytes>>(
    body: B,
    limit: usize,
    deadline: Instant,
) -> Result<Bytes, (Why, CacheBody<B>)> {
    let mut rest = Box::pin(body);
    let mut ahead = VecDeque::new();
    let mut length = 0_usize;
    let too_long = rest.size_hint().lower() > u64::try_from(limit).unwrap_or(u64::MAX);
    let why = loop {
        if too_long || length > limit {
            break Why::TooLong;
        }
        let next = std::future::poll_fn(|cx| rest.as_mut().poll_frame(cx));
        match timeout_at(deadline, next).await {
            Err(_) => break Why::TooSlow,
            Ok(None) => return Ok(joined(ahead, length)),
            Ok(Some(Err(error))) => {
                ahead.push_back(Err(error));
                break Why::BodyFailed;
            }
            Ok(Some(Ok(frame))) => match frame.into_data() {
                Ok(data) => {
                    length = length.saturating_add(data.len());
                    ahead.push_back(Ok(Frame::data(data)));
                }
                Err(trailers) => {
                    ahead.push_back(Ok(trailers));
                    break Why::Trailers;
                }
            },
        }
    };
    let inner = Inner::Begun(ahead, rest);
    Err((why, CacheBody { inner }))
}

fn joined<E>(frames: VecDeque<Result<Frame<Bytes>, E>>, length: usize) -> Bytes {
    let mut parts = frames
        .into_iter()
        .filter_map(|frame| frame.ok()?.into_data().ok());
    let Some(first) = parts.next() else {
        return Bytes::new();
    };
    if first.len() == length {
        return first;
    }
    let mut all = BytesMut::with_capacity(length);
    all.extend_from_slice(&first);
    parts.for_each(|part| all.extend_from_slice(&part));
    all.freeze()
}

/// The parts are in boxes; nothing in it is pinned in place.
impl<B: Body> Unpin for CacheBody<B> {}

impl<B: Body<Data = Bytes>> Body for CacheBody<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        Poll::Ready(match &mut self.inner {
            Inner::Handler(body) => ready!(body.as_mut().poll_frame(cx)),
            Inner::Begun(ahead, rest) => match ahead.pop_front() {
                Some(frame) => Some(frame),
                None => ready!(rest.as_mut().poll_frame(cx)),
            },
            Inner::Stored(body) => body.take().map(|body| Ok(Frame::data(body))),
        })
    }

    fn is_end_stream(&self) -> bool {
        match &self.inner {
            Inner::Handler(body) => body.is_end_stream(),
            Inner::Begun(ahead, rest) => ahead.is_empty() && rest.is_end_stream(),
            Inner::Stored(body) => body.is_none(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.inner {
            Inner::Handler(body) => body.size_hint(),
            Inner::Begun(ahead, rest) => {
                let lengths = ahead
                    .iter()
                    .filter_map(|frame| Some(frame.as_ref().ok()?.data_ref()?.len()));
                let ahead = u64::try_from(lengths.sum::<usize>()).unwrap_or(u64::MAX);
                let rest = rest.size_hint();
                let mut hint = SizeHint::new();
                hint.set_lower(ahead.saturating_add(rest.lower()));
                if let Some(upper) = rest.upper() {
                    hint.set_upper(ahead.saturating_add(upper));
                }
                hint
            }
            Inner::Stored(body) => {
                let length = body.as_ref().map_or(0, Bytes::len);
                SizeHint::with_exact(u64::try_from(length).unwrap_or(u64::MAX))
            }
        }
    }
}

impl<B: Body> fmt::Debug for CacheBody<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.inner {
            Inner::Handler(_) => "CacheBody(handler)",
            Inner::Begun(..) => "CacheBody(handler, begun)",
            Inner::Stored(_) => "CacheBody(stored)",
        })
    }
}
