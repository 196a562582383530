//! Work that blocks, off the runtime's threads.

use std::io;

use crate::Error;

/// Runs what blocks on a thread for it. It also keeps a paused clock from running ahead while
/// real work is waited for.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Error> + Send + 'static,
) -> Result<T, Error> {
    tokio::task::spawn_blocking(work)
        .await
        .unwrap_or_else(|error| {
            Err(Error::Io {
                what: "a thread of the test kit",
                source: io::Error::other(error),
            })
        })
}
