//! Administrative commands that have to succeed, and bounded waiting for what they bring about.

use std::time::{Duration, Instant};

use crate::blocking::blocking;
use crate::{Error, RawReply, Server};

/// How long a cluster or the sentinels may take over anything. It is a few seconds; the rest is
/// for a machine that is busy with other tests.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// Sends a command; an error reply is an error.
pub(crate) async fn ask(server: &Server, command: &[&str]) -> Result<RawReply, Error> {
    let sent = command.iter().map(|part| part.as_bytes().to_vec());
    ask_bytes(server, sent.collect()).await
}

/// [`ask`] with arguments that are not text.
pub(crate) async fn ask_bytes(server: &Server, command: Vec<Vec<u8>>) -> Result<RawReply, Error> {
    let words = command.iter().take(3);
    let words: Vec<_> = words.map(|word| String::from_utf8_lossy(word)).collect();
    let name = format!("{} to {}", words.join(" "), server.addr());
    match server.raw_bytes(command).await? {
        RawReply::Error(reply) => Err(Error::Refused {
            command: name,
            reply,
        }),
        reply => Ok(reply),
    }
}

/// [`ask`] for a reply that is text.
pub(crate) async fn ask_text(server: &Server, command: &[&str]) -> Result<String, Error> {
    Ok(ask(server, command).await?.text().unwrap_or_default())
}

/// A field of what `INFO` or `CLUSTER INFO` says.
pub(crate) fn field<'a>(info: &'a str, name: &str) -> Option<&'a str> {
    info.lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))
        .map(str::trim)
}

/// Asks `probe` again and again until it is content, and gives what it found. It says why it is
/// not content yet; an error of a command counts as that too, since servers come and go here.
///
/// It waits in real time, on a paused clock too.
pub(crate) async fn wait_until<T>(
    what: &str,
    patience: Duration,
    mut probe: impl AsyncFnMut() -> Result<Result<T, String>, Error>,
) -> Result<T, Error> {
    let started = Instant::now();
    loop {
        let cause = match probe().await {
            Ok(Ok(found)) => return Ok(found),
            Ok(Err(cause)) => cause,
            Err(error) => error.to_string(),
        };
        let waited = started.elapsed();
        if waited > patience {
            return Err(Error::Late {
                what: what.to_owned(),
                waited,
                cause,
            });
        }
        pause(Duration::from_millis(10)).await?;
    }
}

/// Waits in real time.
pub(crate) async fn pause(time: Duration) -> Result<(), Error> {
    blocking(move || {
        std::thread::sleep(time);
        Ok(())
    })
    .await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_field_is_found_by_its_whole_name() {
        let info = "# Cluster\r\ncluster_state_x:no\r\ncluster_state:ok\r\n";
        assert_eq!(field(info, "cluster_state"), Some("ok"));
        assert_eq!(field(info, "cluster"), None);
    }

    #[tokio::test(start_paused = true)]
    async fn waiting_ends_and_tells_what_was_seen_last() {
        let before = tokio::time::Instant::now();
        let mut seen = 0;
        let error = wait_until("a miracle", Duration::from_millis(50), async || {
            seen += 1;
            Ok(Err::<(), _>("nothing yet".to_owned()))
        });
        let error = error.await.unwrap_err().to_string();
        assert!(error.contains("a miracle") && error.contains("nothing yet"));
        assert!(seen > 1);
        assert_eq!(before.elapsed(), Duration::ZERO);
    }
}
