//! Distributed locks on Redis: fenced, renewed, woken on release, and certainly over at a deadline of the
//! process's own clock.

mod error;
mod fence;
#[expect(dead_code, reason = "its users land next")]
mod keys;

pub use error::Error;
pub use fence::Fence;
