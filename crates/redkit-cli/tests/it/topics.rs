//! `redkit topics`.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::{Duration, Instant};

use redkit_pubsub::topic::{Delivery, Outcome, Publication, Topic};

use crate::{Engine, engine};

async fn until(what: &str, mut is_so: impl AsyncFnMut() -> bool) {
    let patience = Instant::now() + Duration::from_secs(20);
    while !is_so().await {
        assert!(Instant::now() < patience, "{what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

async fn group(engine: &Engine) -> serde_json::Value {
    let listed = engine.json(&["topics", "list", "orders"]).await;
    listed["topics"][0]["groups"][0].clone()
}

#[tokio::test(flavor = "multi_thread")]
async fn dead_letters_are_listed_and_published_again() {
    let engine = engine().await;
    let topic: Topic<String> = Topic::builder(&engine.client, "orders")
        .partitions(2)
        .build()
        .unwrap();
    let (is_broken, handled) = (Arc::new(AtomicBool::new(true)), Arc::new(AtomicU32::new(0)));
    let worker = {
        let (is_broken, handled) = (Arc::clone(&is_broken), Arc::clone(&handled));
        let handler = move |_: Delivery<String>| {
            let outcome = match is_broken.load(Ordering::Relaxed) {
                true => Outcome::dead("no such address"),
                false => {
                    handled.fetch_add(1, Ordering::Relaxed);
                    Outcome::Ack
                }
            };
            async move { outcome }
        };
        topic.consumer("mail").start(handler).await.unwrap()
    };
    for number in 0..3 {
        let publication = Publication::new()
            .id(format!("id-{number}"))
            .header("tenant", "t1");
        topic
            .publish_with("a secret message", publication)
            .await
            .unwrap();
    }
    until("three have died", async || {
        group(&engine).await["dead"] == 3
    })
    .await;
    let shown = group(&engine).await;
    assert_eq!(
        (&shown["name"], &shown["live_workers"]),
        (&"mail".into(), &1.into()),
        "{shown}"
    );

    let dead = engine.json(&["topics", "dead", "orders", "mail"]).await;
    assert_eq!(dead["count"], 3);
    assert!(
        !dead.to_string().contains("secret message"),
        "payloads are shown when asked for"
    );
    assert_eq!(dead["letters"][0]["reason"], "no such address");
    let full = engine
        .json(&["topics", "dead", "orders", "mail", "--payload"])
        .await;
    assert_eq!(full["letters"][0]["payload"], "a secret message");
    assert_eq!(full["letters"][0]["headers"]["tenant"], "t1");

    is_broken.store(false, Ordering::Relaxed);
    let letter = dead["letters"][0]["letter"].as_str().unwrap();
    let one = ["topics", "redrive", "orders", "mail", "--letter", letter];
    assert_eq!(engine.json(&one).await["redriven"], 1);
    until("one was handled", async || {
        handled.load(Ordering::Relaxed) == 1
    })
    .await;
    engine
        .redkit(&one)
        .await
        .failed(1, "no dead letter", "topics dead");
    let all = ["topics", "redrive", "orders", "mail", "--all"];
    engine.redkit(&all).await.failed(2, "no terminal", "--yes");
    assert_eq!(group(&engine).await["dead"], 2);
    assert_eq!(
        engine.json(&[&all[..], &["--yes"]].concat()).await["redriven"],
        2
    );
    until("all were handled", async || {
        handled.load(Ordering::Relaxed) == 3
    })
    .await;
    worker.shutdown(Duration::from_secs(5)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn groups_are_paused_resumed_and_told_when_they_do_not_exist() {
    let engine = engine().await;
    let topic: Topic<String> = Topic::builder(&engine.client, "orders").build().unwrap();
    topic.publish("x").await.unwrap();
    let handler = |_: Delivery<String>| async { Outcome::dead("no") };
    let worker = topic.consumer("mail").start(handler).await.unwrap();
    until("it has died", async || group(&engine).await["dead"] == 1).await;
    worker.shutdown(Duration::from_secs(5)).await;

    engine.json(&["topics", "pause", "orders", "mail"]).await;
    assert_eq!(group(&engine).await["is_paused"], true);
    engine.json(&["topics", "resume", "orders", "mail"]).await;
    assert_eq!(group(&engine).await["is_paused"], false);

    let misspelt = engine
        .redkit(&["topics", "redrive", "orders", "mali", "--all", "--yes"])
        .await;
    misspelt.failed(1, "has no group mali", "there are mail");
    let unknown = engine.redkit(&["topics", "pause", "order", "mail"]).await;
    unknown.failed(1, "there is no topic order", "--namespace");
    let discard = ["topics", "discard", "orders", "mail"];
    engine
        .redkit(&discard)
        .await
        .failed(2, "no terminal", "--yes");
    assert_eq!(
        engine.json(&[&discard[..], &["--yes"]].concat()).await["discarded"],
        1
    );
    assert_eq!(group(&engine).await["dead"], 0);
    let text = engine.redkit(&["topics", "list"]).await;
    assert!(
        text.out.contains("OLDEST PENDING") && text.out.contains("mail"),
        "{text:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn groups_of_other_programs_hide_no_topic_and_do_not_command_the_terminal() {
    let engine = engine().await;
    for name in ["orders", "refunds"] {
        let topic: Topic<String> = Topic::builder(&engine.client, name).build().unwrap();
        topic.publish("x").await.unwrap();
        let handler = |_: Delivery<String>| async { Outcome::Ack };
        let worker = topic.consumer("mail").start(handler).await.unwrap();
        worker.shutdown(Duration::from_secs(5)).await;
    }
    for name in ["debug:1", "a\u{1b}[2J"] {
        let create = redkit_core::Command::new("XGROUP").arg("CREATE");
        let create = create.key(engine.client.key("topic:orders:{orders.0}"));
        let create = create.arg(name).arg("0");
        engine.client.call::<()>(create).await.unwrap();
    }
    let listed = engine.json(&["topics", "list"]).await;
    let groups = listed["topics"][0]["groups"].as_array().unwrap();
    let of = |name: &str| groups.iter().find(|group| group["name"] == name).unwrap();
    assert!(
        of("debug:1")["error"].as_str().unwrap().contains("letters"),
        "{listed}"
    );
    assert!(
        of("mail")["error"].is_null() && of("mail")["pending"].is_u64(),
        "{listed}"
    );
    assert_eq!(listed["topics"][1]["name"], "refunds");
    let text = engine.redkit(&["topics", "list"]).await;
    assert!(
        text.out.contains("debug:1") && text.out.contains("refunds"),
        "{text:?}"
    );
    let misspelt = engine.redkit(&["topics", "pause", "orders", "mali"]).await;
    misspelt.failed(1, "has no group mali", "debug:1");
    for shown in [text.out, misspelt.err] {
        assert!(!shown.contains('\u{1b}'), "{shown:?}");
    }
}
