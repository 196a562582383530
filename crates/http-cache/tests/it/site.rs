//! A site behind the layer: axum's server, and requests as they stand on the wire.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::Request;
use axum::response::Response;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use http::request::Parts;
use http::{HeaderName, HeaderValue};
use redkit_cache::Cache;
use redkit_core::Client;
use redkit_http_cache::{CachedResponse, ResponseCacheBuilder, ResponseCacheLayer};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

pub(crate) const SECOND: Duration = Duration::from_secs(1);

pub(crate) fn pages(client: &Client) -> Cache<CachedResponse> {
    let pages = Cache::builder(client, "pages")
        .redis_timeout(20 * SECOND)
        .ttl(60 * SECOND);
    pages.stale_for(60 * SECOND).build().unwrap()
}

/// A handler that knows the how manieth call it answers.
pub(crate) type Handler = Arc<dyn Fn(Parts, usize) -> BoxFuture<'static, Response> + Send + Sync>;

pub(crate) fn at_once(
    answer: impl Fn(Parts, usize) -> Response + Send + Sync + 'static,
) -> Handler {
    Arc::new(move |request, call| std::future::ready(answer(request, call)).boxed())
}

/// The same headers and the number of the call for every request.
pub(crate) fn always(headers: &[(&'static str, &'static str)]) -> Handler {
    let headers = headers.to_vec();
    at_once(move |_, call| response(200, &headers, &format!("call {call}")))
}

pub(crate) fn response(status: u16, headers: &[(&str, &str)], body: &str) -> Response {
    let mut response = Response::builder().status(status);
    for (name, value) in headers {
        response = response.header(*name, *value);
    }
    response.body(Body::from(body.to_owned())).unwrap()
}

pub(crate) struct Site {
    pub(crate) address: SocketAddr,
    calls: Arc<AtomicUsize>,
}

impl Site {
    pub(crate) async fn new(client: &Client, handler: Handler) -> Self {
        Self::with(client, |layer| layer, handler).await
    }

    pub(crate) async fn with(
        client: &Client,
        set: impl FnOnce(ResponseCacheBuilder) -> ResponseCacheBuilder,
        handler: Handler,
    ) -> Self {
        let layer = set(ResponseCacheLayer::builder(&pages(client)));
        Self::behind(layer.build().unwrap(), handler).await
    }

    pub(crate) async fn behind(layer: ResponseCacheLayer, handler: Handler) -> Self {
        let calls = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&calls);
        let handle = move |request: Request| {
            let call = counted.fetch_add(1, Ordering::SeqCst) + 1;
            handler(request.into_parts().0, call)
        };
        let address = serve(Router::new().fallback(handle).layer(layer)).await;
        Self { address, calls }
    }

    /// How often the handler was asked.
    pub(crate) fn calls(&self) -> usize {
        self.calls.load(Ordering::SeqCst)
    }

    pub(crate) async fn get(&self, path: &str) -> Answer {
        self.ask("GET", path, &[]).await
    }

    pub(crate) async fn ask(&self, method: &str, path: &str, headers: &[(&str, &str)]) -> Answer {
        let headers: Vec<_> = headers
            .iter()
            .map(|(name, value)| (*name, value.as_bytes()))
            .collect();
        ask(self.address, method, path, &headers).await
    }

    /// Many requests at once.
    pub(crate) async fn all(&self, number: usize, path: &str) -> Vec<Answer> {
        futures_util::future::join_all((0..number).map(|_| self.get(path))).await
    }
}

pub(crate) async fn serve(routes: Router) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, routes).await.unwrap() });
    address
}

#[derive(Debug, Clone)]
pub(crate) struct Answer {
    /// 0 when the connection ended without one.
    pub(crate) status: u16,
    pub(crate) headers: BTreeMap<String, HeaderValue>,
    pub(crate) body: Vec<u8>,
    /// Whether the body came to its end.
    pub(crate) is_whole: bool,
}

impl Answer {
    pub(crate) fn header(&self, name: &str) -> &str {
        let value = self.headers.get(name);
        value.map_or("", |value| value.to_str().unwrap())
    }

    pub(crate) fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }

    /// Whether it came from the cache.
    pub(crate) fn is_hit(&self) -> bool {
        self.header("cache-status").starts_with("pages; hit")
    }
}

/// One request on a connection of its own; `host: site.test`, unless the headers have another.
pub(crate) async fn ask(
    address: SocketAddr,
    method: &str,
    path: &str,
    headers: &[(&str, &[u8])],
) -> Answer {
    let mut request = format!("{method} {path} HTTP/1.1\r\nconnection: close\r\n").into_bytes();
    if !headers.iter().any(|(name, _)| *name == "host") {
        request.extend(b"host: site.test\r\n");
    }
    for (name, value) in headers {
        request.extend([name.as_bytes(), b": ", value, b"\r\n"].concat());
    }
    request.extend(b"\r\n");
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(&request).await.unwrap();
    let mut raw = Vec::new();
    let read = stream.read_to_end(&mut raw).await;
    parse(&raw, read.is_ok(), method == "HEAD")
}

fn parse(raw: &[u8], is_closed_well: bool, is_head: bool) -> Answer {
    let end = raw.windows(4).position(|four| four == b"\r\n\r\n");
    let Some(end) = end else {
        return Answer {
            status: 0,
            headers: BTreeMap::new(),
            body: Vec::new(),
            is_whole: false,
        };
    };
    let mut lines = raw[..end].split(|&byte| byte == b'\n');
    let first = String::from_utf8(lines.next().unwrap().to_vec()).unwrap();
    let status = first.split(' ').nth(1).unwrap().parse().unwrap();
    let mut headers = BTreeMap::new();
    for line in lines {
        let line = line.trim_ascii_end();
        let colon = line.iter().position(|&byte| byte == b':').unwrap();
        let name = HeaderName::from_bytes(&line[..colon]).unwrap();
        let value = line[colon + 1..].trim_ascii();
        headers.insert(name.to_string(), HeaderValue::from_bytes(value).unwrap());
    }
    let rest = &raw[end + 4..];
    let (body, is_whole) = match headers.get("transfer-encoding") {
        Some(_) => chunks(rest),
        None => {
            let length = headers.get("content-length");
            let length = length.map(|length| length.to_str().unwrap().parse::<usize>().unwrap());
            let is_whole =
                is_head || status == 304 || length.is_none_or(|length| length == rest.len());
            (rest.to_vec(), is_whole)
        }
    };
    Answer {
        status,
        headers,
        body,
        is_whole: is_whole && is_closed_well,
    }
}

fn chunks(mut rest: &[u8]) -> (Vec<u8>, bool) {
    let mut body = Vec::new();
    while let Some(end) = rest.windows(2).position(|two| two == b"\r\n") {
        let length = std::str::from_utf8(&rest[..end]).unwrap();
        let length = usize::from_str_radix(length, 16).unwrap();
        if length == 0 {
            return (body, true);
        }
        rest = &rest[end + 2..];
        if rest.len() < length + 2 {
            break;
        }
        body.extend(&rest[..length]);
        rest = &rest[length + 2..];
    }
    (body, false)
}

/// Waits until something holds, for a minute at most.
pub(crate) async fn until(mut holds: impl AsyncFnMut() -> bool) {
    let looks = async {
        while !holds().await {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    let held = tokio::time::timeout(Duration::from_secs(60), looks).await;
    assert!(held.is_ok(), "it has never held");
}
