//! [`Transport`]: how an id travels.

use std::time::Duration;

use http::header::{AUTHORIZATION, COOKIE};
use http::{HeaderMap, HeaderName, HeaderValue};
use secrecy::{ExposeSecret, SecretString};

use super::cookie::SessionCookie;
use crate::id::SessionId;

/// What a request has presented as its id.
#[derive(Debug, Clone)]
pub(super) enum Presented {
    Nothing,
    Id(SecretString),
    /// Several different ones, or bytes that are no text: nobody can tell which one is meant.
    Unusable,
}

/// Where ids are read, and given out.
#[derive(Debug, Clone)]
pub(super) enum Transport {
    Cookie(SessionCookie),
    /// In a header of the application's own, both ways.
    Header(HeaderName),
    /// In `Authorization: Bearer`, and given out in a header of the application's own.
    Bearer(HeaderName),
}

impl Presented {
    /// With one more.
    pub(super) fn and(self, value: &[u8]) -> Self {
        let Ok(value) = std::str::from_utf8(value) else {
            return Presented::Unusable;
        };
        match self {
            Presented::Nothing => Presented::Id(value.into()),
            Presented::Id(other) if other.expose_secret() == value => Presented::Id(other),
            Presented::Id(_) | Presented::Unusable => Presented::Unusable,
        }
    }

    /// Whether there is something that can be no id.
    pub(super) fn is_unreadable(&self) -> bool {
        match self {
            Presented::Nothing => false,
            Presented::Id(id) => SessionId::parse(id.expose_secret()).is_none(),
            Presented::Unusable => true,
        }
    }

    pub(super) fn is_something(&self) -> bool {
        !matches!(self, Presented::Nothing)
    }
}

impl Transport {
    pub(super) fn read(&self, headers: &HeaderMap) -> Presented {
        match self {
            Transport::Cookie(cookie) => cookie.read(headers),
            Transport::Header(name) => headers
                .get_all(name)
                .iter()
                .fold(Presented::Nothing, |presented, value| {
                    presented.and(value.as_bytes().trim_ascii())
                }),
            Transport::Bearer(_) => headers
                .get_all(AUTHORIZATION)
                .iter()
                .filter_map(|value| {
                    let (scheme, id) = value.as_bytes().split_at_checked(7)?;
                    scheme
                        .eq_ignore_ascii_case(b"bearer ")
                        .then_some(id.trim_ascii())
                })
                .fold(Presented::Nothing, Presented::and),
        }
    }

    /// Gives an id to the client.
    pub(super) fn give(&self, headers: &mut HeaderMap, id: &SessionId, max_age: Option<Duration>) {
        match self {
            Transport::Cookie(cookie) => cookie.give(headers, id, max_age),
            Transport::Header(name) | Transport::Bearer(name) => {
                let id = id.expose();
                if let Ok(mut value) = HeaderValue::from_str(id.expose_secret()) {
                    value.set_sensitive(true);
                    headers.insert(name, value);
                }
            }
        }
    }

    /// Tells the client that its id is none any more.
    pub(super) fn take_back(&self, headers: &mut HeaderMap) {
        match self {
            Transport::Cookie(cookie) => cookie.take_back(headers),
            Transport::Header(name) | Transport::Bearer(name) => {
                headers.insert(name, HeaderValue::from_static(""));
            }
        }
    }

    /// Whether browsers send the id by themselves, also with requests that another site makes.
    pub(super) fn is_sent_by_itself(&self) -> bool {
        matches!(self, Transport::Cookie(_))
    }

    /// The header of a request that answers depend on.
    pub(super) fn varies_by(&self) -> HeaderName {
        match self {
            Transport::Cookie(_) => COOKIE,
            Transport::Header(name) => name.clone(),
            Transport::Bearer(_) => AUTHORIZATION,
        }
    }
}
