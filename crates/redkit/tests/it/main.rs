//! The umbrella: `connect` by URL, and what it refuses.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod readme;

use redkit::{Command, Error, Topology};

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
    for url in ["", "redis:/x", "http://localhost", "embedded://?namspace=x"] {
        let error = redkit::connect(url).await.unwrap_err();
        assert!(matches!(error, Error::Config(_)), "{url}: {error}");
    }
}
