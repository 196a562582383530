//! Which of several responses of one target a request gets (RFC 9111, section 4.1).

use bytes::Bytes;
use http::header::{
    ACCEPT, ACCEPT_CHARSET, ACCEPT_ENCODING, ACCEPT_LANGUAGE, AUTHORIZATION, COOKIE,
    PROXY_AUTHORIZATION, VARY,
};
use http::{HeaderMap, HeaderName};
use redkit_core::http_layer::Octets;

use crate::list;
use crate::storable::Reason;

/// A field that selects, and what the request has there; `None` when it does not have the field.
pub(crate) type Selected = (String, Option<Octets>);

/// More fields would hardly ever find the same response again.
const MOST_NAMES: usize = 8;

/// The bytes that all selecting fields of a request may have together.
const MOST_BYTES: usize = 1024;

/// The names in `Vary`: in lower case, in order, each once.
pub(crate) fn names(headers: &HeaderMap) -> Result<Vec<String>, Reason> {
    let mut names = Vec::new();
    for line in headers.get_all(VARY) {
        let list = list::split(line.as_bytes());
        for element in list.elements {
            // `*` is a name by its characters.
            let name = HeaderName::from_bytes(element).ok();
            let name = name.filter(|name| name != "*").ok_or(Reason::Vary)?;
            names.push(name.as_str().to_owned());
        }
    }
    names.sort_unstable();
    names.dedup();
    match names.len() > MOST_NAMES {
        true => Err(Reason::VaryTooLong),
        false => Ok(names),
    }
}

/// Both lists in one.
pub(crate) fn union(names: &[String], more: &[String]) -> Result<Vec<String>, Reason> {
    let mut names = [names, more].concat();
    names.sort_unstable();
    names.dedup();
    match names.len() > MOST_NAMES {
        true => Err(Reason::VaryTooLong),
        false => Ok(names),
    }
}

/// The values of these fields in a request. Credentials are no key: they would be kept, readable, in
/// Redis, and hardly anybody has the same.
pub(crate) fn select(names: &[String], headers: &HeaderMap) -> Result<Vec<Selected>, Reason> {
    let mut length = 0;
    let mut selected = Vec::with_capacity(names.len());
    for name in names {
        let field = HeaderName::from_bytes(name.as_bytes()).map_err(|_| Reason::Vary)?;
        let value = value(&field, headers)?;
        if value.is_some() && [COOKIE, AUTHORIZATION, PROXY_AUTHORIZATION].contains(&field) {
            return Err(Reason::VarySecret);
        }
        length += value.as_ref().map_or(0, Vec::len);
        if length > MOST_BYTES {
            return Err(Reason::VaryTooLong);
        }
        let value = value.map(|value| Octets::new(Bytes::from(value)));
        selected.push((name.clone(), value));
    }
    Ok(selected)
}

/// The place among so many where a variant is kept. Only where: whether it is the one is compared
/// by the fields themselves. FNV-1a, because it has to be the same in all processes.
pub(crate) fn slot(selected: &[Selected], slots: u64) -> u64 {
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    let mut add = |bytes: &[u8]| {
        for &byte in bytes {
            hash = (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
        }
    };
    for (name, value) in selected {
        add(name.as_bytes());
        match value {
            Some(value) => {
                add(b"=");
                add(value.bytes());
            }
            None => add(b"-"),
        }
        add(b"\n");
    }
    // The low bits of FNV are its weakest.
    (hash ^ (hash >> 32)) % slots.max(1)
}

/// The value of a field. A list by its definition loses the white space around its elements and
/// their parts, and the case where that does not matter; the encodings are put in order as well.
/// Other fields are taken as they are. One with several lines is refused: some handlers look at the
/// first, some at the last, some at all.
fn value(name: &HeaderName, headers: &HeaderMap) -> Result<Option<Vec<u8>>, Reason> {
    let mut lines = headers.get_all(name).iter();
    let Some(line) = lines.next() else {
        return Ok(None);
    };
    if lines.next().is_some() {
        return Err(Reason::Vary);
    }
    if ![ACCEPT, ACCEPT_CHARSET, ACCEPT_ENCODING, ACCEPT_LANGUAGE].contains(name) {
        return Ok(Some(line.as_bytes().to_vec()));
    }
    let mut elements = Vec::new();
    for element in list::split(line.as_bytes()).elements {
        let element: Vec<u8> = match element.contains(&b'"') {
            // A parameter in quotes, which has its own rules.
            true => element.to_vec(),
            false => without_space(element),
        };
        elements.push(match *name == ACCEPT {
            true => element,
            false => element.to_ascii_lowercase(),
        });
    }
    if *name == ACCEPT_ENCODING {
        elements.sort_unstable();
        elements.dedup();
    }
    Ok(Some(elements.join(&b","[..])))
}

/// Without the white space next to `;` and `=`. What stands inside of a word stays: handlers do not
/// read `g zip` like `gzip`.
fn without_space(element: &[u8]) -> Vec<u8> {
    let halves = |part: &[u8]| -> Vec<u8> {
        let halves: Vec<_> = part
            .split(|&byte| byte == b'=')
            .map(<[u8]>::trim_ascii)
            .collect();
        halves.join(&b"="[..])
    };
    let parts: Vec<_> = element.split(|&byte| byte == b';').map(halves).collect();
    parts.join(&b";"[..])
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn headers(lines: &[(&'static str, &[u8])]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in lines {
            headers.append(*name, HeaderValue::from_bytes(value).unwrap());
        }
        headers
    }

    #[test]
    fn vary_is_read_over_all_lines_and_star_is_refused() {
        let of = |lines: &[&[u8]]| {
            let lines: Vec<_> = lines.iter().map(|line| ("vary", *line)).collect();
            names(&headers(&lines))
        };
        let two = of(&[b"Accept-Language , accept-encoding", b"Accept-Encoding"]);
        assert_eq!(two.unwrap(), ["accept-encoding", "accept-language"]);
        assert!(of(&[]).unwrap().is_empty());
        for line in [&b"*"[..], b"accept, *", b"b\xe4d", b"a b"] {
            assert_eq!(of(&[line]), Err(Reason::Vary), "{line:?}");
        }
        let long: Vec<_> = (0..100).map(|n| format!("x-{n}")).collect();
        assert_eq!(of(&[long.join(",").as_bytes()]), Err(Reason::VaryTooLong));
    }

    #[test]
    fn lists_that_say_the_same_are_the_same() {
        let of = |name: &'static str, lines: &[&[u8]]| {
            let lines: Vec<_> = lines.iter().map(|line| (name, *line)).collect();
            select(&[name.to_owned()], &headers(&lines)).unwrap()
        };
        let same = |name, one: &[&[u8]], other: &[&[u8]]| of(name, one) == of(name, other);
        assert!(!same("accept-encoding", &[b"gzip, br"], &[b"gzip"]));
        assert!(same(
            "accept-encoding",
            &[b"gzip, br;q=1"],
            &[b"BR ; q = 1,gzip"]
        ));
        assert!(same(
            "accept-language",
            &[b"de-DE, en;q=0.5"],
            &[b"de-de,en; q=0.5"]
        ));
        assert!(
            !same("accept-language", &[b"de, en"], &[b"en, de"]),
            "order may matter"
        );
        assert!(
            !same("accept-encoding", &[b"g zip"], &[b"gzip"]),
            "nobody reads them alike"
        );
        assert!(
            !same("x-list", &[b"a, b"], &[b"a,b"]),
            "nobody says that it is a list"
        );
        assert!(
            !same("accept", &[b""], &[]),
            "nothing is not the same as empty"
        );
        assert!(!same("x-odd", &[b"\xff"], &[b"\xfe"]));
    }

    #[test]
    fn credentials_and_long_fields_are_no_key() {
        let cookie = ["cookie".to_owned()];
        let with = headers(&[("cookie", b"id=1")]);
        assert_eq!(select(&cookie, &with), Err(Reason::VarySecret));
        assert!(select(&cookie, &HeaderMap::new()).is_ok());
        let long = headers(&[("x", &[b'a'; 1025])]);
        assert_eq!(select(&["x".to_owned()], &long), Err(Reason::VaryTooLong));
    }

    #[test]
    fn a_field_with_several_lines_is_no_key() {
        for name in ["accept-language", "x-tenant"] {
            let twice = headers(&[(name, b"a"), (name, b"b")]);
            assert_eq!(
                select(&[name.to_owned()], &twice),
                Err(Reason::Vary),
                "{name}"
            );
        }
    }

    #[test]
    fn slots_are_bounded_and_depend_on_the_values() {
        let of = |value: String| {
            let value = Octets::new(Bytes::from(value));
            slot(&[("x".to_owned(), Some(value))], 64)
        };
        let slots: std::collections::HashSet<_> = (0..1000).map(|n| of(n.to_string())).collect();
        assert_eq!(slots.len(), 64);
        assert!(slots.iter().all(|&slot| slot < 64));
    }
}
