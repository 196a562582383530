//! Several clients by name.

use redkit::{ClientConfig, Clients, Error, ErrorKind};

redkit::clients! {
    /// The servers of the shop.
    struct Servers { cache, sessions }
}

fn config(url: &str) -> ClientConfig {
    ClientConfig::from_url(url).unwrap()
}

#[tokio::test]
async fn embedded_engines_are_clients_like_others() {
    let clients = Clients::connect([
        ("Cache", config("embedded://")),
        ("sessions", config("embedded://")),
    ])
    .await
    .unwrap();
    clients.get("cache").unwrap().set("k", &1).await.unwrap();
    assert_eq!(
        clients
            .get("SESSIONS")
            .unwrap()
            .get::<u8>("k")
            .await
            .unwrap(),
        None
    );
    let error = clients.get("cahce").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Usage);
    assert_eq!(
        error.to_string(),
        "no client named `cahce`; there are: cache, sessions"
    );
    clients.shutdown().await;
}

#[tokio::test]
async fn an_error_says_which_client() {
    let unreachable = || config("redis://127.0.0.1:1");
    let error = Clients::connect([
        ("cache", config("embedded://")),
        ("sessions", unreachable()),
    ])
    .await
    .unwrap_err();
    assert!(
        error.to_string().starts_with("client `sessions`: "),
        "{error}"
    );
    assert_eq!(error.kind(), ErrorKind::Transport);
    assert!(error.is_retryable() && error.call_error().is_some());

    let wrong = Servers::connect(|name| match name {
        "cache" => ClientConfig::from_url("embedded://"),
        _ => ClientConfig::from_url("redis://h?namspace=x"),
    });
    let error = wrong.await.unwrap_err();
    assert!(
        error.to_string().starts_with("client `sessions`: "),
        "{error}"
    );
    assert!(error.to_string().contains("`namespace`"), "{error}");

    let twice = [("a", config("embedded://")), ("A", unreachable())];
    let error = Clients::connect(twice).await.unwrap_err();
    assert!(error.to_string().contains("already"), "{error}");

    let error = Servers::from_env().await.unwrap_err();
    assert!(matches!(&error, Error::OfClient { client, .. } if &**client == "cache"));
    assert!(
        error.to_string().contains("set REDKIT_CACHE_URL"),
        "{error}"
    );
}

#[tokio::test]
async fn clients_known_at_compile_time_are_fields() {
    let servers =
        Servers::connect(|name| ClientConfig::from_url(&format!("embedded://typed-{name}")))
            .await
            .unwrap();
    assert_eq!(Servers::NAMES, ["cache", "sessions"]);
    servers.cache.set("k", &1).await.unwrap();
    assert_eq!(servers.sessions.get::<u8>("k").await.unwrap(), None);
    servers.shutdown().await;
    assert!(servers.cache.get::<u8>("k").await.is_err());
}
