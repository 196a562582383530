//! The shop visits itself: a real server on a free port, requests over real HTTP, and a count of
//! what reached the database. Every step says what it saw.

mod entries;
mod purchase;
mod steps;
mod visitor;

use std::error::Error;
use std::net::Ipv4Addr;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use tokio::net::TcpListener;
use tokio::sync::oneshot;

use crate::server;
use crate::shop::{Settings, Shop};

use visitor::Visitor;

/// The longest that the whole visit may take, so that a shop that hangs fails too.
const LIMIT: Duration = Duration::from_secs(120);

/// Visits a shop with a new temporary catalogue, and gives the status to end with.
///
/// # Errors
/// When the shop does not open, or does not end in order.
pub(crate) async fn run() -> Result<ExitCode, Box<dyn Error>> {
    let start = Instant::now();
    let shop = Shop::open(&Settings {
        database: None,
        needs_redis: true,
        look_in: None,
        trusted: Vec::new(),
        ship_after: Duration::from_secs(1),
        // The visit wants to see misses, and warms for itself.
        warms: false,
    })
    .await?;
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
    let address = listener.local_addr()?;
    println!("storefront: http://{address} | {shop}\n");
    let (stop, stopped) = oneshot::channel::<()>();
    let stop_streams = shop.stop();
    let serving = server::serve(listener, shop.router()?, async move {
        // Dropping the sender stops the shop too.
        let _ = stopped.await;
        stop_streams.await;
    });
    let visiting = async {
        let mut report = Report::default();
        let visit = steps::visit(&shop, Visitor::new(address)?, &mut report);
        if tokio::time::timeout(LIMIT, visit).await.is_err() {
            let late = format!("the visit had not ended after {LIMIT:?}");
            report.step("in time", Err(Failure::Unexpected(late)));
        }
        drop(stop);
        Ok::<_, reqwest::Error>(report)
    };
    let (served, report) = tokio::join!(serving, visiting);
    let mut report = report?;
    let gone = steps::stopped(address).await;
    report.step("stop", served.map_err(Failure::from).and(gone));
    shop.close().await;
    let (passed, failed) = (report.passed, report.failed);
    println!(
        "\n{passed} steps passed, {failed} failed, in {:.1?}",
        start.elapsed()
    );
    Ok(match (passed, failed) {
        (1.., 0) => ExitCode::SUCCESS,
        _ => ExitCode::FAILURE,
    })
}

/// What the steps came to.
#[derive(Debug, Default)]
struct Report {
    passed: u32,
    failed: u32,
}

impl Report {
    /// Prints what a step saw, and counts it.
    fn step(&mut self, name: &str, outcome: Result<String, Failure>) {
        match outcome {
            Ok(seen) => {
                self.passed += 1;
                println!("ok    {name:<12} {seen}");
            }
            Err(failure) => {
                self.failed += 1;
                println!("FAIL  {name:<12} {}", crate::with_causes(&failure));
            }
        }
    }
}

/// Why a step failed.
#[derive(Debug, thiserror::Error)]
enum Failure {
    /// The shop answered, and not as it should.
    #[error("{0}")]
    Unexpected(String),
    #[error("the request failed")]
    Http(#[from] reqwest::Error),
    #[error("the server failed")]
    Server(#[from] std::io::Error),
    #[error("the database failed")]
    Catalogue(#[from] crate::catalogue::CatalogueError),
    #[error("the cache's server failed")]
    Cache(#[from] redkit::Error),
    #[error("a job was not taken")]
    Job(#[from] redkit::pubsub::Error),
    #[error("this is no JSON of the shop's")]
    Json(#[from] serde_json::Error),
}

/// Fails a step with `message` unless `condition` holds.
fn ensure(condition: bool, message: impl FnOnce() -> String) -> Result<(), Failure> {
    match condition {
        true => Ok(()),
        false => Err(Failure::Unexpected(message())),
    }
}
