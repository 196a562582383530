//! The parts that tower layers of HTTP services share: the service that goes with a request, the body of an
//! answer, the answer in place of the service's own, answers that are stored, and what is to be done before one is
//! kept. For authors of patterns; feature `tower`.
//!
//! A layer's service is a [`Layered`] with the layer's rules. Its `call` takes the service that is ready and the
//! rules, and gives a [`ResponseFuture`], whose answer has a [`LayerBody`]: the service's own body, or the
//! layer's.

mod before_kept;
mod body;
mod headers;
mod octets;
mod problem;
mod service;

pub use before_kept::{BeforeKept, NotToBeKept};
pub use body::{LayerBody, NotWhole, read_whole};
pub use headers::{StoredHeaders, remove_hop_by_hop};
pub use octets::Octets;
pub use problem::Problem;
pub use service::{Layered, ResponseFuture};
