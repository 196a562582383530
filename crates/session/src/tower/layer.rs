//! [`SessionLayer`]: gives each request of a service its session.

use std::sync::Arc;

use tower_layer::Layer;

use super::builder::{OnOutage, SessionLayerBuilder};
use super::cross_site::CrossSiteCheck;
use super::metrics::LayerMetrics;
use super::service::SessionService;
use super::transport::Transport;
use crate::store::SessionStore;

/// Gives each request of a service its session: see the [module](crate::tower) for an example, and for what
/// happens with a request.
#[derive(Debug, Clone)]
pub struct SessionLayer {
    /// Shared by all services that it makes.
    rules: Arc<Rules>,
}

/// Checked settings.
#[derive(Debug)]
pub(super) struct Rules {
    pub(super) store: SessionStore,
    pub(super) transport: Transport,
    pub(super) check: CrossSiteCheck,
    pub(super) needs_token: bool,
    pub(super) on_outage: OnOutage,
    pub(super) metrics: LayerMetrics,
}

impl SessionLayer {
    /// Starts to build a layer. By default the id travels in the cookie `__Host-id`.
    pub fn builder(store: &SessionStore) -> SessionLayerBuilder {
        SessionLayerBuilder::new(store)
    }

    pub(super) fn new(rules: Rules) -> Self {
        Self {
            rules: Arc::new(rules),
        }
    }
}

impl<S> Layer<S> for SessionLayer {
    type Service = SessionService<S>;

    fn layer(&self, inner: S) -> Self::Service {
        SessionService::new(inner, Arc::clone(&self.rules))
    }
}
