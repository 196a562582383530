//! Events by WebSocket, with a real client.
#![cfg(feature = "ws")]

use std::net::SocketAddr;
use std::time::Duration;

use axum::Router;
use axum::extract::WebSocketUpgrade;
use axum::routing::get;
use futures_util::{SinkExt, StreamExt};
use redkit_pubsub::topic::{ReadFrom, Retention, Topic};
use redkit_pubsub::{Channel, Inbox, ws};
use redkit_testkit::Fixture;
use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpStream};
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async};
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

type Browser = WebSocketStream<MaybeTlsStream<TcpStream>>;

/// A program with a channel, an inbox and a log of numbers, until it is told to end its connections.
struct Program {
    addr: SocketAddr,
    ends: CancellationToken,
    channel: Channel<u32>,
    inbox: Inbox<u32>,
    log: Topic<u32>,
    _task: AbortOnDropHandle<()>,
}

impl Program {
    async fn start(fixture: &Fixture) -> Self {
        let client = &fixture.client;
        // Of a sharded channel every server knows its receivers.
        let channel: Channel<u32> = Channel::builder(client, "n").sharded().build().unwrap();
        let inbox: Inbox<u32> = Inbox::builder(client, "n").build().unwrap();
        let retention = Retention::Log {
            keep: None,
            most: None,
        };
        let log: Topic<u32> = Topic::builder(client, "n")
            .retention(retention)
            .build()
            .unwrap();
        let ends = CancellationToken::new();
        let (c, i, l) = (channel.clone(), inbox.clone(), log.clone());
        let until = {
            let ends = ends.clone();
            move || ends.clone().cancelled_owned()
        };
        let (of_channel, of_inbox, of_log) = (until.clone(), until.clone(), until);
        let app = Router::new()
            .route(
                "/channel",
                get(async move |upgrade: WebSocketUpgrade| {
                    ws::of_channel(upgrade, c.subscribe(["k"]).await.unwrap(), of_channel())
                }),
            )
            .route(
                "/inbox",
                get(async move |upgrade: WebSocketUpgrade| {
                    ws::of_inbox(upgrade, i.subscribe("ann", None).await.unwrap(), of_inbox())
                }),
            )
            .route(
                "/log/{position}",
                get(
                    async move |position: axum::extract::Path<String>,
                                upgrade: WebSocketUpgrade| {
                        let from = ReadFrom::from(position.parse().ok());
                        ws::of_topic(upgrade, l.read(from).await.unwrap(), of_log())
                    },
                ),
            );
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let task = tokio::spawn(async move { axum::serve(listener, app).await.unwrap() });
        Self {
            addr,
            ends,
            channel,
            inbox,
            log,
            _task: AbortOnDropHandle::new(task),
        }
    }

    async fn open(&self, path: &str) -> Browser {
        let url = format!("ws://{}{path}", self.addr);
        connect_async(url).await.unwrap().0
    }
}

async fn next(browser: &mut Browser) -> Message {
    let next = tokio::time::timeout(Duration::from_secs(20), browser.next());
    next.await.expect("something comes").unwrap().unwrap()
}

async fn event(browser: &mut Browser) -> Value {
    let text = next(browser).await.into_text().unwrap();
    serde_json::from_str(&text).unwrap()
}

redkit_testkit::suite! {
    async fn messages_items_and_log_entries_are_json_texts(fixture: Fixture) {
        let program = Program::start(&fixture).await;
        let mut channel = program.open("/channel").await;
        let mut inbox = program.open("/inbox").await;
        let mut log = program.open("/log/none").await;
        // The connection stands before the subscription does.
        let id = program.inbox.push("ann", &2).await.unwrap().id;
        assert_eq!(event(&mut inbox).await, json!({"event": "message", "id": id.to_string(), "data": 2}));
        channel.send(Message::text("what a browser sends is not looked at")).await.unwrap();
        let mut publish = tokio::time::interval(Duration::from_millis(100));
        let first = loop {
            tokio::select! {
                event = event(&mut channel) => break event,
                _ = publish.tick() => drop(program.channel.publish("k", &1).await.unwrap()),
            }
        };
        assert_eq!(first, json!({"event": "message", "data": 1}));
        let mut publish = tokio::time::interval(Duration::from_millis(100));
        let first = loop {
            tokio::select! {
                event = event(&mut log) => break event,
                _ = publish.tick() => drop(program.log.publish(&3).await.unwrap()),
            }
        };
        assert_eq!((&first["event"], &first["data"]), (&json!("message"), &json!(3)));
        // Another browser goes on behind it.
        program.log.publish(&4).await.unwrap();
        let mut again = program.open(&format!("/log/{}", first["id"].as_str().unwrap())).await;
        loop {
            match &event(&mut again).await["data"] {
                data if data == 3 => {}
                data => break assert_eq!(data, 4),
            }
        }
    }

    async fn a_connection_ends_with_the_program_s_future(fixture: Fixture) {
        let program = Program::start(&fixture).await;
        let mut browsers = Vec::new();
        for path in ["/channel", "/inbox", "/log/none"] {
            browsers.push(program.open(path).await);
        }
        program.ends.cancel();
        let ended = tokio::time::Instant::now();
        for mut browser in browsers {
            match next(&mut browser).await {
                Message::Close(Some(close)) => assert_eq!(close.code, CloseCode::Policy),
                other => panic!("{other:?}"),
            }
        }
        // With the next ping it would be noticed anyhow.
        assert!(ended.elapsed() < Duration::from_secs(10), "{:?}", ended.elapsed());
    }

    async fn a_browser_that_closes_ends_its_subscription(fixture: Fixture) {
        let program = Program::start(&fixture).await;
        let mut browser = program.open("/channel").await;
        until_receivers(&program.channel, 1).await;
        browser.close(None).await.unwrap();
        until_receivers(&program.channel, 0).await;
    }
}

pub(crate) async fn until_receivers(channel: &Channel<u32>, count: u64) {
    for _ in 0..2_000 {
        if channel.publish("k", &0).await.unwrap().receivers == count {
            return;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    panic!("never {count} receivers");
}
