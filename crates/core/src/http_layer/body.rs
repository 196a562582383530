//! [`LayerBody`]: the body of an answer, the service's own or the layer's; and how a body is read whole.

use std::collections::VecDeque;
use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::{Bytes, BytesMut};
use http_body::{Body, Frame, SizeHint};
use pin_project_lite::pin_project;
use tokio::task::coop::consume_budget;
use tokio::time::{Instant, sleep_until};

pin_project! {
    /// The body of an answer that went through a layer: the service's own, or the layer's in its place.
    pub struct LayerBody<B: Body> {
        // What comes before the rest: the layer's own text, or what was read of the service's body.
        ahead: VecDeque<Result<Frame<Bytes>, B::Error>>,
        #[pin]
        rest: Rest<B>,
    }
}

pin_project! {
    #[project = RestProjected]
    enum Rest<B> {
        Nothing,
        Service { #[pin] body: B },
        // A body that was begun to be read, which must stay where it is.
        Begun { body: Pin<Box<B>> },
    }
}

impl<B: Body> LayerBody<B> {
    /// The service's own body.
    pub fn of_service(body: B) -> Self {
        Self {
            ahead: VecDeque::new(),
            rest: Rest::Service { body },
        }
    }

    /// A text of the layer's.
    pub fn of_layer(text: Bytes) -> Self {
        Self {
            ahead: data(text).into_iter().collect(),
            rest: Rest::Nothing,
        }
    }
}

fn data<E>(bytes: Bytes) -> Option<Result<Frame<Bytes>, E>> {
    (!bytes.is_empty()).then(|| Ok(Frame::data(bytes)))
}

/// Why a body was not read whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NotWhole {
    /// It is longer than the limit.
    TooLong,
    /// It was not at its end by the deadline.
    TooSlow,
    /// It has trailers, which have no place beside the bytes.
    Trailers,
    /// It broke.
    Failed,
}

/// Reads a body of at most `limit` bytes until `deadline`, if there is one.
///
/// # Errors
/// The reason why it was not read whole, with the body as if nobody had read it.
pub async fn read_whole<B: Body<Data = Bytes>>(
    body: B,
    limit: usize,
    deadline: Option<Instant>,
) -> Result<Bytes, (NotWhole, LayerBody<B>)> {
    let mut rest = Box::pin(body);
    // In one piece: a list of frames could take many times the bytes that are in them.
    let mut read = BytesMut::new();
    let mut last = None;
    let is_longer = rest.size_hint().lower() > u64::try_from(limit).unwrap_or(u64::MAX);
    let why = loop {
        if is_longer || read.len() > limit {
            break NotWhole::TooLong;
        }
        // Frames that are there at once would neither be timed nor let others run.
        if deadline.is_some_and(|deadline| Instant::now() >= deadline) {
            break NotWhole::TooSlow;
        }
        consume_budget().await;
        let next = std::future::poll_fn(|cx| rest.as_mut().poll_frame(cx));
        let next = tokio::select! {
            biased;
            next = next => next,
            () = passed(deadline) => break NotWhole::TooSlow,
        };
        match next {
            None => return Ok(read.freeze()),
            Some(Err(error)) => {
                last = Some(Err(error));
                break NotWhole::Failed;
            }
            Some(Ok(frame)) => match frame.into_data() {
                Ok(data) => read.extend_from_slice(&data),
                Err(trailers) => {
                    last = Some(Ok(trailers));
                    break NotWhole::Trailers;
                }
            },
        }
    };
    let ahead = data(read.freeze()).into_iter().chain(last).collect();
    let rest = Rest::Begun { body: rest };
    Err((why, LayerBody { ahead, rest }))
}

async fn passed(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => sleep_until(deadline).await,
        None => std::future::pending().await,
    }
}

impl<B: Body<Data = Bytes>> Body for LayerBody<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        let this = self.project();
        if let Some(frame) = this.ahead.pop_front() {
            return Poll::Ready(Some(frame));
        }
        match this.rest.project() {
            RestProjected::Nothing => Poll::Ready(None),
            RestProjected::Service { body } => body.poll_frame(cx),
            RestProjected::Begun { body } => body.as_mut().poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        let rest_ends = match &self.rest {
            Rest::Nothing => true,
            Rest::Service { body } => body.is_end_stream(),
            Rest::Begun { body } => body.is_end_stream(),
        };
        self.ahead.is_empty() && rest_ends
    }

    fn size_hint(&self) -> SizeHint {
        let lengths = self
            .ahead
            .iter()
            .filter_map(|frame| Some(frame.as_ref().ok()?.data_ref()?.len()));
        let ahead = u64::try_from(lengths.sum::<usize>()).unwrap_or(u64::MAX);
        let rest = match &self.rest {
            Rest::Nothing => SizeHint::with_exact(0),
            Rest::Service { body } => body.size_hint(),
            Rest::Begun { body } => body.size_hint(),
        };
        let mut hint = SizeHint::new();
        hint.set_lower(ahead.saturating_add(rest.lower()));
        if let Some(upper) = rest.upper() {
            hint.set_upper(ahead.saturating_add(upper));
        }
        hint
    }
}

impl<B: Body> fmt::Debug for LayerBody<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.rest {
            Rest::Nothing => "LayerBody(layer)",
            Rest::Service { .. } => "LayerBody(service)",
            Rest::Begun { .. } => "LayerBody(service, begun)",
        })
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use http::HeaderMap;

    use super::*;

    /// Frames that are there at once; then the body ends, or hangs.
    struct Frames {
        frames: VecDeque<Result<Frame<Bytes>, &'static str>>,
        hangs: bool,
    }

    impl Body for Frames {
        type Data = Bytes;
        type Error = &'static str;

        fn poll_frame(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, &'static str>>> {
            match self.frames.pop_front() {
                None if self.hangs => Poll::Pending,
                frame => Poll::Ready(frame),
            }
        }

        fn is_end_stream(&self) -> bool {
            self.frames.is_empty() && !self.hangs
        }
    }

    fn body(
        frames: impl IntoIterator<Item = Result<Frame<Bytes>, &'static str>>,
        hangs: bool,
    ) -> Frames {
        Frames {
            frames: frames.into_iter().collect(),
            hangs,
        }
    }

    fn text(text: &'static str) -> Result<Frame<Bytes>, &'static str> {
        Ok(Frame::data(Bytes::from_static(text.as_bytes())))
    }

    fn trailers() -> Result<Frame<Bytes>, &'static str> {
        let mut fields = HeaderMap::new();
        fields.insert("x", "1".parse().unwrap());
        Ok(Frame::trailers(fields))
    }

    /// All frames, in words.
    async fn frames(mut body: LayerBody<Frames>) -> Vec<String> {
        let mut seen = Vec::new();
        while let Some(frame) = std::future::poll_fn(|cx| Pin::new(&mut body).poll_frame(cx)).await
        {
            seen.push(match frame.map(Frame::into_data) {
                Ok(Ok(data)) => String::from_utf8(data.to_vec()).unwrap(),
                Ok(Err(_)) => "trailers".to_owned(),
                Err(error) => error.to_owned(),
            });
        }
        assert!(body.is_end_stream());
        seen
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_is_read_whole_or_given_back_as_if_nobody_had_read_it() {
        let soon = || Some(Instant::now() + Duration::from_secs(1));
        let whole = read_whole(body([text("ab"), text("c")], false), 3, soon()).await;
        assert_eq!(whole.unwrap(), "abc");
        for (given, why, again) in [
            (
                body([text("ab"), text("cd"), text("e")], false),
                NotWhole::TooLong,
                &["abcd", "e"][..],
            ),
            (
                body([text("ab"), trailers()], false),
                NotWhole::Trailers,
                &["ab", "trailers"],
            ),
            (
                body([text("ab"), Err("broken")], false),
                NotWhole::Failed,
                &["ab", "broken"],
            ),
        ] {
            let (reason, rest) = read_whole(given, 3, None).await.unwrap_err();
            assert_eq!(reason, why);
            assert!(!rest.is_end_stream());
            assert_eq!(frames(rest).await, again);
        }
        let started = Instant::now();
        let (reason, rest) = read_whole(body([text("ab")], true), 3, soon())
            .await
            .unwrap_err();
        assert_eq!(reason, NotWhole::TooSlow);
        assert_eq!(started.elapsed(), Duration::from_secs(1));
        assert_eq!(rest.size_hint().lower(), 2);
        assert!(!rest.is_end_stream());
    }

    #[tokio::test]
    async fn a_layers_text_is_one_frame_of_a_known_length() {
        let own = LayerBody::<Frames>::of_layer(Bytes::from_static(b"no"));
        assert_eq!(own.size_hint().exact(), Some(2));
        assert_eq!(frames(own).await, ["no"]);
        let empty = LayerBody::<Frames>::of_layer(Bytes::new());
        assert!(empty.is_end_stream());
        assert_eq!(empty.size_hint().exact(), Some(0));
        let service = LayerBody::of_service(body([text("a"), trailers()], false));
        assert_eq!(frames(service).await, ["a", "trailers"]);
    }
}
