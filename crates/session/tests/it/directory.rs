//! Sessions as administrators see them, without the secrets of the store.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use redkit_core::{Backend, Codec, Command, EncryptionKey, KeyRing, Value};
use redkit_session::{Session, SessionDirectory, SignIn};
use redkit_testkit::{FaultyBackend, Fixture, Injection, Rule};
use tokio::time::{Instant, timeout};

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

/// The keys of the sessions that are stored, as a scan gives them.
async fn scanned(backend: &FaultyBackend) -> Vec<Bytes> {
    let deadline = Instant::now() + Duration::from_secs(1);
    let scan = Command::new("SCAN").arg(0).arg("COUNT").arg(10_000);
    let reply = backend.call(&scan.deadline(deadline)).await.unwrap();
    let (_, keys) = reply.to::<(u64, Vec<Bytes>)>().unwrap();
    let is_session = |key: &Bytes| String::from_utf8_lossy(key).contains("}:session:");
    keys.into_iter().filter(is_session).collect()
}

/// A page of a scan.
fn page(cursor: &'static str, keys: &[Bytes]) -> Value {
    let cursor = Value::Bulk(Bytes::from_static(cursor.as_bytes()));
    let keys = keys.iter().cloned().map(Value::Bulk);
    Value::Array(vec![cursor, Value::Array(keys.collect())])
}

#[tokio::test(start_paused = true)]
async fn a_session_whose_key_a_scan_gives_twice_is_shown_once() {
    let backend = FaultyBackend::embedded();
    let client = backend.client();
    let store = builder(&client).build().unwrap();
    for _ in 0..3 {
        store.create().await.unwrap();
    }
    let (keys, pages) = (scanned(&backend).await, AtomicUsize::new(0));
    assert_eq!(keys.len(), 3);
    let answer = move |_: &Command| {
        let cursor = match pages.fetch_add(1, Ordering::Relaxed) {
            0 => "7",
            _ => "0",
        };
        Ok(page(cursor, &keys))
    };
    backend.set(Rule::new(Injection::answer(answer)).on_name("SCAN"));
    let directory = SessionDirectory::new(&client, "web").unwrap();
    assert_eq!(directory.list(10).await.unwrap().len(), 3);
    assert_eq!(backend.count("SCAN"), 3);
}

/// The new id of a session came to be behind the scan, and the old one is in its grace.
#[tokio::test(start_paused = true)]
async fn a_session_that_is_rotated_during_a_scan_is_found_once_and_revoked() {
    let backend = FaultyBackend::embedded();
    let client = backend.client();
    let store = builder(&client).build().unwrap();
    let mut session = signed_in(&store, "ann").await;
    let old = session.handle();
    session.rotate().await.unwrap();
    let directory = SessionDirectory::new(&client, "web").unwrap();
    let both = directory.of_user("ann").await.unwrap();
    assert_eq!(both.len(), 1);
    assert_eq!(both[0].handle, session.handle());

    let hash = old.as_str().to_owned();
    let mut keys = scanned(&backend).await;
    keys.retain(|key| key.ends_with(hash.as_bytes()));
    assert_eq!(keys.len(), 1);
    let answer = move |_: &Command| Ok(page("0", &keys));
    backend.set(Rule::new(Injection::answer(answer)).on_name("SCAN"));
    assert!(directory.list(10).await.unwrap().is_empty());
    let found = directory.of_user("ann").await.unwrap();
    assert_eq!(found.len(), 1);
    assert_eq!(found[0].handle, old);
    assert_eq!(directory.revoke_all("ann").await.unwrap(), 1);
    assert!(again(&store, &session).await.is_none());
}

/// The scan comes to neither id: the new one came to be behind it, and the grace of the old one was over.
#[tokio::test(start_paused = true)]
async fn a_directory_that_finds_no_session_of_a_user_looks_once_more() {
    let backend = FaultyBackend::embedded();
    let client = backend.client();
    let store = builder(&client).build().unwrap();
    let session = signed_in(&store, "ann").await;
    let nothing = Injection::answer(|_| Ok(page("0", &[])));
    backend.set(Rule::new(nothing).on_name("SCAN").times(1));
    let directory = SessionDirectory::new(&client, "web").unwrap();
    assert_eq!(directory.revoke_all("ann").await.unwrap(), 1);
    assert!(again(&store, &session).await.is_none());
}

#[tokio::test(start_paused = true)]
async fn a_page_of_a_directory_that_is_dropped_is_given_by_the_next_call() {
    let backend = FaultyBackend::embedded();
    let client = backend.client();
    let store = builder(&client).build().unwrap();
    for _ in 0..150 {
        store.create().await.unwrap();
    }
    let mut pages = SessionDirectory::new(&client, "web").unwrap().pages();
    let mut found = 0;
    backend.set(Rule::new(Injection::HangBefore).on_name("EVALSHA").times(1));
    let dropped = timeout(Duration::from_millis(100), pages.next()).await;
    assert!(dropped.is_err());
    while let Some(page) = pages.next().await {
        found += page.unwrap().len();
    }
    assert_eq!(found, 150);
}
