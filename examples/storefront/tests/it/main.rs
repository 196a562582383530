//! The program as it is run: its visit of itself, its life without a server, and its end.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod customer;
mod database;
mod outage;
mod process;
mod purchases;
mod servers;
mod sessions;
mod watched;

use std::time::{Duration, Instant};

use process::Storefront;

#[tokio::test]
async fn the_visit_passes_with_nothing_installed() {
    let visit = Storefront::command(&["--smoke"]).output();
    let visit = tokio::time::timeout(Duration::from_secs(150), visit)
        .await
        .unwrap()
        .unwrap();
    let said = String::from_utf8(visit.stdout).unwrap();
    assert!(
        visit.status.success(),
        "{said}{}",
        String::from_utf8_lossy(&visit.stderr)
    );
    assert!(said.contains(" steps passed, 0 failed"), "{said}");
    assert!(said.contains("backend: embedded"), "{said}");
    assert!(
        said.contains("64 × GET /products/500 at once → all 200, 1 database read"),
        "{said}"
    );
}

#[tokio::test]
async fn without_its_server_the_shop_sells_from_its_database() {
    // Port 1 is reserved and nothing listens there.
    let url = "redis://shopkeeper:open-sesame@127.0.0.1:1";
    let mut shop = Storefront::start(&["--listen", "127.0.0.1:0"], Some(url)).await;
    let start = Instant::now();
    for path in ["/products/17", "/products/17", "/categories/3?page=2", "/"] {
        assert_eq!(shop.read(path).await, "redkit; fwd=bypass", "{path}");
    }
    assert_eq!(shop.get("/healthz").await.status(), 200);
    // A soft dependency that is down is a warning, and no reason to send visitors elsewhere.
    for (path, status) in [("live", "pass"), ("ready", "warn"), ("startup", "pass")] {
        let answer = shop.get(&format!("/health/{path}")).await;
        assert_eq!(answer.status(), 200, "{path}");
        let body: serde_json::Value = answer.json().await.unwrap();
        assert_eq!(body["status"], status, "{path} {body}");
    }
    let metrics = shop.get("/metrics").await.text().await.unwrap();
    assert!(
        metrics.contains("redis_up{dependency=\"cache\",server=\"127.0.0.1:1\"} 0"),
        "{metrics}"
    );
    assert!(
        !metrics.contains("redkit_cache_reads_total{cache=\"products\",result=\"bypass\"} 0"),
        "{metrics}"
    );
    assert!(
        start.elapsed() < Duration::from_secs(20),
        "{:?}",
        start.elapsed()
    );
    let (status, said) = shop.stop().await;
    assert!(status.success(), "{said}");
    assert!(
        said.contains("backend: 127.0.0.1:1 (from REDIS_URL)"),
        "{said}"
    );
    assert!(
        !said.contains("open-sesame") && !said.contains("shopkeeper"),
        "{said}"
    );
}

#[tokio::test]
async fn a_database_of_ones_own_keeps_its_prices() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("shop.db");
    let args = [
        "--listen",
        "127.0.0.1:0",
        "--database",
        path.to_str().unwrap(),
    ];
    let mut shop = Storefront::start(&args, None).await;
    let changed = shop
        .post("/products/17/price", "{\"price_cents\":4711}")
        .await;
    assert_eq!(changed.status(), 200);
    assert!(shop.stop().await.0.success());

    let mut shop = Storefront::start(&args, None).await;
    let page = shop.get("/products/17").await.text().await.unwrap();
    assert!(page.contains("€47.11"), "{page}");
    assert!(shop.stop().await.0.success());
}

#[tokio::test]
async fn a_setting_that_cannot_be_used_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let nowhere = folder.path().join("no/such/folder/shop.db");
    let nowhere = nowhere.to_str().unwrap();
    let cases: [(&[&str], &str, &str); 3] = [
        (
            &["--listen", "127.0.0.1:0", "--database", nowhere],
            "embedded://",
            nowhere,
        ),
        (
            &["--listen", "not-an-address"],
            "embedded://",
            "not-an-address",
        ),
        (
            &["--listen", "127.0.0.1:0"],
            "http://user:open-sesame@127.0.0.1:1",
            "REDIS_URL",
        ),
    ];
    for (args, url, named) in cases {
        let run = Storefront::command(args).env("REDIS_URL", url).output();
        let run = tokio::time::timeout(Duration::from_secs(30), run)
            .await
            .unwrap()
            .unwrap();
        let said = String::from_utf8(run.stderr).unwrap();
        assert_eq!(run.status.code(), Some(1), "{args:?}: {said}");
        assert!(said.contains(named), "{args:?}: {said}");
        assert!(!said.contains("open-sesame"), "{args:?}: {said}");
    }
}
