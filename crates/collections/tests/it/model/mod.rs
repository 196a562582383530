//! Random operations on a handle and on the collection of the standard library that it stands for:
//! both give the same at every step.

mod counter;
mod hash;
mod list;
mod set;
mod sorted_set;

use std::sync::Arc;

use redkit_core::{Client, ClientConfig};
use redkit_embedded::Embedded;

/// Runs a body on an engine of its own.
fn on_embedded<F: Future>(body: impl FnOnce(Client) -> F) -> F::Output {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let backend = Arc::new(Embedded::new());
    let client = Client::from_backend(backend, &ClientConfig::default()).unwrap();
    runtime.block_on(body(client))
}
