//! `redkit sessions`.

use redkit_session::{Session, SessionSecrets, SessionStore, SignIn};
use secrecy::ExposeSecret;

use crate::engine;

async fn signed_in(store: &SessionStore, user: &str, device: &str) -> Session {
    let mut session = store.start().unwrap();
    session
        .sign_in(SignIn::new(user).device(device))
        .await
        .unwrap();
    session
}

#[tokio::test(flavor = "multi_thread")]
async fn sessions_are_listed_and_ended_without_the_stores_secrets() {
    let engine = engine().await;
    let secrets = SessionSecrets::new(vec![1; 32], 2, vec![2; 32]).unwrap();
    let store = SessionStore::builder(&engine.client, "web", secrets)
        .build()
        .unwrap();
    let phone = signed_in(&store, "ann", "phone").await;
    let laptop = signed_in(&store, "ann", "laptop\u{1b}[2J").await;
    let bob = signed_in(&store, "bob", "").await;
    let is_there = async |session: &Session| {
        let id = session.id().expose();
        store.load(id.expose_secret()).await.unwrap().is_some()
    };

    // What a store for `tower-sessions` writes.
    for hash in ["aa", "bb"] {
        let key = format!("session:tower:{{{hash}}}:record");
        engine.client.set(&key, &1).await.unwrap();
    }
    let stores = engine.json(&["sessions", "stores"]).await;
    assert_eq!(
        stores["stores"],
        serde_json::json!([{ "name": "tower", "sessions": 2 }, { "name": "web", "sessions": 3 }])
    );
    let listed = engine.json(&["sessions", "list", "web"]).await;
    assert_eq!(listed["sessions"].as_array().unwrap().len(), 3, "{listed}");
    assert_eq!(listed["is_complete"], true);
    let of_ann = engine
        .redkit(&["sessions", "list", "web", "--user", "ann"])
        .await;
    assert!(
        of_ann.out.contains("phone") && !of_ann.out.contains("bob"),
        "{of_ann:?}"
    );
    assert!(
        !of_ann.out.contains('\u{1b}'),
        "what is stored does not command the terminal"
    );
    let id = phone.id().expose();
    assert!(
        !of_ann.out.contains(id.expose_secret())
            && !listed.to_string().contains(id.expose_secret())
    );

    let handle = laptop.handle();
    engine
        .redkit(&["sessions", "revoke", "web", "--handle", handle.as_str()])
        .await
        .failed(2, "no terminal", "--yes");
    assert!(is_there(&laptop).await);
    let done = engine
        .json(&[
            "sessions",
            "revoke",
            "web",
            "--handle",
            handle.as_str(),
            "--yes",
        ])
        .await;
    assert_eq!(done["revoked"], 1);
    assert!(!is_there(&laptop).await && is_there(&phone).await);

    let done = engine
        .json(&["sessions", "revoke", "web", "--user", "ann", "--yes"])
        .await;
    assert_eq!(done["revoked"], 1);
    assert!(!is_there(&phone).await && is_there(&bob).await);
    let none = engine
        .redkit(&["sessions", "revoke", "web", "--user", "ann", "--yes"])
        .await;
    none.failed(1, "ann has no session", "sessions stores");
    let neither = engine.redkit(&["sessions", "revoke", "web", "--yes"]).await;
    assert_eq!(neither.code, 2, "{neither:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_newest_sessions_are_shown_however_many_there_are() {
    let engine = engine().await;
    let secrets = SessionSecrets::new(vec![1; 32], 2, vec![2; 32]).unwrap();
    let store = SessionStore::builder(&engine.client, "web", secrets)
        .build()
        .unwrap();
    for _ in 0..200 {
        signed_in(&store, "ann", "").await;
    }
    tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    signed_in(&store, "bob", "").await;
    let listed = engine
        .json(&["sessions", "list", "web", "--limit", "1"])
        .await;
    assert_eq!(listed["sessions"][0]["user"], "bob", "{listed}");
    assert_eq!(listed["is_complete"], false);
    let shown = engine
        .redkit(&["sessions", "list", "web", "--limit", "1"])
        .await;
    assert!(shown.err.contains("200 more"), "{shown:?}");
}
