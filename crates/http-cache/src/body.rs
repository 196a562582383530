//! [`CacheBody`]: the body of a response, stored or the handler's own; and how one is read to be
//! stored.

use std::collections::VecDeque;
use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Bytes, BytesMut};
use http_body::{Body, Frame, SizeHint};
use tokio::task::coop::consume_budget;
use tokio::time::{Instant, timeout_at};

use crate::storable::Reason;

/// The body of a response that went through a [`ResponseCacheLayer`](crate::ResponseCacheLayer).
pub struct CacheBody<B: Body> {
    inner: Inner<B>,
}

enum Inner<B: Body> {
    Handler(Pin<Box<B>>),
    /// The part of a handler's body that was read before it turned out that it is not to be stored, and the
    /// rest of it.
    Begun(VecDeque<Result<Frame<B::Data>, B::Error>>, Pin<Box<B>>),
    Stored(Option<Bytes>),
}

impl<B: Body> CacheBody<B> {
    pub(crate) fn of_handler(body: B) -> Self {
        Self {
            inner: Inner::Handler(Box::pin(body)),
        }
    }

    pub(crate) fn stored(body: Bytes) -> Self {
        Self {
            inner: Inner::Stored(Some(body).filter(|body| !body.is_empty())),
        }
    }
}

/// Reads a body. When it is longer than `limit`, has trailers, fails or takes longer than until
/// `deadline`, gives it back as if nobody had read it.
pub(crate) async fn read<B: Body<Data = Bytes>>(
    body: B,
    limit: usize,
    deadline: Instant,
) -> Result<Bytes, (Reason, CacheBody<B>)> {
    let mut rest = Box::pin(body);
    // In one piece: a list of frames could take many times the bytes that are in them.
    let mut ahead = BytesMut::new();
    let mut last = None;
    let too_long = rest.size_hint().lower() > u64::try_from(limit).unwrap_or(u64::MAX);
    let why = loop {
        if too_long || ahead.len() > limit {
            break Reason::TooLong;
        }
        // Frames that are there at once would neither be timed nor let others run.
        if Instant::now() >= deadline {
            break Reason::TooSlow;
        }
        consume_budget().await;
        let next = std::future::poll_fn(|cx| rest.as_mut().poll_frame(cx));
        match timeout_at(deadline, next).await {
            Err(_) => break Reason::TooSlow,
            Ok(None) => return Ok(ahead.freeze()),
            Ok(Some(Err(error))) => {
                last = Some(Err(error));
                break Reason::BodyFailed;
            }
            Ok(Some(Ok(frame))) => match frame.into_data() {
                Ok(data) => ahead.extend_from_slice(&data),
                Err(trailers) => {
                    last = Some(Ok(trailers));
                    break Reason::Trailers;
                }
            },
        }
    };
    let data = Some(ahead.freeze()).filter(|data| !data.is_empty());
    let data = data.map(|data| Ok(Frame::data(data)));
    let inner = Inner::Begun(data.into_iter().chain(last).collect(), rest);
    Err((why, CacheBody { inner }))
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
