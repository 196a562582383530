//! [`Directives`]: what `Cache-Control` says (RFC 9111, section 5.2), or `CDN-Cache-Control` in its
//! place (RFC 9213).
//!
//! Whatever cannot be read allows nothing: a header whose quotes do not match, or in which something
//! stands that is no directive (`private; max-age=0`), counts as `no-store`, a time that is no number, or is given twice and not the same, as 0.

use http::header::{CACHE_CONTROL, PRAGMA};
use http::{HeaderMap, HeaderName};

use crate::list;

/// Of a request or a response; both use the same names.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Directives {
    pub(crate) no_store: bool,
    /// Also when it names fields: who does not take them apart must take it whole (5.2.2.4).
    pub(crate) no_cache: bool,
    pub(crate) private: bool,
    pub(crate) public: bool,
    pub(crate) must_revalidate: bool,
    pub(crate) proxy_revalidate: bool,
    pub(crate) only_if_cached: bool,
    /// Times are in seconds.
    pub(crate) max_age: Option<u64>,
    pub(crate) s_maxage: Option<u64>,
    /// It could not be read, or was given twice and not the same: then it gives no leave either.
    pub(crate) is_s_maxage_bad: bool,
    pub(crate) min_fresh: Option<u64>,
    pub(crate) stale_while_revalidate: Option<u64>,
    pub(crate) stale_if_error: Option<u64>,
    /// They stand in `CDN-Cache-Control`: then `Expires` does not count either.
    pub(crate) is_targeted: bool,
}

const CDN_CACHE_CONTROL: HeaderName = HeaderName::from_static("cdn-cache-control");

/// The time that any longer one counts as (RFC 9111, section 1.2.2).
pub(crate) const LONGEST: u64 = 1 << 31;

impl Directives {
    /// `CDN-Cache-Control` takes the place of `Cache-Control` when it has a member (RFC 9213, 2.2).
    pub(crate) fn of_response(headers: &HeaderMap) -> Self {
        let mut directives = Self::default();
        for line in headers.get_all(CDN_CACHE_CONTROL) {
            let list = list::split(line.as_bytes());
            directives.is_targeted |= !list.elements.is_empty();
            directives.no_store |= list.elements.iter().any(|element| is_no_member(element));
            directives.read(line.as_bytes());
        }
        match directives.is_targeted {
            true => directives,
            false => Self::of_cache_control(headers),
        }
    }

    fn of_cache_control(headers: &HeaderMap) -> Self {
        let mut directives = Self::default();
        for line in headers.get_all(CACHE_CONTROL) {
            directives.read(line.as_bytes());
        }
        directives
    }

    /// `Pragma: no-cache` counts where there is no `Cache-Control` (5.4).
    pub(crate) fn of_request(headers: &HeaderMap) -> Self {
        let mut directives = Self::of_cache_control(headers);
        if !headers.contains_key(CACHE_CONTROL) {
            directives.no_cache = headers.get_all(PRAGMA).iter().any(|line| {
                let list = list::split(line.as_bytes());
                let mut elements = list.elements.iter();
                elements.any(|element| element.eq_ignore_ascii_case(b"no-cache"))
            });
        }
        directives
    }

    /// Whether a response to a request with `Authorization` may be shared (3.5).
    pub(crate) fn allow_sharing_what_is_authorized(&self) -> bool {
        self.public || self.must_revalidate || (self.s_maxage.is_some() && !self.is_s_maxage_bad)
    }

    fn read(&mut self, line: &[u8]) {
        let list = list::split(line);
        self.no_store |= list.is_cut_off;
        for element in list.elements {
            let Some((name, value)) = name_and_value(element) else {
                self.no_store = true;
                continue;
            };
            match name.to_ascii_lowercase().as_slice() {
                b"no-store" => self.no_store = true,
                b"no-cache" => self.no_cache = true,
                b"private" => self.private = true,
                b"public" => self.public = true,
                b"must-revalidate" => self.must_revalidate = true,
                b"proxy-revalidate" => self.proxy_revalidate = true,
                b"only-if-cached" => self.only_if_cached = true,
                b"max-age" => {
                    set(&mut self.max_age, value);
                }
                b"s-maxage" => self.is_s_maxage_bad |= !set(&mut self.s_maxage, value),
                b"min-fresh" => {
                    set(&mut self.min_fresh, value);
                }
                b"stale-while-revalidate" => {
                    set(&mut self.stale_while_revalidate, value);
                }
                b"stale-if-error" => {
                    set(&mut self.stale_if_error, value);
                }
                _ => {}
            }
        }
    }
}

/// `None` when quotes stand where they cannot, or when the name or a value without quotes is no
/// token: a directive that forbids may be hidden in it.
fn name_and_value(element: &[u8]) -> Option<(&[u8], &[u8])> {
    let mut halves = element.splitn(2, |&byte| byte == b'=');
    let name = halves.next()?.trim_ascii();
    let value = halves.next().unwrap_or_default().trim_ascii();
    let value = match value.strip_prefix(b"\"") {
        Some(quoted) => quoted.strip_suffix(b"\"")?,
        // `max-age=` is a time that cannot be read, and hides nothing.
        None if value.is_empty() || is_token(value) => value,
        None => return None,
    };
    is_token(name).then_some((name, value))
}

/// Whether an element cannot stand in a dictionary of structured fields, as far as caches need to
/// know: its name is not in lower case, or its time stands in quotes. RFC 9213 would have a field
/// ignored that is no dictionary; not to keep the response is the safe side of that.
fn is_no_member(element: &[u8]) -> bool {
    let mut halves = element.splitn(2, |&byte| byte == b'=');
    let name = halves.next().unwrap_or_default();
    let is_quoted = halves.next().is_some_and(|value| value.starts_with(b"\""));
    name.iter().any(u8::is_ascii_uppercase) || (is_quoted && TIMES.contains(&name))
}

const TIMES: [&[u8]; 4] = [
    b"max-age",
    b"s-maxage",
    b"stale-while-revalidate",
    b"stale-if-error",
];

/// RFC 9110, section 5.6.2.
fn is_token(text: &[u8]) -> bool {
    let is_of_token = |byte: &u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(byte);
    !text.is_empty() && text.iter().all(is_of_token)
}

/// Whether it could be read.
fn set(time: &mut Option<u64>, value: &[u8]) -> bool {
    let read = seconds(value);
    let is_same = time.is_none_or(|other| read == Some(other));
    *time = Some(read.filter(|_| is_same).unwrap_or(0));
    read.is_some() && is_same
}

/// A number of seconds, cut to what counts.
pub(crate) fn seconds(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() {
        return None;
    }
    digits.iter().try_fold(0_u64, |seconds, digit| {
        let digit = digit.is_ascii_digit().then(|| u64::from(digit - b'0'))?;
        Some((seconds * 10 + digit).min(LONGEST))
    })
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;
    use proptest::prelude::*;

    use super::*;

    fn of(lines: &[&[u8]]) -> Directives {
        let mut headers = HeaderMap::new();
        for line in lines {
            headers.append(CACHE_CONTROL, HeaderValue::from_bytes(line).unwrap());
        }
        Directives::of_response(&headers)
    }

    #[test]
    fn names_are_read_in_any_case_and_over_all_lines() {
        let read = of(&[b"Public, MAX-AGE=60", b"S-MaxAge=\"10\" ,Must-Revalidate"]);
        let expected = Directives {
            public: true,
            must_revalidate: true,
            max_age: Some(60),
            s_maxage: Some(10),
            ..Directives::default()
        };
        assert_eq!(read, expected);
        assert!(of(&[b"NO-STORE"]).no_store);
        assert!(of(&[b"Private=\"set-cookie, x\""]).private);
        assert!(of(&[b"no-cache=\"set-cookie\""]).no_cache);
    }

    #[test]
    fn what_cannot_be_read_allows_nothing() {
        for line in [
            &b"max-age=60, x=\"open, public"[..],
            b"max-age=60, foo\"bar, no-store, b\"az",
            b"max-age=60, x=\"a\"b",
            b"max-age=60, x=\"\\\"",
            b"private; max-age=0",
            b"no-store;",
            b"max-age=60 private",
            b"max-age=60; private",
            b"max-age=60, =private",
            b"max-age=60, x=no-store;",
            b"max-age=60, no\xadstore",
        ] {
            assert!(of(&[line]).no_store, "{line:?}");
        }
        assert!(
            of(&[b"x=\"\xff\xfe\", \xe4, no-store"]).no_store,
            "odd bytes hide nothing"
        );
        for line in [
            &b"max-age=abc"[..],
            b"max-age=",
            b"max-age",
            b"max-age=-1",
            b"max-age=1.5",
            b"max-age=60, max-age=61",
            b"max-age=60, max-age",
        ] {
            assert_eq!(of(&[line]).max_age, Some(0), "{line:?}");
        }
        assert_eq!(of(&[b"max-age=60", b"max-age=60"]).max_age, Some(60));
        let long = b"max-age=99999999999999999999999999999999";
        assert_eq!(of(&[long]).max_age, Some(LONGEST));
    }

    #[test]
    fn an_s_maxage_that_cannot_be_read_shares_nothing() {
        let shares = |line: &[u8]| of(&[line]).allow_sharing_what_is_authorized();
        assert!(shares(b"s-maxage=9") && shares(b"s-maxage=9, s-maxage=9"));
        for line in [&b"s-maxage"[..], b"s-maxage=x", b"s-maxage=9, s-maxage=8"] {
            assert!(!shares(line), "{line:?}");
        }
        assert!(shares(b"s-maxage=x, public"));
    }

    #[test]
    fn what_stands_in_quotes_is_no_directive() {
        let read = of(&[b"max-age=60, ext=\"public, s-maxage=9\""]);
        assert!(!read.public && !read.no_store);
        assert_eq!((read.s_maxage, read.max_age), (None, Some(60)));
    }

    proptest! {
        #[test]
        fn reading_never_panics_and_no_store_is_never_overlooked(
            before in proptest::collection::vec(0x20_u8..=0xff, 0..40),
            after in proptest::collection::vec(0x20_u8..=0xff, 0..40),
        ) {
            let clean = |bytes: &[u8]| -> Vec<u8> {
                bytes.iter().copied().filter(|&byte| byte != 0x7f).collect()
            };
            of(&[&clean(&before)]);
            // Whatever stands before it, unless it is in quotes that are closed after it.
            let unquoted: Vec<u8> = clean(&after).into_iter().filter(|&byte| byte != b'"').collect();
            let line = [&clean(&before)[..], b",no-store,", &unquoted].concat();
            prop_assert!(of(&[&line]).no_store, "{:?}", line);
        }

        #[test]
        fn a_directive_that_something_is_stuck_to_is_not_overlooked(
            name in proptest::sample::select(vec!["no-store", "private", "no-cache"]),
            stuck in proptest::sample::select(vec![";", " ", "; max-age=9", ":", "/", "\u{e4}", "\""]),
            is_before in proptest::bool::ANY,
        ) {
            let element = match is_before {
                true => format!("{stuck}{name}"),
                false => format!("{name}{stuck}"),
            };
            let read = of(&[format!("max-age=60, {element}").as_bytes()]);
            prop_assert!(read.no_store || read.private || read.no_cache, "{element:?}");
        }

        #[test]
        fn likely_pieces_in_any_order_do_no_harm(
            pieces in proptest::collection::vec(
                proptest::sample::select(vec![
                    "max-age", "=", "\"", ",", " ", "60", "\\", "no-store", "private", ";", "-1",
                ]),
                0..30,
            ),
        ) {
            of(&[pieces.concat().as_bytes()]);
        }
    }
}
