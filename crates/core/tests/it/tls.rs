//! TLS: certificates that hold and those that do not, of the server and of the client.

use redkit_core::{Client, ClientConfig, Command, Driver, Error, FaultKind};
use redkit_testkit::{Server, ServerOptions, Tls};

each_driver! {
    ()
    an_expired_certificate_is_named_as_such,
    another_authority_or_name_is_refused,
    a_server_that_demands_a_certificate_gets_it,
    a_certificate_that_was_renewed_is_used,
}

async fn connect(url: &str, driver: Driver) -> Result<Client, Error> {
    Client::connect(ClientConfig::from_url(url).unwrap().driver(driver)).await
}

async fn works(url: &str, driver: Driver) {
    let client = connect(url, driver).await.unwrap();
    let pong: String = client.call(Command::new("PING")).await.unwrap();
    assert_eq!(pong, "PONG");
    client.shutdown().await;
}

/// The error names the server, and it is TLS's.
async fn refusal(url: &str, server: &Server, driver: Driver) -> String {
    let error = connect(url, driver).await.expect_err(url);
    let fault = error.call_error().and_then(|e| e.fault()).unwrap();
    assert_eq!(fault.kind(), FaultKind::Tls, "{error}");
    let shown = error.to_string();
    assert!(shown.contains(&server.addr().to_string()), "{shown}");
    shown
}

fn files(server: &Server) -> (&Tls, String) {
    let tls = server.tls().unwrap();
    let only_ca = format!(
        "rediss://{}?tls_ca_file={}",
        server.addr(),
        tls.ca_file.display()
    );
    (tls, only_ca)
}

async fn an_expired_certificate_is_named_as_such(driver: Driver) {
    let server = Server::redis(ServerOptions::new().expired_tls())
        .await
        .unwrap();
    let shown = refusal(&server.url(), &server, driver).await;
    assert!(shown.contains("expired"), "{shown}");
    assert!(shown.contains("renew it"), "{shown}");
    assert!(
        !shown.contains("`tls_ca_file`"),
        "no fault of ours: {shown}"
    );
}

async fn another_authority_or_name_is_refused(driver: Driver) {
    let server = Server::redis(ServerOptions::new().tls()).await.unwrap();
    let other = Server::redis(ServerOptions::new().tls()).await.unwrap();
    let (_, only_ca) = files(&server);
    works(&only_ca, driver).await;
    let (others, _) = files(&other);
    let wrong = format!(
        "rediss://{}?tls_ca_file={}",
        server.addr(),
        others.ca_file.display()
    );
    let shown = refusal(&wrong, &server, driver).await;
    assert!(shown.contains("`tls_ca_file`"), "{shown}");
    let elsewhere = format!("{only_ca}&tls_server_name=elsewhere.example");
    let shown = refusal(&elsewhere, &server, driver).await;
    assert!(shown.contains("`tls_server_name`"), "{shown}");
    works(&format!("{only_ca}&tls_server_name=localhost"), driver).await;
}

async fn a_server_that_demands_a_certificate_gets_it(driver: Driver) {
    let server = Server::redis(ServerOptions::new().mutual_tls())
        .await
        .unwrap();
    works(&server.url(), driver).await;
    let (_, only_ca) = files(&server);
    let shown = refusal(&only_ca, &server, driver).await;
    assert!(shown.contains("`tls_client_cert_file`"), "{shown}");

    // One that another authority has signed.
    let other = Server::redis(ServerOptions::new().mutual_tls())
        .await
        .unwrap();
    let (others, _) = files(&other);
    let wrong = format!(
        "{only_ca}&tls_client_cert_file={}&tls_client_key_file={}",
        others.client_certificate_file.display(),
        others.client_key_file.display()
    );
    let shown = refusal(&wrong, &server, driver).await;
    assert!(shown.contains("`tls_client_cert_file`"), "{shown}");
}

async fn a_certificate_that_was_renewed_is_used(driver: Driver) {
    let server = Server::redis(ServerOptions::new().mutual_tls())
        .await
        .unwrap();
    let other = Server::redis(ServerOptions::new().mutual_tls())
        .await
        .unwrap();
    let ((tls, only_ca), (others, _)) = (files(&server), files(&other));
    let folder = folder_for(driver);
    let (cert, key) = (folder.join("client.pem"), folder.join("client.key"));
    let put = |from: &Tls| {
        std::fs::copy(&from.client_certificate_file, &cert).unwrap();
        std::fs::copy(&from.client_key_file, &key).unwrap();
    };
    put(tls);
    let url = format!(
        "{only_ca}&tls_client_cert_file={}&tls_client_key_file={}",
        cert.display(),
        key.display()
    );
    let client = connect(&url, driver).await.unwrap();
    let ping = || client.call::<String>(Command::new("PING"));
    ping().await.unwrap();

    // One that cannot be used: the client goes on with the pair that it has.
    std::fs::write(&key, "no key").unwrap();
    server.kill_clients().await.unwrap();
    let deadline = tokio::time::Instant::now() + std::time::Duration::from_secs(20);
    while ping().await.is_err() {
        assert!(
            tokio::time::Instant::now() < deadline,
            "it does not go on with the old pair"
        );
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }

    // The server trusts this pair no more than one that has expired.
    put(others);
    server.kill_clients().await.unwrap();
    ping().await.unwrap_err();
    // One of the pair is renewed before the other.
    std::fs::copy(&tls.client_certificate_file, &cert).unwrap();
    ping().await.unwrap_err();
    put(tls);
    let deadline = tokio::time::Instant::now() + std::time::Duration::from_secs(20);
    while ping().await.is_err() {
        assert!(
            tokio::time::Instant::now() < deadline,
            "the renewed certificate is not used"
        );
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    client.shutdown().await;
    std::fs::remove_dir_all(folder).unwrap();
}

fn folder_for(driver: Driver) -> std::path::PathBuf {
    let name = format!("redkit-renewed-{}-{driver:?}", std::process::id());
    let folder = std::env::temp_dir().join(name);
    std::fs::create_dir_all(&folder).unwrap();
    folder
}
