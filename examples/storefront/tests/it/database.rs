//! The shop's database, looked at from outside.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use sqlx::sqlite::{SqliteConnectOptions, SqlitePool};

use crate::process::Storefront;

pub(crate) struct Database {
    pub(crate) pool: SqlitePool,
    path: PathBuf,
    _folder: tempfile::TempDir,
}

/// An order and what became of it.
#[derive(Debug)]
pub(crate) struct Purchase {
    pub(crate) reference: String,
    pub(crate) account_id: i64,
    pub(crate) state: String,
    pub(crate) has_parcel: bool,
}

impl Database {
    /// A new one, made and filled by the shop.
    pub(crate) async fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("shop.db");
        let args = [
            "--listen",
            "127.0.0.1:0",
            "--database",
            path.to_str().unwrap(),
        ];
        let mut shop = Storefront::start(&args, None).await;
        assert!(shop.stop().await.0.success());
        let options = SqliteConnectOptions::new()
            .filename(&path)
            .busy_timeout(Duration::from_secs(10));
        Self {
            pool: SqlitePool::connect_with(options).await.unwrap(),
            path,
            _folder: folder,
        }
    }

    /// A shop on it, with further arguments.
    pub(crate) async fn open(&self, url: &str, args: &[&str]) -> Storefront {
        let path = self.path.to_str().unwrap();
        let own = ["--listen", "127.0.0.1:0", "--database", path];
        let args: Vec<&str> = own.iter().chain(args).copied().collect();
        Storefront::start_logging(&args, Some(url), "storefront::drive=info,warn").await
    }

    pub(crate) async fn account(&self, name: &str) -> i64 {
        sqlx::query_scalar("SELECT id FROM account WHERE name = ?")
            .bind(name)
            .fetch_one(&self.pool)
            .await
            .unwrap()
    }

    pub(crate) async fn set_stock(&self, product: i64, stock: u32) {
        sqlx::query("UPDATE product SET stock = ? WHERE id = ?")
            .bind(stock)
            .bind(product)
            .execute(&self.pool)
            .await
            .unwrap();
    }

    pub(crate) async fn stock(&self) -> BTreeMap<i64, i64> {
        let rows: Vec<(i64, i64)> = sqlx::query_as("SELECT id, stock FROM product")
            .fetch_all(&self.pool)
            .await
            .unwrap();
        rows.into_iter().collect()
    }

    pub(crate) async fn purchases(&self) -> Vec<Purchase> {
        let rows: Vec<(String, i64, String, bool)> = sqlx::query_as(
            "SELECT reference, account_id, state,
                    reference IN (SELECT reference FROM parcel) AS has_parcel
             FROM purchase",
        )
        .fetch_all(&self.pool)
        .await
        .unwrap();
        let purchases = rows.into_iter();
        purchases
            .map(|(reference, account_id, state, has_parcel)| Purchase {
                reference,
                account_id,
                state,
                has_parcel,
            })
            .collect()
    }

    /// Waits until everything that happened was told.
    pub(crate) async fn all_told(&self) {
        for _ in 0..600 {
            let untold: i64 = sqlx::query_scalar("SELECT count(*) FROM outbox")
                .fetch_one(&self.pool)
                .await
                .unwrap();
            if untold == 0 {
                return;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        panic!("something that happened is told to nobody");
    }

    /// What was there is in stock, or in an order that stands; and a parcel is on its way for what was shipped, and
    /// for nothing else.
    pub(crate) async fn check(&self, before: &BTreeMap<i64, i64>) {
        let sold: Vec<(i64, i64)> = sqlx::query_as(
            "SELECT product_id, sum(units) FROM purchase_line JOIN purchase USING (reference)
             WHERE state <> 'cancelled' GROUP BY product_id",
        )
        .fetch_all(&self.pool)
        .await
        .unwrap();
        let sold: BTreeMap<i64, i64> = sold.into_iter().collect();
        let after = self.stock().await;
        for (product, before) in before {
            let sold = sold.get(product).copied().unwrap_or_default();
            assert_eq!(
                after[product] + sold,
                *before,
                "product {product}: {sold} sold"
            );
        }
        for purchase in self.purchases().await {
            let is_shipped = purchase.state == "shipped";
            assert_eq!(purchase.has_parcel, is_shipped, "{purchase:?}");
        }
    }
}
