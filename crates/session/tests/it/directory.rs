//! Sessions as administrators see them, without the secrets of the store.

use std::collections::BTreeSet;

use redkit_core::{Codec, EncryptionKey, KeyRing};
use redkit_session::{Session, SessionDirectory, SignIn};
use redkit_testkit::{FaultyBackend, Fixture, Injection, Rule};

use crate::{again, builder, signed_in, store};

fn directory(fixture: &Fixture) -> SessionDirectory {
    SessionDirectory::new(&fixture.client, "web").unwrap()
}

redkit_testkit::suite! {
    async fn a_directory_lists_sessions_with_user_and_device(fixture: Fixture) {
        let store = store(&fixture);
        let mut ann = store.start().unwrap();
        ann.insert("cart", &"teapot").unwrap();
        ann.sign_in(SignIn::new("ann").device("Firefox")).await.unwrap();
        let nobody = store.create().await.unwrap();

        let directory = directory(&fixture);
        let listed = directory.list(100).await.unwrap();
        assert_eq!(listed.len(), 2, "the rotated id of the sign-in is none");
        let of = |handle| listed.iter().find(|session| session.handle == handle).unwrap();
        let session = of(ann.handle());
        assert_eq!(session.user.as_ref().unwrap().as_deref(), Some("ann"));
        assert_eq!(session.device, "Firefox");
        assert!(session.bytes > 0 && session.expires_at <= session.ends_at);
        assert_eq!(*of(nobody.handle()).user.as_ref().unwrap(), None);
        assert_eq!(directory.list(1).await.unwrap().len(), 1);
        assert!(!format!("{listed:?}").contains("ann"));
        // Another store has none of them.
        let other = SessionDirectory::new(&fixture.client, "admin").unwrap();
        assert!(other.list(100).await.unwrap().is_empty());
    }

    async fn a_directory_gives_all_sessions_page_by_page_and_none_twice(fixture: Fixture) {
        let store = store(&fixture);
        let mut made = BTreeSet::new();
        for _ in 0..250 {
            made.insert(store.create().await.unwrap().handle().as_str().to_owned());
        }
        let (mut pages, mut found) = (directory(&fixture).pages(), Vec::new());
        while let Some(page) = pages.next().await {
            let page = page.unwrap();
            assert!(page.len() <= 100, "{}", page.len());
            found.extend(page.into_iter().map(|session| session.handle.as_str().to_owned()));
        }
        assert!(pages.next().await.is_none());
        assert_eq!(found.len(), 250);
        assert_eq!(found.into_iter().collect::<BTreeSet<_>>(), made);
    }

    async fn a_directory_revokes_all_sessions_of_a_user_and_no_others(fixture: Fixture) {
        let store = store(&fixture);
        let (one, two) = (signed_in(&store, "ann").await, signed_in(&store, "ann").await);
        let bob = signed_in(&store, "bob").await;
        let directory = directory(&fixture);
        assert_eq!(directory.of_user("ann").await.unwrap().len(), 2);
        assert_eq!(directory.revoke_all("ann").await.unwrap(), 2);
        for ended in [&one, &two] {
            assert!(again(&store, ended).await.is_none());
        }
        assert!(again(&store, &bob).await.is_some());
        assert_eq!(directory.revoke_all("ann").await.unwrap(), 0);
        let listed = directory.list(100).await.unwrap();
        assert_eq!(listed.len(), 1);
        assert!(directory.revoke(&listed[0]).await.unwrap());
        assert!(!directory.revoke(&listed[0]).await.unwrap());
        assert!(again(&store, &bob).await.is_none());
        assert!(directory.of_user("").await.is_err());
    }

    async fn encrypted_users_are_an_error_for_a_directory_without_their_keys(fixture: Fixture) {
        let ring = KeyRing::new(1, EncryptionKey::from_bytes([7; 32]));
        let codec = Codec::json().encrypt(ring);
        let store = builder(&fixture.client).codec(codec.clone()).build().unwrap();
        let (ann, nobody) = (signed_in(&store, "ann").await, store.create().await.unwrap());
        let of = async |directory: &SessionDirectory, session: &Session| {
            let listed = directory.list(10).await.unwrap();
            let listed = listed.into_iter().find(|listed| listed.handle == session.handle());
            listed.unwrap().user.map_err(drop)
        };
        let blind = directory(&fixture);
        assert_eq!(of(&blind, &ann).await, Err(()));
        assert_eq!(of(&blind, &nobody).await, Ok(None), "that there is no user is no secret");
        blind.revoke_all("ann").await.unwrap_err();
        let client = fixture.client.with_codec(codec);
        let seeing = SessionDirectory::new(&client, "web").unwrap();
        assert_eq!(seeing.revoke_all("ann").await.unwrap(), 1);
        // The other way round: the store encrypts nothing, and the directory's client expects it to.
        let plain = crate::store(&fixture);
        let (bob, nobody) = (signed_in(&plain, "bob").await, plain.create().await.unwrap());
        assert_eq!(of(&seeing, &bob).await, Err(()));
        assert_eq!(of(&seeing, &nobody).await, Ok(None));
    }
}

/// Pages end with an error where a server cannot be asked: what is left out is not taken for nothing.
#[tokio::test(start_paused = true)]
async fn pages_of_a_directory_end_with_an_error_and_not_as_if_there_were_no_other() {
    let backend = FaultyBackend::embedded();
    let client = backend.client();
    let store = builder(&client).build().unwrap();
    for _ in 0..150 {
        store.create().await.unwrap();
    }
    for name in ["SCAN", "EVALSHA"] {
        backend.set(Rule::new(Injection::NotSent).on_name(name));
        let mut pages = SessionDirectory::new(&client, "web").unwrap().pages();
        assert!(matches!(pages.next().await, Some(Err(_))), "{name}");
        backend.clear();
        assert!(pages.next().await.is_none(), "{name}");
    }
}
