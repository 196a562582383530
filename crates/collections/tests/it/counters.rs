//! Counters: exact, bounded, many at once.

use std::time::Duration;

use redkit_collections::{Bounded, Counter, Counters, Error, FloatCounter, Lifetime};
use redkit_core::{Command, ErrorKind, Ttl};
use redkit_testkit::{FaultyBackend, Fixture, Injection, Rule, ServerOptions};
use tokio::time::Instant;

fn ttl() -> Lifetime {
    Lifetime::on_create(Duration::from_secs(60)).unwrap()
}

/// With and without a time to live: two ways to the server, one behaviour.
fn both(fixture: &Fixture) -> [Counter; 2] {
    let plain = Counter::new(&fixture.client, "plain");
    [
        plain,
        Counter::new(&fixture.client, "timed").with_ttl(ttl()),
    ]
}

redkit_testkit::suite! {
    async fn a_counter_counts(fixture: Fixture) -> Result<(), Error> {
        for counter in both(&fixture) {
            assert_eq!((counter.get().await?, counter.exists().await?), (0, false));
            assert_eq!(counter.incr(5).await?, 5);
            assert_eq!(counter.decr(7).await?, -2);
            counter.set(40).await?;
            assert_eq!(counter.incr(2).await?, 42);
            assert_eq!(counter.get_and_reset().await?, 42);
            assert_eq!((counter.get_and_reset().await?, counter.exists().await?), (0, false));
        }
        Ok(())
    }

    async fn all_of_64_bits_count(fixture: Fixture) -> Result<(), Error> {
        for counter in both(&fixture) {
            counter.set(i64::MAX - 1).await?;
            assert_eq!(counter.incr(1).await?, i64::MAX, "to the last digit");
            for error in [counter.incr(1).await.unwrap_err(), counter.decr(i64::MIN).await.unwrap_err()] {
                assert!(matches!(error, Error::Overflow { .. }), "{error}");
                assert_eq!((error.kind(), error.is_retryable()), (ErrorKind::Data, false));
            }
            assert_eq!(counter.get().await?, i64::MAX, "it is unchanged");
            counter.set(i64::MIN).await?;
            assert_eq!(counter.incr(1).await?, i64::MIN + 1);
            assert_eq!(counter.incr((1 << 53) + 1).await?, i64::MIN + 1 + (1 << 53) + 1);
        }
        Ok(())
    }

    async fn a_value_that_is_no_number_is_not_counted(fixture: Fixture) -> Result<(), Error> {
        for counter in both(&fixture) {
            fixture.client.call::<()>(Command::new("SET").key(counter.key()).arg("many")).await?;
            for error in [
                counter.incr(1).await.unwrap_err(),
                counter.get().await.unwrap_err(),
                counter.incr_up_to(1, 10).await.unwrap_err(),
            ] {
                assert!(matches!(&error, Error::NotANumber { key } if key.contains("test-")), "{error}");
                assert!(!error.to_string().contains("many"), "{error}");
            }
        }
        Ok(())
    }

    async fn a_bound_is_never_crossed(fixture: Fixture) -> Result<(), Error> {
        for counter in both(&fixture) {
            assert_eq!(counter.incr_up_to(3, 2).await?, Bounded::Refused(0));
            assert!(!counter.exists().await?, "what is refused creates nothing");
            assert_eq!(counter.incr_up_to(2, 3).await?, Bounded::Counted(2));
            assert_eq!(counter.incr_up_to(2, 3).await?, Bounded::Refused(2));
            assert_eq!(counter.incr_up_to(1, 3).await?, Bounded::Counted(3));
            assert_eq!(counter.decr_down_to(2, 0).await?, Bounded::Counted(1));
            assert_eq!(counter.decr_down_to(2, 0).await?, Bounded::Refused(1));
            assert_eq!(counter.decr_down_to(4, -3).await?, Bounded::Counted(-3));
            assert_eq!(counter.decr_down_to(1, -3).await?, Bounded::Refused(-3));
            assert!(!counter.decr_down_to(1, -3).await?.is_counted());

            // Where doubles could not tell.
            counter.set(i64::MAX - 2).await?;
            assert_eq!(counter.incr_up_to(2, i64::MAX - 1).await?, Bounded::Refused(i64::MAX - 2));
            assert_eq!(counter.incr_up_to(1, i64::MAX - 1).await?, Bounded::Counted(i64::MAX - 1));
            assert_eq!(counter.incr_up_to(i64::MAX, i64::MAX).await?, Bounded::Refused(i64::MAX - 1));
            counter.set(i64::MIN + 1).await?;
            assert_eq!(counter.decr_down_to(i64::MAX, i64::MIN).await?, Bounded::Refused(i64::MIN + 1));
            assert_eq!(counter.incr_up_to(i64::MAX, i64::MIN).await?, Bounded::Refused(i64::MIN + 1));
            for by in [0, -1, i64::MIN] {
                let errors = [counter.incr_up_to(by, 5).await.unwrap_err(), counter.decr_down_to(by, 5).await.unwrap_err()];
                assert!(errors.iter().all(|e| matches!(e, Error::Invalid { what: "by", .. })), "{errors:?}");
            }
            counter.clear().await?;
        }
        Ok(())
    }

    #[multi_thread]
    async fn many_together_stop_at_the_bound(fixture: Fixture) -> Result<(), Error> {
        let counter = Counter::new(&fixture.client, "seats");
        let tasks: Vec<_> = (0..16)
            .map(|_| {
                let counter = counter.clone();
                tokio::spawn(async move {
                    let mut counted = 0;
                    for _ in 0..20 {
                        counted += i64::from(counter.incr_up_to(1, 100).await.unwrap().is_counted());
                    }
                    counted
                })
            })
            .collect();
        let mut counted = 0;
        for task in tasks {
            counted += task.await.unwrap();
        }
        assert_eq!((counted, counter.get().await?), (100, 100));
        Ok(())
    }

    async fn fractions_are_counted(fixture: Fixture) -> Result<(), Error> {
        let plain = FloatCounter::new(&fixture.client, "plain");
        let timed = FloatCounter::new(&fixture.client, "timed").with_ttl(ttl());
        for counter in [plain, timed] {
            assert_eq!(counter.get().await?, 0.0);
            assert_eq!(counter.incr(1.5).await?, 1.5);
            assert_eq!(counter.incr(-4.25).await?, -2.75);
            counter.set(0.25).await?;
            assert_eq!(counter.get_and_reset().await?, 0.25);
            for wrong in [f64::NAN, f64::INFINITY] {
                let errors = [counter.incr(wrong).await.unwrap_err(), counter.set(wrong).await.unwrap_err()];
                assert!(errors.iter().all(|e| matches!(e, Error::Invalid { .. })), "{errors:?}");
            }
            counter.incr(1.0).await?;
        }
        let timed = FloatCounter::new(&fixture.client, "timed");
        assert!(matches!(timed.time_left().await?, Ttl::In(_)));
        Ok(())
    }

    async fn many_counters_answer_each_for_itself(fixture: Fixture) -> Result<(), Error> {
        let client = &fixture.client;
        client.call::<()>(Command::new("SET").key(client.key("word")).arg("x")).await?;
        client.call::<()>(Command::new("SET").key(client.key("full")).arg(i64::MAX)).await?;
        client.call::<i64>(Command::new("SADD").key(client.key("set")).arg("x")).await?;
        let keys: Vec<String> = (0..50).map(|n| format!("n{n}")).collect();
        for (round, counters) in [Counters::new(client), Counters::new(client).with_ttl(ttl())].into_iter().enumerate() {
            let mut increments: Vec<(&str, i64)> = keys.iter().map(|key| (key.as_str(), 2)).collect();
            increments.extend([("word", 1), ("full", 1), ("set", 1), ("n0", 5)]);
            let sums = counters.incr_many(increments).await?;
            let expected = if round == 0 { 2 } else { 4 };
            let shift = if round == 0 { 0 } else { 5 };
            assert!(sums[1..50].iter().all(|sum| *sum.as_ref().unwrap() == expected), "{sums:?}");
            assert_eq!(*sums[0].as_ref().unwrap(), expected + shift);
            assert!(matches!(sums[50], Err(Error::NotANumber { .. })), "{:?}", sums[50]);
            assert!(matches!(sums[51], Err(Error::Overflow { .. })), "{:?}", sums[51]);
            assert!(matches!(&sums[52], Err(error) if error.to_string().contains("WRONGTYPE")), "{:?}", sums[52]);
            assert_eq!(*sums[53].as_ref().unwrap(), expected + shift + 5);
        }
        let values = Counters::new(client).get_many(["n1", "nothing", "word", "set"]).await?;
        assert_eq!((*values[0].as_ref().unwrap(), *values[1].as_ref().unwrap()), (4, 0));
        assert!(values[2].is_err() && values[3].is_err());
        assert!(Counters::new(client).get_many::<&str>([]).await?.is_empty());
        let left = Counter::new(client, "n1").time_left().await?;
        assert!(matches!(left, Ttl::In(_)), "{left:?}");
        Ok(())
    }

    #[networked]
    async fn many_counters_on_a_server_that_forgot_the_script(fixture: Fixture) -> Result<(), Error> {
        let server = fixture.private_server(ServerOptions::new()).await.unwrap();
        let client = fixture.connect(fixture.config_at(&server.url()).unwrap()).await.unwrap();
        let counters = Counters::new(&client).with_ttl(ttl());
        let keys: Vec<String> = (0..20).map(|n| format!("k{n}")).collect();
        for expected in 1..4 {
            let sums = counters.incr_many(keys.iter().map(|key| (key, 1))).await?;
            assert!(sums.iter().all(|sum| *sum.as_ref().unwrap() == expected), "{sums:?}");
            if expected == 2 {
                server.raw(&["SCRIPT", "FLUSH"]).await.unwrap();
            }
        }
        client.shutdown().await;
        Ok(())
    }
}

/// The script is not known at first, so there are two round trips.
#[tokio::test(start_paused = true)]
async fn many_counters_have_one_budget_for_all_their_round_trips() {
    let backend = FaultyBackend::embedded();
    backend.add(Rule::new(Injection::DelayReply(Duration::from_millis(40))));
    let client = backend.client();
    let hasty = client.with_budget(Duration::from_millis(60)).unwrap();
    let start = Instant::now();
    let counters = Counters::new(&hasty).with_ttl(ttl());
    let sums = counters.incr_many([("a", 1), ("b", 1)]).await.unwrap();
    assert!(sums.iter().all(Result::is_err));
    assert_eq!(start.elapsed().as_millis() / 5, 12, "{:?}", start.elapsed());
}
