//! Shoppers: they look around, search, order, cancel, mistype their passwords and read their news, over HTTP as anybody
//! does, so that there is something to see. What they were promised is told in the log, target `storefront::drive`.

mod shopper;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::task::JoinSet;

use crate::accounts::{AccountError, Profile};
use crate::shop::Shop;

use shopper::Shopper;

/// How often it is told what the shoppers have done.
const REPORT: Duration = Duration::from_secs(10);

const PASSWORD: &str = "a shopper's password";

/// What the shoppers have done together.
#[derive(Debug, Default)]
struct Deeds {
    pages: AtomicU64,
    orders: AtomicU64,
    sold_out: AtomicU64,
    cancelled: AtomicU64,
    limited: AtomicU64,
    news: AtomicU64,
    failures: AtomicU64,
}

/// Lets shoppers walk about, from door to door, until this is dropped.
pub(crate) async fn run(shop: &Shop, doors: Vec<SocketAddr>, shoppers: u16) {
    let deeds = Arc::new(Deeds::default());
    let mut walking = JoinSet::new();
    let door = doors.first().map_or(0, SocketAddr::port);
    println!("storefront: {shoppers} shoppers walk about");
    for number in 1..=shoppers {
        let name = format!("shopper-{door}-{number}");
        if let Err(error) = make_account(shop, &name).await {
            tracing::warn!(
                error = &error as &dyn std::error::Error,
                "a shopper has no account"
            );
            continue;
        }
        match Shopper::new(number, name, doors.clone(), Arc::clone(&deeds)) {
            Ok(shopper) => walking.spawn(shopper.walk()),
            Err(error) => {
                tracing::warn!(
                    error = &error as &dyn std::error::Error,
                    "a shopper stays at home"
                );
                continue;
            }
        };
    }
    let reporting = async {
        let mut tick = tokio::time::interval(REPORT);
        tick.tick().await;
        loop {
            tick.tick().await;
            println!("storefront: {}", deeds.report());
        }
    };
    tokio::select! {
        () = reporting => {}
        () = async { while walking.join_next().await.is_some() {} } => {}
    }
}

async fn make_account(shop: &Shop, name: &str) -> Result<(), AccountError> {
    let profile = Profile {
        full_name: format!("S. {name}"),
        address: "12 Window Street, Strollington".to_owned(),
    };
    match shop.accounts().register(name, PASSWORD, &profile).await {
        // It has walked here before.
        Ok(_) | Err(AccountError::Taken) => Ok(()),
        Err(error) => Err(error),
    }
}

impl Deeds {
    fn count(counter: &AtomicU64) {
        counter.fetch_add(1, Ordering::Relaxed);
    }

    fn report(&self) -> String {
        let of = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        format!(
            "shoppers: {} pages, {} orders, {} sold out, {} cancelled, {} limited, {} news, {} failures",
            of(&self.pages),
            of(&self.orders),
            of(&self.sold_out),
            of(&self.cancelled),
            of(&self.limited),
            of(&self.news),
            of(&self.failures),
        )
    }
}
