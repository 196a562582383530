//! A server that is out of memory: what is held stays held.

use redkit_core::{Client, ClientConfig};
use redkit_lock::Semaphore;
use redkit_testkit::{Server, ServerOptions};
use tokio::time::timeout;

use crate::SECOND;

/// What is held is renewed, and given back in part and in whole, though nothing new may be taken.
#[tokio::test]
async fn a_server_without_memory_renews_permits_and_takes_them_back() {
    let server = Server::redis(ServerOptions::default()).await.unwrap();
    let config = ClientConfig::from_url(&server.url()).unwrap();
    let client = Client::connect(config).await.unwrap();
    let lease = 3 * SECOND;
    let semaphore = Semaphore::builder(&client, "exports")
        .permits(5)
        .lease(lease)
        .build()
        .unwrap();
    let mut permits = semaphore.try_acquire("k", 4).await.unwrap().unwrap();
    let full = ["CONFIG", "SET", "maxmemory", "1"];
    server.raw(&full).await.unwrap();
    let refused = semaphore.try_acquire("k", 1).await.unwrap_err();
    assert!(refused.to_string().contains("OOM"), "{refused}");
    assert!(timeout(lease + SECOND, permits.lost()).await.is_err());
    permits.release_some(1).await.unwrap();
    assert_eq!(semaphore.state("k").await.unwrap().free(), 2);
    assert!(permits.release().await.unwrap());
    assert_eq!(semaphore.state("k").await.unwrap().free(), 5);
}
