//! A cancellation and the packing of the same order at once: with one lock, and with two as the original has them.

use std::path::Path;
use std::sync::Arc;

use redkit::embedded::Embedded;
use redkit::lock::LockManager;
use redkit::{Client, ClientConfig, Codec};

use super::*;
use crate::catalogue::Catalogue;
use crate::model::Id;

struct Shop {
    orders: Orders,
    notifications: Notifications,
    cached: CachedCatalogue,
    catalogue: Catalogue,
    client: Client,
    _folder: tempfile::TempDir,
}

impl Shop {
    async fn open() -> Self {
        let engine = Arc::new(Embedded::new());
        let client = Client::from_backend(engine, &ClientConfig::default()).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let path: &Path = &folder.path().join("shop.db");
        let catalogue = Catalogue::open(path).await.unwrap();
        let pool = catalogue.pool().clone();
        Self {
            orders: Orders::new(&client, Codec::json(), pool).unwrap(),
            notifications: Notifications::new(&client).unwrap(),
            cached: CachedCatalogue::new(&client, catalogue.clone()).unwrap(),
            catalogue,
            client,
            _folder: folder,
        }
    }

    async fn stock(&self, product: i64) -> u32 {
        let id = Id::try_from(product).unwrap();
        self.catalogue.product(id).await.unwrap().stock
    }

    async fn place(&self, account: i64, product: i64, units: u32) -> Result<Reference, OrderError> {
        let mut basket = Basket::default();
        basket.add(Id::try_from(product).unwrap(), units);
        let reference = Reference::random();
        let placed = self
            .orders
            .place(account, &reference, &basket, &self.cached);
        placed.await.map(|executed| executed.value.reference)
    }

    async fn parcels(&self) -> i64 {
        sqlx::query_scalar("SELECT count(*) FROM parcel")
            .fetch_one(self.catalogue.pool())
            .await
            .unwrap()
    }

    /// Packs and cancels the same order at once, the cancellation a moment later. Gives whether it was cancelled,
    /// and whether a parcel is on its way.
    async fn race(&self) -> (bool, bool) {
        let (product, before) = (17, self.stock(17).await);
        let reference = self.place(1, product, 2).await.unwrap();
        assert_eq!(self.stock(product).await, before - 2);
        let event = Event {
            reference: reference.clone(),
            happening: Happening::Placed,
        };
        let cancel = async {
            tokio::time::sleep(self.orders.packing / 3).await;
            self.orders.cancel(1, &reference, &self.cached).await
        };
        let (_, cancelled) = tokio::join!(self.orders.handle(&event, &self.notifications), cancel);
        let was_returned = self.stock(product).await == before;
        assert_eq!(cancelled.is_ok(), was_returned, "{cancelled:?}");
        (was_returned, self.parcels().await == 1)
    }
}

/// What the original does: `order:processing:…` and `order:cancellation:…`.
fn two_names(client: &Client) -> Locks {
    let named = |name| LockManager::builder(client, name).build().unwrap();
    Locks {
        processing: named("order-processing"),
        cancelling: named("order-cancellation"),
    }
}

#[tokio::test]
async fn an_order_is_cancelled_or_on_its_way_and_never_both() {
    let shop = Shop::open().await;
    let (cancelled, on_its_way) = shop.race().await;
    assert!(
        cancelled != on_its_way,
        "cancelled {cancelled}, on its way {on_its_way}"
    );
    // It waited for the packing, and found the order gone.
    assert!(on_its_way);
}

/// The cancellation did not wait for the packing, and the database kept the parcel back.
#[tokio::test]
async fn under_two_names_an_order_is_packed_in_vain() {
    let mut shop = Shop::open().await;
    shop.orders.locks = two_names(&shop.client);
    assert_eq!(shop.race().await, (true, false));
}

/// The worker has handed the parcel over, and does not live to note it.
#[tokio::test]
async fn an_order_whose_parcel_the_carrier_has_is_not_cancelled() {
    let shop = Shop::open().await;
    let run = async |statement: &'static str| {
        let done = sqlx::query(statement).execute(shop.catalogue.pool()).await;
        done.unwrap();
    };
    run(
        "CREATE TRIGGER dies BEFORE UPDATE ON purchase WHEN NEW.state = 'shipped'
         BEGIN SELECT RAISE(ABORT, 'the worker dies'); END",
    )
    .await;
    let reference = shop.place(1, 17, 2).await.unwrap();
    let event = Event {
        reference: reference.clone(),
        happening: Happening::Placed,
    };
    let handled = shop.orders.handle(&event, &shop.notifications).await;
    assert!(handled.is_err());
    assert_eq!(shop.parcels().await, 1);
    run("DROP TRIGGER dies").await;
    let cancelled = shop.orders.cancel(1, &reference, &shop.cached).await;
    assert!(
        matches!(cancelled, Err(OrderError::Book(BookError::OnItsWay))),
        "{cancelled:?}"
    );
    // The event is told again.
    let again = shop.orders.handle(&event, &shop.notifications).await;
    again.unwrap();
    let (_, state) = shop.orders.book.state(&reference).await.unwrap();
    assert_eq!((state, shop.parcels().await), (State::Shipped, 1));
}

#[tokio::test]
async fn an_order_that_was_cancelled_in_time_is_not_packed() {
    let shop = Shop::open().await;
    let before = shop.stock(17).await;
    let reference = shop.place(1, 17, 2).await.unwrap();
    shop.orders
        .cancel(1, &reference, &shop.cached)
        .await
        .unwrap();
    let again = shop.orders.cancel(1, &reference, &shop.cached).await;
    assert!(
        matches!(again, Err(OrderError::Book(BookError::Cancelled))),
        "{again:?}"
    );
    let event = Event {
        reference,
        happening: Happening::Placed,
    };
    shop.orders
        .handle(&event, &shop.notifications)
        .await
        .unwrap();
    assert_eq!((shop.stock(17).await, shop.parcels().await), (before, 0));
}

#[tokio::test]
async fn racing_orders_sell_what_there_is_and_no_more() {
    let shop = Arc::new(Shop::open().await);
    sqlx::query("UPDATE product SET stock = 7 WHERE id = 17")
        .execute(shop.catalogue.pool())
        .await
        .unwrap();
    let mut buyers = tokio::task::JoinSet::new();
    for _ in 0..20 {
        let shop = Arc::clone(&shop);
        buyers.spawn(async move { shop.place(1, 17, 1).await });
    }
    let (mut sold, mut refused) = (0, 0);
    while let Some(outcome) = buyers.join_next().await {
        match outcome.unwrap() {
            Ok(_) => sold += 1,
            Err(OrderError::Book(BookError::OutOfStock { .. })) => refused += 1,
            Err(error) => panic!("{error:?}"),
        }
    }
    assert_eq!((sold, refused, shop.stock(17).await), (7, 13, 0));
}

#[tokio::test]
async fn a_form_that_is_sent_twice_is_one_order() {
    let shop = Arc::new(Shop::open().await);
    let before = shop.stock(17).await;
    let mut basket = Basket::default();
    basket.add(Id::try_from(17).unwrap(), 1);
    let reference = Reference::random();
    let mut windows = tokio::task::JoinSet::new();
    for _ in 0..8 {
        let (shop, reference, basket) = (Arc::clone(&shop), reference.clone(), basket.clone());
        windows.spawn(async move {
            shop.orders
                .place(1, &reference, &basket, &shop.cached)
                .await
        });
    }
    let mut first = 0;
    while let Some(outcome) = windows.join_next().await {
        match outcome.unwrap() {
            Ok(executed) => first += u32::from(!executed.is_replayed),
            Err(OrderError::NotPlaced(LockError::InFlight { .. })) => {}
            Err(error) => panic!("{error:?}"),
        }
    }
    assert_eq!((first, shop.stock(17).await), (1, before - 1));
    let again = shop
        .orders
        .place(1, &reference, &basket, &shop.cached)
        .await
        .unwrap();
    assert!(again.is_replayed);
    basket.add(Id::try_from(18).unwrap(), 1);
    let other = shop
        .orders
        .place(1, &reference, &basket, &shop.cached)
        .await;
    assert!(
        matches!(
            other,
            Err(OrderError::NotPlaced(LockError::OtherFingerprint))
        ),
        "{other:?}"
    );
}

#[tokio::test]
async fn half_an_order_takes_nothing() {
    let shop = Shop::open().await;
    let before = shop.stock(17).await;
    let mut basket = Basket::default();
    basket.add(Id::try_from(17).unwrap(), 1);
    basket.add(Id::try_from(18).unwrap(), 99);
    sqlx::query("UPDATE product SET stock = 98 WHERE id = 18")
        .execute(shop.catalogue.pool())
        .await
        .unwrap();
    let placed = shop
        .orders
        .place(1, &Reference::random(), &basket, &shop.cached)
        .await;
    assert!(
        matches!(
            placed,
            Err(OrderError::Book(BookError::OutOfStock { left: 98, .. }))
        ),
        "{placed:?}"
    );
    assert_eq!(shop.stock(17).await, before);
}
