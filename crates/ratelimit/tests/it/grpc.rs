//! The layer over real HTTP/2, with tonic's own client and server.

use bytes::{Buf, BufMut, Bytes};
use tonic::body::Body;
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::server::{Grpc, NamedService, UnaryService};
use tonic::{Code, Request, Response, Status};

use redkit_ratelimit::tower::{ClientAddress, RateLimitLayer};
use redkit_ratelimit::{Policy, Quota};
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

#[tokio::test]
async fn a_denied_call_is_resource_exhausted() {
    let client = engine();
    let two = limiter(&client, "calls", Policy::fixed_window(Quota::per_hour(2)));
    let peer = |extensions: &::http::Extensions| {
        let info = extensions.get::<tonic::transport::server::TcpConnectInfo>()?;
        info.remote_addr()
    };
    let layer = RateLimitLayer::new(&two, ClientAddress::new().peer_from(peer));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let incoming = tonic::transport::server::TcpIncoming::from(listener);
    let server = tonic::transport::Server::builder()
        .layer(layer)
        .add_service(Echo)
        .serve_with_incoming(incoming);
    let server = tokio::spawn(server);

    let channel = tonic::transport::Endpoint::from_shared(format!("http://{address}"))
        .unwrap()
        .connect()
        .await
        .unwrap();
    let mut grpc = tonic::client::Grpc::new(channel);
    let mut call = async || {
        grpc.ready().await.unwrap();
        let path = ::http::uri::PathAndQuery::from_static("/test.Echo/Echo");
        grpc.unary(Request::new(Bytes::from_static(b"hello")), path, Raw)
            .await
    };
    for _ in 0..2 {
        let response = call().await.unwrap();
        assert!(response.metadata().contains_key("ratelimit"));
        assert_eq!(response.into_inner(), "hello");
    }
    for _ in 0..3 {
        let status = call().await.unwrap_err();
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
    server.abort();
}
