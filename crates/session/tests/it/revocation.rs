//! Lists of a user's sessions, and ending them.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use redkit_core::Command;
use redkit_session::{Error, Lifetime, OnLimit, SessionHandle, SignIn};
use redkit_testkit::{FaultyBackend, Fixture};
use tokio::task::JoinSet;

use crate::{again, builder, patient_store, signed_in, store, text};

redkit_testkit::suite! {
    async fn a_user_sees_and_ends_sessions(fixture: Fixture) {
        let store = store(&fixture);
        let mut phone = store.start().unwrap();
        phone.sign_in(SignIn::new("user-7").device("Phone: a:b")).await.unwrap();
        tokio::time::sleep(Duration::from_millis(5)).await;
        let laptop = signed_in(&store, "user-7").await;
        let other = signed_in(&store, "user-8").await;

        let listed = store.sessions_of("user-7").await.unwrap();
        let handles: Vec<&SessionHandle> = listed.iter().map(|session| &session.handle).collect();
        assert_eq!(handles, [&laptop.handle(), &phone.handle()]);
        assert_eq!(listed[1].device, "Phone: a:b");
        assert_eq!(Some(listed[1].created_at), phone.created_at());
        assert_eq!(Some(listed[1].ends_at), phone.ends_at());

        // A handle reaches sessions of its user only.
        assert!(!store.revoke("user-8", &phone.handle()).await.unwrap());
        assert!(!store.revoke("user-7", &other.handle()).await.unwrap());
        assert!(!store.revoke("user-7", &SessionHandle::from_text("x}{:*")).await.unwrap());
        assert!(again(&store, &phone).await.is_some());
        // Nor where two users share a bucket.
        let (one, two) = (signed_in(&store, "user-3").await, signed_in(&store, "user-58").await);
        assert_eq!(text(&one)[..4], text(&two)[..4], "an id begins with its bucket");
        assert!(!store.revoke("user-3", &two.handle()).await.unwrap());
        assert!(again(&store, &two).await.is_some());
        let handle = SessionHandle::from_text(phone.handle().as_str());
        assert!(store.revoke("user-7", &handle).await.unwrap());
        assert!(!store.revoke("user-7", &handle).await.unwrap());
        assert!(again(&store, &phone).await.is_none());
        assert!(again(&store, &laptop).await.is_some());
        assert_eq!(store.sessions_of("user-7").await.unwrap().len(), 1);
        assert!(store.load(laptop.handle().as_str()).await.unwrap().is_none());
    }

    async fn all_sessions_of_a_user_end_at_once(fixture: Fixture) {
        let store = store(&fixture);
        let mut sessions = Vec::new();
        for _ in 0..5 {
            sessions.push(signed_in(&store, "user-7").await);
        }
        let other = signed_in(&store, "user-8").await;
        store.revoke_all("user-7").await.unwrap();
        for session in &mut sessions {
            session.insert("late", &1).unwrap();
            assert!(matches!(session.commit().await, Err(Error::Gone)));
            assert!(again(&store, session).await.is_none());
        }
        assert!(store.sessions_of("user-7").await.unwrap().is_empty());
        assert!(again(&store, &other).await.is_some());
        // The next sign-in is none of them.
        let new = signed_in(&store, "user-7").await;
        assert!(again(&store, &new).await.is_some());
        store.revoke_all("user-7").await.unwrap();
        assert!(again(&store, &new).await.is_none());
    }

    async fn a_user_ends_all_others(fixture: Fixture) {
        let store = store(&fixture);
        let own = signed_in(&store, "user-7").await;
        let other = signed_in(&store, "user-7").await;
        own.revoke_others().await.unwrap();
        assert!(again(&store, &other).await.is_none());
        let mut own = again(&store, &own).await.unwrap();
        let listed = store.sessions_of("user-7").await.unwrap();
        assert_eq!(listed.len(), 1);
        assert_eq!(listed[0].handle, own.handle());
        own.rotate().await.unwrap();
        assert!(again(&store, &own).await.is_some());
        let anonymous = store.create().await.unwrap();
        assert!(matches!(anonymous.revoke_others().await, Err(Error::NoUser)));
    }

    #[multi_thread]
    async fn no_load_that_begins_after_a_revocation_gives_a_session(fixture: Fixture) {
        let store = patient_store(&fixture).await;
        for round in 0..20 {
            let user = format!("user-{round}");
            let session = signed_in(&store, &user).await;
            let id: Arc<str> = text(&session).into();
            let revoked = Arc::new(AtomicBool::new(false));
            let mut loads = JoinSet::new();
            for _ in 0..8 {
                let (store, id, revoked) = (store.clone(), Arc::clone(&id), Arc::clone(&revoked));
                loads.spawn(async move {
                    for _ in 0..20 {
                        let is_revoked = revoked.load(Ordering::SeqCst);
                        let session = store.load(&id).await.unwrap();
                        assert!(!(is_revoked && session.is_some()), "revived");
                        if let Some(mut session) = session {
                            session.insert("a", &1).unwrap();
                            let _ = session.commit().await;
                        }
                    }
                });
            }
            store.revoke_all(&user).await.unwrap();
            revoked.store(true, Ordering::SeqCst);
            while let Some(load) = loads.join_next().await {
                load.unwrap();
            }
            assert!(store.load(&id).await.unwrap().is_none());
        }
    }

    async fn one_session_too_many_ends_the_oldest(fixture: Fixture) {
        let store = builder(&fixture.client).max_sessions(2, OnLimit::EndOldest).build().unwrap();
        let mut sessions = Vec::new();
        for _ in 0..4 {
            sessions.push(signed_in(&store, "user-7").await);
            tokio::time::sleep(Duration::from_millis(3)).await;
        }
        let mut live = Vec::new();
        for session in &sessions {
            live.push(again(&store, session).await.is_some());
        }
        assert_eq!(live, [false, false, true, true]);
        // A rotation takes the place of its own session.
        sessions[3].rotate().await.unwrap();
        assert!(again(&store, &sessions[2]).await.is_some());
        assert_eq!(store.sessions_of("user-7").await.unwrap().len(), 2);
    }

    async fn one_session_too_many_is_refused(fixture: Fixture) {
        let store = builder(&fixture.client).max_sessions(1, OnLimit::Refuse).build().unwrap();
        let mut first = signed_in(&store, "user-7").await;
        let mut second = store.create().await.unwrap();
        let refused = second.sign_in(SignIn::new("user-7")).await;
        assert!(matches!(refused, Err(Error::TooManySessions { sessions: 1 })), "{refused:?}");
        // It is what it was.
        assert_eq!(again(&store, &second).await.unwrap().user(), None);
        first.delete().await.unwrap();
        second.sign_in(SignIn::new("user-7")).await.unwrap();
    }

    #[paused]
    async fn sessions_that_ran_out_leave_the_list(fixture: Fixture) {
        let store = store(&fixture);
        signed_in(&store, "user-7").await;
        tokio::time::advance(Duration::from_secs(20 * 60)).await;
        let kept = signed_in(&store, "user-7").await;
        assert_eq!(store.sessions_of("user-7").await.unwrap().len(), 2);
        tokio::time::advance(Duration::from_secs(11 * 60)).await;
        let listed = store.sessions_of("user-7").await.unwrap();
        assert_eq!(listed.len(), 1);
        assert_eq!(listed[0].handle, kept.handle());
    }

    #[paused]
    async fn a_revocation_is_remembered_as_long_as_any_session_lives(fixture: Fixture) {
        let store = builder(&fixture.client)
            .absolute_timeout(redkit_session::Lifetime::MAX)
            .idle_timeout(redkit_session::Lifetime::MAX)
            .build()
            .unwrap();
        let session = signed_in(&store, "user-7").await;
        store.revoke_all("user-7").await.unwrap();
        tokio::time::advance(redkit_session::Lifetime::MAX - Duration::from_secs(60)).await;
        // Whatever else happens in the bucket.
        signed_in(&store, "user-7").await.delete().await.unwrap();
        assert!(again(&store, &session).await.is_none());
    }
}

/// The script of a revocation ends half-way: what an earlier one has ended stays ended.
#[tokio::test(start_paused = true)]
async fn a_revocation_that_fails_gives_no_session_back() {
    let client = FaultyBackend::embedded().client();
    let store = builder(&client).build().unwrap();
    let mut revoked = store.start().unwrap();
    let day = Duration::from_secs(86_400);
    let long = SignIn::new("user-7").lifetime(Lifetime::new(day, 30 * day));
    revoked.sign_in(long).await.unwrap();
    store.revoke_all("user-7").await.unwrap();
    // One that has run out is pruned by the next revocation, which finds no hash there.
    signed_in(&store, "user-7").await;
    tokio::time::advance(Duration::from_secs(3_600)).await;
    let mut keys = client.scan(redkit_core::Pattern::all()).keys();
    let rows = loop {
        let key = client.key(keys.next().await.unwrap().unwrap());
        if key.to_string().ends_with("}:rows") {
            break key;
        }
    };
    let damage = Command::new("SET").key(&rows).arg("x");
    let _: () = client.call(damage).await.unwrap();
    assert!(store.revoke_all("user-7").await.is_err());
    let _: i64 = client.call(Command::new("DEL").key(&rows)).await.unwrap();
    assert!(again(&store, &revoked).await.is_none());
}
