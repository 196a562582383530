//! Sign-ins and rotations that are dropped, such as by a client that disconnects: what is given back, and what ends.

use std::sync::Arc;
use std::time::Duration;

use redkit_core::inspection::Fact;
use redkit_core::{Backend, Client, ClientConfig};
use redkit_embedded::Embedded;
use redkit_session::{OnLimit, Session, SessionStore, SignIn};
use redkit_testkit::{FaultyBackend, Gate, Injection, Rule, Server, ServerOptions};
use tokio::time::{advance, sleep, timeout};

use crate::{again, builder, signed_in};

/// A rotation under way is dropped when its last step is carried out.
async fn drop_in_the_last_step(backend: &FaultyBackend, session: &mut Session) {
    let hang = Rule::new(Injection::HangAfter).on_name("EVALSHA");
    backend.set(hang.skip(1).times(1));
    let dropped = timeout(Duration::from_millis(500), session.rotate()).await;
    assert!(dropped.is_err());
    backend.clear();
}

/// A store whose scripts the server knows, that which gives back among them.
async fn warm_store(backend: &FaultyBackend, client: &Client) -> SessionStore {
    let store = builder(client).build().unwrap();
    let mut session = signed_in(&store, "warm").await;
    session.rotate().await.unwrap();
    drop_in_the_last_step(backend, &mut session).await;
    sleep(Duration::from_secs(5)).await;
    let loaded = again(&store, &session).await.unwrap();
    assert!(!loaded.is_rotated());
    store
}

/// The old id is given back, the answer is lost, and the client uses it before the call is repeated.
#[tokio::test(start_paused = true)]
async fn a_session_that_is_given_back_twice_has_one_further_revision() {
    let backend = FaultyBackend::embedded();
    let store = warm_store(&backend, &backend.client()).await;
    let mut session = signed_in(&store, "user-7").await;
    let before = session.revision().unwrap();
    drop_in_the_last_step(&backend, &mut session).await;
    backend.set(Rule::new(Injection::LoseReply).on_name("EVALSHA").times(1));
    backend.forget();
    sleep(Duration::from_millis(10)).await;
    let mut loaded = again(&store, &session).await.unwrap();
    assert!(!loaded.is_rotated(), "it is given back by the first call");
    assert_eq!(loaded.revision(), Some(before + 1));
    sleep(Duration::from_secs(5)).await;
    // Two calls, both twice, and the load.
    let calls = backend.count("EVALSHA");
    assert!(calls > 4, "{calls}");
    loaded.insert("cart", &3).unwrap();
    loaded.commit_if_unchanged().await.unwrap();
    assert_eq!(loaded.revision(), Some(before + 2));
}

/// The server takes nothing that grows, until long after the grace that the old id had.
#[tokio::test(start_paused = true)]
async fn a_full_server_gives_the_old_id_back() {
    let engine = Arc::new(Embedded::new());
    let backend = FaultyBackend::new(Arc::clone(&engine) as Arc<dyn Backend>);
    let store = warm_store(&backend, &backend.client()).await;
    let mut session = signed_in(&store, "user-7").await;
    drop_in_the_last_step(&backend, &mut session).await;
    engine.set_full(true);
    sleep(Duration::from_secs(15)).await;
    let mut loaded = again(&store, &session).await.expect("the old id");
    assert!(!loaded.is_rotated());
    loaded.insert("cart", &3).unwrap();
    let refused = loaded.commit().await.unwrap_err();
    assert!(refused.to_string().contains("OOM"), "{refused}");
    engine.set_full(false);
    loaded.rotate().await.unwrap();
    assert_eq!(store.sessions_of("user-7").await.unwrap().len(), 1);
}

/// The same of a real server. Not on every driver: that on `fred` sends scripts in transactions, and a server that is
/// full takes none.
#[tokio::test]
async fn a_server_without_memory_gives_the_old_id_back() {
    let server = Server::redis(ServerOptions::new()).await.unwrap();
    let config = ClientConfig::from_url(&server.url()).unwrap();
    let direct = Client::connect(config).await.unwrap();
    let backend = FaultyBackend::new(Arc::clone(direct.backend()));
    let store = builder(&backend.client()).rotation_grace(Duration::from_millis(6_789));
    let store = store.build().unwrap();
    let mut session = signed_in(&store, "user-7").await;
    session.rotate().await.unwrap();
    backend.set(Rule::new(Injection::HangAfter).on_part("6789000").times(1));
    {
        let mut rotation = std::pin::pin!(session.rotate());
        let pending = timeout(Duration::from_millis(500), &mut rotation).await;
        assert!(pending.is_err());
        let full = ["CONFIG", "SET", "maxmemory", "1"];
        server.raw(&full).await.unwrap();
    }
    sleep(Duration::from_secs(8)).await;
    let loaded = again(&store, &session).await.expect("the old id");
    assert!(!loaded.is_rotated());
}

/// A limit was lowered from three to one, and a sign-in is dropped while it ends the second of three sessions: the
/// first has ended, or could not be.
#[tokio::test(start_paused = true)]
async fn a_sign_in_that_is_dropped_ends_no_session_in_the_background() {
    for (of_the_first, left) in [(Injection::Pass, 1), (Injection::LoseRequest, 2)] {
        let backend = FaultyBackend::embedded();
        let client = backend.client();
        warm_store(&backend, &client).await;
        let before = builder(&client).max_sessions(3, OnLimit::EndOldest);
        let before = before.build().unwrap();
        for _ in 0..3 {
            signed_in(&before, "user-7").await;
            advance(Duration::from_millis(1)).await;
        }
        let store = builder(&client).max_sessions(1, OnLimit::EndOldest);
        let store = store.build().unwrap();
        let mut visitor = store.create().await.unwrap();
        // The steps of a sign-in: store, leave the old id, end one session after the other.
        backend.set(Rule::new(Injection::Pass).on_name("EVALSHA").times(2));
        backend.add(Rule::new(of_the_first).on_name("EVALSHA").times(1));
        backend.add(Rule::new(Injection::HangAfter).on_name("EVALSHA").times(1));
        let signing_in = visitor.sign_in(SignIn::new("user-7"));
        let dropped = timeout(Duration::from_millis(500), signing_in).await;
        assert!(dropped.is_err());
        backend.clear();
        sleep(Duration::from_secs(90)).await;
        // The new one has ended, too.
        let listed = store.sessions_of("user-7").await.unwrap();
        assert_eq!(listed.len(), left);
        let mut visitor = again(&store, &visitor).await.expect("the old id");
        assert!(!visitor.is_rotated());
        visitor.sign_in(SignIn::new("user-7")).await.unwrap();
        let listed = store.sessions_of("user-7").await.unwrap();
        assert_eq!(listed.len(), 1);
        assert_eq!(listed[0].handle, visitor.handle());
    }
}

/// Between the two steps of a rotation the server comes to be out of memory.
#[tokio::test(start_paused = true)]
async fn the_last_step_of_a_rotation_is_carried_out_though_the_server_is_full() {
    let engine = Arc::new(Embedded::new());
    let backend = FaultyBackend::new(Arc::clone(&engine) as Arc<dyn Backend>);
    let store = warm_store(&backend, &backend.client()).await;
    let mut session = signed_in(&store, "user-7").await;
    let old = again(&store, &session).await.unwrap();
    let gate = Gate::closed();
    let held = Rule::new(Injection::HoldRequest(gate.clone())).on_name("EVALSHA");
    backend.set(held.skip(1).times(1));
    let rotation = tokio::spawn(async move { session.rotate().await.map(|()| session) });
    gate.reached(1).await;
    engine.set_full(true);
    gate.open();
    let session = rotation.await.unwrap().unwrap();
    assert!(again(&store, &old).await.unwrap().is_rotated());
    assert!(!again(&store, &session).await.unwrap().is_rotated());
}

/// Redis is away for longer than a minute, and the grace is longer still.
#[tokio::test(start_paused = true)]
async fn an_old_id_is_given_back_at_any_time_of_its_grace() {
    let backend = FaultyBackend::embedded();
    let client = backend.client();
    warm_store(&backend, &client).await;
    let store = builder(&client).rotation_grace(Duration::from_secs(200));
    let store = store.build().unwrap();
    let mut session = signed_in(&store, "user-7").await;
    drop_in_the_last_step(&backend, &mut session).await;
    backend.set(Rule::new(Injection::NotSent));
    sleep(Duration::from_secs(120)).await;
    backend.clear();
    assert!(again(&store, &session).await.unwrap().is_rotated());
    sleep(Duration::from_secs(30)).await;
    let loaded = again(&store, &session).await.unwrap();
    assert!(!loaded.is_rotated());
    assert_eq!(store.sessions_of("user-7").await.unwrap().len(), 1);
}

fn given_up(client: &Client) -> Option<Fact> {
    let all = client.inspect();
    let seen = all.iter().find(|one| one.kind() == "sessions").unwrap();
    seen.snapshot().get("given_up").cloned()
}

/// Redis is away until the grace is over.
#[tokio::test(start_paused = true)]
async fn an_old_id_that_could_not_be_given_back_is_counted() {
    let backend = FaultyBackend::embedded();
    let client = backend.client();
    let store = warm_store(&backend, &client).await;
    let mut session = signed_in(&store, "user-7").await;
    drop_in_the_last_step(&backend, &mut session).await;
    assert_eq!(given_up(&client), Some(Fact::Count(0)));
    backend.set(Rule::new(Injection::NotSent));
    sleep(Duration::from_secs(90)).await;
    assert_eq!(given_up(&client), Some(Fact::Count(1)));
}

/// The session that is one too many cannot be ended, not even later.
#[tokio::test(start_paused = true)]
async fn a_session_over_the_limit_that_could_not_be_ended_is_counted() {
    let backend = FaultyBackend::embedded();
    let client = backend.client();
    let store = builder(&client).max_sessions(1, OnLimit::EndOldest);
    let store = store.build().unwrap();
    signed_in(&store, "user-7").await;
    let mut visitor = store.create().await.unwrap();
    let lose = Rule::new(Injection::LoseRequest).on_name("EVALSHA");
    backend.set(lose.skip(2));
    visitor.sign_in(SignIn::new("user-7")).await.unwrap();
    assert_eq!(given_up(&client), Some(Fact::Count(0)));
    sleep(Duration::from_secs(90)).await;
    assert_eq!(given_up(&client), Some(Fact::Count(1)));
}
