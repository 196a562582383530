//! Hostile values: bytes that look like something else stay what they are, and nobody else gets
//! another reply because of them.

use redkit_core::{Client, Command, Error, Value};
use redkit_testkit::Fixture;

fn hostile_texts() -> Vec<Vec<u8>> {
    let mut all: Vec<Vec<u8>> = [
        &b"MOVED 1 h:1"[..],
        b"ASK 1 h:1",
        b"-ERR no",
        b"+OK",
        b"$-1\r\n",
        b"*3\r\n$7\r\nmessage\r\n",
        b">3\r\n$7\r\nmessage\r\n",
        b"\r\n",
        b"\0\x01\xff",
        b"nil",
        b"123",
        b" padded ",
        b"{a}{b}",
        b"*?[a-z]\\",
        b"",
    ]
    .map(Vec::from)
    .into();
    all.push(vec![b'v'; 1 << 20]);
    all
}

fn frames() -> Vec<Vec<&'static str>> {
    vec![
        vec!["message", "a", "b"],
        vec!["pmessage", "a*", "a", "b"],
        vec!["subscribe", "x", "1"],
        vec!["unsubscribe", "x", "0"],
        vec!["invalidate", "a"],
        vec!["smessage", "a", "b"],
    ]
}

async fn others_still_get_their_own(client: &Client) -> Result<(), Error> {
    for i in 0..20_i64 {
        let echo: i64 = client.call(Command::new("ECHO").arg(i)).await?;
        assert_eq!(echo, i);
    }
    Ok(())
}

redkit_testkit::suite! {
    async fn values_round_trip(fixture: Fixture) -> Result<(), Error> {
        let client = &fixture.client;
        for text in hostile_texts() {
            let key = client.key("v");
            client.call::<()>(Command::new("SET").key(&key).arg(&text)).await?;
            let back: Vec<u8> = client.call(Command::new("GET").key(&key)).await?;
            assert!(back == text, "{:?}…", &text[..text.len().min(20)]);
            others_still_get_their_own(client).await?;
        }
        Ok(())
    }

    async fn keys_round_trip(fixture: Fixture) -> Result<(), Error> {
        let client = &fixture.client;
        for (i, text) in hostile_texts().iter().enumerate() {
            let key = client.key(text);
            client.call::<()>(Command::new("SET").key(&key).arg(i)).await?;
        }
        for (i, text) in hostile_texts().iter().enumerate() {
            let back: usize = client.call(Command::new("GET").key(client.key(text))).await?;
            assert_eq!(back, i);
        }
        Ok(())
    }

    async fn lists_that_look_like_pushed_frames(fixture: Fixture) -> Result<(), Error> {
        let client = &fixture.client;
        for frame in frames() {
            let key = client.key("frame");
            client.call::<i64>(Command::new("DEL").key(&key)).await?;
            client.call::<i64>(Command::new("RPUSH").key(&key).args(&frame)).await?;
            for _ in 0..3 {
                let (back, echo) = tokio::join!(
                    client.call::<Vec<String>>(Command::new("LRANGE").key(&key).arg(0).arg(-1)),
                    client.call::<String>(Command::new("ECHO").arg("mine")),
                );
                assert_eq!((back?, echo?), (frame.iter().map(|s| s.to_string()).collect(), "mine".to_owned()));
            }
            others_still_get_their_own(client).await?;
        }
        Ok(())
    }

    async fn a_subscriber_takes_nothing_from_callers(fixture: Fixture) -> Result<(), Error> {
        use redkit_core::{Interest, Push};
        let client = &fixture.client;
        let channel = client.key("news");
        let name = bytes::Bytes::copy_from_slice(channel.as_bytes());
        let mut news = client.subscribe(Interest::Channels(vec![name.clone()])).await?;
        let key = client.key("frame");
        client.call::<i64>(Command::new("RPUSH").key(&key).args(["message", "a", "b"])).await?;
        for i in 0..50_i64 {
            let (published, list) = tokio::join!(
                client.call::<i64>(Command::new("PUBLISH").arg(&channel).arg(i)),
                client.call::<Vec<String>>(Command::new("LRANGE").key(&key).arg(0).arg(-1)),
            );
            published?; // on a cluster it counts the subscribers of one node only
            assert_eq!(list?.join(" "), "message a b");
            let pushed = news.next().await;
            let payload = i.to_string().into();
            assert_eq!(pushed, Some(Push::Message { channel: name.clone(), pattern: None, payload }));
        }
        Ok(())
    }

    async fn error_texts_in_values_are_values(fixture: Fixture) -> Result<(), Error> {
        let client = &fixture.client;
        let key = client.key("list");
        client.call::<i64>(Command::new("RPUSH").key(&key).arg("ERR x").arg("WRONGTYPE y")).await?;
        let replies = client
            .pipeline(vec![
                Command::new("LRANGE").key(&key).arg(0).arg(-1),
                Command::new("INCR").key(&key),
                Command::new("LLEN").key(&key),
            ])
            .await?;
        let [list, wrong, length] = <[_; 3]>::try_from(replies).expect("three replies");
        assert_eq!(list.unwrap(), Value::Array(vec![Value::bulk("ERR x"), Value::bulk("WRONGTYPE y")]));
        assert_eq!(wrong.unwrap_err().server_error().expect("a server's error").code(), "WRONGTYPE");
        assert_eq!(length.unwrap(), Value::Int(2));
        Ok(())
    }
}
