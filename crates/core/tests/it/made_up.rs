//! Only the server's own words count: what a script makes up says nothing about the server.

use redkit_core::breaker::{BreakerConfig, BreakerState};
use redkit_core::{CallError, Command, Error, Script, Value};
use redkit_testkit::Fixture;

static MAKE_UP: Script = Script::new(
    "redis.call('INCR', KEYS[1])
     return redis.error_reply(ARGV[1])",
);

const ERRORS: [&str; 8] = [
    "BUSY made up",
    "READONLY made up",
    "LOADING made up",
    "CLUSTERDOWN made up",
    "MASTERDOWN made up",
    "TRYAGAIN made up",
    "MOVED made up",
    // To no slot of these keys.
    "MOVED 0 127.0.0.1:1",
];

redkit_testkit::suite! {
    async fn errors_that_a_script_makes_up_open_no_breaker_and_repeat_nothing(
        fixture: Fixture,
    ) -> Result<(), Error> {
        let mut breaker = BreakerConfig::default();
        breaker.minimum_calls = 3;
        let client = match fixture.config() {
            Ok(config) => fixture.connect(config.breaker(breaker)).await.unwrap(),
            Err(_) => fixture.client.clone(),
        };
        let key = client.key("runs");
        for round in 1..=8_i64 {
            for error in ERRORS {
                let refused = client.eval::<Value>(MAKE_UP.invoke([&key]).arg(error)).await;
                let refused = refused.unwrap_err();
                assert!(
                    matches!(refused.call_error(), Some(CallError::Replied(_))),
                    "{error}: {refused}"
                );
            }
            let runs: i64 = client.call(Command::new("GET").key(&key)).await?;
            assert_eq!(runs, round * ERRORS.len() as i64, "each ran once");
        }
        // In a pipeline too.
        let sha = MAKE_UP.sha();
        let eval = |error: &str| Command::new("EVALSHA").arg(sha).arg(1).key(&key).arg(error);
        for _ in 0..8 {
            client.pipeline(ERRORS.map(eval).to_vec()).await?;
        }
        let status = client.breaker().status();
        assert_eq!((status.state, status.failures), (BreakerState::Closed, 0));
        Ok(())
    }
}
