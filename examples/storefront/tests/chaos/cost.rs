//! What an open dashboard costs: commands at Redis, and processor time of the instances.

use std::time::{Duration, Instant};

use redkit_testkit::{RawReply, Server, ServerOptions};

use crate::customer::Customer;
use crate::database::Database;
use crate::process::Storefront;
use crate::watched::Watched;

const INSTANCES: usize = 5;
/// For how long is measured, after some time to settle: an instance that nobody watched says how it stands every five
/// seconds.
const MEASURED: Duration = Duration::from_secs(20);
const SETTLING: Duration = Duration::from_secs(8);

/// What went on in a second.
#[derive(Debug)]
struct Figures {
    commands: f64,
    /// Of the instance that serves the page, and of the others, in hundredths of a processor.
    serving: f64,
    others: f64,
}

pub(crate) async fn of_an_open_page() {
    for drive in [None, Some("6")] {
        let server = Server::redis(ServerOptions::new()).await.unwrap();
        let database = Database::new().await;
        let mut shops = Vec::new();
        for _ in 0..INSTANCES {
            let args: Vec<&str> = drive
                .iter()
                .flat_map(|shoppers| ["--drive", shoppers])
                .collect();
            shops.push(database.open(&server.url(), &args).await);
        }
        let staff = Customer::signed_in(shops[0].address(), "olga").await;
        let closed = measure(&server, &shops).await;
        let page = Watched::open(&staff).await;
        let open = measure(&server, &shops).await;
        let looks = page.close().await;
        assert_eq!(looks.last().unwrap().processes, INSTANCES);
        let under = drive.map_or("idle".to_owned(), |shoppers| {
            format!("{shoppers} shoppers each")
        });
        println!("{INSTANCES} instances, {under}: page closed {closed:.1?}, page open {open:.1?}");
        for shop in &mut shops {
            assert!(shop.stop().await.0.success());
        }
    }
}

async fn measure(server: &Server, shops: &[Storefront]) -> Figures {
    tokio::time::sleep(SETTLING).await;
    let read = async || {
        (
            commands(server).await,
            shops
                .iter()
                .map(Storefront::processor_time)
                .collect::<Vec<_>>(),
        )
    };
    let (begun, before) = (Instant::now(), read().await);
    tokio::time::sleep(MEASURED).await;
    let (after, seconds) = (read().await, begun.elapsed().as_secs_f64());
    let share = |at: usize| (after.1[at] - before.1[at]).as_secs_f64() / seconds * 100.0;
    let others = (1..shops.len()).map(share).sum::<f64>()
        / f64::from(u32::try_from(shops.len() - 1).unwrap());
    // The one that asks is one of them.
    Figures {
        commands: f64::from(u32::try_from(after.0 - before.0 - 1).unwrap()) / seconds,
        serving: share(0),
        others,
    }
}

async fn commands(server: &Server) -> u64 {
    let RawReply::Bulk(info) = server.raw(&["INFO", "stats"]).await.unwrap() else {
        panic!("no text");
    };
    let info = String::from_utf8(info).unwrap();
    let line = info
        .lines()
        .find_map(|line| line.strip_prefix("total_commands_processed:"));
    line.unwrap().trim().parse().unwrap()
}
