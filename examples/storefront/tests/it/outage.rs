//! Two processes with shoppers in them, on one Redis that is killed and started again, and one of the processes is
//! killed: nothing is sold twice, nothing that was promised is lost, nobody is turned away once Redis is back, and the
//! dashboard shows all of it.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, SystemTime};

use redkit::pubsub::Inbox;
use redkit::{Client, ClientConfig};
use redkit_testkit::{Server, ServerOptions};

use crate::customer::Customer;
use crate::database::Database;
use crate::watched::{Look, Watched};

/// How long after its return Redis may still be missed: by requests that were under way, and by circuit breakers,
/// which try it again after a while.
const RECOVERY: Duration = Duration::from_secs(6);

/// Lets shoppers walk about for so long, with both faults in between, and checks what is left.
pub(crate) async fn shoppers_and_faults(time: Duration) {
    // Each write is the system's before it is answered, so that what Redis has said outlives its process; what would
    // outlive the machine, `always`, makes it wait for the disk, which others use.
    let options = ServerOptions::new()
        .config("appendonly yes")
        .config("appendfsync no");
    let server = Server::redis(options).await.unwrap();
    let database = Database::new().await;
    for product in 1..=10 {
        database.set_stock(product, 3).await;
    }
    let before = database.stock().await;
    let args = ["--ship-after", "0", "--drive", "8"];
    let mut one = database.open(&server.url(), &args).await;
    let other = database.open(&server.url(), &args).await;

    let olga = Customer::signed_in(one.address(), "olga").await;
    let dashboard = Watched::open(&olga).await;

    tokio::time::sleep(time / 3).await;
    let down = SystemTime::now();
    server.kill9().await;
    tokio::time::sleep((time / 12).clamp(Duration::from_secs(2), Duration::from_secs(5))).await;
    server.restart().await.unwrap();
    let back = SystemTime::now();
    tokio::time::sleep(time / 3).await;
    let mut said = other.kill().await;
    let killed = SystemTime::now();
    tokio::time::sleep(time / 3).await;
    let looks = dashboard.close().await;
    let (status, rest) = one.stop().await;
    assert!(status.success(), "{rest}");
    said.push_str(&rest);

    let unserved = unserved(&said);
    let stray = unserved
        .iter()
        .find(|(at, _)| *at < down || *at > back + RECOVERY);
    assert!(
        stray.is_none(),
        "Redis was down from {down:?} to {back:?}, and not at {stray:?}:\n{said}"
    );
    let last = unserved.iter().map(|(at, _)| *at).max();
    let missed_for = last
        .and_then(|last| last.duration_since(back).ok())
        .unwrap_or_default();
    check_dashboard(&looks, (down, back), killed);

    // What the killed one was at is done by another, within its leases.
    let mut heir = database.open(&server.url(), &["--ship-after", "0"]).await;
    database.all_told().await;
    database.check(&before).await;

    let purchases = database.purchases().await;
    let known: BTreeMap<&str, &str> = purchases
        .iter()
        .map(|one| (one.reference.as_str(), one.state.as_str()))
        .collect();
    let promised = marked(&said, "ordered order=\"");
    assert!(!promised.is_empty(), "nobody ordered anything: {said}");
    for reference in &promised {
        assert!(
            known.contains_key(reference.as_str()),
            "{reference} was promised, and is lost"
        );
    }
    let read = marked(&said, "read news=\"");
    let client = inboxes(&server, &database).await;
    let inbox: Inbox<serde_json::Value> = Inbox::builder(&client, "notifications").build().unwrap();
    for purchase in &purchases {
        let id = match purchase.state.as_str() {
            "shipped" => format!("{}-placed", purchase.reference),
            "cancelled" => format!("{}-cancelled", purchase.reference),
            other => panic!("{other}: {purchase:?}"),
        };
        if read.contains(&id) {
            continue;
        }
        let waiting = inbox.page(purchase.account_id, None, 100).await.unwrap();
        let waits = waiting
            .iter()
            .any(|item| item.value.as_ref().unwrap()["id"] == id);
        // An inbox keeps the last hundred.
        assert!(
            waits || waiting.len() == 100,
            "the customer was never told of {id}"
        );
    }
    let cancelled = purchases
        .iter()
        .filter(|one| one.state == "cancelled")
        .count();
    println!(
        "{} orders ({} promised, {cancelled} cancelled), {} news read, in {time:?} with both faults; {} requests were \
         not served, the last {missed_for:?} after Redis was back ({:?} after it was lost)",
        purchases.len(),
        promised.len(),
        read.len(),
        unserved.len(),
        back.duration_since(down).unwrap_or_default() + missed_for,
    );
    client.shutdown().await;
    assert!(heir.stop().await.0.success());
}

/// Which requests of shoppers were not served, and when.
fn unserved(said: &str) -> Vec<(SystemTime, &str)> {
    let lines = said.lines().filter(|line| line.contains("not served"));
    let when = |line: &str| {
        let at = line.split(' ').next().unwrap_or_default();
        humantime::parse_rfc3339(at).unwrap_or_else(|error| panic!("{error}: {line}"))
    };
    lines.map(|line| (when(line), line)).collect()
}

/// The dashboard said that something was wrong while Redis was down, and that Redis was down at no other time; and it
/// forgot the process that was killed, when there was time for that.
fn check_dashboard(looks: &[Look], (down, back): (SystemTime, SystemTime), killed: SystemTime) {
    let says_down = |look: &&Look| look.level == "bad";
    let (before, during, after) = (
        looks.iter().filter(|look| look.at < down),
        looks
            .iter()
            .filter(|look| look.at >= down && look.at <= back + RECOVERY),
        looks.iter().filter(|look| look.at > back + RECOVERY),
    );
    let wrong = before.chain(after).find(says_down);
    assert!(wrong.is_none(), "{wrong:?}");
    // In an outage of two seconds the breaker of the cache, which is a warning, may be all that there is to see.
    let is_short = back.duration_since(down).unwrap_or_default() < Duration::from_secs(4);
    let first = during
        .clone()
        .find(|look| says_down(look) || (is_short && look.level != "ok"));
    let first = first.unwrap_or_else(|| panic!("it said nothing of the outage: {looks:?}"));
    let both = looks.iter().filter(|look| look.at < killed);
    assert_eq!(both.map(|look| look.processes).max(), Some(2), "{looks:?}");
    let told = first.at.duration_since(down).unwrap_or_default();
    let forgotten = looks
        .iter()
        .find(|look| look.at > killed && look.processes == 1);
    let last = looks.last().unwrap();
    match forgotten {
        Some(look) => println!(
            "the dashboard said so {told:?} after Redis was lost (`{}`), and had forgotten the killed process after {:?}",
            first.text,
            look.at.duration_since(killed).unwrap_or_default()
        ),
        // It is believed for 16 s.
        None => assert!(last.at < killed + Duration::from_secs(18), "{last:?}"),
    }
}

/// What stands behind a mark in the log, up to the quotation mark.
fn marked(said: &str, mark: &str) -> BTreeSet<String> {
    let found = said.split(mark).skip(1);
    found
        .filter_map(|rest| rest.split_once('"').map(|(found, _)| found.to_owned()))
        .collect()
}

/// A client in the shop's namespace.
async fn inboxes(server: &Server, database: &Database) -> Client {
    let identity: String = sqlx::query_scalar("SELECT identity FROM catalogue")
        .fetch_one(&database.pool)
        .await
        .unwrap();
    let config = ClientConfig::from_url(&server.url()).unwrap();
    let client = redkit::connect_with(config).await.unwrap();
    client
        .with_namespace(&format!("storefront-{identity}"))
        .unwrap()
}
