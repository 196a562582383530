//! `docs/profiles/*.toml` load, and say what the documents say of them.

use std::time::Duration;

use redkit::ClientConfig;

fn load(text: &str) -> ClientConfig {
    let config: ClientConfig = toml::from_str(text).unwrap();
    config.validate().unwrap();
    config
}

/// All settings, as `Debug` shows them.
fn shown(config: &ClientConfig) -> String {
    format!("{config:?}")
}

const PRODUCTION: &str = include_str!("../../../../docs/profiles/production.toml");
const DEVELOPMENT: &str = include_str!("../../../../docs/profiles/development.toml");

#[test]
fn the_files_are_the_profiles() {
    let production = ClientConfig::production().namespace("shop");
    assert_eq!(shown(&load(PRODUCTION)), shown(&production));
    let development = ClientConfig::development().namespace("shop");
    assert_eq!(shown(&load(DEVELOPMENT)), shown(&development));
}

#[test]
fn a_misspelt_field_of_a_file_is_named() {
    let text = PRODUCTION.replace("retry_attempts", "retry_atempts");
    let error = toml::from_str::<ClientConfig>(&text).unwrap_err();
    assert!(error.to_string().contains("retry_attempts"), "{error}");
}

#[tokio::test]
async fn a_program_starts_with_a_file() {
    let config = load(DEVELOPMENT).with_url("embedded://").unwrap();
    let client = redkit::connect_with(config).await.unwrap();
    let hour = Duration::from_secs(3_600);
    client.set("greeting", "hello").ttl(hour).await.unwrap();
    assert_eq!(client.key("greeting").as_bytes(), b"shop:greeting");
    client.shutdown().await;
}
