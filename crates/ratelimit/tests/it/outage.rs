//! While the server cannot be asked, each limiter does what was chosen, and says so.

use std::sync::Arc;
use std::time::Duration;

use redkit_core::{Client, ClientConfig, ErrorKind};
use redkit_embedded::Embedded;
use redkit_ratelimit::{
    ConcurrencyLimiter, DecidedBy, Error, LimitSet, OnOutage, Policy, Quota, RateLimiter,
};
use redkit_testkit::{Server, ServerOptions};

struct Outage {
    server: Server,
    client: Client,
    engine: Client,
}

impl Outage {
    async fn new() -> Self {
        let server = Server::redis(ServerOptions::new()).await.unwrap();
        let config = ClientConfig::from_url(&server.url())
            .unwrap()
            .command_timeout(Duration::from_millis(200));
        let client = Client::connect(config).await.unwrap();
        let engine =
            Client::from_backend(Arc::new(Embedded::new()), &ClientConfig::default()).unwrap();
        Self {
            server,
            client,
            engine,
        }
    }

    fn limiter(&self, name: &str, policy: Policy, on_outage: OnOutage) -> RateLimiter {
        let builder = RateLimiter::builder(&self.client, name).policy(policy);
        builder.on_outage(on_outage).build().unwrap()
    }

    fn local(&self, instances: u32) -> OnOutage {
        OnOutage::local(self.engine.clone(), instances)
    }
}

#[tokio::test]
async fn open_closed_local_or_the_callers_own_decision() {
    let outage = Outage::new().await;
    let quota = Quota::per_hour(10);
    let log = || Policy::sliding_log(quota);
    let error = outage.limiter("error", log(), OnOutage::Error);
    let open = outage.limiter("open", log(), OnOutage::Open);
    let closed = outage.limiter("closed", log(), OnOutage::Closed);
    let local = outage.limiter("local", log(), outage.local(4));
    let rate = outage.limiter("rate", Policy::gcra(quota.burst(8)), outage.local(4));
    for limiter in [&error, &open, &closed, &local, &rate] {
        assert_eq!(
            limiter.check("k").await.unwrap().decided_by(),
            DecidedBy::Redis
        );
    }
    outage.server.stop().unwrap();

    let failed = error.check("k").await.unwrap_err();
    assert!(
        matches!(&failed, Error::Core(_)) && failed.is_retryable(),
        "{failed}"
    );
    assert_eq!(failed.kind(), ErrorKind::Transport);

    for _ in 0..20 {
        let decision = open.check("k").await.unwrap();
        assert_eq!(
            (decision.is_allowed(), decision.decided_by()),
            (true, DecidedBy::Open)
        );
        assert_eq!((decision.limit(), decision.policy()), (10, "open"));
        assert!(decision.receipt().is_none(), "nothing was taken");
        let decision = closed.check("k").await.unwrap();
        assert_eq!(
            (decision.is_allowed(), decision.decided_by()),
            (false, DecidedBy::Closed)
        );
        assert!(
            decision.retry_after() >= Duration::from_secs(1),
            "it does not say 0"
        );
    }
    // 10 in four shares are 2 each, and 8 at once are 2 each.
    for limiter in [&local, &rate] {
        let mut allowed = 0;
        for _ in 0..20 {
            let decision = limiter.check("k").await.unwrap();
            assert_eq!(
                (decision.decided_by(), decision.limit()),
                (DecidedBy::Local, 2)
            );
            allowed += u32::from(decision.is_allowed());
        }
        assert_eq!(allowed, 2, "{}", limiter.name());
        let more = limiter.check_n("k", 3).await.unwrap();
        assert_eq!(
            (more.is_allowed(), more.decided_by()),
            (false, DecidedBy::Local),
            "over the share"
        );
    }
    // A tenth of the quota's rate in four: one every 24 minutes.
    let wait = rate.check("k").await.unwrap().retry_after();
    assert!(
        wait > Duration::from_secs(23 * 60) && wait <= Duration::from_secs(24 * 60),
        "{wait:?}"
    );
    assert_eq!(local.stats().in_outage, 21);
    assert_eq!(closed.stats().in_outage, 20);

    // Waiting is no different.
    let soon = Duration::from_millis(10);
    assert!(error.acquire("k", soon).await.is_err());
    assert!(open.acquire("k", soon).await.unwrap().is_allowed());
    assert!(!closed.acquire("k", soon).await.unwrap().is_allowed());
    assert!(!local.acquire("k", soon).await.unwrap().is_allowed());

    outage.server.cont().unwrap();
    let start = std::time::Instant::now();
    while local.check("k").await.unwrap().decided_by() != DecidedBy::Redis {
        assert!(
            start.elapsed() < Duration::from_secs(10),
            "the server is asked again"
        );
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    outage.client.shutdown().await;
}

#[tokio::test]
async fn places_and_limits_together_in_an_outage() {
    let outage = Outage::new().await;
    let places = |name: &str, on_outage| {
        let builder = ConcurrencyLimiter::builder(&outage.client, name).limit(4);
        builder.on_outage(on_outage).build().unwrap()
    };
    let open = places("open", OnOutage::Open);
    let closed = places("closed", OnOutage::Closed);
    let local = places("local", outage.local(2));
    let error = places("error", OnOutage::Error);
    let users = outage.limiter("users", Policy::gcra(Quota::per_hour(8)), outage.local(2));
    outage.server.stop().unwrap();

    assert!(error.try_acquire("k").await.is_err());
    assert!(closed.try_acquire("k").await.unwrap().is_none());
    let unheld = open.try_acquire("k").await.unwrap().unwrap();
    assert!(!unheld.is_lost());
    let held = [
        local.try_acquire("k").await.unwrap(),
        local.try_acquire("k").await.unwrap(),
    ];
    assert!(held.iter().all(Option::is_some));
    assert!(
        local.try_acquire("k").await.unwrap().is_none(),
        "half of four"
    );
    drop(held);

    // The places are given back in the background; a denied call takes nothing.
    let allowed = async {
        loop {
            let set = LimitSet::new().limit(&users, "k").lease(&local, "k");
            let decided = set.check().await.unwrap();
            if decided.decision.is_allowed() {
                return decided;
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    let decided = tokio::time::timeout(Duration::from_secs(5), allowed)
        .await
        .expect("the places are given back");
    assert_eq!(decided.decision.decided_by(), DecidedBy::Local);
    let denied = LimitSet::new()
        .limit(&users, "k")
        .lease(&closed, "k")
        .check()
        .await
        .unwrap();
    assert_eq!(denied.decision.decided_by(), DecidedBy::Closed);
    assert!(!denied.decision.is_allowed() && denied.permits.is_empty());
    assert_eq!(denied.decision.policy(), "closed");
    // What the denied call took was given back: of 4 one is taken, by the call that was allowed.
    let mut left = 0;
    while users.check("k").await.unwrap().is_allowed() {
        left += 1;
    }
    assert_eq!(left, 3);
    outage.server.cont().unwrap();
    outage.client.shutdown().await;
}

/// The same numbers as metrics.
#[test]
fn metrics_say_who_decided() {
    let recorder = metrics_util::debugging::DebuggingRecorder::new();
    let snapshotter = recorder.snapshotter();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    metrics::with_local_recorder(&recorder, || {
        runtime.block_on(async {
            let outage = Outage::new().await;
            let open = outage.limiter(
                "l",
                Policy::fixed_window(Quota::per_hour(1)),
                OnOutage::Open,
            );
            for _ in 0..3 {
                drop(open.check("k").await.unwrap());
            }
            outage.server.stop().unwrap();
            drop(open.check("other").await.unwrap());
            outage.server.cont().unwrap();
            outage.client.shutdown().await;
        });
    });
    let mut seen: Vec<String> = snapshotter
        .snapshot()
        .into_vec()
        .into_iter()
        .filter(|(key, ..)| key.key().name() == "redkit_ratelimit_decisions_total")
        .filter_map(|(key, _, _, value)| {
            let labels: Vec<_> = key
                .key()
                .labels()
                .map(|label| label.value().to_owned())
                .collect();
            match value {
                metrics_util::debugging::DebugValue::Counter(0) => None,
                value => Some(format!("{} {value:?}", labels.join(" "))),
            }
        })
        .collect();
    seen.sort();
    assert_eq!(
        seen,
        [
            "l allowed open Counter(1)",
            "l allowed redis Counter(1)",
            "l denied deny_cache Counter(1)",
            "l denied redis Counter(1)",
        ]
    );
}
