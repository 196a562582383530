//! Limiters as core's `Admission`, as a worker sees them that knows no limiter.

use std::time::Duration;

use redkit_core::{Admission, Admitted, ErrorKind};
use redkit_ratelimit::{ConcurrencyLimiter, OnOutage, Policy, Quota, RateLimiter};
use redkit_testkit::{FaultyBackend, Fixture, Injection, Rule};
use tokio::time::{Instant, timeout};

const SECOND: Duration = Duration::from_secs(1);

redkit_testkit::suite! {
    #[paused]
    async fn a_rate_admits_when_there_is_a_unit_and_says_when_there_will_be_one(fixture: Fixture) {
        let limiter = RateLimiter::builder(&fixture.client, "l")
            .policy(Policy::gcra(Quota::per_second(2).burst(1)))
            .build()
            .unwrap();
        let admission: &dyn Admission = &limiter;
        assert!(matches!(admission.admit(b"k", Duration::ZERO).await.unwrap(), Admitted::Now(_)));
        let Admitted::Later(again) = admission.admit(b"k", Duration::ZERO).await.unwrap() else {
            panic!("there is no unit");
        };
        assert!(again <= SECOND / 2 && again > SECOND / 3, "{again:?}");
        let start = Instant::now();
        assert!(matches!(admission.admit(b"k", SECOND).await.unwrap(), Admitted::Now(_)));
        assert!(start.elapsed().abs_diff(SECOND / 2) < Duration::from_millis(5), "{:?}", start.elapsed());
    }

    async fn a_place_is_given_back_with_its_permit(fixture: Fixture) {
        let places = ConcurrencyLimiter::builder(&fixture.client, "p")
            .decision_timeout(crate::PATIENT)
            .limit(1)
            .build()
            .unwrap();
        let admission: &dyn Admission = &places;
        let Admitted::Now(permit) = admission.admit(b"k", Duration::ZERO).await.unwrap() else {
            panic!("there is a place");
        };
        let Admitted::Later(again) = admission.admit(b"k", Duration::ZERO).await.unwrap() else {
            panic!("the place is taken");
        };
        assert!(again > Duration::ZERO && again <= SECOND, "{again:?}");
        drop(permit);
        let admitted = admission.admit(b"k", Duration::from_secs(10)).await.unwrap();
        assert!(matches!(admitted, Admitted::Now(_)), "{admitted:?}");
    }

    #[paused]
    async fn a_full_queue_is_a_reason_to_come_later_and_an_empty_key_is_an_error(fixture: Fixture) {
        let places = ConcurrencyLimiter::builder(&fixture.client, "p").limit(1).max_waiters(1).build().unwrap();
        let _held = places.try_acquire("k").await.unwrap().unwrap();
        let mut waiting = Box::pin(places.acquire("k", 60 * SECOND));
        assert!(timeout(Duration::from_millis(100), &mut waiting).await.is_err());
        let admission: &dyn Admission = &places;
        let admitted = admission.admit(b"k", SECOND).await.unwrap();
        assert!(matches!(admitted, Admitted::Later(again) if again == SECOND), "{admitted:?}");
        let error = admission.admit(b"", SECOND).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Usage, "{error}");
        assert!(error.to_string().contains("key"), "{error}");
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_chosen_for_an_outage_decides_for_workers_too() {
    let backend = FaultyBackend::embedded();
    let client = backend.client();
    backend.set(Rule::new(Injection::NotSent));
    let admit = async |on_outage| {
        let builder = RateLimiter::builder(&client, "l").policy(Policy::gcra(Quota::per_second(1)));
        let limiter = builder.on_outage(on_outage).build().unwrap();
        limiter.admit(b"k", Duration::ZERO).await
    };
    assert!(admit(OnOutage::Error).await.is_err());
    assert!(matches!(
        admit(OnOutage::Open).await.unwrap(),
        Admitted::Now(_)
    ));
    assert!(
        matches!(admit(OnOutage::Closed).await.unwrap(), Admitted::Later(again) if again == SECOND)
    );
}
