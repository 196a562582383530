//! Spans of calls, by OpenTelemetry's names.

use redkit_core::{Client, Command, Script};
use redkit_testkit::{Fixture, RecordedSpan, Spans};

/// The span of one call.
async fn traced<F: Future>(spans: &Spans, call: F) -> RecordedSpan {
    spans.take();
    call.await;
    let [span] = spans.take().try_into().unwrap();
    span
}

static SCRIPT: Script = Script::new("return ARGV[1]");

redkit_testkit::suite! {
    async fn a_call_has_a_span_with_the_conventions_attributes(fixture: Fixture) {
        let (spans, _listening) = Spans::listen(&["redkit::client"]);
        let client: &Client = &fixture.client;
        let key = client.key("{secret}");

        let span = traced(&spans, client.call::<()>(Command::new("SET").key(&key).arg("value"))).await;
        let of = |name: &str| span.get(name);
        assert_eq!((of("otel.name"), of("otel.kind")), (Some("SET"), Some("client")));
        assert_eq!((of("db.system.name"), of("db.operation.name")), (Some("redis"), Some("SET")));
        assert_eq!(of("db.namespace"), Some("0"));
        for absent in ["error.type", "db.operation.batch.size", "db.stored_procedure.name", "otel.status_code"] {
            assert_eq!(of(absent), None, "{absent}");
        }
        if let (Some(server), true) = (fixture.server(), fixture.sentinels().is_none()) {
            assert_eq!(of("server.address"), Some("127.0.0.1"));
            assert_eq!(of("server.port"), Some(server.addr().port().to_string().as_str()));
        }
        assert!(!span.fields.values().any(|value| value.contains("secret") || value.contains("value")), "{span:?}");

        let several = vec![Command::new("GET").key(&key), Command::new("GET").key(&key)];
        let span = traced(&spans, client.pipeline(several)).await;
        assert_eq!(span.get("otel.name"), Some("PIPELINE GET"));
        assert_eq!(span.get("db.operation.batch.size"), Some("2"));

        client.eval::<String>(SCRIPT.invoke([&key]).arg("x")).await.unwrap();
        let span = traced(&spans, client.eval::<String>(SCRIPT.invoke([&key]).arg("x"))).await;
        assert_eq!((span.get("otel.name"), span.get("db.stored_procedure.name")), (Some("EVALSHA"), Some(SCRIPT.sha())));

        let wrong = client.call::<i64>(Command::new("LPUSH").key(&key).arg("x"));
        let span = traced(&spans, wrong).await;
        assert_eq!((span.get("error.type"), span.get("db.response.status_code")), (Some("WRONGTYPE"), Some("WRONGTYPE")));
        assert_eq!(span.get("otel.status_code"), Some("ERROR"));

        let client = fixture.connect(fixture.config().unwrap()).await.unwrap();
        client.call::<()>(Command::new("PING")).await.unwrap();
        client.breaker().force_open();
        let span = traced(&spans, client.call::<()>(Command::new("PING"))).await;
        assert_eq!(span.get("error.type"), Some("breaker_open"));
        assert_eq!(span.get("db.response.status_code"), None);
        client.shutdown().await;
    }
}
