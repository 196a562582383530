//! What a program sees of its stores, and can do to them.

use redkit_core::inspection::{Fact, InspectError, Query};
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
        assert_eq!(seen.actions().len(), 2);
        let refused = seen.act("revoke_all", "").await;
        assert!(matches!(refused, Err(InspectError::Argument(_))), "{refused:?}");
        let refused = seen.act("rename", "user-7").await;
        assert!(matches!(refused, Err(InspectError::UnknownAction { .. })), "{refused:?}");
        let done = seen.act("revoke_all", "user-7").await.unwrap();
        assert!(!done.contains("user-7"));
        assert!(again(&store, &session).await.is_none());
    }

    async fn the_sessions_of_a_user_are_listed_without_ids_and_ended_one_by_one(fixture: Fixture) {
        let store = store(&fixture);
        let first = signed_in(&store, "user-7").await;
        let second = signed_in(&store, "user-7").await;
        signed_in(&store, "user-8").await;
        let all = fixture.client.inspect();
        let seen = all.iter().find(|one| one.kind() == "sessions").unwrap();
        let of = |user: &str| Query { filter: user.to_owned(), count: 10, ..Query::default() };
        let page = seen.list("of_user", &of("user-7")).await.unwrap();
        assert_eq!((page.items.len(), page.next), (2, None));
        let text = format!("{:?}", page.items);
        for session in [&first, &second] {
            let id = session.id().expose();
            assert!(!text.contains(secrecy::ExposeSecret::expose_secret(&id)), "an id is among it");
        }
        assert!(page.items.iter().all(|item| item.payload.iter().any(|(name, _)| *name == "device")));
        let (action, argument) = &page.items[0].actions[0];
        let done = seen.act(action, argument).await.unwrap();
        assert_eq!(done, "the session has ended");
        assert_eq!(seen.act(action, argument).await.unwrap(), "the user has no such session");
        let left = [again(&store, &first).await.is_some(), again(&store, &second).await.is_some()];
        assert_eq!(left.into_iter().filter(|is_left| *is_left).count(), 1);
        // A handle reaches no other user's session.
        let page = seen.list("of_user", &of("user-8")).await.unwrap();
        let handle = page.items[0].actions[0].1.split(' ').next().unwrap();
        assert_eq!(seen.act("revoke", &format!("{handle} user-7")).await.unwrap(), "the user has no such session");
        for (list, user) in [("of_user", ""), ("all", "user-7")] {
            assert!(seen.list(list, &of(user)).await.is_err(), "{list} {user}");
        }
        assert!(matches!(seen.act("revoke", "user-7").await, Err(InspectError::Argument(_))));
    }
}
