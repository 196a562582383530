//! What a program sees of its stores, and can do to them.

use redkit_core::inspection::{Fact, InspectError};
use redkit_testkit::Fixture;

use crate::{again, signed_in, store};

redkit_testkit::suite! {
    async fn a_store_shows_its_counts_and_ends_the_sessions_of_a_user(fixture: Fixture) {
        let store = store(&fixture);
        let session = signed_in(&store, "user-7").await;
        again(&store, &session).await.unwrap();
        store.load("forged").await.unwrap();
        let all = fixture.client.inspect();
        let seen = all.iter().find(|one| one.kind() == "sessions").unwrap();
        assert_eq!(seen.name(), "web");
        let snapshot = seen.snapshot();
        assert_eq!(snapshot.get("found"), Some(&Fact::Count(1)));
        assert_eq!(snapshot.get("malformed"), Some(&Fact::Count(1)));
        assert_eq!(seen.actions().len(), 1);
        let refused = seen.act("revoke_all", "").await;
        assert!(matches!(refused, Err(InspectError::Argument(_))), "{refused:?}");
        let refused = seen.act("rename", "user-7").await;
        assert!(matches!(refused, Err(InspectError::UnknownAction { .. })), "{refused:?}");
        let done = seen.act("revoke_all", "user-7").await.unwrap();
        assert!(!done.contains("user-7"));
        assert!(again(&store, &session).await.is_none());
    }
}
