//! What is remembered of denials, and what crosses it on its way.

use std::time::Duration;

use redkit_ratelimit::{DecidedBy, Policy, Quota, RateLimiter};
use redkit_testkit::{FaultyBackend, Injection, Rule};
use tokio::time::sleep;

/// The next decision is made, and its reply comes this much later.
const ON_ITS_WAY: Duration = Duration::from_millis(50);

async fn denied_meanwhile<F: Future<Output = ()>>(units_come_back: impl FnOnce(RateLimiter) -> F) {
    let backend = FaultyBackend::embedded();
    let limiter = RateLimiter::builder(&backend.client(), "l")
        .policy(Policy::gcra(Quota::per_hour(1)))
        .decision_timeout(crate::PATIENT)
        .build()
        .unwrap();
    // The engine knows the script then.
    assert!(limiter.check("other").await.unwrap().is_allowed());
    assert!(limiter.check("k").await.unwrap().is_allowed());
    backend.add(
        Rule::new(Injection::DelayReply(ON_ITS_WAY))
            .on_name("EVALSHA")
            .times(1),
    );
    let denied = tokio::spawn({
        let limiter = limiter.clone();
        async move { limiter.check("k").await }
    });
    sleep(ON_ITS_WAY / 2).await;
    units_come_back(limiter.clone()).await;
    assert!(!denied.await.unwrap().unwrap().is_allowed());
    let next = limiter.check("k").await.unwrap();
    assert_eq!(next.decided_by(), DecidedBy::Redis);
    assert!(next.is_allowed());
}

#[tokio::test(start_paused = true)]
async fn a_denial_that_crosses_a_reset_is_not_remembered() {
    denied_meanwhile(|limiter| async move { limiter.reset("k").await.unwrap() }).await;
}

/// The units are back, and the caller does not know it.
#[tokio::test(start_paused = true)]
async fn a_refund_whose_reply_is_lost_ends_what_is_remembered_of_denials() {
    let backend = FaultyBackend::embedded();
    let limiter = RateLimiter::builder(&backend.client(), "l")
        .policy(Policy::gcra(Quota::per_hour(1)))
        .decision_timeout(crate::PATIENT)
        .build()
        .unwrap();
    // The engine knows the scripts then.
    let other = limiter.check("other").await.unwrap();
    limiter.refund(other.receipt().unwrap()).await.unwrap();
    let allowed = limiter.check("k").await.unwrap();
    assert!(!limiter.check("k").await.unwrap().is_allowed());
    let remembered = limiter.check("k").await.unwrap();
    assert_eq!(remembered.decided_by(), DecidedBy::DenyCache);
    backend.set(Rule::new(Injection::LoseReply));
    let error = limiter.refund(allowed.receipt().unwrap()).await;
    assert!(error.unwrap_err().is_maybe());
    backend.clear();
    let next = limiter.check("k").await.unwrap();
    assert_eq!(
        (next.decided_by(), next.is_allowed()),
        (DecidedBy::Redis, true)
    );
}
