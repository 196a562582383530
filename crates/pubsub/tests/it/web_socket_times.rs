//! Events by WebSocket in virtual time: browsers that answer, do not, or are too slow, and how their connections end.
#![cfg(feature = "ws")]

use std::time::Duration;

use axum::Router;
use axum::extract::WebSocketUpgrade;
use axum::routing::get;
use futures_util::StreamExt;
use redkit_core::Client;
use redkit_pubsub::{Channel, Overflow, ws};
use redkit_testkit::FaultyBackend;
use tokio::io::DuplexStream;
use tokio::time::{Instant, sleep};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use crate::web_sockets::until_receivers;

/// A listener with one connection, in memory, so that it can be in virtual time.
struct InMemory(Option<DuplexStream>);

impl axum::serve::Listener for InMemory {
    type Io = DuplexStream;
    type Addr = ();

    async fn accept(&mut self) -> (DuplexStream, ()) {
        match self.0.take() {
            Some(stream) => (stream, ()),
            None => std::future::pending().await,
        }
    }

    fn local_addr(&self) -> std::io::Result<()> {
        Ok(())
    }
}

/// A browser that is connected to a program, with room for so many bytes on the way.
struct Site {
    browser: WebSocketStream<DuplexStream>,
    client: Client,
    channel: Channel<u32>,
    ends: CancellationToken,
    _program: AbortOnDropHandle<()>,
}

const ROOM: usize = 64 * 1024;
const SECOND: Duration = Duration::from_secs(1);

async fn connect() -> Site {
    let client = FaultyBackend::embedded().client();
    let channel = Channel::<u32>::builder(&client, "n").queue(100_000, Overflow::DropOldest);
    let channel = channel.build().unwrap();
    let ends = CancellationToken::new();
    let (subscribed, end) = (channel.clone(), ends.clone());
    let app = Router::new().route(
        "/",
        get(async move |upgrade: WebSocketUpgrade| {
            let subscription = subscribed.subscribe(["k"]).await.unwrap();
            ws::of_channel(upgrade, subscription, end.cancelled_owned())
        }),
    );
    let (near, far) = tokio::io::duplex(ROOM);
    let program = AbortOnDropHandle::new(tokio::spawn(async move {
        axum::serve(InMemory(Some(far)), app).await.unwrap();
    }));
    let (browser, _) = tokio_tungstenite::client_async("ws://test/", near)
        .await
        .unwrap();
    until_receivers(&channel, 1).await;
    Site {
        browser,
        client,
        channel,
        ends,
        _program: program,
    }
}

/// More than there is room for on the way to the browser, which reads nothing.
async fn fill(channel: &Channel<u32>) {
    let many: Vec<u32> = (0..10_000).collect();
    channel.publish_batch("k", &many).await.unwrap();
    sleep(Duration::from_millis(10)).await;
}

/// What closes the connection.
async fn close_of(browser: &mut WebSocketStream<DuplexStream>) -> Option<CloseCode> {
    while let Some(Ok(message)) = browser.next().await {
        if let Message::Close(frame) = message {
            return frame.map(|frame| frame.code);
        }
    }
    None
}

#[tokio::test(start_paused = true)]
async fn a_browser_that_does_not_answer_is_let_go() {
    let site = connect().await;
    sleep(16 * SECOND).await;
    until_receivers(&site.channel, 1).await;
    // It has read nothing, so it has answered no ping.
    sleep(15 * SECOND).await;
    until_receivers(&site.channel, 0).await;
    drop(site.browser);
}

#[tokio::test(start_paused = true)]
async fn a_browser_that_answers_stays() {
    let Site {
        mut browser,
        channel,
        _program,
        ..
    } = connect().await;
    let _reads = AbortOnDropHandle::new(tokio::spawn(async move {
        while let Some(Ok(_)) = browser.next().await {}
    }));
    sleep(100 * SECOND).await;
    assert_eq!(channel.publish("k", &0).await.unwrap().receivers, 1);
}

#[tokio::test(start_paused = true)]
async fn a_browser_that_is_too_slow_for_one_event_is_let_go() {
    let site = connect().await;
    let began = Instant::now();
    fill(&site.channel).await;
    sleep(14 * SECOND).await;
    until_receivers(&site.channel, 1).await;
    until_receivers(&site.channel, 0).await;
    let took = began.elapsed();
    // Not with the second ping, which it has not answered either.
    assert!((15 * SECOND..20 * SECOND).contains(&took), "{took:?}");
    drop(site.browser);
}

#[tokio::test(start_paused = true)]
async fn a_connection_whose_browser_does_not_read_ends_with_the_program_s_future() {
    let site = connect().await;
    fill(&site.channel).await;
    let began = Instant::now();
    site.ends.cancel();
    until_receivers(&site.channel, 0).await;
    assert!(began.elapsed() < 5 * SECOND, "{:?}", began.elapsed());
    drop(site.browser);
}

#[tokio::test(start_paused = true)]
async fn a_connection_says_why_it_ends() {
    let mut site = connect().await;
    site.ends.cancel();
    assert_eq!(close_of(&mut site.browser).await, Some(CloseCode::Policy));
    let mut site = connect().await;
    site.client.shutdown().await;
    assert_eq!(close_of(&mut site.browser).await, Some(CloseCode::Away));
}
