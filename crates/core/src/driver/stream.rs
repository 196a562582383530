//! Byte streams to a server: TCP with the socket options that notice a dead peer, and unix sockets.

use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use socket2::{SockRef, TcpKeepalive};
use tokio::net::{TcpStream, lookup_host};
use tokio::time::timeout;

use crate::config::Address;
use crate::error::{Fault, FaultKind};

/// Connects over TCP, trying every address that the name has.
pub(super) async fn connect_tcp(address: &Address) -> Result<TcpStream, Fault> {
    let found = lookup_host((address.host.as_str(), address.port))
        .await
        .map_err(|error| {
            let message = format!(
                "host `{}` cannot be resolved: {error}; check `host`",
                address.host
            );
            Fault::new(FaultKind::Connect, message).with_source(error)
        })?;
    match first_of(found.collect(), TcpStream::connect).await {
        Ok(stream) => {
            tune(&stream).map_err(|error| {
                Fault::new(FaultKind::Connect, "cannot set socket options").with_source(error)
            })?;
            Ok(stream)
        }
        Err(error) => {
            let message = format!(
                "cannot connect to {address}: {error}; check `host` and `port`, and that the server runs"
            );
            Err(Fault::new(FaultKind::Connect, message).with_source(error))
        }
    }
}

/// Connects to the first address, and after a while also to the next, until one of them has answered. When all have
/// failed, gives the error of the address that was to be taken before the others.
async fn first_of<T, F: Future<Output = io::Result<T>>>(
    addresses: Vec<SocketAddr>,
    connect: impl Fn(SocketAddr) -> F,
) -> io::Result<T> {
    let mut waiting = addresses.into_iter().enumerate();
    let mut under_way = FuturesUnordered::new();
    let mut failure: Option<(usize, io::Error)> = None;
    loop {
        match waiting.next() {
            Some((place, address)) => {
                let attempt = connect(address);
                under_way.push(async move { (place, attempt.await) });
            }
            None if under_way.is_empty() => break,
            None => {}
        }
        let limit = match waiting.len() {
            0 => Duration::MAX,
            _ => NEXT_ADDRESS,
        };
        match timeout(limit, under_way.next()).await {
            Ok(Some((_, Ok(stream)))) => return Ok(stream),
            Ok(Some((place, Err(error)))) => {
                if failure.as_ref().is_none_or(|(first, _)| place < *first) {
                    failure = Some((place, error));
                }
            }
            // The next address is tried beside those under way.
            Ok(None) | Err(_) => {}
        }
    }
    Err(failure.map_or_else(
        || io::Error::other("the name has no address"),
        |(_, error)| error,
    ))
}

/// How long an address has before the next is tried beside it: one that swallows packets must not keep a client from
/// the others, and one that is far away answers later than this.
const NEXT_ADDRESS: Duration = Duration::from_millis(250);

/// Connects to a unix socket.
#[cfg(unix)]
pub(super) async fn connect_unix(path: &Path) -> Result<tokio::net::UnixStream, Fault> {
    tokio::net::UnixStream::connect(path)
        .await
        .map_err(|error| {
            let message = format!(
                "cannot connect to {}: {error}; check `unix_socket`",
                path.display()
            );
            Fault::new(FaultKind::Connect, message).with_source(error)
        })
}

fn tune(stream: &TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let socket = SockRef::from(stream);
    socket.set_tcp_keepalive(
        &TcpKeepalive::new()
            .with_time(KEEPALIVE)
            .with_interval(KEEPALIVE / 3),
    )?;
    // Bytes that the peer's host does not even acknowledge: the kernel ends the connection.
    #[cfg(target_os = "linux")]
    socket.set_tcp_user_timeout(Some(KEEPALIVE))?;
    #[cfg(target_os = "linux")]
    socket.set_tcp_notsent_lowat(UNSENT)?;
    Ok(())
}

/// Long enough for a congested network, short enough that a vanished host is noticed without
/// traffic.
const KEEPALIVE: Duration = Duration::from_secs(15);

/// How many bytes the kernel may keep that have not left. With megabytes of them an upload over a slow
/// link shows no progress for seconds, and looks like a server that is silent.
#[cfg(target_os = "linux")]
const UNSENT: u32 = 256 * 1024;

#[cfg(test)]
mod tests {
    use tokio::time::{Instant, sleep};

    use super::*;

    fn at(port: u16) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], port))
    }

    /// Connects after as many milliseconds as the port says; an odd port refuses then.
    async fn connect(address: SocketAddr) -> io::Result<u16> {
        sleep(Duration::from_millis(address.port().into())).await;
        match address.port() % 2 {
            0 => Ok(address.port()),
            _ => Err(io::Error::other(address.port().to_string())),
        }
    }

    #[tokio::test(start_paused = true)]
    async fn an_address_that_is_far_away_is_waited_for_while_the_others_fail() {
        let far = first_of(vec![at(400), at(1)], connect).await;
        assert_eq!(far.unwrap(), 400);
        let far = first_of(vec![at(1), at(3000)], connect).await;
        assert_eq!(far.unwrap(), 3000);
    }

    #[tokio::test(start_paused = true)]
    async fn an_address_that_swallows_packets_keeps_nobody_from_the_next() {
        let start = Instant::now();
        let near = first_of(vec![at(60_000), at(10)], connect).await;
        assert_eq!(near.unwrap(), 10);
        assert!(start.elapsed() < Duration::from_millis(300));
    }

    #[tokio::test(start_paused = true)]
    async fn the_error_is_that_of_the_address_before_the_others() {
        let failed = first_of(vec![at(401), at(1)], connect).await;
        assert_eq!(failed.unwrap_err().to_string(), "401");
        let none = first_of(Vec::new(), connect).await;
        assert!(none.unwrap_err().to_string().contains("no address"));
    }
}
