//! Whom the dashboard of the fleet is for.

use async_trait::async_trait;
use axum::http::request::Parts;
use redkit::monitor::dashboard::{Access, Rights, Viewer};
use redkit::session::tower::CurrentSession;

use super::visitor::{NAME, STAFF};

/// Lets staff look and act. A session that cannot be loaded is nobody's.
pub(crate) struct StaffOnly;

#[async_trait]
impl Access for StaffOnly {
    async fn viewer(&self, request: &Parts) -> Option<Viewer> {
        let session: &CurrentSession = request.extensions.get()?;
        session.user().await.ok()??;
        match session.get(STAFF).await {
            Ok(Some(true)) => {
                let name: Option<String> = session.get(NAME).await.ok()?;
                Some(Viewer::new(name.unwrap_or_default(), Rights::all()))
            }
            _ => None,
        }
    }
}
