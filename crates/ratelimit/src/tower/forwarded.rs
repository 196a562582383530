//! The addresses that proxies add to a request: `X-Forwarded-For` and `Forwarded` (RFC 7239).

use std::net::{IpAddr, SocketAddr};

use http::HeaderMap;
use http::header::FORWARDED;

/// Which header a proxy writes. Only the one that the trusted proxies maintain must be read: the
/// other comes from the client as it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Source {
    XForwardedFor,
    Forwarded,
}

/// The hops, the nearest first. `None` for one that is not an address.
pub(super) fn hops(headers: &HeaderMap, source: Source) -> Vec<Option<IpAddr>> {
    let mut hops = Vec::new();
    match source {
        Source::XForwardedFor => {
            for line in headers.get_all("x-forwarded-for") {
                // A line that is not text is a hop that is not an address.
                let line = line.to_str().unwrap_or("?");
                hops.extend(line.split(',').map(|hop| address(hop.trim())));
            }
        }
        Source::Forwarded => {
            for line in headers.get_all(FORWARDED) {
                let line = line.to_str().unwrap_or("?");
                hops.extend(split(line, ',').map(|hop| address_for(&hop)));
            }
        }
    }
    hops.reverse();
    hops
}

/// An address as proxies write it, with or without a port.
fn address(text: &str) -> Option<IpAddr> {
    if let Ok(address) = text.parse::<IpAddr>() {
        return Some(address);
    }
    if let Ok(address) = text.parse::<SocketAddr>() {
        return Some(address.ip());
    }
    text.strip_prefix('[')?.strip_suffix(']')?.parse().ok()
}

/// The `for` of one element of `Forwarded`.
fn address_for(element: &str) -> Option<IpAddr> {
    split(element, ';').find_map(|pair| {
        let (name, value) = pair.split_once('=')?;
        if !name.trim().eq_ignore_ascii_case("for") {
            return None;
        }
        let value = value.trim();
        let value = value
            .strip_prefix('"')
            .and_then(|value| value.strip_suffix('"'))
            .unwrap_or(value);
        address(value)
    })
}

/// Splits at a character that does not stand in quotes.
fn split(text: &str, at: char) -> impl Iterator<Item = String> {
    let (mut parts, mut part) = (Vec::new(), String::new());
    let (mut is_quoted, mut is_escaped) = (false, false);
    for c in text.chars() {
        match c {
            _ if is_escaped => is_escaped = false,
            '\\' if is_quoted => is_escaped = true,
            '"' => is_quoted = !is_quoted,
            _ => {}
        }
        if c == at && !is_quoted {
            parts.push(std::mem::take(&mut part));
        } else {
            part.push(c);
        }
    }
    parts.push(part);
    parts.into_iter()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hops_of(name: &'static str, lines: &[&str], source: Source) -> Vec<String> {
        let mut headers = HeaderMap::new();
        for line in lines {
            headers.append(name, line.parse().unwrap());
        }
        let hops = hops(&headers, source).into_iter();
        hops.map(|hop| hop.map_or("?".to_owned(), |hop| hop.to_string()))
            .collect()
    }

    #[test]
    fn x_forwarded_for_is_read_from_the_right_over_all_lines() {
        let hops = |lines: &[&str]| hops_of("x-forwarded-for", lines, Source::XForwardedFor);
        assert_eq!(
            hops(&["1.1.1.1, 2.2.2.2", "3.3.3.3"]),
            ["3.3.3.3", "2.2.2.2", "1.1.1.1"]
        );
        assert_eq!(
            hops(&["1.1.1.1:80,[2001:db8::1]:443,[::1],2001:db8::2"]),
            ["2001:db8::2", "::1", "2001:db8::1", "1.1.1.1"]
        );
        assert_eq!(hops(&["evil, , 1.1.1.1"]), ["1.1.1.1", "?", "?"]);
        assert!(hops(&[]).is_empty());
    }

    #[test]
    fn forwarded_is_read_as_rfc_7239_has_it() {
        let hops = |lines: &[&str]| hops_of("forwarded", lines, Source::Forwarded);
        assert_eq!(
            hops(&[
                "for=192.0.2.43, For=\"[2001:db8:cafe::17]:4711\";proto=https;by=203.0.113.43",
                "for=\"_x,y;for=9.9.9.9\", for=unknown, proto=http;for=198.51.100.17",
            ]),
            ["198.51.100.17", "?", "?", "2001:db8:cafe::17", "192.0.2.43"]
        );
    }
}
