//! The layer over real HTTP: axum's server, requests as they stand on the wire.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use ::http::HeaderName;
use axum::Router;
use axum::routing::get;
use redkit_core::{Client, ClientConfig};
use redkit_embedded::Embedded;
use redkit_ratelimit::tower::{
    ByExtension, ByHeader, ClientAddress, ForAll, OnMissingKey, RateLimitLayer,
};
use redkit_ratelimit::{Decision, OnOutage, Policy, Quota, RateLimiter};
use redkit_testkit::{Server, ServerOptions};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

pub(crate) fn engine() -> Client {
    Client::from_backend(Arc::new(Embedded::new()), &ClientConfig::default()).unwrap()
}

pub(crate) fn limiter(client: &Client, name: &str, policy: Policy) -> RateLimiter {
    RateLimiter::builder(client, name)
        .policy(policy)
        .build()
        .unwrap()
}

pub(crate) async fn serve(routes: Router) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let service = routes.into_make_service_with_connect_info::<SocketAddr>();
    tokio::spawn(async move { axum::serve(listener, service).await.unwrap() });
    address
}

#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    headers: Vec<(String, String)>,
    pub(crate) body: String,
}

impl Answer {
    /// The values of a header, one for each line.
    fn all(&self, name: &str) -> Vec<&str> {
        let lines = self.headers.iter().filter(|(other, _)| other == name);
        lines.map(|(_, value)| value.as_str()).collect()
    }

    /// The value of a header that stands there once at most.
    pub(crate) fn header(&self, name: &str) -> &str {
        match *self.all(name) {
            [] => "",
            [value] => value,
            _ => panic!("several: {self:?}"),
        }
    }
}

/// One request on a connection of its own.
pub(crate) async fn ask(address: SocketAddr, path: &str, headers: &[(&str, &str)]) -> Answer {
    let mut request = format!("GET {path} HTTP/1.1\r\nhost: test\r\nconnection: close\r\n");
    for (name, value) in headers {
        request += &format!("{name}: {value}\r\n");
    }
    request += "\r\n";
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).await.unwrap();
    let (head, body) = text.split_once("\r\n\r\n").unwrap();
    let mut lines = head.lines();
    let status = lines
        .next()
        .unwrap()
        .split(' ')
        .nth(1)
        .unwrap()
        .parse()
        .unwrap();
    let headers = lines
        .filter_map(|line| line.split_once(": "))
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect();
    Answer {
        status,
        headers,
        body: body.to_owned(),
    }
}

pub(crate) async fn hello() -> &'static str {
    "hello"
}

#[tokio::test]
async fn answers_say_what_the_limits_say() {
    let client = engine();
    let tiers = RateLimiter::builder(&client, "api")
        .policy(Policy::gcra(Quota::per_minute(100).burst(2)).named("burst"))
        .policy(Policy::fixed_window(Quota::per_hour(1000)).named("hour"))
        .build()
        .unwrap();
    let layer = RateLimitLayer::new(&tiers, ClientAddress::new());
    let address = serve(Router::new().route("/", get(hello)).layer(layer)).await;

    let first = ask(address, "/", &[]).await;
    assert_eq!((first.status, first.body.as_str()), (200, "hello"));
    assert_eq!(
        first.header("ratelimit-policy"),
        "\"burst\";q=100;w=60, \"hour\";q=1000;w=3600"
    );
    assert_eq!(
        first.header("ratelimit"),
        "\"burst\";r=1;t=1, \"hour\";r=999;t=3600"
    );
    assert_eq!(first.header("x-ratelimit-limit"), "2");
    assert_eq!(first.header("x-ratelimit-remaining"), "1");
    assert_eq!(first.header("x-ratelimit-reset"), "1");
    assert_eq!(first.header("retry-after"), "");

    assert_eq!(ask(address, "/", &[]).await.status, 200);
    let denied = ask(address, "/", &[]).await;
    assert_eq!(denied.status, 429);
    // 0.6 s, rounded up; and never 0.
    assert_eq!(denied.header("retry-after"), "1");
    assert_eq!(denied.header("x-ratelimit-remaining"), "0");
    assert_eq!(denied.header("content-type"), "application/problem+json");
    assert!(denied.header("ratelimit").starts_with("\"burst\";r=0;t="));
    let problem: serde_json::Value = serde_json::from_str(&denied.body).unwrap();
    assert_eq!(
        problem["type"],
        "https://iana.org/assignments/http-problem-types#quota-exceeded"
    );
    assert_eq!(
        (&problem["status"], &problem["violated-policies"][0]),
        (&429.into(), &"burst".into())
    );
    assert_eq!(problem["title"], "Too Many Requests");
    assert_eq!(problem["violated-policies"].as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn headers_can_be_left_out() {
    let limiter = limiter(
        &engine(),
        "l",
        Policy::fixed_window(Quota::per(1, Duration::from_millis(3_600_500))),
    );
    let layer = RateLimitLayer::new(&limiter, ForAll);
    let bare = layer
        .clone()
        .standard_headers(false)
        .x_ratelimit_headers(false);
    let routes = Router::new()
        .route("/bare", get(hello).layer(bare))
        .route("/", get(hello).layer(layer));
    let address = serve(routes).await;
    let answer = ask(address, "/", &[]).await;
    // Whole seconds only: a window that has none is not stated.
    assert_eq!(answer.header("ratelimit-policy"), "\"l\";q=1");
    let left = answer.header("ratelimit").strip_prefix("\"l\";r=0;t=");
    let near_the_end = 3_500..=3_601;
    assert!(near_the_end.contains(&left.unwrap().parse::<u32>().unwrap()));
    let answer = ask(address, "/bare", &[]).await;
    assert_eq!(answer.status, 429);
    let retry_after = answer.header("retry-after").parse::<u32>().unwrap();
    assert!(near_the_end.contains(&retry_after), "{retry_after}");
    assert_eq!(
        (
            answer.header("ratelimit"),
            answer.header("x-ratelimit-limit")
        ),
        ("", "")
    );
}

#[tokio::test]
async fn only_what_trusted_proxies_say_of_clients_counts() {
    let client = engine();
    let of = |name, addresses| {
        let one = limiter(&client, name, Policy::fixed_window(Quota::per_hour(1)));
        Router::new()
            .route("/", get(hello))
            .layer(RateLimitLayer::new(&one, addresses))
    };
    let behind = serve(of(
        "behind",
        ClientAddress::new().trusting(["127.0.0.0/8"]).unwrap(),
    ))
    .await;
    let bare = serve(of("bare", ClientAddress::new())).await;
    let status =
        async |server, hops: &str| ask(server, "/", &[("x-forwarded-for", hops)]).await.status;
    // Made up at the left end: one client, whatever it invents.
    assert_eq!(status(behind, "1.1.1.1, 198.51.100.7").await, 200);
    assert_eq!(status(behind, "2.2.2.2, 198.51.100.7").await, 429);
    assert_eq!(
        status(behind, "3.3.3.3, 198.51.100.8").await,
        200,
        "another client"
    );
    // One IPv6 client has a /64.
    assert_eq!(status(behind, "2001:db8:1:2::1").await, 200);
    assert_eq!(status(behind, "2001:db8:1:2:aaaa::9").await, 429);
    assert_eq!(status(behind, "2001:db8:1:3::1").await, 200);
    assert_eq!(
        status(behind, "::ffff:198.51.100.7").await,
        429,
        "the same as IPv4"
    );
    // Without trusted proxies nothing is believed.
    assert_eq!(status(bare, "1.1.1.1").await, 200);
    assert_eq!(status(bare, "2.2.2.2").await, 429);
}

#[derive(Clone)]
struct User(&'static str);

#[tokio::test]
async fn keys_come_from_headers_extensions_and_functions() {
    let client = engine();
    let one = |name| limiter(&client, name, Policy::fixed_window(Quota::per_hour(1)));
    let api_key = ByHeader::new(HeaderName::from_static("x-api-key"));
    let by_key = RateLimitLayer::new(&one("key"), api_key.clone());
    let allowing = RateLimitLayer::new(&one("open"), api_key).on_missing_key(OnMissingKey::Allow);
    let by_user = RateLimitLayer::new(&one("user"), ByExtension::new(|user: &User| user.0.into()));
    let by_path = RateLimitLayer::new(&one("path"), |request: &::http::request::Parts| {
        Some(request.uri.path().as_bytes().to_vec())
    });
    let routes = Router::new()
        .route("/key", get(hello).layer(by_key))
        .route("/open", get(hello).layer(allowing))
        .route("/user", get(hello).layer(by_user))
        .route("/path/{id}", get(hello).layer(by_path))
        .layer(axum::Extension(User("alice")));
    let address = serve(routes).await;
    let status =
        async |path: &str, key: &str| ask(address, path, &[("x-api-key", key)]).await.status;
    assert_eq!(status("/key", "a").await, 200);
    assert_eq!(status("/key", "a").await, 429);
    assert_eq!(status("/key", "b").await, 200);
    assert_eq!(status("/key", "").await, 400, "an empty key is none");
    assert_eq!(ask(address, "/key", &[]).await.status, 400);
    for _ in 0..3 {
        assert_eq!(ask(address, "/open", &[]).await.status, 200);
    }
    assert_eq!(
        [status("/user", "").await, status("/user", "").await],
        [200, 429]
    );
    assert_eq!(
        [status("/path/1", "").await, status("/path/2", "").await],
        [200, 200]
    );
    assert_eq!(status("/path/1", "").await, 429);
}

#[tokio::test]
async fn routes_costs_and_exceptions() {
    let client = engine();
    let api = limiter(&client, "api", Policy::gcra(Quota::per_hour(10)));
    let logins = limiter(&client, "logins", Policy::sliding_log(Quota::per_hour(1)));
    let admin = limiter(&client, "admin", Policy::sliding_log(Quota::per_hour(3)));
    let layer = RateLimitLayer::new(&api, ForAll)
        .route("/login", &logins)
        .route("/login/admin/", &admin)
        .skip(|request| request.uri.path() == "/health")
        .cost(|request| match request.uri.path() {
            "/export" => 5,
            "/huge" => 11,
            "/free" => 0,
            _ => 1,
        })
        .limiter_by({
            let admin = admin.clone();
            move |request| {
                request
                    .headers
                    .contains_key("x-admin")
                    .then(|| admin.clone())
            }
        });
    let routes = Router::new().fallback(hello).layer(layer);
    let address = serve(routes).await;
    let policy = async |path: &str, headers: &[(&str, &str)]| {
        let answer = ask(address, path, headers).await;
        let policy = answer
            .header("ratelimit-policy")
            .split(';')
            .next()
            .unwrap_or_default();
        (answer.status, policy.to_owned())
    };
    assert_eq!(policy("/login", &[]).await, (200, "\"logins\"".into()));
    assert_eq!(
        policy("/login/again", &[]).await,
        (429, "\"logins\"".into())
    );
    assert_eq!(
        policy("/login/admin/x", &[]).await,
        (200, "\"admin\"".into())
    );
    assert_eq!(
        policy("/logins", &[("x-admin", "1")]).await,
        (200, "\"admin\"".into())
    );
    assert_eq!(
        policy("/logins", &[]).await,
        (200, "\"api\"".into()),
        "not below /login"
    );
    assert_eq!(policy("/export", &[]).await.0, 200);
    assert_eq!(
        policy("/export", &[]).await.0,
        429,
        "5 of the 4 that are left"
    );
    assert_eq!(policy("/huge", &[]).await.0, 400, "more than there ever is");
    for path in ["/health", "/free"] {
        for _ in 0..20 {
            assert_eq!(policy(path, &[]).await, (200, String::new()));
        }
    }
    assert_eq!(api.peek("all").await.unwrap().remaining(), 4);
}

#[tokio::test]
async fn handlers_get_the_decision_and_leaky_buckets_pace() {
    let client = engine();
    let calls = limiter(&client, "calls", Policy::fixed_window(Quota::per_hour(2)));
    let gives_back = {
        let calls = calls.clone();
        get(move |decision: Decision| async move {
            calls.refund(decision.receipt().unwrap()).await.unwrap();
            decision.remaining().to_string()
        })
    };
    let leaky = Policy::leaky(Quota::per_second(10), Duration::from_secs(5));
    let leaky = RateLimitLayer::new(&limiter(&client, "leaky", leaky), ForAll);
    let routes = Router::new()
        .route("/", gives_back.layer(RateLimitLayer::new(&calls, ForAll)))
        .route("/bare", get(|_: Decision| async { "unreachable" }))
        .route(
            "/maybe",
            get(|decision: Option<Decision>| async move { decision.is_none().to_string() }),
        )
        .route("/paced", get(hello).layer(leaky));
    let address = serve(routes).await;
    for _ in 0..5 {
        let answer = ask(address, "/", &[]).await;
        assert_eq!(
            (answer.status, answer.body.as_str()),
            (200, "1"),
            "given back each time"
        );
    }
    assert_eq!(ask(address, "/bare", &[]).await.status, 500);
    assert_eq!(ask(address, "/maybe", &[]).await.body, "true");
    let start = std::time::Instant::now();
    let paced = (0..4).map(|_| ask(address, "/paced", &[]));
    for answer in futures_util::future::join_all(paced).await {
        assert_eq!(answer.status, 200);
    }
    assert!(
        start.elapsed() >= Duration::from_millis(300),
        "{:?}",
        start.elapsed()
    );
}

#[tokio::test]
async fn an_outage_is_503_unless_it_was_decided_otherwise() {
    let server = Server::redis(ServerOptions::new()).await.unwrap();
    let config = ClientConfig::from_url(&server.url()).unwrap();
    let client = Client::connect(config.command_timeout(Duration::from_millis(200)))
        .await
        .unwrap();
    let of = |name, on_outage| {
        let builder = RateLimiter::builder(&client, name).policy(Policy::gcra(Quota::per_hour(10)));
        RateLimitLayer::new(&builder.on_outage(on_outage).build().unwrap(), ForAll)
    };
    let routes = Router::new()
        .route("/error", get(hello).layer(of("error", OnOutage::Error)))
        .route("/open", get(hello).layer(of("open", OnOutage::Open)))
        .route("/closed", get(hello).layer(of("closed", OnOutage::Closed)));
    let address = serve(routes).await;
    server.stop().unwrap();
    let failed = ask(address, "/error", &[]).await;
    assert_eq!((failed.status, failed.header("retry-after")), (503, "1"));
    assert_eq!(failed.header("content-type"), "application/problem+json");
    assert_eq!(ask(address, "/open", &[]).await.status, 200);
    let closed = ask(address, "/closed", &[]).await;
    assert_eq!((closed.status, closed.header("retry-after")), (429, "1"));
    server.cont().unwrap();
    client.shutdown().await;
}

/// A service that has one place and says so by its readiness: the layer neither calls it unready
/// nor keeps the place of a request that was denied.
#[tokio::test]
async fn readiness_is_that_of_the_service_below() {
    use tower::{Layer, Service, ServiceExt};

    struct OnePlace {
        places: Arc<tokio::sync::Semaphore>,
        ready: Option<tokio::sync::OwnedSemaphorePermit>,
        calls: Arc<AtomicUsize>,
    }
    impl Clone for OnePlace {
        fn clone(&self) -> Self {
            let (places, calls) = (Arc::clone(&self.places), Arc::clone(&self.calls));
            Self {
                places,
                ready: None,
                calls,
            }
        }
    }
    impl Service<::http::Request<String>> for OnePlace {
        type Response = ::http::Response<axum::body::Body>;
        type Error = &'static str;
        type Future = std::future::Ready<Result<Self::Response, Self::Error>>;

        fn poll_ready(
            &mut self,
            cx: &mut std::task::Context<'_>,
        ) -> std::task::Poll<Result<(), Self::Error>> {
            match Arc::clone(&self.places).try_acquire_owned() {
                _ if self.ready.is_some() => {}
                Ok(permit) => self.ready = Some(permit),
                Err(_) => {
                    cx.waker().wake_by_ref();
                    return std::task::Poll::Pending;
                }
            }
            std::task::Poll::Ready(Ok(()))
        }

        fn call(&mut self, _: ::http::Request<String>) -> Self::Future {
            let was_ready = self.ready.take().is_some();
            self.calls.fetch_add(1, Ordering::SeqCst);
            std::future::ready(match was_ready {
                true => Ok(::http::Response::new(axum::body::Body::empty())),
                false => Err("called without being ready"),
            })
        }
    }

    let one = limiter(&engine(), "l", Policy::fixed_window(Quota::per_hour(2)));
    let inner = OnePlace {
        places: Arc::new(tokio::sync::Semaphore::new(1)),
        ready: None,
        calls: Arc::default(),
    };
    let calls = Arc::clone(&inner.calls);
    let mut service = RateLimitLayer::new(&one, ForAll).layer(inner);
    for n in 0..5 {
        let ready = tokio::time::timeout(Duration::from_secs(5), service.ready());
        let ready = ready.await.expect("the place was given back").unwrap();
        let response = ready
            .call(::http::Request::new(String::new()))
            .await
            .unwrap();
        assert_eq!(response.status().as_u16(), if n < 2 { 200 } else { 429 });
    }
    assert_eq!(calls.load(Ordering::SeqCst), 2);
}

/// One layer for everybody, another for each user: both have their say, and what only one can say is
/// the inner one's.
#[tokio::test]
async fn nested_layers_do_not_hide_one_another() {
    let client = engine();
    let all = limiter(&client, "all", Policy::fixed_window(Quota::per_hour(3)));
    let one = limiter(&client, "one", Policy::fixed_window(Quota::per_hour(2)));
    let routes = Router::new()
        .route("/", get(hello))
        .layer(RateLimitLayer::new(
            &one,
            ByHeader::new(HeaderName::from_static("x-user")),
        ))
        .layer(RateLimitLayer::new(&all, ForAll));
    let address = serve(routes).await;
    let as_user = async |user| ask(address, "/", &[("x-user", user)]).await;
    let first = as_user("a").await;
    assert_eq!(first.status, 200);
    assert_eq!(
        first.all("ratelimit-policy"),
        ["\"one\";q=2;w=3600", "\"all\";q=3;w=3600"]
    );
    let limits = first.all("ratelimit");
    assert!(
        limits[0].starts_with("\"one\";r=1;") && limits[1].starts_with("\"all\";r=2;"),
        "{limits:?}"
    );
    assert_eq!(first.all("x-ratelimit-limit"), ["2"]);
    assert_eq!(first.all("x-ratelimit-remaining"), ["1"]);
    assert_eq!(first.all("x-ratelimit-reset").len(), 1);

    as_user("a").await;
    let by_inner = as_user("a").await;
    assert_eq!(
        (by_inner.status, by_inner.all("retry-after").len()),
        (429, 1)
    );
    assert_eq!(
        by_inner.all("ratelimit").len(),
        2,
        "the outer one let it through"
    );
    assert_eq!(by_inner.all("x-ratelimit-remaining"), ["0"]);
    let by_outer = as_user("b").await;
    assert_eq!(by_outer.status, 429);
    assert_eq!(
        by_outer.all("ratelimit-policy"),
        ["\"all\";q=3;w=3600"],
        "no other was asked"
    );
}

/// `Forwarded` with all that a client can put before what the proxy appends.
#[tokio::test]
async fn quotes_of_a_client_do_not_hide_what_the_proxy_says() {
    let one = limiter(&engine(), "l", Policy::fixed_window(Quota::per_hour(1)));
    let addresses = ClientAddress::new()
        .trusting(["127.0.0.0/8"])
        .unwrap()
        .by_forwarded();
    let layer = RateLimitLayer::new(&one, addresses);
    let address = serve(Router::new().route("/", get(hello)).layer(layer)).await;
    let mut statuses = Vec::new();
    for made_up in [
        "for=9.9.9.1;x=\"",
        "for=9.9.9.2;x=\"\\",
        "for=\"9.9.9.3",
        "for=9.9.9.4;x=\"\\\"",
        "for=9.9.9.5, \"",
        "for=9.9.9.6",
    ] {
        let line = format!("{made_up}, for=198.51.100.7;proto=https");
        statuses.push(ask(address, "/", &[("forwarded", &line)]).await.status);
    }
    assert_eq!(statuses, [200, 429, 429, 429, 429, 429], "one client");
}

/// What a gRPC client asks is answered in its own tongue.
#[tokio::test]
async fn grpc_answers_have_the_requests_type_of_content() {
    let none = limiter(&engine(), "l", Policy::fixed_window(Quota::per_hour(1)));
    let layer = RateLimitLayer::new(&none, ForAll);
    let address = serve(Router::new().route("/", get(hello)).layer(layer)).await;
    assert_eq!(ask(address, "/", &[]).await.status, 200);
    for kind in [
        "application/grpc",
        "application/grpc+proto",
        "application/grpc-web",
        "application/grpc-web-text+proto",
    ] {
        let answer = ask(address, "/", &[("content-type", kind)]).await;
        assert_eq!((answer.status, answer.header("content-type")), (200, kind));
        assert_eq!(
            (answer.header("grpc-status"), answer.body.as_str()),
            ("8", "")
        );
    }
    for kind in ["application/grpcish", "application/json"] {
        let answer = ask(address, "/", &[("content-type", kind)]).await;
        assert_eq!(
            (answer.status, answer.header("content-type")),
            (429, "application/problem+json")
        );
    }
}
