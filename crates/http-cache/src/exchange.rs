//! [`Exchange`]: a request on its way to the handler, and the answer on its way back. The cache
//! takes it when it has to load; what it does not need afterwards is the request's own again. So no
//! request is lost to the cache, whatever becomes of that.

use std::any::Any;
use std::panic::{AssertUnwindSafe, resume_unwind};
use std::sync::Arc;

use bytes::Bytes;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use http::{Response, StatusCode};
use http_body::Body;
use parking_lot::Mutex;
use redkit_core::http_layer::LayerBody;

use crate::answer;
use crate::fill::Fill;
use crate::storable::Reason;
use crate::stored::Page;
use crate::validators::Validators;

/// Asks the handler.
pub(crate) type Ask<B, E> = Box<dyn FnOnce(AskedFor) -> Answering<B, E> + Send>;

/// The handler's answer, its panic caught.
pub(crate) type Answering<B, E> = BoxFuture<'static, Result<Result<Response<B>, E>, Panic>>;

pub(crate) type Panic = Box<dyn Any + Send>;

/// For whom the handler is asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum AskedFor {
    /// For all clients: without the conditions of this one, and with those of a stale page.
    Cache(Validators),
    Client,
}

/// How far a request has come.
pub(crate) enum State<B: Body, E> {
    /// The handler was not asked.
    Unasked(Ask<B, E>),
    /// The request or its load has taken what was here.
    Taken,
    /// It was asked, and takes too long for the cache to wait; with the page that it was asked about.
    Pending(Answering<B, E>, Option<Page>),
    /// It was asked, and its answer is not to be kept.
    Answered(Box<Response<LayerBody<B>>>, Reason),
    /// Its answer was read to be kept, and is not what the load gave.
    Ready(Box<Fill>),
    Failed(E),
    Panicked(Panic),
}

/// Shared by a request and the load that it may have begun.
pub(crate) struct Exchange<B: Body, E>(Arc<Mutex<State<B, E>>>);

impl<B: Body, E> Clone for Exchange<B, E> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<B: Body<Data = Bytes>, E> Exchange<B, E> {
    pub(crate) fn new<F>(ask: impl FnOnce(AskedFor) -> F + Send + 'static) -> Self
    where
        F: Future<Output = Result<Response<B>, E>> + Send + 'static,
    {
        let ask: Ask<B, E> = Box::new(|asked_for| {
            // The handler may also panic before it gives its future.
            AssertUnwindSafe(async move { ask(asked_for).await })
                .catch_unwind()
                .boxed()
        });
        Self(Arc::new(Mutex::new(State::Unasked(ask))))
    }

    pub(crate) fn take(&self) -> State<B, E> {
        self.put(State::Taken)
    }

    pub(crate) fn put(&self, state: State<B, E>) -> State<B, E> {
        std::mem::replace(&mut *self.0.lock(), state)
    }

    pub(crate) fn is_unasked(&self) -> bool {
        matches!(*self.0.lock(), State::Unasked(_))
    }

    /// The handler's answer to this very request, when it was read to be kept.
    pub(crate) fn take_ready(&self) -> Option<Box<Fill>> {
        match self.take() {
            State::Ready(fill) => Some(fill),
            state => {
                self.put(state);
                None
            }
        }
    }

    /// The handler's answer to this very request: the one it has given already, if it has. A panic
    /// of the handler goes on here.
    pub(crate) async fn finish(&self) -> Result<Finished<B>, E> {
        let (answering, page, known) = match self.take() {
            State::Unasked(ask) => (ask(AskedFor::Client), None, None),
            State::Pending(answering, page) => (answering, page, Some(Reason::TooSlow)),
            State::Answered(response, why) => {
                return Ok(Finished::Response(*response, Some(why)));
            }
            State::Ready(fill) => return Ok(Finished::Ready(fill)),
            State::Failed(error) => return Err(error),
            State::Panicked(panic) => resume_unwind(panic),
            State::Taken => return Ok(Finished::Response(answer::lost(), None)),
        };
        match answering.await {
            Ok(answer) => {
                let response = answer?;
                let response = match page {
                    Some(page) if response.status() == StatusCode::NOT_MODIFIED => {
                        answer::confirmed(&page, response.into_parts().0)
                    }
                    _ => response.map(LayerBody::of_service),
                };
                Ok(Finished::Response(response, known))
            }
            Err(panic) => resume_unwind(panic),
        }
    }
}

pub(crate) enum Finished<B: Body> {
    /// With the reason why it is not kept, if that is known.
    Response(Response<LayerBody<B>>, Option<Reason>),
    /// It was read already, to be kept.
    Ready(Box<Fill>),
}
