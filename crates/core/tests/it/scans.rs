//! Scans: every key, from every master, in bounded memory, without `KEYS`.

use std::collections::HashSet;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use futures_util::TryStreamExt;
use redkit_core::{
    Client, ClientConfig, Command, Driver, Error, KeyType, Pattern, SetItem, SweepReport,
};
use redkit_testkit::{Cluster, Fixture, Program, Server, ServerOptions};

/// In small steps, so that a busy machine does not matter.
async fn fill(client: &Client, count: u32, name: impl Fn(u32) -> String) {
    const STEP: u32 = 250;
    for start in (0..count).step_by(STEP as usize) {
        let items = (start..count.min(start + STEP)).map(|i| SetItem::new(name(i), i));
        for outcome in client.mset(items).await {
            assert!(outcome.unwrap());
        }
    }
}

async fn keys(client: &Client, pattern: Pattern) -> Result<HashSet<Bytes>, Error> {
    client.scan(pattern).keys().try_collect().await
}

redkit_testkit::suite! {
    async fn every_key_is_seen_without_its_prefix(fixture: Fixture) -> Result<(), Error> {
        let client = &fixture.client;
        fill(client, 3000, |i| format!("k:{i}")).await;
        fill(client, 50, |i| format!("other:{i}")).await;
        // A namespace that would match as a glob, and one that begins the same.
        let star = client.with_namespace("k*")?;
        star.set("x", &1).await?;
        let found = keys(client, Pattern::prefix("k:")).await?;
        let expected: HashSet<Bytes> = (0..3000).map(|i| format!("k:{i}").into()).collect();
        assert_eq!(found, expected);
        assert_eq!(keys(client, Pattern::all()).await?.len(), 3051);
        assert_eq!(keys(&star, Pattern::all()).await?, HashSet::from(["x".into()]));
        assert_eq!(client.scan(Pattern::prefix("other:")).count_keys().await?, 50);
        Ok(())
    }

    async fn user_text_in_a_pattern_is_literal(fixture: Fixture) -> Result<(), Error> {
        let client = &fixture.client;
        for key in ["cart:*:1", "cart:ann:1", "cart:a?n:1", "cart:[a]:1", r"cart:\:1"] {
            client.set(key, &1).await?;
        }
        let of = |user: &str| Pattern::starting("cart:").literal(user).literal(":").any();
        for user in ["*", "a?n", "[a]", r"\", "ann"] {
            let found = keys(client, of(user)).await?;
            assert_eq!(found, HashSet::from([format!("cart:{user}:1").into()]), "{user}");
        }
        assert_eq!(keys(client, Pattern::glob("cart:a?n:*")).await?.len(), 2);
        assert_eq!(keys(client, Pattern::glob("cart:[^*]*")).await?.len(), 4);
        assert!(keys(client, Pattern::starting("cart:")).await?.is_empty());

        // A class that is not what it looks like widens nothing.
        for key in ["k[a-]x]", "kx", "ka", "k]", r"k\"] {
            client.set(key, &1).await?;
        }
        let found = keys(client, Pattern::glob("k[a-]").literal("x]")).await?;
        assert_eq!(found, HashSet::from(["k[a-]x]".into()]));
        let found = keys(client, Pattern::glob(r"k\")).await?;
        assert_eq!(found, HashSet::from([r"k\".into()]));
        Ok(())
    }

    async fn a_kind_and_a_page_can_be_chosen(fixture: Fixture) -> Result<(), Error> {
        let client = &fixture.client;
        fill(client, 40, |i| format!("{i}")).await;
        client.call::<i64>(Command::new("RPUSH").key(client.key("list")).arg(1)).await?;
        let lists = client.scan(Pattern::all()).kind(KeyType::List).page(1);
        assert_eq!(lists.clone().count_keys().await?, 1);
        let mut stream = lists.keys();
        assert_eq!(stream.next().await.unwrap()?, "list");
        assert!(stream.next().await.is_none() && stream.next().await.is_none());
        Ok(())
    }

    async fn keys_are_deleted_by_pattern_with_progress(fixture: Fixture) -> Result<(), Error> {
        let client = &fixture.client;
        fill(client, 2500, |i| format!("old:{i}")).await;
        fill(client, 10, |i| format!("new:{i}")).await;
        let seen = Arc::new(Mutex::new(Vec::<SweepReport>::new()));
        let told = Arc::clone(&seen);
        let swept = client
            .scan(Pattern::prefix("old:"))
            .page(500)
            .delete()
            .batch(100)
            .on_progress(move |swept| told.lock().unwrap().push(swept.clone()))
            .run()
            .await;
        assert!(swept.is_complete(), "{swept:?}");
        assert_eq!((swept.deleted, swept.failed), (2500, 0));
        assert_eq!(swept.found, swept.deleted + swept.missing);
        let seen = std::mem::take(&mut *seen.lock().unwrap());
        assert!(seen.len() >= 5 && seen.is_sorted_by_key(|swept| swept.deleted));
        assert_eq!(seen.last().unwrap().deleted, 2500);
        assert_eq!(keys(client, Pattern::all()).await?.len(), 10);
        Ok(())
    }

    async fn keys_are_grouped_in_bounded_memory(fixture: Fixture) -> Result<(), Error> {
        let client = &fixture.client;
        fill(client, 300, |i| format!("order:{}:line:{}", i / 3, i % 3)).await;
        client.set("order:7", &1).await?;
        let pattern = || Pattern::starting("order:").capture().literal(":").any();
        let all = client.scan(pattern()).group().keys_per_group(2).run().await?;
        assert_eq!((all.groups.len(), all.left_over), (100, 0));
        let seven = &all.groups[&b"7"[..]];
        assert_eq!((seven.count, seven.keys.len()), (3, 2));
        assert!(seven.keys.iter().all(|key| key.starts_with(b"order:7:line:")));
        let some = client.scan(pattern()).group().max_groups(10).run().await?;
        assert_eq!((some.groups.len(), some.left_over), (10, 270));
        assert!(client.scan(Pattern::all()).group().run().await.is_err(), "nothing is captured");
        Ok(())
    }
}

each_driver! {
    ()
    a_scan_ends_with_its_error_and_a_sweep_says_how_far_it_came,
}

async fn a_scan_ends_with_its_error_and_a_sweep_says_how_far_it_came(driver: Driver) {
    let server = Server::redis(ServerOptions::new()).await.unwrap();
    let config = ClientConfig::from_url(&server.url())
        .unwrap()
        .driver(driver)
        .namespace("ns")
        .connect_timeout(Duration::from_secs(10));
    // Patient, so that a busy machine does not matter.
    let patient = config.clone().command_timeout(Duration::from_secs(20));
    let filler = Client::connect(patient).await.unwrap();
    fill(&filler, 3000, |i| format!("k:{i}")).await;
    filler.shutdown().await;
    let config = config.command_timeout(Duration::from_secs(1));
    let client = Client::connect(config).await.unwrap();

    let mut stream = client.scan(Pattern::all()).page(100).keys();
    assert!(stream.next().await.unwrap().is_ok());
    server.stop().unwrap();
    let error = loop {
        match stream.next().await {
            Some(Ok(_)) => {}
            Some(Err(error)) => break error,
            None => panic!("the scan cannot have come to its end"),
        }
    };
    assert!(error.is_retryable(), "{error}");
    assert!(stream.next().await.is_none(), "the error is the last item");
    server.cont().unwrap();
    // The silence has opened the breaker, and the first byte closes it.
    let answered = async {
        while client.call::<String>(Command::new("PING")).await.is_err() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), answered)
        .await
        .unwrap();

    // The server refuses to delete, and goes on answering scans.
    let acl = ["ACL", "SETUSER", "default", "-unlink"];
    assert!(!server.raw(&acl).await.unwrap().is_error());
    let swept = client.scan(Pattern::all()).page(100).delete().run().await;
    assert!(
        !swept.is_complete() && swept.stopped_by.is_none(),
        "{swept:?}"
    );
    assert_eq!((swept.deleted, swept.failed), (0, swept.found));
    assert!(swept.error.unwrap().to_string().contains("NOPERM"));

    let acl = ["ACL", "SETUSER", "default", "+unlink"];
    assert!(!server.raw(&acl).await.unwrap().is_error());
    let stop = {
        let server = Arc::new(server);
        let stopped = Arc::clone(&server);
        let swept = client
            .scan(Pattern::all())
            .page(100)
            .delete()
            .on_progress(move |swept| {
                if swept.deleted >= 500 {
                    stopped.stop().unwrap();
                }
            })
            .run()
            .await;
        assert!(
            swept.stopped_by.is_some() && !swept.is_complete(),
            "{swept:?}"
        );
        assert!(swept.deleted >= 500 && swept.deleted < 3000, "{swept:?}");
        server
    };
    stop.cont().unwrap();
    client.shutdown().await;
}

/// What a scan of all keys comes to when something happens to the cluster after its first page.
async fn scan_while(
    cluster: &Cluster,
    client: &Client,
    page: u32,
    meanwhile: impl Future,
) -> Error {
    let mut stream = client.scan(Pattern::all()).page(page).keys();
    stream.next().await.unwrap().unwrap();
    meanwhile.await;
    cluster.wait_until_ok().await.unwrap();
    let mut seen = 1;
    loop {
        match stream.next().await {
            Some(Ok(_)) => seen += 1,
            Some(Err(error)) => return error,
            None => panic!("{seen} keys, and no word of the change"),
        }
    }
}

fn is_layout(error: &Error) -> bool {
    let fault = error.call_error().and_then(redkit_core::CallError::fault);
    fault.is_some_and(|fault| fault.kind() == redkit_core::FaultKind::LayoutChanged)
}

#[tokio::test]
async fn a_scan_does_not_outlive_the_layout_of_the_cluster() {
    let cluster = Cluster::start(Program::Redis, 3, 1).await.unwrap();
    let config = ClientConfig::from_url(&cluster.url()).unwrap();
    let client = Client::connect(config.namespace("ns")).await.unwrap();
    fill(&client, 3000, |i| format!("{i}")).await;
    assert!(client.scan(Pattern::all()).count_keys().await.unwrap() >= 3000);

    // Slots go from the last master to the first; then a replica takes the last one's place.
    let mut masters = cluster.masters().await.unwrap();
    masters.sort_by_key(|master| master.addr());
    let (first, last) = (masters[0], masters[2]);
    let slot = (0..16_384_u16).rev();
    let mut of_last = None;
    for slot in slot.step_by(1000) {
        if cluster.node_of_slot(slot).await.unwrap().addr() == last.addr() {
            of_last = Some(slot);
            break;
        }
    }
    let slot = of_last.unwrap();
    let moving = async {
        cluster
            .migrate_slots(slot..=slot, last, first)
            .await
            .unwrap()
    };
    let error = scan_while(&cluster, &client, 50, moving).await;
    assert!(
        is_layout(&error) && error.is_retryable() && !error.is_maybe(),
        "{error}"
    );
    assert!(error.to_string().contains("scan again"), "{error}");
    assert!(client.scan(Pattern::all()).count_keys().await.unwrap() >= 3000);

    let replica = cluster.replicas_of(last).await.unwrap()[0];
    let failing = async { cluster.failover(replica).await.unwrap() };
    let error = scan_while(&cluster, &client, 50, failing).await;
    assert!(is_layout(&error) && error.is_retryable(), "{error}");
    assert!(client.scan(Pattern::all()).count_keys().await.unwrap() >= 3000);
    client.shutdown().await;
}

const MANY: u32 = 100_000;

/// A hundred thousand keys in a cluster are scanned and deleted by a process of its own, whose
/// memory is measured; and no server is ever sent `KEYS`.
#[tokio::test]
async fn a_hundred_thousand_keys_in_a_cluster_are_swept_in_little_memory() {
    let cluster = Cluster::start(Program::Redis, 3, 0).await.unwrap();
    let url = cluster.url();
    let client = Client::connect(ClientConfig::from_url(&url).unwrap().namespace("sweep"))
        .await
        .unwrap();
    fill(&client, MANY, |i| format!("session:{i:08}:of-some-length")).await;
    client.set("stays", &1).await.unwrap();
    assert_eq!(client.dbsize().await.unwrap(), u64::from(MANY) + 1);
    for node in cluster.nodes() {
        node.raw(&["CONFIG", "RESETSTAT"]).await.unwrap();
    }

    let program = std::env::current_exe().unwrap();
    let output = tokio::process::Command::new(program)
        .args([
            "scans::sweep_in_a_process_of_its_own",
            "--exact",
            "--ignored",
            "--nocapture",
        ])
        .env(CLUSTER, &url)
        .kill_on_drop(true)
        .output()
        .await
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    println!("{said}{}", String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{said}");
    assert!(said.contains("swept 100000"), "{said}");

    assert_eq!(client.dbsize().await.unwrap(), 1);
    assert_eq!(client.get::<i32>("stays").await.unwrap(), Some(1));
    for node in cluster.nodes() {
        let stats = node
            .raw(&["INFO", "commandstats"])
            .await
            .unwrap()
            .text()
            .unwrap();
        assert!(
            stats.contains("cmdstat_scan:") && stats.contains("cmdstat_unlink:"),
            "{stats}"
        );
        assert!(!stats.contains("cmdstat_keys:"), "{stats}");
    }
    client.shutdown().await;
}

const CLUSTER: &str = "REDKIT_SWEEP_CLUSTER";

/// Run by the test above.
#[tokio::test]
#[ignore = "run by a_hundred_thousand_keys_in_a_cluster_are_swept_in_little_memory"]
async fn sweep_in_a_process_of_its_own() {
    const MOST: u64 = 50 * 1024;
    let Ok(url) = std::env::var(CLUSTER) else {
        panic!("{CLUSTER} is not set: this test is run by another");
    };
    let client = Client::connect(ClientConfig::from_url(&url).unwrap().namespace("sweep"))
        .await
        .unwrap();
    client.exists("stays").await.unwrap();
    let before = kilobytes("VmRSS:");
    // From here on the peak is that of the work.
    std::fs::write("/proc/self/clear_refs", "5").unwrap();

    let pattern = || Pattern::prefix("session:");
    let seen = client.scan(pattern()).count_keys().await.unwrap();
    assert!(seen >= u64::from(MANY), "{seen}");
    let mut stream = client.scan(pattern()).keys();
    let mut streamed = 0;
    while let Some(key) = stream.next().await {
        assert!(key.unwrap().starts_with(b"session:"));
        streamed += 1;
    }
    assert!(streamed >= MANY, "{streamed}");
    let told = Arc::new(Mutex::new(0));
    let tell = Arc::clone(&told);
    let swept = client
        .scan(pattern())
        .delete()
        .on_progress(move |_| *tell.lock().unwrap() += 1)
        .run()
        .await;
    assert!(swept.is_complete(), "{swept:?}");
    assert_eq!(swept.deleted, u64::from(MANY));

    let growth = kilobytes("VmHWM:").saturating_sub(before);
    let told = *told.lock().unwrap();
    println!(
        "swept {} in {told} pages; {growth} KiB more than before at the peak",
        swept.deleted
    );
    assert!(told >= 100, "progress is told page by page");
    assert!(growth < MOST, "{growth} KiB");
    client.shutdown().await;
}

fn kilobytes(field: &str) -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with(field)).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}
