//! Sessions and news: here, there, and while the customer is away.

use redkit_testkit::Fixture;
use serde_json::json;

use crate::customer::Customer;
use crate::database::Database;

redkit_testkit::suite! {
    async fn news_come_while_connected_and_while_away_and_once(fixture: Fixture) {
        let database = Database::new().await;
        let mut shop = database.open(&fixture.url(), &["--ship-after", "0"]).await;
        let mut ann = Customer::signed_in(shop.address(), "ann").await;
        let mut olga = Customer::signed_in(shop.address(), "olga").await;

        // Away: it waits.
        olga.post("/staff/broadcast", "text=first&to=ann").await;
        let mut news = ann.follow("").await;
        news.until("first").await;
        // Connected.
        olga.post("/staff/broadcast", "text=second&to=").await;
        let came = news.until("second").await;
        assert_eq!((came.matches("first").count(), came.matches("second").count()), (1, 1), "{came}");
        let last = news.last_id().to_owned();
        drop(news);

        // Away again, with an order besides.
        let reference = ann.fill(17, 1).await;
        assert!(ann.order(&reference).await);
        database.all_told().await;
        olga.post("/staff/broadcast", "text=third&to=ann").await;
        let mut news = ann.follow(&last).await;
        let came = news.until("third").await;
        assert!(!came.contains("first") && !came.contains("second"), "{came}");
        assert_eq!(came.matches(&format!("{reference}-placed")).count(), 1, "{came}");
        // Nobody else is told of it.
        let mut ben = Customer::signed_in(shop.address(), "ben").await;
        let page = ben.text("/notifications").await;
        assert!(page.contains("second") && !page.contains("third") && !page.contains(&reference));
        // The shop ends in order although streams are open.
        let start = std::time::Instant::now();
        assert!(shop.stop().await.0.success());
        assert!(start.elapsed() < std::time::Duration::from_secs(10), "{:?}", start.elapsed());
        news.ended().await;
    }

    async fn the_dashboard_is_for_staff(fixture: Fixture) {
        let database = Database::new().await;
        let mut shop = database.open(&fixture.url(), &[]).await;
        let mut stranger = Customer::new(shop.address());
        let mut ann = Customer::signed_in(shop.address(), "ann").await;
        for nobody in [&mut stranger, &mut ann] {
            assert_eq!(nobody.get("/admin").await.status(), 403);
            assert_eq!(nobody.get("/admin/api/me").await.status(), 403);
        }
        let mut olga = Customer::signed_in(shop.address(), "olga").await;
        assert!(olga.text("/admin").await.contains("<html"));
        assert!(olga.text("/admin/api/me").await.contains("\"name\":\"olga\""));
        assert!(shop.stop().await.0.success());
    }

    async fn no_session_id_reaches_the_dashboard(fixture: Fixture) {
        let database = Database::new().await;
        let mut shop = database.open(&fixture.url(), &[]).await;
        let mut ann = Customer::signed_in(shop.address(), "ann").await;
        let mut olga = Customer::signed_in(shop.address(), "olga").await;
        let ids = [ann.session_id().to_owned(), olga.session_id().to_owned()];
        let user = database.account("ann").await.to_string();
        let list = json!({ "kind": "sessions", "name": "web", "list": "of_user", "filter": user });
        let listed = olga.post_json("/admin/api/list", &list).await;
        assert_eq!(listed["items"].as_array().unwrap().len(), 1, "{listed}");
        let revoke = json!({ "kind": "sessions", "name": "web", "action": "revoke_all", "argument": user });
        let mut sent = listed.to_string();
        sent += &olga.post_json("/admin/api/act", &revoke).await.to_string();
        assert_eq!(ann.get("/account").await.status(), 303);
        for path in ["/admin/api/me", "/admin/api/audit", "/admin/api/logs"] {
            sent += &olga.text(path).await;
        }
        let mut events = olga.stream("/admin/events").await;
        for _ in 0..2 {
            sent += &events.next_event().await.unwrap();
        }
        assert!(sent.contains("revoke_all") && sent.contains("\"verdict\""), "{sent}");
        for id in ids {
            assert!(id.len() > 20 && !sent.contains(&id), "{sent}");
        }
        drop(events);
        assert!(shop.stop().await.0.success());
    }

    async fn signing_out_the_others_ends_their_pages_and_streams(fixture: Fixture) {
        let database = Database::new().await;
        let mut shop = database.open(&fixture.url(), &[]).await;
        let mut laptop = Customer::signed_in(shop.address(), "ann").await;
        let mut phone = Customer::signed_in(shop.address(), "ann").await;
        let mut ben = Customer::signed_in(shop.address(), "ben").await;
        let (of_laptop, of_phone) = (laptop.follow("").await, phone.follow("").await);
        let answer = laptop.post("/account/devices/revoke-others", "").await;
        assert_eq!(answer.status(), 303);
        of_phone.ended().await;
        assert_eq!(phone.get("/account").await.status(), 303);
        assert_eq!(laptop.get("/account").await.status(), 200);
        assert_eq!(ben.get("/account").await.status(), 200);
        drop(of_laptop);
        assert!(shop.stop().await.0.success());
    }

    async fn five_attempts_are_what_a_name_has(fixture: Fixture) {
        let database = Database::new().await;
        let mut shop = database.open(&fixture.url(), &[]).await;
        let mut stranger = Customer::new(shop.address());
        for _ in 0..5 {
            let answer = stranger.post("/sign-in", "name=ann&password=wrong-one").await;
            assert_eq!(answer.status(), 422);
        }
        let denied = stranger.post("/sign-in", "name=ANN&password=teapot-and-two-cups").await;
        assert_eq!(denied.status(), 429);
        let wait: u64 = denied.headers()["retry-after"].to_str().unwrap().parse().unwrap();
        assert!((1..=300).contains(&wait), "{wait}");
        // A denied attempt takes nothing from the address, and others sign in.
        Customer::signed_in(shop.address(), "ben").await;
        assert!(shop.stop().await.0.success());
    }

    #[networked]
    async fn a_session_is_one_at_every_door(fixture: Fixture) {
        let database = Database::new().await;
        let mut here = database.open(&fixture.url(), &[]).await;
        let mut there = database.open(&fixture.url(), &[]).await;
        let mut ann = Customer::signed_in(here.address(), "ann").await;
        ann.fill(17, 3).await;
        let page = ann.at(there.address()).text("/basket").await;
        assert!(page.contains("value=\"3\""), "{page}");
        let mut news = ann.at(there.address()).follow("").await;
        let mut olga = Customer::signed_in(here.address(), "olga").await;
        olga.post("/staff/broadcast", "text=everywhere&to=").await;
        news.until("everywhere").await;
        ann.post("/sign-out", "").await;
        news.ended().await;
        assert!(here.stop().await.0.success());
        assert!(there.stop().await.0.success());
    }
}
