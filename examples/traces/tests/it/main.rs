//! The program, and the collector that it sends to.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

use std::process::Stdio;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::post;
use redkit_testkit::Fixture;
use serde_json::Value;
use tokio::net::TcpListener;
use tokio::process::Command;

/// Takes spans as a collector does (`POST /v1/traces`, OTLP as JSON).
#[derive(Clone, Default)]
struct Collector(Arc<Mutex<Vec<Value>>>);

impl Collector {
    async fn listen(&self) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let take = async |State(Collector(taken)): State<Collector>, body: String| {
            taken
                .lock()
                .unwrap()
                .push(serde_json::from_str(&body).unwrap());
            (StatusCode::OK, "{}")
        };
        let app = Router::new()
            .route("/v1/traces", post(take))
            .with_state(self.clone());
        tokio::spawn(async move { axum::serve(listener, app).await });
        format!("http://{address}")
    }

    /// The spans, each with the name of its service.
    fn spans(&self) -> Vec<(String, Value)> {
        let taken = self.0.lock().unwrap();
        let resources = taken
            .iter()
            .flat_map(|request| array(&request["resourceSpans"]));
        let spans = resources.flat_map(|resource| {
            let service = attribute(&resource["resource"], "service.name");
            let scopes = array(&resource["scopeSpans"]);
            let spans = scopes.flat_map(|scope| array(&scope["spans"]));
            spans.map(move |span| (service.clone(), span.clone()))
        });
        spans.collect()
    }
}

fn array(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

/// An attribute as text; empty where there is none.
fn attribute(of: &Value, key: &str) -> String {
    let found = array(&of["attributes"]).find(|attribute| attribute["key"] == key);
    let value = found.map(|found| &found["value"]);
    let text = value.and_then(|value| value["stringValue"].as_str().map(str::to_owned));
    // Whole numbers are texts or numbers in OTLP's JSON.
    let number = || value.map(|value| value["intValue"].to_string().replace('"', ""));
    text.or_else(number).unwrap_or_default()
}

redkit_testkit::suite! {
    async fn a_collector_gets_the_spans_of_a_request_and_of_its_calls(fixture: Fixture) {
        let collector = Collector::default();
        let mut program = Command::new(env!("CARGO_BIN_EXE_traces"));
        program
            .env("OTEL_EXPORTER_OTLP_ENDPOINT", collector.listen().await)
            .env("REDIS_URL", fixture.url())
            .env("NO_PROXY", "127.0.0.1")
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true);
        let done = tokio::time::timeout(Duration::from_secs(60), program.output()).await;
        let done = done.unwrap().unwrap();
        let said = String::from_utf8_lossy(&done.stdout);
        assert!(done.status.success() && said == "teapot number 7\n", "{done:?}");

        let spans = collector.spans();
        assert!(spans.iter().all(|(service, _)| service == "shop"));
        let named = |name: &str| spans.iter().find(|(_, span)| span["name"] == name).map(|(_, span)| span);
        let order = named("order").expect("the request's span");
        assert_eq!(attribute(order, "number"), "7");
        let calls: Vec<_> = spans.iter().map(|(_, span)| span).filter(|span| attribute(span, "db.system.name") == "redis").collect();
        // The message was sent in the request, and its call is inside that span.
        let send = named("send orders").expect("the publication's span");
        assert_eq!((&send["kind"], &send["parentSpanId"]), (&3.into(), &order["spanId"]), "{send:#}");
        let is_added = |span: &&&Value| span["parentSpanId"] == send["spanId"];
        assert_eq!(calls.iter().filter(is_added).count(), 1, "{calls:#?}");
        // Its handler (a consumer's span, 5) has a trace of its own, linked to the request's.
        let process = named("process orders").expect("the handler's span");
        assert_eq!((&process["kind"], &process["status"]["code"]), (&5.into(), &0.into()), "{process:#}");
        let links: Vec<_> = array(&process["links"]).collect();
        assert_eq!(links.len(), 1, "{process:#}");
        assert_eq!((&links[0]["traceId"], &links[0]["spanId"]), (&order["traceId"], &order["spanId"]));
        assert_eq!(attribute(process, "messaging.consumer.group.name"), "packing");
        assert!(calls.iter().any(|span| span["name"] == "SET" && span["parentSpanId"] == process["spanId"]), "{calls:#?}");

        let is_of_request = |span: &&&Value| span["parentSpanId"] == order["spanId"];
        let of_request: Vec<_> = calls.iter().filter(is_of_request).collect();
        assert!(of_request.len() >= 4, "{calls:#?}");
        for span in &of_request {
            // A client's span (3), inside the request's.
            assert_eq!((&span["kind"], &span["parentSpanId"]), (&3.into(), &order["spanId"]), "{span:#}");
            assert_eq!(span["traceId"], order["traceId"]);
            assert_eq!(span["name"], attribute(span, "db.operation.name"));
            assert!(!attribute(span, "db.namespace").is_empty(), "{span:#}");
        }
        let set = of_request.iter().find(|span| span["name"] == "SET").expect("the order was written");
        let script = of_request.iter().find(|span| !attribute(span, "db.stored_procedure.name").is_empty());
        assert_eq!(attribute(script.expect("the lock is a script"), "db.stored_procedure.name").len(), 40);
        if let Some(server) = fixture.server() {
            assert_eq!(attribute(set, "server.port"), server.addr().port().to_string(), "{set:#}");
        }
        // Neither a key nor a value is told.
        let all = collector.0.lock().unwrap().iter().map(Value::to_string).collect::<String>();
        assert!(!all.contains("order:7") && !all.contains("teapot"), "{all}");
    }
}
