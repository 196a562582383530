//! What uses a client can be looked at and acted on.

use std::sync::{Arc, Weak};

use async_trait::async_trait;
use redkit_core::breaker::BreakerState;
use redkit_core::inspection::{Fact, Inspect, InspectError, Query, Snapshot};
use redkit_core::{Admission, AdmissionPermit, Admitted, Command, Error};
use redkit_testkit::FaultyBackend;

struct Shelf(usize);

#[async_trait]
impl Inspect for Shelf {
    fn kind(&self) -> &'static str {
        "shelf"
    }

    fn name(&self) -> String {
        "tools".to_owned()
    }

    fn snapshot(&self) -> Snapshot {
        let mut snapshot = Snapshot::default().fact("boxes", self.0);
        for n in 0..self.0 {
            snapshot.push(vec![("number", n.into())]);
        }
        snapshot
    }
}

#[tokio::test]
async fn objects_are_seen_while_they_live_and_not_kept() {
    let client = FaultyBackend::embedded().client();
    client
        .call::<()>(Command::new("SET").key("k").arg("v"))
        .await
        .unwrap();
    let shelf = Arc::new(Shelf(150));
    client.register(Arc::downgrade(&shelf) as Weak<dyn Inspect>);
    let seen = client.with_namespace("other").unwrap().inspect();
    let kinds: Vec<_> = seen.iter().map(|object| object.kind()).collect();
    assert_eq!(kinds, ["client", "breaker", "shelf"]);
    let of_client = seen[0].snapshot();
    assert_eq!(of_client.get("answered"), Some(&Fact::Count(1)));
    let of_shelf = seen[2].snapshot();
    assert_eq!((of_shelf.items.len(), of_shelf.omitted), (100, 50));
    let error = seen[2].act("paint", "red").await.unwrap_err();
    assert_eq!(error.to_string(), "a shelf has no action `paint`");
    // What an object does not offer is nothing, or an error that says so.
    assert_eq!(seen[2].measure().await.unwrap(), Snapshot::default());
    let error = seen[2].list("tools", &Query::default()).await.unwrap_err();
    assert_eq!(error.to_string(), "a shelf has no list `tools`");
    drop(seen);
    assert_eq!(Arc::strong_count(&shelf), 1);
    drop(shelf);
    assert_eq!(client.inspect().len(), 2);
}

#[tokio::test]
async fn a_client_counts_how_long_its_calls_take() {
    let client = FaultyBackend::embedded().client();
    assert_eq!(client.latency().count(), 0);
    for _ in 0..3 {
        client.call::<String>(Command::new("PING")).await.unwrap();
    }
    let latency = client.with_namespace("other").unwrap().latency();
    assert_eq!(latency.count(), 3);
    assert!(latency.quantile(0.99).unwrap() < std::time::Duration::from_secs(5));
}

#[tokio::test]
async fn a_breaker_is_forced_and_reset_by_its_actions() {
    let client = FaultyBackend::embedded().client();
    let breaker = &client.inspect()[1];
    assert!(
        breaker
            .actions()
            .iter()
            .any(|action| action.name == "force_open")
    );
    breaker.act("force_open", "").await.unwrap();
    assert_eq!(client.breaker().status().state, BreakerState::ForcedOpen);
    assert_eq!(
        breaker.snapshot().get("state"),
        Some(&Fact::Text("ForcedOpen".to_owned()))
    );
    breaker.act("reset", "").await.unwrap();
    client
        .call::<()>(Command::new("SET").key("k").arg("v"))
        .await
        .unwrap();
    let error = breaker.act("nonsense", "").await.unwrap_err();
    assert!(matches!(error, InspectError::UnknownAction { .. }));
}

#[tokio::test]
async fn an_admission_gives_a_permit_that_gives_back_what_it_holds() {
    struct One(Arc<tokio::sync::Semaphore>);
    #[async_trait]
    impl Admission for One {
        async fn admit(&self, _: &[u8], wait: std::time::Duration) -> Result<Admitted, Error> {
            Ok(match Arc::clone(&self.0).try_acquire_owned() {
                Ok(permit) => Admitted::Now(AdmissionPermit::holding(permit)),
                Err(_) => Admitted::Later(wait),
            })
        }
    }
    let one: &dyn Admission = &One(Arc::new(tokio::sync::Semaphore::new(1)));
    let wait = std::time::Duration::from_secs(1);
    let Admitted::Now(permit) = one.admit(b"k", wait).await.unwrap() else {
        panic!("free")
    };
    assert!(
        matches!(one.admit(b"k", wait).await.unwrap(), Admitted::Later(again) if again == wait)
    );
    drop(permit);
    assert!(matches!(
        one.admit(b"k", wait).await.unwrap(),
        Admitted::Now(_)
    ));
}
