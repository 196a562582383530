//! The layer over real HTTP/2, with tonic's own client and server.

use bytes::{Buf, BufMut, Bytes};
use tonic::body::Body;
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::server::{Grpc, NamedService, UnaryService};
use tonic::{Code, Request, Response, Status};

use redkit_ratelimit::tower::{ClientAddress, ForAll, RateLimitLayer};
use redkit_ratelimit::{Policy, Quota};
use redkit_testkit::{FaultyBackend, Injection, Rule};
use tokio::net::TcpListener;

use crate::http::{engine, limiter};

/// Messages are bytes.
#[derive(Clone, Copy, Default)]
struct Raw;

impl Codec for Raw {
    type Encode = Bytes;
    type Decode = Bytes;
    type Encoder = Raw;
    type Decoder = Raw;

    fn encoder(&mut self) -> Raw {
        Raw
    }

    fn decoder(&mut self) -> Raw {
        Raw
    }
}

impl Encoder for Raw {
    type Item = Bytes;
    type Error = Status;

    fn encode(&mut self, item: Bytes, buffer: &mut EncodeBuf<'_>) -> Result<(), Status> {
        buffer.put(item);
        Ok(())
    }
}

impl Decoder for Raw {
    type Item = Bytes;
    type Error = Status;

    fn decode(&mut self, buffer: &mut DecodeBuf<'_>) -> Result<Option<Bytes>, Status> {
        Ok(Some(buffer.copy_to_bytes(buffer.remaining())))
    }
}

#[derive(Clone)]
struct Echo;

impl NamedService for Echo {
    const NAME: &'static str = "test.Echo";
}

impl UnaryService<Bytes> for Echo {
    type Response = Bytes;
    type Future = std::future::Ready<Result<Response<Bytes>, Status>>;

    fn call(&mut self, request: Request<Bytes>) -> Self::Future {
        std::future::ready(Ok(Response::new(request.into_inner())))
    }
}

impl tower::Service<::http::Request<Body>> for Echo {
    type Response = ::http::Response<Body>;
    type Error = std::convert::Infallible;
    type Future =
        std::pin::Pin<Box<dyn Future<Output = Result<Self::Response, Self::Error>> + Send>>;

    fn poll_ready(
        &mut self,
        _: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Result<(), Self::Error>> {
        std::task::Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: ::http::Request<Body>) -> Self::Future {
        Box::pin(async move { Ok(Grpc::new(Raw).unary(Echo, request).await) })
    }
}

/// A server behind a layer, and what a client's calls come to.
struct Served {
    server: tokio::task::JoinHandle<Result<(), tonic::transport::Error>>,
    client: tonic::client::Grpc<tonic::transport::Channel>,
}

impl Served {
    async fn new(layer: RateLimitLayer) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let incoming = tonic::transport::server::TcpIncoming::from(listener);
        let server = tonic::transport::Server::builder()
            .layer(layer)
            .add_service(Echo)
            .serve_with_incoming(incoming);
        let server = tokio::spawn(server);
        let endpoint = tonic::transport::Endpoint::from_shared(format!("http://{address}"));
        let channel = endpoint.unwrap().connect().await.unwrap();
        let client = tonic::client::Grpc::new(channel);
        Self { server, client }
    }

    async fn call(&mut self) -> Result<Response<Bytes>, Status> {
        self.client.ready().await.unwrap();
        let path = ::http::uri::PathAndQuery::from_static("/test.Echo/Echo");
        let request = Request::new(Bytes::from_static(b"hello"));
        self.client.unary(request, path, Raw).await
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        self.server.abort();
    }
}

#[tokio::test]
async fn a_denied_call_is_resource_exhausted() {
    let client = engine();
    let two = limiter(&client, "calls", Policy::fixed_window(Quota::per_hour(2)));
    let peer = |extensions: &::http::Extensions| {
        let info = extensions.get::<tonic::transport::server::TcpConnectInfo>()?;
        info.remote_addr()
    };
    let layer = RateLimitLayer::new(&two, ClientAddress::new().peer_from(peer));
    let mut served = Served::new(layer).await;
    for _ in 0..2 {
        let response = served.call().await.unwrap();
        assert!(response.metadata().contains_key("ratelimit"));
        assert_eq!(response.into_inner(), "hello");
    }
    for _ in 0..3 {
        let status = served.call().await.unwrap_err();
        assert_eq!(status.code(), Code::ResourceExhausted, "{status:?}");
        assert!(
            status.message().starts_with("rate limit reached"),
            "{status:?}"
        );
        let metadata = status.metadata();
        let pushback = metadata
            .get("grpc-retry-pushback-ms")
            .unwrap()
            .to_str()
            .unwrap();
        assert!(pushback.parse::<u64>().unwrap() > 3_000_000);
        assert_eq!(
            metadata.get("ratelimit-policy").unwrap(),
            "\"calls\";q=2;w=3600"
        );
    }
}

#[tokio::test]
async fn an_undecided_call_has_a_status_of_its_own() {
    let code = async |layer| {
        let status = Served::new(layer).await.call().await.unwrap_err();
        assert!(!status.message().is_empty(), "{status:?}");
        status.code()
    };
    let backend = FaultyBackend::embedded();
    let client = backend.client();
    let two = limiter(&client, "calls", Policy::fixed_window(Quota::per_hour(2)));
    let all = RateLimitLayer::new(&two, ForAll);
    let nobody = |_: &::http::request::Parts| None;
    assert_eq!(
        code(RateLimitLayer::new(&two, nobody)).await,
        Code::InvalidArgument
    );
    assert_eq!(code(all.clone().cost(|_| 3)).await, Code::InvalidArgument);
    backend.set(Rule::new(Injection::NotSent));
    assert_eq!(code(all.clone()).await, Code::Unavailable);
    // What will not pass by itself.
    client.shutdown().await;
    backend.clear();
    assert_eq!(code(all).await, Code::Internal);
}
