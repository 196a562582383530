//! The addresses that proxies add to a request: `X-Forwarded-For` and `Forwarded` (RFC 7239).

use std::net::{IpAddr, SocketAddr};

use http::header::FORWARDED;
use http::{HeaderMap, HeaderName};

/// Which header a proxy writes. Only the one that the trusted proxies maintain must be read: the
/// other comes from the client as it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Source {
    XForwardedFor,
    Forwarded,
}

/// The hops, the nearest first. `None` for one that is not an address.
pub(super) fn hops(headers: &HeaderMap, source: Source) -> Vec<Option<IpAddr>> {
    let (name, is_quoting) = match source {
        Source::XForwardedFor => (HeaderName::from_static("x-forwarded-for"), false),
        Source::Forwarded => (FORWARDED, true),
    };
    let mut hops = Vec::new();
    for line in headers.get_all(name).iter().rev() {
        // As bytes: what is not text is one hop, and not the whole line.
        for hop in from_the_right(line.as_bytes(), is_quoting) {
            let hop = hop.and_then(|hop| std::str::from_utf8(hop).ok());
            hops.push(hop.and_then(|hop| match source {
                Source::XForwardedFor => address(hop.trim()),
                Source::Forwarded => address_for(hop),
            }));
        }
    }
    hops
}

/// The elements of a list, the last one first; `None` for one that cannot be told.
///
/// The right end was written by the nearest proxy and the left end perhaps by an attacker, so that
/// quotes are counted from the right: one that the client left open ends where it began. Whether a
/// quote is escaped is known from the left only, so an element with a backslash is not trusted.
fn from_the_right(line: &[u8], is_quoting: bool) -> Vec<Option<&[u8]>> {
    let (mut elements, mut rest) = (Vec::new(), line);
    let mut is_quoted = false;
    for (at, byte) in line.iter().enumerate().rev() {
        match byte {
            b'"' if is_quoting => is_quoted = !is_quoted,
            b',' if !is_quoted => {
                let (before, element) = rest.split_at_checked(at).unwrap_or_default();
                elements.push(element.get(1..));
                rest = before;
            }
            _ => {}
        }
    }
    elements.push((!is_quoted).then_some(rest));
    let is_told = |element: &&[u8]| !is_quoting || !element.contains(&b'\\');
    elements
        .into_iter()
        .map(|element| element.filter(is_told))
        .collect()
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
        node(value)
    })
}

/// The address of an RFC 7239 node: `address[:port]`, where the port may be a made-up name that
/// begins with `_` (section 6.3). `unknown` and made-up names have no address.
fn node(text: &str) -> Option<IpAddr> {
    let is_obfuscated = |port: &str| {
        port.strip_prefix('_').is_some_and(|name| {
            let is_allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
            !name.is_empty() && name.bytes().all(is_allowed)
        })
    };
    match text.rsplit_once(':') {
        Some((address_only, port)) if is_obfuscated(port) => address(address_only),
        _ => address(text),
    }
}

/// Splits at a character that does not stand in quotes.
fn split(text: &str, at: char) -> impl Iterator<Item = &str> {
    let mut is_quoted = false;
    text.split(move |c| {
        is_quoted ^= c == '"';
        c == at && !is_quoted
    })
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

    #[test]
    fn an_obfuscated_port_does_not_hide_the_address() {
        let hops = |line: &str| hops_of("forwarded", &[line], Source::Forwarded);
        assert_eq!(hops("for=\"1.1.1.1:_x\""), ["1.1.1.1"]);
        assert_eq!(hops("for=1.1.1.1:_x"), ["1.1.1.1"]);
        assert_eq!(
            hops("for=\"[2001:db8::1]:_a.B-9_\", for=\"1.1.1.1:47011\""),
            ["1.1.1.1", "2001:db8::1"]
        );
        for unknown in [
            "1.1.1.1:_",
            "1.1.1.1:_a b",
            "_x:_y",
            "1.1.1.1:x",
            "unknown:_x",
        ] {
            let line = format!("for=\"{unknown}\"");
            assert_eq!(hops(&line), ["?"], "{unknown}");
        }
    }

    #[test]
    fn nothing_at_the_left_hides_what_the_proxy_wrote() {
        fn hops_in(lines: &[&[u8]], name: &'static str, source: Source) -> Vec<Option<IpAddr>> {
            let mut headers = HeaderMap::new();
            for line in lines {
                let value = http::HeaderValue::from_bytes(line).unwrap();
                headers.append(name, value);
            }
            hops(&headers, source)
        }
        let forwarded = |lines: &[&[u8]]| hops_in(lines, "forwarded", Source::Forwarded);
        let nearest = "1.2.3.4".parse().ok();
        for made_up in [
            &b"for=9.9.9.9;x=\""[..],
            b"for=9.9.9.9;x=\"\\",
            b"for=9.9.9.9;x=\"\\\"",
            b"for=\"9.9.9.9",
            b"\"",
            b"\\",
            b"for=9.9.9.9;x=\xff",
            b"for=\xc3\xa4",
        ] {
            let line = [made_up, b", for=1.2.3.4"].concat();
            assert_eq!(forwarded(&[&line])[0], nearest, "{line:?}");
            assert_eq!(forwarded(&[made_up, b"for=1.2.3.4"])[0], nearest);
            let quoted = [made_up, b",For=\"1.2.3.4:80\";proto=https"].concat();
            assert_eq!(forwarded(&[&quoted])[0], nearest, "{quoted:?}");
        }
        let line = b"9.9.9.9, \xff, 1.2.3.4";
        let hops = hops_in(&[line], "x-forwarded-for", Source::XForwardedFor);
        assert_eq!(hops, [nearest, None, "9.9.9.9".parse().ok()]);
    }

    #[test]
    fn a_hop_with_a_backslash_or_an_open_quote_is_unknown() {
        for line in [
            "for=9.9.9.9, for=\"1.1.1.1\\\"\"",
            "for=9.9.9.9, for=1.1.1.1;by=\"a\\\",for=2.2.2.2,x=\\\"\"",
            "for=9.9.9.9, for=1.1.1.1\"",
            // The text that a client put into its `Host`, as the proxy quotes it.
            "for=1.1.1.1;host=\"a\\\", for=9.9.9.9;x=\\\"b\"",
            "for=1.1.1.1;host=\"\\\", for=9.9.9.9;x=\"",
        ] {
            let hops = hops_of("forwarded", &[line], Source::Forwarded);
            assert_eq!(hops[0], "?", "{line}");
        }
    }
}
