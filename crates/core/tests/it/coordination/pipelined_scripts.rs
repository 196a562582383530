//! Scripts in pipelines: one reply to each, also where a server has forgotten them.

use redkit_core::{CallError, Client, Command, Error, Request, Script};
use redkit_testkit::{Fixture, Server, ServerOptions};

static PUSH: Script = Script::new("return redis.call('RPUSH', KEYS[1], ARGV[1])");
static COUNT: Script = Script::new("return redis.call('LLEN', KEYS[1])");
static FAILS: Script = Script::new("return redis.error_reply('CUSTOM ' .. KEYS[1])");
static SAYS_NOSCRIPT: Script = Script::new("return redis.error_reply('NOSCRIPT made up')");

fn int(reply: &Result<redkit_core::Value, CallError>) -> i64 {
    reply.clone().unwrap().to().unwrap()
}

redkit_testkit::suite! {
    async fn each_request_of_a_pipeline_has_its_reply(fixture: Fixture) -> Result<(), Error> {
        let client = &fixture.client;
        let keys: Vec<_> = (0..40).map(|n| client.key(format!("list{n}"))).collect();
        for round in 1..=2 {
            let pushes = keys.iter().map(|key| PUSH.invoke([key]).arg("x"));
            let counts = keys.iter().map(|key| COUNT.invoke([key]));
            let all: Vec<_> = pushes.chain(counts).collect();
            let replies = client.eval_all(all).await?;
            assert_eq!(replies.len(), 80);
            // A list is counted after it was written, on its node.
            assert!(replies.iter().all(|reply| int(reply) == round), "{replies:?}");
        }
        let mixed: Vec<Request> = vec![
            Command::new("LLEN").key(&keys[0]).into(),
            FAILS.invoke([&keys[1]]).into(),
            COUNT.invoke([&keys[2]]).into(),
            SAYS_NOSCRIPT.invoke([&keys[3]]).into(),
        ];
        let replies = client.eval_all(mixed).await?;
        assert_eq!((int(&replies[0]), int(&replies[2])), (2, 2));
        let code = |at: usize| replies[at].as_ref().unwrap_err().server_error().unwrap().code().to_owned();
        assert_eq!((code(1), code(3)), ("CUSTOM".to_owned(), "NOSCRIPT".to_owned()));
        assert!(client.eval_all(Vec::<Request>::new()).await?.is_empty());
        assert!(client.is_same_client(&client.with_namespace("other")?));
        Ok(())
    }
}

#[tokio::test]
async fn a_server_that_forgot_its_scripts_is_sent_each_text_once() {
    let server = Server::redis(ServerOptions::new()).await.unwrap();
    let config = redkit_core::ClientConfig::from_url(&server.url()).unwrap();
    let client = Client::connect(config).await.unwrap();
    let calls = || {
        let key = client.key("list");
        let pushes = (0..50).map(|n| PUSH.invoke([&key]).arg(n));
        pushes.chain([COUNT.invoke([&key])]).collect::<Vec<_>>()
    };
    server.raw(&["SCRIPT", "FLUSH"]).await.unwrap();
    server.raw(&["CONFIG", "RESETSTAT"]).await.unwrap();
    let replies = client.eval_all(calls()).await.unwrap();
    let counts: Vec<i64> = replies.iter().map(int).collect();
    assert_eq!(
        counts[..50],
        (1..=50).collect::<Vec<_>>(),
        "each once, in order"
    );
    assert_eq!(counts[50], 50);
    let info = Command::new("INFO").arg("commandstats");
    let stats: String = client.call(info).await.unwrap();
    assert!(stats.contains("cmdstat_eval:calls=2,"), "{stats}");
    client.shutdown().await;
}
