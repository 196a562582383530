//! TLS: certificates that hold and those that do not, of the server and of the client.

use redkit_core::{Client, ClientConfig, Command, Driver, Error, FaultKind};
use redkit_testkit::{Server, ServerOptions, Tls};

each_driver! {
    ()
    an_expired_certificate_is_named_as_such,
    another_authority_or_name_is_refused,
    a_server_that_demands_a_certificate_gets_it,
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
