//! Orders at the door of the shop: never more than there is, one for a key, and cancelled or on their way.

use redkit_testkit::Fixture;
use tokio::task::JoinSet;

use crate::customer::Customer;
use crate::database::Database;

const PRODUCT: i64 = 17;

redkit_testkit::suite! {
    async fn racing_customers_buy_what_there_is_and_no_more(fixture: Fixture) {
        let database = Database::new().await;
        database.set_stock(PRODUCT, 5).await;
        let before = database.stock().await;
        let mut shop = database.open(&fixture.url(), &["--ship-after", "0"]).await;
        let mut customers = JoinSet::new();
        for number in 0..12 {
            let name = ["ann", "ben", "olga"][number % 3];
            let mut customer = Customer::signed_in(shop.address(), name).await;
            let reference = customer.fill(PRODUCT, 1).await;
            customers.spawn(async move { customer.order(&reference).await });
        }
        let taken = customers.join_all().await.into_iter().filter(|taken| *taken).count();
        assert_eq!(taken, 5);
        assert_eq!(database.stock().await[&PRODUCT], 0);
        database.all_told().await;
        database.check(&before).await;
        assert!(shop.stop().await.0.success());
    }

    async fn two_windows_that_send_one_page_make_one_order(fixture: Fixture) {
        let database = Database::new().await;
        let before = database.stock().await;
        let mut shop = database.open(&fixture.url(), &["--ship-after", "0"]).await;
        let mut ann = Customer::signed_in(shop.address(), "ann").await;
        for _ in 0..5 {
            let reference = ann.fill(PRODUCT, 1).await;
            let mut windows = JoinSet::new();
            for _ in 0..6 {
                let (mut ann, reference) = (ann.clone(), reference.clone());
                windows.spawn(async move { ann.order(&reference).await });
            }
            assert!(windows.join_all().await.contains(&true));
            // Again, later: the basket is empty, and the order is shown.
            assert!(ann.order(&reference).await);
        }
        let after = database.stock().await;
        assert_eq!(after[&PRODUCT], before[&PRODUCT] - 5);
        assert_eq!(database.purchases().await.len(), 5);
        database.all_told().await;
        database.check(&before).await;
        assert!(shop.stop().await.0.success());
    }

    /// The first answer is lost, and with it the change of the session.
    async fn an_order_that_is_sent_again_leaves_no_basket_behind(fixture: Fixture) {
        let database = Database::new().await;
        let mut shop = database.open(&fixture.url(), &["--ship-after", "0"]).await;
        let mut ann = Customer::signed_in(shop.address(), "ann").await;
        let reference = ann.fill(PRODUCT, 1).await;
        assert!(ann.order(&reference).await);
        // The basket as it was.
        ann.fill(PRODUCT, 1).await;
        assert!(ann.order(&reference).await);
        let page = ann.text("/basket").await;
        assert!(!page.contains("name=\"reference\""), "{page}");
        assert_eq!(database.purchases().await.len(), 1);
        assert!(shop.stop().await.0.success());
    }

    async fn an_order_that_races_its_cancellation_ends_as_one_of_them(fixture: Fixture) {
        let database = Database::new().await;
        let before = database.stock().await;
        let mut shop = database.open(&fixture.url(), &["--ship-after", "0"]).await;
        let mut ann = Customer::signed_in(shop.address(), "ann").await;
        let mut cancelled = 0;
        for pause in [0, 20, 60, 100, 140, 180, 240, 300] {
            let reference = ann.fill(PRODUCT, 1).await;
            assert!(ann.order(&reference).await);
            tokio::time::sleep(std::time::Duration::from_millis(pause)).await;
            let answer = ann.post(&format!("/orders/{reference}/cancel"), "").await;
            match answer.status().as_u16() {
                303 => cancelled += 1,
                409 => {}
                other => panic!("a cancellation is answered with {other}"),
            }
        }
        database.all_told().await;
        database.check(&before).await;
        let states = database.purchases().await;
        assert_eq!(states.iter().filter(|one| one.state == "cancelled").count(), cancelled);
        assert!(states.iter().all(|one| one.state != "placed"), "{states:?}");
        assert!(shop.stop().await.0.success());
    }
}
