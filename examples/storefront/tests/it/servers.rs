//! The program on real servers.

use std::time::{Duration, Instant};

use redkit_testkit::{Fixture, ServerOptions};

use crate::process::Storefront;

redkit_testkit::suite! {
    #[networked]
    async fn the_visit_leaves_readable_entries(fixture: Fixture) {
        let url = fixture.server().expect("a networked backend has one").url();
        let visit = Storefront::command(&["--smoke"]).env("REDIS_URL", &url).output();
        let visit = tokio::time::timeout(Duration::from_secs(150), visit).await.unwrap().unwrap();
        let said = String::from_utf8(visit.stdout).unwrap();
        let complaints = String::from_utf8(visit.stderr).unwrap();
        assert!(visit.status.success(), "{said}{complaints}");
        assert!(said.contains(" steps passed, 0 failed"), "{said}");
        assert!(said.contains(":cache:products:{") && said.contains("{\"id\":"), "{said}");
        // No part of the URL that may be secret is shown.
        if let Some((credentials, _)) = url.split_once('@') {
            let secret = credentials.rsplit(':').next().unwrap();
            assert!(!said.contains(secret) && !complaints.contains(secret), "{said}{complaints}");
        }
    }

    #[networked]
    async fn a_server_that_hangs_is_gone_around_and_comes_back(fixture: Fixture) {
        let server = fixture.private_server(ServerOptions::new()).await.unwrap();
        let mut shop = Storefront::start(&["--listen", "127.0.0.1:0"], Some(&server.url())).await;
        assert_eq!(shop.read("/products/17").await, "redkit; fwd=miss");
        assert_eq!(shop.read("/products/17").await, "redkit; hit");

        server.stop().unwrap();
        let start = Instant::now();
        assert_eq!(shop.read("/products/17").await, "redkit; fwd=bypass");
        assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
        // The price is changed, and the shop does not pretend that nobody sees the old one.
        let changed = shop.post("/products/17/price", "{\"price_cents\":4711}").await;
        assert_eq!(changed.status(), 503);
        let page = shop.get("/products/17").await.text().await.unwrap();
        assert!(page.contains("€47.11"), "{page}");

        server.cont().unwrap();
        let back = Instant::now();
        while shop.read("/products/18").await != "redkit; hit" {
            assert!(back.elapsed() < Duration::from_secs(30), "the cache is not used again");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        assert!(shop.stop().await.0.success());
    }
}

/// On a server of its own. For longer: `cargo xtask chaos storefront`.
#[tokio::test(flavor = "multi_thread")]
async fn shoppers_lose_nothing_when_the_server_restarts_and_a_process_is_killed() {
    crate::outage::shoppers_and_faults(Duration::from_secs(6)).await;
}
