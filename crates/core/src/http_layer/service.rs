//! [`Layered`]: a service behind a layer, and the layer's rules.

use std::fmt;
use std::sync::Arc;
use std::task::{Context, Poll};

use futures_util::future::BoxFuture;
use http::Response;
use tower_service::Service;

use super::body::LayerBody;

/// The future of a layer's answer.
pub type ResponseFuture<B, E> = BoxFuture<'static, Result<Response<LayerBody<B>>, E>>;

/// A service behind a layer, and the rules that all services of the layer share.
pub struct Layered<S, R> {
    service: S,
    rules: Arc<R>,
}

impl<S, R> Layered<S, R> {
    /// Puts these rules in front of a service.
    pub fn new(service: S, rules: Arc<R>) -> Self {
        Self { service, rules }
    }

    /// The readiness of the service. Whether a request gets to it depends on the request, so it is reserved
    /// before that is known; a request that is answered without the service gives it back.
    ///
    /// # Errors
    /// Those of the service.
    pub fn poll_ready<Q>(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>>
    where
        S: Service<Q>,
    {
        self.service.poll_ready(cx)
    }

    /// The service that was polled ready, to go with the request, and the rules. A clone, which is not ready,
    /// takes its place: see `tower::Service`, "be careful when cloning inner services".
    pub fn take_ready(&mut self) -> (S, Arc<R>)
    where
        S: Clone,
    {
        let clone = self.service.clone();
        let ready = std::mem::replace(&mut self.service, clone);
        (ready, Arc::clone(&self.rules))
    }
}

/// A clone is not ready until it is polled, whatever the original is.
impl<S: Clone, R> Clone for Layered<S, R> {
    fn clone(&self) -> Self {
        Self {
            service: self.service.clone(),
            rules: Arc::clone(&self.rules),
        }
    }
}

/// Without the rules, which may hold secrets.
impl<S: fmt::Debug, R> fmt::Debug for Layered<S, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Layered").field(&self.service).finish()
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;
    use std::future::{Ready, ready};

    use super::*;

    /// Counts how often it was polled ready since it was cloned.
    struct Counted(u32);

    impl Clone for Counted {
        fn clone(&self) -> Self {
            Self(0)
        }
    }

    impl Service<()> for Counted {
        type Response = ();
        type Error = Infallible;
        type Future = Ready<Result<(), Infallible>>;

        fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
            self.0 += 1;
            Poll::Ready(Ok(()))
        }

        fn call(&mut self, (): ()) -> Self::Future {
            ready(Ok(()))
        }
    }

    #[test]
    fn the_service_that_is_ready_goes_with_the_request() {
        let mut layered = Layered::new(Counted(0), Arc::new("secret"));
        let mut cx = Context::from_waker(std::task::Waker::noop());
        assert!(layered.poll_ready(&mut cx).is_ready());
        let (ready, rules) = layered.take_ready();
        assert_eq!((ready.0, *rules), (1, "secret"));
        assert_eq!(layered.take_ready().0.0, 0, "its successor is not ready");
    }
}
