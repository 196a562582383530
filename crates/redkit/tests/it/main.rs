//! The umbrella: `connect` by URL, and what it refuses.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod clients;
mod features;
mod hung_server;

use redkit::{Command, Error, Interest, Topology};

#[tokio::test]
async fn embedded_by_url_takes_the_settings_in_its_query() {
    let client = redkit::connect("embedded://?namespace=shop&max_in_flight=5")
        .await
        .unwrap();
    assert_eq!(client.topology(), Topology::Embedded);
    let key = client.key("k");
    assert_eq!(key.to_string(), "shop:k");
    client
        .call::<()>(Command::new("SET").key(&key).arg("v"))
        .await
        .unwrap();
    assert_eq!(
        client
            .call::<String>(Command::new("GET").key(&key))
            .await
            .unwrap(),
        "v"
    );
    let other = redkit::connect("embedded://").await.unwrap();
    assert_eq!(
        other.call::<i64>(Command::new("DBSIZE")).await.unwrap(),
        0,
        "an engine each"
    );
    client.shutdown().await;
    assert!(client.call::<String>(Command::new("PING")).await.is_err());
}

#[tokio::test]
async fn a_wrong_url_is_a_configuration_error() {
    for url in [
        "",
        "redis:/x",
        "http://localhost",
        "embedded://?namspace=x",
        "embedded://u:p@h/9",
    ] {
        let error = redkit::connect(url).await.unwrap_err();
        assert!(matches!(error, Error::Config(_)), "{url}: {error}");
    }
}

#[tokio::test]
async fn clients_of_one_name_share_an_engine_and_end_each_for_itself() {
    let connect = || async { redkit::connect("embedded://shared-engine").await.unwrap() };
    let (one, other) = (connect().await, connect().await);
    one.set("k", "v").await.unwrap();
    assert_eq!(
        other.get::<String>("k").await.unwrap().as_deref(),
        Some("v")
    );

    let channel = || Interest::Channels(vec!["c".into()]);
    let mut ends = one.subscribe(channel()).await.unwrap();
    let mut goes_on = other.subscribe(channel()).await.unwrap();
    let session = one.dedicated().await.unwrap();
    one.shutdown().await;
    assert!(one.get::<String>("k").await.is_err());
    assert!(session.get::<String>("k").await.is_err());
    assert_eq!(
        ends.next().await,
        None,
        "the subscription ends with its client"
    );

    let publish = Command::new("PUBLISH").arg("c").arg("m");
    assert_eq!(other.call::<i64>(publish).await.unwrap(), 1);
    assert!(goes_on.next().await.is_some());

    // The engine lives as long as a client that uses it.
    let third = connect().await;
    assert!(third.get::<String>("k").await.unwrap().is_some());
    other.shutdown().await;
    third.shutdown().await;
    assert_eq!(connect().await.get::<String>("k").await.unwrap(), None);
}
