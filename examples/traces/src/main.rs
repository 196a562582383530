//! Spans of redkit's calls, sent to an OpenTelemetry collector by OTLP:
//! `OTEL_EXPORTER_OTLP_ENDPOINT=http://localhost:4318 cargo run -p traces`, with `REDIS_URL` set to use a server.
//!
//! redkit speaks `tracing`, and knows nothing of exporters: its spans have OpenTelemetry's names and attributes already.

use std::collections::HashMap;
use std::error::Error;
use std::time::Duration;

use opentelemetry::propagation::TextMapPropagator;
use opentelemetry::trace::{TraceContextExt, TracerProvider};
use opentelemetry_otlp::{Protocol, SpanExporter, WithExportConfig};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::propagation::TraceContextPropagator;
use opentelemetry_sdk::trace::SdkTracerProvider;
use redkit::Client;
use redkit::cache::Cache;
use redkit::lock::LockManager;
use redkit::pubsub::topic::{Delivery, Outcome, Publication, TRACEPARENT, Topic};
use tracing::{Level, Span};
use tracing_opentelemetry::OpenTelemetrySpanExt;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::prelude::*;

/// Sends spans in batches, from a thread of its own, to where `OTEL_EXPORTER_OTLP_ENDPOINT` says.
fn exporting() -> Result<SdkTracerProvider, Box<dyn Error>> {
    let exporter = SpanExporter::builder()
        .with_http()
        .with_protocol(Protocol::HttpJson)
        .build()?;
    let service = Resource::builder().with_service_name("shop").build();
    Ok(SdkTracerProvider::builder()
        .with_resource(service)
        .with_batch_exporter(exporter)
        .build())
}

/// Stands for a request: what it asks Redis is part of its trace.
#[tracing::instrument(skip(client))]
async fn order(client: &Client, number: u32) -> Result<String, Box<dyn Error>> {
    let teapots: Cache<String> = Cache::builder(client, "teapots")
        .ttl(Duration::from_secs(60))
        .build()?;
    let locks = LockManager::builder(client, "orders").build()?;
    let load = || async move { Ok::<_, std::io::Error>(format!("teapot number {number}")) };
    let teapot = teapots.get_or_load(number, load).await?;
    let guard = locks.acquire(number, Duration::from_secs(5)).await?;
    client.set(format!("order:{number}"), &*teapot).await?;
    guard.release().await?;
    let orders: Topic<u32> = Topic::builder(client, "orders").build()?;
    orders.publish_with(&number, linked()).await?;
    Ok(teapot.to_string())
}

/// A publication that says in which trace it was made.
fn linked() -> Publication {
    let mut headers = HashMap::new();
    TraceContextPropagator::new().inject_context(&Span::current().context(), &mut headers);
    match headers.remove(TRACEPARENT) {
        Some(traceparent) => Publication::new().header(TRACEPARENT, traceparent),
        None => Publication::new(),
    }
}

/// Handles the message of an order, in redkit's span of it, which is linked to the span of the request.
async fn pack(client: Client, delivery: Delivery<u32>) -> Outcome {
    let headers: HashMap<_, _> = delivery.headers.into_iter().collect();
    let request = TraceContextPropagator::new().extract(&headers);
    Span::current().add_link(request.span().span_context().clone());
    let packed = client.set("packed", &delivery.payload).await;
    Outcome::from(packed.map(drop))
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let provider = exporting()?;
    let layer = tracing_opentelemetry::layer().with_tracer(provider.tracer("shop"));
    // A span of each call stands at `debug`: costly for nobody who does not ask for it.
    let wanted = Targets::new()
        .with_target("traces", Level::INFO)
        .with_target("redkit::client", Level::DEBUG)
        .with_target("redkit::pubsub", Level::DEBUG);
    tracing_subscriber::registry()
        .with(layer.with_filter(wanted))
        .init();

    let url = std::env::var("REDIS_URL").unwrap_or_else(|_| "embedded://".to_owned());
    let client = redkit::connect(&url).await?.with_namespace("traces")?;
    println!("{}", order(&client, 7).await?);
    let orders: Topic<u32> = Topic::builder(&client, "orders").build()?;
    let packer = client.clone();
    let worker = orders
        .consumer("packing")
        .start(move |delivery| pack(packer.clone(), delivery));
    let worker = worker.await?;
    while worker.stats().acknowledged == 0 {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    worker.shutdown(Duration::from_secs(5)).await;
    client.shutdown().await;
    // What has not been sent yet is sent now. It waits for its thread, so a worker must not.
    tokio::task::spawn_blocking(move || provider.shutdown()).await??;
    Ok(())
}
