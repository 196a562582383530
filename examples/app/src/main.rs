//! The smallest service with sessions, a cache, a limit and a health check: `cargo run -p app -- --embedded`, or without
//! that argument on the server that `REDIS_URL` names. Then open http://localhost:3000, which is where browsers keep its
//! cookie without TLS.

use std::net::SocketAddr;
use std::time::Duration;

use axum::Router;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::Redirect;
use axum::routing::{get, post};
use redkit::ClientConfig;
use redkit::cache::Cache;
use redkit::monitor::{Dependency, Health};
use redkit::ratelimit::tower::{ClientAddress, RateLimitLayer};
use redkit::ratelimit::{OnOutage, Policy, Quota, RateLimiter};
use redkit::session::tower::{CurrentSession, SessionLayer};
use redkit::session::{Error as SessionError, SessionSecrets, SessionStore, SignIn};

/// Stands for a database.
async fn from_database(id: u32) -> Result<String, std::io::Error> {
    tokio::time::sleep(Duration::from_millis(50)).await;
    Ok(format!("teapot number {id}"))
}

async fn teapot(
    State(teapots): State<Cache<String>>,
    Path(id): Path<u32>,
) -> Result<String, StatusCode> {
    let teapot = teapots.get_or_load(id, || from_database(id)).await;
    let teapot = teapot.map_err(|_| StatusCode::SERVICE_UNAVAILABLE)?;
    Ok(format!("{} ({:?})\n", *teapot, teapot.source()))
}

async fn hello(session: CurrentSession) -> Result<String, SessionError> {
    let visits = session.get::<u32>("visits").await?.unwrap_or(0) + 1;
    session.insert("visits", &visits).await?;
    let name = session.user().await?.unwrap_or("stranger".to_owned());
    Ok(format!("hello {name}, visit {visits}\n"))
}

async fn sign_in(
    session: CurrentSession,
    Path(name): Path<String>,
) -> Result<Redirect, SessionError> {
    // After the password was checked.
    session.sign_in(SignIn::new(name)).await?;
    Ok(Redirect::to("/"))
}

/// Ends with Ctrl-C, or with what systemd, Docker and Kubernetes send to end a program: on Unix from this call on, not
/// from when it is first waited for.
fn stop_signal() -> std::io::Result<impl Future<Output = ()>> {
    #[cfg(unix)]
    {
        use tokio::signal::unix::{SignalKind, signal};
        let mut interrupt = signal(SignalKind::interrupt())?;
        let mut terminate = signal(SignalKind::terminate())?;
        Ok(async move {
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
            }
        })
    }
    #[cfg(not(unix))]
    Ok(async {
        if tokio::signal::ctrl_c().await.is_err() {
            std::future::pending::<()>().await;
        }
    })
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    // The engine in this process only when it is asked for: a copy of the service that has lost its address must not have
    // limits and sessions of its own.
    let config = match std::env::args().any(|argument| argument == "--embedded") {
        true => ClientConfig::from_url("embedded://")?,
        false => ClientConfig::from_env()?,
    };
    // It starts though Redis is down; its health says so.
    let client = redkit::connect_with(config.lazy(true)).await?;
    let client = client.with_namespace("app")?;

    let teapots: Cache<String> = Cache::builder(&client, "teapots")
        .ttl(Duration::from_secs(60))
        .build()?;
    let limiter = RateLimiter::builder(&client, "requests")
        .policy(Policy::gcra(Quota::per_minute(100).burst(20)))
        .on_outage(OnOutage::Open)
        .build()?;
    // Yours come from where you keep secrets, and all copies of the service have the same; with these, sessions end
    // with the process.
    let random = || rand::random::<[u8; 32]>().to_vec();
    let secrets = SessionSecrets::new(random(), 1, random())?;
    let sessions = SessionStore::builder(&client, "web", secrets).build()?;
    // Soft: a fleet that takes itself out of service when its one Redis is down answers nobody.
    let health = Health::builder()
        .dependency(Dependency::soft("redis", &client))
        .build()?;

    let app = Router::new()
        .route("/", get(hello))
        .route("/sign-in/{name}", post(sign_in))
        .route("/teapots/{id}", get(teapot))
        .layer(SessionLayer::builder(&sessions).build()?)
        // Behind a proxy all requests come from its address: `ClientAddress::trusting` takes the proxies' word.
        .layer(RateLimitLayer::new(&limiter, ClientAddress::new()))
        .with_state(teapots)
        .nest("/health", health.routes());
    let address = std::env::var("LISTEN").unwrap_or_else(|_| "127.0.0.1:3000".to_owned());
    let listener = tokio::net::TcpListener::bind(address).await?;
    let stop = stop_signal()?;
    println!("http://{}", listener.local_addr()?);
    let service = app.into_make_service_with_connect_info::<SocketAddr>();
    let (told, stopping) = tokio::sync::oneshot::channel();
    let serving = axum::serve(listener, service).with_graceful_shutdown(async {
        stop.await;
        _ = told.send(());
    });
    // One slow request must not keep the client from giving back what it holds.
    let overdue = async {
        _ = stopping.await;
        tokio::time::sleep(Duration::from_secs(5)).await;
    };
    tokio::select! {
        served = serving.into_future() => served?,
        () = overdue => {}
    }
    client.shutdown().await;
    Ok(())
}
