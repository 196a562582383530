//! [`BeforeKept`]: what outer layers have yet to do before an inner one keeps an answer.

use std::fmt;
use std::sync::Arc;

use futures_util::future::BoxFuture;
use http::{Extensions, StatusCode};

type Step = Arc<dyn Fn(StatusCode) -> BoxFuture<'static, bool> + Send + Sync>;

/// What layers have yet to do with a request once it is answered, such as to save the changes of its session. A layer
/// below them that keeps answers for later requests does it first: an answer that says "done" is not kept while a part
/// of what it speaks of can still fail.
///
/// It stands among the extensions of the request.
///
/// ```
/// use http::{Request, StatusCode};
/// use redkit_core::http_layer::BeforeKept;
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() {
/// // The outer layer:
/// let mut request = Request::new(());
/// let save = |_: StatusCode| async { false }; // its server does not answer
/// BeforeKept::add(request.extensions_mut(), save);
///
/// // The inner one, when the service has answered:
/// let before_kept = BeforeKept::of(request.extensions());
/// assert!(!before_kept.is_done(StatusCode::OK).await, "the answer is not kept");
/// # }
/// ```
#[derive(Clone, Default)]
pub struct BeforeKept(Vec<Step>);

/// Among the extensions of an answer: it is not to be kept, whatever its status. The request was not carried out, and
/// may be once more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NotToBeKept;

impl BeforeKept {
    /// Adds a step. It is given the status of the answer, and tells whether the answer may be kept. It may be done
    /// more than once.
    pub fn add<F>(
        extensions: &mut Extensions,
        step: impl Fn(StatusCode) -> F + Send + Sync + 'static,
    ) where
        F: Future<Output = bool> + Send + 'static,
    {
        let mut steps = Self::of(extensions);
        steps.0.push(Arc::new(move |status| Box::pin(step(status))));
        extensions.insert(steps);
    }

    /// The steps that layers have added to a request.
    pub fn of(extensions: &Extensions) -> Self {
        extensions.get().cloned().unwrap_or_default()
    }

    /// Does them, those of the innermost layer first, and tells whether an answer with this status may be kept.
    pub async fn is_done(&self, status: StatusCode) -> bool {
        for step in self.0.iter().rev() {
            if !step(status).await {
                return false;
            }
        }
        true
    }
}

impl fmt::Debug for BeforeKept {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BeforeKept")
            .field("steps", &self.0.len())
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use parking_lot::Mutex;

    use super::*;

    /// A layer may count on what the layers below it have saved, and does nothing where they could not.
    #[tokio::test]
    async fn steps_of_inner_layers_come_first_and_one_that_fails_is_the_last() {
        for (failing, done) in [(None, &[3, 2, 1][..]), (Some(2), &[3, 2])] {
            let mut extensions = Extensions::new();
            let seen = Arc::new(Mutex::new(Vec::new()));
            // The outermost layer sees the request first.
            for layer in 1..=3 {
                let seen = Arc::clone(&seen);
                BeforeKept::add(&mut extensions, move |_| {
                    seen.lock().push(layer);
                    async move { failing != Some(layer) }
                });
            }
            let before_kept = BeforeKept::of(&extensions);
            let may_be_kept = before_kept.is_done(StatusCode::OK).await;
            assert_eq!((may_be_kept, &seen.lock()[..]), (failing.is_none(), done));
        }
    }
}
