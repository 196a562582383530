//! [`Exchange`]: a request on its way to the handler, and the answer on its way back. The cache
//! takes it when it has to load; what it does not need afterwards is the request's own again. So no
//! request is lost to the cache, whatever becomes of that.

use std::any::Any;
use std::panic::{AssertUnwindSafe, resume_unwind};
use std::sync::Arc;

use bytes::Bytes;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use http::Response;
use http_body::Body;
use parking_lot::Mutex;

use crate::answer;
use crate::body::CacheBody;
use crate::fill::Fill;
use crate::storable::Why;

/// Asks the handler; says whether it is for the cache.
pub(crate) type Ask<B, E> = Box<dyn FnOnce(For) -> Answering<B, E> + Send>;

/// The handler's answer, its panic caught.
pub(crate) type Answering<B, E> = BoxFuture<'static, Result<Result<Response<B>, E>, Panic>>;

pub(crate) type Panic = Box<dyn Any + Send>;

/// For whom the handler is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum For {
    /// For all: without the conditions of the one who asks.
    Cache,
    Client,
}

pub(crate) enum Slot<B: Body, E> {
    /// The handler was not asked.
    Unasked(Ask<B, E>),
    /// Somebody has taken what was here.
    Taken,
    /// It was asked, and takes too long for the cache to wait.
    Pending(Answering<B, E>),
    /// It was asked, and its answer is not to be kept.
    Answered(Box<Response<CacheBody<B>>>, Why),
    /// Its answer was read to be kept, and is not what the load gave.
    Ready(Box<Fill>),
    Failed(E),
    Panicked(Panic),
}

/// Shared by a request and the load that it may have begun.
pub(crate) struct Exchange<B: Body, E>(Arc<Mutex<Slot<B, E>>>);

impl<B: Body, E> Clone for Exchange<B, E> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<B: Body<Data = Bytes>, E> Exchange<B, E> {
    pub(crate) fn new<F>(ask: impl FnOnce(For) -> F + Send + 'static) -> Self
    where
        F: Future<Output = Result<Response<B>, E>> + Send + 'static,
    {
        let ask: Ask<B, E> = Box::new(|whom| {
            // What it does before it gives its future may panic as well.
            AssertUnwindSafe(async move { ask(whom).await })
                .catch_unwind()
                .boxed()
        });
        Self(Arc::new(Mutex::new(Slot::Unasked(ask))))
    }

    pub(crate) fn take(&self) -> Slot<B, E> {
        self.put(Slot::Taken)
    }

    pub(crate) fn put(&self, slot: Slot<B, E>) -> Slot<B, E> {
        std::mem::replace(&mut *self.0.lock(), slot)
    }

    /// The handler's answer to this very request, when it was read to be kept.
    pub(crate) fn take_ready(&self) -> Option<Box<Fill>> {
        match self.take() {
            Slot::Ready(fill) => Some(fill),
            slot => {
                self.put(slot);
                None
            }
        }
    }

    /// The handler's answer to this very request: the one it has given already, if it has. A panic
    /// of the handler goes on here.
    pub(crate) async fn finish(&self) -> Result<Finished<B>, E> {
        let (answering, known) = match self.take() {
            Slot::Unasked(ask) => (ask(For::Client), None),
            Slot::Pending(answering) => (answering, Some(Why::TooSlow)),
            Slot::Answered(response, why) => {
                return Ok(Finished::Response(*response, Some(why)));
            }
            Slot::Ready(fill) => return Ok(Finished::Ready(fill)),
            Slot::Failed(error) => return Err(error),
            Slot::Panicked(panic) => resume_unwind(panic),
            Slot::Taken => return Ok(Finished::Response(answer::lost(), None)),
        };
        match answering.await {
            Ok(answer) => {
                let response = answer?.map(CacheBody::of_handler);
                Ok(Finished::Response(response, known))
            }
            Err(panic) => resume_unwind(panic),
        }
    }
}

pub(crate) enum Finished<B: Body> {
    /// With the reason why it is not kept, if that is known.
    Response(Response<CacheBody<B>>, Option<Why>),
    /// It was read already, to be kept.
    Ready(Box<Fill>),
}
