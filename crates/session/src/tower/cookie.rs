//! [`SessionCookie`]: the cookie that carries an id.

use std::time::Duration;

use http::header::{COOKIE, SET_COOKIE};
use http::{HeaderMap, HeaderValue};
use redkit_core::ConfigError;
use secrecy::ExposeSecret;

use super::transport::Presented;
use crate::id::SessionId;

/// Which requests of other sites a browser sends the cookie with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum SameSite {
    /// With none, not even when a link of another site is followed: the user seems signed out then.
    Strict,
    /// With links that are followed, and with nothing else.
    #[default]
    Lax,
}

/// The longest name without its prefix. Name and value have 4,096 bytes at most together (ASVS 3.3.5).
const LONGEST_NAME: usize = 64;
/// With it a browser takes the cookie over TLS only, for this host only, and from no other path.
const PREFIX: &str = "__Host-";

/// The name and the attributes of a layer's cookie.
#[derive(Debug, Clone)]
pub(super) struct SessionCookie {
    name: String,
    attributes: String,
}

impl SessionCookie {
    /// # Errors
    /// [`ConfigError`] for a name that a cookie cannot have.
    pub(super) fn new(
        name: &str,
        same_site: SameSite,
        is_secure: bool,
    ) -> Result<Self, ConfigError> {
        let is_token =
            |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
        if name.is_empty() || name.len() > LONGEST_NAME || !name.bytes().all(is_token) {
            return Err(ConfigError::new(
                "cookie_name",
                "it is empty, longer than 64 bytes, or has characters that a cookie's name cannot have",
                "use letters, digits, `-` and `_`, such as `session`",
            ));
        }
        if name.starts_with("__") {
            return Err(ConfigError::new(
                "cookie_name",
                "it begins with two underscores, as prefixes do that browsers treat specially",
                "leave the prefix away: `__Host-` is added",
            ));
        }
        let same_site = match same_site {
            SameSite::Strict => "Strict",
            SameSite::Lax => "Lax",
        };
        let (prefix, secure) = match is_secure {
            true => (PREFIX, "; Secure"),
            false => ("", ""),
        };
        Ok(Self {
            name: format!("{prefix}{name}"),
            attributes: format!("; Path=/{secure}; HttpOnly; SameSite={same_site}"),
        })
    }

    /// What a request has of it.
    pub(super) fn read(&self, headers: &HeaderMap) -> Presented {
        let mut presented = Presented::Nothing;
        for header in headers.get_all(COOKIE) {
            for pair in header.as_bytes().split(|&byte| byte == b';') {
                let pair = pair.trim_ascii();
                let Some(at) = pair.iter().position(|&byte| byte == b'=') else {
                    continue;
                };
                let (name, value) = pair.split_at(at);
                if name.trim_ascii_end() != self.name.as_bytes() {
                    continue;
                }
                let value = value.split_at(1).1.trim_ascii_start();
                presented = presented.and(value);
            }
        }
        presented
    }

    /// Gives the id to the client; without a time the cookie ends with the browser's session.
    pub(super) fn give(&self, headers: &mut HeaderMap, id: &SessionId, max_age: Option<Duration>) {
        let id = id.expose();
        let max_age = match max_age {
            Some(time) => format!("; Max-Age={}", time.as_secs()),
            None => String::new(),
        };
        let (name, attributes) = (&self.name, &self.attributes);
        set(
            headers,
            &format!("{name}={}{attributes}{max_age}", id.expose_secret()),
        );
    }

    /// Takes the cookie from the client. A browser removes only what has the same attributes.
    pub(super) fn take_back(&self, headers: &mut HeaderMap) {
        let (name, attributes) = (&self.name, &self.attributes);
        let end = "Max-Age=0; Expires=Thu, 01 Jan 1970 00:00:00 GMT";
        set(headers, &format!("{name}={attributes}; {end}"));
    }
}

fn set(headers: &mut HeaderMap, cookie: &str) {
    // Names are checked, and ids are base64url.
    let Ok(mut value) = HeaderValue::from_str(cookie) else {
        return;
    };
    value.set_sensitive(true);
    headers.append(SET_COOKIE, value);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(cookies: &[&str]) -> Presented {
        let cookie = SessionCookie::new("id", SameSite::Lax, true).unwrap();
        let mut headers = HeaderMap::new();
        for cookie in cookies {
            headers.append(COOKIE, HeaderValue::from_bytes(cookie.as_bytes()).unwrap());
        }
        cookie.read(&headers)
    }

    #[test]
    fn a_cookie_is_found_among_others_and_two_of_a_name_are_none() {
        let is = |cookies: &[&str], expected: &str| matches!(read(cookies), Presented::Id(id) if id.expose_secret() == expected);
        assert!(is(&["__Host-id=abc"], "abc"));
        assert!(is(&["a=b; __Host-id = abc ;c=d"], "abc"));
        assert!(is(&["a=b", "x; ;=; __Host-id=a=b"], "a=b"));
        assert!(is(&["__Host-id=abc; __Host-id=abc"], "abc"));
        for none in ["", "id=abc", "__host-id=abc", "x__Host-id=abc", "__Host-id"] {
            assert!(matches!(read(&[none]), Presented::Nothing), "{none}");
        }
        for unusable in [
            "__Host-id=abc; __Host-id=abd",
            "__Host-id=abc; __Host-id=",
            "__Host-id=\u{e4}; __Host-id=a",
        ] {
            assert!(
                matches!(read(&[unusable]), Presented::Unusable),
                "{unusable}"
            );
        }
        assert!(matches!(
            read(&["__Host-id=a", "__Host-id=b"]),
            Presented::Unusable
        ));
    }

    #[test]
    fn names_that_no_cookie_can_have_are_refused() {
        for wrong in [
            "",
            "a b",
            "a=b",
            "a;b",
            "\u{e4}",
            "__Host-id",
            "__Secure-id",
            &"x".repeat(65),
        ] {
            assert!(
                SessionCookie::new(wrong, SameSite::Lax, true).is_err(),
                "{wrong}"
            );
        }
    }
}
