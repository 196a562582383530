//! [`SessionLayerBuilder`]: a layer's settings, checked when it is built.

use std::sync::Arc;

use http::HeaderName;
use http::request::Parts;
use redkit_core::ConfigError;

use super::cookie::{SameSite, SessionCookie};
use super::cross_site::{self, CrossSiteCheck};
use super::layer::{Rules, SessionLayer};
use super::metrics::LayerMetrics;
use super::transport::Transport;
use crate::error::Error;
use crate::store::SessionStore;

/// What becomes of a request whose session cannot be loaded because Redis cannot be asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum OnOutage {
    /// It is answered with 503.
    #[default]
    Closed,
    /// It has no user and no entries. Its changes are refused with the error, and its client keeps its id.
    Anonymous,
}

/// Settings of a [`SessionLayer`], from [`SessionLayer::builder`].
#[derive(Debug, Clone)]
#[must_use = "it does nothing until `build`"]
pub struct SessionLayerBuilder {
    store: SessionStore,
    carrier: Carrier,
    cookie_name: String,
    same_site: SameSite,
    is_secure: bool,
    check: CrossSiteCheck,
    trusted: Vec<String>,
    needs_token: bool,
    on_outage: OnOutage,
}

/// What carries the id, before it is checked.
#[derive(Debug, Clone)]
enum Carrier {
    Cookie,
    Header(String),
    Bearer(String),
}

impl SessionLayerBuilder {
    pub(super) fn new(store: &SessionStore) -> Self {
        Self {
            store: store.clone(),
            carrier: Carrier::Cookie,
            cookie_name: "id".to_owned(),
            same_site: SameSite::default(),
            is_secure: true,
            check: CrossSiteCheck::default(),
            trusted: Vec::new(),
            needs_token: false,
            on_outage: OnOutage::default(),
        }
    }

    /// The name of the cookie, without the prefix `__Host-` that is put before it. Default: `id`.
    pub fn cookie_name(mut self, name: impl Into<String>) -> Self {
        self.cookie_name = name.into();
        self
    }

    /// Which requests of other sites the browser sends the cookie with. Default: [`SameSite::Lax`].
    pub fn same_site(mut self, same_site: SameSite) -> Self {
        self.same_site = same_site;
        self
    }

    /// Lets the id travel in a header of the application's own in place of a cookie: the client sends it in
    /// every request, and gets a new one in the answer's header of the same name; empty when its session has
    /// ended. Browsers send no such header by themselves, so that requests are not checked for their origin.
    pub fn header(mut self, name: impl Into<String>) -> Self {
        self.carrier = Carrier::Header(name.into());
        self
    }

    /// Like [`header`](Self::header), but requests carry the id as `Authorization: Bearer`, and only answers
    /// have the header of this name.
    pub fn bearer(mut self, answer_header: impl Into<String>) -> Self {
        self.carrier = Carrier::Bearer(answer_header.into());
        self
    }

    /// Lets pages of this origin make unsafe requests, such as `https://app.example.com`. The service's own
    /// origin needs not be named, unless a proxy in front of it changes `Host` and browsers are so old that
    /// they do not send `Sec-Fetch-Site`.
    pub fn trust_origin(mut self, origin: impl Into<String>) -> Self {
        self.trusted.push(origin.into());
        self
    }

    /// Requests that are not checked for their origin, nor for a token, such as webhooks, which have
    /// signatures of their own.
    pub fn exempt(mut self, exempt: impl Fn(&Parts) -> bool + Send + Sync + 'static) -> Self {
        self.check.exempt = Some(Arc::new(exempt));
        self
    }

    /// Refuses unsafe requests that have neither `Sec-Fetch-Site` nor `Origin`. All browsers since 2023 send
    /// the former; programs send neither. Default: they are let through.
    pub fn require_origin(mut self) -> Self {
        self.check.needs_origin = true;
        self
    }

    /// Asks unsafe requests for a token in `X-CSRF-Token` besides, which pages get from
    /// [`CurrentSession::csrf_token`](super::CurrentSession::csrf_token). It belongs to the id: after a
    /// sign-in or a rotation there is another. Bodies are not read for it.
    pub fn require_token(mut self) -> Self {
        self.needs_token = true;
        self
    }

    /// What becomes of a request whose session cannot be loaded because Redis cannot be asked. Default:
    /// [`OnOutage::Closed`].
    pub fn on_outage(mut self, on_outage: OnOutage) -> Self {
        self.on_outage = on_outage;
        self
    }

    /// Leaves `__Host-` and `Secure` away, so that cookies travel over plain HTTP to other hosts than
    /// localhost. **For development only**: whoever is on the way reads them. A warning in the log says so
    /// at each start.
    pub fn insecure_for_development(mut self) -> Self {
        self.is_secure = false;
        self
    }

    /// Builds the layer. Nothing is sent.
    ///
    /// # Errors
    /// [`Error::Core`] with the setting that cannot work.
    pub fn build(self) -> Result<SessionLayer, Error> {
        let header = |name: &str| {
            HeaderName::try_from(name).map_err(|_| {
                ConfigError::new(
                    "header",
                    "it is no name of a header",
                    "use letters, digits and `-`, such as `x-session`",
                )
            })
        };
        let transport = match &self.carrier {
            Carrier::Cookie => {
                let cookie = SessionCookie::new(&self.cookie_name, self.same_site, self.is_secure);
                Transport::Cookie(cookie?)
            }
            Carrier::Header(name) => Transport::Header(header(name)?),
            Carrier::Bearer(name) => Transport::Bearer(header(name)?),
        };
        let trusted = self.trusted.iter().map(|text| cross_site::origin(text));
        let mut check = self.check;
        check.trusted = trusted.collect::<Result<_, _>>()?;
        if !self.is_secure && transport.is_sent_by_itself() {
            tracing::warn!(
                target: "redkit::session",
                store = self.store.name(),
                "session cookies travel without `Secure` and `__Host-`: for development only"
            );
        }
        Ok(SessionLayer::new(Rules {
            metrics: LayerMetrics::new(self.store.name()),
            store: self.store,
            transport,
            check,
            needs_token: self.needs_token,
            on_outage: self.on_outage,
        }))
    }
}
