//! The process that serves the page: patterns of a shop, and load on them.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use axum::Router;
use axum::http::header::COOKIE;
use axum::http::request::Parts;
use axum::response::Html;
use axum::routing::get;
use redkit_cache::Cache;
use redkit_core::{Client, ClientConfig};
use redkit_lock::LockManager;
use redkit_monitor::dashboard::{Dashboard, Rights, Viewer};
use redkit_monitor::{Dependency, Health};
use redkit_pubsub::Topic;
use redkit_pubsub::topic::{Delivery, Outcome, Worker};
use redkit_ratelimit::{Policy, Quota, RateLimiter};
use redkit_session::{SessionSecrets, SessionStore, SignIn};
use secrecy::SecretString;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio::time::sleep;

use crate::Failure;

/// The key of both processes.
pub(super) const KEY: &str = "the command key of this scenario, long enough";

pub(super) struct Shop {
    port: u16,
    products: Cache<u64>,
    limiter: RateLimiter,
    locks: LockManager,
    sessions: SessionStore,
    mail: Topic<Value>,
    is_mended: Arc<AtomicBool>,
    handled: Arc<AtomicU64>,
    _mailer: Worker,
    _dashboard: Dashboard,
    _server: JoinSet<()>,
}

pub(super) async fn client(url: &str) -> Result<Client, Failure> {
    let config = ClientConfig::from_url(url)?.namespace("shop");
    Ok(Client::connect(config).await?)
}

/// Ann may do everything, Rob reads.
fn viewer(request: &Parts) -> Option<Viewer> {
    let cookies = request.headers.get(COOKIE)?.to_str().ok()?;
    let rights = match cookies.split("viewer=").nth(1)?.split(';').next()? {
        "ann" => ("ann", Rights::all()),
        "rob" => ("rob", Rights::read_only()),
        _ => return None,
    };
    Some(Viewer::new(rights.0, rights.1))
}

impl Shop {
    pub(super) async fn open(url: &str) -> Result<Self, Failure> {
        let client = client(url).await?;
        let health = Health::builder()
            .dependency(Dependency::hard("redis", &client))
            .build()?;
        let secrets = SessionSecrets::new(vec![1; 32], 1, vec![2; 32])?;
        let mail: Topic<Value> = Topic::builder(&client, "mail").build()?;
        let (is_mended, handled) = (
            Arc::new(AtomicBool::new(false)),
            Arc::new(AtomicU64::new(0)),
        );
        let mailer = {
            let (is_mended, handled) = (Arc::clone(&is_mended), Arc::clone(&handled));
            let handler = move |delivery: Delivery<Value>| {
                let works = delivery.payload["fails"] != true || is_mended.load(Ordering::Relaxed);
                let handled = Arc::clone(&handled);
                async move {
                    sleep(Duration::from_millis(5)).await;
                    if !works {
                        return Outcome::dead("550 no such address");
                    }
                    handled.fetch_add(1, Ordering::Relaxed);
                    Outcome::Ack
                }
            };
            mail.consumer("senders")
                .concurrency(8)
                .start(handler)
                .await?
        };
        let dashboard = Dashboard::builder(&client)
            .program("shop")
            .health(&health)
            .access(viewer)
            .command_key(SecretString::from(KEY))
            .start()?;
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let port = listener.local_addr()?.port();
        // A page of the same host, for cookies to be set on. Without the icon the browser asks for one.
        let blank = Html("<!doctype html><title>blank</title><link rel=icon href='data:,'>");
        let app: Router = Router::new()
            .route("/blank", get(async move || blank))
            .nest("/admin", dashboard.routes());
        let mut server = JoinSet::new();
        server.spawn(async move {
            let _ = axum::serve(listener, app).await;
        });
        let sessions = SessionStore::builder(&client, "web", secrets).build()?;
        let mut session = sessions.start()?;
        session
            .sign_in(SignIn::new("ann").device("Firefox on Linux"))
            .await?;
        Ok(Self {
            port,
            products: Cache::builder(&client, "products")
                .ttl(Duration::from_secs(60))
                .build()?,
            limiter: RateLimiter::builder(&client, "api")
                .policy(Policy::gcra(Quota::per_minute(600).burst(50)))
                .build()?,
            locks: LockManager::builder(&client, "orders").build()?,
            sessions,
            mail,
            is_mended,
            handled,
            _mailer: mailer,
            _dashboard: dashboard,
            _server: server,
        })
    }

    pub(super) fn url(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}{path}", self.port)
    }

    /// Load, for as long as this is held.
    pub(super) fn load(&self) -> JoinSet<()> {
        let mut load = JoinSet::new();
        for n in 0_u64..6 {
            let (products, limiter, locks) = (
                self.products.clone(),
                self.limiter.clone(),
                self.locks.clone(),
            );
            let mail = self.mail.clone();
            load.spawn(async move {
                for turn in 0_u64.. {
                    let key = (turn * 7 + n) % 400;
                    let _ = products.get_or_load(key, || async move { Ok::<_, Failure>(key) }).await;
                    let _ = limiter.check(format!("user-{n}")).await;
                    if turn % 20 == 0 {
                        let mail_to = json!({ "to": format!("user-{turn}@example.org"), "template": "shipped" });
                        let _ = mail.publish(&mail_to).await;
                        if let Ok(guard) = locks.try_acquire(format!("cart-{n}")).await {
                            sleep(Duration::from_millis(40)).await;
                            let _ = guard.release().await;
                        }
                    }
                    sleep(Duration::from_millis(6)).await;
                }
            });
        }
        let sessions = self.sessions.clone();
        load.spawn(async move {
            loop {
                let _ = sessions.load("not an id of ours").await;
                sleep(Duration::from_millis(500)).await;
            }
        });
        load
    }

    pub(super) async fn publish_what_fails(&self) -> Result<(), Failure> {
        let letter =
            json!({ "to": "ann@example.org", "subject": "Your order 4711", "fails": true });
        self.mail.publish(&letter).await?;
        Ok(())
    }

    /// From now on everything is handled.
    pub(super) fn mend(&self) {
        self.is_mended.store(true, Ordering::Relaxed);
    }

    pub(super) async fn wait_until_handled(&self) -> Result<(), Failure> {
        for _ in 0..200 {
            let stats = self.mail.stats("senders").await?;
            if self.handled.load(Ordering::Relaxed) > 0 && stats.dead == 0 {
                return Ok(());
            }
            sleep(Duration::from_millis(50)).await;
        }
        Err("the letter that was redriven was not handled".into())
    }
}
