//! Which of its two formats a client wants: pages for people, JSON for programs.

use axum::http::HeaderMap;
use axum::http::header::ACCEPT;

/// The format of an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Format {
    Html,
    Json,
}

impl Format {
    /// What the `Accept` header asks for: JSON when it is preferred to HTML, a page otherwise, also
    /// for a client that says nothing.
    pub(crate) fn of(headers: &HeaderMap) -> Self {
        let accepted: Vec<Range<'_>> = headers
            .get_all(ACCEPT)
            .iter()
            .filter_map(|value| value.to_str().ok())
            .flat_map(|value| value.split(','))
            .filter_map(Range::parse)
            .collect();
        let json = quality(&accepted, "application", "json");
        let html = quality(&accepted, "text", "html");
        if json > html {
            Format::Json
        } else {
            Format::Html
        }
    }
}

/// One range of an `Accept` header: `text/*;q=0.5`.
struct Range<'a> {
    kind: &'a str,
    subtype: &'a str,
    /// In thousandths, which is how finely the header can say it.
    quality: u16,
}

impl<'a> Range<'a> {
    fn parse(text: &'a str) -> Option<Self> {
        let mut parts = text.split(';').map(str::trim);
        let (kind, subtype) = parts.next()?.split_once('/')?;
        let quality = parts
            .filter_map(|parameter| parameter.split_once('='))
            .find(|(name, _)| name.eq_ignore_ascii_case("q"))
            .map_or(Some(1000), |(_, value)| thousandths(value))?;
        Some(Self {
            kind,
            subtype,
            quality,
        })
    }

    /// How exactly the range names the type; `None` when it does not match.
    fn precision(&self, kind: &str, subtype: &str) -> Option<u8> {
        let same = |a: &str, b: &str| a.eq_ignore_ascii_case(b);
        match (self.kind, self.subtype) {
            ("*", "*") => Some(0),
            (own, "*") if same(own, kind) => Some(1),
            (own, sub) if same(own, kind) && same(sub, subtype) => Some(2),
            _ => None,
        }
    }
}

/// The quality that the most exact matching range gives a type; 0 when none matches.
fn quality(ranges: &[Range<'_>], kind: &str, subtype: &str) -> u16 {
    ranges
        .iter()
        .filter_map(|range| Some((range.precision(kind, subtype)?, range.quality)))
        .max()
        .map_or(0, |(_, quality)| quality)
}

/// `0`, `1`, `0.5`, `0.333`.
fn thousandths(text: &str) -> Option<u16> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    if fraction.len() > 3 || !fraction.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let fraction: u16 = format!("{fraction:0<3}").parse().ok()?;
    match whole {
        "0" => Some(fraction),
        "1" if fraction == 0 => Some(1000),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn format(accept: &str) -> Format {
        let mut headers = HeaderMap::new();
        headers.insert(ACCEPT, accept.parse().unwrap());
        Format::of(&headers)
    }

    #[test]
    fn programs_get_json_and_people_pages() {
        assert_eq!(Format::of(&HeaderMap::new()), Format::Html);
        let browser = "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8";
        for html in [
            browser,
            "*/*",
            "text/html, application/json",
            "application/json;q=0.5, text/html;q=0.9",
            "application/json;q=0",
            "image/png",
            "application/json;q=nonsense",
            ";;,,/",
        ] {
            assert_eq!(format(html), Format::Html, "{html}");
        }
        for json in [
            "application/json",
            "Application/JSON; charset=utf-8",
            "application/*",
            "text/html;q=0.2, application/json;q=0.201",
            "text/html;q=0, */*",
        ] {
            assert_eq!(format(json), Format::Json, "{json}");
        }
    }
}
