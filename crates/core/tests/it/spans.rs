//! Spans of calls, by OpenTelemetry's names.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use parking_lot::Mutex;
use redkit_core::{Client, Command, Script};
use redkit_testkit::Fixture;
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing_subscriber::layer::{Context, SubscriberExt};
use tracing_subscriber::{Layer, Registry};

type Fields = BTreeMap<&'static str, String>;

/// Keeps the fields of the spans of calls.
#[derive(Clone, Default)]
struct Kept(Arc<Mutex<BTreeMap<u64, Fields>>>);

struct Into<'f>(&'f mut Fields);

impl Visit for Into<'_> {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.0.insert(field.name(), value.to_owned());
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.0.insert(field.name(), format!("{value:?}"));
    }
}

impl<S: tracing::Subscriber> Layer<S> for Kept {
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, _: Context<'_, S>) {
        if attributes.metadata().target() == "redkit::client" {
            attributes.record(&mut Into(self.0.lock().entry(id.into_u64()).or_default()));
        }
    }

    fn on_record(&self, id: &Id, values: &Record<'_>, _: Context<'_, S>) {
        if let Some(fields) = self.0.lock().get_mut(&id.into_u64()) {
            values.record(&mut Into(fields));
        }
    }
}

/// The fields of the span of one call.
async fn traced<F: Future>(kept: &Kept, call: F) -> Fields {
    kept.0.lock().clear();
    call.await;
    let spans = std::mem::take(&mut *kept.0.lock());
    assert_eq!(spans.len(), 1, "{spans:?}");
    spans.into_values().next().unwrap()
}

static SCRIPT: Script = Script::new("return ARGV[1]");

redkit_testkit::suite! {
    async fn a_call_has_a_span_with_the_conventions_attributes(fixture: Fixture) {
        let kept = Kept::default();
        let _listening = tracing::subscriber::set_default(Registry::default().with(kept.clone()));
        let client: &Client = &fixture.client;
        let key = client.key("{secret}");

        let fields = traced(&kept, client.call::<()>(Command::new("SET").key(&key).arg("value"))).await;
        let of = |name: &str| fields.get(name).map(String::as_str);
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
        assert!(!fields.values().any(|value| value.contains("secret") || value.contains("value")), "{fields:?}");

        let several = vec![Command::new("GET").key(&key), Command::new("GET").key(&key)];
        let fields = traced(&kept, client.pipeline(several)).await;
        assert_eq!(fields["otel.name"], "PIPELINE GET");
        assert_eq!(fields["db.operation.batch.size"], "2");

        client.eval::<String>(SCRIPT.invoke([&key]).arg("x")).await.unwrap();
        let fields = traced(&kept, client.eval::<String>(SCRIPT.invoke([&key]).arg("x"))).await;
        assert_eq!((fields["otel.name"].as_str(), fields["db.stored_procedure.name"].as_str()), ("EVALSHA", SCRIPT.sha()));

        let wrong = client.call::<i64>(Command::new("LPUSH").key(&key).arg("x"));
        let fields = traced(&kept, wrong).await;
        assert_eq!((fields["error.type"].as_str(), fields["db.response.status_code"].as_str()), ("WRONGTYPE", "WRONGTYPE"));
        assert_eq!(fields["otel.status_code"], "ERROR");

        let client = fixture.connect(fixture.config().unwrap()).await.unwrap();
        client.call::<()>(Command::new("PING")).await.unwrap();
        client.breaker().force_open();
        let fields = traced(&kept, client.call::<()>(Command::new("PING"))).await;
        assert_eq!(fields["error.type"], "breaker_open");
        assert_eq!(fields.get("db.response.status_code"), None);
        client.shutdown().await;
    }
}
