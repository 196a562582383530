//! Values that are encrypted.

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
