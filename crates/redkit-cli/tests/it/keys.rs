//! `redkit keys`.

use redkit_core::Command;
use rustix::process::{Pid, Signal, kill_process};

use crate::terminal::Pty;
use crate::{NAMESPACE, engine, program};

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

#[tokio::test(flavor = "multi_thread")]
async fn progress_is_shown_on_a_terminal_and_control_c_ends_it_with_what_was_seen() {
    let engine = engine().await;
    for number in 0..3_000 {
        let set = Command::new("SET")
            .key(engine.client.key(format!("cart:{number}")))
            .arg("x");
        engine.client.call::<()>(set).await.unwrap();
    }
    let keys = |args: &[&str]| {
        let mut command = program(&[&["keys"], args].concat());
        command
            .env("REDIS_URL", engine.url())
            .env("REDKIT_NAMESPACE", NAMESPACE);
        Pty::run(command.into_std())
    };
    tokio::task::block_in_place(|| {
        // Ten seconds for all of them, unless it is ended.
        let mut pty = keys(&["--rate", "300", "--sample", "100"]);
        pty.until("/3000 keys, ");
        pty.until(" left");
        // What Control-C is on a terminal of one's own.
        let id = Pid::from_raw(i32::try_from(pty.id()).unwrap()).unwrap();
        kill_process(id, Signal::INT).unwrap();
        assert_eq!(pty.end(), Some(0));
        pty.until("(a part of the keys)");
        let mut pty = keys(&["--rate", "100000", "--sample", "100"]);
        assert_eq!(pty.end(), Some(0));
        pty.until("3000 keys seen (all keys)");
    });
}
