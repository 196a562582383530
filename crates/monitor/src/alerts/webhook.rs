//! [`Webhook`]: alerts by HTTP.

use std::fmt::{self, Write};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use bytes::Bytes;
use hmac::{Hmac, KeyInit, Mac};
use http::header::{CONTENT_TYPE, HeaderName, HeaderValue, RETRY_AFTER, USER_AGENT};
use http::{Request, StatusCode, Uri};
use http_body_util::Full;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use redkit_core::ConfigError;
use secrecy::{ExposeSecret, SecretString};
use serde_json::{Value, json};
use sha2::Sha256;

use super::alert::Alert;
use super::sink::{Sink, SinkError};
use crate::error::{Error, check_name};

/// Sends alerts by `POST` to a URL.
///
/// Each request carries the alert's key as `Idempotency-Key` (percent-encoded where it has a percent sign or anything
/// but visible ASCII), and, with a secret, a signature as
/// `X-Redkit-Signature: t=<seconds since 1970>,v1=<hex>`: the HMAC-SHA-256 of `<t>.<body>` under the secret.
/// Receivers compare it in constant time and refuse old ones.
///
/// 2xx is a success. 408, 425, 429 and 5xx, an error of the connection and a timeout are tried again. Everything
/// else is given up, redirections among it: following one would send the alert, and its signature, to an address
/// that nobody configured. Answers' bodies are not read.
pub struct Webhook {
    name: String,
    uri: Uri,
    headers: Vec<(HeaderName, HeaderValue)>,
    secret: Option<SecretString>,
    template: Template,
    timeout: Duration,
    client: Client<HttpsConnector<HttpConnector>, Full<Bytes>>,
}

/// What the body of a request is.
#[derive(Clone, Default)]
#[non_exhaustive]
pub enum Template {
    /// [`Alert::to_json`].
    #[default]
    Json,
    /// `{"text": …}`, which Slack, Mattermost, Rocket.Chat and Google Chat take.
    Slack,
    /// A body of your own.
    Custom(Arc<dyn Fn(&Alert) -> Value + Send + Sync>),
}

impl Template {
    fn body(&self, alert: &Alert) -> Value {
        match self {
            Template::Json => alert.to_json(),
            // In Slack's markup these three are special.
            Template::Slack => {
                let text = alert
                    .to_string()
                    .replace('&', "&amp;")
                    .replace('<', "&lt;")
                    .replace('>', "&gt;");
                json!({ "text": text })
            }
            Template::Custom(body) => body(alert),
        }
    }
}

impl fmt::Debug for Template {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Template::Json => "Json",
            Template::Slack => "Slack",
            Template::Custom(_) => "Custom",
        })
    }
}

impl Webhook {
    /// Settings of a webhook. The name is the same in every instance of the program.
    pub fn builder(name: &str, url: &str) -> WebhookBuilder {
        WebhookBuilder {
            name: name.to_owned(),
            url: url.to_owned(),
            headers: Vec::new(),
            secret: None,
            template: Template::Json,
            timeout: Duration::from_secs(5),
        }
    }

    fn request(&self, alert: &Alert) -> Result<Request<Full<Bytes>>, SinkError> {
        let body = self.template.body(alert).to_string();
        let mut request = Request::post(&self.uri)
            .header(CONTENT_TYPE, "application/json")
            .header(
                USER_AGENT,
                concat!("redkit-monitor/", env!("CARGO_PKG_VERSION")),
            )
            .header("idempotency-key", header_text(&alert.key));
        if let Some(secret) = &self.secret {
            let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
            let signature = signature(secret, now.unwrap_or_default().as_secs(), body.as_bytes());
            request = request.header("x-redkit-signature", signature);
        }
        for (name, value) in &self.headers {
            request = request.header(name, value);
        }
        let request = request.body(Full::new(Bytes::from(body)));
        request.map_err(|error| {
            SinkError::permanent(format!("no request can be made of the alert: {error}"))
        })
    }
}

/// A key as a header may hold it: whatever is not visible ASCII is percent-encoded, and the percent sign, so that
/// no two keys are the same.
fn header_text(key: &str) -> String {
    let mut text = String::with_capacity(key.len());
    for byte in key.bytes() {
        match byte {
            b'!'..=b'~' if byte != b'%' => text.push(byte.into()),
            _ => {
                // Writing to a String does not fail.
                let _ = write!(text, "%{byte:02X}");
            }
        }
    }
    text
}

/// The value of `X-Redkit-Signature`.
fn signature(secret: &SecretString, seconds: u64, body: &[u8]) -> String {
    let mut text = format!("t={seconds},v1=");
    // A key of any length will do.
    if let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(secret.expose_secret().as_bytes()) {
        mac.update(seconds.to_string().as_bytes());
        mac.update(b".");
        mac.update(body);
        for byte in mac.finalize().into_bytes() {
            // Writing to a String does not fail.
            let _ = write!(text, "{byte:02x}");
        }
    }
    text
}

#[async_trait]
impl Sink for Webhook {
    fn name(&self) -> &str {
        &self.name
    }

    fn timeout(&self) -> Duration {
        self.timeout
    }

    async fn send(&self, alert: &Alert) -> Result<(), SinkError> {
        let request = self.request(alert)?;
        let response = self.client.request(request).await;
        // The error may hold the URL, which is a secret with some receivers.
        let response = response.map_err(|error| {
            let kind = if error.is_connect() {
                "no connection to the receiver"
            } else {
                "the receiver broke off"
            };
            SinkError::retryable(kind)
        })?;
        let status = response.status();
        match status {
            _ if status.is_success() => Ok(()),
            _ if status.is_redirection() => Err(SinkError::permanent(format!(
                "the receiver redirects ({}), and redirections are not followed; configure the address that it names",
                status.as_u16()
            ))),
            StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_EARLY | StatusCode::TOO_MANY_REQUESTS => {
                let later = response
                    .headers()
                    .get(RETRY_AFTER)
                    .and_then(|value| value.to_str().ok());
                let later = later
                    .map(|later| format!("; it asks for a pause of {later}"))
                    .unwrap_or_default();
                Err(SinkError::retryable(format!(
                    "the receiver answered with {}{later}",
                    status.as_u16()
                )))
            }
            _ if status.is_server_error() => Err(SinkError::retryable(format!(
                "the receiver answered with {}",
                status.as_u16()
            ))),
            _ => Err(SinkError::permanent(format!(
                "the receiver refused the alert with {}; check its address, its secret and the template",
                status.as_u16()
            ))),
        }
    }
}

/// Shows no URL: with some receivers it is a secret.
impl fmt::Debug for Webhook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Webhook")
            .field("name", &self.name)
            .field("template", &self.template)
            .finish_non_exhaustive()
    }
}

/// Settings of a [`Webhook`].
#[must_use = "it does nothing until `build`"]
pub struct WebhookBuilder {
    name: String,
    url: String,
    headers: Vec<(String, SecretString)>,
    secret: Option<SecretString>,
    template: Template,
    timeout: Duration,
}

impl WebhookBuilder {
    /// Signs requests with this secret.
    pub fn secret(mut self, secret: SecretString) -> Self {
        self.secret = Some(secret);
        self
    }

    /// Adds a header, such as `Authorization`.
    pub fn header(mut self, name: &str, value: SecretString) -> Self {
        self.headers.push((name.to_owned(), value));
        self
    }

    /// What the body is. Default: [`Template::Json`].
    pub fn template(mut self, template: Template) -> Self {
        self.template = template;
        self
    }

    /// How long an attempt may take. Default: 5 seconds; at most a minute.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// Builds it. Nothing is sent.
    ///
    /// # Errors
    /// [`Error::Core`] with the setting that cannot work, or when the system's certificates cannot be read.
    pub fn build(self) -> Result<Webhook, Error> {
        check_name("sink", &self.name)?;
        let wrong = |field: &'static str, problem: &'static str, fix: &'static str| {
            Err(Error::from(ConfigError::new(field, problem, fix)))
        };
        let Ok(uri) = self.url.parse::<Uri>() else {
            return wrong(
                "url",
                "it is no URL",
                "give one such as https://example.com/hooks/redkit",
            );
        };
        if !matches!(uri.scheme_str(), Some("http" | "https")) || uri.host().is_none() {
            return wrong(
                "url",
                "it is no http:// or https:// URL",
                "give one such as https://example.com/hooks/redkit",
            );
        }
        if uri
            .authority()
            .is_some_and(|authority| authority.as_str().contains('@'))
        {
            return wrong(
                "url",
                "it holds a user's name or password",
                "give them in the header `Authorization`",
            );
        }
        if self.timeout.is_zero() || self.timeout > Duration::from_secs(60) {
            return wrong(
                "timeout",
                "it is zero or longer than a minute",
                "choose a few seconds",
            );
        }
        let mut headers = Vec::new();
        for (name, value) in &self.headers {
            let parsed = HeaderName::try_from(name.as_str())
                .ok()
                .zip(HeaderValue::from_str(value.expose_secret()).ok());
            let Some((name, mut value)) = parsed else {
                return wrong(
                    "header",
                    "its name or its value cannot stand in HTTP",
                    "use printable ASCII without line breaks",
                );
            };
            value.set_sensitive(true);
            headers.push((name, value));
        }
        let provider = rustls::crypto::ring::default_provider();
        let tls = HttpsConnectorBuilder::new().with_provider_and_native_roots(provider);
        let Ok(tls) = tls else {
            return wrong(
                "url",
                "the system has no certificates to trust",
                "install them (Debian: `ca-certificates`)",
            );
        };
        let connector = tls.https_or_http().enable_http1().build();
        Ok(Webhook {
            name: self.name,
            uri,
            headers,
            secret: self.secret,
            template: self.template,
            timeout: self.timeout,
            client: Client::builder(TokioExecutor::new()).build(connector),
        })
    }
}

impl fmt::Debug for WebhookBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WebhookBuilder")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signature_is_that_of_the_time_and_the_body() {
        // python3 -c 'import hmac; print(hmac.new(b"secret", b"7.{}", "sha256").hexdigest())'
        let expected = "t=7,v1=76aad9429f417882918162a1928a38769fff65cc07b6bfa344ac9c5fb1e3448e";
        assert_eq!(signature(&SecretString::from("secret"), 7, b"{}"), expected);
    }

    #[test]
    fn settings_that_cannot_work_are_refused_and_name_no_secret() {
        for url in ["", "x", "ftp://a/b", "/path", "https://user:pw@a/"] {
            let error = Webhook::builder("hook", url)
                .build()
                .unwrap_err()
                .to_string();
            assert!(error.contains("url") && !error.contains("pw"), "{error}");
        }
        let header =
            Webhook::builder("hook", "http://a").header("x", SecretString::from("a\nsecret"));
        assert!(!format!("{header:?}").contains("secret"));
        assert!(!header.build().unwrap_err().to_string().contains("secret"));
        assert!(
            Webhook::builder("hook", "http://a")
                .timeout(Duration::ZERO)
                .build()
                .is_err()
        );
        assert!(Webhook::builder("a hook", "http://a").build().is_err());
    }
}
