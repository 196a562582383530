//! Scripts go by their hash, and survive a server that has forgotten them.

use redkit_core::{CallError, Command, Error, Script};
use redkit_testkit::{Fixture, Server, ServerOptions};

static APPEND: Script = Script::new(
    "redis.call('RPUSH', KEYS[1], ARGV[1]) return redis.call('LRANGE', KEYS[1], 0, -1)",
);
static FAIL: Script = Script::new("return redis.error_reply('CUSTOM it failed')");

redkit_testkit::suite! {
    async fn run_by_hash_and_by_text(fixture: Fixture) -> Result<(), Error> {
        let client = &fixture.client;
        let key = client.key("list");
        let append = |item: &str| APPEND.invoke([&key]).arg(item);
        assert_eq!(client.eval::<Vec<String>>(append("a")).await?, ["a"]);
        assert_eq!(client.eval::<Vec<String>>(append("b")).await?, ["a", "b"]);
        let error = client.eval::<()>(FAIL.invoke([&key])).await.unwrap_err();
        let Some(CallError::Replied(error)) = error.call_error() else { panic!("{error}") };
        assert_eq!((error.code(), error.message()), ("CUSTOM", "it failed"));
        Ok(())
    }

    async fn a_script_exists_when_every_server_knows_it(fixture: Fixture) -> Result<(), Error> {
        let client = &fixture.client;
        // One that no other test has loaded.
        let text = format!("return '{}'", String::from_utf8_lossy(client.key("text").as_bytes()));
        let script = |word: &str| Command::new("SCRIPT").arg(word);
        let servers = client.servers();
        let mut sha = String::new();
        for (loaded, server) in servers.iter().enumerate() {
            if loaded > 0 {
                let known: Vec<i64> = client.call(script("EXISTS").arg(&sha)).await?;
                assert_eq!(known, [0], "{loaded} of {} know it", servers.len());
            }
            sha = client.call_server(&server.name, script("LOAD").arg(&text)).await?;
        }
        let unknown = "0".repeat(40);
        let known: Vec<i64> = client.call(script("EXISTS").arg(&sha).arg(unknown)).await?;
        assert_eq!(known, [1, 0]);
        Ok(())
    }
}

each_driver! {
    ()
    a_flushed_or_restarted_server_is_sent_the_text_once,
}

async fn a_flushed_or_restarted_server_is_sent_the_text_once(driver: redkit_core::Driver) {
    let server = Server::redis(ServerOptions::new()).await.unwrap();
    let config = redkit_core::ClientConfig::from_url(&server.url())
        .unwrap()
        .driver(driver);
    let client = redkit_core::Client::connect(config).await.unwrap();
    let append = || APPEND.invoke([client.key("list")]).arg("x");
    assert_eq!(client.eval::<Vec<String>>(append()).await.unwrap().len(), 1);

    server.raw(&["SCRIPT", "FLUSH"]).await.unwrap();
    server.raw(&["CONFIG", "RESETSTAT"]).await.unwrap();
    for length in 2..=4 {
        assert_eq!(
            client.eval::<Vec<String>>(append()).await.unwrap().len(),
            length
        );
    }
    let stats: String = client
        .call(Command::new("INFO").arg("commandstats"))
        .await
        .unwrap();
    assert!(
        stats.contains("cmdstat_eval:calls=1,"),
        "the text went once:\n{stats}"
    );
    assert!(stats.contains("cmdstat_evalsha:calls=3,"), "{stats}");

    server.restart().await.unwrap();
    assert_eq!(
        client
            .eval::<Vec<String>>(append().idempotent(true))
            .await
            .unwrap()
            .len(),
        1
    );
    client.shutdown().await;
}
