//! The page itself: files that are compiled in. No build step, and no request to elsewhere.

use std::sync::LazyLock;

use axum::body::Body;
use axum::http::{HeaderMap, HeaderValue, Response, StatusCode, header};
use sha2::{Digest, Sha256};

struct Asset {
    name: &'static str,
    kind: &'static str,
    text: &'static str,
}

const fn script(name: &'static str, text: &'static str) -> Asset {
    let kind = "text/javascript; charset=utf-8";
    Asset { name, kind, text }
}

const INDEX: Asset = Asset {
    name: "",
    kind: "text/html; charset=utf-8",
    text: include_str!("app/index.html"),
};

static ASSETS: [Asset; 20] = [
    Asset {
        name: "app.css",
        kind: "text/css; charset=utf-8",
        text: include_str!("app/app.css"),
    },
    Asset {
        name: "icon.svg",
        kind: "image/svg+xml",
        text: include_str!("app/icon.svg"),
    },
    script("app.js", include_str!("app/app.js")),
    script("dom.js", include_str!("app/dom.js")),
    script("format.js", include_str!("app/format.js")),
    script("chart.js", include_str!("app/chart.js")),
    script("server.js", include_str!("app/server.js")),
    script("dialog.js", include_str!("app/dialog.js")),
    script("list.js", include_str!("app/list.js")),
    script("objects.js", include_str!("app/objects.js")),
    script("others.js", include_str!("app/others.js")),
    script("parts.js", include_str!("app/parts.js")),
    script("overview.js", include_str!("app/overview.js")),
    script("topics.js", include_str!("app/topics.js")),
    script("patterns.js", include_str!("app/patterns.js")),
    script("locks.js", include_str!("app/locks.js")),
    script("sessions.js", include_str!("app/sessions.js")),
    script("servers.js", include_str!("app/servers.js")),
    script("keyspace.js", include_str!("app/keyspace.js")),
    script("processes.js", include_str!("app/processes.js")),
];

/// The tags of all files, so that a browser that has them is told so.
static TAG: LazyLock<HeaderValue> = LazyLock::new(|| {
    let mut hash = Sha256::new();
    for asset in &ASSETS {
        hash.update(asset.text);
    }
    let digest = hash.finalize();
    let digits: String = digest
        .iter()
        .take(12)
        .map(|byte| format!("{byte:02x}"))
        .collect();
    HeaderValue::from_str(&format!("\"{digits}\"")).unwrap_or(HeaderValue::from_static("\"0\""))
});

/// The page, as it is found at a path that ends with `last`.
pub(super) fn index(last: &str) -> Response<Body> {
    let text = match last {
        "" => INDEX.text.to_owned(),
        last => INDEX
            .text
            .replace("\"assets/", &format!("\"{last}/assets/")),
    };
    let mut response = Response::new(Body::from(text));
    let kind = HeaderValue::from_static(INDEX.kind);
    response.headers_mut().insert(header::CONTENT_TYPE, kind);
    response
}

pub(super) fn asset(name: &str, headers: &HeaderMap) -> Option<Response<Body>> {
    let asset = ASSETS.iter().find(|asset| asset.name == name)?;
    Some(answer(asset, headers))
}

fn answer(asset: &Asset, headers: &HeaderMap) -> Response<Body> {
    let is_known = headers.get(header::IF_NONE_MATCH) == Some(&*TAG);
    let mut response = match is_known {
        true => Response::new(Body::empty()),
        false => Response::new(Body::from(asset.text)),
    };
    if is_known {
        *response.status_mut() = StatusCode::NOT_MODIFIED;
    }
    let into = response.headers_mut();
    into.insert(header::CONTENT_TYPE, HeaderValue::from_static(asset.kind));
    into.insert(header::ETAG, TAG.clone());
    into.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_file_that_the_page_names_is_there_and_nothing_is_fetched_elsewhere() {
        let all = || ASSETS.iter().chain([&INDEX]);
        for asset in all() {
            for (at, _) in asset.text.match_indices("http") {
                let rest = &asset.text[at..];
                let is_a_name = rest.starts_with("http://www.w3.org/2000/svg");
                assert!(
                    is_a_name || !rest.starts_with("http"),
                    "{}: {:.60}",
                    asset.name,
                    rest
                );
            }
            let mut rest = asset.text;
            while let Some(at) = rest.find("from \"./") {
                rest = &rest[at + 8..];
                let named = rest.split('"').next().unwrap();
                assert!(
                    ASSETS.iter().any(|other| other.name == named),
                    "{}: {named}",
                    asset.name
                );
            }
            for forbidden in [" style=", "innerHTML", "eval(", " onclick="] {
                assert!(
                    !asset.text.contains(forbidden),
                    "{}: {forbidden}",
                    asset.name
                );
            }
        }
        for named in INDEX.text.split("assets/").skip(1) {
            let named = named.split('"').next().unwrap();
            assert!(
                ASSETS.iter().any(|other| other.name == named),
                "index: {named}"
            );
        }
    }
}
