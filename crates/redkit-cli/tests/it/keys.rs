//! `redkit keys`.

use redkit_core::Command;

use crate::engine;

#[tokio::test(flavor = "multi_thread")]
async fn prefixes_sizes_times_to_live_and_orphans_are_counted() {
    let engine = engine().await;
    let set = async |key: String, bytes: usize, ttl: Option<u32>| {
        let set = Command::new("SET")
            .key(engine.client.key(key))
            .arg("x".repeat(bytes));
        let set = match ttl {
            Some(seconds) => set.arg("EX").arg(seconds),
            None => set,
        };
        engine.client.call::<()>(set).await.unwrap();
    };
    for number in 0..50 {
        set(format!("cart:{number}"), 10, Some(30)).await;
    }
    set("cart:big".to_owned(), 100_000, None).await;
    // An entry of a cache that never expires.
    set("cache:products:{1}".to_owned(), 10, None).await;

    let report = engine.json(&["keys"]).await;
    assert_eq!(
        (&report["scanned"], &report["is_complete"]),
        (&52.into(), &true.into()),
        "{report}"
    );
    assert_eq!(
        (
            &report["prefixes"][0]["prefix"],
            &report["prefixes"][0]["keys"]
        ),
        (&"shop:cart:".into(), &51.into())
    );
    assert_eq!(report["biggest"][0]["key"], "shop:cart:big");
    assert_eq!(
        (&report["without_ttl"], &report["orphans"]),
        (&2.into(), &1.into())
    );
    assert_eq!(report["orphan_examples"][0], "shop:cache:products:{1}");
    assert_eq!(
        (
            &report["ttl"][1]["up_to_seconds"],
            &report["ttl"][1]["keys"]
        ),
        (&60.0.into(), &50.into())
    );

    let top = engine.json(&["keys", "--top", "1"]).await;
    assert_eq!(
        (
            top["prefixes"].as_array().unwrap().len(),
            &top["other"]["keys"]
        ),
        (1, &1.into())
    );
    let text = engine.redkit(&["keys"]).await;
    assert!(
        text.out.contains("52 keys seen (all keys)") && text.out.contains("1 orphans"),
        "{text:?}"
    );
    assert!(
        !text.err.contains("keys,"),
        "no progress bar without a terminal: {text:?}"
    );
    let wrong = engine.redkit(&["keys", "--rate", "0"]).await;
    wrong.failed(2, "keys_per_second", "docs/configuration.md");
}
