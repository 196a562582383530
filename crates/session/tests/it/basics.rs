//! Creating, reading, changing, extending, deleting.

use std::time::{Duration, SystemTime};

use redkit_session::Error;
use redkit_testkit::Fixture;
use serde::{Deserialize, Serialize};

use crate::{again, signed_in, store, text};

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Cart {
    items: Vec<String>,
}

redkit_testkit::suite! {
    async fn entries_survive_their_types(fixture: Fixture) {
        let store = store(&fixture);
        let mut session = store.start().unwrap();
        let cart = Cart { items: vec!["teapot".to_owned(), String::new()] };
        session.insert("cart", &cart).unwrap();
        session.insert("views", &41_u64).unwrap();
        session.insert("leer ünd {}%\n", "=E1:x").unwrap();
        assert_eq!(session.get::<u64>("views").unwrap(), Some(41));
        session.commit().await.unwrap();

        let mut loaded = again(&store, &session).await.unwrap();
        assert_eq!(loaded.get::<Cart>("cart").unwrap(), Some(cart));
        assert_eq!(loaded.get::<String>("leer ünd {}%\n").unwrap().unwrap(), "=E1:x");
        assert_eq!(loaded.get::<u64>("nothing").unwrap(), None);
        assert!(loaded.get::<u64>("cart").is_err());
        assert_eq!((loaded.user(), loaded.revision()), (None, Some(1)));

        loaded.remove("cart");
        loaded.insert("views", &42_u64).unwrap();
        assert!(!loaded.contains("cart") && loaded.has_changes());
        loaded.commit().await.unwrap();
        assert_eq!(loaded.get::<u64>("views").unwrap(), Some(42));
        let loaded = again(&store, &session).await.unwrap();
        assert!(!loaded.contains("cart"));
        assert_eq!(loaded.get::<u64>("views").unwrap(), Some(42));
        assert_eq!(loaded.revision(), Some(2));
    }

    async fn a_session_that_was_never_written_is_not_stored(fixture: Fixture) {
        let store = store(&fixture);
        let mut session = store.start().unwrap();
        session.insert("a", &1).unwrap();
        session.remove("a");
        session.remove("b");
        session.commit().await.unwrap();
        assert!(!session.is_stored());
        assert!(again(&store, &session).await.is_none());
        assert!(!session.delete().await.unwrap());
        assert!(matches!(session.ttl().await, Err(Error::Gone)));
    }

    async fn times_are_the_servers(fixture: Fixture) {
        let store = store(&fixture);
        let mut session = store.create().await.unwrap();
        let created = session.created_at().unwrap();
        let apart = SystemTime::now().duration_since(created).unwrap_or_default();
        assert!(apart < Duration::from_secs(60), "{apart:?}");
        assert_eq!(session.updated_at(), Some(created));
        assert_eq!(
            session.ends_at().unwrap().duration_since(created).unwrap(),
            Duration::from_secs(8 * 60 * 60),
        );
        // Keys expire in whole milliseconds.
        let ttl = session.ttl().await.unwrap();
        assert!(ttl > Duration::from_secs(29 * 60) && ttl < Duration::from_millis(30 * 60_000 + 1), "{ttl:?}");
        let extended = session.extend(Duration::from_secs(600)).await.unwrap();
        assert!(extended > ttl + Duration::from_secs(500), "{extended:?}");
        let most = session.extend(Duration::MAX).await.unwrap();
        assert!(most <= Duration::from_secs(8 * 60 * 60), "{most:?}");
        assert!(most > Duration::from_secs(8 * 60 * 60 - 60), "{most:?}");
    }

    async fn a_deleted_session_is_gone_for_everybody(fixture: Fixture) {
        let store = store(&fixture);
        let mut session = signed_in(&store, "user-7").await;
        let mut other = again(&store, &session).await.unwrap();
        assert!(session.delete().await.unwrap());
        assert!(!session.delete().await.unwrap());
        assert!(again(&store, &session).await.is_none());
        assert!(store.sessions_of("user-7").await.unwrap().is_empty());
        assert!(matches!(other.extend(Duration::from_secs(1)).await, Err(Error::Gone)));
        assert!(matches!(other.ttl().await, Err(Error::Gone)));
        assert!(matches!(other.rotate().await, Err(Error::Gone)));
        assert!(matches!(other.revoke_others().await, Err(Error::Gone)));
        other.insert("a", &1).unwrap();
        assert!(matches!(other.commit().await, Err(Error::Gone)));
        assert!(again(&store, &other).await.is_none());
    }

    async fn stores_of_other_names_and_namespaces_share_nothing(fixture: Fixture) {
        let session = store(&fixture).create().await.unwrap();
        let admin = redkit_session::SessionStore::builder(&fixture.client, "admin", crate::secrets());
        assert!(admin.build().unwrap().load(&text(&session)).await.unwrap().is_none());
        let other = fixture.client.with_namespace("other").unwrap();
        let other = crate::builder(&other).build().unwrap();
        assert!(other.load(&text(&session)).await.unwrap().is_none());
    }
}
