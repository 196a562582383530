//! [`SessionBody`]: the body of an answer, the service's own or the layer's.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use pin_project_lite::pin_project;

pin_project! {
    /// The body of an answer: the service's own, or the text with which the layer answered in its
    /// place.
    #[derive(Debug)]
    pub struct SessionBody<B> {
        #[pin]
        inner: Inner<B>,
    }
}

pin_project! {
    #[project = InnerProjected]
    #[derive(Debug)]
    enum Inner<B> {
        Service { #[pin] body: B },
        Layer { text: Option<Bytes> },
    }
}

impl<B> SessionBody<B> {
    pub(super) fn of_service(body: B) -> Self {
        Self {
            inner: Inner::Service { body },
        }
    }

    pub(super) fn of_layer(text: Bytes) -> Self {
        Self {
            inner: Inner::Layer {
                text: Some(text).filter(|text| !text.is_empty()),
            },
        }
    }
}

impl<B: Body<Data = Bytes>> Body for SessionBody<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        match self.project().inner.project() {
            InnerProjected::Service { body } => body.poll_frame(cx),
            InnerProjected::Layer { text } => {
                Poll::Ready(text.take().map(|text| Ok(Frame::data(text))))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.inner {
            Inner::Service { body } => body.is_end_stream(),
            Inner::Layer { text } => text.is_none(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.inner {
            Inner::Service { body } => body.size_hint(),
            Inner::Layer { text } => {
                let length = text.as_ref().map_or(0, Bytes::len);
                SizeHint::with_exact(u64::try_from(length).unwrap_or(u64::MAX))
            }
        }
    }
}
