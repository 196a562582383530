//! Work that stands on something which is held, and is dropped when that is lost.

use crate::error::Error;

/// Does the work, drops it when `lost` resolves first, and `release`s what is held after it. Whatever happens, the work
/// is gone before what it stood on is given back.
///
/// # Errors
/// [`Error::Lost`], also for work that came to its end, when the release finds that what it stood on was lost by then.
/// That the server could not be told of the release is none: it is repeated in the background.
pub(crate) async fn run<T>(
    // It holds what is held, and is dropped last.
    release: impl Future<Output = Result<bool, Error>>,
    lost: impl Future<Output = ()>,
    work: impl Future<Output = T>,
) -> Result<T, Error> {
    let done = tokio::select! {
        biased;
        () = lost => None,
        done = work => Some(done),
    };
    let Some(done) = done else {
        return Err(Error::Lost);
    };
    match release.await {
        Ok(true) => {}
        // It was taken away before the last renewal could tell.
        Ok(false) => return Err(Error::Lost),
        Err(error) => {
            tracing::debug!(target: "redkit::lock", %error, "released in the background");
        }
    }
    Ok(done)
}
