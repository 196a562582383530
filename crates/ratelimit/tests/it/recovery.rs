//! After a flushed script cache, a restart and a failover: what becomes of the counts, and that no
//! key stays for ever.

use std::time::Duration;

use redkit_core::{Client, ClientConfig};
use redkit_ratelimit::{ConcurrencyLimiter, Error, Policy, RateLimiter};
use redkit_testkit::{Program, Sentinels, Server, ServerOptions};

use crate::model::policies;
use crate::state::dump;

fn limiters(client: &Client) -> Vec<(Policy, RateLimiter)> {
    let all = policies(10, Duration::from_secs(3600), 10)
        .into_iter()
        .enumerate();
    all.map(|(n, policy)| {
        let builder = RateLimiter::builder(client, &format!("l{n}"))
            .decision_timeout(crate::PATIENT)
            .policy(policy.clone());
        (policy, builder.deny_cache(0).build().unwrap())
    })
    .collect()
}

async fn assert_all_expire(client: &Client) {
    let all = dump(client).await;
    assert!(!all.is_empty());
    assert!(all.iter().all(|stored| stored.expires > 0), "{all:?}");
}

#[tokio::test]
async fn a_flushed_script_cache_costs_one_round_trip_and_no_count() {
    let server = Server::redis(ServerOptions::new()).await.unwrap();
    let client = Client::connect(ClientConfig::from_url(&server.url()).unwrap())
        .await
        .unwrap();
    for (policy, limiter) in limiters(&client) {
        assert!(limiter.check_n("k", 6).await.unwrap().is_allowed());
        server.raw(&["SCRIPT", "FLUSH"]).await.unwrap();
        let decision = limiter.check_n("k", 2).await.unwrap();
        assert_eq!(
            (decision.is_allowed(), decision.remaining()),
            (true, 2),
            "{policy:?}"
        );
        server.raw(&["SCRIPT", "FLUSH"]).await.unwrap();
        assert!(limiter.refund(decision.receipt().unwrap()).await.unwrap());
    }
    let places = ConcurrencyLimiter::builder(&client, "p")
        .decision_timeout(crate::PATIENT)
        .limit(1)
        .build()
        .unwrap();
    let permit = places.try_acquire("k").await.unwrap();
    assert!(permit.is_some());
    assert_all_expire(&client).await;
    client.shutdown().await;
}

/// Without persistence a restart begins with full limits: the state is gone, not broken.
#[tokio::test]
async fn a_restart_without_persistence_begins_anew() {
    let server = Server::redis(ServerOptions::new()).await.unwrap();
    let client = Client::connect(ClientConfig::from_url(&server.url()).unwrap())
        .await
        .unwrap();
    let limiters = limiters(&client);
    let mut receipts = Vec::new();
    for (_, limiter) in &limiters {
        let decision = limiter.check_n("k", 10).await.unwrap();
        receipts.push(decision.receipt().unwrap().clone());
    }
    server.kill9().await;
    server.restart().await.unwrap();
    for ((policy, limiter), receipt) in limiters.iter().zip(&receipts) {
        assert!(
            !until_answered(|| limiter.refund(receipt)).await,
            "nothing to give back: {policy:?}"
        );
        let decision = until_answered(|| limiter.check_n("k", 4)).await;
        // A check whose reply was lost may have been charged, and is then one more.
        assert!(
            decision.is_allowed() && decision.remaining() <= 6,
            "{policy:?}: {decision:?}"
        );
    }
    assert_all_expire(&client).await;
    client.shutdown().await;
}

/// With persistence a restart changes nothing: counts, receipts and times to live go on.
#[tokio::test]
async fn a_restart_with_persistence_goes_on_where_it_was() {
    let options = ServerOptions::new()
        .config("appendonly yes")
        .config("appendfsync always");
    let server = Server::redis(options).await.unwrap();
    let client = Client::connect(ClientConfig::from_url(&server.url()).unwrap())
        .await
        .unwrap();
    let limiters = limiters(&client);
    let mut receipts = Vec::new();
    for (_, limiter) in &limiters {
        let decision = limiter.check_n("k", 6).await.unwrap();
        receipts.push(decision.receipt().unwrap().clone());
    }
    let before = dump(&client).await;
    server.kill9().await;
    server.restart().await.unwrap();
    for ((policy, limiter), receipt) in limiters.iter().zip(&receipts) {
        let denied = until_answered(|| limiter.check_n("k", 5)).await;
        assert_eq!(
            (denied.is_allowed(), denied.remaining()),
            (false, 4),
            "{policy:?}"
        );
        assert!(dump(&client).await.iter().all(|one| one.expires > 0));
        // What is asked twice because a reply was lost is given once.
        until_answered(|| limiter.refund(receipt)).await;
        let peeked = until_answered(|| limiter.peek("k")).await;
        assert_eq!(peeked.remaining(), 10, "{policy:?}");
    }
    assert_eq!(before.len(), limiters.len());
    assert_all_expire(&client).await;
    client.shutdown().await;
}

/// The master dies with what its replica has not got. What is left is a whole state with its time
/// to live: the limit holds on it, and nothing stays for ever.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_death_of_the_master_leaves_whole_states_with_their_times_to_live() {
    let sentinels = Sentinels::start(Program::Redis, 3, 1).await.unwrap();
    let config = ClientConfig::from_url(&sentinels.url()).unwrap();
    let client = Client::connect(config).await.unwrap();
    let limiters = limiters(&client);
    for (_, limiter) in &limiters {
        assert!(limiter.check_n("k", 6).await.unwrap().is_allowed());
    }
    sentinels.wait_until_ok().await.unwrap();
    // As much as comes through until it dies.
    let calls = limiters.iter().map(|(_, limiter)| {
        let limiter = limiter.clone();
        tokio::spawn(async move {
            let mut taken = 0;
            while limiter
                .check("k")
                .await
                .is_ok_and(|decision| decision.is_allowed())
            {
                taken += 1;
            }
            taken
        })
    });
    let calls: Vec<_> = calls.collect();
    sentinels.kill_master().await.unwrap();
    for ((policy, limiter), taken) in limiters.iter().zip(calls) {
        let taken: u64 = taken.await.unwrap();
        assert!(taken <= 4, "{policy:?}");
        let left = until_answered(|| limiter.peek("k")).await.remaining();
        // Never more than was left when the replica was in step.
        assert!(left <= 4, "{policy:?}: {left}");
        let mut admitted = 0;
        while until_answered(|| limiter.check("k")).await.is_allowed() {
            admitted += 1;
        }
        assert!(admitted <= left, "{policy:?}: {admitted} of {left}");
    }
    assert_all_expire(&client).await;
    client.shutdown().await;
}

/// A planned failover loses nothing; one after a death may lose the last moments, because
/// replication does not wait. In either case times to live went along.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_failover_keeps_what_was_replicated_with_its_time_to_live() {
    let sentinels = Sentinels::start(Program::Redis, 3, 1).await.unwrap();
    let config = ClientConfig::from_url(&sentinels.url()).unwrap();
    let client = Client::connect(config).await.unwrap();
    let limiters = limiters(&client);
    for (_, limiter) in &limiters {
        assert!(limiter.check_n("k", 6).await.unwrap().is_allowed());
    }
    sentinels.failover().await.unwrap();
    for (policy, limiter) in &limiters {
        let peeked = until_answered(|| limiter.peek("k")).await;
        assert_eq!(peeked.remaining(), 4, "{policy:?}");
        assert!(
            !until_answered(|| limiter.check_n("k", 5))
                .await
                .is_allowed(),
            "{policy:?}"
        );
    }
    assert_all_expire(&client).await;
    client.shutdown().await;
}

/// Asks until there is an answer.
async fn until_answered<T, F: Future<Output = Result<T, Error>>>(mut ask: impl FnMut() -> F) -> T {
    let start = std::time::Instant::now();
    loop {
        match ask().await {
            Ok(answer) => return answer,
            Err(error) => {
                assert!(error.is_retryable(), "{error}");
                assert!(start.elapsed() < Duration::from_secs(60), "{error}");
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }
    }
}
