//! Values that are encrypted.

use std::collections::HashMap;

use redkit_core::{Codec, Command, EncryptionKey, KeyRing};
use redkit_session::SignIn;
use redkit_testkit::Fixture;

use crate::{again, builder};

redkit_testkit::suite! {
    async fn values_and_users_are_encrypted_and_bound_to_their_session(fixture: Fixture) {
        let ring = KeyRing::new(1, EncryptionKey::from_bytes([7; 32]));
        let codec = Codec::json().encrypt(ring);
        let store = builder(&fixture.client).codec(codec).build().unwrap();
        let mut session = store.start().unwrap();
        session.insert("card", "4000-0012").unwrap();
        session.commit().await.unwrap();
        let keys = crate::round_trips::keys_of(&fixture).await;
        let [key] = &keys[..] else { panic!("{keys:?}") };
        let stored: Vec<u8> = fixture.client.call(Command::new("HGET").key(key).arg(".card")).await.unwrap();
        assert!(!stored.windows(4).any(|bytes| bytes == b"4000"));

        session.sign_in(SignIn::new("user-7")).await.unwrap();
        let loaded = again(&store, &session).await.unwrap();
        assert_eq!(loaded.get::<String>("card").unwrap().unwrap(), "4000-0012");
        assert_eq!(loaded.user(), Some("user-7"));

        // The same bytes in another session, or under another name, open nothing.
        let mut other = store.create().await.unwrap();
        other.insert("card", "x").unwrap();
        other.commit().await.unwrap();
        for key in crate::round_trips::keys_of(&fixture).await {
            if key.to_string().contains("}:session:") {
                let set = Command::new("HSET").key(&key).arg(".card").arg(&stored);
                let _: i64 = fixture.client.call(set).await.unwrap();
                let set = Command::new("HSET").key(&key).arg(".other").arg(&stored);
                let _: i64 = fixture.client.call(set).await.unwrap();
            }
        }
        let other = again(&store, &other).await.unwrap();
        assert!(other.get::<String>("card").is_err());
        let loaded = again(&store, &session).await.unwrap();
        assert!(loaded.get::<String>("card").is_ok() && loaded.get::<String>("other").is_err());
    }

    async fn a_record_that_is_copied_to_another_session_opens_nothing(fixture: Fixture) {
        let codec = || Codec::json().encrypt(KeyRing::new(1, EncryptionKey::from_bytes([7; 32])));
        let store = builder(&fixture.client).codec(codec()).build().unwrap();
        let users = ["mallory", "victim"];
        let mut sessions = Vec::new();
        for user in users {
            let mut session = store.start().unwrap();
            session.insert("card", user).unwrap();
            session.sign_in(SignIn::new(user)).await.unwrap();
            sessions.push(session);
        }
        let keys = crate::round_trips::keys_of(&fixture).await;
        let keys: Vec<_> = keys.into_iter().filter(|key| key.to_string().contains("}:session:")).collect();
        let key_of = |session: &redkit_session::Session| {
            let handle = session.handle();
            keys.iter().find(|key| key.to_string().ends_with(handle.as_str())).unwrap()
        };
        let (own, victims) = (key_of(&sessions[0]), key_of(&sessions[1]));
        let copied: HashMap<String, Vec<u8>> = fixture.client.call(Command::new("HGETALL").key(victims)).await.unwrap();
        let _: i64 = fixture.client.call(Command::new("DEL").key(own)).await.unwrap();
        let set = Command::new("HSET").key(own);
        let set = copied.iter().fold(set, |set, (name, value)| set.arg(name).arg(value));
        let _: i64 = fixture.client.call(set).await.unwrap();
        let loaded = store.load(&crate::text(&sessions[0])).await;
        assert!(loaded.is_err(), "{:?}", loaded.unwrap().unwrap().user());
        // Nor as a session without a user.
        let set = Command::new("HSET").key(own).arg("n").arg("").arg("u").arg("");
        let _: i64 = fixture.client.call(set).await.unwrap();
        assert!(store.load(&crate::text(&sessions[0])).await.is_err());
        // The same for one that never had a user, and is given another's entries.
        let mut nobodys = store.start().unwrap();
        nobodys.insert("card", "none").unwrap();
        nobodys.commit().await.unwrap();
        assert_eq!(again(&store, &nobodys).await.unwrap().user(), None);
        let keys = crate::round_trips::keys_of(&fixture).await;
        let handle = nobodys.handle();
        let key = keys.iter().find(|key| key.to_string().ends_with(handle.as_str())).unwrap();
        let set = Command::new("HSET").key(key).arg("l").arg(&copied["l"]).arg(".card").arg(&copied[".card"]);
        let _: i64 = fixture.client.call(set).await.unwrap();
        assert!(store.load(&crate::text(&nobodys)).await.is_err());
        assert_eq!(again(&store, &sessions[1]).await.unwrap().user(), Some("victim"));
    }

    async fn a_plain_session_is_encrypted_by_a_load_that_accepts_plain(fixture: Fixture) {
        let plain = builder(&fixture.client).build().unwrap();
        let mut session = plain.start().unwrap();
        session.insert("cart", &3).unwrap();
        session.commit().await.unwrap();
        let codec = || Codec::json().encrypt(KeyRing::new(1, EncryptionKey::from_bytes([7; 32])));
        let encrypting = builder(&fixture.client).codec(codec()).build().unwrap();
        assert!(encrypting.load(&crate::text(&session)).await.is_err());
        let migrating = builder(&fixture.client).codec(codec().accept_plain()).build().unwrap();
        let loaded = again(&migrating, &session).await.unwrap();
        assert_eq!((loaded.user(), loaded.get::<u32>("cart").unwrap()), (None, Some(3)));
        let loaded = again(&encrypting, &session).await.unwrap();
        assert_eq!((loaded.user(), loaded.get::<u32>("cart").unwrap()), (None, Some(3)));
    }

    async fn a_load_encrypts_anew_what_an_older_key_encrypts(fixture: Fixture) {
        let key = |byte| EncryptionKey::from_bytes([byte; 32]);
        let with = |ring| builder(&fixture.client).codec(Codec::json().encrypt(ring)).build().unwrap();
        let old = with(KeyRing::new(1, key(1)));
        let mut session = old.start().unwrap();
        session.insert("card", "4000-0012").unwrap();
        session.insert_for("right", "to pay", std::time::Duration::from_secs(300)).unwrap();
        session.sign_in(SignIn::new("user-7")).await.unwrap();
        let both = with(KeyRing::new(2, key(2)).with_older(1, key(1)).unwrap());
        let loaded = again(&both, &session).await.unwrap();
        assert_eq!(loaded.get::<String>("card").unwrap().unwrap(), "4000-0012");
        assert_eq!(loaded.revision(), again(&both, &session).await.unwrap().revision());
        // Then the old key can go.
        let new = with(KeyRing::new(2, key(2)));
        let mut loaded = again(&new, &session).await.unwrap();
        assert_eq!(loaded.user(), Some("user-7"));
        assert_eq!(loaded.get::<String>("card").unwrap().unwrap(), "4000-0012");
        assert_eq!(loaded.get::<String>("right").unwrap().unwrap(), "to pay");
        loaded.rotate().await.unwrap();
        assert_eq!(again(&new, &loaded).await.unwrap().user(), Some("user-7"));
        assert!(old.load(&crate::text(&loaded)).await.is_err());
    }
}
