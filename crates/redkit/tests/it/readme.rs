//! The README's code as it stands there, on the embedded engine.

use std::convert::Infallible;
use std::time::Duration;

use redkit::cache::{Cache, L1};
use redkit::collections::{Counter, End, Hash, Lifetime, List};
use redkit::pubsub::{Channel, Event, Inbox, Replay};
use redkit::ratelimit::{ConcurrencyLimiter, LimitSet, OnOutage, Policy, Quota, RateLimiter};
use redkit::{CallError, Command, Error};
use serde::{Deserialize, Serialize};

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Product {
    name: String,
}

async fn client() -> redkit::Client {
    redkit::connect("embedded://?namespace=shop").await.unwrap()
}

#[tokio::test]
async fn messages() {
    type Note = String;
    let client = client().await;
    let packed = "packed".to_owned();
    let orders: Channel<Note> = Channel::builder(&client, "orders")
        .replay(Replay::last(1_000))
        .build()
        .unwrap();
    let mut subscription = orders.subscribe(["42"]).await.unwrap();
    orders.publish("42", &packed).await.unwrap();
    match subscription.next().await {
        Some(Event::Message(message)) => assert_eq!(message.payload, packed),
        other => panic!("{other:?}"),
    }
    let inbox: Inbox<Note> = Inbox::builder(&client, "notes")
        .capacity(100)
        .build()
        .unwrap();
    inbox.push_to_many(["ann", "bob"], &packed).await.unwrap();
    let batch = inbox.read("ann", 50).await.unwrap();
    assert_eq!(inbox.confirm("ann", &batch.token).await.unwrap(), 1);
    assert_eq!(inbox.unread("bob").await.unwrap(), 1);
}

#[tokio::test]
async fn a_cache() {
    async fn product(_: u32) -> Result<Product, Infallible> {
        let name = "Teapot".to_owned();
        Ok(Product { name })
    }
    let client = client().await;
    let products: Cache<Product> = Cache::builder(&client, "products")
        .ttl(Duration::from_secs(60))
        .stale_for(Duration::from_secs(600))
        .refresh_ahead(0.8)
        .l1(L1::entries(10_000))
        .build()
        .unwrap();
    let found = products.get_or_load("42", || product(42)).await.unwrap();
    assert_eq!(found.name, "Teapot");
    assert!(products.invalidate("42").await.unwrap());
    products.invalidate_tag("shelf:7").await.unwrap();
}

#[cfg(feature = "lock")]
#[tokio::test]
async fn locks() {
    use redkit::lock::{Error, FencedRegister, LockManager};

    let client = client().await;
    let locks = LockManager::builder(&client, "stock")
        .label("checkout")
        .build()
        .unwrap();
    let stock = FencedRegister::new(&client, "stock").unwrap();
    let left = locks.run("teapot", Duration::from_secs(5), |fence| async move {
        let left = stock
            .read::<u32>("teapot")
            .await?
            .map_or(10, |stored| stored.value)
            - 1;
        stock.write("teapot", fence, &left).await?;
        Ok::<_, Error>(left)
    });
    assert_eq!(left.await.unwrap().unwrap(), 9);
    let both = locks
        .acquire_all(["teapot", "cup"], Duration::from_secs(5))
        .await
        .unwrap();
    let Err(Error::Taken {
        holder: Some(holder),
    }) = locks.try_acquire("cup").await
    else {
        panic!("it is taken");
    };
    assert!(holder.to_string().starts_with("checkout on "), "{holder}");
    assert!(both.release().await.unwrap());
}

#[cfg(feature = "session")]
#[tokio::test]
async fn sessions() {
    use redkit::session::{SessionSecrets, SessionStore, SignIn};
    use secrecy::ExposeSecret;

    let client = client().await;
    let secrets = SessionSecrets::new(vec![1; 32], 1, vec![2; 32]).unwrap();
    let sessions = SessionStore::builder(&client, "web", secrets)
        .build()
        .unwrap();
    let mut session = sessions.start().unwrap();
    session.insert("cart", &["teapot"]).unwrap();
    let sign_in = SignIn::new("user-7").device("Firefox on Linux");
    session.sign_in(sign_in).await.unwrap();
    let cookie = session.id().expose();
    let mut session = sessions
        .load(cookie.expose_secret())
        .await
        .unwrap()
        .unwrap();
    session.insert("theme", "dark").unwrap();
    session.commit().await.unwrap();
    assert_eq!(sessions.sessions_of("user-7").await.unwrap().len(), 1);
    sessions.revoke_all("user-7").await.unwrap();
    let gone = sessions.load(cookie.expose_secret()).await.unwrap();
    assert!(gone.is_none());
}

#[tokio::test]
async fn a_rate_limit() {
    let client = client().await;
    let api = RateLimiter::builder(&client, "api")
        .policy(Policy::gcra(Quota::per_minute(100).burst(20)))
        .on_outage(OnOutage::Open)
        .build()
        .unwrap();
    let decision = api.check("alice").await.unwrap();
    assert!(decision.is_allowed());

    let tier = |name| {
        let policy = Policy::fixed_window(Quota::per_hour(10));
        RateLimiter::builder(&client, name).policy(policy).build()
    };
    let (users, addresses) = (tier("users").unwrap(), tier("addresses").unwrap());
    let reports = ConcurrencyLimiter::builder(&client, "reports")
        .limit(1)
        .build()
        .unwrap();
    let ip = "192.0.2.7";
    let both = || {
        LimitSet::new()
            .limit(&users, "alice")
            .limit(&addresses, ip)
            .lease(&reports, "alice")
            .tag("tenant-7")
            .check()
    };
    let decided = both().await.unwrap();
    assert!(decided.decision.is_allowed());
    assert_eq!(decided.permits.len(), 1);
    assert!(
        !both().await.unwrap().decision.is_allowed(),
        "the place is held"
    );
}

#[cfg(feature = "axum")]
#[tokio::test]
async fn limits_before_axum() {
    use std::net::SocketAddr;

    use axum::Router;
    use axum::routing::get;
    use redkit::ratelimit::tower::{ClientAddress, RateLimitLayer};
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    async fn index() -> &'static str {
        "hello"
    }
    let api = RateLimiter::builder(&client().await, "api")
        .policy(Policy::fixed_window(Quota::per_hour(1)))
        .build()
        .unwrap();
    let limits = RateLimitLayer::new(&api, ClientAddress::new());
    let app = Router::new().route("/", get(index)).layer(limits);
    let service = app.into_make_service_with_connect_info::<SocketAddr>();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let server = tokio::spawn(async move { axum::serve(listener, service).await });
    for expected in ["HTTP/1.1 200", "HTTP/1.1 429"] {
        let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
        let request = b"GET / HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n";
        stream.write_all(request).await.unwrap();
        let mut response = String::new();
        stream.read_to_string(&mut response).await.unwrap();
        assert!(response.starts_with(expected), "{response}");
    }
    server.abort();
}

#[tokio::test]
async fn values_and_collections() {
    let client = client().await;
    let cart = Product {
        name: "cart".to_owned(),
    };
    let ttl = Duration::from_secs(600);
    client.set("cart:ann", &cart).ttl(ttl).await.unwrap();
    let found: Option<Product> = client.get("cart:ann").await.unwrap();
    assert_eq!(found, Some(cart));
    let claim = || client.set("job:7", "me").if_absent();
    let first: bool = claim().await.unwrap();
    assert!(first && !claim().await.unwrap());

    let basket: Hash<u32> = Hash::new(&client, "basket:7")
        .with_ttl(Lifetime::on_write(Duration::from_secs(1800)).unwrap());
    basket.incr("cup", 2).await.unwrap();
    let stock = Counter::new(&client, "stock:teapot");
    stock.set(1).await.unwrap();
    assert!(stock.decr_down_to(1, 0).await.unwrap().is_counted());
    assert!(!stock.decr_down_to(1, 0).await.unwrap().is_counted());

    let waiting = List::<String>::new(&client, "{jobs}:waiting");
    waiting.push_back("pack").await.unwrap();
    let mut jobs = waiting.consumer().await.unwrap();
    let mine = List::<String>::new(&client, "{jobs}:mine");
    let job = jobs
        .move_to(&mine, End::Front, End::Back, Duration::from_secs(5))
        .await
        .unwrap();
    assert_eq!(job.as_deref(), Some("pack"));
}

#[tokio::test]
async fn commands_of_ones_own() {
    let client = client().await;
    match client
        .call::<i64>(Command::new("INCR").key(client.key("visits")))
        .await
    {
        Ok(visits) => assert_eq!(visits, 1),
        Err(Error::Call {
            error: CallError::NotSent(why) | CallError::Maybe(why),
            ..
        }) => panic!("{why}"),
        Err(other) => panic!("{other}"),
    }
}
